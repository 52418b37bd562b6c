/*
 * image_codec.h - one function per structure that both writes and reads it
 *
 * A codec is either writing (appends to a growing buffer) or reading (walks a bounded one). Each
 * code_*() call writes the value it is given or replaces it by what was read, so that the order and
 * width of a structure's fields stand once. Little-endian, unaligned.
 *
 * Errors are sticky: after the first one nothing is read or written any more, reads yield zero, and
 * `failed` says so at the end. Strings and bytes that were read point into the input; arrays are
 * allocated from the arena.
 */
#ifndef DBG3_IMAGE_CODEC_H
#define DBG3_IMAGE_CODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Memory that lives until the arena is released. */
struct codec_block;
struct codec_arena {
    struct codec_block *blocks;
};
void *codec_alloc(struct codec_arena *arena, size_t count,
                  size_t size); /* zeroed; NULL: out of memory */
void codec_release(struct codec_arena *arena);

/* A growing byte buffer. */
struct codec_bytes {
    uint8_t *data;
    size_t len, cap;
    bool failed; /* out of memory */
};
void codec_bytes_add(struct codec_bytes *b, const void *data, size_t len);
void codec_bytes_pad(struct codec_bytes *b, size_t align); /* zeroes up to a multiple of align */
void codec_bytes_release(struct codec_bytes *b);

struct codec {
    struct codec_bytes *out; /* writing, else NULL */
    const uint8_t *in;       /* reading */
    size_t left;
    struct codec_arena *arena;
    bool failed;
};

void code_raw(struct codec *c, void *p, size_t n);
void code_u8(struct codec *c, uint8_t *v);
void code_u32(struct codec *c, uint32_t *v);
void code_i32(struct codec *c, int32_t *v);
void code_u64(struct codec *c, uint64_t *v);
void code_bool(struct codec *c, bool *v);
void code_string(struct codec *c, const char **s); /* NULL stays NULL */
void code_blob(struct codec *c, const uint8_t **p, size_t *n);

/* An array of structures of `size` bytes, each coded by `element`. */
void code_array(struct codec *c, void **array, size_t *n, size_t size,
                void (*element)(struct codec *c, void *e));

#endif
