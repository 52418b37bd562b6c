/* fuzz_proto.c - whatever decodes must encode to the same bytes */
#include <stdlib.h>
#include <string.h>

#include "runtime/coord/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint64_t *in = malloc(size + 8), *out = malloc(size + 8);
    struct proto_msg msg;
    char text[256];
    memcpy(in, data, size);
    ssize_t n = proto_decode(in, size, &msg, NULL);
    if (n > 0) {
        if (proto_encode(&msg, out, (size_t)n, NULL) != n)
            abort();
        proto_text(&msg, text, sizeof text);
    }
    free(in);
    free(out);
    return 0;
}
