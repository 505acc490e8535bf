// The closed list of intrinsics: everything that the core can do besides ordinary loads, stores and
// arithmetic in its own window. Each has one row in tools/compiler/intrinsics.ts (NASM template,
// clobbers, effects) and one implementation in test/fake/; a test proves that the three lists are
// equal. Which folder may import which is data in tools/check/layers.ts.
//
// Addresses: `ptr` is linear memory; `pa` a host-physical address; `gpa` guest-physical in the
// current VM; `va` any host-virtual address.

// ---- Identification, model-specific and control registers

/** CPUID. Writes EAX, EBX, ECX, EDX as four u32 at `out`. */
export declare function cpuid(leaf: u32, subleaf: u32, out: usize): void;
/** RDMSR. The host takes #GP if `msr` does not exist: ask cpu/feature.ts first. */
export declare function rdmsr(msr: u32): u64;
/** WRMSR. #GP on a missing MSR or a reserved bit. */
export declare function wrmsr(msr: u32, value: u64): void;
/** RDMSR that survives #GP: returns 1 and stores the u64 at `out`, or returns 0. */
export declare function rdmsrSafe(msr: u32, out: usize): u32;
/** WRMSR that survives #GP: returns 1 if the write took place, else 0. */
export declare function wrmsrSafe(msr: u32, value: u64): u32;
export declare function readCr0(): u64;
export declare function writeCr0(value: u64): void;
/** The linear address of the last page fault. */
export declare function readCr2(): u64;
export declare function writeCr2(value: u64): void;
export declare function readCr3(): u64;
/** Switches the address space; a full barrier. Bit 63 keeps the PCID's translations where CR4.PCIDE is set. */
export declare function writeCr3(value: u64): void;
export declare function readCr4(): u64;
export declare function writeCr4(value: u64): void;
/** DR0..DR3, DR6, DR7 by number (a compile-time constant). */
export declare function readDr0(): u64;
export declare function readDr1(): u64;
export declare function readDr2(): u64;
export declare function readDr3(): u64;
export declare function readDr6(): u64;
export declare function readDr7(): u64;
export declare function writeDr0(value: u64): void;
export declare function writeDr1(value: u64): void;
export declare function writeDr2(value: u64): void;
export declare function writeDr3(value: u64): void;
export declare function writeDr6(value: u64): void;
export declare function writeDr7(value: u64): void;
/** XGETBV. #UD unless CR4.OSXSAVE. */
export declare function xgetbv(index: u32): u64;
/** XSETBV. #GP on an invalid combination: check against CPUID leaf 0DH first. */
export declare function xsetbv(index: u32, value: u64): void;
/** RFLAGS. */
export declare function readFlags(): u64;

// ---- Time and randomness

/** RDTSC, not ordered with other instructions. */
export declare function rdtsc(): u64;
/** LFENCE; RDTSC; LFENCE: for measuring. */
export declare function rdtscOrdered(): u64;
/** RDRAND: returns 1 and stores a u64 at `out`, or 0 if none is ready. #UD without CPUID.1:ECX[30]. */
export declare function rdrand(out: usize): u32;

// ---- Ports

export declare function in8(port: u32): u32;
export declare function in16(port: u32): u32;
export declare function in32(port: u32): u32;
export declare function out8(port: u32, value: u32): void;
export declare function out16(port: u32, value: u32): void;
export declare function out32(port: u32, value: u32): void;

// ---- Waiting, interrupts, ordering

export declare function pause(): void;
/** HLT with interrupts as they are. */
export declare function hlt(): void;
/** STI; HLT; CLI: sleeps until an interrupt was taken, with no window in which one is lost. */
export declare function idle(): void;
/** STI; NOP; CLI: takes what is pending. */
export declare function takeInterrupts(): void;
/** INT 2: runs the host's NMI handler, whose IRET ends the blocking of NMIs that a VM exit by NMI began. */
export declare function raiseNmi(): void;
/** INT 18: runs the host's machine-check handler, for a machine check that arrived as a VM exit. */
export declare function raiseMachineCheck(): void;
export declare function cli(): void;
export declare function sti(): void;
export declare function mfence(): void;
export declare function lfence(): void;
export declare function sfence(): void;
/** A compiler barrier: no instruction, but no memory access moves across it. */
export declare function barrier(): void;

// ---- Caches, translations, speculation

/** INVLPG of one host-virtual address. */
export declare function invlpg(va: u64): void;
export declare function wbinvd(): void;
/** CLFLUSH of the line that holds `ptr`. */
export declare function clflush(ptr: usize): void;
/** VERW with a writable data selector: clears CPU buffers where microcode makes it do so. */
export declare function verw(): void;
/** Fills the return stack buffer with harmless targets. */
export declare function fillRsb(): void;

// ---- Descriptor tables and the machine

/** LGDT, reload of CS and the data segments, LTR, LIDT. `gdt`, `idt`: va; limits in bytes; an `idt` of 0 means the image's own; selectors as in kernel/config.ts. */
export declare function loadDescriptors(gdt: u64, gdtLimit: u32, idt: u64, idtLimit: u32, tr: u32): void;
/** This CPU's block in linear memory: the u32 at GS:0. One load. */
export declare function cpuBlock(): usize;
/** A 64-bit word of the image (text, rodata, globals, stacks) for backtraces and symbols. Read-only; the caller checks that the address is mapped. */
export declare function imageload64(va: u64): u64;
/** Physical address of the first byte of the image, and of the byte past its last (page aligned). */
export declare function imageStart(): u64;
export declare function imageEnd(): u64;
/**
 * Boundaries of the image, as host-virtual addresses. Page aligned: 0 text, 1 rodata, 2 data, 3 end, 4 linear memory
 * (LINEAR_START to SHARED_END; it lies between data and bss). 5, 6: first byte of the trampoline page's code, and past its
 * last; 7: the build id, 16 bytes; 8: the interrupt descriptor table; 9 to 12: the tables for faults (docs/architecture.md);
 * 13: where VM exits arrive.
 */
export declare function imageBoundary(which: u32): u64;
/** Stops this CPU for good with interrupts off (CLI; HLT in a loop). Does not return. */
export declare function halt(): void;
/** Abandons the current stack: RSP = top of this CPU's stack, then calls `onTrap(kind)` exported by the core. Does not return. */
export declare function unwind(kind: u32): void;
/** Test aid: commits fault number `which` (see boot/inject.asm). Reached only from the command line option `inject=`. */
export declare function injectFault(which: u32): void;

// ---- Windows. Plain MOVs: never merged, dropped or reordered with each other.

export declare function tableload8(pa: u64): u32;
export declare function tableload32(pa: u64): u32;
export declare function tableload64(pa: u64): u64;
export declare function tablestore8(pa: u64, value: u32): void;
export declare function tablestore32(pa: u64, value: u32): void;
export declare function tablestore64(pa: u64, value: u64): void;
/** LOCK CMPXCHG: returns what was there. */
export declare function tablecas64(pa: u64, expected: u64, replacement: u64): u64;
/** REP STOSQ of `count` quadwords. */
export declare function tablefill64(pa: u64, value: u64, count: u64): void;

export declare function guestload8(gpa: u64): u32;
export declare function guestload16(gpa: u64): u32;
export declare function guestload32(gpa: u64): u32;
export declare function guestload64(gpa: u64): u64;
export declare function gueststore8(gpa: u64, value: u32): void;
export declare function gueststore16(gpa: u64, value: u32): void;
export declare function gueststore32(gpa: u64, value: u32): void;
export declare function gueststore64(gpa: u64, value: u64): void;
/** LOCK CMPXCHG: returns what was there. For accessed and dirty bits and locked instructions. */
export declare function guestcas8(gpa: u64, expected: u32, replacement: u32): u32;
export declare function guestcas16(gpa: u64, expected: u32, replacement: u32): u32;
export declare function guestcas32(gpa: u64, expected: u32, replacement: u32): u32;
export declare function guestcas64(gpa: u64, expected: u64, replacement: u64): u64;
/** Copies out of the guest into linear memory. */
export declare function guestread(ptr: usize, gpa: u64, bytes: usize): void;
/** Copies from linear memory into the guest. */
export declare function guestwrite(gpa: u64, ptr: usize, bytes: usize): void;
export declare function guestfill(gpa: u64, byte: u32, bytes: u64): void;

export declare function deviceload8(pa: u64): u32;
export declare function deviceload16(pa: u64): u32;
export declare function deviceload32(pa: u64): u32;
export declare function deviceload64(pa: u64): u64;
export declare function devicestore8(pa: u64, value: u32): void;
export declare function devicestore16(pa: u64, value: u32): void;
export declare function devicestore32(pa: u64, value: u32): void;
export declare function devicestore64(pa: u64, value: u64): void;
/** Copies firmware or module bytes into linear memory. */
export declare function deviceread(ptr: usize, pa: u64, bytes: usize): void;
/** Copies from boot modules straight into the guest. */
export declare function guestcopyfromdevice(gpa: u64, pa: u64, bytes: u64): void;

// ---- Wide arithmetic

/** High half of the unsigned 128-bit product. */
export declare function umulh(a: u64, b: u64): u64;
/** Unsigned (high:low) / divisor; the host takes #DE unless high < divisor. */
export declare function udiv128(high: u64, low: u64, divisor: u64): u64;

// ---- Floating-point and vector state (moved, never computed with)

export declare function xsave(ptr: usize, mask: u64): void;
/** XSAVE in compacted form; #UD unless the processor has XSAVEC. */
export declare function xsavec(ptr: usize, mask: u64): void;
export declare function xrstor(ptr: usize, mask: u64): void;
export declare function fxsave(ptr: usize): void;
export declare function fxrstor(ptr: usize): void;
/** CLTS, and CR0.TS set again: the core keeps TS as it is on exit; see docs/architecture.md. */
export declare function clts(): void;

// ---- VMX. Status: 0 success, 1 VMfailInvalid, 2 VMfailValid.

export declare function vmxon(regionPa: u64): u32;
export declare function vmxoff(): void;
export declare function vmclear(vmcsPa: u64): u32;
export declare function vmptrld(vmcsPa: u64): u32;
/** VMREAD of a field known to exist, with a current VMCS: unchecked, one instruction. */
export declare function vmread(field: u32): u64;
/** VMWRITE of a field known to exist, with a current VMCS: unchecked, one instruction. */
export declare function vmwrite(field: u32, value: u64): void;
/** VMWRITE that reports failure. */
export declare function vmwriteSafe(field: u32, value: u64): u32;
/** VMREAD that reports failure; stores the u64 at `out`. */
export declare function vmreadSafe(field: u32, out: usize): u32;
export declare function invept(type: u32, eptp: u64): u32;
export declare function invvpid(type: u32, vpid: u32, gva: u64): u32;
/**
 * VMLAUNCH or VMRESUME with the registers in the Vcpu at `vcpu` (kernel/vmx/switch.asm); returns
 * after the next exit, with them saved there. 0: an exit took place; 1, 2: the entry failed early.
 * All registers and all memory are clobbered.
 */
export declare function vmenter(vcpu: usize): u32;
