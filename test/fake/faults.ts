// What the processor would do instead of completing an instruction, as typed errors that leave the
// core through its imports. A test expects them by class and by field.

/** An exception that the running instruction raises. Intel SDM Vol. 3, "Exceptions and Interrupts". */
export class CpuException extends Error {
  constructor(
    readonly vector: number,
    readonly errorCode: number,
    message: string,
  ) {
    super(message);
    this.name = new.target.name;
  }
}

export class UndefinedOpcode extends CpuException {
  constructor(why: string) {
    super(6, 0, `#UD: ${why}`);
  }
}

export class GeneralProtection extends CpuException {
  constructor(why: string) {
    super(13, 0, `#GP: ${why}`);
  }
}

export class DivideError extends CpuException {
  constructor(why: string) {
    super(0, 0, `#DE: ${why}`);
  }
}

export type Access = "read" | "write" | "execute";

/** #PF. `reason` says which check failed, `stale` that the tables would allow what the TLB refused. */
export class PageFault extends CpuException {
  constructor(
    readonly address: bigint,
    readonly access: Access,
    readonly reason: "not present" | "read-only" | "execute-disable" | "reserved bit" | "not canonical",
    readonly stale = false,
  ) {
    const present = reason === "not present" || reason === "not canonical" ? 0 : 1;
    const code =
      present | (access === "write" ? 2 : 0) | (reason === "reserved bit" ? 8 : 0) | (access === "execute" ? 16 : 0);
    super(14, code, `#PF: ${access} of ${hex(address)}: ${reason}${stale ? " (stale translation)" : ""}`);
  }
}

/** `halt()`: the CPU stopped for good. */
export class Halted extends Error {
  constructor(readonly cpu: number) {
    super(`CPU ${cpu} halted`);
    this.name = "Halted";
  }
}

/** `unwind(kind)`: the stack of the core is abandoned; Machine.contained() enters `onTrap`. */
export class Unwound extends Error {
  constructor(readonly kind: number) {
    super(`unwind(${kind})`);
    this.name = "Unwound";
  }
}

/** The CPU sleeps and nothing that is scheduled would ever wake it. */
export class Asleep extends Error {
  constructor(readonly cpu: number) {
    super(`CPU ${cpu} sleeps and no event is scheduled`);
    this.name = "Asleep";
  }
}

/** An application processor went idle: its stack is dropped, `idleLoop` starts again at the next interrupt. */
export class Parked extends Error {
  constructor(readonly cpu: number) {
    super(`CPU ${cpu} parked`);
    this.name = "Parked";
  }
}

/** A shutdown of the whole machine: triple fault, reset, power-off. */
export class MachineStopped extends Error {
  constructor(readonly how: string) {
    super(how);
    this.name = "MachineStopped";
  }
}

export function hex(value: bigint | number): string {
  return `${value.toString(16)}h`;
}
