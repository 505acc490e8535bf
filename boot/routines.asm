; Intrinsics that are too long to inline (kernel/cpu/insn.ts). Arguments in RDI, RSI, RDX, RCX, R8; the
; result in RAX; a routine may clobber every register that a call may.

%include "abi.inc"

                global  insn_loadDescriptors, insn_unwind
                global  insn_imageStart, insn_imageEnd, insn_imageBoundary
                extern  onTrap, idt, build_id
                extern  image_start, image_rodata, image_data, image_end, image_linear
                extern  trampoline_start, trampoline_end
                extern  vmexit
                extern  frames_start, frames_end, traps_start, traps_end

                section .text

; loadDescriptors(gdt, gdtLimit, idt, idtLimit, tr): an `idt` of 0 means the image's own. GS stays as it
; is: loading its selector would clear its base.
insn_loadDescriptors:
                sub     rsp, 24
                mov     [rsp], si
                mov     [rsp + 2], rdi
                lgdt    [rsp]
                test    rdx, rdx
                jnz     .given
                mov     rdx, idt
                mov     ecx, 256 * 16 - 1
.given:         mov     [rsp], cx
                mov     [rsp + 2], rdx
                lidt    [rsp]
                add     rsp, 24
                mov     eax, DATA_SELECTOR
                mov     ds, eax
                mov     es, eax
                mov     ss, eax
                xor     eax, eax
                mov     fs, eax
                ltr     r8w
                push    CODE_SELECTOR
                lea     rax, [rel .reloaded]
                push    rax
                retfq
.reloaded:      ret

; unwind(kind): leaves the stack for good and calls onTrap(kind) on an empty main stack. By IRETQ, which
; also ends the blocking of NMIs if this ran on an NMI's behalf.
insn_unwind:
                cld
                mov     eax, [gs:CPUBLOCK_INDEX]
                imul    rax, rax, STACK_SLOT_BYTES
                mov     rdx, STACKS_BASE + STACK_TOP
                add     rdx, rax
                mov     rsp, rdx
                push    DATA_SELECTOR           ; SS
                push    rdx                     ; RSP
                push    2                       ; RFLAGS: interrupts off
                push    CODE_SELECTOR
                lea     rax, [rel .landed]
                push    rax
                iretq
.landed:        call    onTrap

%define PHYSICAL(symbol) ((symbol) - IMAGE_BASE)

insn_imageStart:
                mov     eax, PHYSICAL(image_start)
                ret

insn_imageEnd:
                mov     eax, PHYSICAL(image_end)
                ret

; imageBoundary(which): 0 for one that is not in the table.
insn_imageBoundary:
                xor     eax, eax
                cmp     edi, (boundaries_end - boundaries) / 8
                jae     .done
                lea     rdx, [rel boundaries]
                mov     edi, edi
                mov     rax, [rdx + rdi * 8]
.done:          ret

                section .rodata
                align   8, db 0
boundaries:
                dq      image_start             ; 0 text
                dq      image_rodata            ; 1 rodata
                dq      image_data              ; 2 data; bss follows linear memory
                dq      image_end               ; 3 end
                dq      image_linear            ; 4 linear memory in the image, from LINEAR_START to SHARED_END
                dq      trampoline_start        ; 5 the page that further CPUs start in
                dq      trampoline_end          ; 6
                dq      build_id                ; 7 16 bytes
                dq      idt                     ; 8 256 gates
                dq      frames_start            ; 9 frame sizes by function: docs/architecture.md, "Tables for faults"
                dq      frames_end              ; 10
                dq      traps_start             ; 11 instructions that stand for Wasm traps
                dq      traps_end               ; 12
                dq      vmexit                  ; 13 where VM exits arrive (kernel/vmx/switch.asm)
boundaries_end:
