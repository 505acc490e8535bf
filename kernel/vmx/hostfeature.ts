// What the processor has of the state that guests carry. Read once on the boot CPU.

import { Feature, has } from "../cpu/feature";
import { cpuid, rdmsrSafe } from "../cpu/insn";
import * as log from "../lib/log";
import { storesCompacted } from "./compacted";

@unmanaged
class HostFeature {
  xcr0: u64; // components that XCR0 may enable for guests; 0: no XSAVE
  xsaveBytes: u32; // size of an area that holds all of them
  rdtscp: u32;
  xsavec: u32; // XSAVEC is there and stores what XRSTOR finds
  microcode: u64; // IA32_BIOS_SIGN_ID
  avxAt: u32; // where XSAVE puts the upper halves of YMM0 to YMM15
  zmmAt: u32; // and those of ZMM0 to ZMM15; 0: none
}

const PLACE: usize = memory.data(40, 8);
if (offsetof<HostFeature>() > 40) ERROR("HostFeature does not fit its place");
const OUT: usize = memory.data(16, 8);
const CPUID_ECX_XSAVE: u32 = 1 << 26;
const CPUID_EDX_RDTSCP: u32 = 1 << 27;
const IA32_BIOS_SIGN_ID: u32 = 0x8b;
/** x87, SSE, AVX, AVX-512 (3): what Basalt lets guests use. */
export const XCR0_OFFERED: u64 = 0xe7;
const FXSAVE_BYTES: u32 = 512;
const AVX: u32 = 2;
const ZMM_HIGH: u32 = 6;
const HEADER_BYTES: u32 = 576;

function feature(): HostFeature {
  return changetype<HostFeature>(PLACE);
}

/** Fills the record. Boot CPU. */
export function readHostFeatures(): void {
  const f = feature();
  f.xsaveBytes = FXSAVE_BYTES;
  cpuid(1, 0, OUT);
  if ((load<u32>(OUT, 8) & CPUID_ECX_XSAVE) != 0) readXsave(f);
  cpuid(1, 0, OUT); // loads the revision into the MSR
  f.microcode = rdmsrSafe(IA32_BIOS_SIGN_ID, OUT) ? load<u64>(OUT) : 0;
  cpuid(0x8000_0001, 0, OUT);
  f.rdtscp = (load<u32>(OUT, 12) & CPUID_EDX_RDTSCP) != 0 ? 1 : 0;
}

function readXsave(f: HostFeature): void {
  cpuid(0xd, 0, OUT);
  f.xcr0 = (((<u64>load<u32>(OUT, 12)) << 32) | load<u32>(OUT)) & XCR0_OFFERED;
  let bytes: u32 = HEADER_BYTES;
  for (let i: u32 = 2; i < 63; i++) {
    if (((f.xcr0 >> <u64>i) & 1) == 0) continue;
    cpuid(0xd, i, OUT);
    if (i == AVX) f.avxAt = load<u32>(OUT, 4);
    if (i == ZMM_HIGH) f.zmmAt = load<u32>(OUT, 4);
    const end = load<u32>(OUT) + load<u32>(OUT, 4);
    if (end > bytes) bytes = end;
  }
  f.xsaveBytes = bytes;
  f.xsavec = storesCompacted(f.xcr0) ? 1 : 0;
  if (!f.xsavec && has(Feature.XSAVEC))
    log.warn("cpu", "XSAVEC does not store where XRSTOR looks: guests do without it");
}

/** Where XSAVE's standard form has component 2 (AVX) or 6 (the upper halves of ZMM0 to ZMM15); 0: the processor has none. */
export function vectorOffset(component: u32): u32 {
  return component == AVX ? feature().avxAt : component == ZMM_HIGH ? feature().zmmAt : 0;
}

export function hostXcr0(): u64 {
  return feature().xcr0;
}
export function xsaveBytes(): u32 {
  return feature().xsaveBytes;
}
export function hasRdtscp(): bool {
  return feature().rdtscp != 0;
}

/** Whether guests may use XSAVEC. */
export function hasXsavec(): bool {
  return feature().xsavec != 0;
}

/** IA32_BIOS_SIGN_ID: the microcode revision in bits 63:32. */
export function hostMicrocode(): u64 {
  return feature().microcode;
}
