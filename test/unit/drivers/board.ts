// A simulated board for the tests of devices: booted as far as the final address space.

import { struct } from "../../fake/layout.ts";
import { type Machine, type MachineOptions, machine } from "../../fake/machine.ts";
import { INFO, MAGIC2, multiboot2, PC } from "./multiboot.ts";

export interface Board {
  m: Machine;
  // biome-ignore lint/suspicious/noExplicitAny: the exports of devices.as.ts
  k: Record<string, any>;
  /** Fields of the platform, as if ACPI had told them. */
  // biome-ignore lint/suspicious/noExplicitAny: fields by name
  platform: Record<string, any>;
}

export interface BoardOptions extends MachineOptions {
  commandLine?: string;
  framebuffer?: { address: bigint; pitch: number; width: number; height: number; bits: number };
}

export async function board(options: BoardOptions = {}): Promise<Board> {
  const { commandLine, framebuffer, ...rest } = options;
  const m = await machine({
    entries: ["test/unit/drivers/devices.as.ts"],
    paging: "boot",
    callLimit: 50_000_000,
    ...rest,
  });
  m.ram.load(INFO, multiboot2({ ranges: PC, commandLine, framebuffer }));
  if (m.kernel.start(MAGIC2, BigInt(INFO)) !== 0) throw new Error("the board does not boot");
  return { m, k: m.kernel, platform: struct(m, "drivers/platform.ts", "Platform", m.kernel.platformAt()) };
}
