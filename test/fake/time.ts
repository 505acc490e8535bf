// Time that advances only when the simulated machine does something: a count of TSC ticks and the
// events that are due. The same run gives the same times.

interface Event {
  at: number;
  order: number;
  action: () => void;
}

export class Clock {
  /** TSC ticks since reset. */
  ticks = 1_000_000;
  private order = 0;
  private events: Event[] = [];

  constructor(readonly tscKhz: number) {}

  /** Runs `action` once `delay` ticks have passed. The result cancels it. */
  after(delay: number, action: () => void): () => void {
    const event = { at: this.ticks + Math.max(0, delay), order: this.order++, action };
    this.events.push(event);
    this.events.sort((a, b) => a.at - b.at || a.order - b.order);
    return () => {
      this.events = this.events.filter((e) => e !== event);
    };
  }

  fromNanoseconds(ns: number): number {
    return (ns * this.tscKhz) / 1e6;
  }

  toNanoseconds(ticks: number): number {
    return (ticks * 1e6) / this.tscKhz;
  }

  advance(ticks: number): void {
    const until = this.ticks + ticks;
    for (let next = this.events[0]; next && next.at <= until; next = this.events[0]) {
      this.events.shift();
      this.ticks = Math.max(this.ticks, next.at);
      next.action();
    }
    this.ticks = Math.max(this.ticks, until);
  }

  /** Jumps to the next event and runs it; false if there is none. */
  skip(): boolean {
    const next = this.events[0];
    if (!next) return false;
    this.advance(Math.max(0, next.at - this.ticks));
    return true;
  }
}
