; A guest starts by multiboot, prints, and ends with the exit code that it wants.
%include "guest.inc"
main:   PRINT {"hello from a guest", 10}
        EQUAL [rbx], [rbx], "the information can be read"
        mov eax, [rbx]
        and eax, 0x45
        EQUAL rax, 0x45, "memory, command line and map are given"
        cmp dword [rbx + 8], 1024
        CHECK ae, "at least 1 MiB above 1 MiB"
        mov esi, [rbx + 16]
        PRINT "command line: "
        call puts
        call newline
        jmp finish
END_OF_GUEST
