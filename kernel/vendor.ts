// The only seam between Intel and, later, AMD. Everything above this line of the layer order speaks to
// the processor's virtualisation through these names and no others.

// Processor: once a CPU.
export { disableCpu, enableCpu, probe, unrestrictedGuest } from "./vmx/enable";

// vCPU: its control structure. `load` makes it current on this CPU (everything below needs that);
// `release` gives it up so that another CPU may load it.
export { createVcpu, destroyVcpu, load, release, resetVcpu } from "./vmx/vmcs";

// One round trip. `enter` returns 0 after an exit (exitReason is set then), else a failure that
// `reportEntryFailure` explains.
export { reportEntryFailure } from "./vmx/audit";
export { enter } from "./vmx/exit";

// Registers of the loaded vCPU. RAX..R15 but RSP are plain fields of Vcpu.
export {
  advance,
  readCr0,
  readCr3,
  readCr4,
  readDr7,
  readEfer,
  readGpr,
  readRflags,
  readRip,
  readRsp,
  readSegment,
  writeCr0,
  writeCr3,
  writeCr4,
  writeDr7,
  writeEfer,
  writeGpr,
  writeRflags,
  writeRip,
  writeRsp,
  writeSegment,
  readTable,
  writeTable,
} from "./vmx/register";

// Events. `injectEvents` puts exceptions, re-injected events and NMIs into the VMCS and returns true if
// the slot for this entry is taken; interrupts are virq/deliver's.
export {
  canTakeInterrupt,
  injectEvents,
  injectInterrupt,
  requestInterruptWindow,
} from "./vmx/event";

// APIC virtualisation, where capable.
export { setTprThreshold, setVirtualInterrupts, setEoiExit, enableApicAccess, enableX2apic } from "./vmx/apic";

// Intercepts and translations.
export { interceptMsr, interceptPort } from "./vmx/intercept";
export { flushGuest } from "./vmx/vpid";
export { setPreemptionTimer } from "./vmx/timer";
