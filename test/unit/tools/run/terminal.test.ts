import { describe, expect, test } from "vitest";
import type { SymbolMap } from "../../../../tools/image/symbolmap.ts";
import { Symboliser } from "../../../../tools/run/symbolise.ts";
import { keys, Where } from "../../../../tools/run/terminal.ts";

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
  const atGuest = new Where();
  atGuest.see("basalt> attach one\r\nattached; Ctrl-] comes");
  atGuest.see(" back\r\n");

  function typedAt(where: Where, ...pieces: string[]): { sent: string; stopped: boolean } {
    const stop = new AbortController();
    let sent = "";
    const send = keys(
      (bytes) => {
        sent += Buffer.from(bytes).toString("latin1");
      },
      stop,
      ["one", "two"],
      where,
    );
    for (const piece of pieces) send(Buffer.from(piece, "latin1"));
    return { sent, stopped: stop.signal.aborted };
  }

  const typed = (...pieces: string[]): { sent: string; stopped: boolean } => typedAt(new Where(), ...pieces);

  test("go to a guest's console, Ctrl-C as well; at the host Ctrl-C ends the run", () => {
    expect(typedAt(atGuest, "ls\r", "\x03")).toEqual({ sent: "ls\r\x03", stopped: false });
    expect(typed("ls\r", "\x03")).toEqual({ sent: "ls\r", stopped: true });
  });
  test("Ctrl-A and a digit choose a console, from the host's and from another guest's", () => {
    expect(typed("\x012").sent).toBe("attach two\r");
    expect(typedAt(atGuest, "\x012").sent).toBe("\x1dattach two\r");
    expect(typedAt(atGuest, "\x01", "0").sent).toBe("\x1d");
    expect(typed("\x010\x019")).toEqual({ sent: "", stopped: false });
  });
  test("the host's prompt says that no guest's console has them any more", () => {
    const where = new Where();
    where.see("attached; Ctrl-] comes back\r\n");
    where.see("guest# exit\r\nbasalt> ");
    expect(where.atGuest).toBe(false);
  });
  test("Ctrl-A X ends the run, also in two pieces", () => {
    expect(typed("\x01x")).toEqual({ sent: "", stopped: true });
    expect(typed("\x01", "X").stopped).toBe(true);
  });
  test("Ctrl-A A types one Ctrl-A", () => {
    expect(typed("\x01a", "b")).toEqual({ sent: "\x01b", stopped: false });
  });
});
