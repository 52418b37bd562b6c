/*
 * syscall.S - syscall(3) of the application
 *
 * Takes the place of libc's for two reasons: numbers of processes and threads (pid.c), and a call
 * that a checkpoint interrupts must be made again: its number is on the stack when the kernel has
 * overwritten rax (runtime/ckpt/interrupt.c knows the instruction that loads it).
 */
#define SYS_getpid 39
#define SYS_gettid 186

    .text
    .globl syscall
    .type syscall, @function
    .p2align 4
syscall:
    .cfi_startproc
    cmp $SYS_getpid, %rdi
    je getpid
    cmp $SYS_gettid, %rdi
    je gettid
    push %rdi
    .cfi_adjust_cfa_offset 8
    mov %rsi, %rdi
    mov %rdx, %rsi
    mov %rcx, %rdx
    mov %r8, %r10
    mov %r9, %r8
    mov 16(%rsp), %r9
    mov (%rsp), %eax
    syscall
    .globl syscall_site
    .hidden syscall_site
syscall_site:                    /* system.c */
    cmp $-4095, %rax
    jae 1f
    add $8, %rsp
    .cfi_adjust_cfa_offset -8
    ret
    .cfi_adjust_cfa_offset 8
1:  mov %eax, (%rsp)
    call __errno_location@PLT
    pop %rcx
    .cfi_adjust_cfa_offset -8
    neg %ecx
    mov %ecx, (%rax)
    mov $-1, %rax
    ret
    .cfi_endproc
    .size syscall, .-syscall
    .section .note.GNU-stack,"",@progbits
