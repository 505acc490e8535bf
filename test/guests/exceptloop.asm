; Exceptions whose delivery raises exceptions without end, of the kind that `mode` of the seed chooses. It is ended from outside, or by a shutdown.
%include "guest.inc"
main:   call read_seed
        mov eax, [seed]
        and eax, 3
        cmp eax, 1
        jb .db
        je .ac
        cmp eax, 2
        je .pf
        ; #GP for ever: the handler itself faults, and its gate too, but never a third level
        PRINT {"#UD for ever", 10}
        mov dword [handlers + 6 * 8], again
.ud:    ud2
        jmp .ud
.db:    ; A data breakpoint on the stack that the delivery of #DB uses
        PRINT {"#DB on its own stack", 10}
        lea rax, [rsp - 40]
        mov dr0, rax
        mov eax, (0xd << 16) | 0x402
        mov dr7, rax
        mov dword [handlers + 1 * 8], again
.write: push rax
        push rax
        push rax
        push rax
        push rax
        add rsp, 40
        jmp .write
.ac:    PRINT {"#AC with a misaligned stack in user mode", 10}
        mov rax, cr0
        bts eax, 18
        mov cr0, rax
        mov dword [handlers + 17 * 8], again
        push DATA_USER
        push user_stack + 4093
        push 0x40002
        push CODE64_USER
        push user
        iretq
.pf:    PRINT {"#PF in the delivery of #PF", 10}
        mov rsp, 0x8000000000           ; an absent stack: #PF, #DF, then shutdown
        mov rax, [rsp]
user:   push rax
        jmp user
again:  ret
%include "seed.inc"
section .bss
        alignb 4096
user_stack: resb 4096
END_OF_GUEST
