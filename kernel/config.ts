// One file of addresses and sizes, with the reason for each. DESIGN: docs/architecture.md,
// "Address space". Everything here is a compile-time constant; nothing is copied by hand elsewhere:
// NASM gets its copies as generated %defines from kernel/abi.ts.

// Linear memory (virtual 64 KiB and up, at its own index). The total must equal asconfig.json's
// initialMemory (pages of 64 KiB); test/unit/config.test.ts checks it.
export const LINEAR_START: usize = 0x0001_0000; // below it nothing is ever mapped
export const SHARED_END: usize = 0x0040_0000; // data segments; part of the image
export const PERCPU_BASE: usize = 0x0040_0000; // one block a CPU, mapped when the CPU comes up
export const PERCPU_BYTES: usize = 0x0000_4000; // 16 KiB a CPU
export const MAX_CPUS: u32 = 256;
export const ARENA_BASE: usize = 0x0080_0000; // one arena a VM, mapped in that VM's HOST_CR3 only
export const ARENA_BYTES: usize = 0x0020_0000; // one 2 MiB leaf, so that its frames are contiguous
export const MAX_VMS: u32 = 64;
export const LINEAR_END: usize = 0x0880_0000; // 136 MiB = 2176 pages of 64 KiB

// Windows in the high half, each reached by its own intrinsics only.
export const GUEST_WINDOW: u64 = 0xffff_8000_0000_0000; // + gpa of the current VM, in its HOST_CR3 only (48 TiB)
export const GUEST_WINDOW_BYTES: u64 = 0x0000_3000_0000_0000;
export const TABLE_WINDOW: u64 = 0xffff_b000_0000_0000; // + hpa: frames of page tables, EPT, VMCS and bitmaps (16 TiB of RAM)
export const TABLE_WINDOW_BYTES: u64 = 0x0000_1000_0000_0000;
export const DEVICE_WINDOW: u64 = 0xffff_c000_0000_0000; // + hpa: device registers (UC); firmware tables, boot modules (read-only)
export const DEVICE_WINDOW_BYTES: u64 = 0x0000_3f00_0000_0000; // 63 TiB: 64-bit BARs of servers lie high

// Top 2 GiB: the image (linked at IMAGE_BASE + physical address) and per-CPU stacks.
export const IMAGE_BASE: u64 = 0xffff_ffff_8000_0000;
export const STACKS_BASE: u64 = 0xffff_ffff_c000_0000;
export const STACK_SLOT_BYTES: u64 = 0x0002_0000; // 128 KiB a CPU: see docs/architecture.md for the layout within

// Within a CPU's PERCPU_BYTES: CpuBlock (kernel/cpu/percpu.ts) at 0, and areas that lower layers or
// NASM reach without knowing CpuBlock.
export const PERCPU_FRAMES: usize = 0x3000; // TrapFrames of 256 bytes: 0 exceptions, 1 NMI, 2 #MC, 3 #DF (kernel/cpu/trapframe.ts)
export const PERCPU_FRAME_BYTES: usize = 0x100;
export const PERCPU_LOG_LINE: usize = 0x3400; // the log line under construction (kernel/lib/log.ts), 512 bytes

// The page in which further CPUs start (boot/trampoline.asm): where its parameters are.
export const TRAMPOLINE_BRINGUP_CR3: u32 = 0x008; // u32
export const TRAMPOLINE_CPU_COUNT: u32 = 0x00c; // u32
export const TRAMPOLINE_CORE_CR3: u32 = 0x010; // u64
export const TRAMPOLINE_APIC_IDS: u32 = 0x400; // u32 for each CPU, in the order of their indices

// Within a CPU's stack slot: where each stack begins, growing down. See docs/architecture.md.
export const IST1_TOP: u64 = 0x5000; // NMI
export const IST2_TOP: u64 = 0xa000; // #MC
export const IST3_TOP: u64 = 0xf000; // #DF
export const IST4_TOP: u64 = 0x1_4000; // #PF
export const STACK_TOP: u64 = 0x1_f000; // main
export const STACK_GUARDS: u32 = 0x8010_8421; // bit n: page n of the slot is never mapped

// Selectors that every GDT of the core has.
export const CODE_SELECTOR: u32 = 0x08;
export const DATA_SELECTOR: u32 = 0x10;
export const TSS_SELECTOR: u32 = 0x18; // two entries

// The image: linked at IMAGE_BASE + IMAGE_PHYSICAL.
export const IMAGE_PHYSICAL: u32 = 0x0010_0000; // boot loaders leave the first MiB to the firmware
export const IMAGE_TABLES: u32 = 4; // page tables that boot/entry.asm builds for it: the image ends below 8 MiB
export const VECTOR_STUBS: u64 = IMAGE_BASE + 0x10_1000; // 256 interrupt stubs of 16 bytes
export const PERCPU_TIMERS: usize = 0x2000; // the CPU's timer queue (kernel/cpu/timer.ts), 4 KiB
export const PERCPU_TIMERS_BYTES: usize = 0x1000;
export const PERCPU_VIRT: usize = 0x1800; // what this CPU virtualises (kernel/vcpu/current.ts), 1 KiB
export const PERCPU_LOCKS: usize = 0x3600; // the shared locks that this CPU holds (kernel/lib/spinlock.ts)
export const PERCPU_LOCKS_BYTES: usize = 0x40;
export const PERCPU_FAULT: usize = 0x3800; // what faults leave for later (kernel/cpu/trap.ts), 512 bytes
export const PERCPU_SCRATCH: usize = 0x0400; // 256 bytes for results of CPUID and the like; nothing is kept there
