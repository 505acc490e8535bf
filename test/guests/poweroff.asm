; S5 through ACPI's PM1 control register ends the guest as powered off.
%include "guest.inc"
main:   PRINT {"PASS 1 checks", 10}
        mov dx, 0x604
        mov ax, 0x3400
        out dx, ax
        mov eax, 4
        jmp exit
END_OF_GUEST
