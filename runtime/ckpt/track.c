/*
 * track.c - which pages of the upper half were written since the last look
 */
#define LOG_MODULE "track"
#include "runtime/ckpt/track.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/log.h"
#include "runtime/ckpt/written.h"
#include "runtime/half/gate.h"
#include "runtime/half/maps.h"
#include "runtime/half/own_fd.h"

/* Newer than Debian 12's headers: Linux 6.7, include/uapi/linux/{userfaultfd,fs}.h. */
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif
#ifndef UFFD_FEATURE_WP_UNPOPULATED
#define UFFD_FEATURE_WP_UNPOPULATED (1 << 13)
#endif
#ifndef UFFD_FEATURE_WP_ASYNC
#define UFFD_FEATURE_WP_ASYNC (1 << 15)
#endif

struct scan_region { /* struct page_region */
    uint64_t start, end, categories;
};

struct scan_arg { /* struct pm_scan_arg */
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
#define SCAN            _IOWR('f', 16, struct scan_arg)
#define SCAN_WP_MATCHING  1u
#define SCAN_CHECK_WATCH  2u /* fails with EPERM where memory is not under watch */
#define SCAN_IS_WPALLOWED 1u
#define SCAN_IS_WRITTEN   2u

#define SCAN_MAX 1024

/* /proc/PID/pagemap, an entry a page: Documentation/admin-guide/mm/pagemap.rst */
#define ENTRY_SOFT_DIRTY (1ul << 55)
#define ENTRY_SWAPPED    (1ul << 62)
#define ENTRY_PRESENT    (1ul << 63)
#define ENTRIES_MAX      8192

#define SAMPLE_PAGES  16
#define SAMPLE_ROUNDS 4

static int uffd = -1, pagemap = -1, clear_refs = -1;
static enum track_way way;
static uint64_t fault_ns; /* of a first write to a page under watch */

struct ranges {
    struct image_range *list;
    size_t n, room;
};

/* Written pages; memory that counts as changed without a look; both. Kept for the next call. */
static struct ranges written, unwatched, all;

/* Of the ranges that windows ask about: threads of the application may do so at the same time. */
static pthread_mutex_t windows = PTHREAD_MUTEX_INITIALIZER;

static bool can_protect(void)
{
    struct uffdio_api api = {.api = UFFD_API,
                             .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED};
    uffd = own_fd_take((int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
    return uffd >= 0 && ioctl(uffd, UFFDIO_API, &api) == 0;
}

static bool clear_soft_dirty(void)
{
    return write(clear_refs, "4", 1) == 1;
}

/* A kernel built without them takes the request to clear the bits, and shows none. */
static bool has_soft_dirty(void)
{
    static volatile char page[2 * IMAGE_PAGE];
    uint64_t entry = 0;
    clear_refs = own_fd_take(open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC));
    if (clear_refs < 0 || !clear_soft_dirty())
        return false;
    page[IMAGE_PAGE] = 1;
    uint64_t at = (uint64_t)&page[IMAGE_PAGE] / IMAGE_PAGE * sizeof entry;
    return pread(pagemap, &entry, sizeof entry, (off_t)at) == sizeof entry &&
           entry & ENTRY_SOFT_DIRTY;
}

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static bool arm(unsigned char *pages, size_t bytes)
{
    struct uffdio_range range = {(uint64_t)pages, bytes};
    struct uffdio_register reg = {.range = range, .mode = UFFDIO_REGISTER_MODE_WP};
    struct uffdio_writeprotect protect = {range, UFFDIO_WRITEPROTECT_MODE_WP};
    if (way == TRACK_SOFT_DIRTY)
        return clear_soft_dirty();
    return ioctl(uffd, UFFDIO_REGISTER, &reg) == 0 &&
           ioctl(uffd, UFFDIO_WRITEPROTECT, &protect) == 0;
}

/* Nanoseconds of a first write to a page under watch: of the fastest round, for others may hold the
 * processor meanwhile. 0 if it cannot be told. */
static uint64_t measure_fault(void)
{
    size_t bytes = SAMPLE_PAGES * IMAGE_PAGE;
    uint64_t best = UINT64_MAX;
    unsigned char *p =
        mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return 0;
    memset(p, 1, bytes);
    for (int round = 0; round < SAMPLE_ROUNDS && arm(p, bytes); round++) {
        uint64_t start = now_ns();
        for (size_t i = 0; i < bytes; i += IMAGE_PAGE)
            ((volatile unsigned char *)p)[i] = 2;
        uint64_t took = now_ns() - start;
        best = took < best ? took : best;
    }
    munmap(p, bytes);
    return best == UINT64_MAX ? 0 : best / SAMPLE_PAGES;
}

enum track_way track_start(void)
{
    const char *force = getenv("DBG3_TRACK");
    pagemap = own_fd_take(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    way = TRACK_NOTHING;
    if (pagemap >= 0 && (force ? !strcmp(force, "protect") : true) && can_protect())
        way = TRACK_PROTECT;
    else if (pagemap >= 0 && (force ? !strcmp(force, "soft-dirty") : true) && has_soft_dirty())
        way = TRACK_SOFT_DIRTY;
    else
        log_info("no way to tell what was written: fine checkpoints write all of memory");
    fault_ns = way == TRACK_NOTHING ? 0 : measure_fault();
    log_debug("a first write to a watched page: %lu ns", fault_ns);
    return way;
}

static int add(struct ranges *r, uint64_t start, uint64_t end, struct err *err)
{
    if (r->n > 0 && r->list[r->n - 1].end == start) {
        r->list[r->n - 1].end = end;
        return 0;
    }
    if (r->n == r->room) {
        size_t more = r->room ? r->room * 2 : 1024;
        struct image_range *p = realloc(r->list, more * sizeof *p);
        if (!p)
            return err_sys(err, "no memory");
        r->list = p;
        r->room = more;
    }
    r->list[r->n++] = (struct image_range){start, end};
    return 0;
}

/* Walks the whole upper half; `arg` says what to look for. */
static int scan(struct scan_arg arg, struct ranges *out, struct err *err)
{
    static struct scan_region found[SCAN_MAX];
    arg.size = sizeof arg;
    arg.end = GATE_ADDR;
    arg.vec = (uint64_t)found;
    arg.vec_len = SCAN_MAX;
    out->n = 0;
    while (arg.start < arg.end) {
        int n = ioctl(pagemap, SCAN, &arg);
        if (n < 0)
            return err_sys(err, "PAGEMAP_SCAN at %#lx", arg.start);
        for (int i = 0; i < n; i++)
            if (add(out, found[i].start, found[i].end, err) < 0)
                return -1;
        arg.start = arg.walk_end;
    }
    return 0;
}

/* Puts memory under watch: the next look at what was written arms it. What cannot be watched is
 * found again the next time. */
static void watch(uint64_t start, uint64_t end)
{
    struct uffdio_register reg = {.range = {start, end - start},
                                  .mode = UFFDIO_REGISTER_MODE_WP};
    ioctl(uffd, UFFDIO_REGISTER, &reg);
}

/*
 * Finds all memory that is not under watch, also where no page of it was ever touched: new
 * mappings, even in the very place of old ones, and shared memory, which others may write to.
 */
static int find_unwatched(const struct save_regions *regions, struct err *err)
{
    struct scan_arg arg = {.category_inverted = SCAN_IS_WPALLOWED,
                           .category_mask = SCAN_IS_WPALLOWED, .return_mask = SCAN_IS_WPALLOWED};
    if (scan(arg, &unwatched, err) < 0)
        return -1;
    for (size_t i = 0, k = 0; i < unwatched.n; i++) {
        const struct image_range *u = &unwatched.list[i];
        while (k < regions->n && regions->region[k].end <= u->start)
            k++;
        for (size_t at = k; at < regions->n && regions->region[at].start < u->end; at++)
            if (!(regions->region[at].flags & IMAGE_REGION_SHARED))
                watch(regions->region[at].start, regions->region[at].end);
    }
    return 0;
}

/* Both lists are sorted; written pages may lie in what was unwatched when that was looked at. */
static int join(struct err *err)
{
    size_t i = 0, k = 0;
    all.n = 0;
    while (i < written.n || k < unwatched.n) {
        bool first = k == unwatched.n ||
                     (i < written.n && written.list[i].start < unwatched.list[k].start);
        struct image_range r = first ? written.list[i++] : unwatched.list[k++];
        uint64_t end = all.n ? all.list[all.n - 1].end : 0;
        if (r.start < end)
            r.start = end;
        if (r.start < r.end && add(&all, r.start, r.end, err) < 0)
            return -1;
    }
    return 0;
}

static int by_start(const void *a, const void *b)
{
    const struct image_range *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

/* What windows have asked about in the meantime, and armed again, was written, too; and they have
 * yet to hear of what was found now. */
static int share_with_windows(struct err *err)
{
    size_t found = written.n;
    for (struct written_range *r = written_next(NULL); r; r = written_next(r)) {
        struct image_range run;
        uint64_t from = 0;
        while (written_take(r, WRITTEN_FOR_FINE, &from, &run))
            if (add(&written, run.start, run.end, err) < 0)
                return -1;
    }
    for (size_t i = 0; i < found; i++)
        written_add(written.list[i].start, written.list[i].end, WRITTEN_FOR_WINDOW);
    if (written.n > found)
        qsort(written.list, written.n, sizeof *written.list, by_start);
    return 0;
}

static int everything(const struct save_regions *regions, struct err *err)
{
    all.n = 0;
    for (size_t i = 0; i < regions->n; i++)
        if (add(&all, regions->region[i].start, regions->region[i].end, err) < 0)
            return -1;
    return 0;
}

/* What is not there counts as changed: it may have been given back since (MADV_DONTNEED). */
static int soft_dirty_in(uint64_t start, uint64_t end, struct err *err)
{
    static uint64_t entry[ENTRIES_MAX];
    while (start < end) {
        uint64_t n = (end - start) / IMAGE_PAGE;
        size_t bytes = (n < ENTRIES_MAX ? n : ENTRIES_MAX) * sizeof entry[0];
        ssize_t got = pread(pagemap, entry, bytes, (off_t)(start / IMAGE_PAGE * sizeof entry[0]));
        if (got <= 0)
            return err_sys(err, "reading /proc/self/pagemap at %#lx", start);
        for (size_t i = 0; i < (size_t)got / sizeof entry[0]; i++, start += IMAGE_PAGE)
            if ((entry[i] & ENTRY_SOFT_DIRTY || !(entry[i] & (ENTRY_PRESENT | ENTRY_SWAPPED))) &&
                add(&all, start, start + IMAGE_PAGE, err) < 0)
                return -1;
    }
    return 0;
}

static int soft_dirty(const struct save_regions *regions, struct err *err)
{
    all.n = 0;
    for (size_t i = 0; i < regions->n; i++) {
        uint64_t start = regions->region[i].start, end = regions->region[i].end;
        bool shared = regions->region[i].flags & IMAGE_REGION_SHARED;
        if ((shared ? add(&all, start, end, err) : soft_dirty_in(start, end, err)) < 0)
            return -1;
    }
    return clear_soft_dirty() ? 0 : err_sys(err, "writing to /proc/self/clear_refs");
}

static int written_since(const struct save_regions *regions, struct err *err)
{
    /* the kernel has a short way for exactly this question */
    struct scan_arg arg = {.flags = SCAN_WP_MATCHING, .category_mask = SCAN_IS_WRITTEN,
                           .return_mask = SCAN_IS_WRITTEN};
    if (find_unwatched(regions, err) < 0 || scan(arg, &written, err) < 0 ||
        share_with_windows(err) < 0)
        return -1;
    return join(err);
}

/* ---- the memory of a window ---- */

/* Puts a range under watch; memory that others share cannot be. What is new there counts as
 * written. */
static bool watch_range(uint64_t start, uint64_t end)
{
    struct maps maps;
    struct err err;
    if (maps_read(&maps, &err) < 0)
        return false;
    bool private = true;
    for (size_t i = 0; private && i < maps.n; i++) {
        const struct maps_entry *m = &maps.entry[i];
        if (m->end <= start || m->start >= end)
            continue;
        private = !m->shared;
        if (private)
            watch(m->start > start ? m->start : start, m->end < end ? m->end : end);
    }
    maps_free(&maps);
    written_add(start, end, WRITTEN_FOR_FINE);
    written_add(start, end, WRITTEN_FOR_WINDOW);
    return private;
}

/* Keeps what was written from `start` on, for both who ask, and arms it. -1: not all of it is under
 * watch. */
static int look_at(uint64_t start, uint64_t end)
{
    struct scan_region found[256];
    struct scan_arg arg = {.size = sizeof arg, .flags = SCAN_WP_MATCHING | SCAN_CHECK_WATCH,
                           .start = start, .end = end, .vec = (uint64_t)found, .vec_len = 256,
                           .category_mask = SCAN_IS_WRITTEN, .return_mask = SCAN_IS_WRITTEN};
    while (arg.start < end) {
        int n = ioctl(pagemap, SCAN, &arg);
        if (n < 0)
            return -1;
        for (int i = 0; i < n; i++) {
            written_add(found[i].start, found[i].end, WRITTEN_FOR_WINDOW);
            written_add(found[i].start, found[i].end, WRITTEN_FOR_FINE);
        }
        arg.start = arg.walk_end;
    }
    return 0;
}

static int take_range(uint64_t start, uint64_t end, uint64_t *from, struct image_range *out,
                      size_t room)
{
    struct written_range *r = written_range(start, end);
    size_t n = 0;
    if (!r || written_hopeless(r))
        return -ENOTSUP;
    if (*from <= start && look_at(start, end) < 0 &&
        (!watch_range(start, end) || look_at(start, end) < 0)) {
        written_give_up(r);
        return -ENOTSUP;
    }
    while (n < room && written_take(r, WRITTEN_FOR_WINDOW, from, &out[n]))
        n++;
    return (int)n;
}

int track_range(uint64_t start, uint64_t end, uint64_t *from, struct image_range *out, size_t room)
{
    int n = -ENOTSUP;
    pthread_mutex_lock(&windows);
    if (!room)
        written_forget(start, end);
    else if (way == TRACK_PROTECT)
        n = take_range(start, end, from, out, room);
    pthread_mutex_unlock(&windows);
    return n;
}

int track_collect(const struct save_regions *regions, const struct image_range **changed, size_t *n,
                  struct err *err)
{
    int rc = way == TRACK_PROTECT      ? written_since(regions, err)
             : way == TRACK_SOFT_DIRTY ? soft_dirty(regions, err)
                                       : everything(regions, err);
    *changed = all.list;
    *n = all.n;
    return rc;
}

uint64_t track_cost_us(void)
{
    const struct ranges *r = way == TRACK_PROTECT ? &written : &all;
    uint64_t pages = 0;
    for (size_t i = 0; i < r->n; i++)
        pages += (r->list[i].end - r->list[i].start) / IMAGE_PAGE;
    return pages * fault_ns / 1000;
}
