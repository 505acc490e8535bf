; Stands for coreboot: starts its multiboot module, an ELF32 payload, with a coreboot table (the memory map, without checksums) at
; 500H, in 32-bit protected mode with paging off. The payload may be linked over this image and over its own file.
%define GUEST_32
%include "guest.inc"
FILE    equ 0x1000000                   ; where the payload's file waits: 16 MiB
COPIER  equ 0x1800000                   ; and what copies it from there: 24 MiB
TABLE   equ 0x500
LB_MEMORY equ 1
; Multiboot information
FLAGS   equ 0
MODS_COUNT equ 20
MODS    equ 24
MMAP_LENGTH equ 44
MMAP    equ 48
; ELF32
E_ENTRY equ 24
E_PHOFF equ 28
E_PHNUM equ 44
P_TYPE  equ 0
P_OFFSET equ 4
P_PADDR equ 12
P_FILESZ equ 16
P_MEMSZ equ 20
P_BYTES equ 32

bits 32
main32: mov ebx, [information]
        test dword [ebx + FLAGS], 0x40  ; a memory map
        jz .none
        cmp dword [ebx + MODS_COUNT], 1
        jne .none
        mov eax, [ebx + MODS]
        mov esi, [eax]
        mov ecx, [eax + 4]
        cmp dword [esi], 0x464c457f     ; "\x7fELF"
        jne .none
        sub ecx, esi
        mov edi, FILE
        rep movsb
        call write_table
        mov esi, copier
        mov edi, COPIER
        mov ecx, copier_end - copier
        rep movsb
        mov esp, COPIER
        mov eax, COPIER
        jmp eax
.none:  mov al, 1                       ; no payload
        out EXIT_PORT, al
        hlt

; Header, then one record: LB_MEMORY with a row {start u64, bytes u64, type u32} for each of the map's.
write_table:
        mov edi, TABLE + 24
        mov dword [edi], LB_MEMORY
        add edi, 8
        mov esi, [ebx + MMAP]
        mov edx, esi
        add edx, [ebx + MMAP_LENGTH]
.row:   cmp esi, edx
        jae .end
        push esi
        add esi, 4
        mov ecx, 5
        rep movsd
        pop esi
        add esi, [esi]
        add esi, 4
        jmp .row
.end:   sub edi, TABLE + 24
        mov [TABLE + 28], edi
        mov dword [TABLE], 'LBIO'
        mov dword [TABLE + 4], 24
        mov dword [TABLE + 8], 0
        mov [TABLE + 12], edi
        mov dword [TABLE + 16], 0
        mov dword [TABLE + 20], 1
        ret

; Runs at COPIER, so uses no address of its own.
copier: mov ebx, FILE
        mov edx, ebx
        add edx, [ebx + E_PHOFF]
        movzx ebp, word [ebx + E_PHNUM]
.next:  cmp dword [edx + P_TYPE], 1     ; PT_LOAD
        jne .skip
        mov esi, ebx
        add esi, [edx + P_OFFSET]
        mov edi, [edx + P_PADDR]
        mov ecx, [edx + P_FILESZ]
        rep movsb
        mov ecx, [edx + P_MEMSZ]
        sub ecx, [edx + P_FILESZ]
        xor eax, eax
        rep stosb
.skip:  add edx, P_BYTES
        dec ebp
        jnz .next
        xor eax, eax
        jmp [ebx + E_ENTRY]
copier_end:
END_OF_GUEST
