/*
 * upper_vdso.S - the vdso that the application sees
 *
 * The kernel's vdso lies above the split and moves at every start. This one is part of the upper
 * half, is saved with it, and jumps through the gate: to the kernel's in batch, to the stub's
 * recording or replaying functions else. Cost: one indirect jump.
 */
#include "cross_offsets.h"

    .text
    .macro entry name index
    .globl __vdso_\name
    .weak \name
    .set \name, __vdso_\name
    .type __vdso_\name, @function
    .type \name, @function
    .p2align 4
__vdso_\name:
    .cfi_startproc
    movabs $GATE_ADDR_VALUE + GATE_VDSO + 8 * \index, %rax
    jmp *(%rax)
    .cfi_endproc
    .size __vdso_\name, .-__vdso_\name
    .endm

    entry clock_gettime 0
    entry gettimeofday 1
    entry time 2
    entry getcpu 3
    entry clock_getres 4
    .section .note.GNU-stack,"",@progbits
