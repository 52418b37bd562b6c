/*
 * fuzz_maps.c - any bytes as /proc/PID/maps
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/half/maps.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct maps maps;
    char *text = strndup((const char *)data, size);
    if (text && maps_parse(&maps, text, NULL) == 0)
        maps_free(&maps);
    else
        free(text);
    return 0;
}
