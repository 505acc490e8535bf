// The only seam between Intel and, later, AMD. Everything to the right in the layer order speaks to the
// processor's virtualisation through these names and no others.

// Processor: probe() once, enableCpu() on each CPU.
export { disableCpu, enableCpu, probe, unrestrictedGuest } from "./vmx/enable";
export {
  hasRdtscp,
  hasXsavec,
  hostMicrocode,
  hostXcr0,
  readHostFeatures,
  vectorOffset,
  xsaveBytes,
} from "./vmx/hostfeature";
export { hasInvpcid, hasStringInfo, isDebugPending } from "./vmx/register";

// vCPU: its control structure. `loadVmcs` makes it current on this CPU (everything below needs that);
// `release` gives it up so that another CPU may load it. `bringIn` and `takeOut` exchange what exits
// leave in the registers (vector, debug, SYSCALL).
export { abandonCurrent, createVcpu, destroyVcpu, loadVmcs, release, resetVcpu } from "./vmx/vmcs";
export { initRegisters } from "./vmx/reset";
export { bringIn, loadVector, setXcr0, storeVector, takeOut } from "./vmx/state";
export { forgetVm, initSpeculation, setSpecCtrl } from "./vmx/speculation";
export { destroyBitmaps, interceptMsr, interceptPort } from "./vmx/intercept";

// One round trip. `enter` returns 0 after an exit (exitReason is set then), else a failure that
// `reportEntryFailure` explains.
export { enter, GUEST_STATE_REFUSED } from "./vmx/exit";
export { reportEntryFailure } from "./vmx/audit";
export { mendSegments } from "./vmx/mend";

// What the exit recorded.
export {
  decodeEpt,
  decodePort,
  readCrQualification,
  readGuestPhysical,
  readInstructionInfo,
  readInstructionLength,
  readInterruptionError,
  readInterruptionInfo,
  readQualification,
} from "./vmx/exit";

// Registers of the loaded vCPU. RAX..R15 but RSP are plain fields of Vcpu.
export {
  advance,
  codeSizeLog2,
  isLongMode64,
  rawCr3,
  rawCr4,
  rawEfer,
  readCpl,
  readCr0,
  readCr3,
  readCr4,
  readDr7,
  readEfer,
  readGpr,
  readGuestDebugctl,
  readPat,
  readPdpte,
  readRflags,
  readRip,
  readRsp,
  readSegment,
  readSegmentAccess,
  readSegmentBase,
  readSegmentLimit,
  readSelector,
  readSysenter,
  readTableBase,
  readTableLimit,
  skip,
  writeCr0,
  writeCr3,
  writeCr4,
  writeDr7,
  writeEfer,
  writeGpr,
  writeGuestDebugctl,
  writeGuestPat,
  writePdpte,
  writeRflags,
  writeRip,
  writeRsp,
  writeSegment,
  writeSegmentBase,
  writeSysenter,
  writeTable,
  writeTscOffset,
} from "./vmx/register";
export { loadDebug } from "./vmx/debug";

// Events. `injectEvents` puts exceptions, re-injected events and NMIs into the next entry and returns true
// if its slot is taken; interrupts are virq/deliver's.
export {
  blockByMovSs,
  canTakeInterrupt,
  injectEvents,
  injectInterrupt,
  matchSingleStep,
  recoverEvent,
  requestInterruptWindow,
  requestNmiWindow,
  restoreNmiBlocking,
  setNmiBlocking,
  skipIcebp,
} from "./vmx/event";

// The processor's help with the local APIC, as far as it has any.
export {
  ApicFeature,
  apicFeatures,
  ApicMode,
  hasDelivery,
  readVirtualInterrupts,
  setApicMode,
  setEoiExit,
  setTprThreshold,
  setVirtualInterrupts,
} from "./vmx/apic";

// Translations and time.
export { eptChanged, flushGuest, syncEpt } from "./vmx/vpid";
export { executeOnly, eptAccessedDirty, largestLeafLog2 } from "./vmx/eptcap";
export { hasPreemptionTimer, setPreemptionTimer } from "./vmx/timer";
