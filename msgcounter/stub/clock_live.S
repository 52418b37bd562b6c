/*
 * clock_live.S - the clocks in batch: the kernel's vdso, and what a signal that comes in it does
 *
 * The vdso is the lower half's: an image must not hold a thread in it, nor a handler that returns
 * to it. A signal that comes there is sent again, blocked, and clock_signal put in the place of
 * clock_read, to which the vdso returns: so its handler runs some nanoseconds later (clock.c).
 *
 *     program --> clock_live --> vdso --.   (signal)
 *             <-- clock_read <----------+--> clock_signal --> handler
 *
 * A thread does not park here: refine would not record this reading (no_park.h).
 */
#include "cross_offsets.h"

    .section no_park, "ax", @progbits
    .globl clock_read, clock_signal
    .hidden clock_read, clock_signal
    .macro live name index
    .globl clock_live_\name
    .hidden clock_live_\name
    .type clock_live_\name, @function
    .p2align 4
clock_live_\name:
    .cfi_startproc
    movabs $GATE_ADDR_VALUE + GATE_KERNEL_VDSO + 8 * \index, %rax
    jmp clock_live
    .cfi_endproc
    .size clock_live_\name, .-clock_live_\name
    .endm

    live clock_gettime 0
    live gettimeofday 1
    live time 2
    live getcpu 3
    live clock_getres 4

    .type clock_live, @function
    .p2align 4
clock_live:
    .cfi_startproc
    sub $8, %rsp
    .cfi_adjust_cfa_offset 8
    mov clock_stack@gottpoff(%rip), %rcx
    mov %rsp, %fs:(%rcx)
    call *(%rax)                 /* three arguments at most */
clock_read:
    add $8, %rsp
    .cfi_remember_state
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_restore_state
clock_signal:
    push %rax
    .cfi_adjust_cfa_offset 8
    sub $8, %rsp
    .cfi_adjust_cfa_offset 8
    call clock_signals_come
    add $8, %rsp
    .cfi_adjust_cfa_offset -8
    pop %rax
    .cfi_adjust_cfa_offset -8
    jmp clock_read
    .cfi_endproc
    .size clock_live, .-clock_live
    .section .note.GNU-stack,"",@progbits
