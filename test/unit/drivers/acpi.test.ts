// ACPI: what firmware says comes out as the platform; what is broken leaves a line, what can be used
// is used, and without ACPI there is one CPU.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { struct } from "../../fake/layout.ts";
import { logLines } from "../../fake/log.ts";
import { type Machine, machine } from "../../fake/machine.ts";
import {
  DSDT_AT,
  dsdt,
  fadt,
  fix,
  hpet,
  layOut,
  type MadtEntry,
  madt,
  mcfg,
  type Placed,
  rsdp,
  S5,
  table,
} from "./acpitables.ts";
import { INFO, MAGIC2, multiboot2, PC } from "./multiboot.ts";

const FILE = "drivers/platform.ts";
const BASE = 0x1ffe_0000; // in the reserved range of PC

interface Firmware {
  rsdp?: Buffer | null;
  placed?: Placed[];
  commandLine?: string;
  /** Puts the RSDP into memory instead of the loader's tag. */
  rsdpAt?: number;
}

async function boot(firmware: Firmware): Promise<Machine> {
  const m = await machine({ entries: ["test/unit/drivers/acpi.as.ts"], paging: "boot", memory: 512 * 1024 * 1024 });
  // The BIOS area, which holds no RSDP unless the test puts one there.
  m.ram.addRam(0xa_0000, 0x6_0000);
  m.ram.fill(0, 0, 0x1000);
  m.ram.fill(0x9_f000, 0, 0x1000);
  m.ram.fill(0xe_0000, 0, 0x2_0000);
  for (const { at, bytes } of firmware.placed ?? []) m.ram.load(at, bytes);
  const inTag = firmware.rsdp && firmware.rsdpAt === undefined ? firmware.rsdp : undefined;
  if (firmware.rsdp && firmware.rsdpAt !== undefined) m.ram.load(firmware.rsdpAt, firmware.rsdp);
  m.ram.load(INFO, multiboot2({ ranges: PC, rsdp: inTag, commandLine: firmware.commandLine }));
  expect(m.kernel.start(MAGIC2, BigInt(INFO))).toBe(0);
  return m;
}

const platform = (m: Machine) => struct(m, FILE, "Platform", m.kernel.platformAt());
const cpuIds = (m: Machine) =>
  Array.from(
    { length: platform(m).cpuCount },
    (_, i) => struct(m, FILE, "PlatformCpu", m.kernel.cpuAt(i)).apicId as number,
  );

const ENTRIES: MadtEntry[] = [
  { kind: "cpu", uid: 0, id: 0, flags: 1 },
  { kind: "cpu", uid: 1, id: 2, flags: 1 },
  { kind: "cpu", uid: 2, id: 4, flags: 0 },
  { kind: "x2", uid: 300, id: 300, flags: 1 },
  { kind: "ioapic", id: 8, address: 0xfec0_0000, gsi: 0 },
  { kind: "ioapic", id: 9, address: 0xfec0_1000, gsi: 24 },
  { kind: "override", source: 0, gsi: 2, flags: 0 },
  { kind: "override", source: 9, gsi: 9, flags: 0xf },
  { kind: "nmi", uid: 0xff, flags: 5, lint: 1 },
];

const FADT = {
  dsdt: DSDT_AT,
  pmTimer: 0x608,
  flags: 1 << 10,
  reset: { space: 1, address: 0xcf9n, value: 6 },
  pm1a: 0x604,
};

function pc(entries = ENTRIES, options: { revision?: number } = {}) {
  const tables = [
    madt(entries),
    fadt(FADT),
    mcfg([{ base: 0xe000_0000n, segment: 0, from: 0, to: 255 }]),
    hpet(0xfed0_0000n),
  ];
  return layOut(BASE, tables, { ...options, dsdt: dsdt(S5) });
}

describe.each([
  ["XSDT", 2],
  ["RSDT", 0],
] as const)("through the %s", (_name, revision) => {
  test("a PC's tables become the platform", async () => {
    const m = await boot(pc(ENTRIES, { revision }));
    m.kernel.readPlatform(0);
    const p = platform(m);
    expect(cpuIds(m)).toEqual([0, 2, 300]);
    expect([p.hasAcpi, p.disabledCpus, p.duplicateCpus, p.hasPic]).toEqual([1, 1, 0, 1]);
    expect([p.ioapicCount, p.overrideCount, p.nmiCount, p.ecamCount]).toEqual([2, 2, 1, 1]);
    expect(struct(m, FILE, "PlatformIoapic", m.kernel.ioapicAt(1))).toMatchObject({
      base: 0xfec0_1000n,
      gsiBase: 24,
      id: 9,
    });
    expect(struct(m, FILE, "Override", m.kernel.overrideAt(0))).toMatchObject({ source: 0, gsi: 2, flags: 0 });
    expect(struct(m, FILE, "LapicNmi", m.kernel.nmiAt(0))).toMatchObject({ uid: 0xffff_ffff, lint: 1 });
    expect([p.pmTimerSpace, p.pmTimerAddress, p.pmTimerBits]).toEqual([1, 0x608n, 24]);
    expect([p.resetSpace, p.resetAddress, p.resetValue]).toEqual([1, 0xcf9n, 6]);
    expect([p.hpetBase, p.pm1aControl, p.lapicBase]).toEqual([0xfed0_0000n, 0x604, 0xfee0_0000n]);
    expect(struct(m, FILE, "Ecam", m.kernel.ecamAt(0))).toMatchObject({ base: 0xe000_0000n, busStart: 0, busEnd: 255 });
    expect(m.kernel.sleepTypes()).toBe(0x605);
    expect(logLines(m)).toEqual(["acpi: tables APIC FACP MCFG HPET DSDT"]);
    m.kernel.report();
    expect(logLines(m)[1]).toBe("platform: ACPI, CPUs 3 (and disabled: 1), I/O APICs 2, 8259, HPET, PM timer, ECAM");
  });
});

test.each([
  ["the BIOS area", 0xf_5a10],
  ["the start of the BIOS area", 0xe_0000],
])("the RSDP is found in %s", async (_where, at) => {
  const m = await boot({ ...pc(), rsdpAt: at });
  m.kernel.readPlatform(0);
  expect(platform(m).cpuCount).toBe(3);
});

test("the RSDP is found in the extended BIOS data area", async () => {
  const m = await boot({ ...pc(), rsdpAt: 0x9_fc40 });
  m.ram.load(0x40e, Buffer.from([0xc0, 0x9f]));
  m.kernel.readPlatform(0);
  expect(platform(m).cpuCount).toBe(3);
});

test("without ACPI there is the boot CPU alone, and a line says so", async () => {
  const m = await boot({});
  m.kernel.readPlatform(7);
  expect(cpuIds(m)).toEqual([7]);
  expect(platform(m)).toMatchObject({ hasAcpi: 0, ioapicCount: 0, hasPic: 1, hpetBase: 0n, dsdt: 0n });
  expect(m.kernel.sleepTypes()).toBe(0xffff_ffff);
  expect(logLines(m)).toEqual(["acpi: no ACPI tables: going on with one CPU and the legacy devices"]);
});

test("acpi=off ignores tables that are there", async () => {
  const m = await boot({ ...pc(), commandLine: "acpi=off" });
  m.kernel.readPlatform(0);
  expect(cpuIds(m)).toEqual([0]);
  expect(logLines(m)).toEqual(["acpi: ignored, as the command line says"]);
});

test("the boot CPU comes first wherever the MADT lists it, and duplicates count once", async () => {
  const entries: MadtEntry[] = [6, 4, 2, 4, 2, 0xff].map((id, uid) => ({ kind: "cpu", uid, id, flags: 1 }));
  const m = await boot(pc([...entries, { kind: "x2", uid: 9, id: 6, flags: 1 }]));
  m.kernel.readPlatform(2);
  expect(cpuIds(m)).toEqual([2, 6, 4, 255]);
  expect(platform(m).duplicateCpus).toBe(3);
});

test("more CPUs than there is room for: 256 are kept", async () => {
  const entries: MadtEntry[] = Array.from({ length: 400 }, (_, i) => ({ kind: "x2", uid: i, id: i, flags: 1 }));
  const m = await boot(pc(entries));
  m.kernel.readPlatform(0);
  expect(platform(m)).toMatchObject({ cpuCount: 256, disabledCpus: 144 });
});

test("a table with a wrong checksum is ignored with its address, the others count", async () => {
  const firmware = pc();
  firmware.placed[0].bytes[50] ^= 1;
  const m = await boot(firmware);
  m.kernel.readPlatform(0);
  expect(cpuIds(m)).toEqual([0]);
  expect(platform(m).hpetBase).toBe(0xfed0_0000n);
  expect(logLines(m)).toEqual([
    `acpi: the table at 0x${firmware.placed[0].at.toString(16)} has a wrong checksum: ignored`,
    "acpi: no MADT: going on with one CPU",
    "acpi: tables FACP MCFG HPET DSDT",
  ]);
});

test("a broken XSDT leaves the RSDT", async () => {
  const narrow = pc(ENTRIES, { revision: 0 });
  const both = rsdp(2, BASE, BigInt(BASE + 0x8000));
  const m = await boot({ placed: narrow.placed, rsdp: both });
  m.kernel.readPlatform(0);
  expect(platform(m).cpuCount).toBe(3);
  expect(logLines(m)[0]).toMatch(/has the wrong signature/);
});

test("tables that lie in usable memory or nowhere are ignored", async () => {
  const m = await boot({ rsdp: rsdp(2, 0, 0x200_0000n) });
  m.kernel.readPlatform(0);
  expect(logLines(m)).toEqual([
    "acpi: the table at 0x2000000 lies where no firmware can be: ignored",
    "acpi: neither XSDT nor RSDT is valid",
    "acpi: no ACPI tables: going on with one CPU and the legacy devices",
  ]);
});

test.each([
  ["zero length", [0, 0, 0, 0]],
  ["length of one", [0, 1, 0, 0]],
  ["runs over the end", [0, 200, 0, 0]],
])("a MADT entry with %s ends the list, and what came before counts", async (_what, bytes) => {
  const m = await boot(pc([ENTRIES[0], ENTRIES[1], { kind: "raw", bytes }, { kind: "cpu", uid: 7, id: 7, flags: 1 }]));
  m.kernel.readPlatform(0);
  expect(cpuIds(m)).toEqual([0, 2]);
  expect(logLines(m)[0]).toMatch(/impossible length/);
});

test("a short FADT of ACPI 1.0 gives the PM timer and no reset register", async () => {
  const m = await boot(layOut(BASE, [madt(ENTRIES), fadt({ ...FADT, bytes: 116 })], { dsdt: dsdt(S5) }));
  m.kernel.readPlatform(0);
  expect(platform(m)).toMatchObject({ pmTimerAddress: 0x608n, resetSpace: 255, pm1aControl: 0x604 });
});

test("an extended PM timer in memory wins over the port", async () => {
  const m = await boot(layOut(BASE, [fadt({ ...FADT, flags: 1 << 8, xPmTimer: { space: 0, address: 0xfed8_0000n } })]));
  m.kernel.readPlatform(0);
  expect(platform(m)).toMatchObject({ pmTimerSpace: 0, pmTimerAddress: 0xfed8_0000n, pmTimerBits: 32 });
});

test.each([
  ["bytes", S5, 0x605],
  ["with the root character", [0x08, 0x5c, ...S5.slice(1)], 0x605],
  ["zero and one", [0x08, 0x5f, 0x53, 0x35, 0x5f, 0x12, 0x04, 0x02, 0x00, 0x01, 0xff, 0xff, 0xff], 0x100],
  [
    "a name that only looks like it",
    [0x5b, 0x5f, 0x53, 0x35, 0x5f, 0x12, 0x04, 0x02, 0x00, 0x01, 0, 0, 0, 0],
    0xffff_ffff,
  ],
  ["cut off", [0x08, 0x5f, 0x53, 0x35, 0x5f, 0x12, 0x06], 0xffff_ffff],
  ["one element", [0x08, 0x5f, 0x53, 0x35, 0x5f, 0x12, 0x04, 0x01, 0x00, 0x01, 0, 0, 0, 0], 0xffff_ffff],
])("_S5_ with %s", async (_what, aml, expected) => {
  const m = await boot(layOut(BASE, [fadt(FADT)], { dsdt: dsdt([0x10, 0x20, ...aml]) }));
  m.kernel.readPlatform(0);
  expect(m.kernel.sleepTypes()).toBe(expected);
});

test("DMAR's remapping units are counted, and a structure of length zero ends the list", async () => {
  const unit = (type: number, length: number) => {
    const b = Buffer.alloc(Math.max(length, 4));
    b.writeUInt16LE(type, 0);
    b.writeUInt16LE(length, 2);
    return b;
  };
  const body = Buffer.concat([Buffer.alloc(12), unit(0, 16), unit(1, 24), unit(0, 16), unit(0, 0), unit(0, 16)]);
  const m = await boot(layOut(BASE, [table("DMAR", body), fadt(FADT)]));
  m.kernel.readPlatform(0);
  expect(platform(m).remappers).toBe(2);
  expect(logLines(m).join("\n")).toMatch(/DMAR has a structure of impossible length/);
});

test("any damage to any table is read without a trap, in bounded time, and leaves a platform that can be used", async () => {
  const firmware = pc();
  const m = await boot(firmware);
  const damage = fc.record({
    which: fc.nat(firmware.placed.length - 1),
    changes: fc.array(fc.tuple(fc.nat(250), fc.integer({ min: 0, max: 255 })), { minLength: 1, maxLength: 8 }),
    repair: fc.boolean(),
  });
  fc.assert(
    fc.property(fc.array(damage, { minLength: 1, maxLength: 3 }), (damages) => {
      const images = firmware.placed.map((p) => Buffer.from(p.bytes));
      for (const { which, changes, repair } of damages) {
        for (const [at, value] of changes) images[which][at % images[which].length] = value;
        if (repair) fix(images[which]);
      }
      firmware.placed.forEach((p, i) => m.ram.load(p.at, images[i]));
      const before = m.clock.ticks;
      m.kernel.readPlatform(0);
      m.kernel.sleepTypes();
      expect(m.clock.ticks - before).toBeLessThan(1_000_000);
      const p = platform(m);
      expect(p.cpuCount).toBeGreaterThanOrEqual(1);
      expect(new Set(cpuIds(m)).size).toBe(p.cpuCount);
      expect(p.ioapicCount).toBeLessThanOrEqual(32);
    }),
    { numRuns: 200 },
  );
});
