/** A Linux guest from the distribution's packages: kernel as bzImage and as ELF, and an initramfs. Cached. */

import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { initramfs } from "./initramfs.ts";
import { CACHE, KERNELS, kernelPackage, unpacked } from "./packages.ts";
import { extractVmlinux } from "./vmlinux.ts";

export interface LinuxGuest {
  /** The package that the kernel came from. */
  kernel: string;
  bzImage: string;
  /** The ELF file inside it, which starts by PVH without unpacking itself. */
  vmlinux: string;
  initrd: string;
}

/** Writes `data` to `path` unless the same is there. */
function put(path: string, data: () => Uint8Array): string {
  if (existsSync(path)) return path;
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, data());
  renameSync(temporary, path);
  return path;
}

/**
 * Fetches, unpacks and builds what is missing. `flavour`: `cloud` (small, the default) or `generic`. `say` hears of each
 * long step. Throws with one line if apt cannot provide a package.
 */
export function linuxGuest(flavour = "cloud", say: (text: string) => void = () => undefined): LinuxGuest {
  const names = KERNELS[flavour];
  if (!names) throw new Error(`no kernel flavour ${flavour}: ${Object.keys(KERNELS).join(", ")}`);
  const { name, folder } = kernelPackage(names, say);
  const boot = join(folder, "boot");
  const image = readdirSync(boot).find((f) => f.startsWith("vmlinuz-"));
  if (!image) throw new Error(`${name} holds no kernel`);
  const bzImage = join(boot, image);
  const out = join(CACHE, name);
  mkdirSync(out, { recursive: true });
  const vmlinux = put(join(out, "vmlinux"), () => {
    say("unpacking the kernel's ELF file");
    return extractVmlinux(readFileSync(bzImage));
  });
  const busybox = join(unpacked("busybox-static", say), "bin/busybox");
  const initrd = join(CACHE, "initrd.cpio");
  const archive = initramfs(readFileSync(busybox));
  if (!existsSync(initrd) || !readFileSync(initrd).equals(archive)) writeFileSync(initrd, archive);
  return { kernel: name, bzImage, vmlinux, initrd };
}
