; IPIs between vCPUs: INIT and start-up, fixed, NMI, broadcast, self; and a TLB shootdown as systems do it. Needs 2 vCPUs.
%include "guest.inc"
PING    equ 0x60
PONG    equ 0x61
SHOOT   equ 0x62
BARRIER equ 0x63
ROUNDS  equ 200
V       equ 0x8000000000
main:   call pic_off
        call apic_on
        mov dword [pml4 + 8], table3 + 3
        mov dword [table3], table2 + 3
        mov dword [table2], table1 + 3
        mov dword [table1], page_a + 3
        mov dword [page_a], 1
        mov dword [page_b], 2
        mov dword [handlers + PING * 8], on_ping
        mov dword [handlers + SHOOT * 8], on_shoot
        mov dword [handlers + 2 * 8], on_nmi
        mov edi, other
        mov edx, 1
        call start_cpu
.up:    pause
        cmp dword [other_ready], 1
        jne .up
        EQUAL [other_id], 1, "the other's APIC ID"
        ; Ping and pong, each by an interrupt
        mov r12d, ROUNDS
.ping:  mov ebx, [irq_count + PONG * 4]
        mov edx, 1
        mov eax, 0x4000 | PING
        call send_ipi
.pong:  sti
        nop
        cli
        pause
        cmp ebx, [irq_count + PONG * 4]
        je .pong
        dec r12d
        jnz .ping
        EQUAL [pings], ROUNDS, "each ping arrived once"
        movzx eax, byte [irq_count + PONG * 4]
        EQUAL rax, ROUNDS & 0xff, "each pong arrived once"
        ; Sleeping this time: the other answers while we are in HLT
        mov r12d, 20
.sleep: mov ebx, [irq_count + PONG * 4]
        mov edx, 1
        mov eax, 0x4000 | PING
        call send_ipi
.hlt:   cmp ebx, [irq_count + PONG * 4]
        jne .woken
        sti
        hlt
        cli
        jmp .hlt
.woken: dec r12d
        jnz .sleep
        ; NMI while the other has interrupts off
        mov edx, 1
        mov eax, 0x4400
        call send_ipi
        mov ecx, 10000000
.nmi:   pause
        cmp dword [nmis], 1
        loopne .nmi
        EQUAL [nmis], 1, "NMI"
        ; Broadcasts
        mov ebx, [irq_count + BARRIER * 4]
        xor edx, edx
        mov eax, 0x84000 | BARRIER      ; all, self included
        call send_ipi
        mov ecx, 10000000
.all:   sti
        nop
        cli
        pause
        mov eax, [irq_count + BARRIER * 4]
        sub eax, ebx
        cmp eax, 2
        loopne .all
        EQUAL rax, 2, "broadcast with self"
        ; TLB shootdown: the other reads through V all the time
        mov r12d, 100
        mov dword [go], 1
.shoot: mov eax, page_b + 3
        test r12d, 1
        jz .set
        mov eax, page_a + 3
.set:   mov [table1], eax
        mov dword [flushed], 0
        mov edx, 1
        mov eax, 0x4000 | SHOOT
        call send_ipi
.flush: pause
        cmp dword [flushed], 1
        jne .flush
        mov ecx, [sample]
        mov eax, 2
        test r12d, 1
        jz .is
        mov eax, 1
.is:    cmp eax, ecx
        je .right
        inc dword [failures]
.right: dec r12d
        jnz .shoot
        inc dword [checks]
        ; INIT stops it, and it starts again
        mov dword [other_ready], 0
        mov edi, again
        mov edx, 1
        call start_cpu
.again: pause
        cmp dword [other_ready], 2
        jne .again
        inc dword [checks]
        jmp finish

other:  call apic_on
        APIC_READ 0x20
        shr eax, 24
        mov [other_id], eax
        mov dword [other_ready], 1
.loop:  sti
        hlt
        cmp dword [go], 0
        je .loop
.read:  mov rbx, V
        mov eax, [rbx]
        pause
        jmp .read

again:  mov dword [other_ready], 2
        cli
        hlt

on_ping:
        inc dword [pings]
        APIC_WRITE 0xb0, 0
        xor edx, edx
        mov eax, 0x4000 | PONG
        jmp send_ipi
on_shoot:
        mov rdi, V
        invlpg [rdi]
        mov eax, [rdi]
        mov [sample], eax
        mov dword [flushed], 1
        APIC_WRITE 0xb0, 0
        ret
on_nmi: lock inc dword [nmis]
        ret
section .data
other_id: dq 0
pings:  dq 0
nmis:   dq 0
section .bss
other_ready: resd 1
go:     resd 1
flushed: resd 1
sample: resd 1
        alignb 4096
table3: resb 4096
table2: resb 4096
table1: resb 4096
page_a: resb 4096
page_b: resb 4096
END_OF_GUEST
