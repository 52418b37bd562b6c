/*
 * vectors.h - vector registers in a signal frame that another processor has made
 */
#ifndef DBG3_CKPT_VECTORS_H
#define DBG3_CKPT_VECTORS_H

#include <stdint.h>
#include <ucontext.h>

#include "runtime/image/image.h"

/* What the kernel says of a frame's XSAVE area, inside of its FXSAVE part (asm/sigcontext.h, which
 * goes with no header of libc). Behind the area there is a second magic word. */
struct vectors_software {
    uint32_t magic, extended_size; /* bytes: with the second word */
    uint64_t features;
    uint32_t size; /* bytes */
    uint32_t reserved[7];
};
#define VECTORS_SOFTWARE_AT 464
#define VECTORS_MAGIC       0x46505853u
#define VECTORS_MAGIC_2     0x46505845u

/*
 * rt_sigreturn(2) takes the frame's XSAVE area for one of this processor. Where components have
 * other places here, or some do not exist, makes another area of what the image says of the thread:
 * in place, or if that is too small, before `free`, below which the thread's stack is not in use.
 */
void vectors_adapt(ucontext_t *frame, const struct image_thread *t, uint64_t free);

#endif
