/** Guests that are no operating systems: memtest86+, and GRUB as a payload of coreboot. From the distribution's packages, cached. */

import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { CACHE, unpacked } from "./packages.ts";

const quiet = (): void => undefined;

/** memtest86+ as a 64-bit image of the Linux boot protocol; `console=ttyS0,115200` on its command line gives it a serial console. */
export function memtest(say: (text: string) => void = quiet): string {
  const boot = join(unpacked("memtest86+", say), "boot");
  const image = readdirSync(boot).find((name) => /x64\.bin$/.test(name));
  if (!image) throw new Error("the package memtest86+ holds no 64-bit image");
  return join(boot, image);
}

const GRUB_CONFIG = `serial --unit=0 --speed=115200
terminal_output serial
terminal_input serial
menuentry "first entry" { echo chosen: first; sleep 1; halt }
menuentry "second entry" { echo chosen: second; sleep 1; halt }
`;

/** GRUB as an ELF payload with its configuration inside; it wants a coreboot table (test/guests/coreboot.asm). */
export function grubPayload(say: (text: string) => void = quiet): string {
  const modules = join(unpacked("grub-coreboot-bin", say), "usr/lib/grub/i386-coreboot");
  const folder = join(CACHE, "grub-payload");
  mkdirSync(folder, { recursive: true });
  const config = join(folder, "grub.cfg");
  writeFileSync(config, GRUB_CONFIG);
  const made = join(folder, `grub.${process.pid}.elf`);
  const parts = "serial terminal normal echo sleep halt";
  const options = [`--install-modules=${parts}`, "--modules=serial terminal", "--locales=", "--fonts=", "--themes="];
  execFileSync(
    "grub-mkstandalone",
    ["-O", "i386-coreboot", "-d", modules, ...options, "-o", made, `boot/grub/grub.cfg=${config}`],
    { stdio: ["ignore", "ignore", "pipe"] },
  );
  const elf = join(folder, "grub.elf");
  renameSync(made, elf);
  return elf;
}
