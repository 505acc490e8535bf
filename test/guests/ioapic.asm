; The I/O APIC: edge and level, masks, remote IRR and EOI, destinations, the 8254 on pin 2. Lines move by the test port 2000H + n.
%include "guest.inc"
LINE    equ 0x2000
%macro IO_WRITE 2                       ; register, value
        mov edi, IOAPIC
        mov dword [rdi], %1
        mov dword [rdi + 0x10], %2
%endmacro
%macro IO_READ 1
        mov edi, IOAPIC
        mov dword [rdi], %1
        mov eax, [rdi + 0x10]
%endmacro
%macro SET 2                            ; line, level
        mov dx, LINE + %1
        mov al, %2
        out dx, al
%endmacro
%macro WINDOW 0
        sti
        nop
        nop
        cli
%endmacro
%macro CAME 2                           ; vector, how often in all
        mov eax, [irq_count + %1 * 4]
        EQUAL rax, %2, "interrupts so far"
%endmacro
main:   call pic_off
        call apic_on
        IO_READ 1
        and eax, 0xff0000
        EQUAL rax, 0x170000, "24 pins"
        IO_READ 0x10
        EQUAL rax, 0x10000, "pins are masked after power-up"
        ; Edge
        IO_WRITE 0x10 + 2 * 10, 0x51
        SET 10, 1
        SET 10, 0
        WINDOW
        CAME 0x51, 1
        SET 10, 1
        SET 10, 1
        WINDOW
        CAME 0x51, 2
        SET 10, 0
        ; Masked edges are lost
        IO_WRITE 0x10 + 2 * 10, 0x10051
        SET 10, 1
        SET 10, 0
        IO_WRITE 0x10 + 2 * 10, 0x51
        WINDOW
        CAME 0x51, 2
        ; Level: again after each EOI until the line falls
        mov dword [handlers + 0x52 * 8], level
        IO_WRITE 0x10 + 2 * 11, 0x8052
        mov dword [remaining], 3
        SET 11, 1
        WINDOW
        WINDOW
        WINDOW
        WINDOW
        EQUAL [levels], 3, "a level fires until its line falls"
        IO_READ 0x10 + 2 * 11
        EQUAL rax, 0x8052, "remote IRR is clear in the end"
        ; A level that rose while masked
        IO_WRITE 0x10 + 2 * 11, 0x18052
        mov dword [remaining], 1
        SET 11, 1
        WINDOW
        EQUAL [levels], 3, "masked"
        IO_WRITE 0x10 + 2 * 11, 0x8052
        WINDOW
        EQUAL [levels], 4, "fires when it is opened"
        ; Two lines, the higher vector first
        mov dword [handlers + 0x71 * 8], record
        mov dword [handlers + 0x81 * 8], record
        IO_WRITE 0x10 + 2 * 5, 0x71
        IO_WRITE 0x10 + 2 * 6, 0x81
        SET 5, 1
        SET 6, 1
        WINDOW
        EQUAL [order], 0x8171, "priorities"
        SET 5, 0
        SET 6, 0
        ; Logical destination
        APIC_WRITE 0xd0, 0x01000000
        IO_WRITE 0x11 + 2 * 10, 0x01000000
        IO_WRITE 0x10 + 2 * 10, 0x851
        SET 10, 1
        SET 10, 0
        WINDOW
        CAME 0x51, 3
        IO_WRITE 0x11 + 2 * 10, 0x02000000
        SET 10, 1
        SET 10, 0
        WINDOW
        CAME 0x51, 3
        ; The 8254 on pin 2
        IO_WRITE 0x10 + 2 * 2, 0x60
        mov al, 0x34
        out 0x43, al
        mov al, 0xa9
        out 0x40, al
        mov al, 4
        out 0x40, al
.tick:  sti
        hlt
        cli
        cmp dword [irq_count + 0x60 * 4], 3
        jb .tick
        inc dword [checks]
        jmp finish
level:  inc dword [levels]
        dec dword [remaining]
        jnz .eoi
        SET 11, 0
.eoi:   APIC_WRITE 0xb0, 0
        ret
record: shl qword [order], 8
        mov eax, [rsi]
        or [order], al
        APIC_WRITE 0xb0, 0
        ret
section .data
levels: dq 0
order:  dq 0
remaining: dd 0
END_OF_GUEST
