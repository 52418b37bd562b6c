/*
 * signal_return.S - return from a signal handler
 *
 * The bytes are what debuggers and unwinders look for: mov $15,%rax; syscall.
 */
    .text
    .globl stub_signal_return
    .hidden stub_signal_return
    .type stub_signal_return, @function
    nop
stub_signal_return:
    mov $15, %rax
    syscall
    .size stub_signal_return, .-stub_signal_return
    .section .note.GNU-stack,"",@progbits
