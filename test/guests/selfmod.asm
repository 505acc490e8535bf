; Code that a guest writes is the code that it runs: patched in place, copied, and through another mapping.
%include "guest.inc"
main:   mov ecx, 1000
        xor ebx, ebx
.loop:  mov [patch + 1], ecx            ; the immediate of a MOV just ahead
patch:  mov eax, 0x11111111
        cmp eax, ecx
        je .same
        inc ebx
.same:  loop main.loop
        EQUAL rbx, 0, "the patched instruction runs as patched"
        ; Copy a function, run it, change it, run it again
        mov esi, source
        mov edi, target
        mov ecx, source_end - source
        rep movsb
        mov eax, target
        call rax
        EQUAL rax, 1, "copied code"
        mov dword [target + 1], 2
        mov eax, target
        call rax
        EQUAL rax, 2, "changed code"
        ; Through an alias: the same frame at another address
        mov dword [pml4 + 8], table3 + 3
        mov dword [table3], table2 + 3
        mov dword [table2], table1 + 3
        mov eax, target
        and eax, ~0xfff
        or eax, 3
        mov [table1], eax
        mov rdi, 0x8000000000
        mov eax, target
        and eax, 0xfff
        add rdi, rax
        mov dword [rdi + 1], 3
        mov eax, target
        call rax
        EQUAL rax, 3, "changed through another mapping"
        ; A CPUID, which exits, becomes something else right after it ran
        mov ecx, 100
        xor ebx, ebx
.swap:  push rcx
        push rbx
        mov word [exits], 0xa20f        ; CPUID
        call exits
        mov word [exits], 0xc031        ; XOR EAX, EAX
        mov eax, 5
        call exits
        pop rbx
        pop rcx
        test eax, eax
        jz .zero
        inc ebx
.zero:  loop .swap
        EQUAL rbx, 0, "an instruction that exited was replaced"
        jmp finish
exits:  cpuid
        ret
source: mov eax, 1
        ret
source_end:
section .bss
        alignb 4096
target: resb 64
        alignb 4096
table3: resb 4096
table2: resb 4096
table1: resb 4096
END_OF_GUEST
