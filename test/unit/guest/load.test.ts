// Guests are loaded as their protocols say, and files that are not what they claim are refused with one line.

import { expect, test } from "vitest";
import { layout, type Struct, struct } from "../../fake/layout.ts";
import { ARENA, type Fixture, vmFixture } from "../vdev/fixture.ts";
import { bzImage, elf, multibootHeader, pattern } from "./images.ts";

const MIB = 1024 * 1024;
const GUEST = 64 * MIB;
const FILE = 32 * MIB;
const MODULES = 48 * MIB;
const TEXT = 0x80_0000 + 0x10_0000; // in the arena, above what the devices take
const PROTECTED = 1;
const LONG = 2;

interface Loaded {
  f: Fixture;
  status: number;
  entry: Struct;
  lines: string[];
  /** Guest-physical memory. */
  read(gpa: number, bytes: number): Buffer;
  u32(gpa: number): number;
  u64(gpa: number): number;
  text(gpa: number): string;
}

interface LoadOptions {
  memory?: number;
  cmdline?: string;
  modules?: { data: Buffer; text?: string }[];
  protocol?: number;
  vcpus?: number;
  f?: Fixture;
}

async function load(file: Buffer, o: LoadOptions = {}): Promise<Loaded> {
  const memory = o.memory ?? 64 * MIB;
  const f = o.f ?? (await vmFixture({ entry: "test/unit/guest/guest.as.ts", memory, vcpus: o.vcpus, ram: 512 * MIB }));
  const { m, k } = f;
  f.lines();
  f.vm.memoryBytes = memory;
  f.vm.mainBytes = memory;
  m.ram.load(FILE, file);
  const config = struct(m, "kernel/guest/config.ts", "GuestConfig", k.configAt(0));
  k.clearConfig(k.configAt(0));
  Object.assign(config, { pa: FILE, bytes: file.length, memoryBytes: memory, protocol: o.protocol ?? 0 });
  Object.assign(config, { name: f.vm.name, nameBytes: 4 });
  const bytes = new Uint8Array(m.memory.buffer);
  const commandLine = Buffer.from(o.cmdline ?? "");
  bytes.set(commandLine, TEXT);
  config.commandLine = TEXT;
  config.commandLineBytes = commandLine.length;
  let at = MODULES;
  o.modules?.forEach((module, i) => {
    m.ram.load(at, module.data);
    const row = struct(m, "kernel/guest/config.ts", "GuestModule", k.guestModuleAt(k.configAt(0), i));
    const text = Buffer.from(module.text ?? "");
    const where = TEXT + 4096 * (i + 1);
    bytes.set(text, where);
    Object.assign(row, { pa: at, bytes: module.data.length, text: where, textBytes: text.length });
    at += Math.ceil(module.data.length / 4096) * 4096;
  });
  config.moduleCount = o.modules?.length ?? 0;
  const status = k.loadGuest(ARENA, k.configAt(0));
  const read = (gpa: number, n: number) => Buffer.from(m.ram.dump(GUEST + gpa, n));
  const plan = f.vcpu[0].scratch as number;
  return {
    f,
    status,
    entry: struct(m, "kernel/guest/plan.ts", "Entry", plan + entryOffset()),
    lines: f.lines(),
    read,
    u32: (gpa) => read(gpa, 4).readUInt32LE(),
    u64: (gpa) => Number(read(gpa, 8).readBigUInt64LE()),
    text: (gpa) => {
      const bytes = read(gpa, 4096);
      return bytes.toString("latin1", 0, bytes.indexOf(0));
    },
  };
}

/** Entry follows Plan and Image in the scratch page. */
function entryOffset(): number {
  const plan = Object.values(layout("kernel/guest/plan.ts", "Plan"));
  return Math.ceil(Math.max(...plan.map((field) => field.offset + field.bytes)) / 8) * 8 + 16;
}

const REFUSED = 8; // Status.BAD_FORMAT

function expectRefusal(l: Loaded, reason: RegExp): void {
  expect(l.status).toBe(REFUSED);
  expect(l.lines.length).toBe(1);
  expect(l.lines[0]).toMatch(/^guest: test is refused: /);
  expect(l.lines[0]).toMatch(reason);
}

// ---- Multiboot

const code = pattern(5000);

/** The multiboot information as a kernel sees it. */
function information(l: Loaded) {
  const info = Number(l.entry.rbx);
  const flags = l.u32(info);
  const map: [number, number, number][] = [];
  const mapEnd = l.u32(info + 48) + l.u32(info + 44);
  for (let at = l.u32(info + 48); at < mapEnd; at += l.u32(at) + 4) {
    map.push([l.u64(at + 4), l.u64(at + 12), l.u32(at + 20)]);
  }
  const modules = [...Array(flags & 8 ? l.u32(info + 20) : 0).keys()].map((i) => {
    const row = l.u32(info + 24) + 16 * i;
    return { start: l.u32(row), end: l.u32(row + 4), text: l.text(l.u32(row + 8)) };
  });
  return {
    info,
    flags,
    lower: l.u32(info + 4),
    upper: l.u32(info + 8),
    commandLine: l.text(l.u32(info + 16)),
    map,
    modules,
  };
}

test.each([32, 64] as const)("multiboot: an ELF%i kernel with header flags 0", async (bits) => {
  const data = Buffer.concat([multibootHeader(0), code]);
  const l = await load(elf(bits, 0x400020, [{ pa: 0x400000, data, memory: 0x8000 }]), { cmdline: "a=1 b" });
  expect(l.status).toBe(0);
  expect(l.read(0x400000, data.length)).toEqual(data);
  expect(l.read(0x400000 + data.length, 0x8000 - data.length).every((b) => b === 0)).toBe(true);
  expect([l.entry.mode, l.entry.rip, l.entry.rax]).toEqual([PROTECTED, 0x400020n, 0x2badb002n]);
  const i = information(l);
  expect(i.flags & 0x45).toBe(0x45);
  expect([i.lower, i.upper, i.commandLine]).toEqual([639, 63 * 1024, "a=1 b"]);
  expect(i.info).toBeLessThan(0xa0000);
  expect(i.map).toContainEqual([MIB, 63 * MIB, 1]);
  expect(i.map).toContainEqual([0, 0x9fc00, 1]);
  expect(l.f.vm.bootProtocol).toBe(3);
});

test("multiboot and boot sectors find what firmware leaves behind: vectors, the 8259s, a tick", async () => {
  const l = await load(Buffer.concat([multibootHeader(0, [0x100000, 0x100000, 0, 0, 0x100020]), code]));
  expect(l.status).toBe(0);
  const handler = (vector: number) => l.read((l.u32(vector * 4) >>> 16) * 16 + (l.u32(vector * 4) & 0xffff), 32);
  const ends = (vector: number) => [...handler(vector)].indexOf(0xcf);
  for (const vector of [0, 6, 0x10, 0x1c, 0x6f, 0x78, 0xff]) expect(ends(vector)).toBe(0); // IRET
  expect(handler(8).includes(Buffer.from([0x66, 0xff, 0x06, 0x6c, 0x00]))).toBe(true);
  for (const vector of [8, 9, 0xf]) expect(handler(vector).includes(Buffer.from([0xb0, 0x20, 0xe6, 0x20]))).toBe(true);
  for (const vector of [0x70, 0x77]) expect(handler(vector).includes(Buffer.from([0xe6, 0xa0, 0xe6, 0x20]))).toBe(true);
  expect([l.u32(0x400) & 0xffff, l.u32(0x413) & 0xffff]).toEqual([0x3f8, 639]);
  const { k, at, lapic } = l.f;
  expect([k.portRead(at[0], 0x21, 1), k.portRead(at[0], 0xa1, 1)]).toEqual([0xfa, 0xff]);
  expect([k.acceptsExtInt(lapic[0]), k.picOutput(ARENA)]).toEqual([1, 0]);
  l.f.pass(60e6); // a period is 54.9 ms
  expect([k.picOutput(ARENA), k.acknowledgePic(ARENA)]).toEqual([1, 8]);
});

test("multiboot: modules lie page-aligned above the kernel, each with its string", async () => {
  const data = Buffer.concat([multibootHeader(3), code]);
  const modules = [
    { data: pattern(10000, 3), text: "/first" },
    { data: pattern(3, 9), text: "" },
  ];
  const l = await load(elf(32, 0x100000, [{ pa: 0x100000, data, memory: 0x12345 }]), { modules });
  const i = information(l);
  expect(i.modules.map((x) => x.text)).toEqual(["/first", ""]);
  i.modules.forEach((x, n) => {
    expect(x.start % 4096).toBe(0);
    expect(x.start).toBeGreaterThanOrEqual(0x112345);
    expect(x.end - x.start).toBe(modules[n].data.length);
    expect(l.read(x.start, x.end - x.start)).toEqual(modules[n].data);
  });
  expect(i.modules[1].start).toBeGreaterThanOrEqual(i.modules[0].end);
});

test("multiboot: load addresses in the header (the a.out kludge)", async () => {
  const head = Buffer.alloc(64);
  const header = multibootHeader(0, [0x100040, 0x100000, 0x100000 + 64 + 32 + code.length, 0x110000, 0x100060]);
  const l = await load(Buffer.concat([head, header, code, pattern(100)]));
  expect(l.status).toBe(0);
  expect(l.entry.rip).toBe(0x100060n);
  expect(l.read(0x100060, code.length)).toEqual(code);
  expect(l.read(0x100060 + code.length, 0x10000 - 0x60 - code.length).every((b) => b === 0)).toBe(true);
  const whole = await load(Buffer.concat([multibootHeader(0, [0x200000, 0x200000, 0, 0, 0x200020]), code]), { f: l.f });
  expect(whole.status).toBe(0);
  expect(whole.read(0x200020, code.length)).toEqual(code);
});

test("multiboot: an entry point that is a virtual address of a segment linked high", async () => {
  const data = Buffer.concat([multibootHeader(0), code]);
  const l = await load(elf(32, 0xc0100010, [{ pa: 0x100000, va: 0xc0100000, data }]));
  expect(l.entry.rip).toBe(0x100010n);
});

test("multiboot: what is wrong is said", async () => {
  const data = Buffer.concat([multibootHeader(0), code]);
  const good = elf(32, 0x100000, [{ pa: 0x100000, data }]);
  const l = await load(good);
  const refused = async (file: Buffer, reason: RegExp, o: LoadOptions = {}) =>
    expectRefusal(await load(file, { ...o, f: l.f }), reason);
  await refused(Buffer.concat([multibootHeader(8), code]), /demands something unknown/);
  await refused(Buffer.concat([multibootHeader(0), code]), /must give load addresses/);
  await refused(good.subarray(0, good.length - 1), /ends within a segment/);
  await refused(elf(32, 0, [{ pa: 200 * MIB, data }]), /outside of the guest's memory/);
  await refused(elf(32, 0, [{ pa: 0xa0000, data }]), /outside of the guest's memory/);
  await refused(elf(32, 0, [{ pa: 0x100000, data, memory: 100 }]), /larger in the file/);
  await refused(elf(32, 0, [{ pa: 0x100000, data, memory: 0xffffffff }]), /outside of the guest's memory/);
  await refused(Buffer.concat([multibootHeader(0, [0x100000, 0x200000, 0, 0, 0]), code]), /lies before/);
  await refused(Buffer.concat([multibootHeader(0, [0x100000, 0x100000, 0x90000, 0, 0]), code]), /wrong order/);
  await refused(Buffer.concat([multibootHeader(0, [0x100000, 0x100000, 0x200000, 0, 0]), code]), /shorter than/);
  await refused(
    Buffer.concat([multibootHeader(0, [0x100000, 0x100000, 0, 0x100010, 0]), code]),
    /ends within its data/,
  );
  await refused(Buffer.concat([multibootHeader(0, [0, 0xfff00000, 0, 0, 0])]), /lies before/);
  await refused(good, /modules do not fit/, { modules: [{ data: pattern(6 * MIB) }], memory: 4 * MIB });
});

// ---- PVH

test("PVH: entry from the Xen note, start_info with map, modules and RSDP", async () => {
  const data = pattern(9000);
  const modules = [{ data: pattern(70000, 5), text: "initrd" }];
  const file = elf(64, 0xffffffff81000000, [{ pa: 0x1000000, va: 0xffffffff81000000, data }], 0x1000100);
  const l = await load(file, { modules, cmdline: "console=ttyS0", memory: 64 * MIB });
  expect(l.status).toBe(0);
  expect([l.entry.mode, l.entry.rip, l.f.vm.bootProtocol]).toEqual([PROTECTED, 0x1000100n, 2]);
  const start = Number(l.entry.rbx);
  expect([l.u32(start), l.u32(start + 4), l.u32(start + 12)]).toEqual([0x336ec578, 1, 1]);
  expect(l.text(l.u64(start + 24))).toBe("console=ttyS0");
  expect(l.read(l.u64(start + 32), 8).toString()).toBe("RSD PTR ");
  const list = l.u64(start + 16);
  expect(l.read(l.u64(list), l.u64(list + 8))).toEqual(modules[0].data);
  expect(l.text(l.u64(list + 16))).toBe("initrd");
  const count = l.u32(start + 48);
  const map = [...Array(count).keys()].map((i) => l.u64(start + 40) && l.u64(l.u64(start + 40) + 24 * i));
  expect(map).toContain(MIB);
  expect(l.read(0x1000000, data.length)).toEqual(data);
});

test("PVH: a note without end, an entry outside of memory", async () => {
  const file = elf(64, 0, [{ pa: 0x1000000, data: code }], 0x1000000);
  const cut = Buffer.from(file);
  cut.writeUInt32LE(0xfffffff0, cut.length - 24); // name size of the Xen note
  const l = await load(cut, { protocol: 2 });
  expectRefusal(l, /neither a PVH entry note/);
  const far = elf(64, 0, [{ pa: 0x1000000, data: code }], 0xf0000000);
  expectRefusal(await load(far, { f: l.f }), /entry point is not in its memory/);
});

// ---- Linux

const zeroPage = (l: Loaded) => Number(l.entry.rsi);

test("Linux: kernel, boot_params, command line and initrd are where the header says", async () => {
  const kernel = pattern(100_000);
  const initrd = pattern(300_001, 7);
  const l = await load(bzImage({ kernel }), { cmdline: "console=ttyS0 quiet", modules: [{ data: initrd }] });
  expect(l.status).toBe(0);
  expect([l.entry.mode, l.entry.rip]).toEqual([LONG, 0x1000200n]);
  expect(l.read(0x1000000, kernel.length).equals(kernel)).toBe(true);
  const p = zeroPage(l);
  expect(l.read(p + 0x202, 4).toString()).toBe("HdrS");
  expect(l.read(p + 0x210, 1)[0]).toBe(0xff);
  expect(l.text(l.u32(p + 0x228))).toBe("console=ttyS0 quiet");
  const at = l.u32(p + 0x218);
  expect(l.u32(p + 0x21c)).toBe(initrd.length);
  expect(at % 4096).toBe(0);
  expect(at).toBeGreaterThan(63 * MIB);
  expect(l.read(at, initrd.length).equals(initrd)).toBe(true);
  expect(l.u64(p + 0x70)).toBe(0xe0000);
  const entries = l.read(p + 0x1e8, 1)[0];
  const map = [...Array(entries).keys()].map((i) => {
    const row = p + 0x2d0 + 20 * i;
    return [l.u64(row), l.u64(row + 8), l.u32(row + 16)];
  });
  expect(map).toContainEqual([MIB, 63 * MIB, 1]);
  expect(l.read(p, 0x70).every((b) => b === 0)).toBe(true);
  // The page tables map the low 4 GiB to itself.
  const walk = (va: number) => {
    const pml4 = l.u64(Number(l.entry.cr3));
    const pdpt = l.u64(Math.floor(pml4 / 4096) * 4096 + 8 * Math.floor(va / 2 ** 30));
    return l.u64(Math.floor(pdpt / 4096) * 4096 + 8 * (Math.floor(va / 2 ** 21) % 512));
  };
  for (const va of [0, 0x1000000, 0xffe00000]) expect(walk(va)).toBe(va + 0x83);
  const gdt = Number(l.entry.gdt);
  expect(l.read(gdt + 0x10, 8)).toEqual(Buffer.from("ffff0000009baf00", "hex"));
  expect(l.read(gdt + 0x18, 8)).toEqual(Buffer.from("ffff00000093cf00", "hex"));
});

test("Linux: a kernel that does not fit at its preferred address moves if it can", async () => {
  const kernel = pattern(5000);
  const l = await load(bzImage({ kernel, prefAddress: 0x1000000, initSize: 4 * MIB }), { memory: 16 * MIB });
  expect(l.status).toBe(0);
  expect(l.entry.rip).toBe(0x200200n);
  expect(l.read(0x200000, kernel.length)).toEqual(kernel);
  const fixed = await load(bzImage({ kernel, relocatable: 0 }), { memory: 16 * MIB, f: l.f });
  expectRefusal(fixed, /more memory/);
});

test("Linux: the initrd keeps below initrd_addr_max, and away from the kernel", async () => {
  const kernel = pattern(5000);
  const initrd = pattern(MIB);
  const l = await load(bzImage({ kernel, initrdMax: 0x1ffffff }), { modules: [{ data: initrd }] });
  const at = l.u32(zeroPage(l) + 0x218);
  expect(at + initrd.length).toBeLessThanOrEqual(0x2000000);
  expect(l.read(at, initrd.length).equals(initrd)).toBe(true);
  const low = await load(bzImage({ kernel, initrdMax: 0x10fffff }), { modules: [{ data: initrd }], f: l.f });
  const lowAt = low.u32(zeroPage(low) + 0x218);
  expect(lowAt + initrd.length).toBeLessThanOrEqual(0x1000000); // the kernel has 1000000..1100000
  expect(low.read(lowAt, initrd.length).equals(initrd)).toBe(true);
});

test("Linux: what is wrong is said", async () => {
  const kernel = pattern(5000);
  const l = await load(bzImage({ kernel }));
  const refused = async (file: Buffer, reason: RegExp, o: LoadOptions = {}) =>
    expectRefusal(await load(file, { ...o, f: l.f }), reason);
  await refused(bzImage({ kernel, version: 0x20b }), /older than 2\.12/);
  await refused(bzImage({ kernel, xloadflags: 0 }), /no 64-bit entry/);
  await refused(bzImage({ kernel }).subarray(0, 4000), /shorter than its header/);
  await refused(bzImage({ kernel, commandLineMost: 10 }), /command line is longer/, { cmdline: "eleven chars" });
  await refused(bzImage({ kernel, initSize: 0xffffffff }), /more memory/);
  await refused(bzImage({ kernel }), /initrd does not fit/, { modules: [{ data: pattern(60 * MIB) }] });
  await refused(bzImage({ kernel }), /one initrd/, { modules: [{ data: kernel }, { data: kernel }] });
  await refused(Buffer.alloc(100), /no bzImage, no PVH/);
  await refused(Buffer.alloc(0), /no bzImage, no PVH/);
  await refused(Buffer.alloc(0), /the file is empty/, { protocol: 4 });
  await refused(Buffer.alloc(700_000), /below 639 KiB/, { protocol: 4 });
  await refused(kernel, /not an ELF/, { protocol: 2 });
  await refused(kernel, /not a bzImage/, { protocol: 1 });
  await refused(kernel, /no multiboot header/, { protocol: 3 });
});

test("a boot sector starts in real mode at 7C00H", async () => {
  const sector = pattern(512);
  sector.writeUInt16LE(0xaa55, 510);
  const l = await load(sector);
  expect(l.status).toBe(0);
  expect([l.entry.mode, l.entry.rip, l.entry.rdx]).toEqual([0, 0x7c00n, 0x80n]);
  expect(l.read(0x7c00, 512)).toEqual(sector);
  expect(l.f.k.startsInRealMode(ARENA)).toBe(1);
});

test("memory above 3 GiB continues at 4 GiB in every map", async () => {
  const f = await vmFixture({ entry: "test/unit/guest/guest.as.ts", ram: 512 * MIB });
  const GIB = 1024 ** 3;
  for (const [bytes, entries] of [
    [2 * MIB, 7],
    [3 * GIB, 7],
    [3 * GIB + 2 * MIB, 8],
    [64 * GIB, 8],
  ]) {
    expect(f.k.writeMap(0x1000n, 0, BigInt(bytes))).toBe(entries);
    const row = (i: number) => [f.m.ram.read64(GUEST + 0x1000 + 20 * i), f.m.ram.read64(GUEST + 0x1008 + 20 * i)];
    expect(row(3)).toEqual([BigInt(MIB), BigInt(Math.min(bytes, 3 * GIB) - MIB)]);
    if (entries === 8) expect(row(7)).toEqual([BigInt(4 * GIB), BigInt(bytes - 3 * GIB)]);
    for (let i = 1; i < entries; i++) expect(row(i)[0]).toBeGreaterThanOrEqual(row(i - 1)[0] + row(i - 1)[1]);
  }
});

// ---- Broken files

const valid: Record<string, () => Buffer> = {
  multiboot: () => elf(32, 0x100000, [{ pa: 0x100000, data: Buffer.concat([multibootHeader(3), pattern(3000)]) }]),
  addresses: () =>
    Buffer.concat([multibootHeader(0, [0x100000, 0x100000, 0x100800, 0x101000, 0x100020]), pattern(0x900)]),
  pvh: () =>
    elf(
      64,
      0x1000000,
      [
        { pa: 0x1000000, data: pattern(3000) },
        { pa: 0x1100000, data: pattern(99) },
      ],
      0x1000000,
    ),
  bzImage: () => bzImage({ kernel: pattern(3000), initSize: 0x4000 }),
};

test.each(Object.keys(valid))("%s: cut at any length, it is loaded or refused with one line", async (kind) => {
  const file = valid[kind]();
  const f = (await load(file)).f;
  for (let length = 0; length < file.length; length += length < 700 ? 3 : 97) {
    const l = await load(file.subarray(0, length), { f });
    expect([0, REFUSED]).toContain(l.status);
    expect(l.lines.length).toBe(l.status ? 1 : 0);
  }
});

test.each(Object.keys(valid))("%s: with random fields it never writes outside of the guest", async (kind) => {
  const f = (await load(valid[kind]())).f;
  const fence = Buffer.alloc(0x10000, 0x77);
  let seed = 4711;
  const random = (n: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  const odd = [0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff0, 0x100000, 0xa0000, 64 * MIB, 64 * MIB - 1];
  let loaded = 0;
  for (let run = 0; run < 400; run++) {
    const file = valid[kind]();
    const head = kind === "bzImage" ? 0x270 : Math.min(file.length, 300);
    for (let i = random(4); i >= 0; i--) {
      const at = (kind === "bzImage" ? 0x1f0 : 0) + random(head - (kind === "bzImage" ? 0x1f0 : 0) - 4);
      if (random(2)) file.writeUInt32LE(odd[random(odd.length)] >>> 0, at);
      else file[at] = random(256);
    }
    f.m.ram.load(GUEST + 64 * MIB, fence);
    f.m.ram.load(GUEST - fence.length, fence);
    const l = await load(file, { f });
    expect([0, REFUSED]).toContain(l.status);
    expect(l.lines.length, l.lines.join("\n")).toBe(l.status ? 1 : 0);
    if (!l.status) loaded++;
    if (run % 20) continue;
    expect(Buffer.from(f.m.ram.dump(GUEST + 64 * MIB, fence.length)).equals(fence)).toBe(true);
    expect(Buffer.from(f.m.ram.dump(GUEST - fence.length, fence.length)).equals(fence)).toBe(true);
  }
  expect(loaded).toBeGreaterThan(10);
  expect(loaded).toBeLessThan(400);
});
