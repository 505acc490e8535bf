// gdb on the image: addresses are lines of TypeScript, and it steps by line against QEMU's stub.

import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import { ROOT } from "../../tools/paths.ts";
import { boot } from "../../tools/run/boot.ts";
import { image } from "./harness.ts";

const hasTools = existsSync("/usr/bin/gdb") && existsSync("/usr/bin/qemu-system-x86_64");
const PATIENCE_MS = 120_000;

function freePort(): Promise<number> {
  return new Promise((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => done(port));
    });
  });
}

async function gdb(elf: string, commands: string[]): Promise<string> {
  const args = ["-nx", "-batch", ...commands.flatMap((command) => ["-ex", command]), elf];
  const { stdout } = await promisify(execFile)("gdb", args, { cwd: ROOT, timeout: PATIENCE_MS });
  return stdout;
}

test.runIf(hasTools)("gdb shows the TypeScript line of an address", async () => {
  const { elf } = await image();
  expect(await gdb(elf, ["info line kmain", "info scope kmain"])).toMatch(/^Line \d+ of "kernel\/main\.ts" starts at/m);
});

test.runIf(hasTools)("gdb breaks in TypeScript and steps by line in QEMU", async () => {
  const { elf } = await image("debug");
  const port = await freePort();
  const stop = new AbortController();
  const run = boot({ elf, on: "qemu", gdbPort: port, timeoutSeconds: PATIENCE_MS / 1000, signal: stop.signal });
  try {
    const steps = Array.from({ length: 6 }, () => ["step", "info symbol $pc"]).flat();
    const connect = ["set tcp connect-timeout 30", `target remote 127.0.0.1:${port}`];
    const output = await gdb(elf, [...connect, "hbreak kmain", "continue", ...steps, "backtrace 1", "kill"]);
    expect(output).toMatch(/Breakpoint 1, .*kmain.* \(\) at kernel\/main\.ts:\d+/);
    // `step` prints the number and the text of the line that it stopped at.
    const lines = [...output.matchAll(/^(\d+)\t(.*)$/gm)].map(([, number, text]) => ({ number, text }));
    expect(lines.length).toBeGreaterThan(4);
    expect(new Set(lines.map((line) => line.number)).size).toBeGreaterThan(3);
    expect(output).toMatch(/^#0 .* at (kernel|drivers)\/.*\.ts:\d+/m);
  } finally {
    stop.abort();
    await run;
  }
});
