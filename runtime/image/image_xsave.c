/*
 * image_xsave.c - a thread's vector registers, where GDB looks for them
 */
#include "runtime/image/image_xsave.h"

#include <cpuid.h>
#include <stdbool.h>
#include <string.h>

#define HEADER   512u /* XSTATE_BV: the components that are not in their initial state */
#define EXTENDED 576u /* the first component behind x87 and SSE */
#define PKRU     9u   /* the last component that GDB knows ... */
#define PKRU_END 2696u

/* GDB 13: X86_XSTATE_AVX_SIZE and so on in gdbsupport/x86-xstate.h, offsets in i387-tdep.c. */
static const struct {
    unsigned number, offset, size;
} known[] = {
    {2, 576, 256},   /* upper halves of ymm0 to 15 */
    {3, 960, 64},    /* bnd0 to 3 */
    {4, 1024, 64},   /* bndcfgu, bndstatus */
    {5, 1088, 64},   /* k0 to 7 */
    {6, 1152, 512},  /* upper halves of zmm0 to 15 */
    {7, 1664, 1024}, /* zmm16 to 31 */
    {PKRU, 2688, 8},
};
#define NKNOWN (sizeof known / sizeof known[0])

static bool is_known(const unsigned offset[16], uint64_t features)
{
    for (size_t i = 0; i < NKNOWN; i++)
        if (features >> known[i].number & 1 && offset[known[i].number] != known[i].offset)
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
    return bv >> (PKRU + 1) ? size : PKRU_END;
}

void image_xsave_add_from(struct codec_bytes *out, uint64_t features, const uint8_t *area,
                          size_t size, const unsigned offset[16])
{
    uint8_t arranged[PKRU_END] = {0};
    size_t end = EXTENDED;
    if (size < EXTENDED || is_known(offset, features)) {
        codec_bytes_add(out, area + IMAGE_XSAVE_LEGACY, used(area, size) - IMAGE_XSAVE_LEGACY);
        return;
    }
    memcpy(arranged, area, EXTENDED);
    for (size_t i = 0; i < NKNOWN; i++) {
        unsigned from = offset[known[i].number];
        if (!(features >> known[i].number & 1) || from > size || known[i].size > size - from)
            continue;
        memcpy(arranged + known[i].offset, area + from, known[i].size);
        end = known[i].offset + known[i].size;
    }
    codec_bytes_add(out, arranged + IMAGE_XSAVE_LEGACY, end - IMAGE_XSAVE_LEGACY);
}

void image_xsave_add(struct codec_bytes *out, uint64_t features, const uint8_t *area, size_t size)
{
    static unsigned offset[16]; /* [2] is never 0; in a virtual machine CPUID is slow */
    unsigned bytes, flags, unused;
    for (unsigned i = 16; i-- > 2 && !offset[2];)
        __cpuid_count(0xd, i, bytes, offset[i], flags, unused);
    image_xsave_add_from(out, features, area, size, offset);
}
