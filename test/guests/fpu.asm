; x87, SSE and AVX state survives exits, sleeps and whatever else runs on the CPU meanwhile. `seed=N` makes it differ from a neighbour's.
%include "guest.inc"
ROUNDS  equ 300
main:   call pic_off
        call apic_on
        APIC_WRITE 0x3e0, 0x0b
        APIC_WRITE 0x320, 0x50
        call read_seed
        mov eax, 1
        cpuid
        bt ecx, 26
        jnc .sse
        bt ecx, 28
        jnc .sse
        mov rax, cr4
        bts eax, 18
        mov cr4, rax
        xor ecx, ecx
        mov eax, 7
        xor edx, edx
        xsetbv
        mov byte [has_avx], 1
        PRINT {"AVX is on", 10}
.sse:   fninit
        mov r12d, ROUNDS
.round: ; A pattern from seed and round
        mov eax, [seed]
        imul eax, r12d
        mov edi, wanted
        mov ecx, 128
.fill:  imul eax, eax, 1103515245
        add eax, 12345
        mov [rdi], eax
        add rdi, 4
        loop .fill
        call set_state
        ; Exits of several kinds, then sleep every tenth time
        mov eax, 1
        cpuid
        in al, 0x61
        mov ecx, 0x1b
        rdmsr
        APIC_READ 0x30
        mov eax, r12d
        xor edx, edx
        mov ecx, 10
        div ecx
        test edx, edx
        jnz .compare
        APIC_WRITE 0x380, 20000
        mov ebx, [irq_count + 0x50 * 4]
.sleep: sti
        hlt
        cli
        cmp ebx, [irq_count + 0x50 * 4]
        je .sleep
.compare:
        call get_state
        mov esi, wanted
        mov edi, found
        mov ecx, 32                     ; quadwords of 16 registers
        cmp byte [has_avx], 1
        jne .cmp
        mov ecx, 64
.cmp:   repe cmpsq
        je .same
        inc dword [failures]
        PRINT {"vector state changed", 10}
        jmp finish
.same:  fild qword [wanted]
        fcomip st0, st1
        je .x87
        inc dword [failures]
        PRINT {"x87 state changed", 10}
.x87:   fstp st0
        inc dword [checks]
        dec r12d
        jnz .round
        jmp finish

; 16 registers of 16 bytes (SSE) or 32 (AVX) from `wanted`, and ST0.
set_state:
        fild qword [wanted]
        cmp byte [has_avx], 1
        je .avx
%assign i 0
%rep 16
        movups xmm%[i], [wanted + i * 16]
%assign i i + 1
%endrep
        ret
.avx:
%assign i 0
%rep 16
        vmovups ymm%[i], [wanted + i * 32]
%assign i i + 1
%endrep
        ret

get_state:
        cmp byte [has_avx], 1
        je .avx
%assign i 0
%rep 16
        movups [found + i * 16], xmm%[i]
%assign i i + 1
%endrep
        ret
.avx:
%assign i 0
%rep 16
        vmovups [found + i * 32], ymm%[i]
%assign i i + 1
%endrep
        ret
%include "seed.inc"
section .data
has_avx: db 0
section .bss
        alignb 64
wanted: resb 512
found:  resb 512
END_OF_GUEST
