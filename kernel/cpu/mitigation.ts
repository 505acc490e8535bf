// Which processor bugs matter to a hypervisor here, and what is done about each: decided once, from CPUID
// and IA32_ARCH_CAPABILITIES, by a table of processors. `mitigations=off` on the command line chooses none.
// Intel, "Affected Processors: Guidance for Security Issues on Intel Processors", and the articles on L1TF,
// MDS, TAA, MMIO Stale Data, RFDS, Branch History Injection, Post-barrier RSB and Machine Check Error on Page Size Change;
// "Retpoline: A Branch Target Injection Mitigation" on return stack buffers.

import { family, Feature, has, isIntel, model } from "./feature";
import { rdmsr } from "./insn";
import { Msr } from "./msr";

/** What is done. */
export const enum Mitigation {
  CLEAR_REGISTERS = 0x001, // general registers hold nothing of the guest while the core runs
  FLUSH_L1D = 0x002, // IA32_FLUSH_CMD before entry (L1TF)
  VERW = 0x004, // before entry (MDS, TAA, MMIO stale data, RFDS)
  FILL_RSB = 0x008, // after exit, with 32 entries
  CLEAR_BHB = 0x010, // branch-history clearing sequence after exit
  BHI_DIS_S = 0x020, // IA32_SPEC_CTRL.BHI_DIS_S, set for good
  IBRS_ALWAYS = 0x040, // enhanced IBRS: IA32_SPEC_CTRL.IBRS, set for good
  IBRS_ON_EXIT = 0x080, // IA32_SPEC_CTRL.IBRS written after each exit
  IBPB = 0x100, // IA32_PRED_CMD.IBPB when another VM takes the CPU
  SPLIT_EXECUTABLE = 0x200, // no executable EPT leaf above 4 KiB
  SPEC_CTRL_GUEST = 0x400, // the guest may use IA32_SPEC_CTRL: switched with its vCPU
  FILL_RSB_16 = 0x800, // as FILL_RSB, where the return stack buffer holds 16 entries
  GUARD_RSB = 0x1000, // one CALL and LFENCE after exit (post-barrier RSB)
}

/** Vulnerabilities, as rows of the table below name them. */
const enum Bug {
  L1TF = 0x01,
  MDS = 0x02,
  TAA = 0x04,
  MMIO = 0x08,
  ITLB_MULTIHIT = 0x10,
  RFDS = 0x20,
  RETBLEED = 0x40, // RSB underflow is served by the indirect predictor
  NO_SPECTRE = 0x80, // in-order: nothing speculative at all
  SHORT_RSB = 0x100, // no bug, but a measure of one: the return stack buffer holds 16 entries
}

/** IA32_ARCH_CAPABILITIES. */
const RDCL_NO: u64 = 1 << 0;
const IBRS_ALL: u64 = 1 << 1;
const SKIP_L1DFL_VMENTRY: u64 = 1 << 3;
const MDS_NO: u64 = 1 << 5;
const IF_PSCHANGE_MC_NO: u64 = 1 << 6;
const TAA_NO: u64 = 1 << 8;
const FBSDP_NO: u64 = 1 << 14;
const FB_CLEAR: u64 = 1 << 17;
const BHI_NO: u64 = 1 << 20;
const PBRSB_NO: u64 = 1 << 24;
const RFDS_NO: u64 = 1 << 27;
const RFDS_CLEAR: u64 = 1 << 28;

const OLD_BUGS: u32 = Bug.L1TF | Bug.MDS | Bug.ITLB_MULTIHIT;
/** Core processors from Nehalem to Comet Lake. */
const OLD_CORE: u32 = OLD_BUGS | Bug.SHORT_RSB;

/** Bugs of a family-6 model before its microcode or stepping says otherwise through IA32_ARCH_CAPABILITIES. */
function bugsOf(model: u32): u32 {
  switch (model) {
    // Atom, in order
    case 0x1c:
    case 0x26:
    case 0x27:
    case 0x35:
    case 0x36:
      return Bug.NO_SPECTRE;
    // Silvermont, Airmont
    case 0x37:
    case 0x4a:
    case 0x4c:
    case 0x4d:
    case 0x5a:
    case 0x5d:
    case 0x6e:
    case 0x65:
    case 0x75:
      return Bug.MDS;
    // Goldmont, Goldmont Plus
    case 0x5c:
    case 0x5f:
    case 0x7a:
      return Bug.RFDS;
    // Tremont, Gracemont
    case 0x86:
    case 0x96:
    case 0x9c:
      return Bug.MMIO | Bug.RFDS;
    case 0xbe:
      return Bug.RFDS;
    // Xeon Phi
    case 0x57:
    case 0x85:
      return Bug.L1TF | Bug.MDS;
    case 0x3e: // Ivy Bridge servers; what is older has lower numbers
      return OLD_CORE;
    // Haswell and Broadwell servers and clients: TSX, MMIO
    case 0x3c:
    case 0x45:
    case 0x46:
    case 0x3d:
    case 0x47:
      return OLD_CORE | Bug.TAA;
    case 0x3f:
    case 0x4f:
    case 0x56:
      return OLD_CORE | Bug.TAA | Bug.MMIO;
    // Skylake, Kaby Lake, Coffee Lake, Cascade Lake, Comet Lake
    case 0x4e:
    case 0x5e:
    case 0x55:
    case 0x8e:
    case 0x9e:
    case 0x66:
      return OLD_CORE | Bug.TAA | Bug.MMIO | Bug.RETBLEED;
    case 0xa5:
    case 0xa6:
      return OLD_CORE | Bug.TAA | Bug.MMIO | Bug.RETBLEED;
    // Ice Lake, Rocket Lake, Tiger Lake, Lakefield
    case 0x6a:
    case 0x6c:
    case 0x7d:
    case 0x7e:
    case 0xa7:
    case 0x8a:
      return Bug.MMIO;
    case 0x8c:
    case 0x8d:
      return 0;
    // Alder Lake, Raptor Lake: their efficient cores
    case 0x97:
    case 0x9a:
    case 0xb7:
    case 0xba:
    case 0xbf:
      return Bug.RFDS;
    // Sapphire Rapids, Emerald Rapids, Granite Rapids
    case 0x8f:
    case 0xcf:
    case 0xad:
      return 0;
    default:
      // Nehalem to Ivy Bridge, and what this table does not know yet: newer processors say what they lack
      return model < 0x3c ? OLD_CORE : Bug.MMIO | OLD_BUGS | Bug.TAA | Bug.RFDS;
  }
}

let chosen: u32 = 0; // Mitigation bits; written at boot only

/** The Mitigation bits in force. */
export function mitigations(): u32 {
  return chosen;
}

/** Measures that need no MSR. They do no harm where they are not needed. */
const SOFTWARE: u32 = Mitigation.CLEAR_REGISTERS | Mitigation.VERW | Mitigation.FILL_RSB | Mitigation.CLEAR_BHB;

/** What the operator asks for by `mitigations=`. */
export const enum MitigationMode {
  AUTO = 0, // what the processor needs
  OFF = 1,
  SOFTWARE = 2, // besides that, what needs no MSR, whatever the processor says of itself
}

/** Decides, on the boot CPU after detectFeatures. */
export function chooseMitigations(mode: MitigationMode): void {
  if (mode == MitigationMode.OFF || !isIntel()) chosen = 0;
  else chosen = choose(archCapabilities(), family() == 6 ? bugsOf(model()) : 0);
  if (mode == MitigationMode.SOFTWARE) chosen |= SOFTWARE;
}

function archCapabilities(): u64 {
  return has(Feature.ARCH_CAPABILITIES) ? rdmsr(Msr.IA32_ARCH_CAPABILITIES) : 0;
}

function choose(caps: u64, bugs: u32): u32 {
  let bits: u32 = Mitigation.CLEAR_REGISTERS;
  if (needsL1dFlush(caps, bugs)) bits |= Mitigation.FLUSH_L1D;
  if (needsVerw(caps, bugs)) bits |= Mitigation.VERW;
  if ((bugs & Bug.ITLB_MULTIHIT) != 0 && (caps & IF_PSCHANGE_MC_NO) == 0) bits |= Mitigation.SPLIT_EXECUTABLE;
  return (bugs & Bug.NO_SPECTRE) != 0 ? bits : bits | chooseBranches(caps, bugs);
}

function needsL1dFlush(caps: u64, bugs: u32): bool {
  if ((bugs & Bug.L1TF) == 0 || (caps & (RDCL_NO | SKIP_L1DFL_VMENTRY)) != 0) return false;
  return has(Feature.L1D_FLUSH);
}

/** VERW clears buffers only with microcode that says so; without it, it costs a few cycles and does nothing. */
function needsVerw(caps: u64, bugs: u32): bool {
  if ((bugs & Bug.MDS) != 0 && (caps & MDS_NO) == 0) return has(Feature.MD_CLEAR);
  if ((bugs & Bug.TAA) != 0 && (caps & TAA_NO) == 0 && has(Feature.RTM)) return has(Feature.MD_CLEAR);
  if ((bugs & Bug.MMIO) != 0 && (caps & FBSDP_NO) == 0 && ((caps & FB_CLEAR) != 0 || clearsAll(caps))) return true;
  return (bugs & Bug.RFDS) != 0 && (caps & RFDS_NO) == 0 && (caps & RFDS_CLEAR) != 0;
}

/** Parts with MDS have VERW that clears fill buffers too, before FB_CLEAR was enumerated. */
function clearsAll(caps: u64): bool {
  return has(Feature.MD_CLEAR) && (caps & MDS_NO) == 0;
}

/** Branch prediction: Spectre variant 2, retbleed, post-barrier RSB, branch history injection. */
function chooseBranches(caps: u64, bugs: u32): u32 {
  let bits: u32 = 0;
  const enhanced = (caps & IBRS_ALL) != 0;
  if (has(Feature.IBRS_IBPB)) {
    bits |= Mitigation.IBPB | Mitigation.SPEC_CTRL_GUEST;
    if (enhanced) bits |= Mitigation.IBRS_ALWAYS;
    else if ((bugs & Bug.RETBLEED) != 0) bits |= Mitigation.IBRS_ON_EXIT;
  }
  // Enhanced IBRS keeps the guest out of the return stack buffer by itself, but for its last CALL on some processors.
  if (!enhanced) bits |= (bugs & Bug.SHORT_RSB) != 0 ? Mitigation.FILL_RSB_16 : Mitigation.FILL_RSB;
  else if ((caps & PBRSB_NO) == 0) bits |= Mitigation.GUARD_RSB;
  if (enhanced && (caps & BHI_NO) == 0) bits |= has(Feature.BHI_CTRL) ? Mitigation.BHI_DIS_S : Mitigation.CLEAR_BHB;
  return bits;
}
