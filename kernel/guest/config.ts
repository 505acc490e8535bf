// What the operator wants a guest to be. Filled from the strings of the boot modules (describe.ts);
// lives in shared memory as long as the machine runs, so that a guest can be reset from it.

export const MAX_GUESTS: u32 = 64;
export const MAX_GUEST_MODULES: u32 = 8;

export const enum Protocol {
  AUTO = 0,
  LINUX = 1,
  PVH = 2,
  MULTIBOOT = 3,
  FLAT = 4,
}

export const enum Choice {
  AUTO = 0,
  ON = 1,
  OFF = 2,
}

/** A text in shared memory. */
@unmanaged
export class GuestModule {
  pa: u64;
  bytes: u64;
  text: usize;
  textBytes: u32;
}
export const GUEST_MODULE_BYTES: usize = 24;
if (offsetof<GuestModule>() != 24) ERROR("GUEST_MODULE_BYTES is not the size of GuestModule");

@unmanaged
export class GuestConfig {
  /** The file. */
  pa: u64;
  bytes: u64;
  /** RAM in bytes, a multiple of 2 MiB. */
  memoryBytes: u64;
  /** Bit n: the vCPUs may run on CPU n; 0: on any. */
  pinMask: u64;
  name: usize;
  nameBytes: u32;
  commandLine: usize;
  commandLineBytes: u32;
  cpus: u32;
  protocol: u32;
  /** Share of CPU time relative to other guests (1..10000). */
  weight: u32;
  /** At most this percentage of one CPU per vCPU; 0: no limit. */
  cap: u32;
  /** Without bits (vcpu/vm.ts). */
  without: u32;
  /** Choice: ports by which test kernels report. AUTO: all but Linux have them. */
  testPorts: u32;
  /** Choice: start again after the guest asked for a reset. */
  restart: u32;
  moduleCount: u32;
}
const MODULES: usize = 104;
const CONFIG_BYTES: usize = MODULES + 8 * GUEST_MODULE_BYTES;
if (offsetof<GuestConfig>() > 104) ERROR("GuestConfig runs into its modules");

const configs: usize = memory.data(64 * 296, 8); // MAX_GUESTS * CONFIG_BYTES
if (CONFIG_BYTES != 296) ERROR("configs has the wrong size");

export function configAt(index: u32): GuestConfig {
  return changetype<GuestConfig>(configs + <usize>index * CONFIG_BYTES);
}

export function clearConfig(config: GuestConfig): void {
  memory.fill(changetype<usize>(config), 0, CONFIG_BYTES);
}

export function guestModuleAt(config: GuestConfig, index: u32): GuestModule {
  return changetype<GuestModule>(changetype<usize>(config) + MODULES + <usize>index * GUEST_MODULE_BYTES);
}
