/**
 * Emulators as child processes that never outlive us: ended by the signal they take well, killed if that does not
 * help, and killed by the kernel if this process dies without a word.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";

const alive = new Set<ChildProcess>();

process.on("exit", () => {
  for (const child of alive) child.kill("SIGKILL");
});

export interface Exit {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface Emulator {
  process: ChildProcess;
  ended: Promise<Exit>;
  /** Asks it to end; kills it after a few seconds. */
  stop(): void;
}

const SETPRIV = "/usr/bin/setpriv";
const GRACE_MS = 5000;

export interface StartOptions {
  cwd: string;
  /** Gets stdout as it comes, and opens stdin for writing; without it stdout is collected and stdin is empty. */
  onOutput?: (data: Buffer) => void;
}

export function startEmulator(program: string, args: string[], { cwd, onOutput }: StartOptions): Emulator {
  const bound = existsSync(SETPRIV) ? [SETPRIV, "--pdeathsig", "KILL", program, ...args] : [program, ...args];
  const child = spawn(bound[0] as string, bound.slice(1), {
    cwd,
    stdio: [onOutput ? "pipe" : "ignore", "pipe", "pipe"],
  });
  alive.add(child);
  const texts = { stdout: "", stderr: "" };
  child.stdout?.on("data", (data: Buffer) => {
    if (onOutput) onOutput(data);
    else texts.stdout += data.toString("latin1");
  });
  child.stderr?.on("data", (data: Buffer) => {
    texts.stderr += data.toString("latin1");
  });
  child.stdin?.on("error", () => {});
  const ended = new Promise<Exit>((resolve) => {
    const finish = (code: number | null): void => {
      alive.delete(child);
      resolve({ code, ...texts });
    };
    child.on("error", (error) => {
      texts.stderr += `${program}: ${error.message}`;
      finish(null);
    });
    child.on("close", finish);
  });
  const stop = (): void => {
    if (!alive.has(child)) return;
    child.kill("SIGINT");
    setTimeout(() => alive.has(child) && child.kill("SIGKILL"), GRACE_MS).unref();
  };
  return { process: child, ended, stop };
}
