; RDMSR and WRMSR answer as the manual says: values kept, reserved bits and unknown MSRs fault with #GP(0).
%include "guest.inc"
%macro RDMSR_OK 2
        EXPECT NONE, %2
        mov ecx, %1
        rdmsr
        GOT
%endmacro
%macro RDMSR_GP 2
        EXPECT 13, %2
        mov ecx, %1
        rdmsr
        GOT
        EQUAL [fault_error], 0, "error code 0"
%endmacro
; number, value (64 bits), text
%macro WRMSR_GP 3
        EXPECT 13, %3
        mov ecx, %1
        mov rax, %2
        mov rdx, rax
        shr rdx, 32
        wrmsr
        GOT
%endmacro
%macro KEEPS 3
        EXPECT NONE, %3
        mov ecx, %1
        mov rax, %2
        mov rdx, rax
        shr rdx, 32
        wrmsr
        xor eax, eax
        xor edx, edx
        rdmsr
        shl rdx, 32
        or rax, rdx
        mov [value], rax
        GOT
        EQUAL [value], %2, %3
%endmacro
NON_CANONICAL equ 0x0000800000000000
main:   RDMSR_OK 0x10, "TSC"
        RDMSR_OK 0x1b, "APIC_BASE"
        EQUAL rax, 0xfee00900, "APIC_BASE after power-up"
        RDMSR_OK 0xfe, "MTRRCAP"
        RDMSR_OK 0x2ff, "MTRR_DEF_TYPE"
        RDMSR_OK 0x277, "PAT"
        RDMSR_OK 0x1a0, "MISC_ENABLE"
        RDMSR_OK 0xc0000080, "EFER"
        EQUAL rax, 0x500, "EFER has LME and LMA"
        KEEPS 0xc0000082, 0xffffffff81234567, "LSTAR"
        KEEPS 0xc0000081, 0x0023001000000000, "STAR"
        KEEPS 0xc0000083, 0x0000123456789abc, "CSTAR"
        KEEPS 0xc0000084, 0x47700, "FMASK"
        KEEPS 0xc0000100, 0x00007fffffffffff, "FS_BASE"
        KEEPS 0xc0000101, 0xffff800000000000, "GS_BASE"
        KEEPS 0xc0000102, 0xffff888000000000, "KERNEL_GS_BASE"
        KEEPS 0x174, 0x10, "SYSENTER_CS"
        KEEPS 0x175, 0x00007ffffffff000, "SYSENTER_ESP"
        KEEPS 0x176, 0xffffffff80001234, "SYSENTER_EIP"
        KEEPS 0x277, 0x0007040600070406, "PAT"
        KEEPS 0x277, 0x0007010600070106, "PAT with write-combining"
        KEEPS 0x250, 0x0606060606060606, "MTRR_FIX64K_00000"
        KEEPS 0x200, 0x0000000080000006, "MTRR_PHYSBASE0"
        WRMSR_GP 0xc0000082, NON_CANONICAL, "LSTAR not canonical"
        WRMSR_GP 0xc0000100, NON_CANONICAL, "FS_BASE not canonical"
        WRMSR_GP 0xc0000102, NON_CANONICAL, "KERNEL_GS_BASE not canonical"
        WRMSR_GP 0x176, NON_CANONICAL, "SYSENTER_EIP not canonical"
        WRMSR_GP 0x277, 0x0002000000000000, "PAT type 2"
        WRMSR_GP 0x277, 0x0800000000000000, "PAT type 8"
        WRMSR_GP 0x2ff, 0x02, "MTRR_DEF_TYPE type 2"
        WRMSR_GP 0xc0000080, 0x400, "EFER: LME cannot change while paging is on"
        WRMSR_GP 0xc0000080, 0x80000500, "EFER reserved bits"
        WRMSR_GP 0x1b, 0xfee00901, "APIC_BASE reserved bits"
        WRMSR_GP 0x1b, 0xfee00500, "APIC_BASE: x2APIC without the APIC"
        RDMSR_GP 0x12345678, "an unknown MSR"
        WRMSR_GP 0x12345678, 0, "an unknown MSR"
        RDMSR_GP 0x803, "x2APIC MSRs in xAPIC mode"
        WRMSR_GP 0x80b, 0, "x2APIC MSRs in xAPIC mode"
        RDMSR_GP 0x480, "VMX capability MSRs"
        WRMSR_GP 0xfe, 0, "MTRRCAP is read-only"
        ; KVM's clock MSRs
        mov rax, -1
        mov [clock], rax
        mov [clock + 8], rax
        EXPECT NONE, "system time MSR"
        mov ecx, 0x4b564d01
        mov eax, clock + 1
        xor edx, edx
        wrmsr
        GOT
        mov eax, [clock]
        and eax, 1
        EQUAL rax, 0, "the version of the clock is even"
        mov rax, [clock + 24]
        test eax, eax
        CHECK nz, "its multiplier is not zero"
        jmp finish
section .bss
        alignb 64
clock:  resb 64
value:  resq 1
END_OF_GUEST
