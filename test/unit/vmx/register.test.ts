// Registers of the VMCS, and what an emulated instruction, a change of mode or a switch of vCPUs does to them.

import { beforeAll, beforeEach, describe, expect, test } from "vitest";
import { F } from "../../fake/guest.ts";
import { struct } from "../../fake/layout.ts";
import { bochs } from "../../fake/profiles/bochs.ts";
import { type Fixture, vmxFixture } from "./fixture.ts";

const CR = { MASK0: 0x6000, MASK4: 0x6002, SHADOW0: 0x6004, SHADOW4: 0x6006 };
const EFER = 0x2806;
const CS_ACCESS = 0x4816;
const PROC2 = 0x401e;
const CR3_EXITING = 0x1_8000n;
const MOV_DR_EXITING = 1n << 23n;

let f: Fixture;
let apicv: Fixture;

beforeAll(async () => {
  f = await vmxFixture();
  apicv = await vmxFixture({ profile: bochs("corei7_skylake_x") });
});

const read = (field: number) => f.fields.get(field) ?? 0n;

describe("after an emulated instruction", () => {
  beforeEach(() => f.restore({ [F.GUEST_CR0]: 0x31, [F.EXIT_INSTRUCTION_LENGTH]: 3 }));

  // biome-ignore format: a table
  test.each<[string, bigint, bigint, bigint, bigint]>([
    ["RIP moves on", 0x1000n, 0n, 0xc09bn, 0x1003n],
    ["EIP wraps at 4 GiB in 32-bit mode", 0xffff_fffen, 0n, 0xc09bn, 1n],
    ["EIP wraps in compatibility mode", 0xffff_fffen, 0x500n, 0xc09bn, 1n],
    ["RIP does not in 64-bit mode", 0xffff_fffen, 0x500n, 0xa09bn, 0x1_0000_0001n],
    ["RIP of the high half moves on", 0xffff_ffff_8000_0000n, 0x500n, 0xa09bn, 0xffff_ffff_8000_0003n],
  ])("%s", (_name, rip, efer, access, next) => {
    f.fields.set(F.GUEST_RIP, rip).set(EFER, efer).set(CS_ACCESS, access);
    f.k.advance(f.at);
    expect(read(F.GUEST_RIP)).toBe(next);
  });

  // biome-ignore format: a table
  test.each<[string, bigint, bigint, bigint, [bigint, bigint, bigint]]>([
    ["shadows end, blocking of NMIs stays", 9n, 0x202n, 0n, [8n, 0x202n, 0n]],
    ["MOV SS's too", 2n, 2n, 0n, [0n, 2n, 0n]],
    ["RF ends", 0n, 0x1_0002n, 0n, [0n, 2n, 0n]],
    ["a single step comes due", 0n, 0x102n, 0n, [0n, 0x102n, 0x4000n]],
    ["none with BTF", 0n, 0x102n, 2n, [0n, 0x102n, 0n]],
  ])("%s", (_name, blocking, flags, debugctl, wanted) => {
    f.fields.set(F.GUEST_INTERRUPTIBILITY, blocking).set(F.GUEST_RFLAGS, flags).set(F.GUEST_DEBUGCTL, debugctl);
    f.fields.set(F.GUEST_PENDING_DEBUG, 0n);
    f.k.advance(f.at);
    expect([read(F.GUEST_INTERRUPTIBILITY), read(F.GUEST_RFLAGS), read(F.GUEST_PENDING_DEBUG)]).toEqual(wanted);
  });
});

describe("control registers", () => {
  beforeEach(() => f.restore());

  test("CR0 and CR4 read as the guest wrote them, whatever bits VMX demands", () => {
    f.k.writeCr0(f.at, 0x6000_0010n); // CD NW ET
    f.k.writeCr4(f.at, 0x10n);
    expect([f.k.readCr0(), f.k.readCr4()]).toEqual([0x6000_0010n, 0x10n]);
    expect([read(F.GUEST_CR0), read(F.GUEST_CR4)]).toEqual([0x30n, 0x2010n]);
  });

  test("bits that the guest owns are read from the register", () => {
    f.k.writeCr0(f.at, 0x11n);
    f.fields.set(F.GUEST_CR0, read(F.GUEST_CR0) | 8n); // the guest set TS without an exit
    expect(f.k.readCr0()).toBe(0x19n);
  });

  test.each([
    [0xd01n, true],
    [0xd01n & ~0x400n, false],
  ])("EFER %x enters IA-32e mode: %s", (efer, long) => {
    f.k.writeEfer(f.at, efer);
    expect([(read(F.ENTRY_CONTROLS) & 0x200n) !== 0n, f.k.readEfer(f.at)]).toEqual([long, efer]);
  });

  test("64-bit mode is LMA with CS.L; else CS.D says the size", () => {
    const modes = [
      [0x500n, 0xa09bn],
      [0x500n, 0xc09bn],
      [0n, 0xa09bn],
      [0n, 0x809bn],
    ].map(([efer, access]) => {
      f.fields.set(EFER, efer).set(CS_ACCESS, access);
      return [f.k.isLongMode64(), f.k.codeSizeLog2()];
    });
    expect(modes).toEqual([
      [1, 1],
      [0, 2],
      [0, 1],
      [0, 1],
    ]);
  });

  test("the privilege level is SS.DPL", () => {
    f.fields.set(0x4818, 0xc0f3n);
    expect(f.k.readCpl()).toBe(3);
  });

  test("RSP is a general register", () => {
    f.k.writeGpr(f.at, 4, 0x1234n);
    f.k.writeGpr(f.at, 15, 0x5678n);
    expect([f.k.readGpr(f.at, 4), f.k.readGpr(f.at, 15), f.k.readRsp(), read(F.GUEST_RSP)]).toEqual([
      0x1234n,
      0x5678n,
      0x1234n,
      0x1234n,
    ]);
    f.k.writeRsp(0x9an);
    expect(f.k.readRsp()).toBe(0x9an);
  });

  // biome-ignore format: a table
  test.each<[string, number, (k: Fixture["k"], value: bigint) => void, (k: Fixture["k"]) => bigint, bigint]>([
    ["IA32_SYSENTER_CS", 0x482a, (k, v) => k.writeSysenter(0x174, v), (k) => k.readSysenter(0x174), 0x10n],
    ["IA32_SYSENTER_ESP", 0x6824, (k, v) => k.writeSysenter(0x175, v), (k) => k.readSysenter(0x175), 0xffff_8000_0000_1000n],
    ["IA32_SYSENTER_EIP", 0x6826, (k, v) => k.writeSysenter(0x176, v), (k) => k.readSysenter(0x176), 0xffff_8000_0000_2000n],
    ["IA32_PAT", 0x2804, (k, v) => k.writeGuestPat(v), (k) => k.readPat(), 0x0007_0406_0007_0406n],
    ["IA32_DEBUGCTL", 0x2802, (k, v) => k.writeGuestDebugctl(v), (k) => k.readGuestDebugctl(), 3n],
    ["DR7", 0x681a, (k, v) => k.writeDr7(v), (k) => k.readDr7(), 0x401n],
    ["RIP", 0x681e, (k, v) => k.writeRip(v), (k) => k.readRip(), 0xffff_8000_0000_3000n],
    ["RFLAGS", 0x6820, (k, v) => k.writeRflags(v), (k) => k.readRflags(), 0x246n],
    ["PDPTE2", 0x280e, (k, v) => k.writePdpte(2, v), (k) => k.readPdpte(2), 0x1001n],
    ["FS.base", 0x680e, (k, v) => k.writeSegmentBase(4, v), (k) => k.readSegmentBase(4), 0xffff_8000_0000_4000n],
    ["the TSC offset", 0x2010, (k, v) => k.writeTscOffset(v), () => f.fields.get(0x2010) ?? 0n, 1n << 63n],
  ])("%s goes to its field and comes from it", (_name, field, write, back, value) => {
    write(f.k, value);
    expect([read(field), back(f.k)]).toEqual([value, value]);
  });

  test("segments and tables", () => {
    const at = 0x90_0000;
    f.k.writeSegment(3, 0x2b, 0x1000n, 0xfffff, 0xc0f3);
    f.k.readSegment(3, at);
    const state = struct(f.m, "kernel/vcpu/exit.ts", "SegmentState", at);
    expect([state.selector, state.base, state.limit, state.access]).toEqual([0x2b, 0x1000n, 0xfffff, 0xc0f3]);
    expect([f.k.readSelector(3), f.k.readSegmentLimit(3), f.k.readSegmentAccess(3)]).toEqual([0x2b, 0xfffff, 0xc0f3]);
    f.k.writeTable(1, 0x5000n, 0x7ff);
    expect([f.k.readTableBase(1), f.k.readTableLimit(1), read(0x6818), read(0x4812)]).toEqual([
      0x5000n,
      0x7ff,
      0x5000n,
      0x7ffn,
    ]);
  });

  test("flat segments", () => {
    f.k.setFlatSegments(0x10, 0x18, 0xa09b);
    expect([0x802, 0x4802, CS_ACCESS, 0x806, 0x481e].map(read)).toEqual([0x10n, 0xffff_ffffn, 0xa09bn, 0x18n, 0xc093n]);
  });
});

describe("without unrestricted guest", () => {
  const IDENTITY = 0x7000n;
  beforeEach(() => {
    f.restore({ [CR.SHADOW4]: 0x20, [F.GUEST_CR4]: 0x2020, [F.GUEST_CR3]: 0x1000 });
    Object.assign(f.vcpu, { unrestricted: 0, identityRoot: IDENTITY, cr3Forced: 0, cr0Fixed: 0x8000_0021n });
  });

  test("paging that the guest switches off runs on the identity table, with CR3 exits", () => {
    f.k.writeCr0(f.at, 0x11n);
    expect([read(F.GUEST_CR0), read(F.GUEST_CR3)]).toEqual([0x8000_0031n, IDENTITY]);
    expect([read(F.GUEST_CR4), f.k.readCr4()]).toEqual([0x2010n, 0x20n]); // 4 MiB pages, no PAE; the guest sees its own
    expect(read(F.PROCESSOR_CONTROLS) & CR3_EXITING).toBe(CR3_EXITING);
    expect(f.k.readCr3(f.at)).toBe(0x1000n);
  });

  test("CR3 and CR4 that it writes then count when it switches paging on", () => {
    f.k.writeCr0(f.at, 0x11n);
    f.k.writeCr3(f.at, 0x9000n);
    f.k.writeCr4(f.at, 0xa0n);
    expect([read(F.GUEST_CR3), f.k.readCr3(f.at), read(F.GUEST_CR4), f.k.readCr4()]).toEqual([
      IDENTITY,
      0x9000n,
      0x2090n,
      0xa0n,
    ]);
    f.k.writeCr0(f.at, 0x8000_0011n);
    expect([read(F.GUEST_CR3), read(F.GUEST_CR4)]).toEqual([0x9000n, 0x20a0n]);
    expect(read(F.PROCESSOR_CONTROLS) & CR3_EXITING).toBe(0n);
    f.k.writeCr3(f.at, 0xa000n);
    expect([read(F.GUEST_CR3), f.k.readCr3(f.at)]).toEqual([0xa000n, 0xa000n]);
  });

  test("LME that it prepares is not in the register before paging is on: VM entry would refuse it", () => {
    f.k.writeCr0(f.at, 0x11n);
    f.k.writeEfer(f.at, 0x100n);
    expect([read(EFER), f.k.readEfer(f.at), read(F.ENTRY_CONTROLS) & 0x200n]).toEqual([0n, 0x100n, 0n]);
  });

  test("a second switch in the same direction changes nothing", () => {
    f.k.writeCr0(f.at, 0x11n);
    f.k.writeCr0(f.at, 0x10n);
    expect(f.k.readCr3(f.at)).toBe(0x1000n);
    f.k.writeCr0(f.at, 0x8000_0011n);
    const controls = read(F.PROCESSOR_CONTROLS);
    f.k.writeCr0(f.at, 0x8000_0011n);
    expect([read(F.PROCESSOR_CONTROLS), read(F.GUEST_CR3)]).toEqual([controls, 0x1000n]);
  });

  test("CR0 needs PE and PG, with it NE alone", () => {
    expect([f.k.requiredCr0(0), f.k.requiredCr0(1)]).toEqual([0x8000_0021n, 0x20n]);
  });
});

describe("debug registers", () => {
  beforeEach(() => {
    f.restore();
    Object.assign(f.vcpu, { dr0: 1n, dr1: 2n, dr2: 3n, dr3: 4n, dr6: 0xffff_0ff0n, debugLive: 0 });
    f.m.current.dr.splice(0, 4, 0n, 0n, 0n, 0n);
  });
  const exits = () => (read(F.PROCESSOR_CONTROLS) & MOV_DR_EXITING) !== 0n;

  test("are loaded at the first use, and MOV DR exits no more", () => {
    f.k.loadDebug(f.at);
    expect([...f.m.current.dr.slice(0, 4), f.m.current.dr[6], exits()]).toEqual([1n, 2n, 3n, 4n, 0xffff_0ff0n, false]);
  });

  test("are not loaded twice: the guest's own values stay", () => {
    f.k.loadDebug(f.at);
    f.m.current.dr[0] = 0x77n;
    f.k.loadDebug(f.at);
    expect(f.m.current.dr[0]).toBe(0x77n);
  });

  test("go back to the record when another vCPU comes", () => {
    f.k.loadDebug(f.at);
    f.m.current.dr.splice(0, 4, 5n, 6n, 7n, 8n);
    f.m.current.dr[6] = 0xffff_0ff1n;
    f.k.saveDebug(f.at);
    expect([f.vcpu.dr0, f.vcpu.dr1, f.vcpu.dr2, f.vcpu.dr3, f.vcpu.dr6]).toEqual([5n, 6n, 7n, 8n, 0xffff_0ff1n]);
    f.m.current.dr[0] = 9n;
    f.k.saveDebug(f.at); // they are another's now
    expect(f.vcpu.dr0).toBe(5n);
  });

  test.each([
    [0x400n, true],
    [0x401n, false],
    [0x480n, false],
  ])("on return with DR7 %x MOV DR exits: %s", (dr7, exit) => {
    f.fields.set(F.GUEST_DR7, dr7);
    f.k.restoreDebug(f.at);
    expect([exits(), f.m.current.dr[0]]).toEqual([exit, exit ? 0n : 1n]);
  });
});

describe("what an exit records", () => {
  beforeEach(() => f.restore());

  test("ports: size, direction, string and REP, and the number", () => {
    f.fields.set(F.EXIT_QUALIFICATION, (0x3f8n << 16n) | 0x3bn);
    expect([f.k.decodePort(f.at), f.vcpu.exitAccess]).toEqual([0x3f8, 0x3c]);
  });

  test("EPT violations: addresses, and the access without what the page allowed", () => {
    f.fields
      .set(F.EXIT_QUALIFICATION, 0x1faan)
      .set(F.GUEST_PHYSICAL_ADDRESS, 0xfec0_0010n)
      .set(F.GUEST_LINEAR_ADDRESS, 0x8010n);
    f.k.decodeEpt(f.at);
    expect([f.vcpu.exitAccess, f.vcpu.exitGpa, f.vcpu.exitGva]).toEqual([0x182, 0xfec0_0010n, 0x8010n]);
    expect(f.k.readGuestPhysical()).toBe(0xfec0_0010n);
  });

  test("the fields that handlers read", () => {
    f.fields.set(F.EXIT_INTERRUPTION_INFO, 0x8000_0b0en).set(F.EXIT_INTERRUPTION_ERROR_CODE, 6n);
    f.fields
      .set(F.EXIT_INSTRUCTION_INFO, 0x123n)
      .set(F.EXIT_INSTRUCTION_LENGTH, 4n)
      .set(F.EXIT_QUALIFICATION, 0xf_0000_0013n);
    const k = f.k;
    expect([
      k.readInterruptionInfo(),
      k.readInterruptionError(),
      k.readInstructionInfo(),
      k.readInstructionLength(),
    ]).toEqual([0x8000_0b0e, 6, 0x123, 4]);
    expect([k.readQualification(), k.readCrQualification()]).toEqual([0xf_0000_0013n, 0x13]);
  });
});

describe("translations", () => {
  const EPT_SINGLE = 1n << 25n;
  const VPID_SINGLE = 1n << 41n;
  const all = 0x0000_0f01_0633_4141n;
  const invalidated = () => f.m.current.vmx.invalidations.splice(0);
  const capabilities = (value: bigint) => {
    struct(f.m, "kernel/vmx/capability.ts", "Capability", f.k.capability()).eptVpid = value;
  };
  beforeEach(() => {
    f.restore();
    Object.assign(f.vcpu, { vpid: 5 });
    capabilities(all);
    invalidated();
  });

  test("a VPID is forgotten alone where the processor can, else all are", () => {
    f.k.flushVpid(f.at);
    capabilities(all & ~VPID_SINGLE);
    f.k.flushGuest(f.at);
    expect(invalidated()).toEqual(["invvpid 5", "invvpid all"]);
  });

  test("without VPIDs entries forget by themselves", () => {
    Object.assign(f.vcpu, { procControls2: 0x82 });
    f.k.flushVpid(f.at);
    expect(invalidated()).toEqual([]);
  });

  test("an EPTP is forgotten alone where the processor can, else all are", () => {
    f.k.invalidateEpt(0x1_e01en);
    capabilities(all & ~EPT_SINGLE);
    f.k.invalidateEpt(0x1_e01en);
    expect(invalidated()).toEqual(["invept 1e01eh", "invept all"]);
  });

  test("a change of the EPT is forgotten once on each CPU that enters", () => {
    Object.assign(f.vm, { flushGeneration: 7, number: 3 });
    f.k.syncEpt(f.at - 0x1000);
    f.k.syncEpt(f.at - 0x1000);
    expect(invalidated()).toHaveLength(1);
    f.k.eptChanged(f.at - 0x1000);
    expect([f.vm.flushGeneration, f.vcpu.pending & 0x100]).toEqual([8, 0x100]);
    f.k.syncEpt(f.at - 0x1000);
    expect(invalidated()).toHaveLength(1);
  });
});

describe("the virtual APIC", () => {
  const APIC = { ACCESSES: 1n, X2: 0x10n, REGISTERS: 0x100n, DELIVERY: 0x200n };
  const ALL = APIC.ACCESSES | APIC.X2 | APIC.REGISTERS | APIC.DELIVERY;
  const WITHOUT = { REGISTERS: 8, TPR_SHADOW: 16, ACCESS: 64 };
  const BITMAP = 0x200_0000;
  beforeEach(() => {
    apicv.restore();
    Object.assign(apicv.vm, { without: 0, apicAccessPa: 0x5000n });
    Object.assign(apicv.vcpu, { msrBitmapPa: BigInt(BITMAP) });
    for (let i = 0; i < 4096; i += 8) apicv.m.ram.write64(BITMAP + i, ~0n & 0xffff_ffff_ffff_ffffn);
  });
  const exits = (msr: number, write: boolean) => {
    const byte = apicv.m.ram.read(BITMAP + (write ? 2048 : 0) + (msr >> 3), 1);
    return ((byte >> BigInt(msr & 7)) & 1n) === 1n;
  };

  // biome-ignore format: a table
  test.each<[string, number, number, boolean, bigint]>([
    ["disabled", 0, 0, true, 0n],
    ["xAPIC at its page", 1, 0, true, APIC.ACCESSES | APIC.REGISTERS | APIC.DELIVERY],
    ["xAPIC elsewhere", 1, 0, false, APIC.DELIVERY],
    ["x2APIC", 2, 0, true, APIC.X2 | APIC.REGISTERS | APIC.DELIVERY],
    ["xAPIC without register virtualisation", 1, WITHOUT.REGISTERS, true, APIC.ACCESSES],
    ["x2APIC without register virtualisation", 2, WITHOUT.REGISTERS, true, 0n],
    ["xAPIC without APIC accesses", 1, WITHOUT.ACCESS, true, APIC.DELIVERY],
  ])("%s", (_name, mode, without, accessPage, wanted) => {
    Object.assign(apicv.vm, { without });
    apicv.k.setApicMode(apicv.at, mode, accessPage ? 1 : 0);
    expect((apicv.fields.get(PROC2) ?? 0n) & ALL).toBe(wanted);
  });

  test("without TPR shadow nothing is virtualised", () => {
    Object.assign(apicv.vcpu, { procControls: apicv.vcpu.procControls & ~0x20_0000 });
    apicv.k.setApicMode(apicv.at, 2, 1);
    expect((apicv.fields.get(PROC2) ?? 0n) & ALL).toBe(0n);
  });

  test("in x2APIC mode only registers that exist, and whose value the page has, are read without an exit", () => {
    const readable = [2, 3, 8, 0xa, 0xd, 0xf, 0x28, 0x30, 0x38, 0x3e];
    for (let i = 0x10; i < 0x28; i++) readable.push(i);
    for (let i = 0x32; i < 0x38; i++) readable.push(i);
    apicv.k.setApicMode(apicv.at, 2, 1);
    const open = Array.from({ length: 0x100 }, (_, i) => i).filter((i) => !exits(0x800 + i, false));
    expect(open).toEqual(readable.sort((a, b) => a - b));
    expect(Array.from({ length: 0x100 }, (_, i) => i).filter((i) => !exits(0x800 + i, true))).toEqual([8, 0xb, 0x3f]);
    apicv.k.setApicMode(apicv.at, 1, 1);
    expect(
      Array.from({ length: 0x100 }, (_, i) => i).every((i) => exits(0x800 + i, false) && exits(0x800 + i, true)),
    ).toBe(true);
  });

  test("RVI and SVI share a field, and EOI exits have a bit a vector", () => {
    apicv.k.setVirtualInterrupts(apicv.at, 0x51, 0x41);
    expect([apicv.k.readVirtualInterrupts(), apicv.fields.get(0x810)]).toEqual([0x4151, 0x4151n]);
    apicv.k.setEoiExit(3, 1n << 63n);
    expect(apicv.fields.get(0x2022)).toBe(1n << 63n);
  });
});
