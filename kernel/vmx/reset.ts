// A processor after power-up or INIT. Intel SDM Vol. 3, "IA-32 and Intel 64 Processor States Following
// Power-up, Reset, or INIT".

import { vmread, vmwrite } from "../cpu/insn";
import { Segment } from "../vcpu/exit";
import { Gpr, setGpr, Vcpu } from "../vcpu/vcpu";
import { Field } from "./field";
import { writeCr0, writeCr3, writeCr4, writeDr7, writeEfer, writeRip, writeSegment, writeTable } from "./register";
import { flushVpid } from "./vpid";
import { CR0_CD, CR0_ET, CR0_NW } from "../cpu/registerbits";

const PAT_RESET: u64 = 0x0007_0406_0007_0406;
const DR6_RESET: u64 = 0xffff_0ff0;
/** Family 6, model and stepping of no particular processor: what EDX holds after reset. */
const EDX_RESET: u64 = 0x0600;

/** Power-up: everything. */
export function resetRegisters(vcpu: Vcpu): void {
  vcpu.pat = PAT_RESET;
  vmwrite(Field.GUEST_PAT, PAT_RESET);
  vcpu.star = vcpu.lstar = vcpu.cstar = vcpu.fmask = vcpu.kernelGsBase = vcpu.tscAux = 0;
  vcpu.xcr0 = 1;
  initRegisters(vcpu, false);
}

/** INIT: caches' control bits and the MSRs stay. */
export function initRegisters(vcpu: Vcpu, keepCaches: bool): void {
  for (let i: u32 = 0; i < 16; i++) setGpr(vcpu, i, 0);
  setGpr(vcpu, Gpr.RDX, EDX_RESET);
  vmwrite(Field.GUEST_RSP, 0);
  vmwrite(Field.GUEST_RFLAGS, 2);
  writeRip(0xfff0);
  const kept = keepCaches ? vmread(Field.CR0_SHADOW) & (CR0_CD | CR0_NW) : CR0_CD | CR0_NW;
  writeEfer(vcpu, 0);
  writeCr4(vcpu, 0);
  writeCr0(vcpu, kept | CR0_ET);
  writeCr3(vcpu, 0);
  initSegments();
  writeDr7(0x400);
  vcpu.dr0 = vcpu.dr1 = vcpu.dr2 = vcpu.dr3 = 0;
  vcpu.dr6 = DR6_RESET;
  vcpu.cr2 = 0;
  vmwrite(Field.GUEST_INTERRUPTIBILITY, 0);
  vmwrite(Field.GUEST_PENDING_DEBUG, 0);
  vmwrite(Field.GUEST_DEBUGCTL, 0);
  flushVpid(vcpu); // a processor after INIT remembers no translations
}

function initSegments(): void {
  writeSegment(Segment.CS, 0xf000, 0xffff_0000, 0xffff, 0x9b);
  for (let i: u32 = 0; i <= <u32>Segment.GS; i++) {
    if (i != Segment.CS) writeSegment(i, 0, 0, 0xffff, 0x93);
  }
  writeSegment(Segment.LDTR, 0, 0, 0xffff, 0x82);
  writeSegment(Segment.TR, 0, 0, 0xffff, 0x8b);
  writeTable(0, 0, 0xffff);
  writeTable(1, 0, 0xffff);
}
