// The image step with a core of a few lines: what loaders, debuggers and the core itself rely on.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readConstants } from "../../../../tools/image/abi.ts";
import { BuildError, buildImage } from "../../../../tools/image/build.ts";
import { Elf, PT_LOAD } from "../../../../tools/image/elf.ts";
import { checkModules } from "../../../../tools/image/modules.ts";
import { lookUp, type SymbolMap } from "../../../../tools/image/symbolmap.ts";

const EXPORTS = ["kmain", "_start", "apmain", "onInterrupt", "onException", "onNmi", "onMachineCheck", "onTrap"];

/** Every function that the NASM stubs call, one instruction each, at lines 10, 20, 30 ... of example.ts. */
const asm = `
section .text
global basalt_text
basalt_text:
${EXPORTS.map((name, i) => `global ${name}\n%line ${(i + 1) * 10}+0 kernel/example.ts\n${name}: nop\nret`).join("\n")}
`;
const linear = Uint8Array.from({ length: 5000 }, (_, i) => i % 251);

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "basalt-image-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe("the image", async () => {
  const build = (name: string, core = { asm, linear }) => buildImage({ core, folder: join(folder, name) });

  test("is the same bytes when it is built again in another folder", async () => {
    const one = await build("one");
    const two = await build("another/folder/of/another/depth");
    expect(readFileSync(two.elf).equals(readFileSync(one.elf))).toBe(true);
    expect(two.buildId).toBe(one.buildId);
  });

  test("holds its build id, which changes with the content", async () => {
    const one = await build("one");
    const elf = new Elf(readFileSync(one.elf));
    const place = elf.symbols().find((s) => s.name === "build_id");
    const at = elf.offsetOf(place?.address ?? 0n);
    expect(elf.file.subarray(at, at + 16).toString("hex")).toBe(one.buildId);
    const other = await build("other", { asm, linear: linear.slice(1) });
    expect(other.buildId).not.toBe(one.buildId);
  });

  test("lies at 1 MiB and in the top 2 GiB, contiguous in the file, nothing writable and executable", async () => {
    const elf = new Elf(readFileSync((await build("one")).elf));
    const loads = elf.segments.filter((s) => s.type === PT_LOAD);
    expect(loads.map((s) => s.flags)).toEqual([5, 4, 6]);
    expect(loads[0]?.physical).toBe(0x10_0000n);
    for (const s of loads) {
      expect(s.virtual - s.physical).toBe(0xffff_ffff_8000_0000n);
      expect(BigInt(s.fileOffset)).toBe(s.physical - 0x10_0000n + 0x1000n);
    }
  });

  test("carries linear memory from LINEAR_START to SHARED_END", async () => {
    const elf = new Elf(readFileSync((await build("one")).elf));
    const constants = await readConstants();
    const symbol = (name: string) => elf.symbols().find((s) => s.name === name)?.address ?? 0n;
    const start = elf.offsetOf(symbol("image_linear"));
    expect(elf.file.subarray(start, start + linear.length).equals(linear)).toBe(true);
    expect(symbol("image_linear_end") - symbol("image_linear")).toBe(
      (constants.get("SHARED_END") ?? 0n) - (constants.get("LINEAR_START") ?? 0n),
    );
  });

  test("has an interrupt descriptor table whose 256 gates point at their stubs", async () => {
    const elf = new Elf(readFileSync((await build("one")).elf));
    const symbol = (name: string) => elf.symbols().find((s) => s.name === name)?.address ?? 0n;
    const at = elf.offsetOf(symbol("idt"));
    for (let vector = 0; vector < 256; vector++) {
      const low = elf.file.readBigUInt64LE(at + vector * 16);
      const high = elf.file.readBigUInt64LE(at + vector * 16 + 8);
      const target = (low & 0xffffn) | ((low >> 32n) & 0xffff_0000n) | (high << 32n);
      expect(target).toBe(symbol("vector_stubs") + BigInt(vector * 16));
      const stub = elf.file.subarray(elf.offsetOf(target), elf.offsetOf(target) + 8);
      // push imm8 after an optional push 0 below vector 32; push imm32 above.
      const pushed = vector >= 32 ? stub.readInt32LE(1) : stub[1] === 0 && stub[2] === 0x6a ? stub[3] : stub[1];
      expect(pushed).toBe(vector);
      const ist = { 2: 1, 18: 2, 8: 3, 14: 4 }[vector] ?? 0;
      expect(Number((low >> 32n) & 7n)).toBe(ist);
    }
  });

  test("is ELF64 with symbols and DWARF lines that readelf and addr2line understand", async () => {
    const { elf } = await build("one");
    const text = execFileSync("readelf", ["-hW", elf], { encoding: "utf8" });
    expect(text).toMatch(/Class:\s+ELF64/);
    const address = new Elf(readFileSync(elf)).symbols().find((s) => s.name === "apmain")?.address ?? 0n;
    const line = execFileSync("addr2line", ["-e", elf, address.toString(16)], { encoding: "utf8" });
    expect(line.trim()).toMatch(/kernel\/example\.ts:30$/);
  });

  test("comes with a map that knows the function and line of each address", async () => {
    const { elf } = await build("one");
    const map = JSON.parse(readFileSync(join(folder, "one/basalt.map.json"), "utf8")) as SymbolMap;
    const symbols = new Elf(readFileSync(elf)).symbols();
    EXPORTS.forEach((name, i) => {
      const address = symbols.find((s) => s.name === name)?.address ?? 0n;
      expect(lookUp(map, address + 1n)).toEqual({ name, offset: 1, file: "kernel/example.ts", line: (i + 1) * 10 });
    });
    const entry = symbols.find((s) => s.name === "insn_loadDescriptors")?.address ?? 0n;
    expect(lookUp(map, entry)?.file).toBe("boot/routines.asm");
    expect(lookUp(map, 0x1234n)).toBeNull();
  });

  test("is refused, and nothing is left behind, when the core does not assemble", async () => {
    const { elf } = await build("broken");
    await expect(build("broken", { asm: `${asm}\nmov rax`, linear })).rejects.toThrow(BuildError);
    expect(() => readFileSync(elf)).toThrow();
  });

  test("is refused when the data segments reach past SHARED_END", async () => {
    await expect(build("huge", { asm, linear: new Uint8Array(0x3f_0001) })).rejects.toThrow(/SHARED_END/);
  });
});

test("boot modules whose strings no loader would carry are refused in one line that names them", () => {
  const module = (bytes: number) => ({ file: "web.elf", string: "x".repeat(bytes) });
  expect(() => checkModules([module(4095)])).not.toThrow();
  expect(() => checkModules([module(4096)])).toThrow(
    /^the string of web\.elf \('x{40}\.\.\.'\) has 4096 bytes: 4095 at most$/,
  );
  expect(() => checkModules(Array.from({ length: 15 }, () => module(4000)))).toThrow(
    /have 60135 bytes together: 57344 at most/,
  );
  expect(() => checkModules(Array.from({ length: 65 }, () => module(1)))).toThrow("65 boot modules: 64 at most");
  expect(() => checkModules([], "x".repeat(5000))).toThrow("the host's command line has 5000 bytes: 4095 at most");
});
