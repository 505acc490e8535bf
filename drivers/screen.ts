// Mirrors the log on the screen: the PC's text memory, or the boot loader's framebuffer with a small
// font. Reading video memory is slow, so what is on the screen is kept in linear memory; at the bottom
// the text moves up by a third of the screen at once and only characters that change are drawn.

import * as boot from "./bootinfo";
import { GLYPH_DOTS, GLYPH_ROWS, glyphOf } from "./font";
import { devicestore16, devicestore32, devicestore8 } from "../kernel/cpu/insn";
import * as log from "../kernel/lib/log";
import { Status } from "../kernel/lib/status";
import { mapDevice, mapFramebuffer } from "../kernel/mm/hostmap";

const TEXT_MEMORY: u64 = 0xb_8000;
const LIGHT_GREY: u32 = 0x0700; // attribute of a character in text memory
const CELL_WIDTH: u32 = 8;
const CELL_HEIGHT: u32 = 16; // dots are two rows high
const MAX_COLUMNS: u32 = 160;
const MAX_ROWS: u32 = 75;
const BRIGHTNESS: u32 = 0xc0;

const cells: usize = memory.data(160 * 75); // what the screen shows

// All written at boot but the cursor, which lies in memory: [console.lock]
let kind: u32 = boot.FramebufferKind.NONE;
let base: u64 = 0;
let pitch: u32 = 0;
let bytesPerPixel: u32 = 0;
let foreground: u32 = 0;
let columns: u32 = 0;
let rows: u32 = 0;
const cursor: usize = memory.data(8, 4); // +0 column, +4 row

/** Takes the screen that the loader left; NOT_FOUND if there is none that can be used. */
export function open(): Status {
  const info = boot.bootInfo();
  if (info.framebufferKind == boot.FramebufferKind.RGB) return openFramebuffer(info);
  // Under UEFI nothing is at B8000H.
  if (info.efiSystemTable) return Status.NOT_FOUND;
  const isText = info.framebufferKind == boot.FramebufferKind.TEXT;
  base = isText && info.framebuffer ? info.framebuffer : TEXT_MEMORY;
  columns = isText && info.framebufferWidth ? min(info.framebufferWidth, MAX_COLUMNS) : 80;
  rows = isText && info.framebufferHeight ? min(info.framebufferHeight, MAX_ROWS) : 25;
  pitch = isText && info.framebufferPitch ? info.framebufferPitch : columns * 2;
  return start(boot.FramebufferKind.TEXT);
}

function openFramebuffer(info: boot.BootInfo): Status {
  const bits = info.framebufferBits;
  if (bits != 32 && bits != 24 && bits != 16) return refuse(bits);
  bytesPerPixel = bits >> 3;
  base = info.framebuffer;
  pitch = info.framebufferPitch;
  columns = min(info.framebufferWidth / CELL_WIDTH, MAX_COLUMNS);
  rows = min(info.framebufferHeight / CELL_HEIGHT, MAX_ROWS);
  if (base == 0 || columns < 20 || rows < 5 || pitch < columns * CELL_WIDTH * bytesPerPixel) return refuse(bits);
  foreground = bits == 16 ? 0xbdf7 : colour(info.redShift) | colour(info.greenShift) | colour(info.blueShift);
  return start(boot.FramebufferKind.RGB);
}

function colour(shift: u32): u32 {
  return shift <= 24 ? BRIGHTNESS << shift : 0;
}

function refuse(bits: u32): Status {
  log.begin(log.Level.WARN, "screen");
  log.str("the framebuffer cannot be used: ");
  log.dec(bits);
  log.str(" bits a pixel");
  log.end();
  return Status.NOT_FOUND;
}

function start(newKind: boot.FramebufferKind): Status {
  const first = base & ~(<u64>4095);
  const bytes = (base - first + <u64>pitch * screenLines(newKind) + 4095) & ~(<u64>4095);
  const status = newKind == boot.FramebufferKind.RGB ? mapFramebuffer(first, bytes) : mapDevice(first, bytes);
  if (status) return status;
  kind = newKind;
  memory.fill(cells, 0, columns * rows); // nothing is known: every character is drawn once
  for (let i: u32 = 0; i < columns * rows; i++) show(i, 0x20);
  store<u32>(cursor, 0, 0);
  store<u32>(cursor, 0, 4);
  return Status.OK;
}

function screenLines(newKind: boot.FramebufferKind): u64 {
  return newKind == boot.FramebufferKind.RGB ? rows * CELL_HEIGHT : rows;
}

export function isOpen(): bool {
  return kind != boot.FramebufferKind.NONE;
}

/** Writes `length` bytes at `ptr`, in lines as long as they come. */
export function putBytes(ptr: usize, length: u32): void {
  for (let i: u32 = 0; i < length; i++) put(load<u8>(ptr + i));
}

/** One character; line feed starts a new line, carriage return is ignored. */
export function put(code: u32): void {
  if (!isOpen() || code == 0x0d) return;
  if (code == 0x0a || load<u32>(cursor) == columns) newLine();
  if (code == 0x0a) return;
  const column = load<u32>(cursor);
  show(load<u32>(cursor, 4) * columns + column, code);
  store<u32>(cursor, column + 1);
}

function newLine(): void {
  store<u32>(cursor, 0);
  const row = load<u32>(cursor, 4) + 1;
  if (row < rows) {
    store<u32>(cursor, row, 4);
    return;
  }
  const lines = max(rows / 3, 1);
  scroll(lines);
  store<u32>(cursor, rows - lines, 4);
}

function scroll(lines: u32): void {
  const kept = (rows - lines) * columns;
  for (let i: u32 = 0; i < kept; i++) show(i, load<u8>(cells + i + lines * columns));
  for (let i = kept; i < rows * columns; i++) show(i, 0x20);
}

/** Shows `code` in a cell, unless it is there already. */
function show(cell: u32, code: u32): void {
  if (load<u8>(cells + cell) == <u8>code) return;
  store<u8>(cells + cell, code);
  const row = cell / columns;
  const column = cell - row * columns;
  if (kind == boot.FramebufferKind.TEXT) devicestore16(base + <u64>row * pitch + column * 2, LIGHT_GREY | code);
  else draw(base + <u64>row * CELL_HEIGHT * pitch + column * CELL_WIDTH * bytesPerPixel, code);
}

/** Draws a glyph with its upper left corner at `at`: one blank line above and below. */
function draw(at: u64, code: u32): void {
  const glyph = glyphOf(code);
  for (let y: u32 = 0; y < CELL_HEIGHT; y++) {
    const row = (y - 1) >> 1; // huge for the first line
    const dots: u32 = row < GLYPH_ROWS ? load<u8>(glyph + row) : 0;
    for (let x: u32 = 0; x < CELL_WIDTH; x++) {
      const lit = x - 1 < GLYPH_DOTS && (dots >> (GLYPH_DOTS - x)) & 1;
      pixel(at + x * bytesPerPixel, lit ? foreground : 0);
    }
    at += pitch;
  }
}

function pixel(at: u64, value: u32): void {
  if (bytesPerPixel == 4) devicestore32(at, value);
  else if (bytesPerPixel == 2) devicestore16(at, value);
  else {
    devicestore8(at, value);
    devicestore8(at + 1, value >> 8);
    devicestore8(at + 2, value >> 16);
  }
}
