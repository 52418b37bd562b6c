/*
 * steer.h - keeps the lower half's memory above the split
 *
 * "Below GATE_ADDR" is the whole definition of what a checkpoint saves, so the lower half's own
 * mmap, mremap, shmat, brk must never land there, and the kernel must never place a mapping of the
 * upper half above. Two means:
 *
 *   arena    [LOWER_ARENA_ADDR, LOWER_ARENA_END), fenced with PROT_NONE from the start; the system
 *   calls
 *            of the lower half's libc and ld.so are patched at their `mov $nr,%eax; syscall` sites
 *            to
 *            come here and are given places inside it. What they unmap becomes fence again.
 *   fences   every other free gap above GATE_ADDR becomes PROT_NONE.
 *
 * Patching the sites rather than exported symbols catches ld.so too, whose private mmap serves
 * dlopen.
 */
#ifndef DBG3_HALF_STEER_H
#define DBG3_HALF_STEER_H

#include "runtime/base/err.h"

/* Patches the lower half's libc and ld.so and fences the arena. Call once, single-threaded, before
 * steer_fence(). Returns 0, or -1 with *err when a needed site cannot be found. */
int steer_install(struct err *err);

/* Fences all other gaps above GATE_ADDR. From here on the kernel places new mappings below it. */
int steer_fence(struct err *err);

#endif
