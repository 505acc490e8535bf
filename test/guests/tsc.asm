; The TSC starts near zero, only moves forward, moves by what is written to it, and agrees with the PM timer, the 8254 and the clock.
%include "guest.inc"
ticks:  rdtsc
        shl rdx, 32
        or rax, rdx
        ret
main:   call ticks
        mov r8, rax
        shr rax, 40
        EQUAL rax, 0, "it starts near zero"
        mov ecx, 100000
.forward: call ticks
        cmp rax, r8
        jb .back
        mov r8, rax
        loop .forward
        jmp .monotonic
.back:  inc dword [failures]
        PRINT {"it went back", 10}
.monotonic:
        inc dword [checks]
        ; RDTSCP and IA32_TSC_AUX
        mov eax, 0x80000001
        cpuid
        bt edx, 27
        jnc .noaux
        mov ecx, 0xc0000103
        mov eax, 0x1234
        xor edx, edx
        wrmsr
        rdtscp
        EQUAL rcx, 0x1234, "RDTSCP gives TSC_AUX"
.noaux: ; IA32_TSC_ADJUST moves it
        mov eax, 7
        xor ecx, ecx
        cpuid
        bt ebx, 1
        jnc .noadjust
        call ticks
        mov r8, rax
        mov ecx, 0x3b
        rdmsr
        EQUAL rax, 0, "TSC_ADJUST starts at zero"
        mov ecx, 0x3b
        mov eax, 1000000000
        xor edx, edx
        wrmsr
        call ticks
        sub rax, r8
        cmp rax, 1000000000
        CHECK ae, "TSC_ADJUST moves it"
        cmp rax, 1100000000
        CHECK b, "and by that much"
        mov ecx, 0x3b
        xor eax, eax
        xor edx, edx
        wrmsr
        ; A write to the TSC shows in TSC_ADJUST
        mov ecx, 0x10
        mov eax, 0
        mov edx, 0x100
        wrmsr
        call ticks
        shr rax, 32
        EQUAL rax, 0x100, "a write to the TSC"
        mov ecx, 0x3b
        rdmsr
        test edx, edx
        CHECK nz, "shows in TSC_ADJUST"
.noadjust:
        ; Rates: 100000 PM timer ticks against the TSC and CPUID 40000010H
        mov eax, 0x40000010
        cpuid
        mov r12d, eax                   ; kHz
        mov dx, 0x608
        in eax, dx
        mov r13d, eax
        call ticks
        mov r14, rax
.pm:    mov dx, 0x608
        in eax, dx
        sub eax, r13d
        cmp eax, 10000
        jb .pm
        mov r13d, eax
        call ticks
        sub rax, r14                    ; TSC ticks for R13 PM ticks
        ; expected: R13 * kHz * 1000 / 3579545
        mov r14, rax
        mov eax, r13d
        imul rax, r12
        imul rax, rax, 1000
        xor edx, edx
        mov ecx, 3579545
        div rcx
        mov r15, rax
        PRINT "PM timer: TSC ticks "
        mov rax, r14
        call putdec
        PRINT ", expected "
        mov rax, r15
        call putdec
        call newline
        sub rax, r14
        jns .abs
        neg rax
.abs:   imul rax, rax, 50
        cmp rax, r15
        CHECK b, "PM timer and TSC agree within 2%"
        ; The 8254 on channel 2: 10000 ticks. A neighbour may have the CPU when they are over, but not each time
        mov ebx, 20
.again: mov al, 1
        out 0x61, al
        mov al, 0xb0
        out 0x43, al
        mov al, 0x10
        out 0x42, al
        mov al, 0x27
        out 0x42, al
        call ticks
        mov r14, rax
.pit:   in al, 0x61
        test al, 0x20
        jz .pit
        call ticks
        sub rax, r14
        mov r14, rax
        mov eax, r12d
        imul rax, rax, 1000
        imul rax, rax, 10000
        xor edx, edx
        mov ecx, 1193182
        div rcx
        mov r15, rax
        sub rax, r14
        jns .early
        neg rax
        imul rax, rax, 50
        cmp rax, r15
        jb .agree
        dec ebx
        jnz .again
.early: imul rax, rax, 50
        cmp rax, r15
.agree: CHECK b, "8254 and TSC agree within 2%"
        jmp finish
END_OF_GUEST
