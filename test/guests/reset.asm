; A write of 6 to CF9H resets: with `restart=on` the guest starts again with zeroed memory, and ends by itself the third time.
%include "guest.inc"
main:   ; The clock's memory survives a reset, as a battery keeps it
        mov al, 0x50
        out 0x70, al
        in al, 0x71
        inc al
        mov bl, al
        mov al, 0x50
        out 0x70, al
        mov al, bl
        out 0x71, al
        PRINT "start number "
        movzx eax, bl
        call putdec
        call newline
        EQUAL [0x500000], 0, "memory is zero again"
        mov dword [0x500000], 1
        cmp bl, 3
        jae finish
        mov dx, 0xcf9
        mov al, 6
        out dx, al
.wait:  pause
        jmp .wait
END_OF_GUEST
