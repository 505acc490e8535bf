/**
 * QEMU: the command line for a run, and what its exit code means. The serial line is its stdin and stdout.
 */

import type { BootOptions, Ending } from "./options.ts";

/** The image writes here to end the run: QEMU's exit code is (value << 1) | 1. kernel option `exit=qemu`. */
export const EXIT_PORT = 0xf4;

export interface QemuFiles {
  /** The CD to boot from; null: the ELF itself by -kernel. */
  iso: string | null;
  /** UEFI firmware: code, and a private copy of its variables. */
  firmware: { code: string; variables: string } | null;
}

/** Arguments of qemu-system-x86_64. Nothing here depends on the host but the files. */
export function planQemu(options: BootOptions, files: QemuFiles): string[] {
  const kvm = options.on === "kvm";
  const chipset = options.chipset ?? (options.uefi || kvm ? "q35" : "pc");
  const model = options.model ?? (kvm ? "host,+vmx" : "max");
  const args = [
    ...["-machine", `${chipset},accel=${kvm ? "kvm" : "tcg"}`],
    ...["-cpu", model],
    ...["-smp", String(options.cpus ?? 1)],
    ...["-m", `${options.memoryMib ?? 512}M`],
    ...["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-vga", "std"],
    ...["-chardev", "stdio,id=com1,signal=off", "-serial", "chardev:com1"],
    ...["-device", `isa-debug-exit,iobase=0x${EXIT_PORT.toString(16)},iosize=4`],
  ];
  if (files.firmware) {
    args.push("-drive", `if=pflash,unit=0,format=raw,readonly=on,file=${files.firmware.code}`);
    args.push("-drive", `if=pflash,unit=1,format=raw,file=${files.firmware.variables}`);
  }
  if (files.iso) args.push("-cdrom", files.iso);
  else args.push(...kernelArguments(options));
  if (options.gdbPort) args.push("-S", "-gdb", `tcp:127.0.0.1:${options.gdbPort}`);
  return [...args, ...(options.qemuArguments ?? [])];
}

function kernelArguments(options: BootOptions): string[] {
  const args = ["-kernel", options.elf];
  if (options.append) args.push("-append", options.append);
  // A comma separates modules, so it is doubled inside of one.
  const text = (s: string): string => s.replaceAll(",", ",,");
  const modules = (options.modules ?? []).map((m) => text(m.string ? `${m.file} ${m.string}` : m.file));
  if (modules.length) args.push("-initrd", modules.join(","));
  return args;
}

export function judgeQemu(code: number | null, stderr: string): { exit: Ending; detail: string } {
  if (code !== null && (code === 0 || code % 2 === 1) && !/^qemu-system/m.test(stderr))
    return { exit: "ended", detail: "" };
  return { exit: "crashed", detail: stderr.trim().split("\n")[0] || `qemu ended with code ${code}` };
}
