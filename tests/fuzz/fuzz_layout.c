/*
 * fuzz_layout.c - any bytes are refused or become a layout that is written, packed and unpacked
 */
#include <stdlib.h>
#include <string.h>

#include "msgcounter/layout/layout.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static unsigned char out[1 << 16], packed[1 << 16], memory[1 << 16];
    struct layout *l, *again;
    if (layout_read(&l, NULL, data, size) < 0)
        return 0;
    int64_t n = layout_write(l, out, sizeof out);
    if (n > 0) {
        if (layout_read(&again, NULL, out, (size_t)n) < 0 ||
            layout_write(again, packed, sizeof packed) != n || memcmp(out, packed, (size_t)n))
            abort();
        layout_free(again);
    }
    struct layout_bounds b = layout_bounds(l);
    layout_elements(l, b.size / 2);
    if (b.true_ub - b.true_lb <= (int64_t)sizeof memory && b.size <= (int64_t)sizeof packed &&
        b.true_lb > INT32_MIN && b.true_lb < INT32_MAX) {
        unsigned char *base = (unsigned char *)((uintptr_t)memory - (uintptr_t)b.true_lb);
        if (layout_pack(l, 1, base, packed, sizeof packed) != b.size ||
            layout_unpack(l, 1, base, packed, (size_t)b.size / 2) != b.size / 2)
            abort();
        layout_digest(l, 1, base);
    }
    layout_free(l);
    return 0;
}
