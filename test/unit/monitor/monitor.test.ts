// The operator's shell, typed on the first UART while guests run.

import { describe, expect, test } from "vitest";
import { EXIT, guest, instruction, kernelImage, out, R, type Script, type Vcpu } from "../../fake/guest.ts";
import { logLines } from "../../fake/log.ts";
import type { GuestExit } from "../../fake/vmx.ts";

const OTHER = { bytes: kernelImage(), string: "guest=other memory=4M" };
const COM1 = 0x3f8;
const CTRL_U = "\x15";
const CTRL_RIGHT_BRACKET = "\x1d";

type Stay = Generator<GuestExit, void, void>;

/** The guest computes; the core gets in when the chores of its idle loop are due. */
function* pass(cpu: Vcpu, interrupts = 3): Stay {
  for (let i = 0; i < interrupts; i++) yield cpu.stay.untilInterrupt();
}

function* type(cpu: Vcpu, ...lines: string[]): Stay {
  for (const line of lines) {
    cpu.terminal.type(`${line}\r`);
    yield* pass(cpu);
  }
}

/** `other`, VM 0, is there so that somebody computes while `test` does not. */
const both = (test: Script, other: Script): Script =>
  function* (cpu) {
    yield* cpu.vm === 0 ? other(cpu) : test(cpu);
  };

const operate = (...lines: string[]) =>
  guest(function* (cpu) {
    yield* type(cpu, ...lines);
  });

describe("commands", () => {
  // biome-ignore format: a table
  const COMMANDS: [line: string, wanted: RegExp][] = [
    ["help", /^help: poweroff +switches the machine off$/],
    ["vms", /^vms: test: live, vCPUs 1, ran ms \d+$/],
    ["memory", /^memory: test \d+ [KM]iB$/],
    ["map", /^memory: 000000100000 \.\. 000020000000 usable, 511 MiB$/],
    ["cpus", /^cpus: 0: APIC ID 0, online, tasks 1$/],
    ["irqs", /^irqs: 0x[0-9a-f]+: \d+$/],
    ["options", /^help: cpus = +\S/],
    ["time", /^time: up \d+ s, TSC at 2000000 kHz$/],
    ["exits test", /^monitor: no accounts are kept: boot with account=on$/],
    ["where test", /test.*: is here/],
    ["nonsense", /^monitor: no such command: try help$/],
    ["help me", /^help: help +this list$/],
    ["start test", /^guest: it has not ended$/],
    ["start nobody", /^guest: no boot module describes a guest of this name$/],
    ["start", /^monitor: no guest has such a name$/],
    [`start ${"n".repeat(33)}`, /^monitor: no guest has such a name$/],
    ["stop nobody", /^monitor: no live guest has this name: try vms$/],
    ["stop", /^monitor: no live guest has this name: try vms$/],
    ["stop tests", /^monitor: no live guest has this name: try vms$/],
    ["attach nobody", /^monitor: no live guest has this name: try vms$/],
    [`nonsense${CTRL_U}time`, /^time: up \d+ s/],
    ["timx\be", /^time: up \d+ s/],
    ["timx\x7fe", /^time: up \d+ s/],
    ["\b\btime", /^time: up \d+ s/],
    ["ti\tme\x01", /^time: up \d+ s/],
    [`time ${"x".repeat(300)}`, /^time: up \d+ s/],
  ];

  test("each does what its line of help says", async () => {
    const missing: string[] = [];
    await guest(function* (cpu) {
      for (const [line, wanted] of COMMANDS) {
        const before = logLines(cpu.m).length;
        yield* type(cpu, line);
        if (
          !logLines(cpu.m)
            .slice(before)
            .some((text) => wanted.test(text))
        )
          missing.push(line);
      }
    });
    expect(missing).toEqual([]);
  });

  test("help names every command once, and an empty line is none", async () => {
    const { log, serial } = await operate("help", "", "");
    const names = log.filter((line) => line.startsWith("help: ")).map((line) => line.split(" ")[1]);
    expect(names).toHaveLength(18);
    expect(new Set(names).size).toBe(18);
    expect(log.some((line) => line.startsWith("monitor: "))).toBe(false);
    expect(serial.match(/\r\nbasalt> /g)).toHaveLength(3);
  });

  test("what is typed is echoed, and rubbed out by backspace", async () => {
    const { serial } = await operate("tix\bme");
    expect(serial).toContain("tix\b \bme\r\n");
  });

  test("a UART whose interrupt never arrives is heard all the same", async () => {
    const { log } = await guest(
      function* (cpu) {
        yield* type(cpu, "time");
      },
      { ioapic: true },
    );
    expect(log.join("\n")).toContain("I/O APICs 1");
    expect(log.some((line) => line.startsWith("time: up"))).toBe(true);
  });

  test("monitor=off leaves the terminal to the log", async () => {
    const { log } = await guest(
      function* (cpu) {
        yield* type(cpu, "time");
      },
      { commandLine: "monitor=off" },
    );
    expect(log.some((line) => line.startsWith("time: up"))).toBe(false);
  });

  test.each(["reboot", "poweroff"])("%s ends the machine", async (command) => {
    const wrong = "the guest goes on";
    const run = guest(function* (cpu) {
      yield* type(cpu, command);
      throw new Error(wrong);
    });
    const outcome = await run.then(
      ({ log }) => log.join("\n"),
      (error: Error) => error.message,
    );
    expect(outcome).not.toContain(wrong);
    expect(outcome).toMatch(
      command === "reboot" ? /reset|CR3|page/i : /power: the firmware does not say how to power off/,
    );
  });
});

describe("accounts", () => {
  const accounts = (log: string[]) => log.filter((line) => line.startsWith("account: "));

  test("exits shows the guest's exits by reason, and its end shows them again", async () => {
    const { log } = await guest(
      function* (cpu) {
        for (let i = 0; i < 7; i++) yield { reason: EXIT.PAUSE, length: 2 };
        yield* type(cpu, "exits test");
        for (let i = 0; i < 5; i++) yield { reason: EXIT.PAUSE, length: 2 };
      },
      { commandLine: "account=on" },
    );
    const pauses = accounts(log).filter((line) => line.startsWith("account: test: exit 40: "));
    expect(pauses.map((line) => line.split(": ").at(-1))).toEqual(["7", "12"]);
    const [ticks, inside] = accounts(log)[0].match(/\d+/g)?.map(Number) ?? [];
    expect(inside).toBeGreaterThan(0);
    expect(inside).toBeLessThan(ticks);
  });

  test("a guest that starts again starts its accounts again", async () => {
    let starts = 0;
    const { log } = await guest(
      function* (cpu) {
        for (; starts < 2; starts++) {
          for (let i = 0; i < 4; i++) yield { reason: EXIT.PAUSE, length: 2 };
          cpu.set(R.RAX, 6);
          yield instruction(EXIT.IO, 1, { qualification: BigInt(0xcf9 << 16) });
        }
      },
      { commandLine: "account=on", words: "restart=on" },
    );
    const pauses = accounts(log).filter((line) => line.startsWith("account: test: exit 40: "));
    expect(pauses.map((line) => line.split(": ").at(-1))).toEqual(["4", "4"]);
  });
});

describe("a guest", () => {
  test("that is stopped ends as destroyed by the operator", async () => {
    const { log, ended } = await guest(
      both(
        function* (cpu) {
          yield* pass(cpu, 1000);
          expect.unreachable("the guest goes on");
        },
        function* (cpu) {
          yield* type(cpu, "stop test");
          for (let i = 0; i < 300; i++) yield { reason: EXIT.PAUSE, length: 2 };
          yield* type(cpu, "vms");
        },
      ),
      { modules: [OTHER] },
    );
    expect(ended).toContain("test ended: destroyed by the operator");
    expect(log.filter((line) => /^vms: (?!other: live)/.test(line))).toEqual([]);
  });

  test("that has ended is made again when the operator asks, with zeroed memory and no frame less", async () => {
    const found: bigint[] = [];
    const { log } = await guest(
      both(
        function* (cpu) {
          for (;;) {
            found.push(cpu.peek(0x30_0000));
            cpu.poke(0x30_0000, 0xdead_beefn);
            yield out(cpu, 0x604, 0x3400, 2);
          }
        },
        function* (cpu) {
          for (let i = 0; i < 4; i++) {
            yield* pass(cpu, 600); // its memory is scrubbed between turns
            yield* type(cpu, "memory", "start test");
          }
          yield* pass(cpu, 600);
          yield* type(cpu, "memory");
        },
      ),
      { modules: [OTHER] },
    );
    expect(found).toEqual([0n, 0n, 0n, 0n, 0n]);
    const free = log.filter((line) => line.startsWith("memory: free "));
    expect([free.length, new Set(free).size]).toEqual([5, 1]);
    expect(log.filter((line) => line.includes("test ended: powered off, code 0"))).toHaveLength(5);
    expect(log.some((line) => line.startsWith("guest: it has not ended"))).toBe(false);
  });

  test("that is paused does not run until it is resumed", async () => {
    let stays = 0;
    const { log } = await guest(
      both(
        function* (cpu) {
          for (; ; stays++) yield cpu.stay.untilInterrupt();
        },
        function* (cpu) {
          yield* type(cpu, "pause test");
          const before = stays;
          yield* type(cpu, "vms");
          yield* pass(cpu, 10);
          expect(stays).toBe(before);
          yield* type(cpu, "resume test");
          yield* pass(cpu, 10);
          expect(stays).toBeGreaterThan(before);
          yield* type(cpu, "pause test", "stop test");
        },
      ),
      { modules: [OTHER] },
    );
    expect(log.find((line) => line.startsWith("vms: test"))).toContain("paused, vCPUs 1");
    expect(log.some((line) => line.includes("test ended: destroyed by the operator"))).toBe(true);
  });

  test("that slept when it was paused sleeps on when it is resumed", async () => {
    let wakes = 0;
    await guest(
      both(
        function* (cpu) {
          yield out(cpu, 0x21, 0xff); // no tick
          cpu.write(0x6820, 0x202);
          yield { reason: EXIT.HLT, length: 1 };
          wakes++;
          yield { reason: EXIT.HLT, length: 1 };
        },
        function* (cpu) {
          yield* type(cpu, "pause test", "resume test", "vms");
          expect(wakes).toBe(0);
          yield* type(cpu, "stop test");
        },
      ),
      { modules: [OTHER] },
    );
  });

  test("whose second vCPU waits for its start-up IPI is resumed without starting it", async () => {
    let started = 0;
    await guest(
      both(
        function* (cpu) {
          yield* pass(cpu, 1000);
        },
        function* (cpu) {
          yield* type(cpu, "pause test", "resume test", "pause test", "resume test", "vms");
          expect(started).toBe(0);
          yield* type(cpu, "stop test");
        },
      ),
      {
        modules: [OTHER],
        others: [
          function* () {
            started++;
            yield { reason: EXIT.HLT, length: 1 };
          },
        ],
      },
    );
  });

  test("shows its terminal while it is attached, and gets what is typed", async () => {
    const heard: bigint[] = [];
    const { serial } = await guest(function* (cpu) {
      const print = function* (text: string): Stay {
        for (const code of Buffer.from(text)) {
          cpu.set(R.RAX, code);
          yield instruction(EXIT.IO, 1, { qualification: BigInt(COM1 << 16) });
        }
      };
      yield* type(cpu, "attach test");
      yield* print("hello from the guest");
      yield* pass(cpu, 10);
      cpu.terminal.type("k");
      yield* pass(cpu, 10);
      cpu.set(R.RAX, 0);
      yield instruction(EXIT.IO, 1, { qualification: BigInt((COM1 << 16) | 8) });
      heard.push(cpu.get(R.RAX) & 0xffn);
      cpu.terminal.type(CTRL_RIGHT_BRACKET);
      yield* pass(cpu);
      yield* type(cpu, "time");
    });
    expect(serial).toContain("attached; Ctrl-] comes back");
    expect(serial).toContain("hello from the guest");
    expect(heard).toEqual([BigInt("k".charCodeAt(0))]);
    expect(serial.slice(serial.indexOf("hello"))).toContain("basalt> time");
  });

  test("that ends while it is attached gives the terminal back", async () => {
    let attached = false;
    const { serial } = await guest(
      both(
        function* (cpu) {
          while (!attached) yield* pass(cpu);
        },
        function* (cpu) {
          yield* type(cpu, "attach test");
          attached = true;
          yield* pass(cpu, 20);
          yield* type(cpu, "time");
        },
      ),
      { modules: [OTHER] },
    );
    expect(serial).toMatch(/attached;[\s\S]*time: up/);
  });
});
