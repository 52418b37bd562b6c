/*
 * steer_entry.S - where a patched system call site of the lower half arrives
 *
 * The site's trampoline has stepped over the red zone, pushed the address to go back to and put the
 * number of the system call into %eax. As after `syscall`, only rax, rcx and r11 change.
 */
    .text
    .globl steer_entry
    .hidden steer_entry
    .type steer_entry, @function
steer_entry:
    push %rbx
    push %r9
    push %r8
    push %r10
    push %rdx
    push %rsi
    push %rdi
    mov %rsp, %rsi          /* the six arguments, in order */
    mov %rsp, %rbx
    and $-16, %rsp
    mov %eax, %edi
    cld
    call steer_syscall
    mov %rbx, %rsp
    pop %rdi
    pop %rsi
    pop %rdx
    pop %r10
    pop %r8
    pop %r9
    pop %rbx
    ret $128
    .size steer_entry, .-steer_entry
    .section .note.GNU-stack,"",@progbits
