; Everything that XCR0 can enable is a vCPU's own: x87, MXCSR, ZMM and opmask registers survive other vCPUs on the same CPU, and
; what XSAVEC stores, where it is offered, is what XRSTOR brings back. Needs 2 vCPUs; fewer registers where there is no AVX-512.
%include "guest.inc"
ROUNDS  equ 400
; A vCPU's area: the state as set, the state as found, an XSAVE area.
OPMASKS equ 2048
X87     equ OPMASKS + 64
MXCSR   equ X87 + 8
CONTROL equ MXCSR + 4
BYTES   equ 2176
WANTED  equ 0
FOUND   equ BYTES
XSAVED  equ 2 * BYTES + 64 - (2 * BYTES) % 64
AREA    equ 8192

main:   call pic_off
        mov eax, 1
        cpuid
        bt ecx, 28
        jnc .none
        mov eax, 0xd
        xor ecx, ecx
        cpuid
        and eax, 0xe7
        mov [components], eax
        bt eax, 5
        jnc .narrow
        mov byte [has_avx512], 1
        PRINT {"AVX-512 is on", 10}
.narrow:
        mov eax, 0xd
        mov ecx, 1
        cpuid
        bt eax, 1
        jnc .start
        mov byte [has_xsavec], 1
        PRINT {"XSAVEC is offered", 10}
.start: call apic_on
        mov edi, other
        mov edx, 1
        call start_cpu
        xor ebp, ebp
        call check_all
.wait:  pause
        cmp dword [others_done], 1
        jne .wait
        jmp finish
.none:  PRINT {"no AVX here", 10}
        inc dword [checks]
        jmp finish

other:  mov ebp, 1
        call check_all
        mov dword [others_done], 1
.stop:  cli
        hlt
        jmp .stop

; EBP: the vCPU's number. RBX: its area, for all below.
check_all:
        call apic_on
        APIC_WRITE 0x3e0, 0x0b
        APIC_WRITE 0x320, 0x20050       ; periodic
        APIC_WRITE 0x380, 30000
        mov ebx, ebp
        shl ebx, 13
        add ebx, areas
        mov rax, cr4
        bts rax, 18
        mov cr4, rax
        mov eax, [components]
        xor edx, edx
        xor ecx, ecx
        xsetbv
        mov r12d, ROUNDS
.round: imul eax, r12d, 2
        add eax, ebp
        imul eax, eax, 0x9e3779b1
        lea rdi, [rbx + WANTED]
        mov ecx, BYTES / 4
.fill:  imul eax, eax, 1103515245
        add eax, 12345
        mov [rdi], eax
        add rdi, 4
        loop .fill
        and dword [rbx + WANTED + MXCSR], 0x607f
        or dword [rbx + WANTED + MXCSR], 0x1f80
        and word [rbx + WANTED + CONTROL], 0x0c00
        or word [rbx + WANTED + CONTROL], 0x037f
        call set_state
        test r12d, 7
        jnz .spin
        sti
        hlt
        cli
        jmp .look
.spin:  mov ecx, 3000
        sti
.busy:  pause
        loop .busy
        cli
.look:  call get_state
        call same
        je .kept
        PRINT {"not ok: state changed in another's time", 10}
        jmp .bad
.kept:  lock inc dword [checks]
        cmp byte [has_xsavec], 1
        jne .next
        mov eax, -1
        mov edx, eax
        xsavec64 [rbx + XSAVED]
        xrstor64 [blank]
        xrstor64 [rbx + XSAVED]
        call get_state
        call same
        je .next
        PRINT {"not ok: XRSTOR does not bring back what XSAVEC stored", 10}
.bad:   lock inc dword [failures]
        ret
.next:  dec r12d
        jnz .round
        ret

; ZF: the state found is the state set. What is not there is not compared.
same:   lea rsi, [rbx + WANTED + X87]
        lea rdi, [rbx + FOUND + X87]
        mov ecx, (CONTROL + 2 - X87) / 2
        repe cmpsw
        jne .end
        lea rsi, [rbx + WANTED]
        lea rdi, [rbx + FOUND]
        mov ecx, (OPMASKS + 64) / 8
        cmp byte [has_avx512], 1
        je .all
        mov edx, 16
.ymm:   mov ecx, 4
        repe cmpsq
        jne .end
        add rsi, 32
        add rdi, 32
        dec edx
        jnz .ymm
        ret
.all:   repe cmpsq
.end:   ret

set_state:
        fninit
        fldcw [rbx + WANTED + CONTROL]
        fild qword [rbx + WANTED + X87]
        ldmxcsr [rbx + WANTED + MXCSR]
        cmp byte [has_avx512], 1
        je .zmm
%assign i 0
%rep 16
        vmovups ymm%[i], [rbx + WANTED + i * 64]
%assign i i + 1
%endrep
        ret
.zmm:
%assign i 0
%rep 32
        vmovups zmm%[i], [rbx + WANTED + i * 64]
%assign i i + 1
%endrep
%assign i 0
%rep 8
        kmovq k%[i], [rbx + WANTED + OPMASKS + i * 8]
%assign i i + 1
%endrep
        ret

get_state:
        fnstcw [rbx + FOUND + CONTROL]
        fistp qword [rbx + FOUND + X87]
        fild qword [rbx + FOUND + X87]
        stmxcsr [rbx + FOUND + MXCSR]
        cmp byte [has_avx512], 1
        je .zmm
%assign i 0
%rep 16
        vmovups [rbx + FOUND + i * 64], ymm%[i]
%assign i i + 1
%endrep
        ret
.zmm:
%assign i 0
%rep 32
        vmovups [rbx + FOUND + i * 64], zmm%[i]
%assign i i + 1
%endrep
%assign i 0
%rep 8
        kmovq [rbx + FOUND + OPMASKS + i * 8], k%[i]
%assign i i + 1
%endrep
        ret

section .data
components:  dd 0
others_done: dd 0
has_avx512:  db 0
has_xsavec:  db 0
        align 64
blank:  times 24 db 0                   ; an XSAVE area in its initial state
        dd 0x1f80
        times 576 - 28 db 0
section .bss
        alignb 64
areas:  resb 2 * AREA
END_OF_GUEST
