; VM entry and exit: the whole of the path between the core and a guest.
; vmenter(vcpu: EDI) -> EAX: 0 after an exit, 1 VMfailInvalid, 2 VMfailValid.
; The caller keeps no register. General registers are the guest's in between; RSP, RIP and RFLAGS are in
; the VMCS. The stack holds the Vcpu's address at the top during the guest's stay: HOST_RSP points there.
; Intel SDM Vol. 3, "VM Entries" and "Loading Host State".

%include "abi.inc"

                global  insn_vmenter, vmexit

HOST_RSP        equ     0x6c14                  ; field encoding
IA32_SPEC_CTRL  equ     0x48
IA32_FLUSH_CMD  equ     0x10b
L1D_FLUSH       equ     1
ENTRY_BEFORE    equ     ENTRY_VERW | ENTRY_FLUSH_L1D | ENTRY_SPEC_CTRL | ENTRY_LAUNCH | ENTRY_STACK

; The guest's registers, of the Vcpu at RDI.
%macro LOAD_GUEST 0
                mov     rcx, [edi + VCPU_REGS + 1 * 8]
                mov     rdx, [edi + VCPU_REGS + 2 * 8]
                mov     rbx, [edi + VCPU_REGS + 3 * 8]
                mov     rbp, [edi + VCPU_REGS + 5 * 8]
                mov     rsi, [edi + VCPU_REGS + 6 * 8]
                mov     r8, [edi + VCPU_REGS + 8 * 8]
                mov     r9, [edi + VCPU_REGS + 9 * 8]
                mov     r10, [edi + VCPU_REGS + 10 * 8]
                mov     r11, [edi + VCPU_REGS + 11 * 8]
                mov     r12, [edi + VCPU_REGS + 12 * 8]
                mov     r13, [edi + VCPU_REGS + 13 * 8]
                mov     r14, [edi + VCPU_REGS + 14 * 8]
                mov     r15, [edi + VCPU_REGS + 15 * 8]
                mov     rax, [edi + VCPU_REGS + 0 * 8]
                mov     rdi, [edi + VCPU_REGS + 7 * 8]
%endmacro

                section .rodata
writable:       dw      DATA_SELECTOR           ; VERW's operand: the form with memory is the one that clears buffers

                section .text
                align   16
insn_vmenter:
                push    rdi
                test    dword [edi + VCPU_ENTRY_FLAGS], ENTRY_BEFORE
                jnz     .before
.load:          LOAD_GUEST
                vmresume
.failed:        pop     rdi                     ; CF or ZF; neither MOV nor POP changes them
                mov     eax, 1
                jc      .return
                inc     eax
.return:        ret

.launch:        and     dword [edi + VCPU_ENTRY_FLAGS], ~ENTRY_LAUNCH
                LOAD_GUEST
                vmlaunch
                pop     rdi
                mov     eax, 1
                jc      .clear
                inc     eax
.clear:         or      dword [edi + VCPU_ENTRY_FLAGS], ENTRY_LAUNCH
                ret

; What the core left in predictors and buffers stays out of the guest's reach. VERW comes last; the loads behind it
; bring the guest's own registers.
.before:        mov     esi, [edi + VCPU_ENTRY_FLAGS]
                test    esi, ENTRY_STACK
                jz      .control
                and     dword [edi + VCPU_ENTRY_FLAGS], ~ENTRY_STACK
                mov     ecx, HOST_RSP
                vmwrite rcx, rsp
.control:       test    esi, ENTRY_SPEC_CTRL
                jz      .cache
                mov     eax, [edi + VCPU_SPEC_CTRL_GUEST]
                xor     edx, edx
                mov     ecx, IA32_SPEC_CTRL
                wrmsr
.cache:         test    esi, ENTRY_FLUSH_L1D
                jz      .buffers
                mov     eax, L1D_FLUSH
                xor     edx, edx
                mov     ecx, IA32_FLUSH_CMD
                wrmsr
.buffers:       test    esi, ENTRY_VERW
                jz      .ways
                verw    [rel writable]
.ways:          test    esi, ENTRY_LAUNCH
                jnz     .launch
                jmp     .load

                align   16
vmexit:         push    rdi
                mov     rdi, [rsp + 8]
                mov     [edi + VCPU_REGS + 0 * 8], rax
                mov     [edi + VCPU_REGS + 1 * 8], rcx
                mov     [edi + VCPU_REGS + 2 * 8], rdx
                mov     [edi + VCPU_REGS + 3 * 8], rbx
                mov     [edi + VCPU_REGS + 5 * 8], rbp
                mov     [edi + VCPU_REGS + 6 * 8], rsi
                mov     [edi + VCPU_REGS + 8 * 8], r8
                mov     [edi + VCPU_REGS + 9 * 8], r9
                mov     [edi + VCPU_REGS + 10 * 8], r10
                mov     [edi + VCPU_REGS + 11 * 8], r11
                mov     [edi + VCPU_REGS + 12 * 8], r12
                mov     [edi + VCPU_REGS + 13 * 8], r13
                mov     [edi + VCPU_REGS + 14 * 8], r14
                mov     [edi + VCPU_REGS + 15 * 8], r15
                pop     qword [edi + VCPU_REGS + 7 * 8]
                cmp     dword [edi + VCPU_ENTRY_FLAGS], 0
                jne     .mitigate
.done:          pop     rdi                     ; the Vcpu's address
                xor     eax, eax
                ret

; What the guest left in registers or predictors is gone before the core computes. Whatever else is asked for, the
; registers are cleared. The calls fill the return stack buffer, from as far up as this processor needs; LFENCE
; keeps a branch that was predicted wrongly from getting past them.
.mitigate:      mov     esi, [edi + VCPU_ENTRY_FLAGS]
                xor     eax, eax
                xor     edx, edx
                xor     ebx, ebx
                xor     ebp, ebp
                xor     r8d, r8d
                xor     r9d, r9d
                xor     r10d, r10d
                xor     r11d, r11d
                xor     r12d, r12d
                xor     r13d, r13d
                xor     r14d, r14d
                xor     r15d, r15d
                mov     rcx, rsp
                test    esi, ENTRY_FILL_RSB_16
                jnz     .fill15
                test    esi, ENTRY_GUARD_RSB
                jnz     .fill30
                test    esi, ENTRY_FILL_RSB
                jz      .filled
%assign slot 0
%rep 32
                call    .fill%[slot]
                int3
.fill%[slot]:
        %assign slot slot + 1
%endrep
                mov     rsp, rcx
                lfence
.filled:        test    esi, ENTRY_SPEC_CTRL | ENTRY_CLEAR_BHB
                jnz     .control
                pop     rdi
                ret

.control:       test    esi, ENTRY_SPEC_CTRL
                jz      .history
                mov     eax, [edi + VCPU_SPEC_CTRL_HOST]
                xor     edx, edx
                mov     ecx, IA32_SPEC_CTRL
                wrmsr
.history:       test    esi, ENTRY_CLEAR_BHB
                jz      .done
                call    clear_history
                jmp     .done

; Fills the branch history with branches of our own: five calls deep, five taken branches in a row at each, as Intel's
; guidance on Branch History Injection asks for on processors without BHI_DIS_S. Changes RAX, RCX.
                align   64
clear_history:  mov     ecx, 5
                call    .outer
                lfence
                ret
                align   64
.outer:         call    .inner
                ret
                align   64
.inner:         mov     eax, 5
.taken:         jmp     .next
                nop
.next:          sub     eax, 1
                jnz     .taken
                sub     ecx, 1
                jnz     .outer
                ret
