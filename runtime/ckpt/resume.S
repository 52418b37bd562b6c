/*
 * resume.S - back into a signal frame
 */
    .text

/* Restorer of the park handler; the bytes are what debuggers look for. */
    .globl park_signal_return
    .hidden park_signal_return
    .type park_signal_return, @function
    nop
park_signal_return:
    mov $15, %rax
    syscall
    .size park_signal_return, .-park_signal_return

/*
 * Handler of GATE_SIGNAL. What is not ours goes on in libc's handler, which may cancel the thread:
 * then the unwinder must find the kernel's frame behind that handler, and none of ours.
 */
    .globl park_signal_entry
    .hidden park_signal_entry
    .type park_signal_entry, @function
park_signal_entry:
    push %rdi
    push %rsi
    push %rdx
    call park_signal
    pop %rdx
    pop %rsi
    pop %rdi
    test %rax, %rax
    jz 1f
    jmp *%rax
1:  ret
    .size park_signal_entry, .-park_signal_entry

/*
 * void park_continue(const struct park_resume *r)
 *
 * set_robust_list, set_tid_address, FS, GS, then rt_sigreturn: the kernel finds struct rt_sigframe
 * 8 bytes below rsp, whose second member is the ucontext that `frame` points to.
 */
    .globl park_continue
    .type park_continue, @function
park_continue:
    mov %rdi, %rbx
    mov 32(%rbx), %rdi
    mov 40(%rbx), %rsi
    test %rdi, %rdi
    jz 1f
    mov $273, %eax              /* set_robust_list */
    syscall
1:  mov 24(%rbx), %rdi
    mov $218, %eax              /* set_tid_address */
    syscall
    mov 0(%rbx), %rax
    mov 8(%rbx), %rcx
    mov 16(%rbx), %rsp
    wrgsbase %rcx
    wrfsbase %rax
    mov $15, %eax
    syscall
    ud2
    .size park_continue, .-park_continue

/*
 * long restart_clone(flags, stack, body, arg)
 *
 * clone(2). The child calls body(arg).
 */
    .globl restart_clone
    .type restart_clone, @function
restart_clone:
    and $-16, %rsi
    mov %rdx, -8(%rsi)
    mov %rcx, -16(%rsi)
    sub $16, %rsi
    mov $56, %eax
    syscall
    test %rax, %rax
    jnz 1f
    xor %ebp, %ebp
    pop %rdi
    pop %rax
    call *%rax
    ud2
1:  ret
    .size restart_clone, .-restart_clone
    .section .note.GNU-stack,"",@progbits
