// Which interrupt vector is whose. High vectors have high priority in the local APIC.

export const enum Vector {
  /** The 8259 pair is masked; what it still raises by mistake lands on 16 vectors from here. */
  LEGACY = 0x20,
  /** Devices' vectors are given out from here up to DEVICE_LAST. */
  DEVICE_FIRST = 0x30,
  DEVICE_LAST = 0xef,
  /** Wakes a CPU or makes it leave its guest; the reason stands in memory. */
  KICK = 0xf8,
  /** A translation was removed: kernel/mm tells which. */
  SHOOTDOWN = 0xf9,
  TIMER = 0xfa,
  ERROR = 0xfe,
  SPURIOUS = 0xff, // bits 3:0 must be ones on old processors
}
