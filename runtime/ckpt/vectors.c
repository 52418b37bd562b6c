/*
 * vectors.c - vector registers in a signal frame that another processor has made
 *
 * The kernel looks at the size only. Too large, it restores no more than x87 and SSE; else it reads
 * components wherever this processor has them (arch/x86/kernel/fpu/signal.c).
 */
#include "runtime/ckpt/vectors.h"

#include <cpuid.h>
#include <string.h>

#include "runtime/image/image_xsave.h"

#define AREA_ALIGN 64

/* Components that the kernel lets programs use here. */
static uint64_t enabled(void)
{
    uint32_t low = 3, high = 0, a, b, c, d;
    __cpuid(1, a, b, c, d);
    if (c & bit_OSXSAVE)
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Size of the area of these features that this processor would have, in the standard format. */
static size_t size_here(uint64_t features)
{
    unsigned bytes, offset, flags, unused;
    size_t size = IMAGE_XSAVE_EXTENDED;
    for (unsigned i = 2; i < 63; i++) {
        if (!(features >> i & 1))
            continue;
        __cpuid_count(0xd, i, bytes, offset, flags, unused);
        size = offset + bytes > size ? offset + bytes : size;
    }
    return size;
}

static void fill(uint8_t *area, const uint8_t *legacy, const struct image_thread *t,
                 uint64_t features, size_t size)
{
    const uint32_t magic = VECTORS_MAGIC_2;
    const struct vectors_software software = {.magic = VECTORS_MAGIC,
                                              .extended_size = (uint32_t)(size + sizeof magic),
                                              .features = features,
                                              .size = (uint32_t)size};
    uint64_t in_use;
    memmove(area, legacy, IMAGE_XSAVE_LEGACY);
    memcpy(area + VECTORS_SOFTWARE_AT, &software, sizeof software);
    memcpy(&in_use, t->xsave + IMAGE_XSAVE_LEGACY, sizeof in_use);
    in_use &= features;
    memset(area + IMAGE_XSAVE_LEGACY, 0, size - IMAGE_XSAVE_LEGACY);
    memcpy(area + IMAGE_XSAVE_LEGACY, &in_use, sizeof in_use);
    image_xsave_move(area, image_xsave_here(), t->xsave, t->xsave_size, image_xsave_gdb, features);
    memcpy(area + size, &magic, sizeof magic);
}

void vectors_adapt(ucontext_t *frame, const struct image_thread *t, uint64_t free)
{
    struct vectors_software was = {0};
    uint8_t *area = (uint8_t *)frame->uc_mcontext.fpregs;
    if (area)
        memcpy(&was, area + VECTORS_SOFTWARE_AT, sizeof was);
    if (was.magic != VECTORS_MAGIC || !t->xsave || t->xsave_size < IMAGE_XSAVE_EXTENDED)
        return;
    uint64_t features = was.features & enabled();
    if (features == was.features && size_here(features) == was.size)
        return;
    features &= IMAGE_XSAVE_KNOWN;
    size_t size = size_here(features);
    uint8_t *to = area;
    if (size > was.size)
        to = (uint8_t *)((free - size - sizeof was.magic) & ~(uint64_t)(AREA_ALIGN - 1));
    fill(to, area, t, features, size);
    frame->uc_mcontext.fpregs = (void *)to;
}
