; Spins for ever with interrupts off: other guests must not notice. It is ended from outside.
%include "guest.inc"
main:   PRINT {"spinning", 10}
        cli
.loop:  jmp .loop
END_OF_GUEST
