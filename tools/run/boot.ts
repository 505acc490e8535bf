/**
 * boot(): one run of the image on an emulator, from its first byte of serial output to its end.
 */

import { copyFile, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { makeCd, makeHybrid } from "../image/iso.ts";
import { checkFiles, checkModules } from "../image/modules.ts";
import { judgeBochs, lastTick, planBochs, secondsFor } from "./bochs.ts";
import { type Emulator, type Exit, startEmulator } from "./child.ts";
import type { BootModule, BootOptions, BootResult, Ending, Machine } from "./options.ts";
import { chooseMachine } from "./probe.ts";
import { judgeQemu, planQemu } from "./qemu.ts";

/** The last line of the image, however the machine ends (drivers/power.ts). */
const ANNOUNCEMENT = /\] (?:ERROR )?power: ended: (success|failure|panic)\n/;
const ENDINGS: Record<string, Ending> = { success: "ended", failure: "failed", panic: "panic" };
/** Characters at least in which an end of the run is looked for. */
const RECENT = 4096;
/** How long the machine may take to end after that. */
const GRACE_MS = 3000;

export async function boot(given: BootOptions): Promise<BootResult> {
  const on = (await chooseMachine(given.on)).machine;
  const options = { ...given, on, elf: resolve(given.elf) };
  checkModules(options.modules ?? [], options.append);
  checkFiles(options.modules ?? []);
  const scratch = await mkdtemp(join(tmpdir(), "basalt-run-"));
  try {
    return await (on === "bochs" ? bootBochs(options, scratch) : bootQemu(options, scratch));
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

type Resolved = BootOptions & { on: Machine };

/** Collects what arrives on the serial line and decides when the run is over. */
class Watch {
  verdict: Ending | null = null;
  #timers: NodeJS.Timeout[] = [];
  /** What came, in pieces: a run's output is long, and comes byte by byte. */
  #pieces: string[] = [];
  /** Its end, from the start of a line. */
  #recent = "";

  constructor(
    readonly options: Resolved,
    readonly stop: () => void,
  ) {
    const seconds = options.on === "bochs" ? secondsFor(options) : options.timeoutSeconds;
    if (seconds) this.#after(seconds * 1000, "timeout");
    options.signal?.addEventListener("abort", () => this.#end("stopped"), { once: true });
  }

  #after(milliseconds: number, verdict: Ending): void {
    this.#timers.push(setTimeout(() => this.#end(verdict), milliseconds));
  }

  #end(verdict: Ending): void {
    this.verdict ??= verdict;
    this.stop();
  }

  take(data: Buffer): void {
    const text = data.toString("latin1");
    this.#pieces.push(text);
    this.options.onSerial?.(text);
    const { until } = this.options;
    this.#recent += text;
    const recent = this.#recent.replaceAll("\r\n", "\n");
    const announced = ENDINGS[ANNOUNCEMENT.exec(recent)?.[1] ?? ""];
    if (until?.test(recent)) this.#end("stopped");
    else if (this.verdict === null && announced) {
      this.verdict = announced;
      this.#after(GRACE_MS, announced);
    }
    if (this.#recent.length > 2 * RECENT)
      this.#recent = this.#recent.slice(this.#recent.lastIndexOf("\n", this.#recent.length - RECENT) + 1);
  }

  get serial(): string {
    return this.#pieces.join("");
  }

  finish(): void {
    for (const timer of this.#timers) clearTimeout(timer);
  }
}

function report(watch: Watch, on: Machine, judged: { exit: Ending; detail: string }, ticks: number | null): BootResult {
  watch.finish();
  return { serial: watch.serial, exit: watch.verdict ?? judged.exit, ticks, detail: judged.detail, on };
}

// ---- Bochs

/** Listens on a free port of this host for the emulator's serial line. */
function listenForSerial(): Promise<{ server: Server; port: number }> {
  return new Promise((done, fail) => {
    const server = createServer({ noDelay: true });
    server.on("error", fail);
    server.listen(0, "127.0.0.1", () => done({ server, port: (server.address() as { port: number }).port }));
  });
}

async function bootBochs(options: Resolved, scratch: string): Promise<BootResult> {
  if (options.uefi) throw new Error("Bochs has no UEFI firmware: use --on qemu");
  if (options.gdbPort) throw new Error("Debian's Bochs has its own debugger and no gdb stub: use --on qemu");
  const iso = await cdFor(options, scratch);
  const { server, port } = await listenForSerial();
  const plan = planBochs(options, iso, port);
  await writeFile(join(scratch, "bochsrc"), plan.config);
  await writeFile(join(scratch, "script"), plan.script);
  let emulator: Emulator | null = null;
  const watch = new Watch(options, () => emulator?.stop());
  const sockets: Socket[] = [];
  server.on("connection", (socket) => {
    sockets.push(socket);
    socket.on("data", (data) => watch.take(data));
    socket.on("error", () => {});
    options.onReady?.((text) => socket.write(text));
  });
  emulator = startEmulator("bochs-bin", ["-q", "-f", "bochsrc", "-rc", "script"], { cwd: scratch });
  const exit = await emulator.ended;
  await Promise.all(sockets.map(drained));
  server.close();
  const log = await readFile(join(scratch, "bochs.log"), "latin1").catch(() => "");
  const result = report(watch, "bochs", judgeBochs(exit.code, exit.stdout + exit.stderr, log), lastTick(exit.stdout));
  return options.debuggerScript ? { ...result, debuggerOutput: exit.stdout } : result;
}

/** The last bytes may still be in the socket when the emulator has ended. */
function drained(socket: Socket): Promise<void> {
  return new Promise((done) => {
    if (socket.destroyed || socket.readableEnded) done();
    socket.on("close", () => done());
    setTimeout(() => socket.destroy(), 500).unref();
  });
}

async function cdFor(options: Resolved, scratch: string): Promise<string> {
  if (options.media === "iso") {
    if (!options.iso) throw new Error("no ISO given");
    return resolve(options.iso);
  }
  if (options.media === "kernel" && options.on === "bochs") throw new Error("Bochs cannot load a kernel by itself");
  const path = join(scratch, "boot.iso");
  const protocol = options.media === "multiboot" ? "multiboot" : "multiboot2";
  const make = options.uefi ? makeHybrid : makeCd;
  await make({ elf: options.elf, append: options.append, modules: options.modules, protocol }, path);
  return path;
}

// ---- QEMU

/** QEMU ends a module's file name at the first blank: names without one, in the scratch folder. */
function withoutBlanks(modules: BootModule[], scratch: string): Promise<BootModule[]> {
  return Promise.all(
    modules.map(async (module, i) => {
      const name = join(scratch, `module-${i}`);
      await symlink(resolve(module.file), name);
      return { ...module, file: name };
    }),
  );
}

const OVMF = "/usr/share/OVMF";

async function bootQemu(options: Resolved, scratch: string): Promise<BootResult> {
  const media = options.media ?? (options.uefi ? "multiboot2" : "kernel");
  const iso = media === "kernel" ? null : await cdFor({ ...options, media }, scratch);
  if (media === "kernel") options = { ...options, modules: await withoutBlanks(options.modules ?? [], scratch) };
  let firmware = null;
  if (options.uefi) {
    firmware = { code: `${OVMF}/OVMF_CODE_4M.fd`, variables: join(scratch, "variables.fd") };
    await copyFile(`${OVMF}/OVMF_VARS_4M.fd`, firmware.variables).catch(() => {
      throw new Error("UEFI firmware (package ovmf) is not installed; run: node tools/setup.mjs");
    });
  }
  let emulator: Emulator | null = null;
  const watch = new Watch(options, () => emulator?.stop());
  emulator = startEmulator("qemu-system-x86_64", planQemu(options, { iso, firmware }), {
    cwd: scratch,
    onOutput: (data) => watch.take(data),
  });
  const { stdin } = emulator.process;
  options.onReady?.((text) => stdin?.write(text));
  const exit: Exit = await emulator.ended;
  return report(watch, options.on, judgeQemu(exit.code, exit.stderr), null);
}
