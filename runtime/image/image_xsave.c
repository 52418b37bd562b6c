/*
 * image_xsave.c - where the components of an XSAVE area are: here, and where GDB looks for them
 */
#include "runtime/image/image_xsave.h"

#include <cpuid.h>
#include <stdbool.h>
#include <string.h>

#define HEADER   512u /* XSTATE_BV: the components that are not in their initial state */
#define PKRU     9u   /* the last component that GDB knows ... */
#define PKRU_END 2696u

/* Upper halves of ymm0 to 15; bnd0 to 3; bndcfgu, bndstatus; k0 to 7; upper halves of zmm0 to 15;
 * zmm16 to 31; pkru. Intel SDM volume 1, 13.5. */
static const unsigned component_size[16] = {
    [2] = 256, [3] = 64, [4] = 64, [5] = 64, [6] = 512, [7] = 1024, [PKRU] = 8};

/* GDB 13: X86_XSTATE_AVX_SIZE and so on in gdbsupport/x86-xstate.h, offsets in i387-tdep.c. */
const image_xsave_offsets image_xsave_gdb = {
    [2] = 576, [3] = 960, [4] = 1024, [5] = 1088, [6] = 1152, [7] = 1664, [PKRU] = 2688};

const unsigned *image_xsave_here(void)
{
    static image_xsave_offsets at; /* CPUID is slow in a virtual machine */
    unsigned bytes, flags, unused;
    for (unsigned i = PKRU; i >= 2 && !at[2]; i--) /* every processor with XSAVE has 2 */
        __cpuid_count(0xd, i, bytes, at[i], flags, unused);
    return at;
}

size_t image_xsave_move(uint8_t *to, const unsigned *to_at, const uint8_t *from, size_t size,
                        const unsigned *from_at, uint64_t features)
{
    size_t end = IMAGE_XSAVE_EXTENDED;
    for (unsigned i = 2; i <= PKRU; i++) {
        size_t n = component_size[i];
        if (!(features >> i & 1) || !n || !to_at[i] || !from_at[i] || from_at[i] > size ||
            n > size - from_at[i])
            continue;
        memcpy(to + to_at[i], from + from_at[i], n);
        end = to_at[i] + n > end ? to_at[i] + n : end;
    }
    return end;
}

/* Are they where GDB looks? */
static bool is_known(const unsigned *at, uint64_t features)
{
    for (unsigned i = 2; i <= PKRU; i++)
        if (features >> i & 1 && component_size[i] && at[i] != image_xsave_gdb[i])
            return false;
    return true;
}

/* Bytes without what is behind PKRU in its initial state. */
static size_t used(const uint8_t *area, size_t size)
{
    uint64_t bv;
    if (size <= PKRU_END)
        return size;
    memcpy(&bv, area + HEADER, sizeof bv);
    return bv & ~(uint64_t)IMAGE_XSAVE_KNOWN ? size : PKRU_END;
}

void image_xsave_add(struct codec_bytes *out, uint64_t features, const uint8_t *area, size_t size,
                     const unsigned *at)
{
    uint8_t moved[PKRU_END] = {0};
    if (size >= IMAGE_XSAVE_EXTENDED && !is_known(at, features)) {
        memcpy(moved, area, IMAGE_XSAVE_EXTENDED);
        size = image_xsave_move(moved, image_xsave_gdb, area, size, at, features);
        area = moved;
    }
    codec_bytes_add(out, area + IMAGE_XSAVE_LEGACY, used(area, size) - IMAGE_XSAVE_LEGACY);
}
