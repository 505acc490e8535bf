// Clocks that count in real time, for calibration: HPET, PM timer, and the 8254's channel 2. `skip`
// models an SMI: a read that takes long.

import type { Machine } from "../machine.ts";

/** Ticks of a clock of `hz` since reset. */
function counts(m: Machine, hz: number): number {
  return Math.floor((m.clock.ticks / (m.clock.tscKhz * 1000)) * hz);
}

export class FakeHpet {
  enabled = false;
  constructor(
    private readonly m: Machine,
    readonly periodFs = 10_000_000,
    readonly revision = 1,
  ) {}

  read(offset: number, bytes: number): number | bigint {
    if (offset === 0) return bytes === 8 ? (BigInt(this.periodFs) << 32n) | BigInt(this.revision) : this.revision;
    if (offset === 4) return this.periodFs;
    if (offset === 0x10) return this.enabled ? 1 : 0;
    if (offset === 0xf0) return this.enabled ? counts(this.m, 1e15 / this.periodFs) % 2 ** 32 : 0;
    return 0;
  }

  write(offset: number, _bytes: number, value: bigint): void {
    if (offset === 0x10) this.enabled = (value & 1n) !== 0n;
  }
}

export class FakePmTimer {
  /** Reads from now on until an SMI strikes, and how many ticks it takes. */
  smi: { after: number; ticks: number } | null = null;
  constructor(
    private readonly m: Machine,
    private readonly bits = 24,
  ) {}

  read(): number {
    if (this.smi && --this.smi.after < 0) {
      this.m.clock.advance(this.smi.ticks);
      this.smi = null;
    }
    return counts(this.m, 3_579_545) % 2 ** this.bits;
  }

  write(): void {}
}

/** Channel 2 with its gate at port 61H; attach at 40H (4 ports) and `gate` at 61H. */
export class FakePit {
  private start = 0;
  private latch: number | null = null;
  private high = false;
  private writeHigh = false;
  private initial = 0xffff;
  constructor(
    private readonly m: Machine,
    private readonly moves = true,
  ) {}

  read(offset: number): number {
    if (offset !== 2) return 0;
    const value = this.latch ?? this.current();
    this.high = !this.high;
    if (this.high) return value & 0xff;
    this.latch = null;
    return value >> 8;
  }

  write(offset: number, _bytes: number, value: number): void {
    if (offset === 3 && value >> 6 === 2) {
      this.high = false;
      if (((value >> 4) & 3) === 0) this.latch = this.current();
      else this.writeHigh = false;
      return;
    }
    if (offset !== 2) return;
    this.initial = this.writeHigh ? (this.initial & 0xff) | (value << 8) : (this.initial & 0xff00) | value;
    this.writeHigh = !this.writeHigh;
    this.start = counts(this.m, 1_193_182);
  }

  readonly gate = { read: () => 0, write: () => undefined };

  private current(): number {
    if (!this.moves) return this.initial;
    return (this.initial - (counts(this.m, 1_193_182) - this.start)) & 0xffff;
  }
}
