/*
 * signal_self.S - a signal to the calling thread, with all that it says
 *
 *     long signal_self(int signal, const void *siginfo);
 *
 * Returns 0 or -errno. From its first label to its second rdi and rsi are numbers of the process
 * and the thread, and so is what a system call has just returned: gate_stub.names_itself.
 */
#include <asm/unistd_64.h>

    .section no_park, "ax", @progbits /* clock.c calls it */
    .globl signal_self, signal_self_named, signal_self_sent
    .hidden signal_self, signal_self_named, signal_self_sent
    .type signal_self, @function
    .p2align 4
signal_self:
    .cfi_startproc
    mov %edi, %edx
    mov %rsi, %r10
    mov $__NR_gettid, %eax
    syscall
signal_self_named:
    mov %eax, %esi
    mov %eax, %edi
    mov $__NR_getpid, %eax
    syscall
    mov %eax, %edi
    mov $__NR_rt_tgsigqueueinfo, %eax
    syscall
signal_self_sent:
    ret
    .cfi_endproc
    .size signal_self, .-signal_self
    .section .note.GNU-stack,"",@progbits
