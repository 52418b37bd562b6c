/*
 * fuzz_pack.c - a bundle of any bytes, as they are and as the content of a zstd frame, is unpacked
 * without harm
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zstd.h>

#include "runtime/pack/bundle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t cap = ZSTD_compressBound(size);
    void *frame = malloc(cap);
    size_t n = ZSTD_compress(frame, cap, data, size, 1);
    for (int packed = 0; packed < 2; packed++) {
        char dir[] = "/tmp/fuzz_pack.XXXXXX", path[64];
        int fd = memfd_create("bundle", MFD_CLOEXEC);
        if (!frame || fd < 0 || !mkdtemp(dir) ||
            write(fd, packed ? frame : data, packed ? n : size) != (ssize_t)(packed ? n : size))
            abort();
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        bundle_unpack(path, dir, NULL, NULL);
        bundle_remove(dir);
        close(fd);
    }
    free(frame);
    return 0;
}
