// Gives the first vCPU the state in which its boot protocol promises to enter. The vCPU was reset.

import { Segment } from "../vcpu/exit";
import { Vcpu } from "../vcpu/vcpu";
import {
  loadVmcs,
  writeCr0,
  writeCr3,
  writeCr4,
  writeEfer,
  writeRflags,
  writeRip,
  writeRsp,
  writeSegment,
  writeTable,
} from "../vendor";
import { Vm, vcpuOf } from "../vcpu/vm";
import { Entry, EntryMode, entryOf, Plan } from "./plan";
import { CR0_ET, CR0_NE, CR0_PE, CR0_PG, CR4_PAE, RFLAGS_FIXED } from "../cpu/registerbits";

const EFER_LME_LMA: u64 = 0x500;

// Access rights as in a VMCS: type, S, P, L, D/B, G.
const CODE_16: u32 = 0x009b;
const DATA_16: u32 = 0x0093;
const CODE_32: u32 = 0xc09b;
const CODE_64: u32 = 0xa09b;
const DATA_32: u32 = 0xc093;
const TSS_BUSY: u32 = 0x008b;
const FLAT_LIMIT: u32 = 0xffff_ffff;

// Selectors of the Linux 64-bit boot protocol; the 32-bit protocols promise none.
const CODE_SELECTOR: u32 = 0x10;
const DATA_SELECTOR: u32 = 0x18;

/** Copies the entry state that loadGuest prepared into the VM's first vCPU, which was reset; loads it on this CPU. */
export function enterGuest(vm: Vm): void {
  const vcpu = vcpuOf(vm, 0);
  loadVmcs(vcpu); // whoever reset the others left the last of them loaded
  applyEntry(vcpu, entryOf(changetype<Plan>(vcpu.scratch)));
}

function applyEntry(vcpu: Vcpu, entry: Entry): void {
  vcpu.rax = entry.rax;
  vcpu.rbx = entry.rbx;
  vcpu.rdx = entry.rdx;
  vcpu.rsi = entry.rsi;
  if (entry.mode == EntryMode.REAL) enterReal(vcpu);
  else if (entry.mode == EntryMode.PROTECTED) enterProtected(vcpu);
  else enterLong(vcpu, entry);
  writeRip(entry.rip);
  writeRsp(entry.rsp);
  writeRflags(RFLAGS_FIXED);
}

function enterReal(vcpu: Vcpu): void {
  writeCr0(vcpu, CR0_ET);
  writeSegment(Segment.CS, 0, 0, 0xffff, CODE_16);
  for (let i: u32 = 0; i <= <u32>Segment.GS; i++) if (i != <u32>Segment.CS) writeSegment(i, 0, 0, 0xffff, DATA_16);
  writeTable(1, 0, 0x3ff);
}

function enterProtected(vcpu: Vcpu): void {
  flatSegments(CODE_32);
  writeCr0(vcpu, CR0_PE | CR0_ET | CR0_NE);
}

function enterLong(vcpu: Vcpu, entry: Entry): void {
  flatSegments(CODE_64);
  writeTable(0, entry.gdt, entry.gdtLimit);
  writeCr3(vcpu, entry.cr3);
  writeCr4(vcpu, CR4_PAE);
  writeCr0(vcpu, CR0_PE | CR0_ET | CR0_NE | CR0_PG);
  writeEfer(vcpu, EFER_LME_LMA); // with paging on already: LME is held back while the identity table stands in
}

function flatSegments(code: u32): void {
  writeSegment(Segment.CS, CODE_SELECTOR, 0, FLAT_LIMIT, code);
  for (let i: u32 = 0; i <= <u32>Segment.GS; i++)
    if (i != <u32>Segment.CS) writeSegment(i, DATA_SELECTOR, 0, FLAT_LIMIT, DATA_32);
  writeSegment(Segment.TR, 0, 0, 0x67, TSS_BUSY);
}
