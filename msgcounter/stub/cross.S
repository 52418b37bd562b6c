/*
 * cross.S - the crossing between the halves
 *
 * Both directions switch the FS base with wrfsbase (FSGSBASE, Linux 5.9+): no system call. The
 * stack stays the caller's. Between the two switches no code of the half that was left may run.
 */
    .text

/* uint64_t gate_cross(void *fn, const uint64_t *args, uint64_t n)
 *
 * stub_thread layout (thread.h): lower_fs at 0, generation at 8. Gate layout is taken from
 * cross_offsets.h, generated from gate.h by the compiler.
 */
#include "cross_offsets.h"

#define STACK_WIPED 4096

    .globl gate_cross, gate_cross_double
    .hidden gate_cross, gate_cross_double
    .type gate_cross, @function
    .type gate_cross_double, @function
    .p2align 5
gate_cross:
gate_cross_double:
    .cfi_startproc
    push %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    mov %rsp, %rbp
    .cfi_def_cfa_register %rbp
    push %rbx                    /* upper FS base */
    push %r12                    /* an outer crossing's note, for callbacks that cross again */
    push %r13                    /* where the lower half finds the upper FS base */
    push %r14
    .cfi_offset %rbx, -24
    .cfi_offset %r12, -32
    .cfi_offset %r13, -40
    .cfi_offset %r14, -48
    push %r15                    /* only for last words: gate_cross_returned */
    push %r15                    /* 16-byte alignment */
    mov stub_thread@gottpoff(%rip), %r10
    movabs $GATE_ADDR_VALUE, %rcx
    mov GATE_GENERATION(%rcx), %r8d
    cmp %r8d, %fs:8(%r10)
    jne 5f
1:  mov %fs:0(%r10), %r9         /* lower FS base */
    mov %fs:0, %rbx              /* x86-64 TLS: the word at the FS base is that address */
    mov GATE_TLS_UPPER_FS(%rcx), %r13
    add %r9, %r13
    mov 0(%r13), %r12
    mov %rbx, 0(%r13)
    wrfsbase %r9
    cmpl $0, stub_posts(%rip)
    jne 6f
2:  mov %rdi, %rax               /* fn */
    mov %rsi, %r11               /* args */
    cmp $6, %rdx
    ja 4f
3:  mov 0(%r11), %rdi
    mov 8(%r11), %rsi
    mov 16(%r11), %rdx
    mov 24(%r11), %rcx
    mov 32(%r11), %r8
    mov 40(%r11), %r9
    call *%rax
    .globl gate_cross_returned
    .hidden gate_cross_returned
gate_cross_returned:
    wrfsbase %rbx
    mov %r12, 0(%r13)
    lea -32(%rbp), %rsp
    pop %r14
    pop %r13
    pop %r12
    pop %rbx
    pop %rbp
    .cfi_remember_state
    .cfi_def_cfa %rsp, 8
    ret
    .cfi_restore_state

    /* More than six arguments: the rest goes on the stack, kept 16-byte aligned. */
4:  test $1, %dl
    jz 7f
    sub $8, %rsp
7:  push -8(%r11,%rdx,8)
    dec %rdx
    cmp $6, %rdx
    ja 7b
    jmp 3b

    /* Receives that were put off go first. */
6:  mov %rdi, %r14
    push %rsi
    push %rdx
    lea stub_posts(%rip), %rax
    mov 0(%rax), %esi
    movl $0, 0(%rax)
    lea 8(%rax), %rdi
    call *GATE_POST(%rcx)
    pop %rdx
    pop %rsi
    mov %r14, %rdi
    jmp 2b

    /* First crossing of this thread in this process. */
5:  push %rdi
    push %rsi
    push %rdx
    push %r10
    call stub_thread_attach
    pop %r10
    pop %rdx
    pop %rsi
    pop %rdi
    movabs $GATE_ADDR_VALUE, %rcx
    jmp 1b
    .cfi_endproc
    .size gate_cross, .-gate_cross

/* uint64_t gate_up(void *fn, a0..a5): called on the lower FS. */
    .globl gate_up
    .hidden gate_up
    .type gate_up, @function
    .p2align 5
gate_up:
    .cfi_startproc
    push %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    mov %rsp, %rbp
    .cfi_def_cfa_register %rbp
    push %rbx
    push %r12
    .cfi_offset %rbx, -24
    .cfi_offset %r12, -32
    mov %rdi, %rax
    mov %rsi, %rdi
    mov %rdx, %rsi
    mov %rcx, %rdx
    mov %r8, %rcx
    mov %r9, %r8
    mov 16(%rbp), %r9
    rdfsbase %rbx
    movabs $GATE_ADDR_VALUE, %r10
    mov GATE_TLS_UPPER_FS(%r10), %r11
    mov (%rbx,%r11), %r12
    wrfsbase %r12
    call *%rax
    wrfsbase %rbx
    pop %r12
    pop %rbx
    pop %rbp
    .cfi_def_cfa %rsp, 8
    ret
    .cfi_endproc
    .size gate_up, .-gate_up

/* void stack_wipe(void): all below its return address. See thread.h. */
    .globl stack_wipe
    .hidden stack_wipe
    .type stack_wipe, @function
    .p2align 4
stack_wipe:
    .cfi_startproc
    lea -STACK_WIPED(%rsp), %rdi
    mov $(STACK_WIPED / 8), %ecx
    xor %eax, %eax
    rep stosq
    ret
    .cfi_endproc
    .size stack_wipe, .-stack_wipe

    .section .note.GNU-stack,"",@progbits
