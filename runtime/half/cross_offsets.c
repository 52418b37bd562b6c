/*
 * cross_offsets.c - offsets of the gate that assembler code needs
 *
 * Compiled to assembler only; the build greps the lines and makes cross_offsets.h of them.
 */
#include "runtime/half/gate.h"

void cross_offsets(void);

void cross_offsets(void)
{
    __asm__ volatile("\n#define GATE_ADDR_VALUE %0" ::"i"(GATE_ADDR));
    __asm__ volatile("\n#define GATE_GENERATION %0" ::"i"(offsetof(struct gate, generation)));
    __asm__ volatile("\n#define GATE_TLS_UPPER_FS %0" ::"i"(offsetof(struct gate, tls_upper_fs)));
    __asm__ volatile("\n#define GATE_POST %0" ::"i"(offsetof(struct gate, post)));
    __asm__ volatile("\n#define GATE_SIGNAL_RETURN %0" ::"i"(
        offsetof(struct gate, signal_return)));
    __asm__ volatile("\n#define GATE_MODE %0" ::"i"(offsetof(struct gate, mode)));
    __asm__ volatile("\n#define GATE_MODE_REPLAY %0" ::"i"(GATE_REPLAY));
    __asm__ volatile("\n#define GATE_KERNEL_VDSO %0" ::"i"(offsetof(struct gate, kernel_vdso)));
    __asm__ volatile("\n#define GATE_VDSO %0" ::"i"(offsetof(struct gate, vdso)));
}
