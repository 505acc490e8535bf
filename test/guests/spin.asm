; Spins for ever with interrupts off: other guests must not notice. It is ended from outside. `seed=N` says with what: nothing but
; jumps, or instructions that exit each time.
%include "guest.inc"
main:   call read_seed
        PRINT {"spinning", 10}
        cli
        cld
        mov eax, [seed]
        cmp eax, KINDS
        jae .jump
        jmp [kinds + rax * 8]
.jump:  jmp .jump
.cpuid: xor eax, eax
        cpuid
        jmp .cpuid
.in:    in al, 0x61
        jmp .in
.ins:   mov ecx, 0x400000               ; a device that is not there, to the 4 MiB from 3 MiB on
        mov dx, 0x5000
        mov edi, buffer
        rep insb
        jmp .ins
.apic:  mov esi, LAPIC + 0x20
        mov eax, [rsi]
        jmp .apic
.movs:  mov esi, LAPIC
        mov edi, buffer
        mov ecx, 1024
        rep movsd
        jmp .movs
.msr:   mov ecx, 0x3a
        rdmsr
        jmp .msr
kinds:  dq main.jump, main.cpuid, main.in, main.ins, main.apic, main.movs, main.msr
KINDS   equ ($ - kinds) / 8
buffer equ 0x300000
%include "seed.inc"
END_OF_GUEST
