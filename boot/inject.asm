; Faults on purpose, for tests: `inject=NAME` on the command line. injectFault(which) commits the fault at
; an instruction of its own; the caller's TypeScript line is the next frame of the backtrace.

%include "abi.inc"

                global  insn_injectFault
                extern  image_rodata, boot_idt_pointer

FAULTS          equ     12

                section .text
insn_injectFault:
                cmp     edi, FAULTS
                jae     .unknown
                lea     rax, [rel .table]
                movsxd  rdx, dword [rax + rdi * 4]
                add     rax, rdx
                jmp     rax
.unknown:       ret

                align   4, int3
.table:         dd      .null - .table              ; 0
                dd      .stack_overflow - .table    ; 1
                dd      .write_text - .table        ; 2
                dd      .execute_data - .table      ; 3
                dd      .divide - .table            ; 4
                dd      .out_of_window - .table     ; 5
                dd      .double_fault - .table      ; 6
                dd      .nmi - .table               ; 7
                dd      .invalid_opcode - .table    ; 8
                dd      .general_protection - .table ; 9
                dd      .write_rodata - .table      ; 10
                dd      .hang - .table              ; 11

.null:          mov     eax, [abs 0]
                ret
; Pushes until the guard page below the main stack.
.stack_overflow:
                push    rsp
                jmp     .stack_overflow
.write_text:    lea     rax, [rel insn_injectFault]
                mov     byte [rax], 0x90
                ret
.execute_data:  mov     eax, PERCPU_BASE
                jmp     rax
.divide:        xor     ecx, ecx
                xor     edx, edx
                div     ecx
                ret
; The last bytes of the window's 4 GiB: never part of linear memory.
.out_of_window: mov     eax, -8
                mov     eax, [eax]
                ret
; #UD with a stack that cannot take its frame: #SS, and #SS again while that is delivered.
.double_fault:  mov     rsp, 1 << 63 >> 8
                ud2
.nmi:           int     2
                ret
.invalid_opcode:
                ud2
                ret
; An address that is not canonical.
.general_protection:
                mov     rax, 1 << 55
                mov     eax, [rax]
                ret
.write_rodata:  mov     rax, image_rodata
                mov     byte [rax], 0
                ret
.hang:          jmp     .hang
