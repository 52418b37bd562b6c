/*
 * image_core.c - a chain of images, or the newer part of it, as one image
 *
 * The writer writes it: the chain is its page source.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/image/image_chain.h"

struct flatten {
    struct image *image;
    bool with_files;
    struct err err; /* of the last read that failed */
};

static int flatten_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
    struct flatten *f = ctx;
    if (image_read(f->image, addr, buf, len, &f->err) == 0)
        return 0;
    errno = f->err.code ? f->err.code : EIO;
    return -1;
}

/*
 * Pages that have content. In a file mapping (private_only) a page of zeros differs from the file's
 * and has to be read as well: the writer finds out that it is zero.
 */
static ssize_t flatten_populated(void *ctx, uint64_t start, uint64_t end, bool private_only,
                                 struct image_range *out, size_t max, uint64_t *walked)
{
    struct flatten *f = ctx;
    size_t count, n = 0;
    const struct image_piece *p = image_pieces(f->image, &count);
    for (size_t i = image_piece_after(f->image, start); i < count && p[i].start < end; i++) {
        bool content = p[i].kind == IMAGE_PIECE_IMAGE ||
                       (p[i].kind == IMAGE_PIECE_ZERO && private_only) ||
                       (p[i].kind == IMAGE_PIECE_FILE && f->with_files);
        if (!content)
            continue;
        if (n == max) {
            *walked = p[i].start;
            return (ssize_t)n;
        }
        out[n].start = p[i].start > start ? p[i].start : start;
        out[n++].end = p[i].end < end ? p[i].end : end;
    }
    *walked = end;
    return (ssize_t)n;
}

int image_core(struct image *image, const char *out, bool with_files, struct image_written *written,
               struct err *err)
{
    struct flatten f = {.image = image, .with_files = with_files};
    struct image_source source = {.read = flatten_read, .populated = flatten_populated, .ctx = &f};
    struct image_state state = *image_state(image);
    if (state.kind == IMAGE_INCREMENTAL)
        state.kind = IMAGE_FULL;
    state.parent = NULL;
    state.parent_id = state.id = (struct image_id){{0}};
    if (image_write(out, &state, &source, NULL, written, err) == 0)
        return 0;
    if (f.err.text[0]) /* says more than that memory could not be read */
        image_err_code(err, f.err.code, "%s", f.err.text);
    return -1;
}

/* ---- the newer part of a chain ---- */

struct ranges {
    struct image_range *list;
    size_t count, cap;
};

static int add_range(struct ranges *r, uint64_t start, uint64_t end)
{
    if (r->count && r->list[r->count - 1].end == start) {
        r->list[r->count - 1].end = end;
        return 0;
    }
    if (r->count == r->cap) {
        size_t cap = r->cap ? 2 * r->cap : 64;
        struct image_range *list = reallocarray(r->list, cap, sizeof *list);
        if (!list)
            return -1;
        r->list = list;
        r->cap = cap;
    }
    r->list[r->count++] = (struct image_range){start, end};
    return 0;
}

/* Both hold `at`. */
static bool same_content(const struct image_piece *a, const struct image_piece *b, uint64_t at)
{
    if (a->kind != b->kind)
        return false;
    if (a->kind == IMAGE_PIECE_ZERO)
        return true;
    return a->depth == b->depth && a->offset + (at - a->start) == b->offset + (at - b->start);
}

/* Where the content is not what the older images alone would show. Both lists cover chain[0]'s
 * regions, and nothing else. */
static int find_changes(const struct image_pieces *now, const struct image_pieces *older,
                        struct ranges *out)
{
    size_t i = 0, k = 0;
    uint64_t at = 0;
    while (i < now->count && k < older->count) {
        const struct image_piece *a = &now->list[i], *b = &older->list[k];
        at = a->start > at ? a->start : at;
        uint64_t end = a->end < b->end ? a->end : b->end;
        if (!same_content(a, b, at) && add_range(out, at, end) < 0)
            return -1;
        at = end;
        i += a->end == end;
        k += b->end == end;
    }
    return 0;
}

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

int image_merge(struct image *image, size_t last, const char *out, struct image_written *written,
                struct err *err)
{
    struct flatten f = {.image = image};
    struct image_source source = {.read = flatten_read, .populated = flatten_populated, .ctx = &f};
    struct image_state state = *image_state(image);
    struct image_write_options options = {.uncached = true};
    struct image_pieces older = {0};
    struct ranges changed = {0};
    int rc = 0;
    bool whole = last + 1 >= image->length;
    image->uncached = true;
    state.kind = whole ? IMAGE_FULL : IMAGE_INCREMENTAL;
    state.parent = whole ? NULL : file_name(image->chain[last + 1]->path);
    state.parent_id = whole ? (struct image_id){{0}} : image->chain[last]->header.parent_id;
    if (!whole && (image_resolve_older(image, last + 1, &older) < 0 ||
                   find_changes(&image->pieces, &older, &changed) < 0))
        rc = image_err_code(err, ENOMEM, "%s: out of memory", out);
    options.changed = changed.list;
    options.nchanged = changed.count;
    if (rc == 0 && image_write(out, &state, &source, &options, written, err) < 0)
        rc = f.err.text[0] ? image_err_code(err, f.err.code, "%s", f.err.text) : -1;
    free(older.list);
    free(changed.list);
    return rc;
}
