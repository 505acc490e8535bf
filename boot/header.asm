; The headers by which boot loaders know the image. Both stand in the first page of the image, which is
; also within the first 8 KiB of the file. Multiboot Specification 0.6.96, "OS image format"; Multiboot2
; Specification 2.0, "OS image format".
;
; Both give the load addresses themselves, so that a loader needs to understand no ELF: the file's bytes
; from this section on are the memory from 1 MiB on, and what follows up to `image_end` is zero.

%include "abi.inc"

%define PHYSICAL(symbol) ((symbol) - IMAGE_BASE)

MULTIBOOT1_MAGIC        equ     0x1badb002
MULTIBOOT1_PAGE_ALIGN   equ     1 << 0          ; modules on page boundaries
MULTIBOOT1_MEMORY_INFO  equ     1 << 1
MULTIBOOT1_ADDRESSES    equ     1 << 16         ; the address fields below are valid
MULTIBOOT1_FLAGS        equ     MULTIBOOT1_PAGE_ALIGN | MULTIBOOT1_MEMORY_INFO | MULTIBOOT1_ADDRESSES

MULTIBOOT2_MAGIC        equ     0xe85250d6
MULTIBOOT2_I386         equ     0               ; 32-bit protected mode
MULTIBOOT2_LENGTH       equ     multiboot2_end - multiboot2_header

TAG_END                 equ     0
TAG_INFORMATION_REQUEST equ     1
TAG_ADDRESS             equ     2
TAG_ENTRY_ADDRESS       equ     3
TAG_FRAMEBUFFER         equ     5
TAG_MODULE_ALIGN        equ     6
OPTIONAL                equ     1

                extern  image_start, image_load_end, image_end, entry32

                section .boot.header progbits alloc exec nowrite align=8

multiboot1_header:
                dd      MULTIBOOT1_MAGIC
                dd      MULTIBOOT1_FLAGS
                dd      -(MULTIBOOT1_MAGIC + MULTIBOOT1_FLAGS)
                dd      PHYSICAL(multiboot1_header)
                dd      PHYSICAL(image_start)
                dd      PHYSICAL(image_load_end)
                dd      PHYSICAL(image_end)
                dd      PHYSICAL(entry32)

                align   8, db 0
multiboot2_header:
                dd      MULTIBOOT2_MAGIC
                dd      MULTIBOOT2_I386
                dd      MULTIBOOT2_LENGTH
                dd      -(MULTIBOOT2_MAGIC + MULTIBOOT2_I386 + MULTIBOOT2_LENGTH)

; What the kernel reads if the loader has it; nothing of it is demanded.
.request:       dw      TAG_INFORMATION_REQUEST, OPTIONAL
                dd      .request_end - .request
                dd      1, 2, 3, 4, 6           ; command line, loader's name, modules, memory sizes, memory map
                dd      8, 12, 14, 15, 17       ; framebuffer, EFI system table, ACPI 1 and 2, EFI memory map
.request_end:
                align   8, db 0
.address:       dw      TAG_ADDRESS, 0
                dd      24
                dd      PHYSICAL(multiboot1_header) + (multiboot2_header - multiboot1_header)
                dd      PHYSICAL(image_start)
                dd      PHYSICAL(image_load_end)
                dd      PHYSICAL(image_end)

.entry:         dw      TAG_ENTRY_ADDRESS, 0
                dd      12
                dd      PHYSICAL(entry32)

                align   8, db 0
.framebuffer:   dw      TAG_FRAMEBUFFER, OPTIONAL
                dd      20
                dd      0, 0, 32                ; any size; 32 bits a pixel

                align   8, db 0
.modules:       dw      TAG_MODULE_ALIGN, 0
                dd      8

.end:           dw      TAG_END, 0
                dd      8
multiboot2_end:
