// How the machine ends, and what happens when the core faults.

import { describe, expect, test } from "vitest";
import { FakeUart } from "../../fake/devices/uart.ts";
import { Halted, Unwound } from "../../fake/faults.ts";
import { struct } from "../../fake/layout.ts";
import { logLines } from "../../fake/log.ts";
import { type Board, type BoardOptions, board } from "./board.ts";

const FRAME = 0x30_1000;

/** Ends of a machine, as errors that leave the core. */
class Ended extends Error {}

async function ending(options: BoardOptions = {}) {
  const b = await board(options);
  const writes: [number, number][] = [];
  const watch = (base: number, count: number, hit?: (port: number, value: number) => void) =>
    b.m.ports.attach(base, count, {
      read: () => 0,
      write: (offset, _bytes, value) => {
        writes.push([base + offset, value]);
        hit?.(base + offset, value);
      },
    });
  const uart = new FakeUart(b.m.clock);
  b.m.ports.attach(0x3f8, 8, uart);
  b.k.openConsole();
  b.k.setKhz(2_000_000n);
  return { ...b, writes, watch, uart };
}

const stop = () => {
  throw new Ended();
};

describe("reset", () => {
  test("by the register that the FADT names", async () => {
    const { k, platform, watch, writes } = await ending();
    Object.assign(platform, { resetSpace: 1, resetAddress: 0xcf9n, resetValue: 0x0e });
    watch(0xcf9, 1, stop);
    expect(() => k.reboot()).toThrow(Ended);
    expect(writes).toEqual([[0xcf9, 0x0e]]);
  });

  test("else by the keyboard controller, else by port CF9H", async () => {
    const { k, watch, writes } = await ending();
    watch(0x64, 1);
    watch(0xcf9, 1, (_port, value) => value === 6 && stop());
    expect(() => k.reboot()).toThrow(Ended);
    expect(writes).toEqual([
      [0x64, 0xfe],
      [0xcf9, 2],
      [0xcf9, 6],
    ]);
  });

  test("else by a fault that cannot be delivered", async () => {
    const { k, m } = await ending();
    expect(() => k.reboot()).toThrow();
    expect(m.current.cr3).toBe(0xffff_f000n);
  });
});

describe("power-off", () => {
  async function withS5(
    b: Board & { watch: (base: number, count: number, hit?: (p: number, v: number) => void) => void },
  ) {
    const aml = [0x08, 0x5f, 0x53, 0x35, 0x5f, 0x12, 0x06, 0x04, 0x0a, 0x05, 0x0a, 0x03, 0x00, 0x00, 0, 0, 0, 0];
    const at = 0x1fff_0000;
    b.m.ram.load(at, Buffer.concat([Buffer.alloc(36), Buffer.from(aml)]));
    expect(b.k.mapFirmware(BigInt(at), 0x1000n)).toBe(0);
    Object.assign(b.platform, { dsdt: BigInt(at), dsdtBytes: 36 + aml.length });
  }

  test("writes the DSDT's sleep types with SLP_EN to both PM1 control registers", async () => {
    const b = await ending();
    await withS5(b);
    Object.assign(b.platform, { pm1aControl: 0x604, pm1bControl: 0x704 });
    b.watch(0x604, 2);
    b.watch(0x704, 2, stop);
    expect(() => b.k.powerOff()).toThrow(Ended);
    expect(b.writes).toEqual([
      [0x604, 0x3400],
      [0x704, 0x2c00],
    ]);
  });

  test("first takes the registers over from the firmware, if it still has them", async () => {
    const b = await ending();
    await withS5(b);
    Object.assign(b.platform, { pm1aControl: 0x604, smiCommand: 0xb2, acpiEnable: 0xa1 });
    let enabled = 0;
    b.m.ports.attach(0x604, 2, {
      read: () => enabled,
      write: (_o, _b, value) => {
        b.writes.push([0x604, value]);
        stop();
      },
    });
    b.watch(0xb2, 1, () => {
      enabled = 1;
    });
    expect(() => b.k.powerOff()).toThrow(Ended);
    expect(b.writes).toEqual([
      [0xb2, 0xa1],
      [0x604, 0x3401],
    ]);
  });

  test("halts with a warning where the firmware does not say how", async () => {
    const { k, m } = await ending();
    expect(() => k.powerOff()).toThrow(Halted);
    expect(logLines(m).at(-1)).toBe("power: the firmware does not say how to power off");
  });
});

describe("the end of the run", () => {
  test.each([
    [0, "success", 0],
    [1, "failure", 1],
    [2, "panic", 2],
  ])("outcome %i is announced as %s and reaches QEMU's exit device", async (outcome, name, value) => {
    const { k, m, watch, writes, uart } = await ending({ commandLine: "exit=qemu" });
    watch(0xf4, 4, stop);
    expect(() => k.finish(outcome)).toThrow(Ended);
    expect(writes).toEqual([[0xf4, value]]);
    expect(logLines(m).at(-1)).toBe(`power: ended: ${name}`);
    expect(uart.text).toContain(`power: ended: ${name}\r\n`); // all of it has left before the end
  });

  test("exit=bochs writes Bochs' word, panic= decides for a panic, and otherwise the machine halts", async () => {
    const bochs = await ending({ commandLine: "exit=bochs" });
    bochs.watch(0x8900, 1);
    expect(() => bochs.k.finish(0)).toThrow(Halted);
    expect(String.fromCharCode(...bochs.writes.map(([, v]) => v))).toBe("Shutdown");
    const panic = await ending({ commandLine: "exit=qemu panic=reboot" });
    panic.watch(0x64, 1, stop);
    expect(() => panic.k.finish(2)).toThrow(Ended);
    expect(panic.writes).toEqual([[0x64, 0xfe]]);
    const none = await ending();
    expect(() => none.k.finish(0)).toThrow(Halted);
    expect(logLines(none.m).at(-1)).toBe("power: the machine halts here");
  });
});

describe("a fault", () => {
  const frame = (b: Board, fields: Record<string, bigint>) =>
    Object.assign(struct(b.m, "kernel/cpu/trapframe.ts", "TrapFrame", FRAME), fields);

  test("is reported, stops the other CPUs by NMI, and ends the machine", async () => {
    const b = await ending({ cpus: 2 });
    b.k.startLapic();
    b.platform.cpuCount = 2;
    frame(b, { vector: 13n, error: 0n, rip: 0n });
    expect(() => b.k.onException(FRAME)).toThrow(Halted);
    expect(b.m.cpus[1].pendingNmi).toBe(true);
    expect(b.uart.text).toContain("fault: #GP general protection on CPU 0");
    expect(b.uart.text).toContain("ended: panic");
  });

  test("of a second CPU at the same time leaves the end to the first", async () => {
    const b = await ending({ cpus: 2 });
    b.m.view.setUint32(Number(b.m.percpu(1)) + 4, 1, true);
    frame(b, { vector: 6n, rip: 0n });
    expect(() => b.k.onException(FRAME)).toThrow(Halted);
    const before = logLines(b.m).length;
    expect(() => b.m.on(1, () => b.k.onNmi(FRAME))).toThrow(Halted);
    expect(logLines(b.m)).toHaveLength(before);
  });

  test("while one is being reported says so and stops; a third one just stops", async () => {
    const b = await ending();
    const area = struct(b.m, "kernel/cpu/trap.ts", "FaultArea", Number(b.m.percpu(0)) + 0x3800);
    area.depth = 1;
    frame(b, { vector: 14n, rip: 0n });
    expect(() => b.k.onException(FRAME)).toThrow(Halted);
    expect(logLines(b.m)).toContain("fault: another fault while the first one was reported");
    const again = await ending();
    struct(again.m, "kernel/cpu/trap.ts", "FaultArea", Number(again.m.percpu(0)) + 0x3800).depth = 2;
    const before = logLines(again.m).length;
    expect(() => again.k.onException(FRAME)).toThrow(Halted);
    expect(logLines(again.m)).toHaveLength(before);
  });

  test("on behalf of a guest unwinds with its kind; a double fault never does", async () => {
    const b = await ending();
    b.k.contain(1);
    frame(b, { vector: 14n, rip: 0n });
    let kind = -1;
    try {
      b.k.onException(FRAME);
    } catch (error) {
      expect(error).toBeInstanceOf(Unwound);
      kind = (error as Unwound).kind;
    }
    expect(kind).toBe(0x10e);
    frame(b, { vector: 8n, rip: 0n });
    expect(() => b.k.onException(FRAME)).toThrow(Halted);
  });

  test("NMI and #MC log nothing when they strike; a #MC that cannot go on unwinds", async () => {
    const b = await ending({ msrs: { 378: 5n } });
    const before = logLines(b.m).length;
    b.k.onNmi(FRAME);
    b.k.onMachineCheck(FRAME);
    expect(logLines(b.m)).toHaveLength(before);
    b.k.reportNoted();
    expect(logLines(b.m).join("\n")).toMatch(/NMI on CPU 0[\s\S]*machine check on CPU 0, IA32_MCG_STATUS 0x5/);
    const lost = await ending({ msrs: { 378: 4n } });
    expect(() => lost.k.onMachineCheck(FRAME)).toThrow(Unwound);
  });

  test("inject= commits the faults asked of this CPU, by name", async () => {
    const b = await ending({ commandLine: "inject=div inject=nmi,cpu=2 inject=nonsense inject=null,cpu=3" });
    const faults: number[] = [];
    b.m.injectFault = (which) => void faults.push(which);
    b.k.injectAsked(0);
    expect(faults).toEqual([4]);
    expect(logLines(b.m).at(-1)).toBe("fault: inject= names a fault that does not exist");
    b.k.injectAsked(2);
    b.k.injectAsked(3);
    b.k.injectAsked(1);
    expect(faults).toEqual([4, 7, 0]);
  });
});
