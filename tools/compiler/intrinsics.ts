/**
 * One row for each function that kernel/cpu/insn.ts declares: what it demands of its operands, the
 * NASM text it becomes, what it overwrites and what the optimiser may assume of it.
 *
 * Templates: `%0`, `%1` ... are the operands in order, `%r` the result, as 64-bit registers; a suffix
 * d, w or b picks the 32-, 16- or 8-bit name. An operand with the constraint `table`, `guest` or
 * `device` prints as a whole memory operand. `%s` is a stack slot of 16 bytes, without brackets.
 * `%l` gives a label that is unique to this use.
 */

import type { Type } from "./ir.ts";

/** What the optimiser may assume. Without a row, everything is assumed: see `effectsOf`. */
export interface Effects {
  /** Depends on its arguments only: may be merged, moved or dropped. */
  pure: boolean;
  /** Reads, writes linear memory. */
  reads: boolean;
  writes: boolean;
  /** No memory access and no other intrinsic moves across it. */
  barrier: boolean;
  noreturn: boolean;
}

/** r: any register; z: any register, bits 63..32 zero; `rax` ...: that one; `rcx:z`: that one, zero-extended. */
export type FixedRegister = "rax" | "rcx" | "rdx" | "rbx" | "rsi" | "rdi" | "r8";
export type WindowName = "table" | "guest" | "device";
export type Constraint = "r" | "z" | FixedRegister | `${FixedRegister}:z` | WindowName;

export interface Intrinsic {
  name: string;
  params: Type[];
  result: Type | null;
  effects: Effects;
  /** A call of the NASM routine `insn_<name>`: operands in RDI, RSI, RDX, RCX, R8, result in RAX, everything clobbered. */
  routine: boolean;
  operands: Constraint[];
  /** Where the result is; null: none. */
  output: "r" | FixedRegister | null;
  clobbers: FixedRegister[];
  /** Bits 63..32 of an i32 result are zero. */
  zeroExtended: boolean;
  template: string[];
}

const PURE: Effects = { pure: true, reads: false, writes: false, barrier: false, noreturn: false };
/** Stays in order with other intrinsics, has nothing to do with linear memory. */
const ORDERED: Effects = { ...PURE, pure: false };
const READS: Effects = { ...ORDERED, reads: true };
const WRITES: Effects = { ...ORDERED, writes: true };
const BARRIER: Effects = { pure: false, reads: true, writes: true, barrier: true, noreturn: false };
const NORETURN: Effects = { ...BARRIER, noreturn: true };

type Shape = [name: string, signature: string, effects: Effects];
interface Code {
  in?: Constraint[];
  out?: "r" | FixedRegister;
  clobbers?: FixedRegister[];
  zero?: boolean;
  asm: string[];
}

function signatureTypes(text: string): Type[] {
  return [...text].map((c) => (c === "I" ? "i64" : "i32"));
}

/** signature: "iI:I" is (i32, i64) -> i64. */
function row([name, signature, effects]: Shape, code: Code): Intrinsic {
  const [params, results] = signature.split(":");
  const types = signatureTypes(params ?? "");
  return {
    name,
    params: types,
    result: signatureTypes(results ?? "")[0] ?? null,
    effects,
    routine: false,
    operands: code.in ?? types.map(() => "r" as const),
    output: code.out ?? (results ? "r" : null),
    clobbers: code.clobbers ?? [],
    zeroExtended: code.zero ?? false,
    template: code.asm,
  };
}

function routine(...shape: Shape): Intrinsic {
  return { ...row(shape, { asm: [] }), routine: true };
}

// Status of a VMX instruction: 0 success, 1 CF (VMfailInvalid), 2 ZF (VMfailValid).
const VMX_STATUS = ["sete %rb", "movzx %rd, %rb", "adc %rd, %rd"];
// RDX:RAX from and to one 64-bit register.
const JOIN = ["shl rdx, 32", "or rax, rdx"];
const SPLIT = ["mov rdx, rax", "shr rdx, 32"];

const read = (name: string, register: string): Intrinsic =>
  row([name, ":I", ORDERED], { asm: [`mov %r, ${register}`] });
const write = (name: string, register: string): Intrinsic =>
  row([name, "I:", ORDERED], { asm: [`mov ${register}, %0`] });
const plain = (name: string, effects: Effects, ...asm: string[]): Intrinsic => row([name, ":", effects], { asm });

/** MOVs through a window: `load`, `store`. Narrow loads zero-extend. */
function windowLoad(window: WindowName, bits: 8 | 16 | 32 | 64): Intrinsic {
  const asm = bits < 32 ? `movzx %rd, ${bits === 8 ? "byte" : "word"} %0` : bits === 32 ? "mov %rd, %0" : "mov %r, %0";
  return row([`${window}load${bits}`, bits === 64 ? "I:I" : "I:i", ORDERED], { in: [window], zero: true, asm: [asm] });
}

function windowStore(window: WindowName, bits: 8 | 16 | 32 | 64): Intrinsic {
  const source = { 8: "%1b", 16: "%1w", 32: "%1d", 64: "%1" }[bits];
  return row([`${window}store${bits}`, bits === 64 ? "II:" : "Ii:", ORDERED], {
    in: [window, "r"],
    asm: [`mov %0, ${source}`],
  });
}

function windowCas(window: WindowName, bits: 8 | 16 | 32 | 64): Intrinsic {
  const source = { 8: "%2b", 16: "%2w", 32: "%2d", 64: "%2" }[bits];
  const zeroed = { 8: ["movzx eax, al"], 16: ["movzx eax, ax"], 32: ["mov eax, eax"], 64: [] }[bits];
  return row([`${window}cas${bits}`, bits === 64 ? "III:I" : "Iii:i", BARRIER], {
    in: [window, "rax", "r"],
    out: "rax",
    zero: true,
    asm: [`lock cmpxchg %0, ${source}`, ...zeroed],
  });
}

/** REP MOVSB and STOSB with one side in a window: the base is added to the register. */
function copy(name: string, signature: string, effects: Effects, from: Constraint, to: Constraint): Intrinsic {
  const order: Record<string, Constraint[]> = {
    deviceread: [to, from, "rcx:z"],
    guestread: [to, from, "rcx:z"],
    guestwrite: [to, from, "rcx:z"],
    guestcopyfromdevice: [to, from, "rcx"],
  };
  const fix = (c: Constraint, register: string): string[] =>
    isWindow(c) ? [`lea ${register}, %${order[name]?.indexOf(c)}`] : [];
  return row([name, signature, effects], {
    in: order[name] as Constraint[],
    clobbers: ["rdi", "rsi", "rcx"],
    asm: [...fix(from, "rsi"), ...fix(to, "rdi"), "rep movsb"],
  });
}

/** Resumes at the fix-up, with 0 as result, when `instruction` faults: rows of (fault, resume) in .fixup. */
function guarded(instruction: string): string[] {
  return [
    `%l_fault: ${instruction}`,
    "mov eax, 1",
    "%l_done:",
    "[section .text.cold]",
    "%l_fixup: xor eax, eax",
    "jmp %l_done",
    "[section .fixup]",
    "dq %l_fault, %l_fixup",
    "[section .text]",
  ];
}

const ROWS: Intrinsic[] = [
  // Identification, model-specific and control registers
  row(["cpuid", "iii:", WRITES], {
    in: ["rax", "rcx", "rsi"],
    clobbers: ["rax", "rbx", "rcx", "rdx"],
    asm: ["cpuid", "mov [esi], eax", "mov [esi+4], ebx", "mov [esi+8], ecx", "mov [esi+12], edx"],
  }),
  row(["rdmsr", "i:I", ORDERED], { in: ["rcx"], out: "rax", clobbers: ["rdx"], asm: ["rdmsr", ...JOIN] }),
  row(["wrmsr", "iI:", BARRIER], { in: ["rcx", "rax"], clobbers: ["rdx"], asm: [...SPLIT, "wrmsr"] }),
  row(["rdmsrSafe", "ii:i", WRITES], {
    in: ["rcx", "rsi"],
    out: "rax",
    clobbers: ["rdx"],
    zero: true,
    asm: guarded("rdmsr").flatMap((line) =>
      line === "mov eax, 1" ? ["mov [esi], eax", "mov [esi+4], edx", "mov eax, 1"] : [line],
    ),
  }),
  row(["wrmsrSafe", "iI:i", BARRIER], {
    in: ["rcx", "rax"],
    out: "rax",
    clobbers: ["rdx"],
    zero: true,
    asm: [...SPLIT, ...guarded("wrmsr")],
  }),
  read("readCr0", "cr0"),
  row(["writeCr0", "I:", BARRIER], { asm: ["mov cr0, %0"] }),
  read("readCr2", "cr2"),
  write("writeCr2", "cr2"),
  read("readCr3", "cr3"),
  row(["writeCr3", "I:", BARRIER], { asm: ["mov cr3, %0"] }),
  read("readCr4", "cr4"),
  row(["writeCr4", "I:", BARRIER], { asm: ["mov cr4, %0"] }),
  ...[0, 1, 2, 3, 6, 7].flatMap((n) => [read(`readDr${n}`, `dr${n}`), write(`writeDr${n}`, `dr${n}`)]),
  row(["xgetbv", "i:I", ORDERED], { in: ["rcx"], out: "rax", clobbers: ["rdx"], asm: ["xgetbv", ...JOIN] }),
  row(["xsetbv", "iI:", BARRIER], { in: ["rcx", "rax"], clobbers: ["rdx"], asm: [...SPLIT, "xsetbv"] }),
  // RSP is back at once and nothing lives below it.
  row(["readFlags", ":I", ORDERED], { asm: ["pushfq", "pop %r"] }),

  // Time and randomness
  row(["rdtsc", ":I", ORDERED], { out: "rax", clobbers: ["rdx"], asm: ["rdtsc", ...JOIN] }),
  row(["rdtscOrdered", ":I", BARRIER], {
    out: "rax",
    clobbers: ["rdx"],
    asm: ["lfence", "rdtsc", "lfence", ...JOIN],
  }),
  row(["rdrand", "i:i", WRITES], {
    in: ["rsi"],
    out: "rax",
    clobbers: ["rdx"],
    zero: true,
    asm: ["xor eax, eax", "rdrand rdx", "setc al", "mov [esi], rdx"],
  }),

  // Ports
  row(["in8", "i:i", ORDERED], { in: ["rdx"], out: "rax", zero: true, asm: ["in al, dx", "movzx eax, al"] }),
  row(["in16", "i:i", ORDERED], { in: ["rdx"], out: "rax", zero: true, asm: ["in ax, dx", "movzx eax, ax"] }),
  row(["in32", "i:i", ORDERED], { in: ["rdx"], out: "rax", zero: true, asm: ["in eax, dx"] }),
  row(["out8", "ii:", ORDERED], { in: ["rdx", "rax"], asm: ["out dx, al"] }),
  row(["out16", "ii:", ORDERED], { in: ["rdx", "rax"], asm: ["out dx, ax"] }),
  row(["out32", "ii:", ORDERED], { in: ["rdx", "rax"], asm: ["out dx, eax"] }),

  // Waiting, interrupts, ordering
  plain("pause", BARRIER, "pause"),
  plain("hlt", BARRIER, "hlt"),
  plain("idle", BARRIER, "sti", "hlt", "cli"),
  plain("takeInterrupts", BARRIER, "sti", "nop", "cli"),
  plain("raiseNmi", BARRIER, "int 2"),
  plain("raiseMachineCheck", BARRIER, "int 18"),
  plain("cli", BARRIER, "cli"),
  plain("sti", BARRIER, "sti"),
  plain("mfence", BARRIER, "mfence"),
  plain("lfence", BARRIER, "lfence"),
  plain("sfence", BARRIER, "sfence"),
  plain("barrier", BARRIER),

  // Caches, translations, speculation
  row(["invlpg", "I:", BARRIER], { asm: ["invlpg [%0]"] }),
  plain("wbinvd", BARRIER, "wbinvd"),
  row(["clflush", "i:", BARRIER], { asm: ["clflush [%0d]"] }),
  plain("verw", ORDERED, "mov word [%s], ds", "verw [%s]"),
  // Each CALL leaves a return address on the return stack buffer; nothing lives below RSP.
  plain(
    "fillRsb",
    BARRIER,
    ...Array.from({ length: 32 }, (_, i) => [`call %l_${i}`, "int3", `%l_${i}:`]).flat(),
    "add rsp, 256",
    "lfence",
  ),

  // Descriptor tables and the machine
  routine("loadDescriptors", "IiIii:", BARRIER),
  row(["cpuBlock", ":i", PURE], { zero: true, asm: ["mov %rd, [gs:0]"] }),
  row(["imageload64", "I:I", ORDERED], { asm: ["mov %r, [%0]"] }),
  routine("imageStart", ":I", ORDERED),
  routine("imageEnd", ":I", ORDERED),
  routine("imageBoundary", "i:I", ORDERED),
  plain("halt", NORETURN, "cli", "%l_halt:", "hlt", "jmp %l_halt"),
  routine("unwind", "i:", NORETURN),
  routine("injectFault", "i:", BARRIER),

  // Windows
  ...([8, 32, 64] as const).map((bits) => windowLoad("table", bits)),
  ...([8, 32, 64] as const).map((bits) => windowStore("table", bits)),
  windowCas("table", 64),
  row(["tablefill64", "III:", ORDERED], {
    in: ["table", "rax", "rcx"],
    clobbers: ["rdi", "rcx"],
    asm: ["lea rdi, %0", "rep stosq"],
  }),
  ...([8, 16, 32, 64] as const).map((bits) => windowLoad("guest", bits)),
  ...([8, 16, 32, 64] as const).map((bits) => windowStore("guest", bits)),
  ...([8, 16, 32, 64] as const).map((bits) => windowCas("guest", bits)),
  copy("guestread", "iIi:", WRITES, "guest", "rdi:z"),
  copy("guestwrite", "Iii:", READS, "rsi:z", "guest"),
  row(["guestfill", "IiI:", ORDERED], {
    in: ["guest", "rax", "rcx"],
    clobbers: ["rdi", "rcx", "rax", "rdx"],
    // Quadwords of the byte, then what is left of it.
    asm: [
      "lea rdi, %0",
      "movzx eax, al",
      "mov rdx, 0x0101010101010101",
      "imul rax, rdx",
      "mov rdx, rcx",
      "shr rcx, 3",
      "rep stosq",
      "mov ecx, edx",
      "and ecx, 7",
      "rep stosb",
    ],
  }),
  ...([8, 16, 32, 64] as const).map((bits) => windowLoad("device", bits)),
  ...([8, 16, 32, 64] as const).map((bits) => windowStore("device", bits)),
  copy("deviceread", "iIi:", WRITES, "device", "rdi:z"),
  copy("guestcopyfromdevice", "III:", ORDERED, "device", "guest"),

  // Wide arithmetic
  row(["umulh", "II:I", PURE], { in: ["rax", "r"], out: "rdx", clobbers: ["rax"], asm: ["mul %1"] }),
  row(["udiv128", "III:I", ORDERED], { in: ["rdx", "rax", "r"], out: "rax", clobbers: ["rdx"], asm: ["div %2"] }),

  // Floating-point and vector state
  row(["xsave", "iI:", WRITES], { in: ["r", "rax"], clobbers: ["rdx"], asm: [...SPLIT, "xsave64 [%0d]"] }),
  row(["xsavec", "iI:", WRITES], { in: ["r", "rax"], clobbers: ["rdx"], asm: [...SPLIT, "xsavec64 [%0d]"] }),
  row(["xrstor", "iI:", READS], { in: ["r", "rax"], clobbers: ["rdx"], asm: [...SPLIT, "xrstor64 [%0d]"] }),
  row(["fxsave", "i:", WRITES], { asm: ["fxsave64 [%0d]"] }),
  row(["fxrstor", "i:", READS], { asm: ["fxrstor64 [%0d]"] }),
  plain("clts", ORDERED, "clts"),

  // VMX
  row(["vmxon", "I:i", BARRIER], { zero: true, asm: ["mov [%s], %0", "vmxon [%s]", ...VMX_STATUS] }),
  plain("vmxoff", BARRIER, "vmxoff"),
  row(["vmclear", "I:i", BARRIER], { zero: true, asm: ["mov [%s], %0", "vmclear [%s]", ...VMX_STATUS] }),
  row(["vmptrld", "I:i", BARRIER], { zero: true, asm: ["mov [%s], %0", "vmptrld [%s]", ...VMX_STATUS] }),
  row(["vmread", "i:I", ORDERED], { in: ["z"], asm: ["vmread %r, %0"] }),
  row(["vmwrite", "iI:", ORDERED], { in: ["z", "r"], asm: ["vmwrite %0, %1"] }),
  row(["vmwriteSafe", "iI:i", ORDERED], { in: ["z", "r"], zero: true, asm: ["vmwrite %0, %1", ...VMX_STATUS] }),
  row(["vmreadSafe", "ii:i", WRITES], {
    in: ["rcx:z", "rsi"],
    out: "rax",
    clobbers: ["rdx"],
    zero: true,
    asm: ["xor edx, edx", "vmread rdx, rcx", "sete al", "movzx eax, al", "adc eax, eax", "mov [esi], rdx"],
  }),
  row(["invept", "iI:i", BARRIER], {
    in: ["z", "r"],
    zero: true,
    asm: ["mov [%s], %1", "mov qword [%s+8], 0", "invept %0, [%s]", ...VMX_STATUS],
  }),
  row(["invvpid", "iiI:i", BARRIER], {
    in: ["z", "z", "r"],
    zero: true,
    asm: ["mov [%s], %1", "mov [%s+8], %2", "invvpid %0, [%s]", ...VMX_STATUS],
  }),
  routine("vmenter", "i:i", BARRIER),
];

const BY_NAME = new Map(ROWS.map((r) => [r.name, r]));

/** All rows, in the order of kernel/cpu/insn.ts. */
export const INTRINSICS: readonly Intrinsic[] = ROWS;

/** The row of `name`; undefined if there is none, which the driver refuses with the place of the import. */
export function intrinsic(name: string): Intrinsic | undefined {
  return BY_NAME.get(name);
}

/** What may be assumed of the intrinsic `name`: everything, if it is unknown. */
export function effectsOf(name: string): Effects {
  return BY_NAME.get(name)?.effects ?? BARRIER;
}

export function isWindow(constraint: Constraint): constraint is WindowName {
  return constraint === "table" || constraint === "guest" || constraint === "device";
}

/** Does the template need the 16-byte stack slot? */
export function usesScratch(row: Intrinsic): boolean {
  return row.template.some((line) => line.includes("%s"));
}

const VECTOR_MNEMONIC = /^(f\w+|xsave\w*|xrstor\w*|clts|emms|ldmxcsr|stmxcsr|v(?!m|er)\w+)$/;
const VECTOR_REGISTER = /\b([xyz]?mm\d+|st\d?|k[0-7])\b/;

/** Is it an instruction on the floating-point or vector registers, or on what they hold? Mnemonic and operands as NASM or objdump print them. */
export function isVectorInstruction(mnemonic: string, operands: string): boolean {
  return VECTOR_MNEMONIC.test(mnemonic) || VECTOR_REGISTER.test(operands);
}

export function touchesVectorState(row: Intrinsic): boolean {
  return row.template.some((line) => {
    const [mnemonic, ...operands] = line.split(/\s+/);
    return isVectorInstruction(mnemonic as string, operands.join(" "));
  });
}
