; Nothing is delivered while RFLAGS.IF is 0, in x2APIC mode: not a timer that expires there, not a self-IPI, not
; what an EOI lets through; and all of it comes afterwards, once. With exits and other guests in between.
%include "guest.inc"
ROUNDS  equ 400
%macro X2_WRITE 2
        mov ecx, %1
        mov eax, %2
        xor edx, edx
        wrmsr
%endmacro
main:   call pic_off
        call apic_on
        mov ecx, 0x1b
        rdmsr
        or eax, 0xc00
        wrmsr
        mov byte [eoi_mode], 2
        mov dword [handlers + 0x61 * 8], nested
        X2_WRITE 0x80f, 0x1ff
        X2_WRITE 0x832, 0x50            ; one-shot
        X2_WRITE 0x83e, 0x0b            ; divide by 1
        mov r12d, ROUNDS
.round: mov r13d, [irq_count + 0x50 * 4]
        mov r14d, [irq_count + 0x51 * 4]
        mov r15d, [nests]
        mov eax, r12d
        and eax, 255
        shl eax, 3
        add eax, 50
        mov ecx, 0x838
        xor edx, edx
        wrmsr
        X2_WRITE 0x83f, 0x51
        X2_WRITE 0x83f, 0x61
        mov ebx, 40
.spin:  mov esi, ebx
        mov eax, 1
        test bl, 3
        jnz .quiet
        cpuid
.quiet: pause
        mov ecx, 20
        loop $
        mov ebx, esi
        dec ebx
        jnz .spin
        cmp r13d, [irq_count + 0x50 * 4]
        jne .early
        cmp r14d, [irq_count + 0x51 * 4]
        jne .early
        cmp r15d, [nests]
        je .open
.early: inc dword [earlies]
.open:  sti
        mov ebx, 1000000
.wait:  pause
        cmp r13d, [irq_count + 0x50 * 4]
        jne .came
        dec ebx
        jnz .wait
.came:  nop
        cli
        inc r13d
        inc r14d
        inc r15d
        cmp r13d, [irq_count + 0x50 * 4]
        jne .lost
        cmp r14d, [irq_count + 0x51 * 4]
        jne .lost
        cmp r15d, [nests]
        je .next
.lost:  inc dword [losses]
.next:  dec r12d
        jnz .round
        mov eax, [earlies]
        EQUAL rax, 0, "rounds with an interrupt at IF = 0"
        mov eax, [losses]
        EQUAL rax, 0, "rounds in which one came not at all or twice"
        mov eax, [inside]
        EQUAL rax, 0, "interrupts inside a handler after its EOI"
        jmp finish

; EOI first, then a while with interrupts off.
nested: inc dword [nests]
        mov r8d, [irq_count + 0x51 * 4]
        X2_WRITE 0x80b, 0
        mov ecx, 50
.wait:  pause
        loop .wait
        cmp r8d, [irq_count + 0x51 * 4]
        je .end
        inc dword [inside]
.end:   ret

section .bss
        alignb 4
nests   resd 1
earlies resd 1
losses  resd 1
inside  resd 1
END_OF_GUEST
