/*
 * layout_copy.c - pack, unpack and digest
 *
 * One walk over the tree turns `count` layouts at an address into runs: `blocks` blocks of equal
 * length at equal distance. What is done with a run is the sink's business. The walk ends early
 * when the sink has had its bytes.
 */
#include <errno.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "msgcounter/layout/layout_impl.h"

#define STAGE_SIZE  4096 /* bytes that the digest gathers before it hashes */
#define DIRECT_SIZE 512  /* blocks from this size on are hashed where they are */

struct sink {
    void (*run)(struct sink *s, unsigned char *p, int64_t length, int64_t blocks, int64_t stride);
    int64_t left; /* bytes still wanted */
};

static void emit(struct sink *s, unsigned char *p, int64_t length, int64_t blocks, int64_t stride)
{
    int64_t whole = s->left / length;
    if (whole >= blocks) {
        s->run(s, p, length, blocks, stride);
        s->left -= length * blocks;
        return;
    }
    if (whole)
        s->run(s, p, length, whole, stride);
    int64_t part = s->left - whole * length;
    if (part)
        s->run(s, p + whole * stride, part, 1, 0);
    s->left = 0;
}

static void walk(struct sink *s, const struct layout *l, unsigned char *base);

/* `count` of them, the first at base. */
static void walk_row(struct sink *s, const struct layout *of, unsigned char *base, int64_t count,
                     int64_t stride)
{
    int64_t size = of->bounds.size;
    if (size == 0 || count == 0)
        return;
    if (!of->dense)
        for (int64_t i = 0; i < count && s->left > 0; i++)
            walk(s, of, base + i * stride);
    else if (count == 1 || stride == size)
        emit(s, base + of->bounds.true_lb, size * count, 1, 0);
    else
        emit(s, base + of->bounds.true_lb, size, count, stride);
}

static void walk(struct sink *s, const struct layout *l, unsigned char *base)
{
    while (l->kind == LAYOUT_RESIZED)
        l = l->of;
    if (l->dense) {
        walk_row(s, l, base, 1, 0);
    } else if (l->kind == LAYOUT_LOOP) {
        walk_row(s, l->loop.of, base + l->loop.disp, l->loop.count, l->loop.stride);
    } else {
        const struct layout_item *it = l->list.items, *end = it + l->list.n;
        for (; it < end && s->left > 0; it++)
            walk_row(s, it->of, base + it->disp, it->count, layout_extent(it->of));
    }
}

const void *layout_piece(const struct layout *l, int64_t count, const void *base)
{
    bool whole = l->dense && (count == 1 || layout_extent(l) == l->bounds.size);
    return whole ? (const unsigned char *)base + l->bounds.true_lb : NULL;
}

/* -------------------------------------------------------------------------------- pack, unpack */

/* The lengths that matter get a loop of their own, with moves instead of calls. */
#define COPY_BLOCKS(n)                                                                             \
    for (int64_t i = 0; i < blocks; i++, to += to_stride, from += from_stride)                     \
    memcpy(to, from, (size_t)(n))

static void copy_blocks(unsigned char *to, int64_t to_stride, const unsigned char *from,
                        int64_t from_stride, int64_t length, int64_t blocks)
{
    switch (length) {
    case 4:
        COPY_BLOCKS(4);
        break;
    case 8:
        COPY_BLOCKS(8);
        break;
    case 16:
        COPY_BLOCKS(16);
        break;
    case 24:
        COPY_BLOCKS(24);
        break;
    default:
        COPY_BLOCKS(length);
        break;
    }
}

struct copy {
    struct sink sink;
    unsigned char *packed;
};

static void run_pack(struct sink *s, unsigned char *p, int64_t length, int64_t blocks,
                     int64_t stride)
{
    struct copy *c = (struct copy *)s;
    copy_blocks(c->packed, length, p, stride, length, blocks);
    c->packed += length * blocks;
}

static void run_unpack(struct sink *s, unsigned char *p, int64_t length, int64_t blocks,
                       int64_t stride)
{
    struct copy *c = (struct copy *)s;
    copy_blocks(p, stride, c->packed, length, length, blocks);
    c->packed += length * blocks;
}

int64_t layout_packed_size(const struct layout *l, int64_t count)
{
    int64_t size;
    if (count < 0)
        return -EINVAL;
    return __builtin_mul_overflow(count, l->bounds.size, &size) ? -EOVERFLOW : size;
}

int64_t layout_pack(const struct layout *l, int64_t count, const void *base, void *out, size_t cap)
{
    int64_t size = layout_packed_size(l, count);
    if (size < 0)
        return size;
    if ((uint64_t)size > cap)
        return -ENOBUFS;
    struct copy c = {{run_pack, size}, out};
    walk_row(&c.sink, l, (unsigned char *)base, count, layout_extent(l));
    return size;
}

void layout_pack_first(const struct layout *l, const void *base, void *out, size_t len)
{
    struct copy c = {{run_pack, (int64_t)len}, out};
    int64_t count = l->bounds.size ? (int64_t)len / l->bounds.size + 1 : 0;
    walk_row(&c.sink, l, (unsigned char *)base, count, layout_extent(l));
}

int64_t layout_unpack(const struct layout *l, int64_t count, void *base, const void *in, size_t len)
{
    int64_t size = layout_packed_size(l, count);
    if (size < 0)
        return size;
    if (len > (uint64_t)size)
        return -EMSGSIZE;
    if (len == 0)
        return 0;
    struct copy c = {{run_unpack, (int64_t)len}, (unsigned char *)in};
    walk_row(&c.sink, l, base, count, layout_extent(l));
    return (int64_t)len;
}

/* ------------------------------------------------------------------------------------- digest */

struct digest {
    struct sink sink;
    XXH3_state_t state;
    size_t staged;
    unsigned char stage[STAGE_SIZE];
};

static void digest_flush(struct digest *d)
{
    XXH3_64bits_update(&d->state, d->stage, d->staged);
    d->staged = 0;
}

static void run_digest(struct sink *s, unsigned char *p, int64_t length, int64_t blocks,
                       int64_t stride)
{
    struct digest *d = (struct digest *)s;
    while (blocks > 0) {
        int64_t room = (STAGE_SIZE - (int64_t)d->staged) / length;
        int64_t n = room < blocks ? room : blocks;
        if (n == 0 || length >= DIRECT_SIZE) {
            digest_flush(d);
            if (length < DIRECT_SIZE)
                continue;
            XXH3_64bits_update(&d->state, p, (size_t)length);
            n = 1;
        } else {
            copy_blocks(d->stage + d->staged, length, p, stride, length, n);
            d->staged += (size_t)(n * length);
        }
        p += n * stride;
        blocks -= n;
    }
}

/* Apart, so that the common contiguous case does not pay for this frame. */
static __attribute__((noinline)) uint64_t digest_walk(const struct layout *l, int64_t count,
                                                      const void *base)
{
    struct digest d;
    d.sink = (struct sink){run_digest, l->bounds.size * count};
    d.staged = 0;
    XXH3_64bits_reset(&d.state);
    walk_row(&d.sink, l, (unsigned char *)base, count, layout_extent(l));
    digest_flush(&d);
    return XXH3_64bits_digest(&d.state);
}

uint64_t layout_digest(const struct layout *l, int64_t count, const void *base)
{
    int64_t size = layout_packed_size(l, count);
    if (size <= 0)
        return XXH3_64bits(NULL, 0);
    const void *piece = layout_piece(l, count, base);
    return piece ? XXH3_64bits(piece, (size_t)size) : digest_walk(l, count, base);
}

/* ----------------------------------------------------------------------------------- elements */

/* Whole elements in the first `bytes` bytes of one, bytes <= size. */
static int64_t elements_in(const struct layout *l, int64_t bytes);

static int64_t elements_in_row(const struct layout *of, int64_t bytes)
{
    int64_t size = of->bounds.size;
    return size == 0 ? 0 : bytes / size * of->elements + elements_in(of, bytes % size);
}

static int64_t elements_in(const struct layout *l, int64_t bytes)
{
    while (l->kind == LAYOUT_RESIZED)
        l = l->of;
    if (bytes == 0 || bytes == l->bounds.size)
        return bytes ? l->elements : 0;
    if (l->kind == LAYOUT_BASIC)
        return 0;
    if (l->kind == LAYOUT_LOOP)
        return elements_in_row(l->loop.of, bytes);
    int64_t sum = 0;
    for (const struct layout_item *it = l->list.items; bytes > 0; it++) {
        int64_t size = it->of->bounds.size * it->count;
        int64_t here = bytes < size ? bytes : size;
        sum += elements_in_row(it->of, here);
        bytes -= here;
    }
    return sum;
}

int64_t layout_elements(const struct layout *l, int64_t bytes)
{
    return bytes > 0 ? elements_in_row(l, bytes) : 0;
}
