// The processor models of Bochs 2.7, as data that was dumped inside the emulator: every CPUID leaf, and
// the MSRs that exist. Registers are in hexadecimal, in the order EAX EBX ECX EDX.

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "../compile.ts";
import type { Profile, Registers } from "./profile.ts";

const FOLDER = join(ROOT, "test/fake/profiles/bochs");

/** It counts the SSE component from its own offset (160) on, as it does the others. */
const COMPACTED_FROM = 160 + 256;

interface File {
  name: string;
  tscKhz: number;
  cpuid: Record<string, string>;
  msrs: Record<string, string>;
}

export function bochsModels(): string[] {
  return readdirSync(FOLDER)
    .map((file) => file.replace(/\.json$/, ""))
    .sort();
}

/** The model of that name in Bochs' configuration. */
export function bochs(model: string): Profile {
  const file = JSON.parse(readFileSync(join(FOLDER, `${model}.json`), "utf8")) as File;
  const cpuid: Record<string, Registers> = {};
  for (const [leaf, text] of Object.entries(file.cpuid)) {
    cpuid[leaf] = text.split(" ").map((register) => Number.parseInt(register, 16)) as Registers;
  }
  const msrs = Object.fromEntries(Object.entries(file.msrs).map(([msr, value]) => [msr, BigInt(`0x${value}`)]));
  return { name: file.name, tscKhz: file.tscKhz, cpuid, msrs, compactedFrom: COMPACTED_FROM };
}
