/**
 * From sources to build/<profile>/basalt.elf: compile the core, generate the constants that NASM needs,
 * assemble, link, check, stamp with the build id. Two builds of the same sources are the same bytes,
 * wherever they run.
 */

import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFile, mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { promisify } from "node:util";
import { checkBinary, describe } from "../check/binary.ts";
import { complaintsOf } from "../check/exitpath.ts";
import { buildFolder, type Profile, ROOT } from "../paths.ts";
import { type Constants, readConstants, toDefines } from "./abi.ts";
import { type Core, type CoreReport, compileCore } from "./core.ts";
import { widenFileNumbers } from "./dwarf.ts";
import { Elf } from "./elf.ts";
import { checkStacks } from "./stack.ts";
import { inputHash, type Stamp, upToDate } from "./stamp.mjs";
import { makeSymbolMap } from "./symbolmap.ts";
import { checkImage } from "./verify.ts";

export interface BuildOptions {
  profile?: Profile;
  /** Build even if nothing has changed. */
  force?: boolean;
  /** The core to link instead of the compiled kernel: for tests of the image step. */
  core?: Core;
  /** Where the results go; by default build/<profile>. */
  folder?: string;
}

export interface BuildResult {
  elf: string;
  buildId: string;
  fresh: boolean;
  milliseconds: number;
}

/** A tool that failed, or sources that do not compile: the message is for the user. */
export class BuildError extends Error {}

const run = promisify(execFile);

/**
 * NASM writes the folder that it works in into the debug information. A name of fixed length is replaced in place
 * there by one that means "where the debugger was started": the root of the source tree.
 */
const SCRATCH = "/tmp/basalt-image-";

/** A broken compiler breaks many places at once. */
const MAX_LINES = 10;

async function tool(name: string, args: string[], cwd: string): Promise<void> {
  try {
    await run(name, args, { cwd, maxBuffer: 1 << 26 });
  } catch (error) {
    const { stderr, code } = error as { stderr?: string; code?: string | number };
    if (code === "ENOENT") throw new BuildError(`${name} is not installed; run: node tools/setup.mjs`);
    throw new BuildError(`${name} failed:\n${stderr ?? error}`);
  }
}

export async function buildImage(options: BuildOptions = {}): Promise<BuildResult> {
  const started = performance.now();
  const profile = options.profile ?? "release";
  const folder = options.folder ?? buildFolder(profile);
  const elf = join(folder, "basalt.elf");
  const done = (buildId: string, fresh: boolean): BuildResult => ({
    elf,
    buildId,
    fresh,
    milliseconds: Math.round(performance.now() - started),
  });
  const custom = options.core !== undefined || options.folder !== undefined;
  const known = custom || options.force ? null : upToDate(ROOT, profile);
  if (known) return done(known.buildId, false);

  const inputs = inputHash(ROOT);
  const scratch = await mkdtemp(SCRATCH);
  try {
    const [core, constants] = [options.core ?? (await compileCore(profile, scratch)), await readConstants()];
    const faults = core.report ? faultsOf(core.report, constants) : [];
    if (faults.length) throw new BuildError(faults.slice(0, MAX_LINES).join("\n"));
    await assemble(core, constants, scratch);
    await link(constants, scratch);
    const buildId = await finish(scratch, core.report !== undefined);
    const stamp: Stamp = { inputs: custom ? "" : inputs, buildId };
    await writeFile(join(scratch, "stamp.json"), JSON.stringify(stamp));
    await moveInto(folder, scratch);
    return done(buildId, true);
  } catch (error) {
    // A refused source leaves no image behind.
    await rm(elf, { force: true });
    throw error;
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** What the call graph shows of the core that must not be. */
function faultsOf({ stack, exitPath }: CoreReport, constants: Constants): string[] {
  return [...checkStacks(stack, constants), ...complaintsOf(exitPath)];
}

/** NASM stubs beside the compiled core, as paths below the root. */
async function stubs(): Promise<string[]> {
  const boot = (await readdir(join(ROOT, "boot"))).filter((name) => name.endsWith(".asm")).sort();
  const vmx = await readdir(join(ROOT, "kernel/vmx")).catch(() => [] as string[]);
  return [
    ...boot.map((name) => `boot/${name}`),
    ...vmx
      .filter((name) => name.endsWith(".asm"))
      .sort()
      .map((name) => `kernel/vmx/${name}`),
  ];
}

/**
 * NASM runs in the scratch folder on copies, so that no path of this machine gets into the debug
 * information; `%line` gives each line its name below the root.
 */
async function assemble(core: Core, constants: Constants, scratch: string): Promise<void> {
  await writeFile(join(scratch, "abi.inc"), toDefines(constants));
  const sources = new Map<string, string>([
    ["basalt.asm", core.asm],
    ["linear.asm", linearSource(core.linear, constants)],
  ]);
  for (const path of await stubs())
    sources.set(`${basename(path, ".asm")}.stub.asm`, `%line 1+1 ${path}\n${await readFile(join(ROOT, path), "utf8")}`);
  await writeFile(join(scratch, "linear.bin"), core.linear);
  await Promise.all(
    [...sources].map(async ([name, text]) => {
      await writeFile(join(scratch, name), text);
      await tool("nasm", ["-Werror", "-f", "elf64", "-g", "-F", "dwarf", "-o", `${name}.o`, name], scratch);
    }),
  );
}

/** The image's copy of linear memory: the data segments, and zeros up to SHARED_END. */
function linearSource(linear: Uint8Array, constants: Constants): string {
  const bytes = Number(constantOf(constants, "SHARED_END") - constantOf(constants, "LINEAR_START"));
  if (linear.length > bytes) throw new BuildError(`data segments (${linear.length} bytes) reach past SHARED_END`);
  return `
section .linear progbits alloc noexec write align=4096
incbin "linear.bin"
align 4096, db 0
section .linear_zero nobits alloc noexec write align=4096
resb ${bytes - Math.ceil(linear.length / 4096) * 4096}
`;
}

function constantOf(constants: Constants, name: string): bigint {
  const value = constants.get(name);
  if (value === undefined) throw new BuildError(`kernel/abi.ts does not export ${name}`);
  return value;
}

async function link(constants: Constants, scratch: string): Promise<void> {
  const value = (name: string): bigint => constantOf(constants, name);
  const symbols = {
    IMAGE_BASE: value("IMAGE_BASE"),
    IMAGE_PHYSICAL: value("IMAGE_PHYSICAL"),
    VECTOR_STUBS: value("VECTOR_STUBS"),
    IMAGE_LIMIT: value("IMAGE_TABLES") << 21n,
    LINEAR_BYTES: value("SHARED_END") - value("LINEAR_START"),
  };
  const objects = (await readdir(scratch)).filter((name) => name.endsWith(".o")).sort();
  await tool(
    "ld",
    [
      ..."-nostdlib -static --build-id=none --fatal-warnings --no-warn-rwx-segments -z max-page-size=0x1000".split(" "),
      ...Object.entries(symbols).flatMap(([name, number]) => ["--defsym", `${name}=0x${number.toString(16)}`]),
      ...["-T", join(ROOT, "boot/image.ld"), "-o", "basalt.elf"],
      ...objects,
    ],
    scratch,
  );
}

/** Checks the image, writes its build id into it, and its symbol map beside it. Returns the build id. */
async function finish(scratch: string, isCompiled: boolean): Promise<string> {
  const path = join(scratch, "basalt.elf");
  await repairLines(path, scratch);
  const elf = new Elf(await readFile(path));
  checkImage(elf);
  if (isCompiled) await checkCode(elf, path);
  forgetFolder(elf.file, scratch);
  const hash = createHash("sha256");
  for (const segment of elf.segments)
    hash.update(elf.file.subarray(segment.fileOffset, segment.fileOffset + segment.fileBytes));
  const id = hash.digest().subarray(0, 16);
  const place = elf.symbols().find((s) => s.name === "build_id");
  if (!place) throw new BuildError("the image has no place for its build id");
  id.copy(elf.file, elf.offsetOf(place.address));
  const buildId = id.toString("hex");
  await writeFile(path, elf.file);
  await writeFile(join(scratch, "basalt.map.json"), JSON.stringify(makeSymbolMap(elf, buildId)));
  return buildId;
}

/** Compiled code reaches what it may reach and nothing else; see tools/check/binary.ts. */
async function checkCode(elf: Elf, path: string): Promise<void> {
  const { violations } = await checkBinary(path);
  if (violations.length === 0) return;
  const map = makeSymbolMap(elf, "");
  const lines = violations.slice(0, MAX_LINES).map((violation) => describe(violation, map));
  if (violations.length > MAX_LINES) lines.push(`... and ${violations.length - MAX_LINES} more`);
  throw new BuildError(lines.join("\n"));
}

/** Gives line tables with many files the form that debuggers understand. */
async function repairLines(path: string, scratch: string): Promise<void> {
  const elf = new Elf(await readFile(path));
  const section = elf.section(".debug_line");
  if (!section) return;
  const repaired = widenFileNumbers(elf.bytesOf(section));
  if (repaired.length === section.bytes) return;
  await writeFile(join(scratch, "debug_line.bin"), repaired);
  await tool("objcopy", ["--update-section", ".debug_line=debug_line.bin", path], scratch);
}

function forgetFolder(file: Buffer, scratch: string): void {
  const name = Buffer.from(scratch);
  const here = Buffer.from(".".padEnd(name.length, "/"));
  for (let at = file.indexOf(name); at >= 0; at = file.indexOf(name, at)) here.copy(file, at);
}

/** Moves the results into place; each file changes at once, so that another process never sees half of one. */
async function moveInto(folder: string, scratch: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const names = (await readdir(scratch)).filter((name) => !name.endsWith(".o"));
  const last = ["basalt.map.json", "basalt.elf", "stamp.json"];
  const order = [...names.filter((n) => !last.includes(n)), ...last];
  for (const name of order) {
    if (!names.includes(name)) continue;
    const fresh = join(folder, `.${name}.${process.pid}`);
    await copyFile(join(scratch, name), fresh);
    await rename(fresh, join(folder, name));
  }
}
