; NMIs: one is delivered and one held behind it, also when two senders are at it at once; none comes after an interrupt sent behind it. Needs 2 vCPUs.
%include "guest.inc"
FLUSH   equ 0x60
ROUNDS  equ 300
main:   call pic_off
        call apic_on
        mov dword [handlers + 2 * 8], on_nmi
        mov edi, other
        mov edx, 1
        call start_cpu
        ; Ten more while the first is served are one
        mov r12d, ROUNDS
.held:  mov dword [nmis], 0
        mov dword [more], 10
        call nmi_to_self
        mov ecx, 10000000
.more:  pause
        cmp dword [nmis], 2
        loopne .more
        cmp dword [nmis], 2
        jne .odd
        dec r12d
        jnz .held
.odd:   EQUAL r12, 0, "rounds left with NMIs while one is served"
        EQUAL [nmis], 2, "one to serve and one held"
        ; One from each CPU, at the same time
        mov r12d, ROUNDS
.both:  mov dword [nmis], 0
        mov ebx, [irq_count + FLUSH * 4]
        inc dword [round]
        call nmi_to_self
        sti
.wait:  pause
        cmp ebx, [irq_count + FLUSH * 4]
        je .wait
        cli
        cmp dword [nmis], 2
        jne .lost
        dec r12d
        jnz .both
.lost:  EQUAL r12, 0, "rounds left with two senders"
        EQUAL [nmis], 2, "both NMIs, before the interrupt behind them"
        jmp finish

nmi_to_self:
        xor edx, edx
        mov eax, 0x4400
        jmp send_ipi

; An NMI, and an interrupt behind it, for each round.
other:  call apic_on
        xor r12d, r12d
.next:  pause
        cmp r12d, [round]
        je .next
        inc r12d
        xor edx, edx
        mov eax, 0x4400
        call send_ipi
        xor edx, edx
        mov eax, 0x4000 | FLUSH
        call send_ipi
        jmp .next

on_nmi: inc dword [nmis]
.more:  cmp dword [more], 0
        je .end
        dec dword [more]
        call nmi_to_self
        jmp .more
.end:   ret

section .bss
nmis:   resq 1
more:   resd 1
round:  resd 1
        END_OF_GUEST
