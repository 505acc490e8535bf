; A flat image starts in real mode at 0:7C00H, uses segments, interrupts and 32-bit operands there, goes to protected mode and back.
        org 0x7c00
bits 16
        jmp 0:start
start:  xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7c00
        cmp dl, 0x80
        jne fail
        mov si, hello
        call puts
        ; Segments
        mov ax, 0x2000
        mov fs, ax
        mov byte [fs:0x10], 0x5a
        mov ax, 0x2001
        mov gs, ax
        cmp byte [gs:0], 0x5a
        jne fail
        ; An interrupt through the vector table
        mov word [0x40 * 4], handler
        mov word [0x40 * 4 + 2], 0
        int 0x40
        cmp word [calls], 1
        jne fail
        ; A fault through the vector table: division by zero
        mov word [0], divide
        mov word [2], 0
        xor cx, cx
        div cx
after:  cmp word [divisions], 1
        jne fail
        ; 32-bit operands
        mov eax, 0x12345678
        rol eax, 16
        cmp eax, 0x56781234
        jne fail
        ; A hardware interrupt: the 8254 at vector 8
        mov word [8 * 4], tick
        mov word [8 * 4 + 2], 0
        mov al, 0x11
        out 0x20, al
        mov al, 8
        out 0x21, al
        mov al, 4
        out 0x21, al
        mov al, 1
        out 0x21, al
        mov al, 0xfe
        out 0x21, al
        mov al, 0x34
        out 0x43, al
        mov al, 0xa9
        out 0x40, al
        mov al, 4
        out 0x40, al
        call wire                       ; after power-up LINT0 is masked: open it
.wait:  sti
        hlt
        cli
        cmp word [ticks], 3
        jb .wait
        ; Protected mode and back
        lgdt [gdt_pointer]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp 8:protected
bits 32
protected:
        mov ax, 16
        mov ds, ax
        mov dword [0x100000], 0xcafe
        jmp 24:back16
bits 16
back16: mov eax, cr0
        and al, 0xfe
        mov cr0, eax
        jmp 0:real
real:   xor ax, ax
        mov ds, ax
        ; DS keeps its 4 GiB limit only until it is loaded again; after that it is 64 KiB of base 0
        cmp byte [hello], 'h'
        jne fail
        mov si, passed
        call puts
        xor eax, eax
        jmp end
fail:   mov si, failed
        call puts
        mov eax, 1
end:    mov ecx, eax
        mov dx, 0x3fd
.wait:  in al, dx
        test al, 0x40
        jz .wait
        mov eax, ecx
        mov dx, 0xf4
        out dx, eax
.stop:  cli
        hlt
        jmp .stop

; LINT0 in ExtINT mode and the APIC enabled, through a 4 GiB data segment.
wire:   lgdt [gdt_pointer]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        mov bx, 16
        mov es, bx
        and al, 0xfe
        mov cr0, eax
        mov dword [es:dword 0xfee000f0], 0x1ff
        mov dword [es:dword 0xfee00350], 0x700
        xor ax, ax
        mov es, ax
        ret

handler: inc word [calls]
        iret
divide: inc word [divisions]
        push bp
        mov bp, sp
        mov word [bp + 2], after        ; the fault would come again
        pop bp
        iret
tick:   inc word [ticks]
        push ax
        mov al, 0x20
        out 0x20, al
        pop ax
        iret
%include "puts16.inc"

hello:  db "hello from real mode", 10, 0
passed: db "PASS 1 checks", 10, 0
failed: db "FAIL 1 of 1 checks", 10, 0
calls:  dw 0
divisions: dw 0
ticks:  dw 0
        align 8
gdt:    dq 0
        dq 0x00cf9b000000ffff
        dq 0x00cf93000000ffff
        dq 0x00009b000000ffff
gdt_pointer:
        dw 31
        dd gdt

        times 510 - ($ - $$) db 0
        dw 0xaa55
