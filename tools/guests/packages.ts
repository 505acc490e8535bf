/** Packages of the distribution, downloaded by apt and unpacked into the cache; nothing is installed. */

import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

export const CACHE = resolve(fileURLToPath(import.meta.url), "../../../.cache/guests");

/** Kernel packages by preference, most suitable first: Debian has the first and the last, Ubuntu the others. */
export const KERNELS: Record<string, string[]> = {
  cloud: [
    "linux-image-cloud-amd64",
    "linux-image-virtual",
    "linux-image-kvm",
    "linux-image-generic",
    "linux-image-amd64",
  ],
  generic: ["linux-image-amd64", "linux-image-generic"],
};

function run(command: string, args: string[], cwd?: string): string {
  return execFileSync(command, args, { cwd, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** The version that apt would install, or null if it knows no such package. */
function candidate(name: string): string | null {
  const version = run("apt-cache", ["policy", name]).match(/^\s*Candidate: (.+)$/m)?.[1];
  return version && version !== "(none)" ? version : null;
}

/** The package that a kernel metapackage stands for. */
function realKernel(metapackage: string): string {
  const found = run("apt-cache", ["depends", metapackage]).match(/Depends: (linux-image-(?:unsigned-)?\d\S*)/);
  return found ? found[1] : metapackage;
}

/**
 * The folder with the unpacked package `name`; downloads it if it is not there. Throws with what apt said.
 */
export function unpacked(name: string, say: (text: string) => void = () => undefined): string {
  const target = join(CACHE, "packages", name);
  if (existsSync(target)) return target;
  const work = mkdtempSync(join(ensure(CACHE), "download-"));
  try {
    say(`downloading ${name}`);
    run("apt-get", ["download", name, "-o", "APT::Sandbox::User=root"], work);
    const deb = readdirSync(work).find((f) => f.endsWith(".deb"));
    if (!deb) throw new Error(`apt-get download ${name} left no package`);
    say(`unpacking ${deb}`);
    run("dpkg-deb", ["-x", join(work, deb), join(work, "tree")]);
    ensure(join(CACHE, "packages"));
    renameSync(join(work, "tree"), target);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return target;
}

function ensure(path: string): string {
  mkdirSync(path, { recursive: true });
  return path;
}

/** The folder of the first kernel in `names` that apt offers, or that the cache already has. */
export function kernelPackage(names: string[], say?: (text: string) => void): { name: string; folder: string } {
  for (const metapackage of names) {
    const name = candidate(metapackage) && realKernel(metapackage);
    if (name) return { name, folder: unpacked(name, say) };
  }
  throw new Error(`apt offers none of ${names.join(", ")}: run 'apt-get update'`);
}
