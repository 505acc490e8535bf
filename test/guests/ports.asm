; Port instructions of every width reach the devices, strings included, and ports that nobody has read all ones.
%include "guest.inc"
SCRATCH equ 0xe0
main:   mov dx, 0x1230
        xor eax, eax
        in al, dx
        EQUAL rax, 0xff, "unclaimed byte"
        xor eax, eax
        in ax, dx
        EQUAL rax, 0xffff, "unclaimed word"
        in eax, dx
        EQUAL rax, 0xffffffff, "unclaimed doubleword"
        mov rax, 0x1122334455667788
        in al, dx
        EQUAL rax, 0x11223344556677ff, "a byte keeps the rest of RAX"
        mov rax, 0x1122334455667788
        in eax, dx
        EQUAL rax, 0xffffffff, "a doubleword clears the upper half"
        out dx, al
        mov eax, 0x12345678
        out SCRATCH, eax
        xor eax, eax
        in al, SCRATCH + 1
        EQUAL rax, 0x56, "byte of a doubleword"
        in ax, SCRATCH + 2
        movzx eax, ax
        EQUAL rax, 0x1234, "word of a doubleword"
        mov al, 0xab
        out SCRATCH + 3, al
        in eax, SCRATCH
        EQUAL rax, 0xab345678, "byte into a doubleword"
        ; Strings
        mov edx, SCRATCH
        mov esi, source
        mov ecx, 3
        rep outsd
        EQUAL rcx, 0, "REP OUTSD counts down"
        EQUAL rsi, source + 12, "REP OUTSD advances"
        in eax, SCRATCH
        EQUAL rax, 0x33333333, "the last doubleword stays"
        mov edi, target
        mov ecx, 4
        rep insw
        EQUAL rdi, target + 8, "REP INSW advances"
        EQUAL [target], 0x3333333333333333, "REP INSW"
        std
        mov edi, target + 8
        insb
        cld
        EQUAL rdi, target + 7, "INSB goes down with DF"
        xor ecx, ecx
        mov edi, target
        rep insb
        EQUAL rdi, target, "a count of zero does nothing"
        mov esi, text
        mov edx, COM1
        mov ecx, text_end - text
        rep outsb
        ; Over a page boundary
        mov edi, page - 6
        mov edx, SCRATCH
        mov ecx, 3
        rep insd
        EQUAL [page - 6], 0x3333333333333333, "across a page"
        EXPECT 14, "INSB to a page that is not there"
        mov rdi, 0x100000000
        insb
        GOT
        EQUAL rdi, 0x100000000, "a faulting INSB moves nothing"
        mov rax, [fault_error]
        EQUAL rax, 2, "its error code says write"
        jmp finish
section .data
source: dd 0x11111111, 0x22222222, 0x33333333
text:   db "a string by REP OUTSB", 10
text_end:
section .bss
target: resb 64
        alignb 4096
        resb 4096
page:   resb 64
END_OF_GUEST
