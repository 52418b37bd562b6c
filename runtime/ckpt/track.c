/*
 * track.c - which pages of the upper half were written since the last look
 */
#define LOG_MODULE "track"
#include "runtime/ckpt/track.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/base/log.h"
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
#define SCAN_WP_MATCHING   1u
#define SCAN_CHECK_WPASYNC 2u
#define SCAN_IS_WRITTEN    2u

#define SCAN_MAX 1024

static int uffd = -1, pagemap = -1;
static bool precise;
static struct image_range *ranges;
static size_t nranges, room;

bool track_precise(void)
{
    return precise;
}

int track_start(struct err *err)
{
    struct uffdio_api api = {.api = UFFD_API,
                             .features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED};
    uffd = own_fd_take((int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
    pagemap = own_fd_take(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    precise = uffd >= 0 && pagemap >= 0 && ioctl(uffd, UFFDIO_API, &api) == 0;
    if (!precise)
        log_info("no asynchronous write protection here: fine checkpoints write all of memory");
    return 0;
}

static int add(uint64_t start, uint64_t end, struct err *err)
{
    if (nranges > 0 && ranges[nranges - 1].end == start) {
        ranges[nranges - 1].end = end;
        return 0;
    }
    if (nranges == room) {
        size_t more = room ? room * 2 : 1024;
        struct image_range *p = realloc(ranges, more * sizeof *p);
        if (!p)
            return err_sys(err, "no memory");
        ranges = p;
        room = more;
    }
    ranges[nranges++] = (struct image_range){start, end};
    return 0;
}

/* Collects and re-arms one region. Returns 1 if it is not under watch, -1 with *err. */
static int scan(const struct image_region *r, struct err *err)
{
    static struct scan_region found[SCAN_MAX];
    struct scan_arg arg = {.size = sizeof arg, .flags = SCAN_WP_MATCHING | SCAN_CHECK_WPASYNC,
                           .start = r->start, .end = r->end, .vec = (uint64_t)found,
                           .vec_len = SCAN_MAX, .category_mask = SCAN_IS_WRITTEN,
                           .return_mask = SCAN_IS_WRITTEN};
    while (arg.start < r->end) {
        int n = ioctl(pagemap, SCAN, &arg);
        if (n < 0)
            return errno == EPERM ? 1 : err_sys(err, "PAGEMAP_SCAN at %#lx", r->start);
        for (int i = 0; i < n; i++)
            if (add(found[i].start, found[i].end, err) < 0)
                return -1;
        arg.start = arg.walk_end;
    }
    return 0;
}

/* Puts a region under watch; what it holds now counts as changed. */
static int watch(const struct image_region *r, struct err *err)
{
    struct uffdio_register reg = {.range = {r->start, r->end - r->start},
                                  .mode = UFFDIO_REGISTER_MODE_WP};
    struct uffdio_writeprotect wp = {.range = reg.range, .mode = UFFDIO_WRITEPROTECT_MODE_WP};
    if (ioctl(uffd, UFFDIO_REGISTER, &reg) == 0)
        ioctl(uffd, UFFDIO_WRITEPROTECT, &wp);
    return add(r->start, r->end, err);
}

int track_collect(const struct save_regions *regions, const struct image_range **changed, size_t *n,
                  struct err *err)
{
    nranges = 0;
    for (size_t i = 0; i < regions->n; i++) {
        const struct image_region *r = &regions->region[i];
        size_t before = nranges;
        uint64_t before_end = before ? ranges[before - 1].end : 0;
        bool watched = precise && !(r->flags & IMAGE_REGION_SHARED);
        int state = watched ? scan(r, err) : 1;
        if (state < 0)
            return -1;
        if (state == 0)
            continue;
        nranges = before; /* a scan may have begun before it met the part that is not under watch */
        if (before)
            ranges[before - 1].end = before_end;
        if ((watched ? watch(r, err) : add(r->start, r->end, err)) < 0)
            return -1;
    }
    *changed = ranges;
    *n = nranges;
    return 0;
}
