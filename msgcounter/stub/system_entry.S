/*
 * system_entry.S - the application's system calls: entry, the call itself, new threads
 */
#include "cross_offsets.h"

#define AGAIN     -4096 /* SYSTEM_AGAIN in system.c */

    .text

/*
 * Handler of SIGSYS. It does not return to the restorer, whose rt_sigreturn would be taken for
 * another call of the application, but by way of the lower half, whose calls are not looked at.
 */
    .globl system_entry
    .hidden system_entry
    .type system_entry, @function
    .p2align 4
system_entry:
    .cfi_startproc
    sub $8, %rsp
    .cfi_adjust_cfa_offset 8
    call system_signal           /* which frame to go on in */
    mov %rax, %rdi
    add $8, %rsp
    .cfi_adjust_cfa_offset -8
    jmp system_return
    .cfi_endproc
    .size system_entry, .-system_entry

/* void system_return(const void *frame): goes on in that frame. */
    .globl system_return
    .hidden system_return
    .type system_return, @function
    .p2align 4
system_return:
    .cfi_startproc
    mov %rdi, %rsp
    movabs $GATE_ADDR_VALUE, %rcx
    jmp *GATE_SIGNAL_RETURN(%rcx)
    .cfi_endproc
    .size system_return, .-system_return

/* gate_stub.before_call: the debugger has the thread go on elsewhere. */
    .globl system_before_call
    .hidden system_before_call
    .type system_before_call, @function
system_before_call:
    int3
    jmp system_before_call
    .size system_before_call, .-system_before_call

/*
 * Handler of SIGILL while instructions are replaced. One that is none of ours goes on where it
 * would have, with the same arguments.
 */
    .globl instruction_entry
    .hidden instruction_entry
    .type instruction_entry, @function
    .p2align 4
instruction_entry:
    .cfi_startproc
    push %rdi
    .cfi_adjust_cfa_offset 8
    push %rsi
    .cfi_adjust_cfa_offset 8
    push %rdx
    .cfi_adjust_cfa_offset 8
    call instruction_signal      /* which frame to go on in, or 0 */
    pop %rdx
    .cfi_adjust_cfa_offset -8
    pop %rsi
    .cfi_adjust_cfa_offset -8
    pop %rdi
    .cfi_adjust_cfa_offset -8
    test %rax, %rax
    jz 1f
    mov %rax, %rdi
    jmp system_return
1:  jmp *instruction_otherwise(%rip)
    .cfi_endproc
    .size instruction_entry, .-instruction_entry

/*
 * long system_make(long number, const long args[6])
 *
 * The kernel's result. A checkpoint may end the call to have it made again, for which
 * runtime/ckpt/interrupt.c knows the instruction before it; in a replay that begins inside
 * it, the thread goes on at system_again.
 *
 * long system_wait(long number, const long args[6])
 *
 * The same of a call for which signals are let in: a checkpoint may be made before it begins, too,
 * and in a replay it is not made.
 */
    .globl system_wait, system_make, system_made, system_again
    .hidden system_wait, system_make, system_made, system_again
    .type system_wait, @function
    .type system_make, @function
    .p2align 4
system_wait:
    .cfi_startproc
    movabs $GATE_ADDR_VALUE, %rcx
    cmpl $GATE_MODE_REPLAY, GATE_MODE(%rcx)
    jne system_make
    mov $AGAIN, %rax
    ret
system_make:
    push %rdi
    .cfi_adjust_cfa_offset 8
    mov %rsi, %rax
    mov 0(%rax), %rdi
    mov 8(%rax), %rsi
    mov 16(%rax), %rdx
    mov 24(%rax), %r10
    mov 32(%rax), %r8
    mov 40(%rax), %r9
    mov (%rsp), %eax
    syscall
system_made:
    pop %rcx
    .cfi_remember_state
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_restore_state
system_again:
    mov $AGAIN, %rax
    jmp system_made
    .cfi_endproc
    .size system_wait, .-system_wait
    .size system_make, .-system_make

/*
 * long system_make_on(long number, const long args[2], long sp)
 *
 * The same with the stack pointer of the application, to which nothing is written.
 */
    .globl system_make_on
    .hidden system_make_on
    .type system_make_on, @function
    .p2align 4
system_make_on:
    .cfi_startproc
    push %rbx
    .cfi_adjust_cfa_offset 8
    .cfi_offset %rbx, -16
    mov %rsp, %rbx
    .cfi_def_cfa_register %rbx
    mov %rdi, %rax
    mov 0(%rsi), %rdi
    mov 8(%rsi), %rsi
    mov %rdx, %rsp
    syscall
    mov %rbx, %rsp
    .cfi_def_cfa_register %rsp
    pop %rbx
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_endproc
    .size system_make_on, .-system_make_on

/*
 * long system_clone(long number, const long args[6])
 *
 * For a child on a stack of its own, whose first red zone holds the registers with which it goes on
 * behind the application's call: rip, rbx, rbp, rdi, rsi, rdx, r8, r9, r10, r12 .. r15 downwards.
 */
    .globl system_clone
    .hidden system_clone
    .type system_clone, @function
    .p2align 4
system_clone:
    .cfi_startproc
    mov %rdi, %rax
    mov 0(%rsi), %rdi
    mov 16(%rsi), %rdx
    mov 24(%rsi), %r10
    mov 32(%rsi), %r8
    mov 8(%rsi), %rsi
    syscall
    test %rax, %rax
    jz 1f
    ret
1:  .cfi_undefined %rip
    mov -16(%rsp), %rbx
    mov -24(%rsp), %rbp
    mov -32(%rsp), %rdi
    mov -40(%rsp), %rsi
    mov -48(%rsp), %rdx
    mov -56(%rsp), %r8
    mov -64(%rsp), %r9
    mov -72(%rsp), %r10
    mov -80(%rsp), %r12
    mov -88(%rsp), %r13
    mov -96(%rsp), %r14
    mov -104(%rsp), %r15
    mov -8(%rsp), %rcx
    xor %r11d, %r11d             /* a call that was made: see call_was_dropped() */
    xor %eax, %eax
    jmp *%rcx
    .cfi_endproc
    .size system_clone, .-system_clone
    .section .note.GNU-stack,"",@progbits
