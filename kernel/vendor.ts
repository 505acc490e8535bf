// The only seam between Intel and, later, AMD. Everything above this line of the layer order speaks to
// the processor's virtualisation through these names and no others.

// APIC virtualisation, where capable.
export { enableApicAccess, enableX2apic, setEoiExit, setTprThreshold, setVirtualInterrupts } from "./vmx/apic";
// One round trip. `enter` returns 0 after an exit (exitReason is set then), else a failure that
// `reportEntryFailure` explains.
export { reportEntryFailure } from "./vmx/audit";
// Processor: once a CPU.
export { disableCpu, enableCpu, probe, unrestrictedGuest } from "./vmx/enable";
// Events. `injectEvents` puts exceptions, re-injected events and NMIs into the VMCS and returns true if
// the slot for this entry is taken; interrupts are virq/deliver's.
export {
  canTakeInterrupt,
  injectEvents,
  injectInterrupt,
  requestInterruptWindow,
} from "./vmx/event";
export { enter } from "./vmx/exit";
// Intercepts and translations.
export { interceptMsr, interceptPort } from "./vmx/intercept";
// Registers of the loaded vCPU. RAX..R15 but RSP are plain fields of Vcpu.
export {
  advance,
  codeSizeLog2,
  isLongMode64,
  readCpl,
  readCr0,
  readCr3,
  readCr4,
  readDr7,
  readEfer,
  readGpr,
  readPdpte,
  readRflags,
  readRip,
  readRsp,
  readSegment,
  readSelector,
  readTable,
  skip,
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
  writeTable,
} from "./vmx/register";
export { setPreemptionTimer } from "./vmx/timer";
// vCPU: its control structure. `load` makes it current on this CPU (everything below needs that);
// `release` gives it up so that another CPU may load it.
export { createVcpu, destroyVcpu, load, release, resetVcpu } from "./vmx/vmcs";
export { flushGuest } from "./vmx/vpid";
