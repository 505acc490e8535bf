// Golden code: each file of golden/ holds WebAssembly text, `=>`, and the machine code that the functions become on
// metal. After a change that is meant: UPDATE_GOLDEN=1 npx vitest run test/compiler/golden.test.ts, and read the difference.

import { execFileSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { compile } from "../../tools/compiler/main.ts";

const folder = fileURLToPath(new URL("golden", import.meta.url));
const ARROW = "\n=>\n";

function assemble(wat: string): Uint8Array {
  const out = mkdtempSync(join(tmpdir(), "basalt-golden-"));
  try {
    writeFileSync(join(out, "in.wat"), `(module ${wat})`);
    execFileSync("wat2wasm", ["--enable-threads", "--debug-names", join(out, "in.wat"), "-o", join(out, "out.wasm")]);
    return readFileSync(join(out, "out.wasm"));
  } finally {
    rmSync(out, { recursive: true });
  }
}

/** The text between `basalt_text:` and the routines, and the cold part, with labels cut short. */
function codeOf(wat: string): string {
  const { asm } = compile({ wasm: assemble(wat), sourceMap: undefined }, { target: "metal", window: "low" });
  const between = (from: string, to: string): string[] => {
    const all = asm.split("\n");
    return all.slice(all.indexOf(from) + 1, all.indexOf(to));
  };
  const lines = [...between("basalt_text:", "basalt_routines:"), ...between("basalt_cold:", "basalt_cold_end:")];
  return lines
    .filter((line) => line !== "" && !/^(align|global|extern|\[section)|\.end:$/.test(line))
    .map((line) => line.replace(/\bwasm\.(\w+)(?=\.)/g, "$1").replace(/\bwasm\.(?=\w)/g, ""))
    .filter((line, i, all) => line !== all[i - 1]) // an export's label and the function's own
    .join("\n");
}

const files = readdirSync(folder).filter((name) => name.endsWith(".txt"));

test.each(files)("%s", (name) => {
  const path = join(folder, name);
  const [wat = "", expected = ""] = readFileSync(path, "utf8").split(ARROW);
  const code = codeOf(wat);
  if (process.env.UPDATE_GOLDEN) writeFileSync(path, `${wat.trimEnd()}${ARROW}${code}\n`);
  else expect(code).toBe(expected.trimEnd());
});
