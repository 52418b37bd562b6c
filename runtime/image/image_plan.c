/*
 * image_plan.c - where the content of each page is, and how to map it
 *
 * The chain is resolved from the oldest image to the newest: the pieces so far are cut to the
 * regions of the next image and overlaid with its extents. What neither covers is the region's
 * fill.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/image/image_chain.h"

#define PATCH_MAX  65536u /* larger pieces are mapped */
#define ZERO_SHARE 16u /* a hole is cleared in place if that many times its size lies around it */

#define UNCACHED_READ_MIN (256u << 10)

static uint64_t piece_size(const struct image_piece *p)
{
    return p->end - p->start;
}

static int add_piece(struct image_pieces *pieces, struct image_piece piece)
{
    if (pieces->count == pieces->cap) {
        size_t cap = pieces->cap ? pieces->cap * 2 : 64;
        struct image_piece *list = reallocarray(pieces->list, cap, sizeof *list);
        if (!list)
            return -1;
        pieces->list = list;
        pieces->cap = cap;
    }
    pieces->list[pieces->count++] = piece;
    return 0;
}

/* True if b's content, in memory after a's start, lies in the same place as a's, as far from it. */
static bool same_run(const struct image_piece *a, const struct image_piece *b)
{
    if (a->region != b->region || a->kind != b->kind)
        return false;
    if (a->kind == IMAGE_PIECE_ZERO)
        return true;
    return a->depth == b->depth && b->offset - a->offset == b->start - a->start;
}

static int join_piece(struct image_pieces *pieces, struct image_piece piece)
{
    struct image_piece *last = pieces->count ? &pieces->list[pieces->count - 1] : NULL;
    if (piece.start >= piece.end)
        return 0;
    if (last && last->end == piece.start && same_run(last, &piece)) {
        last->end = piece.end;
        return 0;
    }
    return add_piece(pieces, piece);
}

/* ---- pieces ---- */

static int add_fill(struct image_pieces *out, const struct image_region *r, uint64_t start,
                    uint64_t end)
{
    struct image_piece piece = {.start = start, .end = end, .region = r};
    piece.kind = r->fill == IMAGE_FILL_FILE ? IMAGE_PIECE_FILE : IMAGE_PIECE_ZERO;
    if (r->fill == IMAGE_FILL_FILE)
        piece.offset = r->offset + (start - r->start);
    return join_piece(out, piece);
}

/* Memory that this image does not tell: what the older ones say, else the fill. *o walks the old
 * list. */
static int add_older(struct image_pieces *out, const struct image_pieces *old, size_t *o,
                     const struct image_region *r, uint64_t start, uint64_t end)
{
    while (start < end) {
        while (*o < old->count && old->list[*o].end <= start)
            ++*o;
        const struct image_piece *p = *o < old->count ? &old->list[*o] : NULL;
        uint64_t from = p && p->start < end ? p->start : end;
        if (from > start) {
            if (add_fill(out, r, start, from) < 0)
                return -1;
            start = from;
            continue;
        }
        struct image_piece piece = *p;
        piece.region = r;
        piece.start = start;
        piece.end = p->end < end ? p->end : end;
        if (piece.kind == IMAGE_PIECE_IMAGE)
            piece.offset += start - p->start;
        int rc = piece.kind == IMAGE_PIECE_FILE ? add_fill(out, r, piece.start, piece.end)
                                                : join_piece(out, piece);
        if (rc < 0)
            return -1;
        start = piece.end;
    }
    return 0;
}

static int add_extent(struct image_pieces *out, const struct image_region *r,
                      const struct image_extent *e, uint64_t at, uint32_t depth)
{
    if (e->kind == IMAGE_EXTENT_FILE)
        return add_fill(out, r, e->start, e->end);
    bool data = e->kind == IMAGE_EXTENT_DATA;
    return join_piece(out, (struct image_piece){
                               .start = e->start,
                               .end = e->end,
                               .kind = data ? IMAGE_PIECE_IMAGE : IMAGE_PIECE_ZERO,
                               .depth = data ? depth : 0,
                               .offset = data ? at + e->offset : 0,
                               .region = r,
                           });
}

static int overlay(struct image_pieces *out, const struct image_pieces *old,
                   const struct image_link *l, uint32_t depth)
{
    size_t o = 0, x = 0;
    for (size_t i = 0; i < l->state.nregions; i++) {
        const struct image_region *r = &l->state.regions[i];
        uint64_t at = r->start;
        for (; x < l->extents.count && l->extents.list[x].start < r->end; x++) {
            const struct image_extent *e = &l->extents.list[x];
            if (add_older(out, old, &o, r, at, e->start) < 0 ||
                add_extent(out, r, e, l->at, depth) < 0)
                return -1;
            at = e->end;
        }
        if (add_older(out, old, &o, r, at, r->end) < 0)
            return -1;
    }
    return 0;
}

/* ---- steps ---- */

/* True if `base` may be mapped on behind its end: up to `end` its file has bytes. */
static bool can_extend(const struct image *image, const struct image_piece *base, uint64_t end)
{
    if (base->kind == IMAGE_PIECE_ZERO)
        return true;
    if (base->kind != IMAGE_PIECE_IMAGE)
        return false;
    const struct image_link *l = image->chain[base->depth];
    return base->offset + (end - base->start) <= l->at + l->header.file_size;
}

/* A step that maps, and how much of it is its own content. */
struct base {
    size_t index;
    uint64_t own;
    bool valid;
};

/* True if the piece is better read into the present base than mapped by itself. */
static bool is_patch(const struct image *image, const struct base *base,
                     const struct image_piece *p)
{
    const struct image_piece *b = &image->steps.list[base->index];
    if (!base->valid || b->region != p->region || b->end != p->start ||
        p->kind == IMAGE_PIECE_FILE || !can_extend(image, b, p->end))
        return false;
    if ((p->region->flags & IMAGE_REGION_SHARED) && b->kind == IMAGE_PIECE_ZERO)
        return true;
    if (p->kind == IMAGE_PIECE_ZERO)
        return piece_size(p) < PATCH_MAX && piece_size(p) * ZERO_SHARE <= base->own;
    return piece_size(p) < PATCH_MAX;
}

static int add_step(struct image *image, struct base *base, const struct image_piece *p)
{
    struct image_pieces *steps = &image->steps;
    struct image_piece *b = base->valid ? &steps->list[base->index] : NULL;
    if (b && b->end == p->start && same_run(b, p)) {
        b->end = p->end;
        base->own += piece_size(p);
        return 0;
    }
    struct image_piece step = *p;
    if (is_patch(image, base, p)) {
        b->end = p->end;
        step.patch = true;
        if (p->kind == IMAGE_PIECE_ZERO)
            base->own -= piece_size(p) * ZERO_SHARE;
        return add_piece(steps, step);
    }
    *base = (struct base){.index = steps->count, .own = piece_size(p), .valid = true};
    return add_piece(steps, step);
}

/* Shared anonymous memory has to be one mapping: an empty base first, everything else in patches.
 */
static int add_shared_base(struct image *image, struct base *base, const struct image_region *r)
{
    *base = (struct base){.index = image->steps.count, .valid = true};
    struct image_piece piece = {
        .start = r->start, .end = r->start, .kind = IMAGE_PIECE_ZERO, .region = r};
    return add_piece(&image->steps, piece);
}

static int build_steps(struct image *image)
{
    struct base base = {0};
    const struct image_region *region = NULL;
    for (size_t i = 0; i < image->pieces.count; i++) {
        const struct image_piece *p = &image->pieces.list[i];
        bool shared =
            (p->region->flags & IMAGE_REGION_SHARED) && p->region->fill != IMAGE_FILL_FILE;
        if (p->region != region && shared && add_shared_base(image, &base, p->region) < 0)
            return -1;
        region = p->region;
        if (add_step(image, &base, p) < 0)
            return -1;
    }
    return 0;
}

static int build_mapped(struct image *image)
{
    size_t n = 0;
    image->mapped = calloc(image->steps.count + 1, sizeof *image->mapped);
    if (!image->mapped)
        return -1;
    for (size_t i = 0; i < image->steps.count; i++) {
        const struct image_piece *s = &image->steps.list[i];
        if (s->patch || s->kind != IMAGE_PIECE_IMAGE)
            continue;
        if (n && image->mapped[n - 1].end == s->start)
            image->mapped[n - 1].end = s->end;
        else
            image->mapped[n++] = (struct image_range){s->start, s->end};
    }
    image->nmapped = n;
    return 0;
}

/* From the oldest to chain[first]. */
static int resolve_from(const struct image *image, size_t first, struct image_pieces *pieces)
{
    for (size_t k = image->length; k-- > first;) {
        struct image_pieces next = {0};
        int rc = overlay(&next, pieces, image->chain[k], (uint32_t)k);
        free(pieces->list);
        *pieces = next;
        if (rc < 0)
            return -1;
    }
    return 0;
}

int image_resolve_older(const struct image *image, size_t first, struct image_pieces *out)
{
    struct image_pieces older = {0};
    struct image_link untold = {.state = image->chain[0]->state};
    int rc = resolve_from(image, first, &older);
    if (rc == 0)
        rc = overlay(out, &older, &untold, 0);
    free(older.list);
    return rc;
}

int image_resolve(struct image *image, struct err *err)
{
    if (resolve_from(image, 0, &image->pieces) < 0)
        return image_err_code(err, ENOMEM, "%s: out of memory", image->chain[0]->path);
    if (build_steps(image) < 0 || build_mapped(image) < 0)
        return image_err_code(err, ENOMEM, "%s: out of memory", image->chain[0]->path);
    return 0;
}

const struct image_piece *image_pieces(const struct image *image, size_t *count)
{
    *count = image->pieces.count;
    return image->pieces.list;
}

const struct image_piece *image_steps(const struct image *image, size_t *count)
{
    *count = image->steps.count;
    return image->steps.list;
}

const struct image_range *image_mapped(const struct image *image, size_t *count)
{
    *count = image->nmapped;
    return image->mapped;
}

/* ---- reading ---- */

void image_set_root(struct image *image, const char *root)
{
    free(image->root);
    image->root = root ? strdup(root) : NULL;
}

/* Is it the file that was mapped? By its build-id or, if it has none, by its reaching up to offset
 * `end`. 0, or -1 with *err. */
static int check_region_file(const struct image_region *r, const char *path, int fd, uint64_t end,
                             struct err *err)
{
    struct stat st;
    uint8_t id[IMAGE_BUILD_ID_MAX];
    if (fstat(fd, &st) < 0)
        return err_sys(err, "cannot stat %s", path);
    if (r->build_id_len && (image_build_id(path, id) != r->build_id_len ||
                            memcmp(id, r->build_id, r->build_id_len)))
        return image_err_code(err, ESTALE,
                              "%s: it is not the file that was mapped: its build-id differs", path);
    if (r->build_id_len == 0 && S_ISREG(st.st_mode) &&
        (uint64_t)st.st_size + IMAGE_PAGE - 1 < end)
        return image_err_code(err, ESTALE,
                              "%s: it is shorter (%lld bytes) than what was mapped of it", path,
                              (long long)st.st_size);
    return 0;
}

static int open_region_file(const struct image *image, const struct image_region *r, uint64_t end,
                            int flags, struct err *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s%s", image->root ? image->root : "", r->path);
    int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_sys(err, "cannot open %s, which was mapped", path);
    if (check_region_file(r, path, fd, end, err) == 0)
        return fd;
    close(fd);
    return -1;
}

/* The file of a region, kept open for the next read. */
static int cached_file(struct image *image, const struct image_region *r, uint64_t end,
                       struct err *err)
{
    if (image->file_path && strcmp(image->file_path, r->path) == 0)
        return image->file_fd;
    if (image->file_fd >= 0)
        close(image->file_fd);
    free(image->file_path);
    image->file_path = NULL;
    image->file_fd = open_region_file(image, r, end, O_RDONLY, err);
    if (image->file_fd >= 0)
        image->file_path = strdup(r->path);
    return image->file_fd;
}

/* Bytes behind the end of a mapped file read as zero. */
static int read_file_part(int fd, void *buf, size_t len, uint64_t offset)
{
    char *p = buf;
    while (len) {
        ssize_t n = pread(fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0) {
            memset(p, 0, len);
            return 0;
        }
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

/* From an image that was written past the page cache, in pieces that are worth a read of their own;
 * the kernel reads ahead for smaller ones. What fails once is not tried again. */
static bool read_uncached(struct image *image, struct image_link *l, void *buf, size_t len,
                          uint64_t offset)
{
    if (!image->uncached || len < UNCACHED_READ_MIN || l->header.file_size < IMAGE_UNCACHED_MIN)
        return false;
    if (l->uncached_fd < 0) {
        char path[64];
        snprintf(path, sizeof path, "/proc/thread-self/fd/%d", l->fd);
        l->uncached_fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
    }
    image->uncached =
        l->uncached_fd >= 0 && image_pread_all(l->uncached_fd, buf, len, offset) == 0;
    return image->uncached;
}

static int read_piece(struct image *image, const struct image_piece *p, uint64_t addr, void *buf,
                      size_t len, struct err *err)
{
    uint64_t offset = p->offset + (addr - p->start);
    if (p->kind == IMAGE_PIECE_ZERO) {
        memset(buf, 0, len);
        return 0;
    }
    if (p->kind == IMAGE_PIECE_IMAGE) {
        struct image_link *l = image->chain[p->depth];
        if (!read_uncached(image, l, buf, len, offset) &&
            image_pread_all(l->fd, buf, len, offset) < 0)
            return err_sys(err, "cannot read %s", l->path);
        return 0;
    }
    int fd = cached_file(image, p->region, offset + len, err);
    if (fd < 0)
        return -1;
    if (read_file_part(fd, buf, len, offset) < 0)
        return err_sys(err, "cannot read %s", p->region->path);
    return 0;
}

size_t image_piece_after(const struct image *image, uint64_t addr)
{
    size_t low = 0, high = image->pieces.count;
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (image->pieces.list[mid].end <= addr)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

int image_read(struct image *image, uint64_t addr, void *buf, size_t len, struct err *err)
{
    size_t i = image_piece_after(image, addr);
    char *out = buf;
    while (len) {
        const struct image_piece *p = i < image->pieces.count ? &image->pieces.list[i++] : NULL;
        if (!p || p->start > addr)
            return image_err_code(err, EFAULT, "%s: no memory at %#llx", image->chain[0]->path,
                                  (unsigned long long)addr);
        size_t n = p->end - addr < len ? p->end - addr : len;
        if (read_piece(image, p, addr, out, n, err) < 0)
            return -1;
        addr += n;
        out += n;
        len -= n;
    }
    return 0;
}

/* ---- mapping ---- */

static int map_failed(const struct image_piece *s, struct err *err)
{
    return err_sys(err, "cannot map %#llx-%#llx (%s)", (unsigned long long)s->start,
                   (unsigned long long)s->end, s->region->path ? s->region->path : "anonymous");
}

#define RESERVED_MAX (1ul << 28)

static int map_at(const struct image_piece *s, int prot, int flags, int fd, struct err *err)
{
    const struct image_region *r = s->region;
    /* The kernel does not tell who has asked for no reserve; it refuses what is large otherwise. */
    if (r->flags & IMAGE_REGION_NORESERVE || (fd < 0 && piece_size(s) >= RESERVED_MAX))
        flags |= MAP_NORESERVE;
    void *at = mmap((void *)(uintptr_t)s->start, piece_size(s), prot, flags | MAP_FIXED, fd,
                    fd < 0 ? 0 : (off_t)s->offset);
    return at == MAP_FAILED ? map_failed(s, err) : 0;
}

/* patched: patches follow, which want to write. */
static int map_step(const struct image *image, const struct image_piece *s, bool patched,
                    struct err *err)
{
    const struct image_region *r = s->region;
    bool shared = r->flags & IMAGE_REGION_SHARED;
    int prot = (int)r->prot | (patched ? PROT_WRITE : 0);
    if (s->kind == IMAGE_PIECE_IMAGE)
        return map_at(s, prot, MAP_PRIVATE, image->chain[s->depth]->fd, err);
    if (s->kind == IMAGE_PIECE_ZERO)
        return map_at(s, prot, (shared ? MAP_SHARED : MAP_PRIVATE) | MAP_ANONYMOUS, -1, err);
    int access = shared && (r->prot & PROT_WRITE) ? O_RDWR : O_RDONLY;
    int fd = open_region_file(image, r, s->offset + piece_size(s), access, err);
    if (fd < 0)
        return -1;
    int rc = map_at(s, prot, shared ? MAP_SHARED : MAP_PRIVATE, fd, err);
    close(fd);
    return rc;
}

static int apply_patch(const struct image *image, const struct image_piece *s, struct err *err)
{
    void *at = (void *)(uintptr_t)s->start;
    if (s->kind == IMAGE_PIECE_ZERO) {
        memset(at, 0, piece_size(s));
        return 0;
    }
    const struct image_link *l = image->chain[s->depth];
    if (image_pread_all(l->fd, at, piece_size(s), s->offset) < 0)
        return err_sys(err, "cannot read %s", l->path);
    return 0;
}

int image_map(const struct image *image, struct err *err)
{
    const struct image_piece *list = image->steps.list;
    size_t n = image->steps.count;
    for (size_t i = 0; i < n;) {
        const struct image_piece *s = &list[i++];
        bool patched = i < n && list[i].patch;
        if (map_step(image, s, patched, err) < 0)
            return -1;
        for (; i < n && list[i].patch; i++) {
            if (apply_patch(image, &list[i], err) < 0)
                return -1;
        }
        if (patched && !(s->region->prot & PROT_WRITE) &&
            mprotect((void *)(uintptr_t)s->start, piece_size(s), (int)s->region->prot) < 0)
            return map_failed(s, err);
    }
    return 0;
}
