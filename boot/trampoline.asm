; How a further CPU gets from the start-up IPI to the core's `apmain`.
;
; kernel/boot/smp.ts copies this page to a frame below 1 MiB, fills in the parameters and sends INIT-SIPI-SIPI
; to all CPUs at once: they run the same page in parallel. Each finds its index by its APIC ID in the
; table; one that is not listed stops.
;
;   +000  code                   +008  u32 CR3 with which to turn paging on: maps this page R+X at its own
;   +010  u64 CR3 of the core          address, and the image; below 4 GiB
;   +00c  u32 number of CPUs     +400  u32 APIC ID of CPU 0, 1, 2, ... (up to 256)
;
; The offsets are TRAMPOLINE_* in kernel/config.ts. The stack of the CPU and its block in linear memory
; (with its own address in the first word) must be mapped before.
; Intel SDM Vol. 3, "MP Initialization Protocol" and "Initializing IA-32e Mode".

%include "abi.inc"

                global  trampoline_start, trampoline_end
                extern  apmain, boot_idt_pointer

CR0_PE          equ     1 << 0
CR0_PE_MP_ET_NE equ     0x33
CR0_WP          equ     1 << 16
CR0_PG          equ     1 << 31
CR4_PAE         equ     1 << 5
IA32_EFER       equ     0xc0000080
EFER_LME        equ     1 << 8
EFER_NXE        equ     1 << 11
IA32_GS_BASE    equ     0xc0000101
IA32_MISC_ENABLE        equ 0x1a0
XD_DISABLE_HIGH equ     1 << 2                  ; bit 34

                section .rodata.trampoline progbits alloc noexec nowrite align=16

; ---------------------------------------------------------------- real mode, CS:0 is this page

                bits    16
trampoline_start:
                cli
                jmp     short real_mode
                times   TRAMPOLINE_BRINGUP_CR3 - ($ - trampoline_start) db 0
bringup_cr3:    dd      0
cpu_count:      dd      0
core_cr3:       dq      0
%if (cpu_count - trampoline_start != TRAMPOLINE_CPU_COUNT) || (core_cr3 - trampoline_start != TRAMPOLINE_CORE_CR3)
        %error  the parameters do not stand where kernel/config.ts says
%endif

%define OFFSET(label) ((label) - trampoline_start)

gdt:            dq      0
                dq      0x00af9b000000ffff      ; CODE_SELECTOR: 64-bit code
                dq      0x00cf93000000ffff      ; DATA_SELECTOR
                dq      0x00cf9b000000ffff      ; CODE32_SELECTOR
gdt_end:
CODE32_SELECTOR equ     0x18

; All CPUs write the same bases into these pointers.
gdt_pointer:    dw      gdt_end - gdt - 1
                dd      0
far_protected:  dd      0
                dw      CODE32_SELECTOR
far_long:       dd      0
                dw      CODE_SELECTOR

real_mode:
                cld
                mov     ax, cs
                mov     ds, ax
                xor     ebx, ebx
                mov     bx, ax
                shl     ebx, 4                  ; the physical address of this page
                lea     eax, [ebx + OFFSET(gdt)]
                mov     [OFFSET(gdt_pointer) + 2], eax
                lea     eax, [ebx + OFFSET(protected_mode)]
                mov     [OFFSET(far_protected)], eax
                lea     eax, [ebx + OFFSET(long_mode)]
                mov     [OFFSET(far_long)], eax
                o32 lgdt [OFFSET(gdt_pointer)]
                mov     eax, CR0_PE_MP_ET_NE    ; CD and NW as well: INIT leaves the caches off
                mov     cr0, eax
                jmp     far dword [OFFSET(far_protected)]

; ---------------------------------------------------------------- protected mode

                bits    32
protected_mode:
                mov     eax, DATA_SELECTOR
                mov     ds, eax
                mov     es, eax
                mov     ss, eax
                mov     eax, CR4_PAE
                mov     cr4, eax
                mov     eax, [ebx + OFFSET(bringup_cr3)]
                mov     cr3, eax
                mov     ebp, ebx                ; CPUID takes EBX
                mov     eax, 0x80000001
                cpuid
                bt      edx, 20                 ; NX
                jc      .enable
                mov     ecx, IA32_MISC_ENABLE   ; the boot CPU has it: firmware has turned it off here too
                rdmsr
                and     edx, ~XD_DISABLE_HIGH
                wrmsr
.enable:        mov     ebx, ebp
                mov     ecx, IA32_EFER
                rdmsr
                or      eax, EFER_LME | EFER_NXE
                wrmsr
                mov     eax, CR0_PG | CR0_WP | CR0_PE_MP_ET_NE
                mov     cr0, eax
                jmp     far dword [ebx + OFFSET(far_long)]

; ---------------------------------------------------------------- long mode, at this page's own address

                bits    64
long_mode:
                mov     rax, ap_entry
                jmp     rax
trampoline_end:

; ---------------------------------------------------------------- long mode, at IMAGE_BASE

; EBX: the physical address of the trampoline page, which is mapped until CR3 changes.
                section .text
ap_entry:
                mov     ebp, ebx                ; CPUID takes EBX
                xor     eax, eax
                cpuid
                cmp     eax, 0xb
                jb      .xapic_id
                mov     eax, 0xb
                xor     ecx, ecx
                cpuid
                test    ebx, ebx                ; zero: the leaf is not there
                jnz     .find                   ; EDX: the x2APIC ID
.xapic_id:      mov     eax, 1
                cpuid
                shr     ebx, 24
                mov     edx, ebx

.find:          xor     edi, edi
.next:          cmp     edi, [rbp + TRAMPOLINE_CPU_COUNT]
                jae     .stop
                cmp     edx, [rbp + TRAMPOLINE_APIC_IDS + rdi * 4]
                je      .found
                inc     edi
                jmp     .next

.found:         mov     rax, [rbp + TRAMPOLINE_CORE_CR3]
                mov     cr3, rax
                imul    rsp, rdi, STACK_SLOT_BYTES
                mov     rax, STACKS_BASE + STACK_TOP
                add     rsp, rax
                lidt    [rel boot_idt_pointer]
                imul    eax, edi, PERCPU_BYTES
                add     eax, PERCPU_BASE
                xor     edx, edx
                mov     ecx, IA32_GS_BASE
                wrmsr
                call    apmain
.stop:          cli
                hlt
                jmp     .stop
