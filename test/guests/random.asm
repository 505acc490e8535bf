; Random instructions, MSRs, ports and device addresses from `seed=N`, and from the next ones with `runs=N`: whatever they do, only
; this guest feels it. Any end of it is a good end. A line by hypercall tells each seed.
%include "guest.inc"
main:   call read_seed
        ; Every exception and interrupt goes on with the next piece
        mov ecx, 32
        mov edi, handlers
        mov eax, next
        rep stosq
        call start_watchdog
        mov edx, 'runs'
        call read_number
        mov r15d, eax
        mov eax, [seed]
        mov [number], eax
.seed:  call tell
        imul eax, [number], 0x9e3779b1  ; neighbours begin far apart
        mov [seed], eax
        inc dword [number]
        mov r14d, STEPS
.step:  mov [keep_r14], r14d
        mov [keep_r15], r15d
        mov [keep_rsp], rsp
        mov qword [resume], next
        call random
        and eax, 7
        cmp eax, 3
        jb code
        je msr
        cmp eax, 5
        jb port
        je device
        cmp eax, 6
        je control
code:   ; Bytes, then a way back
        mov edi, area
        mov esi, buffer
        call random_code
        mov ecx, 3
        mov eax, area
        jmp rax
port:   call random_port
        jc step_done
        and eax, 0x30000
        shr eax, 16
        cmp al, 1
        jb .in8
        je .out8
        cmp al, 2
        je .in32
        out dx, ax
        jmp step_done
.in8:   in al, dx
        jmp step_done
.out8:  out dx, al
        jmp step_done
.in32:  in eax, dx
        jmp step_done
device: call random_device
        jz .read
        mov [rbx], eax
        jmp step_done
.read:  mov rax, [rbx]
        jmp step_done
control:
        call random
        and eax, 7
        cmp al, 1
        jb .cr0
        je .cr4
        cmp al, 3
        jb .cr3
        je .dr
        cmp al, 5
        jb .invlpg
        cpuid
        jmp step_done
.cr0:   call random
        mov rcx, cr0
        xor rcx, rax
        bts ecx, 0
        bts ecx, 31
        mov cr0, rcx
        jmp step_done
.cr4:   call random
        mov rcx, cr4
        and eax, ~0x1020
        xor rcx, rax
        mov cr4, rcx
        jmp step_done
.cr3:   mov rax, cr3
        mov cr3, rax
        jmp step_done
.dr:    call random
        mov dr0, rax
        call random
        mov dr7, rax
        jmp step_done
.invlpg: call random
        invlpg [rax]
        jmp step_done

; From any exception: RSI is the frame. Back to step_done on the old stack.
next:   mov qword [rsi + 16], step_done
        mov qword [rsi + 24], CODE64
        mov qword [rsi + 32], 2
        mov rax, [keep_rsp]
        mov [rsi + 40], rax
        mov qword [rsi + 48], DATA
        ret

step_done:
        cld
        mov rsp, [keep_rsp]
        xor eax, eax
        mov dr7, rax
        mov rax, cr0
        and eax, ~0x6005000c            ; NW, CD, AM, WP, EM, TS
        mov cr0, rax
        mov ax, DATA
        mov ds, ax
        mov es, ax
        mov ss, ax
        lidt [idt_pointer]
        lgdt [gdt_pointer]
        mov r14d, [keep_r14]
        mov r15d, [keep_r15]
        dec r14d
        jnz main.step
        inc dword [checks]
        dec r15d
        jnz main.seed
        PRINT {"random steps are over", 10}
        mov dword [failures], 0
        jmp finish

%include "seed.inc"
%include "randstep.inc"
section .bss
keep_rsp: resq 1
keep_r14: resd 1
keep_r15: resd 1
        alignb 4096
area:   resb 4096
buffer: resb 4096
END_OF_GUEST
