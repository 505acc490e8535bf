// The operator's line: characters as they are typed, with echo, backspace and Ctrl-U.

import * as console from "../../drivers/console";

const LINE_BYTES: u32 = 128;
const text: usize = memory.data(128); // [boot CPU only]
/** +0 u32 characters so far; +4 u8 buffer for one echoed character. [boot CPU only] */
const state: usize = memory.data(8, 4);

const BACKSPACE: u32 = 8;
const DELETE: u32 = 127;
const CTRL_U: u32 = 21;

export function lineText(): usize {
  return text;
}

export function lineBytes(): u32 {
  return load<u32>(state);
}

/** Writes a literal to the operator's terminal. */
export function say(literal: string): void {
  const length = literal.length;
  for (let i = 0; i < length; i++) echo(load<u16>(changetype<usize>(literal) + ((<usize>i) << 1)));
}

export function prompt(): void {
  store<u32>(state, 0);
  say("\r\nbasalt> ");
}

function echo(code: u32): void {
  store<u8>(state + 4, code);
  console.writeEcho(state + 4, 1);
}

/** Takes one character; true when the line is complete. */
export function take(code: u32): bool {
  const count = load<u32>(state);
  if (code == 0x0d || code == 0x0a) {
    say("\r\n");
    return true;
  }
  if (code == BACKSPACE || code == DELETE) {
    if (count) rubOut(count);
  } else if (code == CTRL_U) {
    for (let i = count; i > 0; i--) rubOut(i);
  } else if (code - 0x20 < 0x5f && count < LINE_BYTES) {
    store<u8>(text + count, code);
    store<u32>(state, count + 1);
    echo(code);
  }
  return false;
}

function rubOut(count: u32): void {
  store<u32>(state, count - 1);
  say("\b \b");
}
