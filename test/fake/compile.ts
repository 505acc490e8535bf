// The kernel's Wasm for tests, from asc in this process. Each result is kept on disk with the files it
// was made from, so that a test file starts asc only when one of them has changed.

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { compileKernelSources } from "../../tools/compiler/asc.ts";
import { isMeasured, measured } from "../coverage/collect.ts";

export const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const CACHE = join(ROOT, ".cache/fake");

/** How the core is compiled: `release` are the bytes that become the image. */
export type Flavour = "release" | "unit";

interface Manifest {
  files: Record<string, string>;
  wasm: string;
}

const inProcess = new Map<string, Promise<WebAssembly.Module>>();

/**
 * Compiles `entries` (paths below the repository, all of whose exports become the module's) together.
 * Throws with asc's messages if they do not compile.
 */
export function compile(entries: string[], flavour: Flavour = "unit"): Promise<WebAssembly.Module> {
  const key = sha(JSON.stringify([entries, flavour, ascOptions(entries, flavour), ascVersion(), isMeasured]));
  let module = inProcess.get(key);
  if (!module) {
    module = compileOnce(key, entries, flavour).then(({ wasm, map }) =>
      isMeasured ? measured(wasm, map) : WebAssembly.compile(wasm as BufferSource),
    );
    inProcess.set(key, module);
  }
  return module;
}

interface Binary {
  wasm: Uint8Array;
  /** Its source map, "" if it is not needed. */
  map: string;
}

async function compileOnce(key: string, entries: string[], flavour: Flavour): Promise<Binary> {
  const manifestPath = join(CACHE, `${key}.json`);
  const cached = readManifest(manifestPath);
  if (cached) {
    const path = join(CACHE, cached.wasm);
    return { wasm: readFileSync(`${path}.wasm`), map: isMeasured ? readFileSync(`${path}.map`, "utf8") : "" };
  }
  const { wasm, map, files } = await runAsc(entries, flavour);
  mkdirSync(CACHE, { recursive: true });
  const manifest: Manifest = { files, wasm: sha(wasm) };
  if (isMeasured) replace(join(CACHE, `${manifest.wasm}.map`), map);
  replace(join(CACHE, `${manifest.wasm}.wasm`), wasm);
  replace(manifestPath, JSON.stringify(manifest));
  return { wasm, map };
}

/** The manifest at `path` if every file it names still has the content it had. */
function readManifest(path: string): Manifest | null {
  if (!existsSync(path)) return null;
  const manifest = JSON.parse(readFileSync(path, "utf8")) as Manifest;
  const binary = join(CACHE, manifest.wasm);
  if (!existsSync(`${binary}.wasm`) || (isMeasured && !existsSync(`${binary}.map`))) return null;
  for (const [file, hash] of Object.entries(manifest.files)) {
    const full = join(ROOT, file);
    if (!existsSync(full) || sha(readFileSync(full)) !== hash) return null;
  }
  return manifest;
}

interface Compiled extends Binary {
  files: Record<string, string>;
}

function runAsc(entries: string[], flavour: Flavour): Promise<Compiled> {
  return isCore(entries, flavour) ? compileCore() : compileEntries(entries, flavour);
}

/** The whole core goes through the very function that the image step calls. */
function isCore(entries: string[], flavour: Flavour): boolean {
  return flavour === "release" && entries.length === 1 && entries[0] === "kernel/main.ts";
}

async function compileCore(): Promise<Compiled> {
  const files: Record<string, string> = {};
  for (const folder of ["kernel", "drivers"]) {
    for (const name of readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })) {
      if (name.endsWith(".ts")) files[`${folder}/${name}`] = sha(readFileSync(join(ROOT, folder, name)));
    }
  }
  const { wasm, sourceMap, errors } = await compileKernelSources(ROOT);
  if (!wasm) throw new Error(`the core does not compile:\n${errors.map((e) => e.message).join("\n")}`);
  return { wasm, map: sourceMap ?? "", files };
}

async function compileEntries(entries: string[], flavour: Flavour): Promise<Compiled> {
  const asc = (await import("assemblyscript/asc")).default;
  const files: Record<string, string> = {};
  let wasm: Uint8Array | null = null;
  let map = "";
  const result = await asc.main(
    [...entries, ...ascOptions(entries, flavour), "--outFile", "out.wasm", "--baseDir", ROOT],
    {
      readFile(name: string) {
        const full = resolve(ROOT, name);
        if (!existsSync(full)) return null;
        const text = readFileSync(full, "utf8");
        files[name] = sha(text);
        return text;
      },
      writeFile(name: string, contents: Uint8Array | string) {
        if (name.endsWith(".wasm")) wasm = contents as Uint8Array;
        if (name.endsWith(".map")) map = contents.toString();
      },
      listFiles: () => [],
    },
  );
  if (result.error || !wasm) throw new Error(`${entries.join(", ")} does not compile:\n${result.stderr.toString()}`);
  return { wasm, map, files };
}

/** asconfig.json's options as arguments. */
function ascOptions(entries: string[], flavour: Flavour): string[] {
  const config = JSON.parse(readFileSync(join(ROOT, "asconfig.json"), "utf8"));
  const options: Record<string, unknown> = { ...config.options };
  for (const name of ["outFile", "textFile"]) delete options[name];
  options.sourceMap = isMeasured;
  if (flavour === "unit") {
    // An entry that touches no memory of its own would otherwise leave the import out.
    options.importMemory = true;
  }
  options.config = "none";
  if (entries.length === 0) throw new Error("compile: no entries");
  return Object.entries(options).flatMap(([name, value]) => toArguments(name, value));
}

function toArguments(name: string, value: unknown): string[] {
  if (value === false) return [];
  if (value === true) return [`--${name}`];
  return [`--${name}`, Array.isArray(value) ? value.join(",") : String(value)];
}

let version = "";
function ascVersion(): string {
  version ||= JSON.parse(readFileSync(join(ROOT, "node_modules/assemblyscript/package.json"), "utf8")).version;
  return version;
}

function sha(data: string | Uint8Array): string {
  return createHash("sha256").update(data).digest("hex").slice(0, 32);
}

function replace(path: string, data: string | Uint8Array): void {
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, data);
  renameSync(temporary, path);
}
