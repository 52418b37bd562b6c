/*
 * image_write.c - writes the pages and the description of a process
 *
 * Three steps: scan (which pages go into the file), pour (the pages, straight from memory, in
 * writes of 1 MiB, each hashed just before so that the copy into the page cache finds it in the
 * CPU's cache), seal (metadata, sync, first sector). A file gets its name last.
 *
 * Pages of zeros are found while pouring. Gaps, zero or never touched, become extents without
 * content; small ones are written out as zeros, so that memory does not fall into thousands of
 * segments, as long as that costs little (1/64 of what was written).
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define LOG_MODULE "image"
#include "runtime/base/fault.h"
#include "runtime/base/log.h"
#include "runtime/image/image_format.h"

#define WRITE_SIZE   (1u << 20)
#define IOV_COUNT    512
#define GAP_MAX      65536u      /* smaller gaps may be written out */
#define GAP_SHARE    64u         /* ... up to this share of the content */
#define FLUSH_BEHIND (16u << 20) /* start write-back this often, when the file is to be synced */
#define SCAN_RANGES  512
#define LOOK_MAX     (64u * IMAGE_PAGE)
#define PARTIAL      ".part"

/* Memory of one region with one kind of content. */
struct span {
    uint64_t start, end;
    enum image_extent_kind kind;
    const struct image_region *region;
};

struct image_writer {
    const char *path;
    char *partial; /* NULL: an increment of a segment */
    int fd;
    int uncached_fd; /* the same file past the page cache, for pages; -1: none */
    uint64_t at; /* where the image begins in the file; all offsets below count from there */
    const struct image_state *state;
    struct image_source *source;
    const struct image_write_options *options;
    struct err *err;

    struct span *spans;
    size_t nspans, spans_cap;
    uint64_t wanted; /* bytes of the DATA spans: an upper bound of the content */

    struct image_extents extents;
    size_t region_first; /* index of the first extent of the present region */
    uint64_t poured;     /* content so far */
    uint64_t gaps;       /* of which gaps written out as zeros */

    struct iovec iov[IOV_COUNT]; /* not written yet */
    int niov;
    size_t pending;
    uint64_t file_at; /* where the pending bytes go */
    uint64_t flushed; /* write-back started up to here */
    uint8_t *buffer;  /* WRITE_SIZE bytes, for sources that are not direct */
    size_t buffer_used;

    XXH3_state_t *hash; /* of the chunk that is not complete */
    size_t hashed;      /* bytes in it */
    struct image_sum *sums;
    size_t nsums, sums_cap;

    struct codec_bytes meta;
};

static const uint8_t zeros[GAP_MAX] __attribute__((aligned(4096)));

static int out_of_memory(struct image_writer *w)
{
    return image_err_code(w->err, ENOMEM, "%s: out of memory", w->path);
}

/* ---- scan ---- */

static int add_span(struct image_writer *w, uint64_t start, uint64_t end,
                    enum image_extent_kind kind, const struct image_region *region)
{
    if (start >= end)
        return 0;
    if (kind == IMAGE_EXTENT_DATA)
        w->wanted += end - start;
    if (w->nspans) {
        struct span *last = &w->spans[w->nspans - 1];
        if (last->end == start && last->kind == kind && last->region == region) {
            last->end = end;
            return 0;
        }
    }
    if (w->nspans == w->spans_cap) {
        size_t cap = w->spans_cap ? w->spans_cap * 2 : 256;
        struct span *spans = reallocarray(w->spans, cap, sizeof *spans);
        if (!spans)
            return out_of_memory(w);
        w->spans = spans;
        w->spans_cap = cap;
    }
    w->spans[w->nspans++] = (struct span){start, end, kind, region};
    return 0;
}

/* A part of a region that is not mapped from an image. */
static int scan_plain(struct image_writer *w, const struct image_region *r, uint64_t start,
                      uint64_t end)
{
    enum image_extent_kind gap = r->fill == IMAGE_FILL_FILE ? IMAGE_EXTENT_FILE : IMAGE_EXTENT_ZERO;
    if (r->fill == IMAGE_FILL_READ || !w->source->populated)
        return add_span(w, start, end, IMAGE_EXTENT_DATA, r);
    struct image_range found[SCAN_RANGES];
    while (start < end) {
        uint64_t walked = start;
        ssize_t n = w->source->populated(w->source->ctx, start, end, gap == IMAGE_EXTENT_FILE,
                                         found, SCAN_RANGES, &walked);
        if (n < 0)
            return err_sys(w->err, "%s: cannot read the page table of %#lx-%#lx", w->path,
                           (unsigned long)start, (unsigned long)end);
        if (walked > end || walked <= start)
            walked = end;
        for (ssize_t i = 0; i < n; i++) {
            if (add_span(w, start, found[i].start, gap, r) < 0 ||
                add_span(w, found[i].start, found[i].end, IMAGE_EXTENT_DATA, r) < 0)
                return -1;
            start = found[i].end;
        }
        if (add_span(w, start, walked, gap, r) < 0)
            return -1;
        start = walked;
    }
    return 0;
}

/* Index of the first range that ends after addr. */
static size_t range_after(const struct image_range *ranges, size_t n, uint64_t addr)
{
    size_t low = 0;
    while (low < n) {
        size_t mid = low + (n - low) / 2;
        if (ranges[mid].end <= addr)
            low = mid + 1;
        else
            n = mid;
    }
    return low;
}

static int scan_range(struct image_writer *w, const struct image_region *r, uint64_t start,
                      uint64_t end)
{
    const struct image_range *mapped = w->options->mapped;
    size_t n = w->options->nmapped;
    for (size_t i = range_after(mapped, n, start); i < n && mapped[i].start < end; i++) {
        uint64_t from = mapped[i].start > start ? mapped[i].start : start;
        uint64_t to = mapped[i].end < end ? mapped[i].end : end;
        if (scan_plain(w, r, start, from) < 0 || add_span(w, from, to, IMAGE_EXTENT_DATA, r) < 0)
            return -1;
        start = to;
    }
    return start < end ? scan_plain(w, r, start, end) : 0;
}

static int scan_region(struct image_writer *w, const struct image_region *r)
{
    if (w->state->kind != IMAGE_INCREMENTAL)
        return scan_range(w, r, r->start, r->end);
    const struct image_range *changed = w->options->changed;
    size_t n = w->options->nchanged;
    for (size_t i = range_after(changed, n, r->start); i < n && changed[i].start < r->end; i++) {
        uint64_t from = changed[i].start > r->start ? changed[i].start : r->start;
        uint64_t to = changed[i].end < r->end ? changed[i].end : r->end;
        /* Of a few pages it is cheaper to look at the content than at the page table. */
        int rc = to - from <= LOOK_MAX ? add_span(w, from, to, IMAGE_EXTENT_DATA, r)
                                       : scan_range(w, r, from, to);
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* ---- pour ---- */

static int write_failed(struct image_writer *w)
{
    struct statvfs fs;
    double mib = 1.0 / (1 << 20);
    if ((errno == ENOSPC || errno == EDQUOT) && fstatvfs(w->fd, &fs) == 0)
        return err_sys(
            w->err, "%s: cannot write the image: %.1f MiB needed, %.1f MiB written, %.1f MiB free",
            w->path, (double)w->wanted * mib, (double)w->file_at * mib,
            (double)fs.f_bavail * (double)fs.f_frsize * mib);
    return err_sys(w->err, "%s: cannot write the image: %.1f MiB needed, %.1f MiB written", w->path,
                   (double)w->wanted * mib, (double)w->file_at * mib);
}

static int add_sum(struct image_writer *w, struct image_sum sum)
{
    if (w->nsums == w->sums_cap) {
        size_t cap = w->sums_cap ? w->sums_cap * 2 : 256;
        struct image_sum *sums = reallocarray(w->sums, cap, sizeof *sums);
        if (!sums)
            return out_of_memory(w);
        w->sums = sums;
        w->sums_cap = cap;
    }
    w->sums[w->nsums++] = sum;
    return 0;
}

static int end_chunk(struct image_writer *w)
{
    struct image_sum sum;
    XXH128_hash_t digest = XXH3_128bits_digest(w->hash);
    memcpy(&sum, &digest, sizeof sum);
    w->hashed = 0;
    return add_sum(w, sum);
}

static int hash_bytes(struct image_writer *w, const uint8_t *p, size_t len)
{
    while (len) {
        size_t n = IMAGE_CHUNK - w->hashed;
        if (w->hashed == 0 && len >= IMAGE_CHUNK) {
            if (add_sum(w, image_sum(p, IMAGE_CHUNK)) < 0)
                return -1;
        } else {
            n = n < len ? n : len;
            if (w->hashed == 0)
                XXH3_128bits_reset(w->hash);
            XXH3_128bits_update(w->hash, p, n);
            w->hashed += n;
            if (w->hashed == IMAGE_CHUNK && end_chunk(w) < 0)
                return -1;
        }
        p += n;
        len -= n;
    }
    return 0;
}

/*
 * A page that is new to the page cache costs more than what is copied into it, most of all in a
 * guest whose host takes free memory back: 256 MiB took 0.7 s of processor time, and 0.05 s past
 * it. Memory, buffer and offsets are whole pages, as O_DIRECT wants them; a file system that still
 * refuses gets the rest through the cache.
 */
static void open_uncached(struct image_writer *w)
{
    if (w->options->uncached && w->wanted >= IMAGE_UNCACHED_MIN)
        w->uncached_fd = open(w->partial ? w->partial : w->path, O_WRONLY | O_DIRECT | O_CLOEXEC);
}

static void close_uncached(struct image_writer *w)
{
    int saved = errno;
    if (w->uncached_fd >= 0)
        close(w->uncached_fd);
    w->uncached_fd = -1;
    errno = saved;
}

static int write_iov(struct image_writer *w)
{
    struct iovec *iov = w->iov;
    while (w->pending) {
        bool uncached = w->uncached_fd >= 0;
        ssize_t n = pwritev(uncached ? w->uncached_fd : w->fd, iov, w->niov,
                            (off_t)(w->at + w->file_at));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EINVAL && uncached) {
            close_uncached(w);
            continue;
        }
        if (n < 0)
            return write_failed(w);
        w->file_at += (uint64_t)n;
        w->pending -= (size_t)n;
        while (w->niov && (size_t)n >= iov->iov_len) {
            n -= (ssize_t)iov->iov_len;
            iov++;
            w->niov--;
        }
        if (w->niov) {
            iov->iov_base = (char *)iov->iov_base + n;
            iov->iov_len -= (size_t)n;
        }
    }
    w->niov = 0;
    return 0;
}

static int flush(struct image_writer *w)
{
    for (int i = 0; i < w->niov; i++) {
        if (hash_bytes(w, w->iov[i].iov_base, w->iov[i].iov_len) < 0)
            return -1;
    }
    if (write_iov(w) < 0)
        return -1;
    if (w->options->sync && w->file_at - w->flushed >= FLUSH_BEHIND) {
        /* Only a hint: the disk works while we copy. Errors show in fdatasync. */
        sync_file_range(w->fd, (off_t)w->flushed, (off_t)(w->file_at - w->flushed),
                        SYNC_FILE_RANGE_WRITE);
        w->flushed = w->file_at;
    }
    return 0;
}

/* Queues at most WRITE_SIZE bytes, which stay where they are until the next flush. */
static int queue(struct image_writer *w, const uint8_t *p, size_t len)
{
    struct iovec *last = w->niov ? &w->iov[w->niov - 1] : NULL;
    if (last && (const uint8_t *)last->iov_base + last->iov_len == p)
        last->iov_len += len;
    else
        w->iov[w->niov++] = (struct iovec){(void *)p, len};
    w->pending += len;
    w->poured += len;
    return w->pending >= WRITE_SIZE || w->niov == IOV_COUNT ? flush(w) : 0;
}

/* If the content would follow on the last one but for a small gap, fills the gap with zeros. */
static int close_gap(struct image_writer *w, uint64_t addr)
{
    struct image_extents *x = &w->extents;
    if (x->count < w->region_first + 2)
        return 0;
    struct image_extent *gap = &x->list[x->count - 1], *before = gap - 1;
    uint64_t size = gap->end - gap->start;
    if (gap->kind != IMAGE_EXTENT_ZERO || gap->end != addr || before->kind != IMAGE_EXTENT_DATA ||
        before->end != gap->start || size >= GAP_MAX || w->gaps + size > w->poured / GAP_SHARE)
        return 0;
    w->gaps += size;
    before->end = addr;
    x->count--;
    return queue(w, zeros, size);
}

static int pour_data(struct image_writer *w, uint64_t addr, const uint8_t *p, size_t len)
{
    if (close_gap(w, addr) < 0)
        return -1;
    struct image_extent extent = {addr, addr + len, IMAGE_EXTENT_DATA, w->file_at + w->pending};
    if (image_extents_join(&w->extents, w->region_first, extent) < 0)
        return out_of_memory(w);
    return queue(w, p, len);
}

static int pour_empty(struct image_writer *w, uint64_t start, uint64_t end,
                      enum image_extent_kind kind)
{
    struct image_extent extent = {start, end, kind, 0};
    if (image_extents_join(&w->extents, w->region_first, extent) < 0)
        return out_of_memory(w);
    return 0;
}

static bool page_is_zero(const uint8_t *page)
{
    const uint64_t *p = (const uint64_t *)page;
    for (size_t i = 0; i < IMAGE_PAGE / sizeof *p; i += 8) {
        if (p[i] | p[i + 1] | p[i + 2] | p[i + 3] | p[i + 4] | p[i + 5] | p[i + 6] | p[i + 7])
            return false;
    }
    return true;
}

/* A block of at most WRITE_SIZE bytes: runs with content, runs of zero pages. */
static int pour_block(struct image_writer *w, uint64_t addr, const uint8_t *p, size_t len)
{
    size_t at = 0;
    while (at < len) {
        size_t begin = at;
        bool zero = page_is_zero(p + at);
        while (at < len && page_is_zero(p + at) == zero)
            at += IMAGE_PAGE;
        int rc = zero ? pour_empty(w, addr + begin, addr + at, IMAGE_EXTENT_ZERO)
                      : pour_data(w, addr + begin, p + begin, at - begin);
        if (rc < 0)
            return -1;
    }
    return 0;
}

/* Through the buffer: memory that cannot be read through a pointer, or that may change. */
static int pour_copied(struct image_writer *w, const struct span *s, uint64_t addr, size_t len)
{
    bool direct = w->source->direct && (s->region->prot & PROT_READ);
    if (w->buffer_used + len > WRITE_SIZE && flush(w) < 0)
        return -1;
    if (w->pending == 0)
        w->buffer_used = 0;
    uint8_t *p = w->buffer + w->buffer_used;
    if (direct)
        memcpy(p, (const void *)(uintptr_t)addr, len);
    else if (w->source->read(w->source->ctx, addr, p, len) < 0)
        return err_sys(w->err, "%s: cannot read memory %#lx-%#lx (%s)", w->path,
                       (unsigned long)addr, (unsigned long)(addr + len),
                       s->region->path ? s->region->path : "anonymous");
    w->buffer_used += len;
    return pour_block(w, addr, p, len);
}

static int pour_span(struct image_writer *w, const struct span *s)
{
    if (s->kind != IMAGE_EXTENT_DATA)
        return pour_empty(w, s->start, s->end, s->kind);
    bool direct = w->source->direct && !w->source->moving && (s->region->prot & PROT_READ);
    for (uint64_t addr = s->start; addr < s->end;) {
        size_t len = s->end - addr < WRITE_SIZE ? s->end - addr : WRITE_SIZE;
        int rc = direct ? pour_block(w, addr, (const uint8_t *)(uintptr_t)addr, len)
                        : pour_copied(w, s, addr, len);
        if (rc < 0)
            return -1;
        addr += len;
    }
    return 0;
}

static int pour(struct image_writer *w)
{
    const struct image_region *region = NULL;
    for (size_t i = 0; i < w->nspans; i++) {
        if (w->spans[i].region != region) {
            region = w->spans[i].region;
            w->region_first = w->extents.count;
        }
        if (pour_span(w, &w->spans[i]) < 0)
            return -1;
    }
    if (flush(w) < 0)
        return -1;
    return w->hashed ? end_chunk(w) : 0;
}

/* ---- seal ---- */

/* Metadata and, behind a barrier if the file is to be synced, the first sector. */
static int seal(struct image_writer *w, struct image_written *out)
{
    uint8_t sector[IMAGE_SECTOR];
    struct image_header h = {.kind = w->state->kind,
                             .id = out->id,
                             .parent_id = w->state->parent_id,
                             .checkpoint = w->state->meta.checkpoint,
                             .oldest = w->state->oldest};
    w->meta.len = 0;
    if (image_metadata_build(w->state, &w->extents, w->sums, w->nsums, w->file_at, &h, &w->meta) <
        0)
        return out_of_memory(w);
    h.file_size = w->file_at + w->meta.len;
    if (image_pwrite_all(w->fd, w->meta.data, w->meta.len, w->at + w->file_at) < 0)
        return write_failed(w);
    if (w->options->sync && fdatasync(w->fd) < 0)
        return write_failed(w);
    fault_point(w->partial ? FAULT_IMAGE_POURED : FAULT_FINE_POURED);
    image_sector_encode(&h, sector);
    if (image_pwrite_all(w->fd, sector, sizeof sector, w->at) < 0)
        return write_failed(w);
    out->file_bytes = h.file_size;
    out->segments = h.nphdrs;
    return 0;
}

/* Gives the complete file its name. */
static int publish(struct image_writer *w)
{
    if (w->options->sync && fdatasync(w->fd) < 0)
        return write_failed(w);
    fault_point(FAULT_IMAGE_SEALED);
    if (rename(w->partial, w->path) < 0)
        return err_sys(w->err, "cannot rename %s to %s", w->partial, w->path);
    fault_point(FAULT_IMAGE_RENAMED);
    if (w->options->sync && image_sync_folder(w->path) < 0)
        return err_sys(w->err, "%s: cannot sync its folder", w->path);
    return 0;
}

/* ---- the whole ---- */

static const char *state_fault(const struct image_state *state)
{
    if (state->kind < IMAGE_FULL || state->kind > IMAGE_FAILURE)
        return "it has no kind";
    if ((state->kind == IMAGE_INCREMENTAL) != (state->parent != NULL) ||
        (state->kind == IMAGE_INCREMENTAL) == image_id_is_zero(&state->parent_id))
        return "an incremental image, and no other, names its parent";
    for (size_t i = 0; i < state->nthreads; i++) {
        const struct image_thread *t = &state->threads[i];
        if ((t->xsave && t->xsave_size < 512) || t->siginfo_size > sizeof t->siginfo)
            return "a thread's xsave or siginfo has a wrong size";
    }
    for (size_t i = 0; i < state->nblobs; i++) {
        if (!state->blobs[i].name || state->blobs[i].size > UINT32_MAX / 2)
            return "a blob has no name or is too large";
    }
    return image_regions_fault(state->regions, state->nregions);
}

static int write_file(struct image_writer *w, struct image_written *out)
{
    double start = image_now_ms();
    for (size_t i = 0; i < w->state->nregions; i++) {
        if (scan_region(w, &w->state->regions[i]) < 0)
            return -1;
    }
    double scanned = image_now_ms();
    open_uncached(w);
    int rc = pour(w);
    close_uncached(w);
    if (rc < 0)
        return -1;
    double poured = image_now_ms();
    if (seal(w, out) < 0 || (w->partial && publish(w) < 0))
        return -1;
    out->page_bytes = w->poured;
    out->pages = w->poured / IMAGE_PAGE;
    out->scan_ms = scanned - start;
    out->write_ms = poured - scanned;
    out->sync_ms = image_now_ms() - poured;
    return 0;
}

/* ---- writers ---- */

struct image_writer *image_writer_create(void)
{
    struct image_writer *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    w->fd = w->uncached_fd = -1;
    w->buffer = aligned_alloc(IMAGE_PAGE, WRITE_SIZE);
    w->hash = XXH3_createState();
    if (w->buffer && w->hash)
        return w;
    image_writer_destroy(w);
    return NULL;
}

void image_writer_destroy(struct image_writer *w)
{
    if (!w)
        return;
    int saved = errno;
    free(w->buffer);
    if (w->hash)
        XXH3_freeState(w->hash);
    free(w->spans);
    free(w->sums);
    free(w->extents.list);
    codec_bytes_release(&w->meta);
    free(w);
    errno = saved;
}

/* Ready for another image; the memory of the last one's lists is used again. */
static void writer_start(struct image_writer *w, const char *path,
                         const struct image_state *state, struct image_source *source,
                         const struct image_write_options *options, struct err *err)
{
    static const struct image_write_options defaults;
    w->path = path;
    w->partial = NULL;
    w->fd = w->uncached_fd = -1;
    w->at = 0;
    w->state = state;
    w->source = source;
    w->options = options ? options : &defaults;
    w->err = err;
    w->nspans = w->extents.count = w->region_first = w->nsums = 0;
    w->wanted = w->poured = w->gaps = 0;
    w->niov = 0;
    w->pending = w->buffer_used = w->hashed = 0;
    w->file_at = w->flushed = IMAGE_DATA_OFFSET;
    w->meta.failed = false;
}

static int open_partial(struct image_writer *w)
{
    w->partial = malloc(strlen(w->path) + sizeof PARTIAL);
    if (!w->partial)
        return out_of_memory(w);
    strcpy(w->partial, w->path);
    strcat(w->partial, PARTIAL);
    w->fd = open(w->partial, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (w->fd < 0)
        return err_sys(w->err, "cannot create %s", w->partial);
    fault_point(FAULT_IMAGE_BEGUN);
    return 0;
}

static void close_partial(struct image_writer *w, bool failed)
{
    int saved = errno;
    if (w->fd >= 0) {
        close(w->fd);
        if (failed)
            unlink(w->partial);
    }
    free(w->partial);
    errno = saved;
}

/* A write past RLIMIT_FSIZE raises SIGXFSZ, whose default ends the process: take it as EFBIG. */
static void hold_sigxfsz(sigset_t *before)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &set, before);
}

static void drop_sigxfsz(const sigset_t *before)
{
    int saved = errno;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGXFSZ);
    if (!sigismember(before, SIGXFSZ))
        while (sigtimedwait(&set, NULL, &(struct timespec){0}) == SIGXFSZ)
            ;
    pthread_sigmask(SIG_SETMASK, before, NULL);
    errno = saved;
}

/* What cannot be written is refused before a file is touched. */
static int check_state(const char *path, const struct image_state *state,
                       struct image_written *written, struct err *err)
{
    const char *fault = state_fault(state);
    if (fault)
        return image_err_code(err, EINVAL, "%s: cannot write the image: %s", path, fault);
    *written = (struct image_written){.id = state->id};
    return image_id_is_zero(&written->id) ? image_id_make(&written->id, err) : 0;
}

int image_write(const char *path, const struct image_state *state, struct image_source *source,
                const struct image_write_options *options, struct image_written *out,
                struct err *err)
{
    struct image_written written;
    if (check_state(path, state, &written, err) < 0)
        return -1;
    struct image_writer *w = image_writer_create();
    if (!w)
        return image_err_code(err, ENOMEM, "%s: out of memory", path);
    sigset_t mask;
    writer_start(w, path, state, source, options, err);
    hold_sigxfsz(&mask);
    int rc = open_partial(w);
    if (rc == 0)
        rc = write_file(w, &written);
    close_partial(w, rc < 0);
    drop_sigxfsz(&mask);
    image_writer_destroy(w);
    if (rc < 0)
        return -1;
    log_info("%s: %.1f MiB, %lu segments, scan %.1f ms, write %.1f ms, sync %.1f ms", path,
             (double)written.file_bytes / (1 << 20), (unsigned long)written.segments,
             written.scan_ms, written.write_ms, written.sync_ms);
    if (out)
        *out = written;
    return 0;
}

int image_append(struct image_writer *w, int fd, const char *path, uint64_t at,
                 const struct image_state *state, struct image_source *source,
                 const struct image_write_options *options, struct image_written *out,
                 struct err *err)
{
    struct image_written written;
    if (state->kind != IMAGE_INCREMENTAL || at % IMAGE_PAGE)
        return image_err_code(err, EINVAL, "%s: a segment holds increments at page boundaries",
                              path);
    if (check_state(path, state, &written, err) < 0)
        return -1;
    sigset_t mask;
    writer_start(w, path, state, source, options, err);
    w->fd = fd;
    w->at = at;
    hold_sigxfsz(&mask);
    int rc = write_file(w, &written);
    drop_sigxfsz(&mask);
    if (rc < 0)
        return -1;
    written.file_bytes = (written.file_bytes + IMAGE_PAGE - 1) & ~(uint64_t)(IMAGE_PAGE - 1);
    *out = written;
    return 0;
}
