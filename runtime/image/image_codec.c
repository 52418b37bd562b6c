/*
 * image_codec.c - one function per structure that both writes and reads it
 */
#include "runtime/image/image_codec.h"

#include <stdlib.h>
#include <string.h>

struct codec_block {
    struct codec_block *next;
    max_align_t data[];
};

void *codec_alloc(struct codec_arena *arena, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes) ||
        __builtin_add_overflow(bytes, sizeof(struct codec_block), &bytes))
        return NULL;
    struct codec_block *block = calloc(1, bytes);
    if (!block)
        return NULL;
    block->next = arena->blocks;
    arena->blocks = block;
    return block->data;
}

void codec_release(struct codec_arena *arena)
{
    while (arena->blocks) {
        struct codec_block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
}

static uint8_t *codec_bytes_grow(struct codec_bytes *b, size_t len)
{
    if (b->failed)
        return NULL;
    if (b->cap - b->len < len) {
        size_t cap = b->cap + b->cap / 2 + len + 256;
        uint8_t *data = realloc(b->data, cap);
        if (!data) {
            b->failed = true;
            return NULL;
        }
        b->data = data;
        b->cap = cap;
    }
    uint8_t *at = b->data + b->len;
    b->len += len;
    return at;
}

void codec_bytes_add(struct codec_bytes *b, const void *data, size_t len)
{
    uint8_t *at = len ? codec_bytes_grow(b, len) : NULL;
    if (at)
        memcpy(at, data, len);
}

void codec_bytes_pad(struct codec_bytes *b, size_t align)
{
    size_t pad = (align - b->len % align) % align;
    uint8_t *at = pad ? codec_bytes_grow(b, pad) : NULL;
    if (at)
        memset(at, 0, pad);
}

void codec_bytes_release(struct codec_bytes *b)
{
    free(b->data);
    *b = (struct codec_bytes){0};
}

/* Input of n bytes that stay where they are; NULL after an error. */
static const uint8_t *take(struct codec *c, size_t n)
{
    if (c->failed || n > c->left) {
        c->failed = true;
        return NULL;
    }
    const uint8_t *p = c->in;
    c->in += n;
    c->left -= n;
    return p;
}

void code_raw(struct codec *c, void *p, size_t n)
{
    if (n == 0)
        return;
    if (c->out) {
        codec_bytes_add(c->out, p, n);
        return;
    }
    const uint8_t *in = take(c, n);
    if (in)
        memcpy(p, in, n);
    else
        memset(p, 0, n);
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "integers are stored as they are in memory");

void code_u8(struct codec *c, uint8_t *v)
{
    code_raw(c, v, sizeof *v);
}

void code_u32(struct codec *c, uint32_t *v)
{
    code_raw(c, v, sizeof *v);
}

void code_i32(struct codec *c, int32_t *v)
{
    code_raw(c, v, sizeof *v);
}

void code_u64(struct codec *c, uint64_t *v)
{
    code_raw(c, v, sizeof *v);
}

void code_bool(struct codec *c, bool *v)
{
    uint8_t byte = c->out ? *v : 0;
    code_u8(c, &byte);
    if (!c->out)
        *v = byte != 0;
}

/* Stored as length + 1 (0: NULL), text, NUL: so that the reader can lend it as it stands. */
void code_string(struct codec *c, const char **s)
{
    uint32_t stored = c->out && *s ? (uint32_t)strlen(*s) + 1 : 0;
    code_u32(c, &stored);
    if (c->out) {
        codec_bytes_add(c->out, *s, stored);
        return;
    }
    const char *text = stored ? (const char *)take(c, stored) : NULL;
    if (text && strnlen(text, stored) != stored - 1) {
        c->failed = true;
        text = NULL;
    }
    *s = text;
}

void code_blob(struct codec *c, const uint8_t **p, size_t *n)
{
    uint64_t size = c->out ? *n : 0;
    code_u64(c, &size);
    if (c->out) {
        codec_bytes_add(c->out, *p, size);
        return;
    }
    const uint8_t *in = take(c, size);
    *p = size ? in : NULL;
    *n = in ? size : 0;
}

void code_array(struct codec *c, void **array, size_t *n, size_t size,
                void (*element)(struct codec *c, void *e))
{
    uint64_t count = c->out ? *n : 0;
    code_u64(c, &count);
    if (!c->out) {
        /* Each element takes a byte at least: a wild count cannot make us allocate wildly. */
        *array = c->failed || count > c->left ? NULL : codec_alloc(c->arena, count, size);
        if (!*array) {
            c->failed = true;
            *n = 0;
            return;
        }
        *n = count;
    }
    for (uint64_t i = 0; i < count && !c->failed; i++)
        element(c, (char *)*array + i * size);
}
