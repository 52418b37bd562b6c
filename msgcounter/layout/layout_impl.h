/*
 * layout_impl.h - the tree behind a layout; for the .c files of this folder
 *
 *     BASIC    `size` bytes at 0
 *     LOOP     `of` at disp, disp + stride, ... `count` times
 *     LIST     for each item: `of` at disp, disp + extent(of), ... `count` times
 *     RESIZED  `of` with other lb and ub
 *
 * Invariants: nodes are built by the functions below only, which normalise: what could be a LOOP is
 * no LIST, no item has count 0, neighbouring items of one layout are one. `bounds`, `dense`,
 * `align`, `elements` and `depth` follow from the rest.
 */
#ifndef DBG3_MSGCOUNTER_LAYOUT_IMPL_H
#define DBG3_MSGCOUNTER_LAYOUT_IMPL_H

#include <stdbool.h>

#include "msgcounter/layout/layout.h"

enum layout_kind { LAYOUT_BASIC = 1, LAYOUT_LOOP, LAYOUT_LIST, LAYOUT_RESIZED };

struct layout_item {
    int64_t disp; /* bytes */
    int64_t count;
    struct layout *of;
};

struct layout {
    const struct layout_alloc *alloc;
    uint32_t refs; /* atomic */
    uint8_t kind;
    uint8_t depth; /* 1 for a leaf */
    bool dense;    /* the packed bytes are the memory from true_lb to true_ub, in order */
    struct layout_bounds bounds;
    int64_t align;
    int64_t elements; /* basic ones */
    union {
        uint32_t class;
        struct {
            int64_t count, stride, disp;
            struct layout *of;
        } loop;
        struct {
            int64_t n;
            struct layout_item *items;
        } list;
        struct layout *of; /* RESIZED */
    };
};

static inline int64_t layout_extent(const struct layout *l)
{
    return l->bounds.ub - l->bounds.lb;
}

/* malloc if a is NULL. */
const struct layout_alloc *layout_alloc_or_default(const struct layout_alloc *a);

/* These take references of their own on the layouts they are given, and return 0 or -errno. */
int layout_make_loop(struct layout **out, int64_t count, int64_t stride, int64_t disp,
                     struct layout *of);
/* Changes the array `items`, which stays the caller's. */
int layout_make_list(struct layout **out, const struct layout_alloc *a, int64_t n,
                     struct layout_item *items);
int layout_make_resized(struct layout **out, int64_t lb, int64_t ub, struct layout *of);

#endif
