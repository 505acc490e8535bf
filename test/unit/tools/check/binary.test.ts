// The reader of the final image: escapes planted one at a time in a core of a few lines, and in the real one.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { checkBinary, STUB_INSTRUCTIONS } from "../../../../tools/check/binary.ts";
import { buildImage } from "../../../../tools/image/build.ts";
import { buildFolder } from "../../../../tools/paths.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "basalt-binary-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Parts {
  core?: string;
  cold?: string;
  routine?: string;
  stub?: string;
  rodata?: string;
  /** A section that is executable as well. */
  more?: string;
}

/** An image of one function, with `parts` in it, laid out as the compiler does it. */
function image(parts: Parts): string {
  const source = `
bits 64
default rel
global _start, insn_routine
section .text
basalt_text:
f:
%line 7+0 kernel/f.ts
${parts.core ?? ""}
  ret
f.end:
g:
  ret
g.end:
basalt_routines:
basalt_memory_copy:
${parts.routine ?? ""}
  ret
basalt_text_end:
%line 1+0 boot/vectors.asm
_start:
${parts.stub ?? ""}
  ret
insn_routine:
  ret
basalt_cold:
f.cold: int3
%line 9+0 kernel/f.ts
${parts.cold ?? ""}
f.trap0:
  ud2
basalt_cold_end:
section .rodata
f.j0:
${parts.rodata ?? "  dd 0"}
section .data
basalt_data:
basalt_global_0: dq 0
basalt_data_end:
foreign: dq 0
${parts.more ?? ""}
`;
  const path = (name: string): string => join(folder, name);
  writeFileSync(path("a.asm"), source);
  execFileSync("nasm", ["-Werror", "-f", "elf64", "-g", "-F", "dwarf", "-o", path("a.o"), path("a.asm")]);
  execFileSync("ld", ["-Ttext=0xffffffff80100000", "-o", path("a.elf"), path("a.o")], { stdio: "pipe" });
  return path("a.elf");
}

async function violations(parts: Parts): Promise<string[]> {
  return (await checkBinary(image(parts))).violations.map((v) => v.what);
}

const TABLE_JUMP = `
  cmp edi, 2
  jae f.end2
  lea rcx, [f.j0]
  movsxd rax, dword [rcx+rdi*4]
  add rax, rcx
  jmp rax
f.one:
  xor eax, eax
f.end2:`;
const TABLE = "  dd f.one - f.j0\n  dd f.end2 - f.j0";

describe("compiled code may", () => {
  const ALLOWED: [string, Parts][] = [
    ["address linear memory modulo 2^32", { core: "  mov eax, [edi+esi*8+65535]\n  add qword [r12d], 1" }],
    ["use absolute addresses of linear memory", { core: "  mov eax, [abs 65536]" }],
    ["add an offset of up to 2 GiB to a zero-extended index", { core: "  mov edi, edi\n  mov eax, [rdi+0x7ffffff8]" }],
    ["use its frame", { core: "  sub rsp, 64\n  mov [rsp+56], rax\n  add rsp, 64" }],
    [
      "use its globals, and read tables",
      { core: "  inc dword [basalt_global_0]\n  mov eax, [f.j0]".replace("inc", "not") },
    ],
    ["jump by a table whose bound it checks", { core: TABLE_JUMP, rodata: TABLE }],
    ["call functions and routines", { core: "  call g\n  call basalt_memory_copy\n  call insn_routine" }],
    ["go to its cold part, and from there back", { core: "  je f.trap0\nf.b1:", cold: "  jmp f.b1" }],
    [
      "contain an intrinsic's text",
      { core: "f.asm0.insn.rdmsr:\n  rdmsr\n  shl rdx, 32\n  or rax, rdx\nf.asm0.insn.end:" },
    ],
    ["copy with string instructions in routines", { routine: "  rep movsb" }],
  ];
  test.each(ALLOWED)("%s", async (_, parts) => {
    expect(await violations(parts)).toEqual([]);
  });
});

describe("an escape is found:", () => {
  const ESCAPES: [string, Parts, RegExp][] = [
    ["a 64-bit address", { core: "  mov eax, [rdi]" }, /^a base register that is not seen to be zero-extended: mov/],
    ["two 64-bit registers", { core: "  mov edi, edi\n  mov eax, [rdi+rsi]" }, /^an address of 64-bit registers: mov/],
    [
      "an index that is zero-extended on one way only",
      { core: "  mov edi, edi\nf.b1:\n  mov eax, [rdi+65536]\n  jne f.b1" },
      /^a base register that is not seen/,
    ],
    [
      "an index that a call may have changed",
      { core: "  mov edi, edi\n  call g\n  mov eax, [rdi+65536]" },
      /^a base register that is not seen/,
    ],
    [
      "a negative displacement",
      { core: "  mov edi, edi\n  mov eax, [rdi-8]" },
      /^a displacement outside of 0 \.\. 2 GiB/,
    ],
    [
      "an address in the high half",
      { core: "  mov eax, [abs qword -4096]".replace("qword ", "") },
      /^an absolute address/,
    ],
    ["a segment base", { core: "  mov eax, [gs:edi]" }, /^a segment base: mov/],
    ["an operand above the frame", { core: "  mov eax, [rsp+0x10000]" }, /^an operand outside of the frame/],
    ["an indexed stack operand", { core: "  mov eax, [rsp+rdi*8]" }, /^an operand outside of the frame/],
    ["another file's data", { core: "  mov eax, [foreign]" }, /^neither the core's data nor rodata/],
    ["a write to a table", { core: "  mov [f.j0], eax" }, /^neither the core's data nor rodata/],
    ["the stack pointer set", { core: "  mov rsp, rdi" }, /^the stack pointer is set/],
    ["a privileged instruction", { core: "  wrmsr" }, /^not an instruction of compiled code: wrmsr/],
    ["a control register", { core: "  mov cr3, rax" }, /^a register that compiled code has no use for/],
    ["a segment register", { cold: "  mov ds, eax" }, /^a register that compiled code has no use for/],
    ["a vector register", { core: "  movups xmm0, [edi]" }, /^not an instruction of compiled code/],
    ["a string instruction outside of the routines", { core: "  rep stosb" }, /^not an instruction of compiled code/],
    [
      "an intrinsic that is more than its row",
      { core: "f.asm0.insn.rdmsr:\n  rdmsr\n  wrmsr\n  shl rdx, 32\n  or rax, rdx\nf.asm0.insn.end:" },
      /^not the text of rdmsr \(rdmsr; wrmsr/,
    ],
    [
      "an intrinsic of no row",
      { core: "f.asm0.insn.escape:\n  rdmsr\nf.asm0.insn.end:" },
      /^no intrinsic is named escape/,
    ],
    ["an indirect jump", { core: "  jmp rax" }, /^an indirect jump without its table/],
    [
      "a table without a bound",
      { core: TABLE_JUMP.replace("jae f.end2", "nop"), rodata: TABLE },
      /^an address of 64-bit registers: movsxd/,
    ],
    [
      "a bound that is larger than the table",
      { core: TABLE_JUMP.replace("edi, 2", "edi, 3"), rodata: TABLE },
      /^an address of 64-bit registers: movsxd/,
    ],
    [
      "a table that leads elsewhere",
      { core: TABLE_JUMP, rodata: TABLE.replace("f.one", "g") },
      /^an address of 64-bit registers: movsxd/,
    ],
    [
      "a way around a table's bound",
      { core: `  jne f.b9\n${TABLE_JUMP.replace("  lea", "f.b9:\n  lea")}`, rodata: TABLE },
      /^an address of 64-bit registers: movsxd/,
    ],
    [
      "an index that a case of a table does not extend",
      {
        core: `  mov edi, edi\n${TABLE_JUMP}\n  mov edx, edx\nf.b8:\n  mov eax, [rdx+65536]`,
        rodata: TABLE.replace("f.one", "f.b8"),
      },
      /^a base register that is not seen/,
    ],
    ["an indirect call", { core: "  call rax" }, /^an indirect call without its table/],
    [
      "an indirect call without a check of the signature",
      { core: "  cmp edi, 1\n  jae f.end2\n  lea rcx, [f.j0]\n  call [rcx+rdi*8]\nf.end2:" },
      /^an indirect call without its checks/,
    ],
    ["a call into the middle of a function", { core: "  nop\nf.b1:\n  nop\n  call f.b1" }, /^a call of no function/],
    ["a jump into the middle of an instruction", { core: "f.b1:\n  mov eax, 5\n  jmp f.b1+1" }, /^into the middle/],
    ["a jump out of the core", { core: "  jmp _start" }, /^a jump out of the core/],
    ["a jump through memory", { core: "  jmp [edi]" }, /^a jump to where nobody knows/],
    ["a routine's index", { routine: "  mov eax, [rdi+rsi*8]" }, /^not an operand of a routine/],
    ["an unlisted instruction of a file", { stub: "  vmxoff" }, /^boot\/vectors\.asm is not listed with vmxoff/],
    ["vector state in a hand-written file", { stub: "  movups [rdi], xmm0" }, /is not listed with vector state/],
    [
      "a file that is not listed",
      { stub: "%line 1+0 boot/other.asm\n  wrmsr" },
      /^a privileged instruction outside of the listed files/,
    ],
    [
      "code outside of .text",
      { more: "section .more progbits alloc exec nowrite\n  nop" },
      /^executable memory outside of \.text/,
    ],
  ];
  test.each(ESCAPES)("%s", async (_, parts, message) => {
    const found = await violations(parts);
    expect(found[0] ?? "").toMatch(message);
  });
});

const built = buildFolder("release");
const has = existsSync(join(built, "report.json"));

describe.skipIf(!has)("the real image", () => {
  const read = (name: string): string => readFileSync(join(built, name), "utf8");
  const core = (asm: string) => ({
    asm,
    linear: readFileSync(join(built, "linear.bin")),
    report: JSON.parse(read("report.json")),
  });

  test("passes, and its hand-written files do all that they are listed with", async () => {
    const report = await checkBinary(join(built, "basalt.elf"));
    expect(report.violations).toEqual([]);
    expect(report.instructions).toBeGreaterThan(20_000);
    expect(report.inIntrinsics).toBeGreaterThan(500);
    expect([report.indirectJumps, report.indirectCalls]).toEqual([0, 0]); // nothing that a guest could steer
    const exact = Object.entries(STUB_INSTRUCTIONS).filter(([, list]) => list !== "any");
    for (const [file, list] of exact) expect(report.privileged[file] ?? [], file).toEqual([...list].sort());
  });

  test("is not built if something on the exit path allocates", async () => {
    const { exitPath, ...report } = core(read("basalt.asm")).report;
    const finding = { rule: "allocation", what: "kernel/mm/frame/allocFrame", path: ["kernel/vm/run/loop", "f"] };
    const bad = { ...core(read("basalt.asm")), report: { ...report, exitPath: { ...exitPath, findings: [finding] } } };
    const error = await buildImage({ core: bad, folder: join(folder, "allocates") }).catch((e: Error) => e);
    expect(String(error)).toMatch(
      /exit path: allocation: kernel\/mm\/frame\/allocFrame, by kernel\/vm\/run\/loop -> f/,
    );
  });

  test("is not built with an escape in it, which one line names", async () => {
    const target = join(folder, "image");
    const asm = read("basalt.asm").replace("\nkmain:\n", "\nkmain:\n%line 77+0 kernel/main.ts\n  mov rax, [rdi]\n");
    const error = await buildImage({ core: core(asm), folder: target }).catch((e: Error) => e);
    expect(String(error)).toMatch(/kmain \(kernel\/main\.ts:77\): a base register that is not seen to be z/);
    expect(String(error).split("\n")).toHaveLength(1);
    expect(existsSync(join(target, "basalt.elf"))).toBe(false);
  });
});
