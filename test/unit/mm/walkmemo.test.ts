// A remembered walk answers exactly as a new one would: it is forgotten with any entry or register that it used.

import { beforeAll, expect, test } from "vitest";
import { struct } from "../../fake/layout.ts";
import { type Machine, machine } from "../../fake/machine.ts";

const PAGING = 0x30000;
const MEMO = 0x30400;
const RAM = 0x31000;
const GUEST = 0x1000000;
const FETCH_PROBE = 0x210;
const GVA = 0x40_1234n;
const TABLES = [0x1000, 0x2000, 0x3000, 0x4000];

let m: Machine;
// biome-ignore lint/suspicious/noExplicitAny: exports of the Wasm, and fields by name
let kernel: any, p: any;

beforeAll(async () => {
  m = await machine({ entries: ["kernel/mm/walkmemo.ts", "kernel/mm/gva.ts"], guestBase: GUEST });
  kernel = m.kernel;
  // biome-ignore lint/suspicious/noExplicitAny: fields by name
  const ram = struct(m, "kernel/mm/guestmem.ts", "GuestRam", RAM) as any;
  ram.mainBytes = 0x100000n;
  ram.memoryBytes = 0x100000n;
  p = struct(m, "kernel/mm/gva.ts", "GuestPaging", PAGING);
});

/** Four levels to a 4 KiB page at 9000H, walked and kept. */
function prepare(): void {
  const indices = [0, 0, 2, 1];
  TABLES.forEach((table, i) => {
    m.ram.write64(GUEST + table + (indices[i] as number) * 8, BigInt(TABLES[i + 1] ?? 0x9000) | 7n);
  });
  p.cr0 = 0x8001_0001n;
  p.cr3 = 0x1000n;
  p.cr4 = 0x20n;
  p.efer = 0xd00n;
  p.physBits = 40;
  expect(kernel.walk(RAM, PAGING, GVA, FETCH_PROBE)).toBeTruthy();
  expect(p.gpa).toBe(0x9234n);
  kernel.keep(MEMO, PAGING, GVA, FETCH_PROBE);
  p.gpa = 0n;
}

const recall = (gva = GVA, access = FETCH_PROBE): boolean => Boolean(kernel.recall(MEMO, PAGING, gva, access));

test("the same page under the same registers and entries is translated without a walk", () => {
  prepare();
  expect(recall(0x40_1ff0n)).toBe(true);
  expect(p.gpa).toBe(0x9ff0n);
  expect(recall(0x40_2000n)).toBe(false);
  expect(recall(GVA, FETCH_PROBE | 4)).toBe(false);
});

test("a change of any entry of the walk is seen, without an exit that would tell", () => {
  TABLES.forEach((table, i) => {
    prepare();
    const at = GUEST + table + ([0, 0, 2, 1][i] as number) * 8;
    m.ram.write64(at, m.ram.read64(at) ^ (1n << 63n));
    expect(recall(), `level ${4 - i}`).toBe(false);
  });
});

test("a change of CR0, CR3, CR4 or EFER is seen", () => {
  for (const register of ["cr0", "cr3", "cr4", "efer"]) {
    prepare();
    p[register] ^= 1n << 16n;
    expect(recall(), register).toBe(false);
  }
});

test("walks of other paging modes are not kept", () => {
  prepare();
  p.efer = 0n;
  kernel.keep(MEMO, PAGING, GVA, FETCH_PROBE);
  expect(recall()).toBe(false);
});
