// Faults committed on purpose, on any CPU: each is caught, and reported with the TypeScript line that led there.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { ROOT } from "../../tools/paths.ts";
import { LONG, run } from "./harness.ts";

/** The line of the call of injectFault: what every backtrace has to show. */
const SOURCE = "drivers/fault.ts";
const CALL_LINE =
  readFileSync(join(ROOT, SOURCE), "utf8")
    .split("\n")
    .findIndex((line) => /^\s*injectFault\(/.test(line)) + 1;

interface Fault {
  name: string;
  /** The head of the report. */
  head: RegExp;
  /** The faulting instruction is not in boot/inject.asm (it jumped away). */
  elsewhere?: boolean;
  /** No way back: #DF gives up the stack. */
  noTrace?: boolean;
}

const FAULTS: Fault[] = [
  { name: "null", head: /#PF page fault on CPU N, error code 0x0: read of 0x0$/ },
  { name: "stack", head: /#PF page fault on CPU N, error code 0x2: stack overflow at 0xffffffffc0[0-9a-f]+$/ },
  { name: "text", head: /#PF page fault on CPU N, error code 0x3: write to 0xffffffff801[0-9a-f]+/ },
  { name: "data", head: /#PF page fault on CPU N, error code 0x11: execution of 0x4[0-9a-f]+$/, elsewhere: true },
  { name: "div", head: /#DE divide error on CPU N, error code 0x0$/ },
  { name: "window", head: /#PF page fault on CPU N, error code 0x0: read of 0xfffffff8$/ },
  { name: "df", head: /#DF double fault on CPU N, error code 0x0$/, noTrace: true },
  { name: "ud", head: /#UD invalid opcode on CPU N, error code 0x0/ },
  { name: "gp", head: /#GP general protection on CPU N, error code 0x0$/ },
  { name: "rodata", head: /#PF page fault on CPU N, error code 0x3: write to 0xffffffff801[0-9a-f]+/ },
];

async function inject(what: string, cpu: number, more = ""): Promise<{ serial: string; exit: string }> {
  const append = `exit=qemu inject=${what}${cpu ? `,cpu=${cpu}` : ""} ${more}`;
  return run({ on: "qemu", chipset: "q35", cpus: 2, append, timeoutSeconds: 60 });
}

function lines(serial: string): string[] {
  return serial.split("\n").flatMap((line) => /\] (?:ERROR |WARN )?fault: (.*)$/.exec(line)?.[1] ?? []);
}

describe("a fault on purpose", () => {
  test("has its call in the source", () => expect(CALL_LINE).toBeGreaterThan(0));

  for (const cpu of [0, 1])
    for (const fault of FAULTS)
      test.skipIf(cpu === 1 && !LONG && !["null", "stack", "df"].includes(fault.name))(
        `${fault.name} on CPU ${cpu} is reported with its line, and stops the host`,
        async () => {
          const { serial, exit } = await inject(fault.name, cpu);
          expect(exit, serial).toBe("panic");
          const report = lines(serial);
          expect(report[0]).toMatch(new RegExp(fault.head.source.replace("CPU N", `CPU ${cpu}`)));
          expect(report.filter((line) => line.startsWith("rip "))).toHaveLength(1);
          expect(report.find((line) => /^build [0-9a-f]{32}$/.test(line))).toBeDefined();
          if (fault.noTrace) return;
          const trace = report.filter((line) => line.startsWith("at 0x"));
          if (!fault.elsewhere) expect(trace[0]).toContain("boot/inject.asm");
          expect(trace.join("\n")).toContain(`(${SOURCE}:${CALL_LINE})`);
          // Down to the entry point of that CPU.
          expect(trace.join("\n")).toMatch(cpu === 0 ? /kmain/ : /apmain/);
        },
      );

  test("an NMI is noted with its line, and the machine goes on", async () => {
    const { serial, exit } = await run({
      on: "qemu",
      cpus: 2,
      append: "inject=nmi",
      until: /fault: NMI on CPU 0[\s\S]*vmx: /,
      timeoutSeconds: 60,
    });
    expect(exit, serial).toBe("stopped");
    expect(serial).toMatch(/NMI on CPU 0/);
  });

  test("panic=reboot restarts the machine after the report", async () => {
    const { serial } = await run({
      on: "qemu",
      append: "inject=null panic=reboot",
      timeoutSeconds: 60,
      until: /power: reset/,
    });
    expect(serial).toMatch(/power: ended: panic[\s\S]*power: reset/);
  });

  test("panic=halt leaves the machine at its log", async () => {
    const { serial, exit } = await run({ on: "qemu", append: "inject=null panic=halt", timeoutSeconds: 60 });
    expect(exit).toBe("panic");
    expect(serial).toContain("the machine halts here");
    expect(serial.match(/basalt: a hypervisor/g)).toHaveLength(1);
  });
});
