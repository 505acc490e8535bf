// Boot information: what a loader writes comes out whole; what is broken leaves a line and no trap.

import fc from "fast-check";
import { beforeEach, describe, expect, test } from "vitest";
import { struct } from "../../fake/layout.ts";
import { logLines } from "../../fake/log.ts";
import { type Machine, machine } from "../../fake/machine.ts";
import { type Boot, INFO, MAGIC1, MAGIC2, multiboot1, multiboot2, PC, type Range } from "./multiboot.ts";

const FILE = "drivers/bootinfo.ts";
let m: Machine;

beforeEach(async () => {
  m = await machine({ entries: ["test/unit/drivers/boot.as.ts"] });
});

function read(magic: number, image: Buffer, at = INFO): number {
  m.ram.load(at, image);
  return m.kernel.readBootInfo(magic, BigInt(at));
}

const info = () => struct(m, FILE, "BootInfo", m.kernel.bootInfo());
const text = (ptr: number, bytes: number) => Buffer.from(m.memory.buffer, ptr, bytes).toString("latin1");

function regions() {
  return Array.from({ length: info().regionCount }, (_, i) => {
    const r = struct(m, FILE, "Region", m.kernel.regionAt(i));
    return { base: r.base as bigint, end: r.end as bigint, kind: r.kind as number };
  });
}

function modules() {
  return Array.from({ length: info().moduleCount }, (_, i) => {
    const r = struct(m, FILE, "BootModule", m.kernel.moduleAt(i));
    return { base: Number(r.base), bytes: Number(r.bytes), text: text(r.text, r.textBytes) };
  });
}

const WHOLE: Boot = {
  ranges: PC,
  commandLine: "console=com1 loglevel=debug",
  loader: "GRUB 2.06",
  modules: [
    { start: 0x20_0000, end: 0x20_1234, text: "guest.elf name=a" },
    { start: 0x30_0000, end: 0x30_0000, text: "" },
  ],
};

describe.each([
  ["multiboot 1", MAGIC1, multiboot1],
  ["multiboot 2", MAGIC2, multiboot2],
] as const)("%s", (_name, magic, build) => {
  test("memory map, modules with strings, command line and loader come out as they went in", () => {
    expect(read(magic, build(WHOLE))).toBe(0);
    expect(regions()).toEqual([
      { base: 0n, end: 0x9f000n, kind: 1 },
      { base: 0x9f000n, end: 0xa0000n, kind: 2 },
      { base: 0xf0000n, end: 0x100000n, kind: 2 },
      { base: 0x100000n, end: 0x1ffe0000n, kind: 1 },
      { base: 0x1ffe0000n, end: 0x20000000n, kind: 2 },
      { base: 0xfffc0000n, end: 0x100000000n, kind: 2 },
    ]);
    expect(modules()).toEqual([
      { base: 0x20_0000, bytes: 0x1234, text: "guest.elf name=a" },
      { base: 0x30_0000, bytes: 0, text: "" },
    ]);
    expect(text(info().commandLine, info().commandLineBytes)).toBe("console=com1 loglevel=debug");
    expect(text(info().loaderName, info().loaderNameBytes)).toBe("GRUB 2.06");
    expect(m.kernel.usableBytes()).toBe(0x9f000n + 0x1fee0000n);
    expect(logLines(m)).toEqual([]);
  });

  test("a string of 4095 bytes is taken whole; a longer one is ignored in one line", () => {
    const module = (bytes: number) => ({ start: 0x20_0000, end: 0x20_1000, text: "x".repeat(bytes) });
    expect(read(magic, build({ ranges: PC, modules: [module(4095), module(4096)] }))).toBe(0);
    expect(modules().map((m) => m.text.length)).toEqual([4095, 0]);
    expect(logLines(m)).toEqual([
      "boot: the string of a boot module is longer than 4095 bytes: ignored, and the guest with it (0x200000 .. 0x201000)",
    ]);
  });

  test("strings of more than 64 KiB together: the last are ignored in one line each", () => {
    const module = { start: 0x20_0000, end: 0x20_1000, text: "x".repeat(4000) };
    expect(read(magic, build({ ranges: PC, modules: Array.from({ length: 17 }, () => module) }))).toBe(0);
    const lengths = modules().map((m) => m.text.length);
    expect(lengths.slice(0, 16)).toEqual(Array.from({ length: 16 }, () => 4000));
    expect(lengths[16]).toBe(0);
    expect(logLines(m)).toEqual([
      "boot: the strings of the boot loader have more than 64 KiB together: one is ignored",
    ]);
  });

  test("no usable memory is refused in one line", () => {
    expect(read(magic, build({ ranges: [{ base: 0n, bytes: 0x1000n, type: 2 }] }))).toBe(5);
    expect(logLines(m)).toEqual(["boot: the boot loader's memory map holds no usable memory"]);
  });

  test("information that lies nowhere is refused", () => {
    for (const at of [0n, 0xffff_fff8n, 0x1_0000_0000n, 0xffff_ffff_ffff_fff0n]) {
      expect(m.kernel.readBootInfo(magic, at)).toBe(5);
    }
    expect(logLines(m)[0]).toMatch(/lies nowhere/);
  });

  test("overlapping ranges: the more restrictive kind holds, and there is a line about it", () => {
    const ranges: Range[] = [
      { base: 0x10_0000n, bytes: 0x100_0000n, type: 1 },
      { base: 0x40_0000n, bytes: 0x1000n, type: 2 },
      { base: 0x50_0800n, bytes: 0x100n, type: 5 },
      { base: 0x80_0000n, bytes: 0x10_0000n, type: 1 },
    ];
    expect(read(magic, build({ ranges }))).toBe(0);
    expect(regions()).toEqual([
      { base: 0x10_0000n, end: 0x40_0000n, kind: 1 },
      { base: 0x40_0000n, end: 0x40_1000n, kind: 2 },
      { base: 0x40_1000n, end: 0x50_0000n, kind: 1 },
      { base: 0x50_0000n, end: 0x50_1000n, kind: 5 },
      { base: 0x50_1000n, end: 0x110_0000n, kind: 1 },
    ]);
    expect(logLines(m)).toEqual(["boot: memory map has overlapping ranges: the more restrictive kind holds"]);
  });

  test("any map becomes sorted and disjoint, and usable pages are those that are usable and nothing else", () => {
    const range = fc.record({
      base: fc.bigInt(0n, 0x40_000n),
      bytes: fc.bigInt(0n, 0x10_000n),
      type: fc.integer({ min: 0, max: 8 }),
    });
    fc.assert(
      fc.property(fc.array(range, { maxLength: 24 }), (ranges) => {
        read(magic, build({ ranges }));
        const got = regions();
        for (let i = 0; i < got.length; i++) {
          expect(got[i].base).toBeLessThan(got[i].end);
          if (i > 0) expect(got[i - 1].end).toBeLessThanOrEqual(got[i].base);
        }
        for (let page = 0n; page < 0x51n; page++) {
          const [from, to] = [page << 12n, (page + 1n) << 12n];
          const other = ranges.some((r) => r.type !== 1 && r.bytes > 0n && r.base < to && r.base + r.bytes > from);
          const usable = ranges.some((r) => r.type === 1 && r.base <= from && r.base + r.bytes >= to);
          const kind = got.find((r) => r.base <= from && r.end >= to)?.kind;
          if (kind === 1) expect(usable && !other).toBe(true);
          // Pages that only several ranges together cover may be left out, never the other way round.
          if (usable && !other) expect(kind).toBe(1);
        }
      }),
      { numRuns: 100 },
    );
  });

  test("a range that wraps around 2^64 is cut", () => {
    read(magic, build({ ranges: [...PC, { base: 0xffff_ffff_ffff_0000n, bytes: 0x2_0000n, type: 2 }] }));
    expect(regions().at(-1)).toEqual({ base: 0xffff_ffff_ffff_0000n, end: 0xffff_ffff_ffff_f000n, kind: 2 });
    expect(logLines(m)[0]).toMatch(/wraps around/);
  });

  test("modules that end before they begin are left out, the others stay", () => {
    const bad = { start: 0x50_0000, end: 0x40_0000, text: "bad" };
    read(magic, build({ ...WHOLE, modules: [bad, ...(WHOLE.modules ?? [])] }));
    expect(modules().map((x) => x.text)).toEqual(["guest.elf name=a", ""]);
    expect(logLines(m)[0]).toMatch(/module that ends before/);
  });

  test("more modules and ranges than there is room for end in a warning", () => {
    const many = Array.from({ length: 80 }, (_, i) => ({ start: 0x20_0000 + i, end: 0x20_0000 + i, text: `m${i}` }));
    const ranges = Array.from({ length: 300 }, (_, i) => ({ base: BigInt(i) * 0x4000n, bytes: 0x1000n, type: 1 }));
    read(magic, build({ modules: many, ranges }));
    expect(info().moduleCount).toBe(64);
    expect(logLines(m).join("\n")).toMatch(/more than 64 boot modules/);
    expect(logLines(m).join("\n")).toMatch(/256 ranges or more/);
  });

  test("cut anywhere or with bytes changed anywhere, it is read without a trap and in bounded time", () => {
    const good = build({ ...WHOLE, efi: [{ type: 7, base: 0x10_0000n, pages: 100n }] });
    const damage = fc.record({
      cut: fc.integer({ min: 0, max: good.length }),
      changes: fc.array(fc.tuple(fc.nat(good.length - 1), fc.constantFrom(0, 1, 7, 0x7f, 0x80, 0xff)), {
        maxLength: 6,
      }),
    });
    fc.assert(
      fc.property(damage, ({ cut, changes }) => {
        const image = Buffer.from(good);
        for (const [at, value] of changes) image[at] = value;
        m.ram.fill(INFO, 0xff, good.length);
        const before = m.clock.ticks;
        read(magic, image.subarray(0, cut));
        expect(m.clock.ticks - before).toBeLessThan(2_000_000);
        expect(info().regionCount).toBeLessThanOrEqual(256);
        expect(info().moduleCount).toBeLessThanOrEqual(64);
      }),
      { numRuns: 150 },
    );
  });
});

test("multiboot 1 without a map falls back to the two sizes", () => {
  const head = Buffer.alloc(116);
  head.writeUInt32LE(1, 0);
  head.writeUInt32LE(639, 4);
  head.writeUInt32LE(0xfc00, 8);
  expect(read(MAGIC1, head)).toBe(0);
  expect(regions()).toEqual([
    { base: 0n, end: 0x9f000n, kind: 1 },
    { base: 0x10_0000n, end: 0x400_0000n, kind: 1 },
  ]);
});

test("multiboot 2 prefers the EFI map, merges its neighbours and keeps what firmware still needs", () => {
  const efi = [
    { type: 7, base: 0n, pages: 0x80n },
    { type: 4, base: 0x8_0000n, pages: 0x10n }, // boot services data: free once they have ended
    { type: 2, base: 0x9_0000n, pages: 0x10n },
    { type: 6, base: 0xa_0000n, pages: 0x10n }, // runtime services data
    { type: 9, base: 0xb_0000n, pages: 1n },
    { type: 10, base: 0xb_1000n, pages: 1n },
    { type: 11, base: 0xfec0_0000n, pages: 1n },
    { type: 77, base: 0xb_2000n, pages: 1n },
  ];
  expect(read(MAGIC2, multiboot2({ ranges: PC, efi }))).toBe(0);
  expect(regions()).toEqual([
    { base: 0n, end: 0xa_0000n, kind: 1 },
    { base: 0xa_0000n, end: 0xb_0000n, kind: 2 },
    { base: 0xb_0000n, end: 0xb_1000n, kind: 3 },
    { base: 0xb_1000n, end: 0xb_2000n, kind: 4 },
    { base: 0xb_2000n, end: 0xb_3000n, kind: 2 },
    { base: 0xfec0_0000n, end: 0xfec0_1000n, kind: 2 },
  ]);
  expect(info().efiSystemTable).toBe(0x1234_5000n);
});

test("the newer RSDP wins, whichever comes first", () => {
  const [older, newer] = [Buffer.alloc(20, 0x11), Buffer.alloc(36, 0x22)];
  const both = (first: Buffer, second: Buffer) => {
    const a = multiboot2({ rsdp: first }, false);
    const b = multiboot2({ rsdp: second, ranges: PC });
    const image = Buffer.concat([a, b.subarray(8)]);
    image.writeUInt32LE(image.length, 0);
    return image;
  };
  for (const image of [both(older, newer), both(newer, older)]) {
    read(MAGIC2, image);
    expect(info().rsdpBytes).toBe(36);
    expect(m.view.getUint8(info().rsdp)).toBe(0x22);
  }
});

test("a framebuffer comes out with its colours", () => {
  read(
    MAGIC2,
    multiboot2({ ranges: PC, framebuffer: { address: 0xfd00_0000n, pitch: 4096, width: 1024, height: 768, bits: 32 } }),
  );
  const i = info();
  expect([
    i.framebufferKind,
    i.framebuffer,
    i.framebufferPitch,
    i.framebufferWidth,
    i.framebufferHeight,
    i.framebufferBits,
  ]).toEqual([1, 0xfd00_0000n, 4096, 1024, 768, 32]);
  expect([i.redShift, i.greenShift, i.blueShift]).toEqual([16, 8, 0]);
});

test("a missing end tag is noted, what came before it counts", () => {
  expect(read(MAGIC2, multiboot2(WHOLE, false))).toBe(0);
  expect(logLines(m)).toEqual(["boot: the multiboot 2 information has no end tag"]);
  expect(info().moduleCount).toBe(2);
});

test("an unknown loader is refused with its number", () => {
  expect(m.kernel.readBootInfo(0x1234, BigInt(INFO))).toBe(8);
  expect(logLines(m)).toEqual(["boot: not started by a multiboot loader: EAX is 0x1234"]);
});

test("the report names loader, ranges and modules", () => {
  read(MAGIC1, multiboot1(WHOLE));
  m.kernel.report();
  const lines = logLines(m);
  expect(lines[0]).toBe("boot: multiboot 1, loader GRUB 2.06");
  expect(lines).toContain("memory: 000000100000 .. 00001ffe0000 usable, 523136 KiB");
  expect(lines).toContain("module: 0 at 0x200000, 4660 bytes: guest.elf name=a");
});
