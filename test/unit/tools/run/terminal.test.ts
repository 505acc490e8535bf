import { describe, expect, test } from "vitest";
import type { SymbolMap } from "../../../../tools/image/symbolmap.ts";
import { Symboliser } from "../../../../tools/run/symbolise.ts";
import { keys } from "../../../../tools/run/terminal.ts";

const map: SymbolMap = {
  buildId: "",
  base: "0xffffffff80100000",
  textEnd: 0x1000,
  functions: { names: ["kernel/a/f", "g"], starts: [0, 0x100] },
  files: ["kernel/a.ts"],
  lines: { starts: [0, 8, 0x100], files: [0, 0, -1], numbers: [3, 4, 0] },
};

describe("the symboliser", () => {
  test("adds function and line before the end of a line with an address", () => {
    const text = "fault: at 0xffffffff80100009\r\nnext";
    expect(new Symboliser(map).feed(text)).toBe("fault: at 0xffffffff80100009  kernel/a/f (kernel/a.ts:4)\r\nnext");
  });

  test("lets everything through at once, whatever the pieces", () => {
    const symboliser = new Symboliser(map);
    const pieces = ["fault: at 0xffff", "ffff801000", "00", "\r\n"].map((piece) => symboliser.feed(piece));
    expect(pieces.slice(0, 3)).toEqual(["fault: at 0xffff", "ffff801000", "00"]);
    expect(pieces[3]).toBe("  kernel/a/f (kernel/a.ts:3)\r\n");
  });

  test("knows routines without lines, and leaves other addresses alone", () => {
    expect(new Symboliser(map).feed("0xffffffff80100104\n")).toBe("0xffffffff80100104  g+0x4\n");
    expect(new Symboliser(map).feed("0xffffffff80200000\n")).toBe("0xffffffff80200000\n");
    expect(new Symboliser(null).feed("0xffffffff80100104\n")).toBe("0xffffffff80100104\n");
  });
});

describe("keys", () => {
  function typed(...pieces: string[]): { sent: string; stopped: boolean } {
    const stop = new AbortController();
    let sent = "";
    const send = keys((bytes) => {
      sent += Buffer.from(bytes).toString("latin1");
    }, stop);
    for (const piece of pieces) send(Buffer.from(piece, "latin1"));
    return { sent, stopped: stop.signal.aborted };
  }

  test("go to the guest, Ctrl-C as well", () => {
    expect(typed("ls\r", "\x03")).toEqual({ sent: "ls\r\x03", stopped: false });
  });
  test("Ctrl-A X ends the run, also in two pieces", () => {
    expect(typed("\x01x")).toEqual({ sent: "", stopped: true });
    expect(typed("\x01", "X").stopped).toBe(true);
  });
  test("Ctrl-A A types one Ctrl-A", () => {
    expect(typed("\x01a", "b")).toEqual({ sent: "\x01b", stopped: false });
  });
});
