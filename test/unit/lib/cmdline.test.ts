// The host's command line: words, values, numbers, and anything at all without harm.

import fc from "fast-check";
import { expect, test } from "vitest";
import { logLines } from "../../fake/log.ts";
import { machine } from "../../fake/machine.ts";

const TEXT = 0x30_0000;

async function fresh() {
  const m = await machine({ entries: ["test/unit/lib/cmdline.as.ts"] });
  const parse = (text: string | Uint8Array) => {
    const bytes = typeof text === "string" ? Buffer.from(text, "latin1") : text;
    new Uint8Array(m.memory.buffer, TEXT, bytes.length).set(bytes);
    m.kernel.parse(TEXT, bytes.length);
  };
  const value = (word: number) =>
    Buffer.from(m.memory.buffer, m.kernel.textOf(word), m.kernel.valueBytesOf(word)).toString("latin1");
  return { m, k: m.kernel, parse, value };
}

test("an option given several times has several words, in order, and the last one decides", async () => {
  const { k, parse, value } = await fresh();
  parse("console=com1,9600  console=screen panic=reboot\tconsole=e9");
  const words: string[] = [];
  for (let w = k.next(Number(k.CONSOLE), -1); w !== 0xffff_ffff; w = k.next(Number(k.CONSOLE), w)) words.push(value(w));
  expect(words).toEqual(["com1,9600", "screen", "e9"]);
  expect(value(k.last(Number(k.CONSOLE)))).toBe("e9");
  expect(k.isReboot()).toBe(1);
});

test("numbers are decimal or hexadecimal; what is not a number leaves the default", async () => {
  const { k, parse } = await fresh();
  const read = (text: string) => {
    parse(text);
    return k.numberOf(Number(k.CPUS), 7n);
  };
  expect(read("cpus=12")).toBe(12n);
  expect(read("cpus=0x1f")).toBe(0x1fn);
  expect(read("cpus=0X1F")).toBe(0x1fn);
  expect(read("cpus=")).toBe(7n);
  expect(read("cpus=4x")).toBe(7n);
  expect(read("cpus=0x")).toBe(7n);
  expect(read("")).toBe(7n);
  expect(read("cpus=99999999999999999999999")).toBe(0xffff_ffff_ffff_ffffn);
});

test("a value in quotes may hold blanks", async () => {
  const { k, parse, value } = await fresh();
  parse('console="a b" panic=reboot');
  expect(value(k.last(Number(k.CONSOLE)))).toBe("a b");
  expect(k.isReboot()).toBe(1);
});

test("an unknown option gets a line with its name; the image's own path does not", async () => {
  const { m, parse } = await fresh();
  parse("build/release/basalt.elf cosnole=com1");
  expect(logLines(m)).toEqual(["cmdline: unknown option 'cosnole' is ignored"]);
});

test("more words than there is room for end in a warning", async () => {
  const { m, parse } = await fresh();
  parse("cpus=1 ".repeat(70));
  expect(logLines(m)).toEqual(["cmdline: more than 64 words: the rest is ignored"]);
});

test("any bytes parse without a trap, and values stay within the text", async () => {
  const { m, k, parse } = await fresh();
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      parse(bytes);
      for (const option of [Number(k.CONSOLE), Number(k.CPUS), Number(k.PANIC)]) {
        k.numberOf(option, 0n);
        const word = k.last(option);
        if (word === 0xffff_ffff) continue;
        const start = m.kernel.textOf(word) - TEXT;
        expect(start).toBeGreaterThanOrEqual(0);
        expect(start + k.valueBytesOf(word)).toBeLessThanOrEqual(bytes.length);
      }
    }),
    { numRuns: 300 },
  );
  fc.assert(
    fc.property(fc.stringMatching(/^[a-z0-9=" ,x]{0,80}$/), (text) => {
      parse(`console=${text}`);
      k.numberOf(Number(k.CONSOLE), 0n);
    }),
    { numRuns: 300 },
  );
});

test("every row of the option table has a name and a help line", async () => {
  const { k } = await fresh();
  expect(k.rowsAreWhole()).toBe(1);
});
