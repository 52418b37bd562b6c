/*
 * layout_io.c - the portable form of a layout
 *
 * Words of 8 bytes, little endian. Nodes are numbered in order; a node names only earlier ones, the
 * last one is the layout. One that is used several times stands once.
 *
 *     magic  version  nodes  { kind  ... }
 *
 *     BASIC    size align class
 *     LOOP     count stride disp of
 *     LIST     n { disp count of } * n
 *     RESIZED  lb ub of
 *
 * Reading goes through the functions that make nodes, so bounds are computed anew and what cannot
 * be is refused.
 */
#include <errno.h>
#include <string.h>

#include "msgcounter/layout/layout_impl.h"

#define MAGIC   0x545941334742444c /* "LDBG3AYT" */
#define VERSION 1

/* ------------------------------------------------------------------------------------ writing */

/* Numbers of the nodes written so far: an open-addressed table of node addresses. */
struct writer {
    const struct layout_alloc *alloc;
    unsigned char *out;
    size_t at, cap; /* bytes; at goes on beyond cap, so that the length is known */
    const struct layout **keys;
    uint32_t *numbers;
    size_t slots; /* a power of two */
    uint32_t nodes;
};

static void put(struct writer *w, uint64_t word)
{
    if (w->cap >= 8 && w->at <= w->cap - 8)
        for (int i = 0; i < 8; i++)
            w->out[w->at + (size_t)i] = (unsigned char)(word >> 8 * i);
    w->at += 8;
}

static size_t slot_of(const struct writer *w, const struct layout *l)
{
    size_t i = (size_t)(((uintptr_t)l >> 4) * 0x9e3779b97f4a7c15) & (w->slots - 1);
    while (w->keys[i] && w->keys[i] != l)
        i = (i + 1) & (w->slots - 1);
    return i;
}

static void drop_table(struct writer *w)
{
    w->alloc->free(w->alloc->arg, w->keys);
    w->alloc->free(w->alloc->arg, w->numbers);
}

static int grow(struct writer *w)
{
    struct writer old = *w;
    w->slots = old.slots ? 2 * old.slots : 64;
    w->keys = w->alloc->alloc(w->alloc->arg, w->slots * sizeof *w->keys);
    w->numbers = w->alloc->alloc(w->alloc->arg, w->slots * sizeof *w->numbers);
    if (!w->keys || !w->numbers) {
        drop_table(w);
        *w = old;
        return -ENOMEM;
    }
    memset(w->keys, 0, w->slots * sizeof *w->keys);
    for (size_t i = 0; i < old.slots; i++) {
        if (!old.keys[i])
            continue;
        size_t to = slot_of(w, old.keys[i]);
        w->keys[to] = old.keys[i];
        w->numbers[to] = old.numbers[i];
    }
    if (old.slots)
        drop_table(&old);
    return 0;
}

static uint32_t number_of(const struct writer *w, const struct layout *l)
{
    return w->numbers[slot_of(w, l)];
}

static int write_node(struct writer *w, const struct layout *l);

static int write_children(struct writer *w, const struct layout *l)
{
    int rc = 0;
    if (l->kind == LAYOUT_LOOP)
        return write_node(w, l->loop.of);
    if (l->kind == LAYOUT_RESIZED)
        return write_node(w, l->of);
    if (l->kind == LAYOUT_LIST)
        for (int64_t i = 0; i < l->list.n && rc == 0; i++)
            rc = write_node(w, l->list.items[i].of);
    return rc;
}

/* Writes a node after its children, unless it is written already. */
static int write_node(struct writer *w, const struct layout *l)
{
    if (w->slots && w->keys[slot_of(w, l)])
        return 0;
    int rc = write_children(w, l);
    if (rc == 0 && (w->nodes + 1) * (size_t)2 > w->slots)
        rc = grow(w);
    if (rc < 0)
        return rc;
    put(w, l->kind);
    switch (l->kind) {
    case LAYOUT_BASIC:
        put(w, (uint64_t)l->bounds.size);
        put(w, (uint64_t)l->align);
        put(w, l->class);
        break;
    case LAYOUT_LOOP:
        put(w, (uint64_t)l->loop.count);
        put(w, (uint64_t)l->loop.stride);
        put(w, (uint64_t)l->loop.disp);
        put(w, number_of(w, l->loop.of));
        break;
    case LAYOUT_LIST:
        put(w, (uint64_t)l->list.n);
        for (int64_t i = 0; i < l->list.n; i++) {
            put(w, (uint64_t)l->list.items[i].disp);
            put(w, (uint64_t)l->list.items[i].count);
            put(w, number_of(w, l->list.items[i].of));
        }
        break;
    default:
        put(w, (uint64_t)l->bounds.lb);
        put(w, (uint64_t)l->bounds.ub);
        put(w, number_of(w, l->of));
        break;
    }
    size_t slot = slot_of(w, l);
    w->keys[slot] = l;
    w->numbers[slot] = w->nodes++;
    return 0;
}

static int64_t write_all(const struct layout *l, void *out, size_t cap)
{
    struct writer w = {.alloc = l->alloc, .out = out, .cap = cap};
    put(&w, MAGIC);
    put(&w, VERSION);
    put(&w, 0);
    int rc = write_node(&w, l);
    size_t size = w.at;
    w.at = 16;
    put(&w, w.nodes);
    if (w.slots)
        drop_table(&w);
    return rc < 0 ? rc : (int64_t)size;
}

int64_t layout_written_size(const struct layout *l)
{
    return write_all(l, NULL, 0);
}

int64_t layout_write(const struct layout *l, void *out, size_t cap)
{
    int64_t n = write_all(l, out, cap);
    return n > 0 && (uint64_t)n > cap ? -ENOBUFS : n;
}

/* ------------------------------------------------------------------------------------ reading */

struct reader {
    const struct layout_alloc *alloc;
    const unsigned char *in;
    size_t left; /* bytes */
    bool bad;    /* read beyond the end, or a node that is not there */
    struct layout **nodes;
    uint64_t done; /* nodes made */
};

static uint64_t get(struct reader *r)
{
    uint64_t word = 0;
    if (r->left < 8) {
        r->bad = true;
        return 0;
    }
    for (int i = 0; i < 8; i++)
        word |= (uint64_t)r->in[i] << 8 * i;
    r->in += 8;
    r->left -= 8;
    return word;
}

/* A node that was made before, or NULL. */
static struct layout *get_node(struct reader *r)
{
    uint64_t i = get(r);
    if (i < r->done)
        return r->nodes[i];
    r->bad = true;
    return NULL;
}

static int read_list(struct reader *r, struct layout **out)
{
    uint64_t n = get(r);
    if (n > r->left / 24)
        return -EINVAL;
    struct layout_item *items = r->alloc->alloc(r->alloc->arg, (n ? n : 1) * sizeof *items);
    if (!items)
        return -ENOMEM;
    for (uint64_t i = 0; i < n; i++) {
        items[i].disp = (int64_t)get(r);
        items[i].count = (int64_t)get(r);
        items[i].of = get_node(r);
        r->bad |= items[i].count < 0;
    }
    int rc = r->bad ? -EINVAL : layout_make_list(out, r->alloc, (int64_t)n, items);
    r->alloc->free(r->alloc->arg, items);
    return rc;
}

static int read_node(struct reader *r, struct layout **out)
{
    uint64_t kind = get(r), a, b, c;
    struct layout *of;
    switch (kind) {
    case LAYOUT_BASIC:
        a = get(r), b = get(r), c = get(r);
        return r->bad || c > UINT32_MAX
                   ? -EINVAL
                   : layout_basic(out, r->alloc, (int64_t)a, (int64_t)b, (uint32_t)c);
    case LAYOUT_LOOP:
        a = get(r), b = get(r), c = get(r), of = get_node(r);
        return r->bad ? -EINVAL : layout_make_loop(out, (int64_t)a, (int64_t)b, (int64_t)c, of);
    case LAYOUT_LIST:
        return read_list(r, out);
    case LAYOUT_RESIZED:
        a = get(r), b = get(r), of = get_node(r);
        return r->bad ? -EINVAL : layout_make_resized(out, (int64_t)a, (int64_t)b, of);
    default:
        return -EINVAL;
    }
}

int layout_read(struct layout **out, const struct layout_alloc *a, const void *in, size_t len)
{
    struct reader r = {.alloc = layout_alloc_or_default(a), .in = in, .left = len};
    if (get(&r) != MAGIC || get(&r) != VERSION)
        return -EINVAL;
    uint64_t n = get(&r);
    if (n == 0 || n > r.left / 16) /* the smallest node is an empty list */
        return -EINVAL;
    r.nodes = r.alloc->alloc(r.alloc->arg, n * sizeof *r.nodes);
    if (!r.nodes)
        return -ENOMEM;
    int rc = 0;
    while (rc == 0 && r.done < n)
        if ((rc = read_node(&r, &r.nodes[r.done])) == 0)
            r.done++;
    if (rc == 0 && r.left)
        rc = -EINVAL;
    if (rc == 0)
        *out = layout_dup(r.nodes[n - 1]);
    while (r.done > 0)
        layout_free(r.nodes[--r.done]);
    r.alloc->free(r.alloc->arg, r.nodes);
    return rc == -ENOMEM || rc == 0 ? rc : -EINVAL;
}
