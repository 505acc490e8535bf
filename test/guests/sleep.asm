; Sleeps with interrupts on, of which none comes: it uses nothing of the CPU and is ended from outside.
%include "guest.inc"
main:   call pic_off
        PRINT {"sleeping", 10}
        sti
.sleep: hlt
        jmp .sleep
END_OF_GUEST
