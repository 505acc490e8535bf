// A 16550 as a driver sees it: registers, FIFOs, and a transmitter that takes its time.
// "PC16550D Universal Asynchronous Receiver/Transmitter with FIFOs", National Semiconductor.

import type { Clock } from "../time.ts";

export interface UartOptions {
  /** 16450: no FIFO. 8250: no scratch register either. */
  model?: "16550" | "16450" | "8250";
  /** Ticks that a byte takes to leave; Infinity: it never does. */
  byteTicks?: number;
  /** Called when the interrupt line rises. */
  onInterrupt?: () => void;
}

export class FakeUart {
  /** What left the wire. */
  sent: number[] = [];
  divisor = 12;
  lineControl = 0;
  modemControl = 0;
  interruptEnable = 0;
  /** Bytes written while there was no room: lost on the wire. */
  overruns = 0;
  private fifo = false;
  private transmit: number[] = [];
  private receive: number[] = [];
  private scratch = 0;
  private busy = false;
  private readonly model: "16550" | "16450" | "8250";
  private readonly byteTicks: number;

  constructor(
    private readonly clock: Clock,
    private readonly options: UartOptions = {},
  ) {
    this.model = options.model ?? "16550";
    this.byteTicks = options.byteTicks ?? 50;
  }

  get text(): string {
    return Buffer.from(this.sent).toString("latin1");
  }

  /** Bytes arrive on the wire. */
  type(bytes: string): void {
    for (const byte of Buffer.from(bytes, "latin1")) this.receive.push(byte);
    if (this.interruptEnable & 1) this.options.onInterrupt?.();
  }

  read(register: number): number {
    const dlab = this.lineControl & 0x80;
    switch (register) {
      case 0:
        return dlab ? this.divisor & 0xff : (this.receive.shift() ?? 0);
      case 1:
        return dlab ? this.divisor >> 8 : this.interruptEnable;
      case 2:
        return (this.fifo ? 0xc0 : 0) | (this.receive.length && this.interruptEnable & 1 ? 4 : 1);
      case 3:
        return this.lineControl;
      case 4:
        return this.modemControl;
      case 5:
        return (this.receive.length ? 1 : 0) | (this.transmit.length === 0 ? 0x20 : 0) | (this.isEmpty ? 0x40 : 0);
      case 6:
        return 0xb0;
      default:
        return this.model === "8250" ? 0xff : this.scratch;
    }
  }

  write(register: number, _bytes: number, given: number | bigint): void {
    const value = Number(given) & 0xff;
    const dlab = this.lineControl & 0x80;
    switch (register) {
      case 0:
        if (dlab) this.divisor = (this.divisor & 0xff00) | value;
        else this.put(value);
        return;
      case 1:
        if (dlab) this.divisor = (this.divisor & 0xff) | (value << 8);
        else this.enableInterrupts(value & 0x0f);
        return;
      case 2:
        if (this.model === "16550") this.fifo = (value & 1) !== 0;
        if (value & 2) this.receive = [];
        return;
      case 3:
        this.lineControl = value;
        return;
      case 4:
        this.modemControl = value & 0x1f;
        return;
      case 7:
        this.scratch = value;
    }
  }

  /** A cause that is there already raises its interrupt when it is enabled. */
  private enableInterrupts(value: number): void {
    const added = value & ~this.interruptEnable;
    this.interruptEnable = value;
    if (added & 2 && this.transmit.length === 0) this.clock.after(1, () => this.options.onInterrupt?.());
  }

  private get isEmpty(): boolean {
    return this.transmit.length === 0 && !this.busy;
  }

  private put(value: number): void {
    if (this.transmit.length >= (this.fifo ? 16 : 1)) {
      this.overruns++;
      return;
    }
    this.transmit.push(value);
    this.shift();
  }

  private shift(): void {
    if (this.busy || this.transmit.length === 0 || this.byteTicks === Number.POSITIVE_INFINITY) return;
    this.busy = true;
    const byte = this.transmit.shift() as number;
    this.clock.after(this.byteTicks, () => {
      this.busy = false;
      this.sent.push(byte);
      if (this.transmit.length === 0 && this.interruptEnable & 2) this.options.onInterrupt?.();
      this.shift();
    });
  }
}
