/*
 * signal_return.S - return from a signal handler
 *
 * The bytes are what debuggers and unwinders look for: mov $15,%rax; syscall. GDB does only where a
 * function has no name, or one in which there is "sigaction" (amd64-linux-tdep.c).
 */
    .text
    .globl stub_sigaction_return
    .hidden stub_sigaction_return
    .type stub_sigaction_return, @function
    nop
stub_sigaction_return:
    mov $15, %rax
    syscall
    .size stub_sigaction_return, .-stub_sigaction_return
    .section .note.GNU-stack,"",@progbits
