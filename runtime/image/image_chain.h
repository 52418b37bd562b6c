/*
 * image_chain.h - an opened chain of images; private to runtime/image
 */
#ifndef DBG3_IMAGE_CHAIN_H
#define DBG3_IMAGE_CHAIN_H

#include "runtime/image/image_format.h"

/* One file, opened and checked. */
struct image_link {
    char *path;
    int fd;
    struct image_header header;
    uint8_t *notes; /* the state points into it */
    struct image_sum *sums;
    struct image_extents extents; /* sorted by memory address */
    struct image_state state;
    struct codec_arena arena;
};

struct image_pieces {
    struct image_piece *list;
    size_t count, cap;
};

struct image {
    struct image_link **chain; /* [0] is the newest */
    size_t length;
    struct image_pieces pieces, steps;
    struct image_range *mapped;
    size_t nmapped;
    char *file_path; /* last file that image_read() opened, with file_fd */
    int file_fd;
};

/* Opens one file, without its parents. lock: LOCK_SH or LOCK_EX; writable opens it for writing. */
struct image_link *image_link_open(const char *path, int lock, bool writable, struct err *err);
void image_link_close(struct image_link *link);

/* Checks the checksums of the link's pages. */
int image_link_verify(const struct image_link *link, struct err *err);

/* Extents with content in order of file offset, malloc'ed; NULL with ENOMEM in err. */
struct image_extent *image_extents_by_offset(const struct image_extents *extents, size_t *count,
                                             struct err *err);

/* XXH3-128 of chunk i of the file: of the data pages in it. by_offset as above; `buffer` has
 * IMAGE_CHUNK bytes. 0, or -1 with errno. */
int image_chunk_sum(int fd, const struct image_extent *by_offset, size_t count, size_t i,
                    uint8_t *buffer, struct image_sum *sum);

/* Resolves the chain into image->pieces and image->steps. */
int image_resolve(struct image *image, struct err *err);

/* Index of the first piece that ends after addr. */
size_t image_piece_after(const struct image *image, uint64_t addr);

#endif
