// What an image is made from, as one hash: a build whose inputs have not changed does nothing. Plain
// JavaScript, because the launcher asks before it loads anything else.

import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const INPUTS = [
  "asconfig.json",
  "package-lock.json",
  "boot",
  "drivers",
  "kernel",
  "tools/compiler",
  "tools/image",
  "tools/check/binary.ts",
];
const EXTENSIONS = /\.(ts|mjs|asm|inc|ld|json)$/;

/** Every file below `path`, in an order that does not depend on the file system. */
function* filesBelow(root, path) {
  const full = join(root, path);
  if (!existsSync(full)) return;
  if (EXTENSIONS.test(path)) {
    yield path;
    return;
  }
  for (const entry of readdirSync(full, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    if (entry.isDirectory() || EXTENSIONS.test(entry.name)) yield* filesBelow(root, `${path}/${entry.name}`);
  }
}

/** Hash of the names and contents of everything that an image is made from. */
export function inputHash(root) {
  const hash = createHash("sha256");
  for (const input of INPUTS)
    for (const file of filesBelow(root, input)) {
      const bytes = readFileSync(join(root, file));
      hash.update(`${file}\0${bytes.length}\0`).update(bytes);
    }
  return hash.digest("hex");
}

/** The record of the last build of `profile`: { inputs, buildId }; null if there is none or its image is gone. */
export function lastBuild(root, profile) {
  const folder = join(root, "build", profile);
  try {
    if (!existsSync(join(folder, "basalt.elf"))) return null;
    return JSON.parse(readFileSync(join(folder, "stamp.json"), "utf8"));
  } catch {
    return null;
  }
}

/** The record of the last build if nothing has changed since, else null. */
export function upToDate(root, profile) {
  const last = lastBuild(root, profile);
  return last && last.inputs === inputHash(root) ? last : null;
}
