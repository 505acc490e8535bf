; Memory of a guest that is gone reads zero: all of it is checked, from 4 MiB to its end and below 1 MiB, then poisoned for the next one.
%include "guest.inc"
FROM    equ 0x400000
LOW     equ 0xc0000
LOW_END equ 0xe0000
POISON  equ 0xdeadbeefdeadbeef
main:   mov ebx, [information]
        mov eax, [rbx + 8]              ; KiB above 1 MiB
        shl rax, 10
        lea r15, [rax + 0x100000]       ; end of memory
        mov edi, FROM
        mov rcx, r15
        call is_zero
        CHECK e, "memory above 4 MiB is zero at the start"
        mov edi, LOW
        mov ecx, LOW_END
        call is_zero
        CHECK e, "the segments of option ROMs are zero at the start"
        mov edi, FROM
        mov rcx, r15
        call fill
        mov edi, LOW
        mov ecx, LOW_END
        call fill
        mov rax, POISON
        cmp [r15 - 8], rax
        CHECK e, "the last of the poison is there"
        jmp finish
; From RDI to RCX: ZF if all of it is zero.
is_zero:
        sub rcx, rdi
        shr rcx, 3
        xor eax, eax
        repe scasq
        ret
fill:   sub rcx, rdi
        shr rcx, 3
        mov rax, POISON
        rep stosq
        ret
END_OF_GUEST
