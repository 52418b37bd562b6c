/*
 * image_source.c - pages and page tables of this or another process
 *
 * Which pages were touched comes from the ioctl PAGEMAP_SCAN (Linux 6.7) or, where the kernel lacks
 * it, from reading /proc/PID/pagemap. Both need no privilege.
 *
 * A userfaultfd write-protection of unpopulated pages (WP_UNPOPULATED) leaves markers that both
 * report as swapped pages. They are taken as touched, read, and found to be zero: right, only
 * slower.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "runtime/image/image_format.h"

/* linux/fs.h of Linux 6.7; Debian 12's headers are older. */
struct pm_scan_arg {
    uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
struct pm_page_region {
    uint64_t start, end, categories;
};
#define PM_SCAN_IOCTL   _IOWR('f', 16, struct pm_scan_arg)
#define PM_IS_FILE      (1u << 2)
#define PM_IS_PRESENT   (1u << 3)
#define PM_IS_SWAPPED   (1u << 4)
#define PM_IS_PFNZERO   (1u << 5)
#define SCAN_RANGES_MAX 512u

/* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)
#define PAGEMAP_FILE    (UINT64_C(1) << 61)
#define PAGEMAP_ENTRIES 4096u

static int proc_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
    struct image_source *source = ctx;
    return image_pread_all(source->mem_fd, buf, len, addr);
}

static ssize_t scan_ioctl(struct image_source *source, uint64_t start, uint64_t end,
                          bool private_only, struct image_range *out, size_t max, uint64_t *walked)
{
    struct pm_page_region found[SCAN_RANGES_MAX];
    uint64_t absent = PM_IS_PFNZERO | (private_only ? PM_IS_FILE : 0);
    struct pm_scan_arg arg = {
        .size = sizeof arg,
        .start = start,
        .end = end,
        .vec = (uintptr_t)found,
        .vec_len = max < SCAN_RANGES_MAX ? max : SCAN_RANGES_MAX,
        .category_inverted = absent,
        .category_mask = absent,
        .category_anyof_mask = PM_IS_PRESENT | PM_IS_SWAPPED,
        .return_mask = PM_IS_PRESENT,
    };
    int n = ioctl(source->pagemap_fd, PM_SCAN_IOCTL, &arg);
    if (n < 0)
        return -1;
    for (int i = 0; i < n; i++)
        out[i] = (struct image_range){found[i].start, found[i].end};
    *walked = arg.walk_end;
    return n;
}

static ssize_t scan_entries(struct image_source *source, uint64_t start, uint64_t end,
                            bool private_only, struct image_range *out, size_t max,
                            uint64_t *walked)
{
    uint64_t entries[PAGEMAP_ENTRIES];
    uint64_t pages = (end - start) / IMAGE_PAGE;
    if (pages > PAGEMAP_ENTRIES)
        pages = PAGEMAP_ENTRIES;
    if (image_pread_all(source->pagemap_fd, entries, pages * sizeof *entries,
                        start / IMAGE_PAGE * sizeof *entries) < 0)
        return -1;
    size_t n = 0;
    for (uint64_t i = 0; i < pages; i++) {
        uint64_t at = start + i * IMAGE_PAGE;
        bool touched = (entries[i] & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) &&
                       !(private_only && (entries[i] & PAGEMAP_FILE));
        if (!touched)
            continue;
        if (n && out[n - 1].end == at) {
            out[n - 1].end = at + IMAGE_PAGE;
        } else if (n == max) {
            *walked = at;
            return (ssize_t)n;
        } else {
            out[n++] = (struct image_range){at, at + IMAGE_PAGE};
        }
    }
    *walked = start + pages * IMAGE_PAGE;
    return (ssize_t)n;
}

static ssize_t proc_populated(void *ctx, uint64_t start, uint64_t end, bool private_only,
                              struct image_range *out, size_t max, uint64_t *walked)
{
    struct image_source *source = ctx;
    if (!source->no_scan) {
        ssize_t n = scan_ioctl(source, start, end, private_only, out, max, walked);
        if (n >= 0 || (errno != ENOTTY && errno != EINVAL))
            return n;
        source->no_scan = true;
    }
    return scan_entries(source, start, end, private_only, out, max, walked);
}

static int open_source(struct image_source *source, const char *process, struct err *err)
{
    char mem[64], pagemap[64];
    snprintf(mem, sizeof mem, "/proc/%s/mem", process);
    snprintf(pagemap, sizeof pagemap, "/proc/%s/pagemap", process);
    *source = (struct image_source){.read = proc_read, .populated = proc_populated, .ctx = source};
    source->mem_fd = open(mem, O_RDONLY | O_CLOEXEC);
    if (source->mem_fd < 0)
        return err_sys(err, "cannot open %s", mem);
    source->pagemap_fd = open(pagemap, O_RDONLY | O_CLOEXEC);
    if (source->pagemap_fd < 0) {
        err_sys(err, "cannot open %s", pagemap);
        close(source->mem_fd);
        return -1;
    }
    return 0;
}

int image_source_self(struct image_source *source, struct err *err)
{
    if (open_source(source, "self", err) < 0)
        return -1;
    source->direct = true;
    return 0;
}

int image_source_pid(struct image_source *source, pid_t pid, struct err *err)
{
    char process[32];
    snprintf(process, sizeof process, "%d", (int)pid);
    return open_source(source, process, err);
}

void image_source_close(struct image_source *source)
{
    int saved = errno;
    close(source->mem_fd);
    close(source->pagemap_fd);
    errno = saved;
}
