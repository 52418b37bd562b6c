/*
 * save_regions.c - the upper half's memory as a list of regions
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

#include "runtime/ckpt/save.h"
#include "runtime/ckpt/save_kept.h"
#include "runtime/half/gate.h"
#include "runtime/half/maps.h"
#include "runtime/half/own_fd.h"

static struct image *mapped_from;

void save_mapped_from(struct image *image)
{
    mapped_from = image;
}

const struct image_range *save_mapped_ranges(size_t *n)
{
    *n = 0;
    return mapped_from ? image_mapped(mapped_from, n) : NULL;
}

/* What the memory at `addr` was before it was mapped from an image; NULL if it is no such
 * memory. */
static const struct image_region *original_region(const struct maps_entry *m)
{
    if (!mapped_from || !m->path[0])
        return NULL;
    bool from_image = false;
    for (size_t k = 0; k < image_chain_length(mapped_from) && !from_image; k++) {
        struct stat st;
        from_image = fstat(image_chain_fd(mapped_from, k), &st) == 0 && st.st_ino == m->inode &&
                     major(st.st_dev) == m->dev_major && minor(st.st_dev) == m->dev_minor;
    }
    const struct image_state *state = image_state(mapped_from);
    for (size_t i = 0; from_image && i < state->nregions; i++)
        if (state->regions[i].start <= m->start && m->start < state->regions[i].end)
            return &state->regions[i];
    return NULL;
}

/* A build-id is read from the file; the list before this one may know it. */
static void set_build_id(struct image_region *r, const struct save_regions *before)
{
    for (size_t i = 0; before && i < before->n; i++) {
        const struct image_region *b = &before->region[i];
        if (b->ino == r->ino && b->dev == r->dev && b->path && !strcmp(b->path, r->path)) {
            memcpy(r->build_id, b->build_id, sizeof r->build_id);
            r->build_id_len = b->build_id_len;
            return;
        }
    }
    r->build_id_len = (uint8_t)image_build_id(r->path, r->build_id);
}

static void describe_region(struct image_region *r, const struct maps_entry *m,
                            const struct save_regions *before)
{
    const struct image_region *was = original_region(m);
    memset(r, 0, sizeof *r);
    if (was) {
        *r = *was;
        r->offset = was->offset + (m->start - was->start);
    } else if (m->path[0] == '/') {
        r->flags = IMAGE_REGION_FILE | (m->shared ? IMAGE_REGION_SHARED : 0);
        r->fill = m->shared ? IMAGE_FILL_READ : IMAGE_FILL_FILE;
        r->path = m->path;
        r->offset = m->offset;
        r->dev = makedev(m->dev_major, m->dev_minor);
        r->ino = m->inode;
        set_build_id(r, before);
        if (strstr(m->path, " (deleted)"))
            r->fill = IMAGE_FILL_READ;
    } else {
        r->flags = m->shared ? IMAGE_REGION_SHARED : 0;
        r->fill = m->shared ? IMAGE_FILL_READ : IMAGE_FILL_ZERO;
        r->path = m->path[0] ? m->path : NULL;
    }
    r->start = m->start;
    r->end = m->end;
    r->prot = (uint32_t)m->prot;
    if (strcmp(m->path, "[heap]") == 0)
        r->flags |= IMAGE_REGION_HEAP;
    if (m->start <= save_identity.mm.start_stack && save_identity.mm.start_stack < m->end)
        r->flags |= IMAGE_REGION_STACK;
}

static bool readable(uint64_t page)
{
    char byte;
    struct iovec to = {&byte, 1}, from = {(void *)page, 1};
    return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1;
}

/*
 * A mapping may be longer than its file; to touch what lies behind the file's end is SIGBUS. That
 * part of the last region becomes one of its own, of which nothing is read.
 */
static void split_at_end_of_file(struct save_regions *regions)
{
    struct image_region *r = &regions->region[regions->n - 1];
    uint64_t good = r->start, bad = r->end;
    if (r->fill != IMAGE_FILL_READ || !(r->flags & IMAGE_REGION_FILE) || !(r->prot & PROT_READ) ||
        readable(r->end - IMAGE_PAGE))
        return;
    while (good < bad) { /* the first page that cannot be read */
        uint64_t middle = good + (bad - good) / 2 / IMAGE_PAGE * IMAGE_PAGE;
        if (readable(middle))
            good = middle + IMAGE_PAGE;
        else
            bad = middle;
    }
    if (good > r->start) {
        r[1] = r[0];
        r->end = good;
        r++;
        r->start = good;
        r->offset += good - r[-1].start;
        regions->n++;
    }
    r->fill = IMAGE_FILL_ZERO;
}

/* The part of the text that is below the gate. */
static void describe(struct save_regions *regions, const struct maps *maps,
                     const struct save_regions *before)
{
    regions->n = 0;
    for (size_t i = 0; i < maps->n && maps->entry[i].start < GATE_ADDR; i++) {
        describe_region(&regions->region[regions->n++], &maps->entry[i], before);
        split_at_end_of_file(regions);
    }
}

/* Takes over `maps`, which was read or parsed. */
static int fill(struct save_regions *regions, struct maps *maps,
                const struct save_regions *before, struct err *err)
{
    regions->maps = maps;
    regions->region = calloc(2 * maps->n + 1, sizeof *regions->region);
    if (!regions->region) {
        save_regions_free(regions);
        return err_sys(err, "no memory");
    }
    describe(regions, maps, before);
    return 0;
}

int save_regions_read(struct save_regions *regions, struct err *err)
{
    struct maps *maps = calloc(1, sizeof *maps);
    if (!maps || maps_read(maps, err) < 0) {
        free(maps);
        return -1;
    }
    return fill(regions, maps, NULL, err);
}

void save_regions_free(struct save_regions *regions)
{
    if (regions->maps)
        maps_free(regions->maps);
    free(regions->maps);
    free(regions->region);
    regions->maps = NULL;
    regions->region = NULL;
}

/* ---- again and again ---- */

int save_map_text_open(struct save_map_text *t, struct err *err)
{
    t->fd = own_fd_take(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
    t->cap = 1 << 16;
    t->now = malloc(t->cap);
    if (t->fd < 0)
        return err_sys(err, "cannot open /proc/self/maps");
    return t->now ? 0 : err_sys(err, "no memory");
}

/* Start of the last line of the text, which ends with a newline. */
static size_t last_line(const char *text, size_t len)
{
    const char *newline = len > 1 ? memrchr(text, '\n', len - 1) : NULL;
    return newline ? (size_t)(newline + 1 - text) : 0;
}

/* Cuts off what lies above the split. True if there is such a line. */
static bool cut_at_gate(const char *text, size_t *len)
{
    bool cut = false;
    for (size_t at; *len > 0; *len = at, cut = true) {
        at = last_line(text, *len);
        if (strtoul(text + at, NULL, 16) < GATE_ADDR)
            break;
    }
    return cut;
}

/* Reads up to the split into t->now; the kernel makes the text as it is read. Each read returns
 * whole lines. */
static int read_text(struct save_map_text *t, struct err *err)
{
    t->now_len = 0;
    if (lseek(t->fd, 0, SEEK_SET) < 0)
        return err_sys(err, "cannot read /proc/self/maps");
    for (;;) {
        if (t->cap - t->now_len < 1 << 15) {
            char *more = realloc(t->now, 2 * t->cap);
            if (!more)
                return err_sys(err, "no memory");
            t->now = more;
            t->cap *= 2;
        }
        ssize_t n = read(t->fd, t->now + t->now_len, t->cap - t->now_len);
        if (n < 0)
            return err_sys(err, "cannot read /proc/self/maps");
        t->now_len += (size_t)n;
        if (n == 0 || cut_at_gate(t->now, &t->now_len))
            return 0;
    }
}

const struct save_regions *save_kept_regions(struct save_kept *kept, struct err *err)
{
    struct save_map_text *t = &kept->maps;
    if (read_text(t, err) < 0)
        return NULL;
    if (t->last && t->last_len == t->now_len && !memcmp(t->last, t->now, t->now_len))
        return &kept->regions;
    struct save_regions regions = {0};
    struct maps *maps = calloc(1, sizeof *maps);
    char *copy = strndup(t->now, t->now_len), *last = malloc(t->now_len + 1);
    if (!maps || !copy || !last || maps_parse(maps, copy, err) < 0) {
        if (!maps || !copy || !last)
            err_sys(err, "no memory");
        free(maps);
        free(copy);
        free(last);
        return NULL;
    }
    memcpy(last, t->now, t->now_len);
    if (fill(&regions, maps, &kept->regions, err) < 0) {
        free(last);
        return NULL;
    }
    save_regions_free(&kept->regions);
    kept->regions = regions;
    free(t->last);
    t->last = last;
    t->last_len = t->now_len;
    return &kept->regions;
}
