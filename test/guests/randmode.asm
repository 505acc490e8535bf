; Random code in every mode but 64-bit: 32-bit with and without paging, PAE, 16-bit, ring 3, virtual-8086 and real mode; between, as in
; random.asm, MSRs, ports, devices and control registers. `seed=N`, and the next ones with `runs=N`. Any end of it is a good end.
%define GUEST_32
%include "guest.inc"
; Below 64 KiB, where 16-bit code reaches it
LOW    equ 0x6000                      ; the way to real mode and back
STACK16 equ 0x7ff0
AREA    equ 0x8000
BUFFER  equ 0x9000
; Selectors of our own table
FLAT    equ 0x08
FLATD   equ 0x10
CODE16  equ 0x18
DATA16  equ 0x20
USER    equ 0x2b
USERD   equ 0x33
TASK    equ 0x38
SHORTC    equ 0x40                        ; the guest's 4 MiB: what points anywhere faults mostly, and the guest goes on
SHORTD   equ 0x48

bits 32
main32: call read_seed
        mov edx, 'runs'
        call read_number
        mov [runs], eax
        mov eax, [seed]
        mov [number], eax
        call make_tables
        call start_watchdog
next_seed:
        call tell
        imul eax, [number], 0x9e3779b1  ; neighbours begin far apart
        mov [seed], eax
        inc dword [number]
        mov dword [steps], STEPS
next_step:
        call known_state
        call random
        and eax, 7
        cmp eax, 4
        jb code
        je msr
        cmp eax, 6
        jb port
        je device
        jmp control
; From any exception or interrupt in protected mode, and from real mode
step_done:
        mov ax, FLATD
        mov ds, ax
        mov ss, ax
        mov esp, stack_end
        dec dword [steps]
        jnz next_step
        dec dword [runs]
        jnz next_seed
        xor eax, eax
        out EXIT_PORT, al
        hlt

; Segments, no paging, nothing in CR4, the tables. May be called with anything in the registers but ESP and SS.
known_state:
        mov eax, 0x11                   ; ET, PE
        mov cr0, eax
        xor eax, eax
        mov cr4, eax
        mov dr7, eax
        lgdt [own_gdt_pointer]
        lidt [own_idt_pointer]
        jmp FLAT:.flat
.flat:  mov ax, FLATD
        mov ds, ax
        mov es, ax
        mov fs, ax
        mov gs, ax
        mov ss, ax
        mov byte [own_gdt + TASK + 5], 0x89 ; not busy
        mov ax, TASK
        ltr ax
        xor eax, eax
        lldt ax
        cld
        pop eax                         ; IRET lets the next NMI in
        push dword 2
        push dword FLAT
        push eax
        iretd

; ---- Code: bytes and a way back, in a mode drawn by lot
code:   mov edi, AREA
        mov esi, BUFFER
        call random_code
        call random
        movzx ecx, al
        call random
        and eax, 7
        jmp [modes + eax * 4]
flat:   call random
        mov ecx, eax
        mov ax, SHORTD
        test cl, 7
        jnz .near
        mov eax, AREA
        jmp eax
.near:  mov ds, ax
        mov es, ax
        mov ss, ax
        jmp SHORTC:AREA
paged:  mov eax, directory
        mov cr3, eax
        mov eax, 0x10                   ; PSE
        mov cr4, eax
        jmp page
pae:    mov eax, pdpt
        mov cr3, eax
        mov eax, 0x20                   ; PAE
        mov cr4, eax
page:   mov eax, 0x80000011
        mov cr0, eax
        mov eax, AREA
        jmp eax
small:  jmp CODE16:AREA
user:   push dword USERD
        push dword STACK16
        push dword 2
        push dword USER
        push dword AREA
        iretd
v86:    xor eax, eax
        push eax                        ; GS, FS, DS, ES
        push eax
        push eax
        push eax
        push eax                        ; SS
        push dword STACK16
        push dword 0x23002              ; VM, IOPL 3
        push eax
        push dword AREA
        iretd
real:   jmp CODE16:LOW

; ---- One instruction, in 32-bit mode without paging
port:   call random_port
        jc step_done
        and eax, 0x70000
        shr eax, 16
        mov ecx, 700
        mov esi, BUFFER
        mov edi, BUFFER
        cmp al, 1
        jb .in8
        je .out8
        cmp al, 3
        jb .in32
        je .ins
        cmp al, 5
        jb .outs
        out dx, ax
        jmp step_done
.in8:   in al, dx
        jmp step_done
.out8:  out dx, al
        jmp step_done
.in32:  in eax, dx
        jmp step_done
.ins:   rep insd
        jmp step_done
.outs:  rep outsb
        jmp step_done

device: call random_device
        jz .read
        mov [ebx], eax
        jmp step_done
.read:  mov eax, [ebx]
        jmp step_done

control:
        call random
        and eax, 3
        cmp al, 1
        jb .cr0
        je .cr4
        cmp al, 3
        jb .dr
        call random
        and eax, 0xfff8
        mov [selector], ax
        lldt [selector]
        jmp step_done
.cr0:   call random
        and eax, 0x7fffffff             ; no paging without tables
        or al, 1
        mov cr0, eax
        jmp step_done
.cr4:   call random
        mov cr4, eax
        jmp step_done
.dr:    call random
        mov dr0, eax
        call random
        mov dr7, eax
        jmp step_done

; ---- Tables
make_tables:
        mov edi, own_idt                ; 32-bit interrupt gates for ring 3 too
        mov ecx, 256
        mov eax, step_done
        mov edx, eax
        and eax, 0xffff
        or eax, FLAT << 16
        and edx, 0xffff0000
        or edx, 0xee00
.gate:  stosd
        mov [edi], edx
        add edi, 4
        loop .gate
        mov dword [directory], 0x87     ; 4 MiB, and the APICs
        mov dword [directory + 4 * 0x3fb], 0xfec00083
        mov dword [pdpt], low_directory + 1
        mov dword [pdpt + 24], high_directory + 1
        mov dword [low_directory], 0x87 ; the same by 2 MiB pages
        mov dword [low_directory + 8], 0x200087
        mov dword [high_directory + 8 * 0x1f6], 0xfec00083
        mov dword [high_directory + 8 * 0x1f7], 0xfee00083
        mov dword [own_tss + 4], stack_end
        mov dword [own_tss + 8], FLATD
        mov word [own_tss + 102], 104   ; no I/O bitmap
        mov eax, own_tss
        mov [own_gdt + TASK + 2], ax
        shr eax, 16
        mov [own_gdt + TASK + 4], al
        mov [own_gdt + TASK + 7], ah
        xor edi, edi                    ; real mode: every vector
        mov eax, LOW + (low.from_real - low)
        mov ecx, 256
        rep stosd
        mov esi, low
        mov edi, LOW
        mov ecx, low_end - low
        rep movsb
        ret

%include "seed.inc"
%include "randstep.inc"

; Runs at LOW: into real mode at AREA, and from its vectors back.
%define AT(label) LOW + (label - low)
bits 16
low:   mov ax, DATA16
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov eax, 0x10
        mov cr0, eax
        jmp 0:AT(.real)
.real:  xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, STACK16
        lidt [AT(.vectors)]
        jmp 0:AREA
.from_real:
        cli
        xor ax, ax
        mov ds, ax
        o32 lgdt [AT(.gdt)]
        mov eax, 0x11
        mov cr0, eax
        jmp dword FLAT:step_done
.vectors: dw 0x3ff
        dd 0
.gdt:   dw own_gdt_end - own_gdt - 1
        dd own_gdt
low_end:
bits 32

section .data
modes:  dd flat, paged, pae, small, user, v86, real, real
own_gdt: dq 0
        dq 0x00cf9b000000ffff
        dq 0x00cf93000000ffff
        dq 0x00009b000000ffff
        dq 0x000093000000ffff
        dq 0x00c0fb00000003ff
        dq 0x00c0f300000003ff
        dq 0x0000890000000067           ; base filled in
        dq 0x00c09b00000003ff
        dq 0x00c09300000003ff
own_gdt_end:
own_gdt_pointer: dw own_gdt_end - own_gdt - 1
        dd own_gdt
own_idt_pointer: dw 256 * 8 - 1
        dd own_idt
section .bss
runs:   resd 1
steps:  resd 1
selector: resw 1
        alignb 8
own_idt: resq 256
own_tss: resb 104
        alignb 4096
directory: resd 1024
low_directory: resb 4096
high_directory: resb 4096
stack:  resb 4096
stack_end:
section .text
END_OF_GUEST
