; Instructions of every form that touch device memory load, store and change it as on hardware.
%include "guest.inc"
M       equ 0xff000000
main:   mov ebx, M
        mov dword [rbx], 0x12345678
        mov eax, [rbx]
        EQUAL rax, 0x12345678, "MOV m32, imm"
        mov rax, 0x1122334455667788
        mov [rbx + 8], rax
        mov rcx, [rbx + 8]
        EQUAL rcx, rax, "MOV m64"
        mov byte [rbx + 8], 0x80
        mov word [rbx + 10], 0x8001
        movzx eax, byte [rbx + 8]
        EQUAL rax, 0x80, "MOVZX byte"
        movzx eax, word [rbx + 10]
        EQUAL rax, 0x8001, "MOVZX word"
        movsx rax, byte [rbx + 8]
        EQUAL rax, -128, "MOVSX byte"
        movsx eax, word [rbx + 10]
        EQUAL rax, 0xffff8001, "MOVSX word to 32 bits"
        mov dword [rbx + 16], 0x80000000
        movsxd rax, dword [rbx + 16]
        EQUAL rax, 0xffffffff80000000, "MOVSXD"
        mov rax, 0xffffffffffffffff
        mov eax, [rbx]
        EQUAL rax, 0x12345678, "a 32-bit load clears the upper half"
        mov rax, 0xffffffffffffffff
        mov ax, [rbx]
        EQUAL rax, 0xffffffffffff5678, "a 16-bit load keeps the rest"
        mov rax, 0
        mov ah, [rbx + 1]
        EQUAL rax, 0x5600, "a load into AH"
        mov cl, [rbx + 3]
        movzx ecx, cl
        EQUAL rcx, 0x12, "a load into CL"
        mov r9b, [rbx + 3]
        movzx r9d, r9b
        EQUAL r9, 0x12, "a load into R9B"
        ; Read, change, write
        mov dword [rbx], 0x0f
        or dword [rbx], 0xf0
        mov eax, [rbx]
        EQUAL rax, 0xff, "OR"
        and dword [rbx], 0x3c
        mov eax, [rbx]
        EQUAL rax, 0x3c, "AND"
        xor dword [rbx], 0xff
        mov eax, [rbx]
        EQUAL rax, 0xc3, "XOR"
        add dword [rbx], 0x3d
        mov eax, [rbx]
        EQUAL rax, 0x100, "ADD"
        sub dword [rbx], 1
        mov eax, [rbx]
        EQUAL rax, 0xff, "SUB"
        mov byte [rbx], 0xff
        add byte [rbx], 1
        CHECK c, "ADD sets carry"
        cmp byte [rbx], 0
        CHECK e, "CMP m8, imm"
        mov dword [rbx], 0x80
        test byte [rbx], 0x80
        CHECK nz, "TEST m8, imm"
        mov eax, 0x80
        test [rbx], eax
        CHECK nz, "TEST m32, r32"
        cmp eax, [rbx]
        CHECK e, "CMP r32, m32"
        mov eax, 5
        add eax, [rbx]
        EQUAL rax, 0x85, "ADD r32, m32"
        mov eax, 0x77
        xchg eax, [rbx]
        EQUAL rax, 0x80, "XCHG"
        mov eax, [rbx]
        EQUAL rax, 0x77, "XCHG stored"
        bts dword [rbx], 8
        CHECK nc, "BTS"
        bt dword [rbx], 8
        CHECK c, "BT"
        btr dword [rbx], 8
        CHECK c, "BTR"
        btc dword [rbx], 0
        CHECK c, "BTC"
        mov eax, [rbx]
        EQUAL rax, 0x76, "after the bit tests"
        lock inc dword [rbx]
        mov eax, [rbx]
        EQUAL rax, 0x77, "LOCK INC"
        ; Strings
        mov edi, M + 0x100
        mov ecx, 16
        mov eax, 0xa5a5a5a5
        rep stosd
        EQUAL rdi, M + 0x140, "REP STOSD advances"
        mov esi, M + 0x100
        mov edi, buffer
        mov ecx, 8
        rep movsq
        EQUAL [buffer + 56], 0xa5a5a5a5a5a5a5a5, "REP MOVSQ from a device"
        mov esi, pattern
        mov edi, M + 0x200
        mov ecx, 16
        rep movsb
        EQUAL [rbx + 0x208], 0x0f0e0d0c0b0a0908, "REP MOVSB to a device"
        mov esi, M + 0x200
        lodsd
        EQUAL rax, 0x03020100, "LODSD"
        ; Addressing forms
        mov ecx, 4
        mov eax, [rbx + rcx * 4 + 0x200 - 16]
        EQUAL rax, 0x03020100, "base, index, scale, displacement"
        a32 mov eax, [ebx + 0x204]
        EQUAL rax, 0x07060504, "32-bit addressing"
        ; The APIC and the I/O APIC
        mov edi, LAPIC
        mov eax, [rdi + 0x30]
        EQUAL rax, 0x50014, "local APIC version"
        mov edi, IOAPIC
        mov dword [rdi], 1
        mov eax, [rdi + 0x10]
        EQUAL rax, 0x170011, "I/O APIC version"
        ; What nobody has
        mov edi, 0xfed80000
        mov eax, [rdi]
        EQUAL rax, 0xffffffff, "an address of nobody reads all ones"
        mov dword [rdi], 0
        jmp finish
section .data
pattern: db 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
section .bss
buffer: resb 128
END_OF_GUEST
