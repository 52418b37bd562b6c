/*
 * fuzz_order.c - a chain of two segments of any bytes is read and printed without harm
 */
#include <stdlib.h>
#include <string.h>

#include "msgcounter/log/order_dump.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct order_map maps[2];
    size_t half = size / 2;
    FILE *null = fopen("/dev/null", "w");
    bool good = null != NULL;
    for (int i = 0; i < 2; i++) {
        size_t n = i ? size - half : half;
        void *copy = malloc(n + 1); /* of its own, so that a step outside shows */
        memcpy(copy, data + (i ? half : 0), n);
        maps[i] = (struct order_map){copy, n};
        good &= order_fault(maps[i]) == NULL;
    }
    for (int json = 0; json < 2 && good; json++)
        order_dump(maps, 2, null, &(struct order_dump_opts){.json = json}, NULL);
    free((void *)maps[0].segment);
    free((void *)maps[1].segment);
    return null ? fclose(null) : 0;
}
