/*
 * layout_node.c - the nodes of a layout: memory, references, bounds, normal form
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "msgcounter/layout/layout_impl.h"

static void *default_alloc(void *arg, size_t size)
{
    return malloc(size);
}

static void default_free(void *arg, void *p)
{
    free(p);
}

const struct layout_alloc *layout_alloc_or_default(const struct layout_alloc *a)
{
    static const struct layout_alloc by_malloc = {default_alloc, default_free, NULL};
    return a ? a : &by_malloc;
}

/* -------------------------------------------------------- arithmetic that remembers an overflow */

static int64_t add(int64_t a, int64_t b, bool *over)
{
    int64_t r;
    *over |= __builtin_add_overflow(a, b, &r);
    return r;
}

static int64_t mul(int64_t a, int64_t b, bool *over)
{
    int64_t r;
    *over |= __builtin_mul_overflow(a, b, &r);
    return r;
}

static int64_t min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* Bounds of `count` copies of b, the first at disp. count > 0. */
static struct layout_bounds repeat(const struct layout_bounds *b, int64_t count, int64_t stride,
                                   int64_t disp, bool *over)
{
    int64_t last = mul(count - 1, stride, over);
    int64_t lo = add(disp, min(0, last), over), hi = add(disp, max(0, last), over);
    struct layout_bounds r = {
        .size = mul(count, b->size, over),
        .lb = add(b->lb, lo, over),
        .ub = add(b->ub, hi, over),
        .true_lb = add(b->true_lb, lo, over),
        .true_ub = add(b->true_ub, hi, over),
    };
    if (b->size == 0)
        r.true_lb = r.true_ub = 0;
    int64_t unused;
    *over |= __builtin_sub_overflow(r.ub, r.lb, &unused) ||
             __builtin_sub_overflow(r.true_ub, r.true_lb, &unused);
    return r;
}

/* Extends *all by b, the bounds of one more part. */
static void unite(struct layout_bounds *all, const struct layout_bounds *b, bool first, bool *over)
{
    if (first) {
        *all = *b;
        return;
    }
    all->size = add(all->size, b->size, over);
    all->lb = min(all->lb, b->lb);
    all->ub = max(all->ub, b->ub);
    all->true_lb = min(all->true_lb, b->true_lb);
    all->true_ub = max(all->true_ub, b->true_ub);
    int64_t unused;
    *over |= __builtin_sub_overflow(all->ub, all->lb, &unused) ||
             __builtin_sub_overflow(all->true_ub, all->true_lb, &unused);
}

/* -------------------------------------------------------------------------------------- nodes */

/* A copy of *node in memory of its own, with one reference. */
static int make(struct layout **out, const struct layout *node)
{
    struct layout *l = node->alloc->alloc(node->alloc->arg, sizeof *l);
    if (!l)
        return -ENOMEM;
    *l = *node;
    l->refs = 1;
    *out = l;
    return 0;
}

struct layout *layout_dup(struct layout *l)
{
    __atomic_add_fetch(&l->refs, 1, __ATOMIC_RELAXED);
    return l;
}

void layout_free(struct layout *l)
{
    if (!l || __atomic_sub_fetch(&l->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    switch (l->kind) {
    case LAYOUT_LOOP:
        layout_free(l->loop.of);
        break;
    case LAYOUT_LIST:
        for (int64_t i = 0; i < l->list.n; i++)
            layout_free(l->list.items[i].of);
        l->alloc->free(l->alloc->arg, l->list.items);
        break;
    case LAYOUT_RESIZED:
        layout_free(l->of);
        break;
    default:
        break;
    }
    l->alloc->free(l->alloc->arg, l);
}

struct layout_bounds layout_bounds(const struct layout *l)
{
    return l->bounds;
}

int layout_basic(struct layout **out, const struct layout_alloc *a, int64_t size, int64_t align,
                 uint32_t class)
{
    if (size < 0 || align < 1 || (align & (align - 1)))
        return -EINVAL;
    struct layout node = {
        .alloc = layout_alloc_or_default(a),
        .kind = LAYOUT_BASIC,
        .depth = 1,
        .dense = true,
        .bounds = {.size = size, .ub = size, .true_ub = size},
        .align = align,
        .elements = size > 0,
        .class = class,
    };
    return make(out, &node);
}

int layout_make_resized(struct layout **out, int64_t lb, int64_t ub, struct layout *of)
{
    int64_t unused;
    if (__builtin_sub_overflow(ub, lb, &unused))
        return -EOVERFLOW;
    while (of->kind == LAYOUT_RESIZED)
        of = of->of;
    if (lb == of->bounds.lb && ub == of->bounds.ub) {
        *out = layout_dup(of);
        return 0;
    }
    if (of->depth == LAYOUT_DEPTH_MAX)
        return -ELOOP;
    struct layout node = *of;
    node.kind = LAYOUT_RESIZED;
    node.depth = (uint8_t)(of->depth + 1);
    node.bounds.lb = lb;
    node.bounds.ub = ub;
    node.of = of;
    int rc = make(out, &node);
    if (rc == 0)
        layout_dup(of);
    return rc;
}

/* An empty layout: all bounds are 0, as MPICH has it. */
static int make_empty(struct layout **out, const struct layout_alloc *a)
{
    struct layout node = {.alloc = a, .kind = LAYOUT_LIST, .depth = 1, .dense = true, .align = 1};
    return make(out, &node);
}

int layout_make_loop(struct layout **out, int64_t count, int64_t stride, int64_t disp,
                     struct layout *of)
{
    if (count < 0)
        return -EINVAL;
    if (count == 0)
        return make_empty(out, of->alloc);
    if (count == 1)
        stride = 0;
    if (count == 1 && disp == 0) {
        *out = layout_dup(of);
        return 0;
    }
    if (of->depth == LAYOUT_DEPTH_MAX)
        return -ELOOP;
    bool over = false;
    struct layout node = {
        .alloc = of->alloc,
        .kind = LAYOUT_LOOP,
        .depth = (uint8_t)(of->depth + 1),
        .dense = of->dense && (count == 1 || stride == of->bounds.size),
        .bounds = repeat(&of->bounds, count, stride, disp, &over),
        .align = of->align,
        .elements = mul(count, of->elements, &over),
        .loop = {count, stride, disp, of},
    };
    if (over)
        return -EOVERFLOW;
    int rc = make(out, &node);
    if (rc == 0)
        layout_dup(of);
    return rc;
}

/* -------------------------------------------------------------------------------------- lists */

/* Drops empty items and joins those that continue the one before. Returns how many remain. */
static int64_t join_items(struct layout_item *items, int64_t n, bool *over)
{
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++) {
        const struct layout_item *it = &items[i];
        struct layout_item *last = kept ? &items[kept - 1] : NULL;
        if (it->count == 0)
            continue;
        bool far = false; /* an end that overflows is nobody's neighbour; bounds will complain */
        if (last && last->of == it->of &&
            add(last->disp, mul(last->count, layout_extent(it->of), &far), &far) == it->disp &&
            !far)
            last->count = add(last->count, it->count, over);
        else
            items[kept++] = *it;
    }
    return kept;
}

/* Whether the items are equal and equally spaced; *stride is the space. n > 1. */
static bool regular(const struct layout_item *items, int64_t n, int64_t *stride)
{
    if (__builtin_sub_overflow(items[1].disp, items[0].disp, stride))
        return false;
    for (int64_t i = 1; i < n; i++) {
        int64_t step;
        if (items[i].of != items[0].of || items[i].count != items[0].count ||
            __builtin_sub_overflow(items[i].disp, items[i - 1].disp, &step) || step != *stride)
            return false;
    }
    return true;
}

static int make_regular(struct layout **out, const struct layout_item *first, int64_t n,
                        int64_t stride)
{
    struct layout *block;
    int rc = layout_make_loop(&block, first->count, layout_extent(first->of), 0, first->of);
    if (rc < 0)
        return rc;
    rc = layout_make_loop(out, n, stride, first->disp, block);
    layout_free(block);
    return rc;
}

/* Fills in what follows from the items. */
static int describe_list(struct layout *node, const struct layout_item *items, int64_t n)
{
    bool over = false;
    int64_t end = 0;
    node->align = 1;
    node->dense = true;
    for (int64_t i = 0; i < n; i++) {
        const struct layout *of = items[i].of;
        int64_t extent = layout_extent(of);
        struct layout_bounds b = repeat(&of->bounds, items[i].count, extent, items[i].disp, &over);
        unite(&node->bounds, &b, i == 0, &over);
        node->elements = add(node->elements, mul(items[i].count, of->elements, &over), &over);
        node->align = max(node->align, of->align);
        node->dense = node->dense && of->dense && (i == 0 || b.true_lb == end) &&
                      (items[i].count == 1 || extent == of->bounds.size);
        end = b.true_ub;
        if (of->depth == LAYOUT_DEPTH_MAX)
            return -ELOOP;
        if (node->depth <= of->depth)
            node->depth = (uint8_t)(of->depth + 1);
    }
    return over ? -EOVERFLOW : 0;
}

int layout_make_list(struct layout **out, const struct layout_alloc *a, int64_t n,
                     struct layout_item *items)
{
    bool over = false;
    n = join_items(items, n, &over);
    if (over)
        return -EOVERFLOW;
    if (n == 0)
        return make_empty(out, a);
    if (n == 1)
        return layout_make_loop(out, items->count, layout_extent(items->of), items->disp,
                                items->of);
    int64_t stride;
    if (regular(items, n, &stride))
        return make_regular(out, items, n, stride);

    struct layout node = {.alloc = a, .kind = LAYOUT_LIST, .list = {.n = n}};
    int rc = describe_list(&node, items, n);
    if (rc < 0)
        return rc;
    size_t bytes = (size_t)n * sizeof *items;
    node.list.items = a->alloc(a->arg, bytes);
    if (!node.list.items)
        return -ENOMEM;
    memcpy(node.list.items, items, bytes);
    rc = make(out, &node);
    if (rc < 0) {
        a->free(a->arg, node.list.items);
        return rc;
    }
    for (int64_t i = 0; i < n; i++)
        layout_dup(items[i].of);
    return 0;
}
