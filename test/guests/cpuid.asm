; CPUID shows a hypervisor named Basalt, hides VMX, and tells this vCPU's APIC ID and clock rates.
%include "guest.inc"
main:   xor eax, eax
        cpuid
        cmp eax, 0x0d
        CHECK ae, "at least 0DH basic leaves"
        mov eax, 1
        cpuid
        bt ecx, 31
        CHECK c, "hypervisor present"
        bt ecx, 5
        CHECK nc, "VMX is hidden"
        bt ecx, 21
        CHECK c, "x2APIC"
        bt ecx, 24
        CHECK c, "TSC deadline"
        bt edx, 9
        CHECK c, "local APIC"
        shr ebx, 24
        EQUAL rbx, 0, "initial APIC ID"
        mov eax, 0x40000000
        cpuid
        cmp eax, 0x40000010
        CHECK ae, "hypervisor leaves up to 40000010H"
        EQUAL rbx, 'Basa', "vendor"
        mov eax, 0x40000010
        cpuid
        mov r8d, eax
        test eax, eax
        CHECK nz, "TSC frequency"
        PRINT "TSC kHz "
        call putdec
        call newline
        mov eax, 0x40000100
        cpuid
        EQUAL rbx, 'KVMK', "KVM interface"
        mov eax, 0x40000101
        cpuid
        bt eax, 3
        CHECK c, "KVM clock"
        ; Leaves beyond the last basic one repeat that leaf; the same leaf twice says the same.
        mov eax, 7
        xor ecx, ecx
        cpuid
        mov r9d, ebx
        mov eax, 7
        xor ecx, ecx
        cpuid
        EQUAL r9, rbx, "leaf 7 is stable"
        ; OSXSAVE in leaf 1 follows CR4.
        mov eax, 1
        cpuid
        bt ecx, 26
        jnc .end
        bt ecx, 27
        CHECK nc, "OSXSAVE is clear at first"
        mov rax, cr4
        or eax, 1 << 18
        mov cr4, rax
        mov eax, 1
        cpuid
        bt ecx, 27
        CHECK c, "OSXSAVE follows CR4"
.end:   jmp finish
END_OF_GUEST
