// A machine whose core has its memory: frames with owners, and with `enter` the final page tables.

import { type Machine, type MachineOptions, machine } from "../../fake/machine.ts";

export const MIB = 1024 * 1024;
export const GIB = 1024 * MIB;
export const POOL = 0x100_0000n;

export const Owner = { ABSENT: 0, FREE: 1, CORE: 2, TABLE: 3, FIRMWARE: 4, MODULE: 5, DEVICE: 6, VM: 16 };
export const Status = {
  OK: 0,
  NO_MEMORY: 1,
  BAD_ADDRESS: 2,
  BAD_ARGUMENT: 3,
  WRONG_OWNER: 4,
  NOT_FOUND: 5,
  BUSY: 6,
  TIMEOUT: 9,
};

export const WINDOW = {
  guest: 0xffff_8000_0000_0000n,
  table: 0xffff_b000_0000_0000n,
  device: 0xffff_c000_0000_0000n,
  image: 0xffff_ffff_8000_0000n,
  stacks: 0xffff_ffff_c000_0000n,
};

const ENTRIES = [
  "kernel/mm/frame.ts",
  "kernel/mm/block.ts",
  "kernel/mm/hostmap.ts",
  "kernel/mm/pagetable.ts",
  "kernel/mm/phys.ts",
  "kernel/mm/descriptor.ts",
  "kernel/mm/shootdown.ts",
  "kernel/mm/tablewindow.ts",
  "kernel/cpu/percpu.ts",
  "kernel/cpu/feature.ts",
  "kernel/cpu/control.ts",
];

export interface Options extends MachineOptions {
  /** End of RAM, which begins at 1 MiB (default 64 MiB). */
  end?: number;
  /** Further ranges as [base, end, owner]. */
  more?: [bigint, bigint, number][];
  enter?: boolean;
  /** Source files besides those below whose functions the test calls. */
  extraEntries?: string[];
}

export async function memory(options: Options = {}): Promise<Machine> {
  const end = options.end ?? 64 * MIB;
  const m = await machine({
    entries: [...ENTRIES, ...(options.extraEntries ?? [])],
    paging: "boot",
    memory: [
      [0, 0xa_0000],
      [MIB, end - MIB],
    ],
    ...options,
  });
  const k = m.kernel;
  for (const cpu of m.cpus) k.initBlock(cpu.index, cpu.apicId);
  for (const cpu of m.cpus) k.offer(cpu.index, 1, 2);
  k.startFrames(POOL);
  k.addMemory(BigInt(MIB), BigInt(end), Owner.FREE);
  k.coverMemory(0n, BigInt(MIB), Owner.FIRMWARE);
  k.coverMemory(BigInt(m.image.start), BigInt(m.image.end), Owner.CORE);
  for (const [base, to, owner] of options.more ?? []) k.addMemory(base, to, owner);
  if (k.finishBoot() !== Status.OK) throw new Error("finishBoot");
  if (options.enter) {
    if (k.enterCore() !== Status.OK) throw new Error("enterCore");
    k.detectFeatures(k.scratch());
    k.setControls();
  }
  return m;
}

/** Takes every TABLE frame there is; the caller gives some back. */
export function exhaustTables(m: Machine): bigint[] {
  const taken: bigint[] = [];
  for (;;) {
    const frame = m.kernel.allocFrame(Owner.TABLE);
    if (frame === 0n) return taken;
    taken.push(frame);
  }
}
