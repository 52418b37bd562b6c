/*
 * save_kept.h - the parts of a save, and what one leaves for the next; private to save*.c
 */
#ifndef DBG3_CKPT_SAVE_KEPT_H
#define DBG3_CKPT_SAVE_KEPT_H

#include "runtime/ckpt/save.h"

/* The text of /proc/self/maps up to the split. */
struct save_map_text {
    int fd;
    char *now, *last; /* not NUL-terminated; last: that the regions were made of */
    size_t now_len, last_len, cap;
};

int save_map_text_open(struct save_map_text *text, struct err *err);

/* What image_write_options.mapped wants. */
const struct image_range *save_mapped_ranges(size_t *n);

struct save_kept {
    struct save_map_text maps;
    struct save_regions regions;
    struct image_source source;
    struct image_writer *writer;
};

#endif
