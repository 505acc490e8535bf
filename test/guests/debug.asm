; Debug exceptions: single steps over instructions that exit and through interrupt shadows, INT1, general detect, breakpoints.
%include "guest.inc"
TF      equ 0x100
; The n-th #DB: where it struck, from `from` on, and what DR6 said.
%macro STRUCK 4
        mov rax, [places + %1 * 8]
        sub rax, %2
        EQUAL rax, %3 - %2, "place of a #DB"
        mov rax, [reasons + %1 * 8]
        EQUAL rax, 0xffff0ff0 | %4, "DR6 of a #DB"
%endmacro
; Sets TF; the first #DB comes behind the instruction that follows.
%macro STEP 0
        mov dword [struck], 0
        pushfq
        pop rax
        mov rbx, rax
        or eax, TF
        push rax
        popfq
%endmacro
%macro UNSTEP 0
        push rbx
        popfq
%endmacro
BS      equ 0x4000
BD      equ 0x2000
main:   call pic_off
        mov dword [handlers + 1 * 8], on_debug
        ; Over CPUID and IN, which exit
        STEP
s0:     xor eax, eax
s1:     push rbx
        cpuid
s2:     pop rbx
s3:     mov edx, COM1 + 5
s4:     in al, dx
s5:     UNSTEP
s6:     EQUAL [struck], 8, "steps over instructions that exit"
        STRUCK 0, s0, s1, BS
        STRUCK 2, s0, s2, BS
        STRUCK 5, s0, s5, BS
        STRUCK 7, s0, s6, BS
        ; Through the shadow of STI: a step like any other. Through that of MOV SS: put off and lost.
        STEP
t0:     sti
t1:     nop
t2:     cli
t3:     UNSTEP
t4:     EQUAL [struck], 5, "steps through STI"
        STRUCK 0, t0, t1, BS
        STRUCK 1, t0, t2, BS
        mov ecx, ss
        STEP
u0:     mov ss, ecx
u1:     nop
u2:     UNSTEP
u3:     EQUAL [struck], 3, "steps through MOV SS"
        STRUCK 0, u0, u2, BS
        ; INT1 traps and is no condition; with MOV SS before it as well
        STEP
v0:     mov ss, ecx
        int1
v1:     int1
v2:     UNSTEP
v3:     EQUAL [struck], 4, "INT1 while stepping"
        STRUCK 0, v0, v1, 0
        STRUCK 1, v0, v2, 0
        STRUCK 3, v0, v3, BS
        mov dword [struck], 0
        int1
w0:     EQUAL [struck], 1, "INT1"
        STRUCK 0, w0, w0, 0
        ; General detect: a fault, with DR7.GD cleared by its delivery
        mov rax, 0x2400
        mov dr7, rax
        mov dword [struck], 0
x0:     mov rax, dr6
        EQUAL [struck], 1, "general detect"
        STRUCK 0, x0, x0, BD
        mov rax, dr7
        EQUAL rax, 0x400, "DR7.GD is clear"
        ; Breakpoints: execution is a fault, with RF to pass it; a write traps
        mov rax, y0
        mov dr2, rax
        mov rax, 0x420
        mov dr7, rax
        mov dword [struck], 0
y0:     nop
        EQUAL [struck], 1, "execution breakpoint"
        STRUCK 0, y0, y0, 4
        mov rax, watched
        mov dr1, rax
        mov rax, 0x00d00404             ; 4 bytes written, L1
        mov dr7, rax
        mov dword [struck], 0
        mov eax, 1
        mov [watched], eax
z0:     mov eax, [watched]
        EQUAL [struck], 1, "write breakpoint"
        STRUCK 0, z0, z0, 2
        mov rax, 0x400
        mov dr7, rax
        ; DR4 and DR5 are DR6 and DR7 without CR4.DE, and #UD with it
        EXPECT NONE, "DR5 without CR4.DE"
        db 0x0f, 0x21, 0xe8             ; mov rax, dr5
        GOT
        EQUAL rax, 0x400, "DR5 is DR7"
        mov rax, cr4
        or eax, 8
        mov cr4, rax
        EXPECT 6, "DR4 with CR4.DE"
        db 0x0f, 0x21, 0xe0             ; mov rax, dr4
        GOT
        jmp finish

; Notes where it struck and DR6, cleared before for the next; passes an execution breakpoint.
on_debug:
        mov ecx, [struck]
        cmp ecx, 15
        ja .end
        mov rax, [rsi + 16]
        mov [places + rcx * 8], rax
        mov rax, dr6
        mov [reasons + rcx * 8], rax
        inc dword [struck]
        test al, 4
        jz .end
        or dword [rsi + 32], 0x10000
.end:   mov eax, 0xffff0ff0
        mov dr6, rax
        ret

section .bss
struck: resq 1
places: resq 16
reasons: resq 16
watched: resd 1
        END_OF_GUEST
