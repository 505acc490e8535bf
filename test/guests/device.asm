; Vector registers, the stack and selectors go to device memory and come back as on hardware.
%include "guest.inc"
M       equ 0xff000000
main:   mov ebx, M
        mov rax, 0x1111222233334444
        mov [buffer], rax
        mov rax, 0x5555666677778888
        mov [buffer + 8], rax
        ; SSE
        movups xmm0, [buffer]
        movaps [rbx], xmm0
        EQUAL [rbx], 0x1111222233334444, "MOVAPS stores the low half"
        EQUAL [rbx + 8], 0x5555666677778888, "MOVAPS stores the high half"
        movdqu [rbx + 0x13], xmm0
        EQUAL [rbx + 0x1b], 0x5555666677778888, "MOVDQU unaligned"
        movdqu xmm9, [rbx + 0x13]
        movups [buffer + 16], xmm9
        EQUAL [buffer + 16], 0x1111222233334444, "MOVDQU loads"
        EQUAL [buffer + 24], 0x5555666677778888, "MOVDQU loads the high half"
        movntdq [rbx + 0x40], xmm0
        movhps xmm1, [rbx + 0x40]
        movlps xmm1, [rbx + 0x48]
        movupd [buffer + 16], xmm1
        EQUAL [buffer + 16], 0x5555666677778888, "MOVLPS"
        EQUAL [buffer + 24], 0x1111222233334444, "MOVHPS"
        movss xmm1, [rbx]
        movups [buffer + 16], xmm1
        EQUAL [buffer + 16], 0x33334444, "MOVSS clears the rest"
        EQUAL [buffer + 24], 0, "MOVSS clears the high half"
        movd [rbx + 0x60], xmm0
        movsd [rbx + 0x68], xmm0
        mov eax, [rbx + 0x60]
        EQUAL rax, 0x33334444, "MOVD"
        EQUAL [rbx + 0x68], 0x1111222233334444, "MOVSD"
        EXPECT 13, "MOVAPS unaligned is #GP"
        movaps [rbx + 8], xmm0
        GOT
        ; MMX beside x87
        fninit
        fldpi
        movq mm3, [rbx]
        movq [rbx + 0x70], mm3
        EQUAL [rbx + 0x70], 0x1111222233334444, "MOVQ of MMX"
        movd [rbx + 0x78], mm3
        mov eax, [rbx + 0x78]
        EQUAL rax, 0x33334444, "MOVD of MMX"
        emms
        ; AVX
        mov eax, 1
        cpuid
        mov ebx, M
        and ecx, 1 << 26 | 1 << 28
        cmp ecx, 1 << 26 | 1 << 28
        jne .noavx
        mov rax, cr4
        bts eax, 18
        mov cr4, rax
        xor ecx, ecx
        mov eax, 7
        xor edx, edx
        xsetbv
        vmovups xmm2, [buffer]
        vinsertf128 ymm2, ymm2, xmm2, 1
        vmovaps [rbx + 0x80], ymm2
        EQUAL [rbx + 0x98], 0x5555666677778888, "VMOVAPS of 256 bits"
        mov qword [rbx + 0x90], 7
        vmovdqu ymm10, [rbx + 0x80]
        vextractf128 [buffer + 16], ymm10, 1
        EQUAL [buffer + 16], 7, "VMOVDQU of 256 bits"
        vmovups xmm10, [rbx]
        vextractf128 [buffer + 16], ymm10, 1
        EQUAL [buffer + 16], 0, "a 128-bit VEX load clears the upper half"
        vmovlps xmm4, xmm2, [rbx + 0x90]
        vmovups [buffer + 16], xmm4
        EQUAL [buffer + 16], 7, "VMOVLPS"
        EQUAL [buffer + 24], 0x5555666677778888, "VMOVLPS takes the other half from its second register"
.noavx: ; The stack
        mov rbp, rsp
        mov rsp, M + 0x400
        mov rax, 0x123456789abcdef0
        push rax
        push 0x12345678
        push word [rbx + 0x60]
        pop cx
        pop rdx
        pop qword [rbx + 0x110]
        mov rsi, rsp
        call .there
.back:  jmp .over
.there: pop rdi
        push rdi
        ret
.over:  mov rsp, rbp
        movzx ecx, cx
        EQUAL rcx, 0x4444, "PUSH and POP of 16 bits"
        EQUAL rdx, 0x12345678, "PUSH of an immediate"
        EQUAL [rbx + 0x110], 0x123456789abcdef0, "POP to memory"
        EQUAL rsi, M + 0x400, "RSP is back"
        EQUAL rdi, .back, "CALL leaves its way back"
        mov rbp, 0x77
        mov rsi, rsp
        mov rsp, M + 0x400
        enter 0x20, 0
        mov rdx, rsp
        leave
        mov rcx, rsp
        mov rsp, rsi
        EQUAL rdx, M + 0x400 - 8 - 0x20, "ENTER"
        EQUAL rcx, M + 0x400, "LEAVE"
        EQUAL rbp, 0x77, "LEAVE restores RBP"
        ; Jumps and selectors
        mov qword [rbx + 0x120], .landed
        jmp [rbx + 0x120]
        inc dword [failures]
.landed:
        mov ax, cs
        mov [rbx + 0x128], ax
        mov qword [rbx + 0x120], .far
        o64 jmp far [rbx + 0x120]
        inc dword [failures]
.far:   mov ax, ds
        mov [rbx + 0x130], ax
        mov es, [rbx + 0x130]
        mov ss, [rbx + 0x130]
        mov cx, es
        cmp ax, cx
        CHECK e, "MOV to ES"
        mov word [rbx + 0x130], 0xfff0
        EXPECT 13, "a selector beyond its table is #GP"
        mov es, [rbx + 0x130]
        GOT
        EQUAL [fault_error], 0xfff0, "its error code"
        smsw [rbx + 0x138]
        mov rcx, cr0
        mov ax, [rbx + 0x138]
        cmp ax, cx
        CHECK e, "SMSW"
        str [rbx + 0x138]
        str ecx
        mov ax, [rbx + 0x138]
        cmp ax, cx
        CHECK e, "STR"
        mov qword [rbx + 0x140], 0xf0
        popcnt rax, [rbx + 0x140]
        EQUAL rax, 4, "POPCNT"
        jmp finish
section .bss
        alignb 16
buffer: resb 64
END_OF_GUEST
