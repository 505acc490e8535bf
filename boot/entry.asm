; From the boot loader's 32-bit protected mode to the core's `kmain`, on the boot CPU.
;
; entry32 runs at its physical address with paging off. It checks that the processor has long mode and
; execute-disable, builds two sets of page tables in the image's bss and turns paging on with the first:
;
;   bring-up root   the page of this code at its physical address (R+X), and the image
;   boot root       64 KiB .. SHARED_END    linear memory: the image's linear section (RW)
;                   PERCPU_BASE             the boot CPU's block, 16 KiB (RW)
;                   TABLE_WINDOW + pa       the low 4 GiB (RW), so that the core can build the final tables
;                   DEVICE_WINDOW + pa      the low 4 GiB (R), so that it can read the boot information
;                   IMAGE_BASE + pa         text R+X, rodata R, data and bss RW; nothing else of the image
;                   STACKS_BASE             the boot CPU's stacks, guard pages absent
;
; kernel/mm/hostmap.ts replaces the boot root with the final one, in which the two windows hold single
; frames only. Nothing is ever writable and executable.
; Multiboot Specification, "Machine state"; Intel SDM Vol. 3, "Initializing IA-32e Mode".

%include "abi.inc"

%define PHYSICAL(symbol) ((symbol) - IMAGE_BASE)

                global  entry32, boot_idt_pointer
                extern  image_start, image_rodata, image_data, image_linear, image_linear_end, image_end
                extern  idt, kmain, _start

; Page-table entries. Intel SDM Vol. 3, "4-Level Paging".
PRESENT         equ     1 << 0
WRITABLE        equ     1 << 1
LARGE           equ     1 << 7
NX_HIGH         equ     1 << 31                 ; execute-disable, in the upper half of an entry
PAGE_BYTES      equ     0x1000
LARGE_BYTES     equ     0x200000

CR0_PE_MP_ET_NE equ     0x33
CR0_WP          equ     1 << 16
CR0_PG          equ     1 << 31
CR4_PAE         equ     1 << 5
IA32_EFER       equ     0xc0000080
EFER_LME        equ     1 << 8
EFER_NXE        equ     1 << 11
IA32_GS_BASE    equ     0xc0000101
IA32_MISC_ENABLE        equ 0x1a0
COM1            equ     0x3f8
XD_DISABLE_HIGH equ     1 << 2                  ; bit 34: firmware has turned execute-disable off

%define INDEX4(address) (((address) >> 39) & 511)
%define INDEX3(address) (((address) >> 30) & 511)
%define INDEX2(address) (((address) >> 21) & 511)
%define INDEX1(address) (((address) >> 12) & 511)

; ---------------------------------------------------------------- 32-bit, physical addresses

                section .boot.text progbits alloc exec nowrite align=16
                bits    32

entry32:
                cli
                cld
                mov     esp, PHYSICAL(boot_stacks) + STACK_TOP
                mov     ebp, eax                ; the loader's magic number
                mov     esi, ebx                ; the physical address of the boot information

                mov     eax, 0x80000000
                cpuid
                cmp     eax, 0x80000001
                jb      .no_long_mode
                mov     eax, 0x80000001
                cpuid
                bt      edx, 29                 ; LM
                jnc     .no_long_mode
                bt      edx, 20                 ; NX
                jc      .build
                call    allow_execute_disable
                mov     eax, 0x80000001
                cpuid
                bt      edx, 20
                jnc     .no_execute_disable

.build:         rdtsc
                push    edx
                push    eax
                push    esi
                call    build_tables
                pop     esi
                pop     edi                     ; EDI, EBX: the time-stamp counter at the start
                pop     ebx

                mov     eax, CR4_PAE
                mov     cr4, eax
                mov     eax, PHYSICAL(bringup_root)
                mov     cr3, eax
                mov     ecx, IA32_EFER
                rdmsr
                or      eax, EFER_LME | EFER_NXE
                wrmsr
                mov     eax, CR0_PG | CR0_WP | CR0_PE_MP_ET_NE
                mov     cr0, eax
                lgdt    [PHYSICAL(early_gdt_pointer)]
                jmp     CODE_SELECTOR:PHYSICAL(entry64)

.no_long_mode:  mov     esi, PHYSICAL(text_no_long_mode)
                jmp     refuse
.no_execute_disable:
                mov     esi, PHYSICAL(text_no_execute_disable)
                jmp     refuse

; Clears the XD Bit Disable that some firmware sets; only Intel processors have it.
allow_execute_disable:
                xor     eax, eax
                cpuid
                cmp     ecx, "ntel"             ; GenuineIntel
                jne     .done
                mov     ecx, IA32_MISC_ENABLE
                rdmsr
                and     edx, ~XD_DISABLE_HIGH
                wrmsr
.done:          ret

; Writes the line at ESI to COM1 and to the screen's text memory, and stops.
refuse:
                mov     dx, COM1 + 3            ; whatever firmware left: 115200 baud, 8 bits, no parity
                mov     al, 1 << 7              ; divisor latch
                out     dx, al
                mov     dx, COM1
                mov     al, 1
                out     dx, al
                inc     dx
                dec     al
                out     dx, al
                mov     dx, COM1 + 3
                mov     al, 3
                out     dx, al
                mov     edi, 0xb8000
.next:          lodsb
                test    al, al
                jz      .stop
                mov     ah, 0x0f
                stosw
                mov     bl, al
                mov     ecx, 100000             ; a port that is not there must not hold the line up
                mov     dx, COM1 + 5
.wait:          in      al, dx
                test    al, 1 << 5              ; transmitter holding register empty
                loopz   .wait
                mov     al, bl
                mov     dx, COM1
                out     dx, al
                jmp     .next
.stop:          cli
                hlt
                jmp     .stop

; Fills the tables: first the leaves, then the links between tables.
build_tables:
                mov     esi, PHYSICAL(page_runs)
.run:           mov     edi, [esi]              ; the first entry to write
                test    edi, edi
                jz      .windows
                mov     eax, [esi + 4]          ; the first frame, with flags
                mov     edx, [esi + 8]          ; the upper half
                mov     ecx, [esi + 12]         ; one past the last frame
                add     esi, 16
.page:          mov     ebx, eax
                and     ebx, -PAGE_BYTES
                cmp     ebx, ecx
                jae     .run
                mov     [edi], eax
                mov     [edi + 4], edx
                add     edi, 8
                add     eax, PAGE_BYTES
                jmp     .page

.windows:       mov     edi, PHYSICAL(window_pd)
                mov     eax, PRESENT | WRITABLE | LARGE
                mov     ecx, 4 * 512
.large:         mov     [edi], eax
                mov     dword [edi + 4], NX_HIGH
                add     edi, 8
                add     eax, LARGE_BYTES
                loop    .large

; The guard pages of the boot CPU's stacks: taken out again.
                mov     esi, PHYSICAL(guard_pages)
.guard:         lodsd
                mov     dword [eax], 0
                mov     dword [eax + 4], 0
                cmp     esi, PHYSICAL(guard_pages_end)
                jb      .guard

                mov     esi, PHYSICAL(links)
.link:          lodsd
                mov     edi, eax
                lodsd
                mov     [edi], eax
                cmp     esi, PHYSICAL(links_end)
                jb      .link
                ret

                align   8, db 0
; entry to write, first frame with flags, upper half, end
page_runs:
                dd      PHYSICAL(bringup_pt) + 8 * INDEX1(IMAGE_PHYSICAL), IMAGE_PHYSICAL + PRESENT, 0, IMAGE_PHYSICAL + PAGE_BYTES
                dd      PHYSICAL(linear_pt) + 8 * INDEX1(LINEAR_START), PHYSICAL(image_linear) + PRESENT + WRITABLE, NX_HIGH, PHYSICAL(image_linear_end)
                dd      PHYSICAL(percpu_pt), PHYSICAL(boot_percpu) + PRESENT + WRITABLE, NX_HIGH, PHYSICAL(boot_percpu) + PERCPU_BYTES
                dd      PHYSICAL(stacks_pt), PHYSICAL(boot_stacks) + PRESENT + WRITABLE, NX_HIGH, PHYSICAL(boot_stacks) + STACK_SLOT_BYTES
                dd      PHYSICAL(image_text_entry), PHYSICAL(image_start) + PRESENT, 0, PHYSICAL(image_rodata)
                dd      PHYSICAL(image_rodata_entry), PHYSICAL(image_rodata) + PRESENT, NX_HIGH, PHYSICAL(image_data)
                dd      PHYSICAL(image_data_entry), PHYSICAL(image_data) + PRESENT + WRITABLE, NX_HIGH, PHYSICAL(image_linear)
                dd      PHYSICAL(image_bss_entry), PHYSICAL(image_linear_end) + PRESENT + WRITABLE, NX_HIGH, PHYSICAL(image_end)
                dd      0

guard_pages:
                %assign page 0
                %rep    STACK_SLOT_BYTES / PAGE_BYTES
                %if     (STACK_GUARDS >> page) & 1
                dd      PHYSICAL(stacks_pt) + 8 * page
                %endif
                %assign page page + 1
                %endrep
guard_pages_end:

%define TABLE   (PRESENT | WRITABLE)
links:
                dd      PHYSICAL(bringup_root), PHYSICAL(bringup_pdpt) + PRESENT
                dd      PHYSICAL(bringup_root) + 8 * 511, PHYSICAL(top_pdpt) + TABLE
                dd      PHYSICAL(bringup_pdpt), PHYSICAL(bringup_pd) + PRESENT
                dd      PHYSICAL(bringup_pd), PHYSICAL(bringup_pt) + PRESENT
                dd      PHYSICAL(boot_root), PHYSICAL(linear_pdpt) + TABLE
                dd      PHYSICAL(boot_root) + 8 * INDEX4(TABLE_WINDOW), PHYSICAL(window_pdpt) + TABLE
                dd      PHYSICAL(boot_root) + 8 * INDEX4(DEVICE_WINDOW), PHYSICAL(window_pdpt) + PRESENT
                dd      PHYSICAL(boot_root) + 8 * 511, PHYSICAL(top_pdpt) + TABLE
                dd      PHYSICAL(linear_pdpt), PHYSICAL(linear_pd) + TABLE
                %assign n 0
                %rep    SHARED_END / LARGE_BYTES
                dd      PHYSICAL(linear_pd) + 8 * n, PHYSICAL(linear_pt) + PAGE_BYTES * n + TABLE
                %assign n n + 1
                %endrep
                dd      PHYSICAL(linear_pd) + 8 * INDEX2(PERCPU_BASE), PHYSICAL(percpu_pt) + TABLE
                dd      PHYSICAL(top_pdpt) + 8 * INDEX3(IMAGE_BASE), PHYSICAL(image_pd) + TABLE
                dd      PHYSICAL(top_pdpt) + 8 * INDEX3(STACKS_BASE), PHYSICAL(stacks_pd) + TABLE
                dd      PHYSICAL(stacks_pd), PHYSICAL(stacks_pt) + TABLE
                %assign n 0
                %rep    IMAGE_TABLES
                dd      PHYSICAL(image_pd) + 8 * n, PHYSICAL(image_pt) + PAGE_BYTES * n + TABLE
                %assign n n + 1
                %endrep
                %assign n 0
                %rep    4
                dd      PHYSICAL(window_pdpt) + 8 * n, PHYSICAL(window_pd) + PAGE_BYTES * n + TABLE
                %assign n n + 1
                %endrep
links_end:

                align   8, db 0
; Accessed bits are set, for the processor cannot set them in a read-only page.
early_gdt:      dq      0
                dq      0x00af9b000000ffff      ; CODE_SELECTOR: 64-bit code
                dq      0x00cf93000000ffff      ; DATA_SELECTOR
early_gdt_pointer:
                dw      $ - early_gdt - 1
                dd      PHYSICAL(early_gdt)

text_no_long_mode:
                db      "basalt: this processor has no 64-bit mode (CPUID 80000001H:EDX[29]); the machine stays here", 13, 10, 0
text_no_execute_disable:
                db      "basalt: execute-disable is off (CPUID 80000001H:EDX[20]); turn it on in the firmware's set-up", 13, 10, 0

; ---------------------------------------------------------------- 64-bit, still at the physical address

                bits    64
entry64:        mov     rax, entry_high
                jmp     rax

; ---------------------------------------------------------------- 64-bit, at IMAGE_BASE

                section .text
entry_high:
                mov     eax, PHYSICAL(boot_root)
                mov     cr3, rax
                mov     rsp, STACKS_BASE + STACK_TOP
                push    rsi
                push    rbp

                lea     rax, [rel boot_tss]     ; the descriptor's base field is in four pieces
                lea     rdx, [rel boot_gdt.tss]
                mov     [rdx + 2], ax
                shr     rax, 16
                mov     [rdx + 4], al
                mov     [rdx + 7], ah
                shr     rax, 16
                mov     [rdx + 8], eax
                lgdt    [rel boot_gdt_pointer]
                mov     eax, DATA_SELECTOR
                mov     ds, eax
                mov     es, eax
                mov     ss, eax
                xor     eax, eax
                mov     fs, eax
                mov     gs, eax
                mov     eax, TSS_SELECTOR
                ltr     ax
                lidt    [rel boot_idt_pointer]
                push    CODE_SELECTOR
                lea     rax, [rel .reloaded]
                push    rax
                retfq

.reloaded:      mov     ecx, IA32_GS_BASE
                mov     eax, PERCPU_BASE
                xor     edx, edx
                wrmsr
                mov     [eax + CPUBLOCK_SELF], eax
                mov     [eax + CPUBLOCK_ENTRY_TSC], edi
                mov     [eax + CPUBLOCK_ENTRY_TSC + 4], ebx
                call    _start
                pop     rdi
                pop     rsi
                call    kmain
.stop:          cli
                hlt
                jmp     .stop

                section .rodata
boot_idt_pointer:
                dw      256 * 16 - 1
                dq      idt
boot_gdt_pointer:
                dw      boot_gdt.end - boot_gdt - 1
                dq      boot_gdt

                section .data
                align   16
boot_gdt:       dq      0
                dq      0x00af9b000000ffff      ; CODE_SELECTOR
                dq      0x00cf93000000ffff      ; DATA_SELECTOR
.tss:           dq      0x0000890000000067, 0   ; TSS_SELECTOR: base filled in above
.end:
                align   16
; Intel SDM Vol. 3, "64-Bit Task-State Segment".
boot_tss:       dd      0
                times   3 dq 0                  ; RSP0..RSP2: no other privilege level
                dq      0
                dq      STACKS_BASE + IST1_TOP, STACKS_BASE + IST2_TOP, STACKS_BASE + IST3_TOP, STACKS_BASE + IST4_TOP
                times   3 dq 0
                dq      0
                dw      0, 0x68                 ; no I/O permission bitmap

; ---------------------------------------------------------------- tables and stacks, zeroed by the loader

                section .bss nobits alloc noexec write align=4096
%macro          frames  2
%1:             resb    PAGE_BYTES * %2
%endmacro
                frames  bringup_root, 1
                frames  bringup_pdpt, 1
                frames  bringup_pd, 1
                frames  bringup_pt, 1
                frames  boot_root, 1
                frames  linear_pdpt, 1
                frames  linear_pd, 1
                frames  linear_pt, SHARED_END / LARGE_BYTES
                frames  percpu_pt, 1
                frames  window_pdpt, 1
                frames  window_pd, 4
                frames  top_pdpt, 1
                frames  image_pd, 1
                frames  image_pt, IMAGE_TABLES
                frames  stacks_pd, 1
                frames  stacks_pt, 1
                frames  boot_percpu, PERCPU_BYTES / PAGE_BYTES
                frames  boot_stacks, STACK_SLOT_BYTES / PAGE_BYTES

                extern  image_text_entry, image_rodata_entry, image_data_entry, image_bss_entry
                global  image_pt
