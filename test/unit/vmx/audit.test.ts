// Why a VM entry fails: the audit in kernel/vmx against the fake machine's own reading of the manual, field by field.

import { beforeAll, describe, expect, test } from "vitest";
import { bochs } from "../../fake/profiles/bochs.ts";
import { checkControls, checkGuest, checkHost } from "../../fake/vmxcheck.ts";
import { type Changes, type Fixture, vmxFixture } from "./fixture.ts";

const NOTHING = "nothing found";
let f: Fixture;
/** Without unrestricted guest. */
let plain: Fixture;
/** With virtual-interrupt delivery. */
let apicv: Fixture;

beforeAll(async () => {
  f = await vmxFixture();
  plain = await vmxFixture({ commandLine: "unrestricted=off" });
  apicv = await vmxFixture({ profile: bochs("corei7_haswell_4770") });
});

function processorRefuses(x: Fixture): string {
  return checkControls(x.m.current) || checkHost(x.m.current) || checkGuest(x.m.current);
}

function auditNames(x: Fixture): string {
  const controls = x.text(x.k.auditControls(x.at));
  if (controls !== NOTHING) return controls;
  const why = x.k.auditGuest();
  const segment = x.k.refusedSegment(why);
  return (segment < 8 ? x.text(x.k.segmentName(segment)) : "") + x.text(why);
}

const CODE = 0xc09b;
const DATA = 0xc093;
const segments = (code: number, data: number, selector = 0): Changes => ({
  18454: code,
  ...Object.fromEntries([0, 2, 3, 4, 5].map((i) => [0x4814 + 2 * i, data])),
  ...Object.fromEntries([0, 2, 3, 4, 5].map((i) => [0x800 + 2 * i, selector])),
});

/** Guest states to start from: all of them legal. */
const protectedMode: Changes = { 26624: 0x31, 26628: 0x2000, ...segments(CODE, DATA) };
const CR = { PAGED: 0x8000_0031n, PAE: 0x2020n };
const long: Changes = {
  ...protectedMode,
  26624: CR.PAGED,
  26628: CR.PAE,
  10246: 0xd01,
  16402: 0xd3ffn,
  ...segments(0xa09b, DATA),
};
const pae: Changes = { ...protectedMode, 26624: CR.PAGED, 26628: CR.PAE, 10250: 0x1001 };
const virtual8086: Changes = {
  ...protectedMode,
  26656: 0x2_0202,
  ...Object.fromEntries(
    [0, 1, 2, 3, 4, 5].flatMap((i) => [
      [0x800 + 2 * i, 0x1000],
      [0x6806 + 2 * i, 0x1_0000],
      [0x4800 + 2 * i, 0xffff],
      [0x4814 + 2 * i, 0xf3],
    ]),
  ),
};
const real: Changes = {
  ...protectedMode,
  26624: 0x30,
  ...Object.fromEntries(
    [0, 1, 2, 3, 4, 5].flatMap((i) => [
      [0x4800 + 2 * i, 0xffff],
      [0x4814 + 2 * i, i === 1 ? 0x9b : 0x93],
    ]),
  ),
};
const user: Changes = { ...protectedMode, ...segments(0xc0fb, 0xc0f3, 3), 2050: 3 };
const MODES = { protectedMode, long, pae, virtual8086, real, user };

const interrupt = 0x8000_0040;
const nmi = 0x8000_0202;
const gp = 0x8000_0b0d;

type Row = [wrong: string, changes: Changes, from?: Changes];

// biome-ignore format: a table
const CONTROLS: Row[] = [
  ["PIN_CONTROLS has a bit that is not allowed", { 16384: 0x7f & ~2 }],
  ["PROCESSOR_CONTROLS has a bit that is not allowed", { 16386: 0xb5a0_6dfcn | 1n }],
  ["PROCESSOR_CONTROLS_2 has a bit that is not allowed", { 16414: 0x1_0000_0000n - 1n }],
  ["EXIT_CONTROLS has a bit that is not allowed", { 16396: 0 }],
  ["ENTRY_CONTROLS has a bit that is not allowed", { 16402: 0 }],
  ["virtual NMIs without NMI exiting", { 16384: 0x37 & ~8 | 0x20 }],
  ["CR3_TARGET_COUNT", { 16394: 5 }],
  ["IO_BITMAP_A", { 8192: 0x123 }],
  ["IO_BITMAP_B", { 8194: 1n << 46n }],
  ["MSR_BITMAP", { 8196: 0x800 }],
  ["VIRTUAL_APIC_ADDRESS", { 8210: 8 }],
  ["VPID is 0", { 0: 0 }],
  ["EPT_POINTER", { 8218: 0x1006 }],
  ["ENTRY_INTERRUPTION_INFO has a reserved type or bit", { 16406: 0x8000_0130 }],
  ["ENTRY_INTERRUPTION_INFO has a reserved type or bit", { 16406: 0x8000_1040 }],
  ["ENTRY_INTERRUPTION_INFO: vector does not fit the type", { 16406: 0x8000_0203 }],
  ["ENTRY_INTERRUPTION_INFO: vector does not fit the type", { 16406: 0x8000_0320 }],
  ["ENTRY_INTERRUPTION_INFO: vector does not fit the type", { 16406: 0x8000_0701 }],
  ["ENTRY_INTERRUPTION_INFO: error code is delivered or not, against the vector", { 16406: 0x8000_030d }],
  ["ENTRY_INTERRUPTION_INFO: error code is delivered or not, against the vector", { 16406: 0x8000_0b06 }],
  ["ENTRY_INTERRUPTION_INFO: error code is delivered or not, against the vector", { 16406: 0x8000_0840 }],
  ["ENTRY_INTERRUPTION_INFO: error code is delivered or not, against the vector", { 16406: gp }, real],
  ["ENTRY_EXCEPTION_ERROR_CODE", { 16406: gp, 16408: 0x1_0000 }],
  ["ENTRY_INSTRUCTION_LENGTH", { 16406: 0x8000_0421, 16410: 16 }],
  ["HOST_CR0", { 27648: 0x11 }],
  ["HOST_CR4", { 27652: 0x2000 }],
  ["HOST_CR4", { 27652: 0x20 }],
  ["HOST_CR3", { 27650: 1n << 46n }],
  ["HOST_EFER", { 11266: 0x500 ^ 0x400 }],
  ["HOST_EFER", { 11266: 0xd03 }],
  ["HOST_PAT", { 11264: 2 }],
  ["a host selector has a TI or RPL bit", { 3076: 0x13 }],
  ["HOST_CS_SELECTOR", { 3074: 0 }],
  ["HOST_TR_SELECTOR", { 3084: 0 }],
  ["HOST_FS_BASE", { 27654: 1n << 47n }],
  ["HOST_GS_BASE", { 27656: 1n << 63n }],
  ["HOST_TR_BASE", { 27658: 1n << 63n }],
  ["HOST_GDTR_BASE", { 27660: 1n << 63n }],
  ["HOST_IDTR_BASE", { 27662: 1n << 63n }],
  ["HOST_SYSENTER_ESP", { 27664: 1n << 63n }],
  ["HOST_SYSENTER_EIP", { 27666: 1n << 63n }],
  ["HOST_RIP", { 27670: 1n << 63n }],
];

type Bits = [field: number, set: number, clear: number];

/** Control bits that are set and cleared, with what else changes. */
// biome-ignore format: a table
const CONTROL_BITS: [wrong: string, bits: Bits[], changes?: Changes][] = [
  ["NMI window without virtual NMIs", [[0x4000, 0, 0x20], [0x4002, 0x40_0000, 0]]],
  ["EXIT_CONTROLS: the preemption timer is saved and does not run", [[0x4000, 0, 0x40]]],
  ["unrestricted guest without EPT", [[0x401e, 0, 2]]],
  ["APIC virtualisation without TPR shadow", [[0x4002, 0x18_0000, 0x20_0000], [0x401e, 0x10, 1]]],
  ["TPR_THRESHOLD: a reserved bit", [[0x401e, 0, 0x300]], { 16412: 0x10 }],
  ["TPR_THRESHOLD above the virtual TPR", [[0x401e, 0, 0x301]], { 16412: 3 }],
  ["x2APIC mode and APIC accesses both virtualised", [[0x401e, 0x11, 0]], { 8212: 0x1000 }],
  ["APIC_ACCESS_ADDRESS", [[0x401e, 1, 0x10]], { 8212: 0x1001 }],
  ["virtual-interrupt delivery without external-interrupt exiting", [[0x4000, 0, 1], [0x401e, 0x200, 0]]],
  ["EXIT_CONTROLS: the host is in 64-bit mode", [[0x400c, 0, 0x200]]],
];

// biome-ignore format: a table
const GUEST: Row[] = [
  ["GUEST_CR0: a fixed bit", { 26624: 0x11 }],
  ["GUEST_CR0: a fixed bit", { 26624: 0x1_0000_0031n }],
  ["GUEST_CR0: PG without PE", { 26624: 0x8000_0030n }],
  ["GUEST_CR4: a fixed bit", { 26628: 0 }],
  ["GUEST_CR4: a fixed bit", { 26628: 0x8000_2000n }],
  ["IA-32e mode without CR0.PG and CR4.PAE", { 26628: 0x2000 }, long],
  ["IA-32e mode without CR0.PG and CR4.PAE", { 26624: 0x31 }, long],
  ["GUEST_CR4: PCIDE outside IA-32e mode", { 26628: 0x2_2020 }, pae],
  ["GUEST_CR3", { 26626: 1n << 46n }],
  ["GUEST_DEBUGCTL", { 10242: 4 }],
  ["GUEST_DEBUGCTL", { 10242: 1n << 32n }],
  ["GUEST_DR7", { 26650: 1n << 32n }],
  ["GUEST_SYSENTER_ESP", { 26660: 1n << 63n }],
  ["GUEST_SYSENTER_EIP", { 26662: 1n << 47n }],
  ["GUEST_PAT", { 10244: 0x0300_0000_0000_0000n }],
  ["GUEST_EFER: a reserved bit", { 10246: 2 }],
  ["GUEST_EFER: LMA differs from IA-32e mode guest", { 10246: 0x500 }],
  ["GUEST_EFER: LMA differs from LME", { 10246: 0x400 }, long],
  ["GUEST_GDTR_BASE", { 26646: 1n << 63n }],
  ["GUEST_IDTR_BASE", { 26648: 1n << 63n }],
  ["GUEST_GDTR_LIMIT", { 18448: 0x1_0000 }],
  ["GUEST_IDTR_LIMIT", { 18450: 0x8000_0000 }],
  ["GUEST_RIP above 4 GiB outside 64-bit mode", { 26654: 1n << 32n }],
  ["GUEST_RIP", { 26654: 1n << 47n }, long],
  ["GUEST_RFLAGS: a reserved bit", { 26656: 0 }],
  ["GUEST_RFLAGS: a reserved bit", { 26656: 0x8002 }],
  ["GUEST_RFLAGS: VM", { ...virtual8086, 26624: 0x30 }],
  ["an interrupt is injected with RFLAGS.IF = 0", { 16406: interrupt, 26656: 2 }],
  ["GUEST_ACTIVITY", { 18470: 4 }],
  ["GUEST_ACTIVITY: HLT above privilege level 0", { 18470: 1 }, user],
  ["GUEST_ACTIVITY: an interrupt shadow in an inactive state", { 18470: 1, 18468: 1, 26656: 0x202 }],
  ["GUEST_ACTIVITY: not one in which the injected event may come", { 18470: 1, 16406: gp }],
  ["GUEST_ACTIVITY: not one in which the injected event may come", { 18470: 2, 16406: interrupt, 26656: 0x202 }],
  ["GUEST_ACTIVITY: not one in which the injected event may come", { 18470: 3, 16406: nmi }],
  ["GUEST_INTERRUPTIBILITY: a reserved bit", { 18468: 0x20 }],
  ["GUEST_INTERRUPTIBILITY: SMI or enclave", { 18468: 4 }],
  ["GUEST_INTERRUPTIBILITY: STI and MOV SS", { 18468: 3, 26656: 0x202 }],
  ["GUEST_INTERRUPTIBILITY: STI with RFLAGS.IF = 0", { 18468: 1, 26656: 2 }],
  ["an interrupt is injected into an interrupt shadow", { 18468: 1, 26656: 0x202, 16406: interrupt }],
  ["an interrupt is injected into an interrupt shadow", { 18468: 2, 26656: 0x202, 16406: interrupt }],
  ["an NMI is injected while NMIs are blocked", { 18468: 8, 16406: nmi }],
  ["an NMI is injected while NMIs are blocked", { 18468: 2, 16406: nmi }],
  ["GUEST_PENDING_DEBUG: a reserved bit", { 26658: 0x10 }],
  ["GUEST_PENDING_DEBUG: BS does not fit RFLAGS.TF", { 18468: 1, 26656: 0x302 }],
  ["GUEST_PENDING_DEBUG: BS does not fit RFLAGS.TF", { 18468: 2, 26656: 0x2, 26658: 0x4000 }],
  ["GUEST_PENDING_DEBUG: BS does not fit RFLAGS.TF", { 18468: 2, 26656: 0x102, 10242: 2, 26658: 0x4000 }],
  ["GUEST_PENDING_DEBUG: BS does not fit RFLAGS.TF", { 18470: 1, 26656: 0x302 }],
  ["GUEST_PENDING_DEBUG: RTM", { 26658: 0x1_1000 }],
  ["VMCS_LINK_POINTER", { 10240: 0 }],
  ["a GUEST_PDPTE has a reserved bit", { 10252: 0x1003 }, pae],
  ["a GUEST_PDPTE has a reserved bit", { 10256: (1n << 46n) | 1n }, pae],
];

const A = (i: number) => 0x4814 + 2 * i;

// biome-ignore format: a table
const SEGMENTS: Row[] = [
  ["ES: access rights: S", { [A(0)]: 0xc083 }],
  ["DS: access rights: P", { [A(3)]: 0xc013 }],
  ["FS: access rights: a reserved bit", { [A(4)]: 0xc193 }],
  ["GS: access rights: not accessed", { [A(5)]: 0xc092 }],
  ["GS: access rights: execute-only code", { [A(5)]: 0xc099 }],
  ["ES: limit does not fit its granularity", { 18432: 0x1000 }],
  ["ES: limit does not fit its granularity", { 18432: 0x10_0000, [A(0)]: 0x4093 }],
  ["DS: base above 4 GiB", { 26636: 1n << 32n }],
  ["SS: base above 4 GiB", { 26634: 1n << 32n }],
  ["FS: base is not canonical", { 26638: 1n << 63n }, long],
  ["GS: base is not canonical", { 26640: 1n << 63n }, long],
  ["SS: access rights: type of a stack", { [A(2)]: 0xc091 }],
  ["SS: access rights: DPL in real mode", { [A(2)]: 0xf3, [A(1)]: 0x9f }, real],
  ["CS: access rights: unusable", { [A(1)]: 0x1_c09b }],
  ["CS: access rights: type of code", { [A(1)]: 0xc09a }],
  ["CS: access rights: S", { [A(1)]: 0xc08b }],
  ["CS: access rights: P", { [A(1)]: 0xc01b }],
  ["CS: access rights: a reserved bit", { [A(1)]: 0xc49b }],
  ["CS: base above 4 GiB", { 26632: 1n << 32n }],
  ["CS: access rights: L and D/B", { [A(1)]: 0xe09b }, long],
  ["CS: access rights: DPL differs from that of SS", { [A(1)]: 0xc0fb }],
  ["CS: access rights: conforming DPL above that of SS", { [A(1)]: 0xc0ff }],
  ["CS: access rights: DPL of a data segment", { [A(1)]: 0xf3 }, real],
  ["CS: limit does not fit its granularity", { 18434: 0x1234 }],
  ["CS: virtual-8086 mode: base", { 26632: 0 }, virtual8086],
  ["GS: virtual-8086 mode: limit", { 18442: 0xfffff }, virtual8086],
  ["SS: virtual-8086 mode: access rights", { [A(2)]: 0x93 }, virtual8086],
  ["TR: selector: TI", { 2062: 4 }],
  ["TR: access rights: not a busy TSS", { [A(7)]: 0x89 }],
  ["TR: access rights: not a busy TSS", { [A(7)]: 0x83 }, long],
  ["TR: access rights: unusable, S or P", { [A(7)]: 0x1_008b }],
  ["TR: access rights: a reserved bit", { [A(7)]: 0x18b }],
  ["TR: limit does not fit its granularity", { 18446: 0x10_0000 }],
  ["TR: base is not canonical", { 26644: 1n << 63n }],
  ["LDTR: selector: TI", { 2060: 4 }],
  ["LDTR: access rights: not an LDT", { [A(6)]: 0x81 }],
  ["LDTR: access rights: a reserved bit", { [A(6)]: 0x282 }],
  ["LDTR: base is not canonical", { 26642: 1n << 63n }],
  ["LDTR: limit does not fit its granularity", { 18444: 0x10_0000 }],
];

// Without unrestricted guest: paging is on whatever the guest believes.
const forced: Changes = { ...protectedMode, 26624: CR.PAGED, 26628: 0x2010 };
// biome-ignore format: a table
const RESTRICTED: Row[] = [
  ["GUEST_CR0: a fixed bit", { 26624: 0x31 }, forced],
  ["CS: access rights: type of code", { [A(1)]: 0xc093 }, forced],
  ["SS: selector: RPL differs from that of CS", { 2052: 3, [A(2)]: 0xc0f3, [A(1)]: 0xc0fb }, forced],
  ["SS: access rights: DPL differs from RPL", { [A(2)]: 0xc0f3, [A(1)]: 0xc0fb }, forced],
  ["DS: access rights: DPL below the selector's RPL", { 2054: 3 }, forced],
];

function check(x: Fixture, from: Changes, changes: Changes, wrong: string): void {
  x.restore({ ...from, ...changes });
  expect(auditNames(x)).toBe(wrong);
  expect(processorRefuses(x)).not.toBe("");
}

describe("VM entry accepts", () => {
  test.each(Object.keys(MODES))("%s", (mode) => {
    f.restore(MODES[mode as keyof typeof MODES]);
    expect([processorRefuses(f), auditNames(f)]).toEqual(["", NOTHING]);
  });

  // biome-ignore format: a table
  test.each<[string, Changes]>([
    ["HLT with an interrupt", { 18470: 1, 16406: interrupt, 26656: 0x202 }],
    ["HLT with an NMI", { 18470: 1, 16406: nmi }],
    ["HLT with #DB", { 18470: 1, 16406: 0x8000_0301 }],
    ["shutdown with #MC", { 18470: 2, 16406: 0x8000_0312 }],
    ["wait-for-SIPI", { 18470: 3 }],
    ["a shadow in which a single step is recorded", { 18468: 1, 26656: 0x302, 26658: 0x4000 }],
    ["an interrupt window", { 16386: 0xb5a0_6dfcn }],
  ])("%s", (_name, changes) => {
    f.restore({ ...protectedMode, ...changes, 16386: f.fields.get(0x4002) ?? 0n });
    expect([processorRefuses(f), auditNames(f)]).toEqual(["", NOTHING]);
  });

  test("paging that the guest did not switch on, without unrestricted guest", () => {
    plain.restore(forced);
    expect([processorRefuses(plain), auditNames(plain)]).toEqual(["", NOTHING]);
  });
});

describe("the audit names", () => {
  test.each(CONTROLS)("%s", (wrong, changes, from = protectedMode) => check(f, from, changes, wrong));
  test.each(GUEST)("%s", (wrong, changes, from = protectedMode) => check(f, from, changes, wrong));
  test.each(SEGMENTS)("%s", (wrong, changes, from = protectedMode) => check(f, from, changes, wrong));
  test.each(RESTRICTED)("%s", (wrong, changes, from = protectedMode) => check(plain, from, changes, wrong));

  test.each(CONTROL_BITS)("%s", (wrong, bits, changes = {}) => {
    apicv.restore();
    const values = bits.map(([field, set, clear]) => [
      field,
      ((apicv.fields.get(field) ?? 0n) | BigInt(set)) & ~BigInt(clear),
    ]);
    check(apicv, protectedMode, { ...changes, ...Object.fromEntries(values) }, wrong);
  });
});

/** Fields that the audit watches more closely than the processor: the core never gives them another value. */
const STRICT = [0x201a, 0x400e, 0x4010, 0x4014];

/** Every field that the core has written, each bit of it flipped. */
describe.each(Object.keys(MODES))("one bit of one field, %s", (mode) => {
  test.each<[string, Changes]>([
    ["no event", {}],
    ["an interrupt", { 16406: interrupt }],
    ["an NMI", { 16406: nmi }],
  ])("%s: the audit finds fault exactly where the processor does", (_name, event) => {
    f.restore({ ...MODES[mode as keyof typeof MODES], ...event });
    f.fields.set(0x6820, (f.fields.get(0x6820) ?? 0n) | 0x200n);
    const initial = new Map(f.fields);
    const differing: string[] = [];
    for (const [field, value] of initial) {
      if (STRICT.includes(field) || (field & 0xc00) === 0x400) continue;
      for (let bit = 0n; bit < [16n, 64n, 32n, 64n][field >> 13]; bit++) {
        f.fields.set(field, value ^ (1n << bit));
        const refused = processorRefuses(f);
        const named = auditNames(f);
        if ((refused === "") !== (named === NOTHING))
          differing.push(`${field.toString(16)} bit ${bit}: ${refused} / ${named}`);
      }
      f.fields.set(field, value);
    }
    expect(differing).toEqual([]);
  });
});
