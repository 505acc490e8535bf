// Guests are described by the strings of boot modules; what is wrong in them is said, and the others start.

import { expect, test } from "vitest";
import { struct } from "../../fake/layout.ts";
import { type Machine, machine } from "../../fake/machine.ts";
import { logReader } from "../vdev/fixture.ts";

const TEXT = 0x90_0000;

const fresh = () => machine({ entries: ["test/unit/guest/guest.as.ts"] });

async function describe(...strings: string[]) {
  return describeOn(await fresh(), strings);
}

function describeOn(m: Machine, strings: string[]) {
  const k = m.kernel;
  const info = struct(m, "drivers/bootinfo.ts", "BootInfo", k.bootInfo());
  info.moduleCount = strings.length;
  strings.forEach((text, i) => {
    const at = TEXT + i * 4096;
    new Uint8Array(m.memory.buffer).set(Buffer.from(text), at);
    const module = struct(m, "drivers/bootinfo.ts", "BootModule", k.moduleAt(i));
    Object.assign(module, { base: 0x1000000 * (i + 1), bytes: 5000 + i, text: at, textBytes: Buffer.byteLength(text) });
  });
  const lines = logReader(m);
  k.describeGuests();
  const string = (ptr: number, bytes: number) => Buffer.from(m.memory.buffer).toString("latin1", ptr, ptr + bytes);
  const guests = [...Array(k.countGuests()).keys()].map((i) => {
    const at = k.configAt(i);
    const c = struct(m, "kernel/guest/config.ts", "GuestConfig", at);
    const modules = [...Array(c.moduleCount).keys()].map((n) => {
      const module = struct(m, "kernel/guest/config.ts", "GuestModule", k.guestModuleAt(at, n));
      return { pa: Number(module.pa), text: string(module.text, module.textBytes) };
    });
    return {
      name: string(c.name, c.nameBytes),
      pa: Number(c.pa),
      memory: Number(c.memoryBytes),
      cpus: c.cpus,
      protocol: c.protocol,
      weight: c.weight,
      cap: c.cap,
      pin: c.pinMask as bigint,
      without: c.without,
      test: c.testPorts,
      restart: c.restart,
      commandLine: string(c.commandLine, c.commandLineBytes),
      modules,
    };
  });
  return { guests, lines: lines() };
}

const MIB = 1024 * 1024;

test("the shortest description has the defaults", async () => {
  const { guests, lines } = await describe("guest=a");
  expect(guests).toEqual([
    {
      name: "a",
      pa: 0x1000000,
      memory: 128 * MIB,
      cpus: 1,
      protocol: 0,
      weight: 100,
      cap: 0,
      pin: 0n,
      without: 0,
      test: 0,
      restart: 0,
      commandLine: "",
      modules: [],
    },
  ]);
  expect(lines).toEqual([]);
});

test("every word, a path in front, and a command line with blanks and equal signs", async () => {
  const { guests } = await describe(
    "/boot/vmlinuz guest=web memory=1G cpus=16 protocol=linux weight=250 cap=50 pin=0+2+63 without=vpid+apicv test=on restart=on cmdline=console=ttyS0 a=b  c",
  );
  expect(guests[0]).toMatchObject({
    name: "web",
    memory: 1024 * MIB,
    cpus: 16,
    protocol: 1,
    weight: 250,
    cap: 50,
    pin: (1n << 63n) | 5n,
    without: 2 | 8,
    test: 1,
    restart: 1,
    commandLine: "console=ttyS0 a=b  c",
  });
});

test("memory in every unit, rounded up to 2 MiB", async () => {
  const size = async (word: string) => (await describe(`guest=a memory=${word}`)).guests[0]?.memory;
  expect(await size("2M")).toBe(2 * MIB);
  expect(await size("3m")).toBe(4 * MIB);
  expect(await size("4096K")).toBe(4 * MIB);
  expect(await size("0x400000")).toBe(4 * MIB);
  expect(await size("2g")).toBe(2048 * MIB);
});

test("modules go to their guest, in their order, wherever they stand", async () => {
  const { guests, lines } = await describe(
    "x.img initrd=b",
    "guest=a",
    "module=a cmdline=/first one",
    "guest=b",
    "module=a",
  );
  expect(guests.map((g) => g.modules)).toEqual([
    [
      { pa: 0x3000000, text: "/first one" },
      { pa: 0x5000000, text: "" },
    ],
    [{ pa: 0x1000000, text: "" }],
  ]);
  expect(lines).toEqual([]);
});

test.each([
  ["guest=", /1 to 32 characters/],
  [`guest=${"n".repeat(33)}`, /1 to 32 characters/],
  ["guest=a memory=", /memory is a number/],
  ["guest=a memory=12x", /memory is a number/],
  ["guest=a memory=1M", /2 MiB to 16 TiB/],
  ["guest=a memory=99999999999999999999G", /2 MiB to 16 TiB/],
  ["guest=a cpus=0", /1 to 16 vCPUs in 'cpus=0'/],
  ["guest=a cpus=17", /1 to 16 vCPUs/],
  ["guest=a cpus=two", /1 to 16 vCPUs/],
  ["guest=a weight=0", /weight is/],
  ["guest=a cap=101", /cap is/],
  ["guest=a protocol=pv", /protocol is auto, linux/],
  ["guest=a pin=", /pin names/],
  ["guest=a pin=1,2", /pin names/],
  ["guest=a pin=64", /pin names/],
  ["guest=a without=magic", /without names/],
  ["guest=a test=maybe", /on or off/],
  ["guest=a colour=blue", /unknown word in 'colour=blue'/],
  ["guest=a word", /unknown word in 'word'/],
])("%s is left out with one line, and the next guest starts", async (text, reason) => {
  const { guests, lines } = await describe(text, "guest=other");
  expect(guests.map((g) => g.name)).toEqual(["other"]);
  expect(lines.length).toBe(1);
  expect(lines[0]).toMatch(reason);
});

test("two guests of one name, a module of nobody, too many modules", async () => {
  const two = await describe("guest=a", "guest=a cpus=2");
  expect(two.guests.length).toBe(1);
  expect(two.lines[0]).toMatch(/two guests have one name/);
  const nobody = await describe("guest=a", "initrd=b");
  expect(nobody.lines[0]).toMatch(/no guest has this name in 'initrd=b'/);
  const many = await describe("guest=a", ...Array(9).fill("module=a"));
  expect(many.guests[0].modules.length).toBe(8);
  expect(many.lines).toHaveLength(1);
  expect(many.lines[0]).toMatch(/more than 8 modules/);
});

test("random strings never do harm", async () => {
  let seed = 99;
  const random = (n: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  const pieces = [
    "guest=",
    "memory=",
    "cpus=",
    "=",
    " ",
    "pin=",
    "+",
    "cmdline=",
    "1",
    "9".repeat(30),
    "G",
    "\xff",
    "initrd=",
    "a",
  ];
  const m = await fresh();
  for (let run = 0; run < 300; run++) {
    const strings = [...Array(1 + random(6))].map(() =>
      [...Array(random(20))].map(() => pieces[random(pieces.length)]).join(""),
    );
    const { guests } = describeOn(m, strings);
    for (const g of guests) {
      expect(g.memory % (2 * MIB)).toBe(0);
      expect(g.cpus).toBeGreaterThanOrEqual(1);
      expect(g.cpus).toBeLessThanOrEqual(16);
    }
  }
});
