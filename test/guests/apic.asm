; The local APIC: priorities, software disable, error status, timer registers, IA32_APIC_BASE, and all of it again in x2APIC mode.
%include "guest.inc"
%macro SELF 1
        APIC_WRITE 0x300, 0x44000 | %1
%endmacro
; Lets what waits come in.
%macro WINDOW 0
        sti
        nop
        nop
        cli
%endmacro
main:   call pic_off
        mov ecx, 0x1b                   ; off and on again: as after power-up, whatever firmware has set
        rdmsr
        btr eax, 11
        wrmsr
        bts eax, 11
        wrmsr
        APIC_READ 0x30
        and eax, 0xff
        cmp eax, 0x10
        CHECK ae, "version"
        APIC_READ 0xf0
        EQUAL rax, 0xff, "SVR after power-up"
        APIC_READ 0x350
        EQUAL rax, 0x10000, "LINT0 is masked"
        ; While software-disabled nothing is taken and masks stay
        APIC_WRITE 0x320, 0x40
        APIC_READ 0x320
        EQUAL rax, 0x10040, "the mask stays while disabled"
        call apic_on
        ; Priorities: two vectors wait, the higher comes first
        mov dword [handlers + 0x41 * 8], record
        mov dword [handlers + 0x52 * 8], record
        mov dword [handlers + 0x45 * 8], record
        SELF 0x41
        SELF 0x52
        SELF 0x45
        WINDOW
        EQUAL [order], 0x524541, "the higher class first"
        ; TPR
        APIC_WRITE 0x80, 0x50
        SELF 0x41
        WINDOW
        EQUAL [order], 0x524541, "TPR holds a lower class back"
        APIC_READ 0x200 + 0x20
        EQUAL rax, 2, "it waits in IRR"
        APIC_READ 0xa0
        EQUAL rax, 0x50, "PPR"
        mov eax, 3
        mov cr8, rax
        APIC_READ 0x80
        EQUAL rax, 0x30, "CR8 is TPR"
        WINDOW
        EQUAL [order], 0x52454141, "and came when TPR fell"
        xor eax, eax
        mov cr8, rax
        ; Nesting: a handler that enables interrupts is interrupted by a higher class only
        mov dword [handlers + 0x60 * 8], nest
        SELF 0x60
        WINDOW
        EQUAL [nested_low], 0, "the same class does not nest"
        EQUAL [nested_high], 1, "a higher class does"
        ; Error status
        APIC_WRITE 0x370, 0x70
        APIC_WRITE 0x280, 0
        SELF 0x05
        WINDOW
        mov eax, [irq_count + 0x70 * 4]
        EQUAL rax, 1, "the error interrupt"
        APIC_WRITE 0x280, 0
        APIC_READ 0x280
        EQUAL rax, 0x20, "send illegal vector"
        ; Software disable masks the LVT
        APIC_WRITE 0xf0, 0xff
        APIC_READ 0x370
        EQUAL rax, 0x10070, "software disable masks the LVT"
        APIC_WRITE 0xf0, 0x1ff
        ; Timer: counts down, each divide value, mode change
        APIC_WRITE 0x320, 0x10000
        mov esi, divides
.divide: lodsb
        movzx eax, al
        cmp al, 0xff
        je .divided
        mov edi, LAPIC
        mov [rdi + 0x3e0], eax
        mov dword [rdi + 0x380], 0x10000000
        mov eax, [rdi + 0x390]
        mov ecx, 1000
.burn:  pause
        loop .burn
        mov edx, [rdi + 0x390]
        cmp edx, eax
        CHECK b, "the count goes down"
        test edx, edx
        CHECK nz, "and is not over"
        jmp .divide
.divided:
        APIC_WRITE 0x380, 0
        APIC_READ 0x390
        EQUAL rax, 0, "a count of zero stops it"
        APIC_WRITE 0x3e0, 0x0b
        APIC_WRITE 0x320, 0x50
        APIC_WRITE 0x380, 1
        mov ecx, 1000
.one:   pause
        loop .one
        WINDOW
        mov eax, [irq_count + 0x50 * 4]
        EQUAL rax, 1, "a count of one fires"
        ; IA32_APIC_BASE: off and on again
        mov ecx, 0x1b
        rdmsr
        mov r8d, eax
        and eax, ~0x800
        wrmsr
        mov eax, 1
        cpuid
        bt edx, 9
        CHECK nc, "CPUID hides a disabled APIC"
        APIC_READ 0x30
        EQUAL rax, 0xffffffff, "nobody answers at its address"
        mov ecx, 0x1b
        mov eax, r8d
        xor edx, edx
        wrmsr
        APIC_READ 0xf0
        EQUAL rax, 0xff, "it comes back as after power-up"
        ; Moved to another address
        mov ecx, 0x1b
        mov eax, 0xfed00900
        xor edx, edx
        wrmsr
        mov edi, 0xfed00000
        mov eax, [rdi + 0x30]
        and eax, 0xff
        cmp eax, 0x10
        CHECK ae, "it can be moved"
        mov ecx, 0x1b
        mov eax, r8d
        xor edx, edx
        wrmsr
        ; x2APIC
        call apic_on
        mov ecx, 0x1b
        mov eax, r8d
        or eax, 0x400
        xor edx, edx
        wrmsr
        mov byte [eoi_mode], 2
        mov ecx, 0x802
        rdmsr
        EQUAL rax, 0, "x2APIC ID"
        mov ecx, 0x80d
        rdmsr
        EQUAL rax, 1, "logical x2APIC ID"
        mov qword [order], 0
        mov dword [handlers + 0x41 * 8], record2
        mov dword [handlers + 0x52 * 8], record2
        mov ecx, 0x83f
        xor edx, edx
        mov eax, 0x41
        wrmsr
        mov eax, 0x52
        wrmsr
        WINDOW
        EQUAL [order], 0x5241, "self IPIs, the higher class first"
        mov ecx, 0x830
        mov eax, 0x41
        xor edx, edx
        wrmsr
        WINDOW
        EQUAL [order], 0x524141, "ICR to ID 0"
        EXPECT 13, "EOI takes zero only"
        mov ecx, 0x80b
        mov eax, 1
        xor edx, edx
        wrmsr
        GOT
        EXPECT 13, "the version is read-only"
        mov ecx, 0x803
        xor eax, eax
        xor edx, edx
        wrmsr
        GOT
        EXPECT 13, "DFR does not exist"
        mov ecx, 0x80e
        rdmsr
        GOT
        EXPECT 13, "reserved bits of TPR"
        mov ecx, 0x808
        mov eax, 0x100
        xor edx, edx
        wrmsr
        GOT
        EXPECT 13, "EOI cannot be read"
        mov ecx, 0x80b
        rdmsr
        GOT
        APIC_READ 0x30
        EQUAL rax, 0xffffffff, "no xAPIC page in x2APIC mode"
        EXPECT 13, "x2APIC to xAPIC"
        mov ecx, 0x1b
        mov eax, r8d
        xor edx, edx
        wrmsr
        GOT
        jmp finish

; Shifts the vector into `order`.
record: shl qword [order], 8
        mov eax, [rsi]
        or [order], al
        APIC_WRITE 0xb0, 0
        ret
record2:
        shl qword [order], 8
        mov eax, [rsi]
        or [order], al
        mov ecx, 0x80b
        xor eax, eax
        xor edx, edx
        wrmsr
        ret
nest:   mov dword [handlers + 0x6f * 8], .low
        mov dword [handlers + 0x71 * 8], .high
        SELF 0x6f
        SELF 0x71
        WINDOW
        mov eax, [low_runs]
        mov [nested_low], eax
        mov eax, [high_runs]
        mov [nested_high], eax
        APIC_WRITE 0xb0, 0
        ret
.low:   inc dword [low_runs]
        APIC_WRITE 0xb0, 0
        ret
.high:  inc dword [high_runs]
        APIC_WRITE 0xb0, 0
        ret
section .data
divides: db 0, 1, 2, 3, 8, 9, 10, 11, 0xff
order:  dq 0
nested_low: dq 0
nested_high: dq 0
low_runs: dd 0
high_runs: dd 0
END_OF_GUEST
