; What exits of the local APIC cost, in ticks of the TSC as the guest sees them: a line `price NAME TICKS` each, the median of 201.
%include "guest.inc"
SAMPLES equ 201
; The sample's start is in R14.
%macro BEGIN 0
        rdtsc
        shl rdx, 32
        or rax, rdx
        mov r14, rax
%endmacro
; Ends it and stores it as sample R12.
%macro END 0
        rdtsc
        shl rdx, 32
        or rax, rdx
        sub rax, r14
        mov [samples + r12 * 8], rax
%endmacro
; ROW "name" ... ROW_END: the instructions between are sampled.
%macro ROW 1
%push row
%define %$name %1
        xor r12d, r12d
%$next:
%endmacro
%macro ROW_END 0
        inc r12d
        cmp r12d, SAMPLES
        jne %$next
        PRINT {"price ", %$name, " "}
        call median
        call putdec
        call newline
%pop
%endmacro
main:   call pic_off
        call apic_on
        APIC_WRITE 0x3e0, 0x0b
        ; EOI with nothing in service, memory-mapped
        ROW "eoi"
        BEGIN
        APIC_WRITE 0xb0, 0
        END
        ROW_END
        ; A periodic tick: the time that a spinning guest misses at once, handler and EOI included
        mov qword [handlers + 0x50 * 8], tick_handler
        ROW "tick"
        APIC_WRITE 0x320, 0x20050
        mov edi, LAPIC
        mov ebx, [ticks_seen]
        mov dword [rdi + 0x380], 50000
        sti
.spin:  rdtsc
        mov r15d, eax
        cmp ebx, [ticks_seen]
        je .keep
        rdtsc                           ; it may have come after the last look at the clock
        sub eax, r13d
        mov [samples + r12 * 8], rax
        jmp .got
.keep:  mov r13d, r15d
        jmp .spin
.got:   cli
        APIC_WRITE 0x380, 0
        ROW_END
        APIC_WRITE 0x320, 0x10000
        ; The same in x2APIC mode, and the TSC deadline
        mov ecx, 0x1b
        rdmsr
        or eax, 0xc00
        wrmsr
        mov ecx, 0x832
        mov eax, 0x50050                ; TSC deadline, masked
        xor edx, edx
        wrmsr
        ROW "tscdeadline"
        BEGIN
        mov ecx, 0x6e0
        mov eax, r12d                   ; another one each time
        mov edx, 0x7fff
        wrmsr
        END
        ROW_END
        ; A fixed IPI to an APIC that is not there
        ROW "icr"
        BEGIN
        mov ecx, 0x830
        mov eax, 0x4050
        mov edx, 0x77
        wrmsr
        END
        ROW_END
        ROW "x2eoi"
        BEGIN
        mov ecx, 0x80b
        xor eax, eax
        xor edx, edx
        wrmsr
        END
        ROW_END
        ROW "empty"
        BEGIN
        END
        ROW_END
        inc dword [checks]
        jmp finish

tick_handler:
        inc dword [ticks_seen]
        APIC_WRITE 0xb0, 0
        ret

; RAX: the median of the samples, which are sorted by insertion.
median: mov ecx, 1
.outer: mov rax, [samples + rcx * 8]
        mov edx, ecx
.inner: test edx, edx
        jz .place
        cmp [samples + rdx * 8 - 8], rax
        jbe .place
        mov rbx, [samples + rdx * 8 - 8]
        mov [samples + rdx * 8], rbx
        dec edx
        jmp .inner
.place: mov [samples + rdx * 8], rax
        inc ecx
        cmp ecx, SAMPLES
        jne .outer
        mov rax, [samples + (SAMPLES / 2) * 8]
        ret

section .bss
        alignb 8
samples resq SAMPLES
ticks_seen resd 1
END_OF_GUEST
