/*
 * fuzz_image.c - an image or segment of any bytes is opened, verified, dumped, read without harm
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "runtime/image/image_format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64], page[IMAGE_PAGE];
    int fd = memfd_create("image", MFD_CLOEXEC);
    FILE *null = fopen("/dev/null", "w");
    if (fd < 0 || !null || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    struct image *image = image_open(path, NULL);
    size_t n = 0;
    const struct image_piece *pieces = image ? image_pieces(image, &n) : NULL;
    for (size_t i = 0; i < n && pieces[i].kind != IMAGE_PIECE_FILE; i++)
        image_read(image, pieces[i].start, page, sizeof page, NULL);
    if (image)
        image_dump(image, null, false, NULL);
    image_close(image);
    image_verify(path, NULL);
    struct image_increment *list = NULL;
    image_segment_scan(fd, "00000001.inc", &list, &n, NULL);
    free(list);
    return fclose(null) | close(fd);
}
