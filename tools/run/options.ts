/** What a run of the image can be asked for, and how it can end. */

export const MACHINES = ["bochs", "qemu", "kvm"] as const;
export type Machine = (typeof MACHINES)[number];

/** How the image gets into memory. */
export const MEDIA = ["kernel", "multiboot", "multiboot2", "iso"] as const;
export type Media = (typeof MEDIA)[number];

export interface BootModule {
  file: string;
  /** The module's command line. */
  string?: string;
}

export interface BootOptions {
  elf: string;
  /** By default the first that the host has: KVM with nested VMX, Bochs, QEMU. */
  on?: Machine;
  /** By default `kernel` (the loader in QEMU) on QEMU and `multiboot2` (GRUB on a CD) elsewhere. `iso` boots the file given as `iso`. */
  media?: Media;
  iso?: string;
  cpus?: number;
  memoryMib?: number;
  /** A CPU model in the words of the emulator. */
  model?: string;
  /** QEMU's machine type. */
  chipset?: "pc" | "q35";
  uefi?: boolean;
  /** The host's command line. */
  append?: string;
  modules?: BootModule[];
  /** Bochs: instructions a second of emulated time. */
  ips?: number;
  /** Bochs: what its debugger does, a command a line, instead of going on to the end. */
  debuggerScript?: string[];
  /** Ends the run after so many ticks of the emulator (Bochs only). */
  timeoutTicks?: number;
  /** Ends the run after so many seconds of real time. */
  timeoutSeconds?: number;
  /** QEMU waits for a debugger on this TCP port. */
  gdbPort?: number;
  /** Further arguments to QEMU. */
  qemuArguments?: string[];
  /** Ends the run as soon as the serial output matches; lines end in \n here. */
  until?: RegExp;
  /** Every piece of serial output as it arrives. */
  onSerial?: (text: string) => void;
  /** Called when the serial line is up, with a function that types into it. */
  onReady?: (type: (text: string | Uint8Array) => void) => void;
  /** Ends the run when it fires. */
  signal?: AbortSignal;
}

/**
 * ended: the image ended the run itself, with nothing amiss. failed: it ended the run because a guest or a check failed.
 * panic: it stopped on a fatal fault. stopped: `until` matched, or `signal`. timeout: nothing of that in time.
 * crashed: the machine stopped without a word from the image (a triple fault), or did not start.
 */
export type Ending = "ended" | "failed" | "panic" | "stopped" | "timeout" | "crashed";

export interface BootResult {
  serial: string;
  exit: Ending;
  /** Emulated ticks at the end; null where the machine does not tell. */
  ticks: number | null;
  /** What the emulator had to say, for `crashed`. */
  detail: string;
  /** Everything that Bochs' debugger printed, if it had a script. */
  debuggerOutput?: string;
  on: Machine;
}

/** Exit codes of `basalt run`. 5: it could not be tried. */
export const EXIT_CODES: Record<Ending, number> = { ended: 0, stopped: 0, failed: 1, timeout: 2, panic: 3, crashed: 4 };
