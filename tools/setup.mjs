// Makes a fresh Debian or Ubuntu machine ready: npm packages, and the assembler, emulators and boot loader
// tools from the distribution. Needs Node and nothing else; does nothing where everything is there.
//
//   node tools/setup.mjs [--check]      --check: only say what is missing

import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const NODE_MAJOR = 20;

/** Debian package, a file that it brings, and what it is for. */
export const SYSTEM_PACKAGES = [
  ["nasm", "/usr/bin/nasm", "the assembler"],
  ["binutils", "/usr/bin/ld", "the linker"],
  ["bochs", "/usr/bin/bochs-bin", "an emulator with VMX"],
  ["bochsbios", "/usr/share/bochs/BIOS-bochs-latest", "its firmware"],
  ["vgabios", "/usr/share/vgabios/vgabios-stdvga.bin", "its video firmware"],
  ["qemu-system-x86", "/usr/bin/qemu-system-x86_64", "an emulator, and the way to KVM"],
  ["ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd", "UEFI firmware"],
  ["grub-common", "/usr/bin/grub-mkrescue", "boot media"],
  ["grub-pc-bin", "/usr/lib/grub/i386-pc/kernel.img", "boot media for BIOS"],
  ["grub-efi-amd64-bin", "/usr/lib/grub/x86_64-efi/kernel.img", "boot media for UEFI"],
  ["mtools", "/usr/bin/mtools", "boot media for UEFI"],
  ["xorriso", "/usr/bin/xorriso", "boot media"],
  ["gcc", "/usr/bin/gcc", "the C compiler of hosted programs, tests and benchmarks"],
  ["libc6-dev", "/usr/include/stdio.h", "headers for it"],
  ["wabt", "/usr/bin/wast2json", "tests of the compiler"],
  ["gdb", "/usr/bin/gdb", "the debugger"],
  ["busybox-static", "/bin/busybox", "test guests"],
  ["cpio", "/usr/bin/cpio", "test guests"],
  ["lz4", "/usr/bin/lz4", "the kernels of Linux guests"],
  ["xz-utils", "/usr/bin/xz", "the kernels of Linux guests"],
  ["zstd", "/usr/bin/zstd", "the kernels of Linux guests"],
];

function say(text) {
  console.log(`set-up: ${text}`);
}

function run(program, args, options = {}) {
  return spawnSync(program, args, { stdio: "inherit", cwd: ROOT, ...options }).status === 0;
}

function has(program) {
  return spawnSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" }).status === 0;
}

function readJson(path) {
  try {
    return JSON.parse(readFileSync(join(ROOT, path), "utf8"));
  } catch {
    return null;
  }
}

/** What of package-lock.json is not in node_modules at that version. Packages for other systems do not count. */
export function missingNpmPackages(lock, installed) {
  const there = installed?.packages ?? {};
  return Object.entries(lock.packages)
    .filter(([path, entry]) => path !== "" && !entry.optional && there[path]?.version !== entry.version)
    .map(([path]) => path.replace(/^.*node_modules\//, ""));
}

/** Rows of SYSTEM_PACKAGES whose file is not there. */
export function missingSystemPackages(exists = existsSync) {
  return SYSTEM_PACKAGES.filter(([, file]) => !exists(file));
}

function installNpmPackages() {
  const lock = readJson("package-lock.json");
  if (!lock) throw new Error("package-lock.json is missing or damaged");
  const missing = missingNpmPackages(lock, readJson("node_modules/.package-lock.json"));
  if (missing.length === 0) return;
  say(`installing ${missing.length} npm packages (npm ci)`);
  const flags = ["--no-audit", "--no-fund", "--loglevel=error"];
  if (run("npm", ["ci", ...flags])) return;
  // A mirror may lack packages for other systems, which the lockfile names and this machine does not need.
  say("npm ci failed; trying npm install with the versions of the lockfile");
  if (!run("npm", ["install", "--no-save", ...flags])) throw new Error("npm install failed");
}

function listFor(rows) {
  return rows.map(([name, file, use]) => `  ${name.padEnd(20)} ${use} (${file})`).join("\n");
}

function installSystemPackages(missing) {
  const names = missing.map(([name]) => name);
  if (!has("apt-get"))
    throw new Error(
      `this system has no apt-get; install what provides the following, then try again:\n${listFor(missing)}`,
    );
  const root = process.getuid?.() === 0;
  if (!root && !has("sudo")) throw new Error(`not root, and no sudo; as root run: apt-get install ${names.join(" ")}`);
  say(`installing with apt-get${root ? "" : " (through sudo)"}:\n${listFor(missing)}`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  const asRoot = (args) => {
    const words = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y", ...args];
    return root ? run(words[0], words.slice(1), { env }) : run("sudo", words, { env });
  };
  // A failing source of packages that are not needed here must not stop the rest.
  if (!asRoot(["update"])) say("apt-get update reported errors; trying with the lists that are there");
  if (!asRoot(["install", "--no-install-recommends", ...names])) throw new Error("apt-get install failed");
  const still = missingSystemPackages();
  if (still.length) throw new Error(`still missing after the installation:\n${listFor(still)}`);
}

function main(args) {
  const major = Number(process.versions.node.split(".")[0]);
  if (major < NODE_MAJOR) throw new Error(`Node ${NODE_MAJOR} or later is needed; this is ${process.versions.node}`);
  const missing = missingSystemPackages();
  if (args.includes("--check")) {
    say(missing.length ? `missing:\n${listFor(missing)}` : "everything is there");
    return;
  }
  installNpmPackages();
  if (missing.length) installSystemPackages(missing);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    main(process.argv.slice(2));
  } catch (error) {
    console.error(`set-up: ${error.message}`);
    process.exitCode = 1;
  }
}
