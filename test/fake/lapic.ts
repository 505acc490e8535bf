// The local APIC of one simulated CPU, as the machine's drivers see it: xAPIC registers in memory and
// x2APIC MSRs, priorities, interrupt commands, and the timer in its three modes.
// Intel SDM Vol. 3, "Advanced Programmable Interrupt Controller (APIC)".

import type { Cpu } from "./cpu.ts";
import { GeneralProtection, hex } from "./faults.ts";

export const enum Apic {
  ID = 0x20,
  VERSION = 0x30,
  TPR = 0x80,
  PPR = 0xa0,
  EOI = 0xb0,
  LDR = 0xd0,
  DFR = 0xe0,
  SVR = 0xf0,
  ISR = 0x100,
  TMR = 0x180,
  IRR = 0x200,
  ESR = 0x280,
  ICR = 0x300,
  ICR_HIGH = 0x310,
  LVT_TIMER = 0x320,
  LVT_ERROR = 0x370,
  INITIAL_COUNT = 0x380,
  CURRENT_COUNT = 0x390,
  DIVIDE = 0x3e0,
  SELF_IPI = 0x3f0,
}

const EN = 1n << 11n;
const EXTD = 1n << 10n;
const BSP = 1n << 8n;
const MASKED = 1 << 16;
/** The timer counts once in this many TSC ticks at divide 1. */
const TSC_PER_COUNT = 20;

export class Lapic {
  base: bigint;
  readonly isr = new Uint8Array(256);
  readonly irr = new Uint8Array(256);
  readonly tmr = new Uint8Array(256);
  private readonly registers = new Map<number, number>();
  private deadline = 0n;
  private cancelTimer: (() => void) | null = null;
  private started = 0;

  constructor(private readonly cpu: Cpu) {
    this.base = 0xfee0_0000n | EN | (cpu.index === 0 ? BSP : 0n);
    this.reset();
  }

  get enabled(): boolean {
    return (this.base & EN) !== 0n;
  }
  get x2apic(): boolean {
    return (this.base & EXTD) !== 0n;
  }

  /** The state after power-up or INIT; the mode and the ID stay. */
  reset(): void {
    this.registers.clear();
    for (const set of [this.isr, this.irr, this.tmr]) set.fill(0);
    for (const lvt of [0x2f0, 0x320, 0x330, 0x340, 0x350, 0x360, 0x370]) this.registers.set(lvt, MASKED);
    this.registers.set(Apic.SVR, 0xff);
    this.registers.set(Apic.DFR, 0xffff_ffff);
    this.stopTimer();
    this.deadline = 0n;
  }

  /** IA32_APIC_BASE. Intel SDM Vol. 3, "x2APIC State Transitions". */
  writeBase(value: bigint): void {
    const was = this.base & (EN | EXTD);
    const will = value & (EN | EXTD);
    const bad = will === EXTD || (was === (EN | EXTD) && will === EN) || (was === 0n && will === (EN | EXTD));
    if (bad || (value & 0xffn) !== 0n) throw new GeneralProtection(`IA32_APIC_BASE = ${hex(value)}`);
    if (will & EXTD && !this.cpu.feature(1, "ecx", 21)) throw new GeneralProtection("no x2APIC");
    this.base = (value & ~BSP) | (this.base & BSP);
    if (will === 0n) this.reset();
  }

  /** An interrupt arrives; vectors 0..15 are illegal. */
  accept(vector: number, level = false): void {
    if (vector < 16) throw new Error(`vector ${vector} sent to CPU ${this.cpu.index}`);
    this.irr[vector] = 1;
    this.tmr[vector] = level ? 1 : 0;
  }

  /** The vector that the CPU would take now, or -1. */
  pending(): number {
    if (!(this.reg(Apic.SVR) & 0x100)) return -1;
    const vector = this.irr.lastIndexOf(1);
    return vector >= 0 && vector >> 4 > this.ppr() >> 4 ? vector : -1;
  }

  /** The CPU takes `vector`. */
  acknowledge(vector: number): void {
    this.irr[vector] = 0;
    this.isr[vector] = 1;
  }

  read(offset: number): number {
    switch (offset) {
      case Apic.ID:
        return this.x2apic ? this.cpu.apicId : ((this.cpu.apicId & 0xff) << 24) >>> 0;
      case Apic.VERSION:
        return 0x0006_0015;
      case Apic.PPR:
        return this.ppr();
      case Apic.LDR:
        return this.x2apic ? (((this.cpu.apicId >>> 4) << 16) | (1 << (this.cpu.apicId & 15))) >>> 0 : this.reg(offset);
      case Apic.CURRENT_COUNT:
        return this.currentCount();
    }
    for (const [base, set] of [
      [Apic.ISR, this.isr],
      [Apic.TMR, this.tmr],
      [Apic.IRR, this.irr],
    ] as const) {
      if (offset >= base && offset < base + 0x80) return word(set, (offset - base) >> 4);
    }
    return this.reg(offset);
  }

  write(offset: number, value: number) {
    switch (offset) {
      case Apic.EOI:
        return this.eoi();
      case Apic.ICR:
        this.registers.set(offset, value & ~0x1000);
        return this.command(value, this.reg(Apic.ICR_HIGH) >>> 24);
      case Apic.INITIAL_COUNT:
        this.registers.set(offset, value);
        return this.startTimer();
      case Apic.SELF_IPI:
        return this.accept(value & 0xff);
      case Apic.LVT_TIMER:
        this.registers.set(offset, value);
        return this.timerMode() === 2 ? this.stopTimer() : undefined;
      case Apic.ESR:
        this.registers.set(offset, 0);
        return;
      case Apic.ID:
      case Apic.VERSION:
      case Apic.PPR:
      case Apic.CURRENT_COUNT:
        return;
    }
    this.registers.set(offset, value);
  }

  readMsr(msr: number): bigint {
    const offset = (msr - 0x800) << 4;
    this.checkX2apic(msr, offset);
    if (offset === Apic.EOI || offset === Apic.SELF_IPI) throw new GeneralProtection(`RDMSR ${hex(msr)}`);
    if (offset === Apic.ICR) return (BigInt(this.reg(Apic.ICR_HIGH)) << 32n) | BigInt(this.reg(Apic.ICR));
    return BigInt(this.read(offset) >>> 0);
  }

  writeMsr(msr: number, value: bigint) {
    const offset = (msr - 0x800) << 4;
    this.checkX2apic(msr, offset);
    const readOnly: number[] = [Apic.ID, Apic.VERSION, Apic.PPR, Apic.LDR, Apic.CURRENT_COUNT];
    if (readOnly.includes(offset) || (offset >= Apic.ISR && offset < Apic.ESR))
      throw new GeneralProtection(`WRMSR ${hex(msr)}`);
    if (offset === Apic.ICR) {
      this.registers.set(Apic.ICR, Number(value & 0xffff_ffffn));
      this.registers.set(Apic.ICR_HIGH, Number(value >> 32n));
      return this.command(Number(value & 0xffff_ffffn), Number(value >> 32n));
    }
    if (value >> 32n) throw new GeneralProtection(`WRMSR ${hex(msr)}: upper half`);
    if ((offset === Apic.EOI || offset === Apic.ESR) && value !== 0n)
      throw new GeneralProtection(`WRMSR ${hex(msr)} not 0`);
    this.write(offset, Number(value));
  }

  /** IA32_TSC_DEADLINE. */
  get tscDeadline(): bigint {
    return this.deadline;
  }
  set tscDeadline(value: bigint) {
    if (this.timerMode() !== 2) return;
    this.stopTimer();
    this.deadline = value;
    if (value === 0n) return;
    const delay = Number(value - BigInt(Math.floor(this.cpu.machine.clock.ticks)));
    this.cancelTimer = this.cpu.machine.clock.after(delay, () => {
      this.deadline = 0n;
      this.fireTimer();
    });
  }

  private checkX2apic(msr: number, offset: number): void {
    if (!this.x2apic) throw new GeneralProtection(`MSR ${hex(msr)} outside x2APIC mode`);
    if (offset > Apic.SELF_IPI || offset === Apic.DFR || offset === Apic.ICR_HIGH)
      throw new GeneralProtection(`MSR ${hex(msr)}`);
  }

  private reg(offset: number): number {
    return (this.registers.get(offset) ?? 0) >>> 0;
  }

  private ppr(): number {
    const serving = Math.max(0, this.isr.lastIndexOf(1));
    const tpr = this.reg(Apic.TPR);
    return tpr >> 4 >= serving >> 4 ? tpr : serving & 0xf0;
  }

  private eoi(): void {
    const vector = this.isr.lastIndexOf(1);
    if (vector < 0) return;
    this.isr[vector] = 0;
    if (this.tmr[vector]) this.cpu.machine.onEoi(vector);
  }

  /** Intel SDM Vol. 3, "Interrupt Command Register (ICR)". */
  private command(low: number, destination: number): void {
    const shorthand = (low >> 18) & 3;
    for (const target of this.cpu.machine.cpus) {
      if (!this.isTarget(target, shorthand, (low >> 11) & 1, destination)) continue;
      this.deliver(target, (low >> 8) & 7, low);
    }
  }

  private deliver(target: Cpu, mode: number, low: number): void {
    const vector = low & 0xff;
    if (mode === 0 || mode === 1) target.lapic.accept(vector);
    else if (mode === 4) target.pendingNmi = true;
    else if (mode === 5 && !(low & 0x8000 && !(low & 0x4000))) target.init();
    else if (mode === 6) target.startup(vector);
  }

  private isTarget(target: Cpu, shorthand: number, logical: number, destination: number): boolean {
    if (shorthand === 1) return target === this.cpu;
    if (shorthand === 2) return true;
    if (shorthand === 3) return target !== this.cpu;
    if (destination === (this.x2apic ? 0xffff_ffff : 0xff)) return true;
    if (!logical) return target.apicId === destination;
    const ldr = target.lapic.read(Apic.LDR);
    if (this.x2apic) return ldr >>> 16 === destination >>> 16 && (ldr & destination & 0xffff) !== 0;
    return ((ldr >>> 24) & destination) !== 0;
  }

  // ---- The timer

  private timerMode(): number {
    return (this.reg(Apic.LVT_TIMER) >> 17) & 3;
  }

  private divide(): number {
    const code = this.reg(Apic.DIVIDE);
    const shift = ((code & 3) | ((code >> 1) & 4)) + 1;
    return shift === 8 ? 1 : 1 << shift;
  }

  private startTimer(): void {
    this.stopTimer();
    const count = this.reg(Apic.INITIAL_COUNT);
    if (count === 0 || this.timerMode() === 2) return;
    this.started = this.cpu.machine.clock.ticks;
    this.cancelTimer = this.cpu.machine.clock.after(count * this.divide() * TSC_PER_COUNT, () => {
      this.cancelTimer = null;
      this.fireTimer();
      if (this.timerMode() === 1) this.startTimer();
    });
  }

  private stopTimer(): void {
    this.cancelTimer?.();
    this.cancelTimer = null;
  }

  private fireTimer(): void {
    const lvt = this.reg(Apic.LVT_TIMER);
    if (!(lvt & MASKED)) this.accept(lvt & 0xff);
  }

  private currentCount(): number {
    if (!this.cancelTimer || this.timerMode() === 2) return 0;
    const passed = Math.floor((this.cpu.machine.clock.ticks - this.started) / (this.divide() * TSC_PER_COUNT));
    return Math.max(0, this.reg(Apic.INITIAL_COUNT) - passed);
  }
}

function word(set: Uint8Array, index: number): number {
  let value = 0;
  for (let i = 0; i < 32; i++) if (set[32 * index + i]) value |= 1 << i;
  return value >>> 0;
}
