// An I/O APIC: redirection table behind an index and a data register, 32-bit accesses only.
// "82093AA I/O Advanced Programmable Interrupt Controller", Intel.

import type { Machine } from "../machine.ts";

export class FakeIoapic {
  readonly redirections: bigint[];
  private index = 0;

  constructor(
    private readonly m: Machine,
    inputs = 24,
  ) {
    this.redirections = Array.from({ length: inputs }, () => 0x1_0000n);
  }

  /** What input `i` does: vector, destination and flags. */
  route(i: number) {
    const r = this.redirections[i];
    return {
      vector: Number(r & 0xffn),
      masked: (r & 0x1_0000n) !== 0n,
      level: (r & 0x8000n) !== 0n,
      low: (r & 0x2000n) !== 0n,
      destination: Number(r >> 56n),
    };
  }

  /** A device raises input `i`. */
  raise(i: number): void {
    const { vector, masked, level, destination } = this.route(i);
    const cpu = this.m.cpus.find((c) => c.apicId === destination);
    if (!masked && cpu) cpu.lapic.accept(vector, level);
  }

  read(offset: number, bytes: number): number {
    this.check(bytes);
    if (offset === 0) return this.index;
    if (offset !== 0x10) return 0;
    if (this.index === 1) return 0x11 | ((this.redirections.length - 1) << 16);
    const entry = this.redirections[(this.index - 0x10) >> 1];
    if (this.index < 0x10 || entry === undefined) return 0;
    return Number(this.index & 1 ? entry >> 32n : entry & 0xffff_ffffn);
  }

  write(offset: number, bytes: number, value: bigint): void {
    this.check(bytes);
    if (offset === 0) this.index = Number(value & 0xffn);
    if (offset !== 0x10 || this.index < 0x10) return;
    const i = (this.index - 0x10) >> 1;
    if (i >= this.redirections.length) return;
    const old = this.redirections[i];
    this.redirections[i] = this.index & 1 ? (old & 0xffff_ffffn) | (value << 32n) : (old & ~0xffff_ffffn) | value;
  }

  private check(bytes: number): void {
    if (bytes !== 4) throw new Error(`I/O APIC accessed with ${bytes} bytes`);
  }
}
