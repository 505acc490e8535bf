; A triple fault ends this guest, and only it. It does not come to an end of its own.
%include "guest.inc"
main:   PRINT {"about to triple fault", 10}
        lidt [nothing]
        ud2
        mov eax, 4
        jmp exit
section .data
nothing: dw 0
        dq 0
END_OF_GUEST
