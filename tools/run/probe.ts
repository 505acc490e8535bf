/**
 * Which machine this host offers. KVM counts only if it gives guests VMX: a /dev/kvm alone says nothing, and so
 * the last word has QEMU itself, started with a CPU that must have VMX.
 */

import { execFile, spawn } from "node:child_process";
import { accessSync, constants, existsSync, readFileSync } from "node:fs";
import { promisify } from "node:util";
import type { Machine } from "./options.ts";

export interface KvmEvidence {
  /** /dev/kvm can be opened for reading and writing. */
  device: boolean;
  /** /proc/cpuinfo lists vmx. */
  vmx: boolean;
  /** /sys/module/kvm_intel/parameters/nested; null if there is none. */
  nested: string | null;
}

export interface Verdict {
  usable: boolean;
  /** One line for the user. */
  reason: string;
}

/** What the evidence alone tells. A yes still has to be confirmed by `qemuHasVmx`. */
export function judgeKvm(evidence: KvmEvidence): Verdict {
  const no = (reason: string): Verdict => ({ usable: false, reason });
  if (!evidence.device) return no("no access to /dev/kvm");
  if (!evidence.vmx)
    return no("/dev/kvm is there, but this processor does not offer VMX (no vmx flag in /proc/cpuinfo)");
  if (evidence.nested === null) return no("/dev/kvm is there, but not by the kvm_intel module");
  if (!/^[Y1]/i.test(evidence.nested)) return no("KVM does not nest: load kvm_intel with nested=1");
  return { usable: true, reason: "KVM with nested VMX" };
}

export function gatherKvm(): KvmEvidence {
  return {
    device: canOpen("/dev/kvm"),
    vmx: /^flags\s*:.*\bvmx\b/m.test(read("/proc/cpuinfo") ?? ""),
    nested: read("/sys/module/kvm_intel/parameters/nested")?.trim() ?? null,
  };
}

function canOpen(path: string): boolean {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

function read(path: string): string | null {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return null;
  }
}

export const KVM_PROBE = "-accel kvm -cpu host,+vmx,enforce -nodefaults -display none -S -qmp stdio".split(" ");

/** Starts QEMU with a CPU that must have VMX, and ends it at once. */
export function qemuHasVmx(qemu = "qemu-system-x86_64", seconds = 20): Promise<boolean> {
  return new Promise((resolve) => {
    const child = spawn(qemu, KVM_PROBE, { stdio: ["pipe", "ignore", "pipe"] });
    let complaint = "";
    const timer = setTimeout(() => child.kill("SIGKILL"), seconds * 1000);
    child.stderr.on("data", (text) => {
      complaint += text;
    });
    child.on("error", () => resolve(false));
    child.on("close", (code) => {
      clearTimeout(timer);
      resolve(code === 0 && !/doesn't support|not supported|failed/.test(complaint));
    });
    child.stdin.on("error", () => {});
    child.stdin.end('{"execute":"qmp_capabilities"}\n{"execute":"quit"}\n');
  });
}

/** KVM's verdict for this host. */
export async function probeKvm(): Promise<Verdict> {
  const verdict = judgeKvm(gatherKvm());
  if (!verdict.usable || (await qemuHasVmx())) return verdict;
  return { usable: false, reason: "QEMU with KVM refuses a processor with VMX" };
}

export async function isInstalled(program: string): Promise<boolean> {
  return existsSync(`/usr/bin/${program}`) || promisify(execFile)("which", [program]).then(Boolean, () => false);
}

export interface Choice {
  machine: Machine;
  /** Why not the better ones; empty if the best was there. */
  notes: string[];
}

/** The machine that was asked for, else the first of: KVM with nested VMX, Bochs, QEMU. Throws with one line if there is none. */
export async function chooseMachine(wanted?: Machine): Promise<Choice> {
  if (wanted && wanted !== "kvm") return { machine: wanted, notes: [] };
  const kvm = await probeKvm();
  if (kvm.usable) return { machine: "kvm", notes: [] };
  if (wanted) throw new Error(`--on kvm: ${kvm.reason}`);
  if (await isInstalled("bochs-bin")) return { machine: "bochs", notes: [kvm.reason] };
  if (await isInstalled("qemu-system-x86_64"))
    return { machine: "qemu", notes: [kvm.reason, "Bochs is not installed; QEMU alone emulates no VMX"] };
  throw new Error("neither Bochs nor QEMU is installed; run: node tools/setup.mjs");
}
