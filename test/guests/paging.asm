; Guest paging: 4 KiB and 2 MiB pages, write protection, NX, user pages, accessed and dirty bits, INVLPG, CR3 switches.
%include "guest.inc"
V       equ 0x8000000000               ; PML4 entry 1: nothing of the identity map
main:   mov dword [pml4 + 8], table3 + 7
        mov dword [table3], table2 + 7
        mov dword [table2], table1 + 7
        mov dword [page_a], 0xaaaa
        mov dword [page_b], 0xbbbb
        mov dword [table1], page_a + 3
        mov rbx, V
        mov eax, [rbx]
        EQUAL rax, 0xaaaa, "a fresh mapping"
        mov rax, [table1]
        and eax, 0x60
        EQUAL rax, 0x20, "read: accessed, not dirty"
        mov dword [rbx + 4], 1
        mov rax, [table1]
        and eax, 0x60
        EQUAL rax, 0x60, "written: dirty"
        EQUAL [table2], table1 + 0x27, "accessed in the level above"
        ; A changed entry counts after INVLPG
        mov dword [table1], page_b + 3
        invlpg [rbx]
        mov eax, [rbx]
        EQUAL rax, 0xbbbb, "after INVLPG"
        mov dword [table1], page_a + 3
        mov rax, cr3
        mov cr3, rax
        mov eax, [rbx]
        EQUAL rax, 0xaaaa, "after MOV to CR3"
        ; Not present
        mov dword [table1], 0
        invlpg [rbx]
        EXPECT 14, "absent"
        mov eax, [rbx]
        GOT
        EQUAL [fault_cr2], V, "CR2"
        EQUAL [fault_error], 0, "read"
        ; Read-only: the supervisor obeys it with CR0.WP
        mov dword [table1], page_a + 1
        EXPECT NONE, "CR0.WP clear: the supervisor may write"
        mov dword [rbx], 0xaaaa
        GOT
        mov rax, cr0
        bts eax, 16
        mov cr0, rax
        EXPECT 14, "CR0.WP set"
        mov dword [rbx], 1
        GOT
        EQUAL [fault_error], 3, "write, present"
        EQUAL [page_a], 0x10000aaaa, "nothing was written"
        ; NX
        mov byte [page_a + 16], 0xc3
        mov dword [table1 + 4], 0x80000000
        mov ecx, 0xc0000080
        rdmsr
        bts eax, 11
        wrmsr
        invlpg [rbx]
        EXPECT 14, "a fetch from an NX page"
        lea rax, [rbx + 16]
        call rax
        GOT
        EQUAL [fault_error], 0x11, "fetch, present"
        mov dword [table1 + 4], 0
        invlpg [rbx]
        EXPECT NONE, "a fetch without NX"
        lea rax, [rbx + 16]
        call rax
        GOT
        ; Reserved bits
        mov dword [table1 + 4], 0x00080000
        invlpg [rbx]
        EXPECT 14, "a reserved bit"
        mov eax, [rbx]
        GOT
        EQUAL [fault_error], 9, "reserved, present"
        mov dword [table1 + 4], 0
        ; SMEP and SMAP where they are
        mov eax, 7
        xor ecx, ecx
        cpuid
        mov r8d, ebx
        mov rbx, V
        mov dword [table1], page_a + 7
        invlpg [rbx]
        bt r8d, 7
        jnc .nosmep
        mov rax, cr4
        bts rax, 20
        mov dword [pds + 0 * 8], 0x83   ; our own code must be a supervisor page now
        mov rcx, cr3
        mov cr3, rcx
        mov cr4, rax
        EXPECT 14, "SMEP: a fetch from a user page"
        lea rax, [rbx + 16]
        call rax
        GOT
        mov rax, cr4
        btr rax, 20
        mov cr4, rax
.nosmep:
        bt r8d, 20
        jnc .nosmap
        mov dword [pds + 0 * 8], 0x83
        mov rcx, cr3
        mov cr3, rcx
        mov rax, cr4
        bts rax, 21
        mov cr4, rax
        EXPECT 14, "SMAP: a read of a user page"
        mov eax, [rbx]
        GOT
        EXPECT NONE, "SMAP: STAC allows it"
        stac
        mov eax, [rbx]
        clac
        GOT
        mov rax, cr4
        btr rax, 21
        mov cr4, rax
.nosmap:
        ; A large page replaces a table
        mov eax, [page_b]
        mov ecx, page_b
        and ecx, ~0x1fffff
        or ecx, 0x83
        mov [table2 + 8], ecx
        mov rdx, V + 0x200000
        mov ecx, page_b
        and ecx, 0x1fffff
        mov eax, [rdx + rcx]
        EQUAL rax, 0xbbbb, "2 MiB page"
        ; Many pages, switched many times: translations stay right
        mov r9d, 2000
.many:  mov eax, page_a + 3
        test r9d, 1
        jz .even
        mov eax, page_b + 3
.even:  mov [table1], eax
        invlpg [rbx]
        mov ecx, [rbx]
        shr ecx, 12
        and eax, 0
        mov eax, 0xaaaa >> 12
        test r9d, 1
        jz .compare
        mov eax, 0xbbbb >> 12
.compare:
        cmp eax, ecx
        je .right
        inc dword [failures]
.right: dec r9d
        jnz .many
        jmp finish
section .bss
        alignb 4096
table3: resb 4096
table2: resb 4096
table1: resb 4096
page_a: resb 4096
page_b: resb 4096
END_OF_GUEST
