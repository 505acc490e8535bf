; The interrupt descriptor table and the 256 entry stubs.
;
; Vectors 0..31 save every register to a TrapFrame in the CPU's block and call `onException`, `onNmi` or
; `onMachineCheck`; returning resumes the interrupted code with its registers as they were. What the core
; writes to the frame is not read back: it cannot send the processor anywhere.
; Vectors 32..255 call `onInterrupt(vector)`.
; A #GP at an instruction in the fix-up table (RDMSR and WRMSR of MSRs that may not exist) resumes at that
; entry's other address with RAX = 0 and does not reach the core.
; Intel SDM Vol. 3, "64-Bit Mode Stack Frame" and "Interrupt Stack Table".

%include "abi.inc"

                global  idt
                extern  onInterrupt, onException, onNmi, onMachineCheck
                extern  fixup_start, fixup_end

VECTOR_DB       equ     1
VECTOR_NMI      equ     2
VECTOR_DF       equ     8
VECTOR_GP       equ     13
VECTOR_PF       equ     14
VECTOR_MC       equ     18
FIRST_EXTERNAL  equ     32
STUB_BYTES      equ     16

; Vectors that push an error code: #DF #TS #NP #SS #GP #PF #AC #CP #VC #SX.
%define HAS_ERROR_CODE(vector) ((0x60227d00 >> (vector)) & 1)

; ---------------------------------------------------------------- stubs

; The linker puts this section at VECTOR_STUBS, so that the table below is constant and read-only.
                section .text.vectors progbits alloc exec nowrite align=4096
                global  vector_stubs
vector_stubs:
%assign vector 0
%rep 256
                align   STUB_BYTES, int3
        %if vector < FIRST_EXTERNAL
                %if !HAS_ERROR_CODE(vector)
                push    0
                %endif
                push    vector
                %if vector = VECTOR_NMI
                jmp     nmi
                %elif vector = VECTOR_MC
                jmp     machine_check
                %elif vector = VECTOR_DF
                jmp     double_fault
                %else
                jmp     exception
                %endif
        %else
                push    strict dword vector
                jmp     interrupt
        %endif
%assign vector vector + 1
%endrep

; ---------------------------------------------------------------- exceptions

                section .text

; What the stack holds once all registers are pushed, in bytes from RSP.
REGISTERS       equ     15 * 8
AT_RAX          equ     14 * 8
AT_VECTOR       equ     REGISTERS
AT_ERROR        equ     REGISTERS + 0x08
AT_RIP          equ     REGISTERS + 0x10
AT_CS           equ     REGISTERS + 0x18
AT_RFLAGS       equ     REGISTERS + 0x20
AT_RSP          equ     REGISTERS + 0x28
AT_SS           equ     REGISTERS + 0x30

%macro          push_registers 0
                push    rax
                push    rcx
                push    rdx
                push    rbx
                push    rbp
                push    rsi
                push    rdi
                push    r8
                push    r9
                push    r10
                push    r11
                push    r12
                push    r13
                push    r14
                push    r15
%endmacro

%macro          pop_registers 0
                pop     r15
                pop     r14
                pop     r13
                pop     r12
                pop     r11
                pop     r10
                pop     r9
                pop     r8
                pop     rdi
                pop     rsi
                pop     rbp
                pop     rbx
                pop     rdx
                pop     rcx
                pop     rax
%endmacro

; The stack's word at %1 goes to the frame's field %2.
%macro          to_frame 2
                mov     rax, [rsp + %1]
                mov     [rdi + %2], rax
%endmacro

; Fills the CPU's TrapFrame number %1 and calls %2 with it. The processor aligned RSP to 16 before it
; pushed; 22 quadwords keep it so.
%macro          report 2
                cld
                mov     edi, [gs:CPUBLOCK_SELF]
                add     edi, PERCPU_FRAMES + %1 * PERCPU_FRAME_BYTES
                to_frame AT_RAX, TRAPFRAME_RAX
                mov     [rdi + TRAPFRAME_RCX], rcx
                mov     [rdi + TRAPFRAME_RDX], rdx
                mov     [rdi + TRAPFRAME_RBX], rbx
                mov     [rdi + TRAPFRAME_RBP], rbp
                mov     [rdi + TRAPFRAME_RSI], rsi
                to_frame AT_RAX - 6 * 8, TRAPFRAME_RDI
                mov     [rdi + TRAPFRAME_R8], r8
                mov     [rdi + TRAPFRAME_R9], r9
                mov     [rdi + TRAPFRAME_R10], r10
                mov     [rdi + TRAPFRAME_R11], r11
                mov     [rdi + TRAPFRAME_R12], r12
                mov     [rdi + TRAPFRAME_R13], r13
                mov     [rdi + TRAPFRAME_R14], r14
                mov     [rdi + TRAPFRAME_R15], r15
                to_frame AT_VECTOR, TRAPFRAME_VECTOR
                to_frame AT_ERROR, TRAPFRAME_ERROR
                to_frame AT_RIP, TRAPFRAME_RIP
                to_frame AT_CS, TRAPFRAME_CS
                to_frame AT_RFLAGS, TRAPFRAME_RFLAGS
                to_frame AT_RSP, TRAPFRAME_RSP
                to_frame AT_SS, TRAPFRAME_SS
                mov     rax, cr2
                mov     [rdi + TRAPFRAME_CR2], rax
                mov     rax, cr3
                mov     [rdi + TRAPFRAME_CR3], rax
                call    %2
%endmacro

exception:
                push_registers
                cmp     dword [rsp + AT_VECTOR], VECTOR_GP
                je      fix_up
unfixed:        report  FRAME_EXCEPTION, onException
resume:         pop_registers
                add     rsp, 16                 ; vector and error code
                iretq

nmi:
                push_registers
                report  FRAME_NMI, onNmi
                jmp     resume

machine_check:
                push_registers
                report  FRAME_MACHINE_CHECK, onMachineCheck
                jmp     resume

double_fault:
                push_registers
                report  FRAME_DOUBLE_FAULT, onException
                jmp     resume

; Looks the faulting instruction up in the table of pairs (instruction, where to go on).
fix_up:
                mov     rax, [rsp + AT_RIP]
                mov     rdx, fixup_start
                mov     r8, fixup_end
.next:          cmp     rdx, r8
                jae     unfixed_reload
                cmp     [rdx], rax
                je      .found
                add     rdx, 16
                jmp     .next
.found:         mov     rax, [rdx + 8]
                mov     [rsp + AT_RIP], rax
                mov     qword [rsp + AT_RAX], 0
                jmp     resume

; The search used registers that the frame must show as they were.
unfixed_reload:
                mov     rax, [rsp + AT_RAX]
                mov     rdx, [rsp + AT_RAX - 2 * 8]
                mov     r8, [rsp + AT_RAX - 7 * 8]
                jmp     unfixed

; ---------------------------------------------------------------- external interrupts

; The processor's 5 quadwords, the vector and 15 registers: one more aligns RSP.
interrupt:
                push_registers
                cld
                mov     edi, [rsp + REGISTERS]
                sub     rsp, 8
                call    onInterrupt
                add     rsp, 8
                pop_registers
                add     rsp, 8                  ; the vector
                iretq

; ---------------------------------------------------------------- the table

                section .rodata.idt progbits alloc noexec nowrite align=16
%define GATE_INTERRUPT 0x8e                      ; present, DPL 0, 64-bit interrupt gate
idt:
%assign vector 0
%rep 256
        %assign stub VECTOR_STUBS + vector * STUB_BYTES
        %if vector = VECTOR_NMI
                %assign ist 1
        %elif vector = VECTOR_MC
                %assign ist 2
        %elif vector = VECTOR_DF
                %assign ist 3
        %elif vector = VECTOR_PF
                %assign ist 4
        %else
                %assign ist 0
        %endif
                dw      stub & 0xffff, CODE_SELECTOR
                db      ist, GATE_INTERRUPT
                dw      (stub >> 16) & 0xffff
                dd      (stub >> 32) & 0xffffffff, 0
%assign vector vector + 1
%endrep
