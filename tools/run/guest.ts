/**
 * `--guest FILE[,WORD=VALUE]...`: one virtual machine, as the boot modules that describe it to the host
 * (docs/guests.md). The kernel checks the values; here only what a person gets wrong first.
 */

import { existsSync, statSync } from "node:fs";
import { basename } from "node:path";
import type { BootModule } from "./options.ts";

/** Words that go to the host as they are. */
const WORDS = new Set(["memory", "cpus", "protocol", "weight", "cap", "pin", "without", "test", "restart"]);
const NAME_BYTES = 32;

export interface GuestOption {
  file: string;
  name: string;
  words: string[];
  cmdline: string | null;
  initrd: string | null;
  modules: string[];
}

/** Splits an option. `cmdline=` takes the rest, commas and all. Throws with one line for the user. */
export function parseGuest(text: string): GuestOption {
  const at = /(?:^|,)cmdline=/.exec(text);
  const cmdline = at ? text.slice(at.index + at[0].length) : null;
  const [file, ...rest] = (at ? text.slice(0, at.index) : text).split(",");
  if (!file) throw new Error(`--guest ${text}: a file must come first`);
  const guest: GuestOption = { file, name: "", words: [], cmdline, initrd: null, modules: [] };
  for (const word of rest) addWord(guest, word);
  guest.name ||= basename(file)
    .replace(/[^\w.-]/g, "_")
    .slice(0, NAME_BYTES);
  for (const needed of [file, guest.initrd, ...guest.modules]) if (needed !== null) mustExist(needed);
  return guest;
}

function addWord(guest: GuestOption, word: string): void {
  const equals = word.indexOf("=");
  const name = equals < 0 ? word : word.slice(0, equals);
  const value = equals < 0 ? "" : word.slice(equals + 1);
  if (!value || /\s/.test(value)) throw new Error(`--guest ${guest.file}: '${word}' is not WORD=VALUE`);
  if (name === "name") guest.name = value;
  else if (name === "initrd") guest.initrd = value;
  else if (name === "module") guest.modules.push(value);
  else if (WORDS.has(name)) guest.words.push(word);
  else throw new Error(`--guest ${guest.file}: unknown word '${name}'`);
}

function mustExist(file: string): void {
  if (!existsSync(file) || !statSync(file).isFile()) throw new Error(`--guest: there is no file ${file}`);
}

/** The boot modules of all guests. Names that occur twice get a number. */
export function guestModules(guests: GuestOption[]): BootModule[] {
  const seen = new Map<string, number>();
  return guests.flatMap((guest) => {
    const count = (seen.get(guest.name) ?? 0) + 1;
    seen.set(guest.name, count);
    const name = count > 1 ? `${guest.name}-${count}` : guest.name;
    const cmdline = guest.cmdline === null ? [] : [`cmdline=${guest.cmdline}`];
    const modules = [{ file: guest.file, string: [`guest=${name}`, ...guest.words, ...cmdline].join(" ") }];
    if (guest.initrd) modules.push({ file: guest.initrd, string: `initrd=${name}` });
    for (const file of guest.modules) modules.push({ file, string: `module=${name}` });
    return modules;
  });
}
