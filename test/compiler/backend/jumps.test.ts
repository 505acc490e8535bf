import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { atMost, shortenJumps } from "../../../tools/compiler/backend/jumps.ts";

/** Assembles `lines` and returns NASM's listing, a line of bytes each: "" where there are none. */
function listing(lines: string[]): string[] {
  const folder = mkdtempSync(join(tmpdir(), "basalt-jumps-"));
  try {
    const [source, list] = [join(folder, "a.asm"), join(folder, "a.lst")];
    writeFileSync(source, `bits 64\ndefault rel\n${lines.join("\n")}\n`);
    execFileSync("nasm", ["-Werror", "-f", "elf64", "-l", list, "-o", join(folder, "a.o"), source]);
    const bytes: string[] = lines.map(() => "");
    for (const line of readFileSync(list, "utf8").split("\n")) {
      const match = /^\s*(\d+) [0-9A-F]{8} ([0-9A-F()[\]-]+)/.exec(line);
      const at = Number(match?.[1]) - 3;
      if (match && bytes[at] !== undefined) bytes[at] += (match[2] as string).replace(/[^0-9A-F]/g, "");
    }
    return bytes;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const REGISTERS = ["eax", "rax", "r8d", "r15"];
const MEMORY = [
  ...["[eax]", "[ebp]", "[r13d]", "[r12d]", "[eax+4]", "[eax+126]", "[eax+128]", "[eax-128]", "[eax+65535]"],
  ...["[eax+ecx]", "[eax+r9d*8+16]", "[r9d*4]", "[edi*8+24]", "[rax+100000]", "[abs 65600]", "[rsp+8]", "[rsp+4096]"],
  ...["[rel here]", "[gs:eax]", "[gs:rax+rcx*2+8]", "[gs:rel here]"],
];
const OPERATIONS = ["mov", "add", "cmp", "test", "imul", "movzx", "xchg", "lock xadd", "lock cmpxchg"];

function forms(): string[] {
  const other = (register: string): string => (/^r\d*$|^rax$|^r15$/.test(register) ? "r10" : "r10d");
  const narrow = (op: string): string => (op === "movzx" ? "word " : "");
  const out: string[] = [];
  for (const op of OPERATIONS) {
    const isLocked = op.startsWith("lock");
    for (const register of REGISTERS) {
      if (!isLocked && op !== "movzx") out.push(`${op} ${register}, ${other(register)}`);
      for (const memory of MEMORY)
        out.push(isLocked ? `${op} ${memory}, ${register}` : `${op} ${register}, ${narrow(op)}${memory}`);
    }
  }
  for (const op of ["add", "cmp", "and", "mov", "test"])
    for (const value of ["1", "-128", "127", "128", "0x7fffffff", "-0x80000000"])
      for (const place of [...REGISTERS, "al", "r9b", "dword [eax+8]", "qword [r12d]", "byte [rsp+3]"])
        if (!/al|r9b|byte/.test(place) || Math.abs(Number(value)) < 128) out.push(`${op} ${place}, ${value}`);
  out.push("mov rax, 0x123456789abcdef0", "mov r9, -0x500000000000", "mov word [eax], 4660", "mov word [r9d+8], ax");
  out.push("movabs_is_no_name:", "lea ecx, [rbp*8]", "lea r12, [r12+r12*4+77777]", "shl r9, cl", "sar dword [eax], 5");
  out.push("mov cr4, r8", "mov r8, cr3", "mov rax, dr6", "setb r9b", "cmovne r8, [eax+800]", "popcnt r9, [gs:rax+8]");
  out.push("push r12", "pop rax", "call far_away", "jmp far_away", "je far_away", "vmread r9, r10", "out dx, ax");
  out.push("in eax, dx", "rdmsr", "ret", "bswap r9", "shld rax, r9, 12", "rep movsb", "lock inc qword [r13d+1000]");
  out.push("invept rax, [rsp+8]", "div qword [r12d+8]", "imul r9d, [eax+ecx*8+9999], 100000", "movsxd r9, dword [eax]");
  return out;
}

test("the bound of an instruction's length is never too low", () => {
  const lines = ["extern far_away", "here:", ...forms().map((form) => (form.endsWith(":") ? form : `  ${form}`))];
  const actual = listing(lines);
  const low = lines.filter((line, i) => !line.startsWith("extern") && atMost(line) * 2 < (actual[i] as string).length);
  expect(low).toEqual([]);
  expect(actual.filter((bytes) => bytes !== "").length).toBeGreaterThan(800);
});

const filler = (count: number): string[] => Array.from({ length: count }, () => "  ret");

test("a jump is short exactly as far as it reaches", () => {
  const over = (count: number): string => shortenJumps(["  je f.a", ...filler(count), "f.a:"])[0] as string;
  expect(over(127)).toBe("  je short f.a");
  expect(over(128)).toBe("  je near f.a");
  const back = (count: number): string => shortenJumps(["f.a:", ...filler(count), "  jmp f.a"]).at(-1) as string;
  expect(back(125)).toBe("  jmp short f.a");
  expect(back(127)).toBe("  jmp near f.a");
});

test("a jump that grows pushes others out of reach", () => {
  const lines = ["  je f.b", "  jne f.far", ...filler(123), "f.b:", ...filler(200), "f.far:"];
  expect(shortenJumps(lines).slice(0, 2)).toEqual(["  je near f.b", "  jne near f.far"]);
});

test("jumps out of the lines at hand stay as they are", () => {
  expect(shortenJumps(["  jmp g", "  jmp rax", "  jmp [eax]"])).toEqual(["  jmp g", "  jmp rax", "  jmp [eax]"]);
});
