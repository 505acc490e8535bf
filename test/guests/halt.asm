; HLT ends by the APIC timer (one-shot, periodic, TSC deadline), by the 8254, by the clock; with `alone` in the command line, late by little.
%include "guest.inc"
VECTOR  equ 0x50
; Sleeps until irq_count[VECTOR] changes.
sleep:  mov ecx, [irq_count + VECTOR * 4]
.more:  sti
        hlt
        cli
        cmp ecx, [irq_count + VECTOR * 4]
        je .more
        ret
ticks:  rdtsc
        shl rdx, 32
        or rax, rdx
        ret
; ZF: the command line says `alone`: no neighbour shares the CPU. RAX is kept.
is_alone:
        mov edx, [information]
        mov esi, [rdx + 16]
.next:  cmp byte [rsi], 0
        je .no
        cmp dword [rsi], 'alon'
        je .end
        inc esi
        jmp .next
.no:    cmp esi, 0                      ; never zero
.end:   ret
main:   call pic_init
        call apic_on
        ; One-shot
        APIC_WRITE 0x3e0, 0x0b          ; divide by 1
        APIC_WRITE 0x320, VECTOR
        call ticks
        mov r8, rax
        APIC_WRITE 0x380, 100000
        call sleep
        call ticks
        sub rax, r8
        mov r9, rax
        cmp r9, 100000
        CHECK ae, "one-shot: not before its time"
        PRINT "one-shot of 100000 took "
        mov rax, r9
        call putdec
        call newline
        APIC_READ 0x390
        EQUAL rax, 0, "the count stays at zero"
        ; Periodic: ten periods
        APIC_WRITE 0x320, 0x20000 | VECTOR
        call ticks
        mov r8, rax
        APIC_WRITE 0x380, 200000
        mov r10d, 10
.period: call sleep
        dec r10d
        jnz .period
        call ticks
        sub rax, r8
        APIC_WRITE 0x380, 0
        cmp rax, 2000000
        CHECK ae, "periodic: ten periods take ten times the count"
        call is_alone
        jne .shared
        cmp rax, 2400000
        CHECK b, "periodic: and not much more"
.shared:
        ; TSC deadline
        APIC_WRITE 0x320, 0x40000 | VECTOR
        call ticks
        add rax, 150000
        mov r8, rax
        mov rdx, rax
        shr rdx, 32
        mov ecx, 0x6e0
        wrmsr
        call sleep
        call ticks
        sub rax, r8
        CHECK ae, "TSC deadline: not before its time"
        PRINT "TSC deadline late by "
        call putdec
        call newline
        mov ecx, 0x6e0
        rdmsr
        EQUAL rax, 0, "the deadline reads zero afterwards"
        ; A deadline in the past fires at once
        mov eax, 1
        xor edx, edx
        mov ecx, 0x6e0
        wrmsr
        call sleep
        APIC_WRITE 0x320, 0x10000
        ; The 8254 through the 8259
        mov byte [eoi_mode], 3
        APIC_WRITE 0x350, 0x700         ; LINT0: ExtINT
        mov al, 0x34
        out 0x43, al
        mov al, 0xa9                    ; 1193: 1 ms
        out 0x40, al
        mov al, 4
        out 0x40, al
        mov al, 0xfe
        out 0x21, al
        mov ebx, 5
.tick:  mov ecx, [irq_count + 0x20 * 4]
.wait:  sti
        hlt
        cli
        cmp ecx, [irq_count + 0x20 * 4]
        je .wait
        dec ebx
        jnz .tick
        mov al, 0xff
        out 0x21, al
        mov eax, [irq_count + 0x20 * 4]
        cmp eax, 5
        CHECK ae, "five ticks of the 8254"
        ; The clock's periodic interrupt through the slave
        mov al, 0xfb
        out 0x21, al
        mov al, 0xfe
        out 0xa1, al
        mov al, 0x0b
        out 0x70, al
        in al, 0x71
        or al, 0x40
        mov ah, al
        mov al, 0x0b
        out 0x70, al
        mov al, ah
        out 0x71, al
        mov al, 0x0c
        out 0x70, al
        in al, 0x71
.clock: sti
        hlt
        cli
        cmp dword [irq_count + 0x28 * 4], 0
        je .clock
        mov al, 0x0c
        out 0x70, al
        in al, 0x71
        and eax, 0xc0
        EQUAL rax, 0xc0, "the clock says what it was"
        mov al, 0x0b
        out 0x70, al
        in al, 0x71
        and al, ~0x40
        mov ah, al
        mov al, 0x0b
        out 0x70, al
        mov al, ah
        out 0x71, al
        call pic_off
        ; STI's shadow: an interrupt that waits comes after the next instruction, so STI; HLT cannot miss it
        mov byte [eoi_mode], 1
        APIC_WRITE 0x300, 0x40000 | VECTOR ; self
        mov ebx, [irq_count + VECTOR * 4]
        sti
        nop
        nop
        cli
        mov eax, [irq_count + VECTOR * 4]
        sub eax, ebx
        EQUAL rax, 1, "a waiting interrupt comes after STI"
        APIC_WRITE 0x300, 0x40000 | VECTOR
        mov ebx, [irq_count + VECTOR * 4]
        sti
        cli
        mov eax, [irq_count + VECTOR * 4]
        sub eax, ebx
        EQUAL rax, 0, "STI; CLI lets none through"
        sti
        nop
        cli
        jmp finish
END_OF_GUEST
