// The screen: text memory and framebuffers show the same characters, scroll, and stay in their bounds.

import { expect, test } from "vitest";
import { logLines } from "../../fake/log.ts";
import { type Board, board } from "./board.ts";

const FB = 0xfd00_0000;

function print(b: Board, text: string): void {
  for (const c of Buffer.from(text, "latin1")) b.k.putScreen(c);
}

async function textScreen() {
  const b = await board();
  b.m.ram.addRam(0xb_8000, 0x8000);
  expect(b.k.openScreen()).toBe(0);
  const row = (y: number) =>
    Array.from({ length: 80 }, (_, x) => String.fromCharCode(b.m.ram.read8(0xb_8000 + 2 * (80 * y + x))))
      .join("")
      .trimEnd();
  return { ...b, row };
}

test("text memory: lines, wrapping, light grey on black", async () => {
  const b = await textScreen();
  print(b, `hello\r\n${"x".repeat(85)}\nend`);
  expect([0, 1, 2, 3].map(b.row)).toEqual(["hello", "x".repeat(80), "xxxxx", "end"]);
  expect(b.m.ram.read8(0xb_8001)).toBe(7);
});

test("at the bottom the text moves up by a third, and nothing is lost below", async () => {
  const b = await textScreen();
  for (let i = 0; i < 30; i++) print(b, `line ${i}\n`);
  const rows = Array.from({ length: 25 }, (_, y) => b.row(y)).filter((r) => r);
  const numbers = rows.map((r) => Number(r.slice(5)));
  expect(numbers.at(-1)).toBe(29);
  for (let i = 1; i < numbers.length; i++) expect(numbers[i]).toBe(numbers[i - 1] + 1);
  expect(numbers.length).toBeGreaterThanOrEqual(14);
});

test.each([32, 24, 16])(
  "a framebuffer of %i bits shows the font's dots and nothing outside of its rows",
  async (bits) => {
    const [width, height] = [640, 400];
    const pitch = width * (bits / 8) + 64;
    const b = await board({ framebuffer: { address: BigInt(FB), pitch, width, height, bits } });
    b.m.ram.addRam(FB, pitch * height + 4096);
    b.m.ram.fill(FB, 0x11, pitch * height + 4096);
    expect(b.k.openScreen()).toBe(0);
    print(b, "T");
    const lit = (x: number, y: number) => b.m.ram.read8(FB + y * pitch + x * (bits / 8)) > 0x11;
    // The bar of the T: dots 1..5 of rows 1 and 2; its stem: dot 3 of rows 3..14.
    expect(Array.from({ length: 8 }, (_, x) => lit(x, 1))).toEqual([false, true, true, true, true, true, false, false]);
    expect(Array.from({ length: 8 }, (_, x) => lit(x, 8))).toEqual([
      false,
      false,
      false,
      true,
      false,
      false,
      false,
      false,
    ]);
    expect(Array.from({ length: 8 }, (_, x) => lit(x, 0)).some(Boolean)).toBe(false);
    for (let i = 0; i < 60; i++) print(b, `${"y".repeat(79)}\n`);
    for (let y = 0; y < height; y += 40) expect(b.m.ram.read8(FB + y * pitch + pitch - 1)).toBe(0x11); // behind the row
    expect(b.m.ram.read8(FB + pitch * height)).toBe(0x11);
  },
);

test("a framebuffer that makes no sense is refused in one line", async () => {
  for (const bad of [
    { bits: 8, pitch: 640, width: 640, height: 480 },
    { bits: 32, pitch: 100, width: 640, height: 480 },
    { bits: 32, pitch: 2560, width: 8, height: 480 },
  ]) {
    const b = await board({ framebuffer: { address: BigInt(FB), ...bad } });
    expect(b.k.openScreen()).toBe(5);
    expect(logLines(b.m).at(-1)).toMatch(/^screen: the framebuffer cannot be used/);
  }
});
