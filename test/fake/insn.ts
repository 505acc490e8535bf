// The intrinsics of kernel/cpu/insn.ts on the simulated machine: one function each, under the same
// name. Arguments arrive as unsigned numbers (u32, usize) and bigints (u64): machine.ts wraps them.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./compile.ts";
import {
  type Access,
  CpuException,
  DivideError,
  GeneralProtection,
  Halted,
  hex,
  PageFault,
  UndefinedOpcode,
  Unwound,
} from "./faults.ts";
import { imageBoundary } from "./image.ts";
import type { Machine } from "./machine.ts";
import { readView, writeView } from "./memory.ts";
import { vmxIntrinsics } from "./vmx.ts";

const TABLE_WINDOW = 0xffff_b000_0000_0000n;
const DEVICE_WINDOW = 0xffff_c000_0000_0000n;
const GUEST_WINDOW = 0xffff_8000_0000_0000n;
const WINDOW_BYTES = { table: 0x1000_0000_0000n, device: 0x3f00_0000_0000n, guest: 0x3000_0000_0000n };
const OSXSAVE = 1n << 18n;

type Window = "table" | "device" | "guest";

export type Intrinsic = (...args: never[]) => unknown;

export function intrinsics(m: Machine): Record<string, Intrinsic> {
  const now = () => m.current;
  const view = () => new DataView(m.memory.buffer);

  /** The physical address behind `address` in a window; faults as the access would. */
  function reach(window: Window, address: bigint, access: Access): number {
    const base = window === "table" ? TABLE_WINDOW : window === "device" ? DEVICE_WINDOW : GUEST_WINDOW;
    const va = BigInt.asUintN(64, base + address);
    if (address >= WINDOW_BYTES[window]) throw new PageFault(va, access, "not present");
    return m.reach(window, address, va, access);
  }

  const load = (window: Window, bytes: number) => (address: bigint) => {
    const value = loadCrossing(window, address, bytes);
    return bytes === 8 ? value : Number(value);
  };
  function loadCrossing(window: Window, address: bigint, bytes: number): bigint {
    if (Number(address & 4095n) + bytes <= 4096) return m.ram.read(reach(window, address, "read"), bytes);
    let value = 0n;
    for (let i = bytes - 1; i >= 0; i--)
      value = (value << 8n) | m.ram.read(reach(window, address + BigInt(i), "read"), 1);
    return value;
  }
  const store = (window: Window, bytes: number) => (address: bigint, value: bigint | number) => {
    const v = BigInt(value);
    if (Number(address & 4095n) + bytes <= 4096) return m.ram.write(reach(window, address, "write"), bytes, v);
    const targets = Array.from({ length: bytes }, (_, i) => reach(window, address + BigInt(i), "write"));
    for (const [i, pa] of targets.entries()) m.ram.write(pa, 1, (v >> BigInt(8 * i)) & 0xffn);
  };
  const cas =
    (window: Window, bytes: number) => (address: bigint, expected: bigint | number, replacement: bigint | number) => {
      const pa = reach(window, address, "write");
      const old = m.ram.read(pa, bytes);
      if (old === BigInt.asUintN(8 * bytes, BigInt(expected))) m.ram.write(pa, bytes, BigInt(replacement));
      return bytes === 8 ? old : Number(old);
    };
  /** Calls `each(pa, done, count)` for every page that `bytes` at `address` touch. */
  function pages(
    window: Window,
    address: bigint,
    bytes: number,
    access: Access,
    each: (pa: number, done: number, count: number) => void,
  ): void {
    for (let done = 0; done < bytes; ) {
      const at = address + BigInt(done);
      const count = Math.min(bytes - done, 4096 - Number(at & 4095n));
      each(reach(window, at, access), done, count);
      done += count;
    }
  }
  /** REP MOVSB between linear memory and a window, page by page: what was copied before a fault stays. */
  const readInto = (window: Window) => (ptr: number, address: bigint, bytes: number) => {
    m.checkLinear(ptr, bytes);
    pages(window, address, bytes, "read", (pa, done, count) =>
      new Uint8Array(m.memory.buffer).set(m.ram.dump(pa, count), ptr + done),
    );
  };

  function fault(kind: "rdmsr" | "wrmsr", action: () => void): number {
    try {
      action();
      return 1;
    } catch (error) {
      if (error instanceof GeneralProtection) return 0;
      throw error instanceof CpuException ? error : new Error(`${kind}: ${error}`, { cause: error });
    }
  }

  const xcr0Mask = (mask: bigint) => mask & now().xcr0;
  const readDr = (n: number) => () => now().dr[n];
  const writeDr = (n: number) => (value: bigint) => {
    if (n >= 6 && value >> 32n) throw new GeneralProtection(`DR${n} = ${hex(value)}`);
    now().dr[n] = value;
  };

  const table = {
    cpuid(leaf: number, subleaf: number, out: number) {
      m.checkLinear(out, 16);
      const registers = now().cpuid(leaf, subleaf);
      for (const [i, r] of registers.entries()) view().setUint32(out + 4 * i, r, true);
    },
    rdmsr: (msr: number) => now().rdmsr(msr),
    wrmsr: (msr: number, value: bigint) => now().wrmsr(msr, value),
    rdmsrSafe: (msr: number, out: number) => fault("rdmsr", () => view().setBigUint64(out, now().rdmsr(msr), true)),
    wrmsrSafe: (msr: number, value: bigint) => fault("wrmsr", () => now().wrmsr(msr, value)),
    readCr0: () => now().cr0,
    writeCr0: (value: bigint) => now().writeCr0(value),
    readCr2: () => now().cr2,
    writeCr2(value: bigint) {
      now().cr2 = value;
    },
    readCr3: () => now().cr3,
    writeCr3: (value: bigint) => now().writeCr3(value),
    readCr4: () => now().cr4,
    writeCr4: (value: bigint) => now().writeCr4(value),
    readDr0: readDr(0),
    readDr1: readDr(1),
    readDr2: readDr(2),
    readDr3: readDr(3),
    readDr6: readDr(6),
    readDr7: readDr(7),
    writeDr0: writeDr(0),
    writeDr1: writeDr(1),
    writeDr2: writeDr(2),
    writeDr3: writeDr(3),
    writeDr6: writeDr(6),
    writeDr7: writeDr(7),
    xgetbv(index: number) {
      if (!(now().cr4 & OSXSAVE)) throw new UndefinedOpcode("XGETBV without CR4.OSXSAVE");
      if (index !== 0) throw new GeneralProtection(`XGETBV ${index}`);
      return now().xcr0;
    },
    xsetbv(index: number, value: bigint) {
      if (!(now().cr4 & OSXSAVE)) throw new UndefinedOpcode("XSETBV without CR4.OSXSAVE");
      now().xsetbv(index, value);
    },
    readFlags: () => 2n | (now().interruptsEnabled ? 0x200n : 0n),

    rdtsc: () => now().tsc,
    rdtscOrdered: () => now().tsc,
    rdrand(out: number) {
      if (!now().feature(1, "ecx", 30)) throw new UndefinedOpcode("RDRAND");
      view().setBigUint64(out, m.random(), true);
      return 1;
    },

    in8: (port: number) => m.ports.read(port & 0xffff, 1),
    in16: (port: number) => m.ports.read(port & 0xffff, 2),
    in32: (port: number) => m.ports.read(port & 0xffff, 4),
    out8: (port: number, value: number) => m.ports.write(port & 0xffff, 1, value),
    out16: (port: number, value: number) => m.ports.write(port & 0xffff, 2, value),
    out32: (port: number, value: number) => m.ports.write(port & 0xffff, 4, value),

    pause: () => m.pause(),
    hlt: () => m.hlt(),
    idle: () => m.idle(),
    takeInterrupts: () => m.takeInterrupts(),
    raiseNmi: () => m.raise("onNmi"),
    raiseMachineCheck: () => m.raise("onMachineCheck"),
    cli() {
      now().interruptsEnabled = false;
    },
    sti() {
      now().interruptsEnabled = true;
      m.takePending();
    },
    mfence: () => undefined,
    lfence: () => undefined,
    sfence: () => undefined,
    barrier: () => undefined,

    invlpg: (va: bigint) => now().tlb.invalidatePage(now().pagingMode.tag, va),
    wbinvd: () => undefined,
    clflush: (ptr: number) => m.checkLinear(ptr, 1),
    verw: () => undefined,
    fillRsb: () => undefined,

    loadDescriptors: (gdt: bigint, gdtLimit: number, idt: bigint, idtLimit: number, tr: number) =>
      m.loadDescriptors({ gdt, gdtLimit, idt, idtLimit, tr }),
    cpuBlock: () => view().getUint32(Number(now().gsBase), true),
    imageload64: (va: bigint) => m.imageload64(va),
    imageStart: () => BigInt(m.image.start),
    imageEnd: () => BigInt(m.image.end),
    imageBoundary: (which: number) => imageBoundary(m.image, which),
    halt() {
      now().state = "halted";
      throw new Halted(now().index);
    },
    unwind(kind: number) {
      throw new Unwound(kind);
    },
    injectFault: (which: number) => m.injectFault(which),

    tableload8: load("table", 1),
    tableload32: load("table", 4),
    tableload64: load("table", 8),
    tablestore8: store("table", 1),
    tablestore32: store("table", 4),
    tablestore64: store("table", 8),
    tablecas64: cas("table", 8),
    tablefill64(pa: bigint, value: bigint, count: bigint) {
      for (let i = 0n; i < count; i++) m.ram.write(reach("table", pa + 8n * i, "write"), 8, value);
    },

    guestload8: load("guest", 1),
    guestload16: load("guest", 2),
    guestload32: load("guest", 4),
    guestload64: load("guest", 8),
    gueststore8: store("guest", 1),
    gueststore16: store("guest", 2),
    gueststore32: store("guest", 4),
    gueststore64: store("guest", 8),
    guestcas8: cas("guest", 1),
    guestcas16: cas("guest", 2),
    guestcas32: cas("guest", 4),
    guestcas64: cas("guest", 8),
    guestread: readInto("guest"),
    guestwrite(gpa: bigint, ptr: number, bytes: number) {
      m.checkLinear(ptr, bytes);
      pages("guest", gpa, bytes, "write", (pa, done, count) =>
        m.ram.load(pa, new Uint8Array(m.memory.buffer, ptr + done, count).slice()),
      );
    },
    guestfill: (gpa: bigint, byte: number, bytes: bigint) =>
      pages("guest", gpa, Number(bytes), "write", (pa, _done, count) => m.ram.fill(pa, byte & 0xff, count)),

    deviceload8: load("device", 1),
    deviceload16: load("device", 2),
    deviceload32: load("device", 4),
    deviceload64: load("device", 8),
    devicestore8: store("device", 1),
    devicestore16: store("device", 2),
    devicestore32: store("device", 4),
    devicestore64: store("device", 8),
    deviceread: readInto("device"),
    guestcopyfromdevice(gpa: bigint, pa: bigint, bytes: bigint) {
      pages("device", pa, Number(bytes), "read", (source, done, count) => {
        const data = m.ram.dump(source, count);
        pages("guest", gpa + BigInt(done), count, "write", (target, at, n) =>
          m.ram.load(target, data.subarray(at, at + n)),
        );
      });
    },

    umulh: (a: bigint, b: bigint) => (a * b) >> 64n,
    udiv128(high: bigint, low: bigint, divisor: bigint) {
      if (high >= divisor) throw new DivideError(`udiv128: ${hex(high)} >= ${hex(divisor)}`);
      return ((high << 64n) | low) / divisor;
    },

    xsave(ptr: number, mask: bigint) {
      if (!(now().cr4 & OSXSAVE)) throw new UndefinedOpcode("XSAVE without CR4.OSXSAVE");
      if (ptr & 63) throw new GeneralProtection("XSAVE area is not 64-byte aligned");
      saveState(ptr, xcr0Mask(mask));
    },
    xsavec(ptr: number, mask: bigint) {
      if (!(now().cr4 & OSXSAVE) || !((now().profile.cpuid["d.1"]?.[0] ?? 0) & 2)) throw new UndefinedOpcode("XSAVEC");
      if (ptr & 63) throw new GeneralProtection("XSAVEC area is not 64-byte aligned");
      saveCompacted(ptr, xcr0Mask(mask));
    },
    xrstor(ptr: number, mask: bigint) {
      if (!(now().cr4 & OSXSAVE)) throw new UndefinedOpcode("XRSTOR without CR4.OSXSAVE");
      if (ptr & 63) throw new GeneralProtection("XRSTOR area is not 64-byte aligned");
      if (view().getBigUint64(ptr + 520, true))
        throw new GeneralProtection("XRSTOR: only the standard form is modelled");
      const present = view().getBigUint64(ptr + 512, true);
      if (present & ~now().xcr0) throw new GeneralProtection(`XSTATE_BV ${hex(present)} beyond XCR0`);
      for (const [bit, offset, bytes] of components(xcr0Mask(mask))) {
        const target = now().fpu.subarray(offset, offset + bytes);
        if (present & bit) target.set(new Uint8Array(m.memory.buffer, ptr + offset, bytes));
        else target.fill(0);
      }
    },
    fxsave(ptr: number) {
      if (ptr & 15) throw new GeneralProtection("FXSAVE area is not 16-byte aligned");
      new Uint8Array(m.memory.buffer).set(now().fpu.subarray(0, 512), ptr);
    },
    fxrstor(ptr: number) {
      if (ptr & 15) throw new GeneralProtection("FXRSTOR area is not 16-byte aligned");
      now().fpu.set(new Uint8Array(m.memory.buffer, ptr, 512));
    },
    clts() {
      now().cr0 &= ~8n;
    },

    ...vmxIntrinsics(m),
  };

  /** Bit, offset and bytes in the standard form. x87 and SSE share the legacy area. */
  function components(mask: bigint): [bigint, number, number][] {
    const list: [bigint, number, number][] = [];
    if (mask & 1n) list.push([1n, 0, 24], [1n, 32, 128]);
    if (mask & 2n) list.push([2n, 24, 8], [2n, 160, 256]);
    for (let i = 2; i < 63; i++) {
      const leaf = now().profile.cpuid[`d.${i.toString(16)}`];
      if (leaf && mask & (1n << BigInt(i))) list.push([1n << BigInt(i), leaf[1], leaf[0]]);
    }
    return list;
  }

  function saveState(ptr: number, mask: bigint): void {
    for (const [, offset, bytes] of components(mask)) {
      new Uint8Array(m.memory.buffer).set(now().fpu.subarray(offset, offset + bytes), ptr + offset);
    }
    const old = view().getBigUint64(ptr + 512, true);
    view().setBigUint64(ptr + 512, (old & ~mask) | mask, true);
  }

  /** Components in use, one behind the other; each that is asked for has its place. */
  function saveCompacted(ptr: number, mask: bigint): void {
    const { fpu, profile } = now();
    let present = 0n;
    let next = profile.compactedFrom ?? 576;
    for (const [bit, offset, bytes] of components(mask)) {
      const state = fpu.subarray(offset, offset + bytes);
      const inUse = bit <= 2n || state.some((byte) => byte !== 0);
      if (inUse) present |= bit;
      if (inUse) new Uint8Array(m.memory.buffer).set(state, bit <= 2n ? ptr + offset : ptr + next);
      if (bit > 2n) next += bytes;
    }
    view().setBigUint64(ptr + 512, present, true);
    view().setBigUint64(ptr + 520, mask | (1n << 63n), true);
  }

  return table as unknown as Record<string, Intrinsic>;
}

export interface Declaration {
  name: string;
  params: string[];
  result: string;
}

/** What kernel/cpu/insn.ts declares. */
export function declarations(): Declaration[] {
  const text = readFileSync(join(ROOT, "kernel/cpu/insn.ts"), "utf8");
  return [...text.matchAll(/^export declare function (\w+)\(([^)]*)\): (\w+);/gm)].map(([, name, params, result]) => ({
    name,
    params: params
      .split(",")
      .filter((p) => p.trim())
      .map((p) => p.split(":")[1].trim()),
    result,
  }));
}

export { readView, writeView };
