import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { judgeKvm, KVM_PROBE, type KvmEvidence, qemuHasVmx } from "../../../../tools/run/probe.ts";

/** What machines of each kind were seen to answer. */
const RECORDED: [machine: string, evidence: KvmEvidence, usable: boolean][] = [
  ["a server with nested KVM", { device: true, vmx: true, nested: "Y" }, true],
  ["the same with an old kernel", { device: true, vmx: true, nested: "1" }, true],
  ["nesting turned off", { device: true, vmx: true, nested: "N" }, false],
  ["a VM that has /dev/kvm and no VMX (paravirtual KVM)", { device: true, vmx: false, nested: null }, false],
  ["an AMD machine", { device: true, vmx: false, nested: null }, false],
  ["a container without /dev/kvm", { device: false, vmx: true, nested: "Y" }, false],
  ["a CPU with VMX under another hypervisor's module", { device: true, vmx: true, nested: null }, false],
];

describe("KVM", () => {
  for (const [machine, evidence, usable] of RECORDED)
    test(`counts as a machine with VMX: ${usable}, on ${machine}`, () => {
      expect(judgeKvm(evidence).usable).toBe(usable);
      expect(judgeKvm(evidence).reason).not.toBe("");
    });
});

describe("the last word of QEMU", () => {
  const folder = mkdtempSync(join(tmpdir(), "basalt-probe-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  /** A program that answers as QEMU was seen to. */
  const pretend = (name: string, script: string): string => {
    const path = join(folder, name);
    writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    return path;
  };

  test("is asked with a processor that must have VMX", () => {
    expect(KVM_PROBE.join(" ")).toContain("-accel kvm -cpu host,+vmx,enforce");
  });

  test("is yes when QEMU starts and quits quietly", async () => {
    expect(await qemuHasVmx(pretend("yes", "read a; read b; exit 0"))).toBe(true);
  });

  test("is no when QEMU says that the host does not support VMX", async () => {
    const text = "qemu: warning: host doesn't support requested feature: CPUID.01H:ECX.vmx [bit 5]";
    expect(await qemuHasVmx(pretend("no", `echo "${text}" >&2; exit 1`))).toBe(false);
    expect(await qemuHasVmx(pretend("warned", `echo "${text}" >&2; exit 0`))).toBe(false);
  });

  test("is no when QEMU aborts, hangs or is not there", async () => {
    expect(await qemuHasVmx(pretend("abort", "kill -ABRT $$"))).toBe(false);
    expect(await qemuHasVmx(pretend("hang", "exec sleep 60"), 0.3)).toBe(false);
    expect(await qemuHasVmx(join(folder, "missing"))).toBe(false);
  });
});
