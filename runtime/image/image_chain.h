/*
 * image_chain.h - an opened chain of images; private to runtime/image
 */
#ifndef DBG3_IMAGE_CHAIN_H
#define DBG3_IMAGE_CHAIN_H

#include "runtime/image/image_format.h"

/* One image, opened and checked. */
struct image_link {
    char *path;
    int fd;
    bool owns_fd; /* else it is that of a newer increment in the same segment */
    int uncached_fd; /* the same file past the page cache; -1: none yet, or it cannot be had */
    uint64_t at;  /* where it begins in the file; offsets in header and extents count from there */
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
    char *root;      /* before the paths of mapped files, or NULL */
    char *file_path; /* last file that image_read() opened, with file_fd */
    int file_fd;
    bool uncached; /* image_read() leaves no pages of large images in the page cache; its buffers
                    * and lengths are whole pages */
};

void image_link_close(struct image_link *link);

/* ---- names (image_segment.c) ---- */

/* A path as it names an increment of a segment. */
struct image_name {
    const char *path;
    size_t file_len; /* of the part that is the segment's own path */
    uint64_t number; /* behind '@'; 0: the newest */
};

/* False: it is a file's. */
bool image_name_parse(const char *path, struct image_name *name);

/* What holds the increment of that name after a merge: malloc'ed; NULL if it is a file's name. */
char *image_name_merged(const char *path);

/* ---- resolving (image_plan.c) ---- */

/* Pieces of chain[first] and older alone, cut to the regions of chain[0]: what an increment on
 * chain[first] that tells nothing would show. `out` is empty before. 0, or -1: no memory. */
int image_resolve_older(const struct image *image, size_t first, struct image_pieces *out);

/* Resolves the chain into image->pieces and image->steps. */
int image_resolve(struct image *image, struct err *err);

/* Index of the first piece that ends after addr. */
size_t image_piece_after(const struct image *image, uint64_t addr);

#endif
