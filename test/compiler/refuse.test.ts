// What the compiler does not accept, and where it says the fault lies.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { CompileError, formatDiagnostic } from "../../tools/compiler/diagnostic.ts";
import { compileSourceFile } from "../../tools/compiler/main.ts";
import { ROOT } from "../../tools/paths.ts";

const folder = mkdtempSync(join(tmpdir(), "basalt-refuse-"));
afterAll(() => rmSync(folder, { recursive: true }));

let files = 0;
function write(source: string): string {
  const file = join(folder, `s${files++}.ts`);
  writeFileSync(file, source);
  return file;
}

/** What is said about a program, or the compiled module's functions that trap. */
async function complaints(source: string, target: "metal" | "hosted"): Promise<string[]> {
  const file = write(source);
  try {
    const { module } = await compileSourceFile(file, 16, { target, window: "low" });
    return module.funcs.flatMap((f) => (f.unsupported ? [`trapped: ${f.unsupported}`] : []));
  } catch (error) {
    if (!(error instanceof CompileError)) throw error;
    return error.diagnostics.map((d) => formatDiagnostic(d).replace(/^.*\/(s\d+\.ts)/, "FILE"));
  }
}

const METAL: [string, string, RegExp][] = [
  [
    "floating point",
    `export function f(a: u32): u32 {
  return <u32>(<f64>a * 1.5);
}`,
    /^FILE:2:\d+: error: floating point is not supported/,
  ],
  [
    "a floating-point parameter",
    `export function f(a: f32): u32 {
  return 1;
}`,
    /: error: floating point is not supported/,
  ],
  [
    "a managed object",
    `class Node { next: Node | null; }
export function f(): usize {
  return changetype<usize>(new Node());
}`,
    /^FILE:3:\d+: error: memory.grow .*is not supported/,
  ],
  [
    "memory.grow",
    `export function f(): i32 {
  return memory.grow(1);
}`,
    /^FILE:2:\d+: error: memory.grow/,
  ],
  [
    "recursion",
    `export function f(n: u32): u32 {
  if (n < 2) return n;
  return f(n - 1) + f(n - 2);
}`,
    /^FILE:3:\d+: error: recursion is not supported: \S*f -> \S*f$/,
  ],
  [
    "recursion through another function",
    `export function even(n: u32): bool {
  return n == 0 ? true : odd(n - 1);
}
export function odd(n: u32): bool {
  return n == 0 ? false : even(n - 1);
}`,
    /^FILE:[25]:\d+: error: recursion is not supported: .*(even|odd) -> /,
  ],
  [
    "recursion through the table",
    `function h(n: u32): u32 { return n; }
let target: (n: u32) => u32 = h;
export function g(n: u32): u32 {
  return n == 0 ? 0 : target(n - 1);
}
export function setTarget(): void { target = g; }`,
    /^FILE:4:\d+: error: recursion/,
  ],
  [
    "a function without a body",
    `export declare function launch(): void;
export function f(): void {
  launch();
}`,
    /^FILE:3:\d+: error: \S+\.launch is not an intrinsic/,
  ],
  [
    "a module-level variable that is written after boot",
    `let counter: u32 = 0;
export function kmain(): void { counter = 1; }
export function onInterrupt(): u32 {
  return counter++;
}`,
    /^FILE:4:\d+: error: the module-level variable \S*counter is written after boot \(in .*onInterrupt/,
  ],
];

describe("the core", () => {
  test.each(METAL)("may not use %s", async (_, source, message) => {
    const said = await complaints(source, "metal");
    expect(said.length).toBeGreaterThan(0);
    expect(
      said.some((line) => message.test(line)),
      said.join("\n"),
    ).toBe(true);
  });

  test("may write a module-level variable at boot", async () => {
    const source = `let cpus: u32 = 0;
function count(): void { cpus = 4; }
export function kmain(): void { count(); }
export function onInterrupt(): u32 { return cpus; }`;
    expect(await complaints(source, "metal")).toEqual([]);
  });

  test("is told of every function that is at fault", async () => {
    const source = `export function f(a: f32): f32 { return a + 1; }
export function g(a: f64): f64 { return a + 1; }`;
    expect(await complaints(source, "metal")).toHaveLength(2);
  });

  test("hears of an unknown name with its place", async () => {
    expect(await complaints("export function f(): u32 {\n  return missing;\n}", "metal")).toEqual([
      "FILE:2:10: error: AS2304: Cannot find name 'missing'.",
    ]);
  });
});

describe("a hosted program", () => {
  test("may recurse, call the host and write its globals", async () => {
    const source = `export declare function host(x: u32): u32;
let calls: u32 = 0;
export function f(n: u32): u32 { calls++; return n < 2 ? host(n) : f(n - 1) + f(n - 2); }`;
    expect(await complaints(source, "hosted")).toEqual([]);
  });

  test("gets a trap in place of a function with floats", async () => {
    const source = "export function f(a: f64): f64 { return a + 1; } export function g(): u32 { return 1; }";
    expect(await complaints(source, "hosted")).toEqual(["trapped: floating point"]);
  });

  test("may not grow its memory", async () => {
    expect((await complaints("export function f(): i32 {\n  return memory.grow(1);\n}", "hosted")).join()).toMatch(
      /^FILE:2:\d+: error: memory.grow/,
    );
  });

  test("may not use SIMD", async () => {
    const wat = '(module (func (export "f") (result i32) (i32x4.extract_lane 0 (v128.const i32x4 1 2 3 4))))';
    writeFileSync(join(folder, "simd.wat"), wat);
    execFileSync("wat2wasm", [join(folder, "simd.wat"), "-o", join(folder, "simd.wasm")]);
    expect(() => run("simd.wasm", "simd.o")).toThrow(/SIMD is not supported/);
  });
});

/** The command line; throws with what it prints on stderr. */
function run(input: string, output: string): void {
  const args = ["tools/compiler/main.ts", join(folder, input), "--hosted", "-o", join(folder, output)];
  execFileSync(process.execPath, ["tools/launch.mjs", ...args], { cwd: ROOT, stdio: ["ignore", "ignore", "pipe"] });
}

describe("the command", () => {
  test("leaves no output behind when it refuses, not even an old one", () => {
    writeFileSync(join(folder, "bad.ts"), "export function f(): i32 {\n  return memory.grow(1);\n}");
    writeFileSync(join(folder, "bad.o"), "old");
    expect(() => run("bad.ts", "bad.o")).toThrow(/bad\.ts:2:\d+: error: memory.grow/);
    expect(existsSync(join(folder, "bad.o"))).toBe(false);
  });

  test("says in one line what is wrong with its input", () => {
    writeFileSync(join(folder, "no.wasm"), "not wasm");
    for (const [input, message] of [
      ["no.wasm", /error: .*no\.wasm: not a valid Wasm module\n$/],
      ["missing.ts", /error: .*missing\.ts: no such file\n$/],
    ] as [string, RegExp][]) {
      let said = "";
      try {
        run(input, "no.o");
      } catch (error) {
        said = (error as { stderr: Buffer }).stderr.toString();
      }
      expect(said).toMatch(message);
      expect(said.trimEnd().split("\n")).toHaveLength(1);
    }
  });
});
