; Measures round trips into the host: RDTSC, the instruction, RDTSC; prints the median of each kind.
; With `trace` in the command line it executes each once between two magic breakpoints of the emulator instead.
%include "guest.inc"
SAMPLES equ 501
VECTOR  equ 0x50
TIMER_TICKS equ 20000
PAGES   equ 0x800000                    ; untouched from here on

; MEASURE "name": the code up to MEASURED is one round trip; R8 to R15, RSI and RBP are its own.
%macro MEASURE 1
%push measure
%define %$name %1
        mov dword [sample], 0
%$again:
        cmp byte [tracing], 0
        je %$clock
        xchg bx, bx
        jmp %$body
%$clock:
        rdtsc
        mov [started], eax
%$body:
%endmacro
%macro MEASURED 0
        cmp byte [tracing], 0
        je %$end
        xchg bx, bx
        jmp %$done
%$end:  rdtsc
        sub eax, [started]
        mov ecx, [sample]
        mov [samples + rcx * 4], eax
        inc ecx
        mov [sample], ecx
        cmp ecx, SAMPLES
        jb %$again
        PRINT {%$name, " "}
        call median
%$done:
%pop
%endmacro

main:   call look_for_trace
        call pic_init
        call apic_on
        ; What the brackets themselves cost: MOV, CMP, JE and RDTSC
        MEASURE "empty"
        MEASURED
        MEASURE "cpuid"
        xor eax, eax
        cpuid
        MEASURED
        MEASURE "vmcall"
        xor eax, eax
        vmcall
        MEASURED
        MEASURE "rdmsr"
        mov ecx, 0x1b                   ; IA32_APIC_BASE
        rdmsr
        MEASURED
        MEASURE "wrmsr"
        mov ecx, 0x8b                   ; IA32_BIOS_SIGN_ID
        xor eax, eax
        xor edx, edx
        wrmsr
        MEASURED
        MEASURE "in"
        in al, 0x21
        MEASURED
        mov al, 0xff
        MEASURE "out"
        mov al, 0xff
        out 0x21, al
        MEASURED
        mov esi, PAGES
        mov al, [rsi]                   ; the tables above the leaves
        MEASURE "ept4k"
        add esi, 4096
        mov al, [rsi]
        MEASURED
        mov esi, LAPIC
        MEASURE "mmio"
        mov eax, [rsi + 0x30]
        MEASURED
        ; WRMSR that arms a timer far away
        APIC_WRITE 0x320, 0x40000 | VECTOR
        MEASURE "deadline"
        mov ecx, 0x6e0
        mov edx, 0x1000
        wrmsr
        MEASURED
        ; How late HLT ends after its TSC deadline: from the deadline to the first instruction after it
        mov byte [eoi_mode], 0
        mov qword [handlers + VECTOR * 8], woken
        mov dword [sample], 0
.sleep: rdtsc
        shl rdx, 32
        or rax, rdx
        add rax, TIMER_TICKS
        mov r12, rax
        mov rdx, rax
        shr rdx, 32
        mov ecx, 0x6e0
        wrmsr
        cmp byte [tracing], 0
        je .halt
        xchg bx, bx
.halt:  sti
        hlt
        cli
        cmp byte [tracing], 0
        je .late
        xchg bx, bx
        jmp finish
.late:  mov eax, [woken_at]
        sub eax, r12d
        mov ecx, [sample]
        mov [samples + rcx * 4], eax
        inc ecx
        mov [sample], ecx
        cmp ecx, SAMPLES
        jb .sleep
        PRINT "hlt "
        call median
        jmp finish

; The handler's first act; the frame of the dispatcher costs the same everywhere.
woken:  rdtsc
        mov [woken_at], eax
        APIC_WRITE 0xb0, 0
        ret

; Sorts the samples and prints the one in the middle.
median: mov r8d, 1
.next:  mov eax, [samples + r8 * 4]
        mov r9d, r8d
.shift: test r9d, r9d
        jz .put
        mov ecx, [samples + r9 * 4 - 4]
        cmp ecx, eax
        jbe .put
        mov [samples + r9 * 4], ecx
        dec r9d
        jmp .shift
.put:   mov [samples + r9 * 4], eax
        inc r8d
        cmp r8d, SAMPLES
        jb .next
        mov eax, [samples + (SAMPLES / 2) * 4]
        call putdec
        call newline
        inc dword [checks]
        ret

look_for_trace:
        mov edx, [information]
        mov esi, [rdx + 16]
.next:  cmp byte [rsi], 0
        je .end
        inc esi
        cmp dword [rsi - 1], 'trac'
        jne .next
        mov byte [tracing], 1
.end:   ret

section .bss
sample: resd 1
started: resd 1
woken_at: resd 1
tracing: resd 1
samples: resd SAMPLES
END_OF_GUEST
