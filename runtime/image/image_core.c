/*
 * image_core.c - a chain of images as one full image
 *
 * The writer writes it: the chain is its page source.
 */
#include <errno.h>

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
