// Whether XSAVEC keeps the layout that CPUID tells: an emulator is known (docs/silicon.md) that stores compacted components
// where its own XRSTOR does not look for them, and a guest's user land dies of it. Asked once, at boot.
// Intel SDM Vol. 1, "Operation of XSAVEC" and "Compacted Format of the XSAVE Area".

import { xrstor, xsavec, xsetbv } from "../cpu/insn";
import { Feature, has } from "../cpu/feature";

const X87_SSE_AVX: u64 = 7;
const X87: u64 = 1;
const AVX: u64 = 4;
/** Legacy region, header, AVX component: the first behind the header in either format. */
const AREA_BYTES: usize = 832;
const AREA: usize = memory.data(832, 64);
const MXCSR_AT: usize = 24;
const XSTATE_BV_AT: usize = 512;
const COMPONENTS_AT: usize = 576;
const MXCSR_RESET: u32 = 0x1f80;
const MARK: u64 = 0x0123_4567_89ab_cdef;

/** True if XSAVEC is there and stores AVX state right behind the header. Leaves vector state as after a reset, XCR0 with x87 only. */
export function storesCompacted(offered: u64): bool {
  if (!has(Feature.XSAVEC) || (offered & AVX) == 0) return has(Feature.XSAVEC);
  xsetbv(0, X87_SSE_AVX);
  blank();
  store<u64>(AREA, AVX, XSTATE_BV_AT);
  store<u64>(AREA, MARK, COMPONENTS_AT);
  xrstor(AREA, X87_SSE_AVX);
  blank();
  xsavec(AREA, X87_SSE_AVX);
  const right = load<u64>(AREA, COMPONENTS_AT) == MARK;
  blank();
  xrstor(AREA, X87_SSE_AVX);
  xsetbv(0, X87);
  return right;
}

/** An area that XRSTOR takes as the initial state. */
function blank(): void {
  memory.fill(AREA, 0, AREA_BYTES);
  store<u32>(AREA, MXCSR_RESET, MXCSR_AT);
}
