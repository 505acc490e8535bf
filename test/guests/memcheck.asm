; Checks its own memory and registers all the time, beside whatever neighbours it has. `seed=N` sets the pattern, `runs=N` how long.
%include "guest.inc"
FROM    equ 0x400000
main:   call read_seed
        mov edx, 'runs'
        call read_number
        mov r14d, eax
        mov ebx, [information]
        mov eax, [rbx + 8]              ; KiB above 1 MiB
        shl rax, 10
        add rax, 0x100000
        mov r15, rax                    ; end of memory
        ; Modules and the like are not there: a guest without modules has all from 4 MiB
        ; Fresh memory reads zero
        mov edi, FROM
        mov rcx, r15
        sub rcx, rdi
        shr rcx, 3
        xor eax, eax
        repe scasq
        CHECK e, "memory is zero at the start"
.round: mov eax, [seed]
        lea r13d, [rax + r14]
        mov edi, FROM
.fill:  mov rax, rdi
        imul rax, r13
        xor rax, r13
        mov [rdi], rax
        add rdi, 8
        cmp rdi, r15
        jb .fill
        ; A few exits with all registers holding something known
        mov rcx, 0x1111111111111111
        mov rdx, 0x2222222222222222
        mov rsi, 0x3333333333333333
        mov rbp, 0x4444444444444444
        mov r8, 0x5555555555555555
        mov r9, 0x6666666666666666
        mov r10, 0x7777777777777777
        mov r11, 0x8888888888888888
        mov r12, 0x9999999999999999
        in al, 0x61
        EQUAL rcx, 0x1111111111111111, "RCX"
        EQUAL rdx, 0x2222222222222222, "RDX"
        EQUAL rsi, 0x3333333333333333, "RSI"
        EQUAL rbp, 0x4444444444444444, "RBP"
        EQUAL r8, 0x5555555555555555, "R8"
        EQUAL r9, 0x6666666666666666, "R9"
        EQUAL r10, 0x7777777777777777, "R10"
        EQUAL r11, 0x8888888888888888, "R11"
        EQUAL r12, 0x9999999999999999, "R12"
        mov edi, FROM
.check: mov rax, rdi
        imul rax, r13
        xor rax, r13
        cmp [rdi], rax
        jne .bad
        add rdi, 8
        cmp rdi, r15
        jb .check
        inc dword [checks]
        dec r14d
        jnz .round
        jmp finish
.bad:   inc dword [failures]
        PRINT "memory changed at "
        mov rax, rdi
        call puthex
        call newline
        jmp finish
%include "seed.inc"
END_OF_GUEST
