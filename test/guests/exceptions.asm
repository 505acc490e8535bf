; Each exception arrives with its vector, error code and return address, and #DF when one strikes in delivery.
%include "guest.inc"
main:   EXPECT 0, "#DE by zero"
        xor ecx, ecx
        div ecx
        GOT
        EXPECT 0, "#DE by overflow"
        mov edx, 5
        mov ecx, 1
        div ecx
        GOT
        EXPECT 3, "#BP"
        int3
        GOT
        EXPECT 4, "INT 4"
        int 4
        GOT
        EXPECT 6, "#UD by UD2"
        ud2
        GOT
        EXPECT 6, "#UD by VMXON"
        vmxon [stacks]
        GOT
        EXPECT 6, "#UD by LOCK on a register form"
        db 0xf0, 0x01, 0xc0
        GOT
        EXPECT 7, "#NM with CR0.TS"
        mov rax, cr0
        or eax, 8
        mov cr0, rax
        fld1
        GOT
        clts
        EXPECT NONE, "x87 after CLTS"
        fninit
        fld1
        fstp st0
        GOT
        EXPECT 13, "#GP by a bad selector"
        mov ax, 0xf8
        mov ds, ax
        GOT
        EQUAL [fault_error], 0xf8, "its error code is the selector"
        EXPECT 13, "#GP by a non-canonical address"
        mov rax, 0x8000000000000000
        mov eax, [rax]
        GOT
        EQUAL [fault_error], 0, "error code 0"
        EXPECT 12, "#SS by a non-canonical stack address"
        mov rbp, 0x8000000000000000
        mov eax, [rbp]
        GOT
        EXPECT 13, "#GP by a reserved bit of CR4"
        mov rax, cr4
        bts rax, 63
        mov cr4, rax
        GOT
        EXPECT 13, "#GP by CR0.PG without PE"
        mov rax, cr0
        btr rax, 0
        mov cr0, rax
        GOT
        EXPECT 13, "#GP by CR0.NW without CD"
        mov rax, cr0
        or eax, 0x20000000
        mov cr0, rax
        GOT
        EXPECT 13, "#GP by clearing PAE in long mode"
        mov rax, cr4
        and al, ~0x20
        mov cr4, rax
        GOT
        EXPECT 14, "#PF on an absent page"
        mov rax, 0x123456789000
        mov eax, [rax]
        GOT
        EQUAL [fault_cr2], 0x123456789000, "CR2"
        EQUAL [fault_error], 0, "read of an absent page"
        EXPECT 14, "#PF by a write"
        mov rax, 0x123456789008
        mov [rax], eax
        GOT
        EQUAL [fault_cr2], 0x123456789008, "CR2"
        EQUAL [fault_error], 2, "write to an absent page"
        EXPECT 14, "#PF by a fetch"
        mov rax, 0x123456789000
        jmp rax
        GOT
        EQUAL [fault_rip], 0x123456789000, "RIP is the target"
        EXPECT 1, "#DB by TF"
        pushfq
        or dword [rsp], 0x100
        popfq
        nop
        nop
        GOT
        mov rax, dr6
        bt eax, 14
        CHECK c, "DR6.BS"
        EXPECT 1, "#DB by INT1"
        db 0xf1
        GOT
        ; An instruction breakpoint, then a data breakpoint
        mov eax, .here
        mov dr0, rax
        xor eax, eax
        mov dr6, rax
        mov eax, 0x401
        mov dr7, rax
        EXPECT 1, "instruction breakpoint"
.here:  nop
        GOT
        EQUAL [fault_rip], .here, "it is a fault: RIP is the instruction"
        mov rax, dr6
        and eax, 0xf
        EQUAL rax, 1, "DR6.B0"
        mov eax, watched
        mov dr1, rax
        mov eax, (0xd << 20) | 0x404
        mov dr7, rax
        EXPECT 1, "data breakpoint"
        mov dword [watched], 1
.after: nop
        GOT
        EQUAL [fault_rip], .after, "it is a trap: RIP is the next instruction"
        EQUAL [watched], 1, "the write took place"
        mov eax, 0x400
        mov dr7, rax
        ; TF over an instruction that exits
        EXPECT 1, "#DB after CPUID with TF"
        pushfq
        or dword [rsp], 0x100
        popfq
        cpuid
.next:  nop
        GOT
        EQUAL [fault_rip], .next, "exactly after CPUID"
        ; #DF: a page fault whose gate is not present
        mov rax, [idt + 14 * 16]
        mov [saved], rax
        mov byte [idt + 14 * 16 + 5], 0
        EXPECT 8, "#DF when #PF finds no gate"
        mov rax, 0x123456789000
        mov eax, [rax]
        GOT
        mov rax, [saved]
        mov [idt + 14 * 16], rax
        ; A benign one first makes no double fault: #NP alone
        mov byte [idt + 3 * 16 + 5], 0x6e
        EXPECT 11, "#NP by INT3 with an absent gate"
        int3
        GOT
        EQUAL [fault_error], 3 * 8 + 2, "its error code names the gate"
        mov byte [idt + 3 * 16 + 5], 0xee
        ; #AC in user mode
        mov rax, cr0
        bts eax, 18
        mov cr0, rax
        mov dword [handlers + 128 * 8], back
        mov byte [idt + 128 * 16 + 5], 0xee
        mov [kernel_rsp], rsp
        EXPECT 17, "#AC in user mode"
        push DATA_USER
        push user_stack + 4096
        push 0x40002
        push CODE64_USER
        push user
        iretq
        GOT
        jmp finish
user:   mov eax, [user_stack + 1]
        int 128                         ; not reached
        ; INT 128 from user mode: back to where EXPECT goes
back:   mov rax, [resume]
        mov [rsi + 16], rax
        mov qword [rsi + 24], CODE64
        mov rax, [resume_rsp]
        mov [rsi + 40], rax
        mov qword [rsi + 48], DATA
        ret
section .bss
saved:  resq 1
watched: resq 1
kernel_rsp: resq 1
        alignb 4096
user_stack: resb 4096
END_OF_GUEST
