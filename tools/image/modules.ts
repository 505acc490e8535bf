/** What the image takes of boot modules' strings (drivers/bootinfo.ts), checked where a medium is made: a loader would not tell. */

import { statSync } from "node:fs";
import type { BootModule } from "../run/options.ts";

/** Bytes of one string without its NUL, and of all with theirs and 8 bytes of slack each; the host's own take the rest of 64 KiB. */
const MOST_STRING = 4095;
const MOST_TOGETHER = 56 * 1024;
const MOST_MODULES = 64;

/** Throws with one line for the user. `append`: the host's command line. */
export function checkModules(modules: BootModule[], append = ""): void {
  const appended = Buffer.byteLength(append);
  if (appended > MOST_STRING) throw new Error(`the host's command line has ${appended} bytes: ${MOST_STRING} at most`);
  if (modules.length > MOST_MODULES) throw new Error(`${modules.length} boot modules: ${MOST_MODULES} at most`);
  let together = 0;
  for (const { file, string = "" } of modules) {
    const bytes = Buffer.byteLength(string);
    if (bytes > MOST_STRING) {
      const start = `${string.slice(0, 40)}...`;
      throw new Error(`the string of ${file} ('${start}') has ${bytes} bytes: ${MOST_STRING} at most`);
    }
    together += bytes + 9;
  }
  if (together > MOST_TOGETHER)
    throw new Error(`the strings of the boot modules have ${together} bytes together: ${MOST_TOGETHER} at most`);
}

/** Throws with one line if the file of a module is not there. */
export function checkFiles(modules: BootModule[]): void {
  for (const { file } of modules) {
    if (!statSync(file, { throwIfNoEntry: false })?.isFile()) throw new Error(`boot module: there is no file ${file}`);
  }
}
