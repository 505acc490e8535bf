; A boot sector finds what firmware leaves behind: a tick that ends HLT, vectors that return, IRQs that are ended, the BIOS data area.
        org 0x7c00
bits 16
        jmp 0:start
start:  xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7c00
        ; Three ticks: each one ends its IRQ, or the next would not come
        mov cx, 3
.tick:  mov eax, [0x46c]
        sti
        hlt
        cli
        inc eax
        cmp eax, [0x46c]
        jne fail
        loop .tick
        ; The tick calls the user's vector
        mov word [0x1c * 4], user
        mov word [0x1c * 4 + 2], 0
        int 8
        cmp byte [called], 1
        jne fail
        ; Vectors return
        int 0
        int 0x15
        int 0x70
        int 0xff
        ; An IRQ of the slave, as an edge: the test device's line 11
        in al, 0xa1
        and al, 0xf7
        out 0xa1, al
        mov cx, 2
.slave: mov dx, 0x200b
        mov al, 1
        out dx, al
        sti
        nop
        nop
        cli
        mov al, 0
        out dx, al
        mov al, 0x0b                    ; in service: nothing is left
        out 0xa0, al
        in al, 0xa0
        test al, al
        jnz fail
        loop .slave
        cmp word [0x400], 0x3f8
        jne fail
        cmp word [0x413], 639
        jne fail
        mov si, passed
        call puts
        xor eax, eax
end:    mov dx, 0xf4
        out dx, eax
        cli
        hlt
fail:   mov si, failed
        call puts
        mov eax, 1
        jmp end

user:   inc byte [cs:called]           ; DS is the tick handler's
        iret

%include "puts16.inc"

called: db 0
passed: db "PASS 9 checks", 10, 0
failed: db "FAIL", 10, 0
        times 510 - ($ - $$) db 0
        dw 0xaa55
