/**
 * Boot media made with GRUB. `makeCd` is what the runner boots: BIOS only, small, made in a tenth of a second.
 * `makeHybrid` is what people get: BIOS and UEFI, from CD or USB stick.
 */

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { cp, link, mkdir, mkdtemp, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { ROOT } from "../paths.ts";
import type { BootModule } from "../run/options.ts";
import { checkFiles, checkModules } from "./modules.ts";

const run = promisify(execFile);

export interface MediaContents {
  elf: string;
  append?: string;
  modules?: BootModule[];
  protocol?: "multiboot" | "multiboot2";
  /** Seconds that GRUB's menu waits. */
  menuSeconds?: number;
}

/** A word for grub.cfg, where quotes, $ and \ mean something. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

export function grubConfig(contents: MediaContents, moduleNames: string[]): string {
  const protocol = contents.protocol ?? "multiboot2";
  const module = protocol === "multiboot2" ? "module2" : "module";
  const words = (text?: string): string => (text ? ` ${text.split(/\s+/).map(quoted).join(" ")}` : "");
  return [
    `set timeout=${contents.menuSeconds ?? 0}`,
    "set default=0",
    // Under UEFI there is no text screen: the image gets a framebuffer in the mode that the firmware chose.
    'if [ "$grub_platform" = efi ]; then',
    "  insmod all_video",
    "  set gfxpayload=keep",
    "else",
    "  set gfxpayload=text",
    "fi",
    "menuentry Basalt {",
    `  ${protocol} /boot/basalt.elf${words(contents.append)}`,
    ...moduleNames.map((name, i) => `  ${module} /boot/modules/${name}${words(contents.modules?.[i]?.string)}`),
    "}",
    "",
  ].join("\n");
}

/** Lays out the tree of a medium in `folder`. */
async function layOut(contents: MediaContents, folder: string): Promise<void> {
  checkModules(contents.modules ?? [], contents.append);
  checkFiles(contents.modules ?? []);
  await mkdir(join(folder, "boot/grub"), { recursive: true });
  await mkdir(join(folder, "boot/modules"), { recursive: true });
  // Loaders need no debug information.
  await run("strip", ["-o", join(folder, "boot/basalt.elf"), contents.elf]);
  const names: string[] = [];
  for (const [i, module] of (contents.modules ?? []).entries()) {
    const name = `${i}-${basename(module.file).replace(/[^\w.-]/g, "_")}`;
    names.push(name);
    const target = join(folder, "boot/modules", name);
    await link(module.file, target).catch(() => cp(module.file, target));
  }
  await writeFile(join(folder, "boot/grub/grub.cfg"), grubConfig(contents, names));
}

const CD_MODULES = ["biosdisk", "iso9660", "multiboot", "multiboot2", "normal", "configfile", "test", "echo"];

/** GRUB's core for CDs, made once for each version of GRUB. */
async function grubCore(): Promise<string> {
  const { mtimeMs, size } = await stat("/usr/lib/grub/i386-pc/kernel.img").catch(() => {
    throw new Error("GRUB for BIOS (package grub-pc-bin) is not installed; run: node tools/setup.mjs");
  });
  const key = createHash("sha256").update(`${mtimeMs} ${size} ${CD_MODULES}`).digest("hex").slice(0, 16);
  const path = join(ROOT, ".cache", `grub-cd-${key}.img`);
  if (!(await stat(path).catch(() => null))) {
    await mkdir(join(ROOT, ".cache"), { recursive: true });
    const fresh = `${path}.${process.pid}`;
    await run("grub-mkimage", ["-O", "i386-pc-eltorito", "-p", "/boot/grub", "-o", fresh, ...CD_MODULES]);
    await rename(fresh, path);
  }
  return path;
}

async function inScratch<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), "basalt-iso-"));
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** A CD for a BIOS. */
export async function makeCd(contents: MediaContents, output: string): Promise<void> {
  const core = await grubCore();
  await inScratch(async (folder) => {
    await layOut(contents, folder);
    await cp(core, join(folder, "boot/grub/core.img"));
    const boot = "-b boot/grub/core.img -no-emul-boot -boot-load-size 4 -boot-info-table".split(" ");
    await run("xorriso", ["-as", "mkisofs", "-quiet", "-R", ...boot, "-o", output, folder]);
  });
}

/** A hybrid: CD or USB stick, BIOS or UEFI. */
export async function makeHybrid(contents: MediaContents, output: string): Promise<void> {
  await inScratch(async (folder) => {
    await layOut(contents, folder);
    await run("grub-mkrescue", ["-o", output, folder]);
  });
}
