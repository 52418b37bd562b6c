/*
 * image_util.c - a model of a process's memory for the tests of images
 */
#include "tests/unit/image_util.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void page_fill(uint8_t *page, uint32_t seed, unsigned index)
{
    uint64_t x = seed ? seed * UINT64_C(0x9e3779b97f4a7c15) + index : 0;
    for (size_t i = 0; i < IMAGE_PAGE; i += sizeof x) {
        memcpy(page + i, &x, sizeof x);
        x = x ? x * UINT64_C(6364136223846793005) + 1 : 0;
    }
}

static unsigned page_of(uint64_t addr)
{
    return (unsigned)((addr - MODEL_BASE) / IMAGE_PAGE);
}

static uint64_t addr_of(unsigned page)
{
    return MODEL_BASE + (uint64_t)page * IMAGE_PAGE;
}

static int model_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
    const struct model *m = ctx;
    for (size_t at = 0; at < len; at += IMAGE_PAGE) {
        unsigned i = page_of(addr + at);
        page_fill((uint8_t *)buf + at, m->page[i].touched ? m->page[i].seed : 0, i);
    }
    return 0;
}

/* Gives one range at a time, so that callers must follow *walked. */
static ssize_t model_populated(void *ctx, uint64_t start, uint64_t end, bool private_only,
                               struct image_range *out, size_t max, uint64_t *walked)
{
    const struct model *m = ctx;
    unsigned i = page_of(start), last = page_of(end);
    while (i < last && !m->page[i].touched)
        i++;
    unsigned from = i;
    while (i < last && m->page[i].touched)
        i++;
    *walked = addr_of(i);
    *out = (struct image_range){addr_of(from), addr_of(i)};
    return from < i;
}

void model_init(struct model *m)
{
    memset(m, 0, sizeof *m);
    m->source = (struct image_source){
        .read = model_read, .populated = model_populated, .ctx = m, .direct = false};
}

void model_map(struct model *m, unsigned first, unsigned count, uint32_t prot)
{
    for (unsigned i = first; i < first + count && i < MODEL_PAGES; i++) {
        memset(&m->page[i], 0, sizeof m->page[i]);
        m->page[i].mapped = m->page[i].changed = true;
        m->page[i].prot = prot;
    }
}

void model_unmap(struct model *m, unsigned first, unsigned count)
{
    for (unsigned i = first; i < first + count && i < MODEL_PAGES; i++)
        memset(&m->page[i], 0, sizeof m->page[i]);
}

void model_store(struct model *m, unsigned page, uint32_t seed)
{
    m->page[page].touched = m->page[page].changed = true;
    m->page[page].seed = seed;
}

static size_t model_regions(struct model *m)
{
    size_t n = 0;
    for (unsigned i = 0; i < MODEL_PAGES; i++) {
        if (!m->page[i].mapped)
            continue;
        if (n && m->regions[n - 1].end == addr_of(i) && m->regions[n - 1].prot == m->page[i].prot)
            m->regions[n - 1].end += IMAGE_PAGE;
        else
            m->regions[n++] = (struct image_region){
                .start = addr_of(i), .end = addr_of(i + 1), .prot = m->page[i].prot};
    }
    return n;
}

static size_t model_changed(struct model *m)
{
    size_t n = 0;
    for (unsigned i = 0; i < MODEL_PAGES; i++) {
        if (!m->page[i].changed)
            continue;
        m->page[i].changed = false;
        if (n && m->changed[n - 1].end == addr_of(i))
            m->changed[n - 1].end += IMAGE_PAGE;
        else
            m->changed[n++] = (struct image_range){addr_of(i), addr_of(i + 1)};
    }
    return n;
}

struct image_id model_write(struct model *m, const char *path, const char *parent,
                            const struct image_id *parent_id, struct image_written *written)
{
    struct err err;
    struct image_written w;
    struct image_write_options options = {.changed = m->changed, .nchanged = model_changed(m)};
    struct image_state state = {
        .kind = parent ? IMAGE_INCREMENTAL : IMAGE_FULL,
        .parent = parent,
        .regions = m->regions,
        .nregions = model_regions(m),
    };
    if (parent)
        state.parent_id = *parent_id;
    if (image_write(path, &state, &m->source, &options, &w, &err) < 0)
        ck_abort_msg("%s", err.text);
    if (written)
        *written = w;
    return w.id;
}

struct image_id model_append(struct model *m, struct model_segment *segment, uint64_t number,
                             const char *parent, const struct image_id *parent_id)
{
    struct err err;
    struct image_written w;
    struct image_write_options options = {.changed = m->changed, .nchanged = model_changed(m)};
    struct image_state state = {.kind = IMAGE_INCREMENTAL,
                                .parent = parent,
                                .parent_id = *parent_id,
                                .regions = m->regions,
                                .nregions = model_regions(m),
                                .oldest = number > 4 ? number - 4 : 1};
    state.meta.checkpoint = number;
    if (image_append(segment->writer, segment->fd, segment->path, segment->at, &state, &m->source,
                     &options, &w, &err) < 0)
        ck_abort_msg("%s", err.text);
    if (w.file_bytes % IMAGE_PAGE)
        ck_abort_msg("the next increment would not begin at a page");
    segment->at += w.file_bytes;
    return w.id;
}

int model_differs(const struct model *m, struct image *image)
{
    uint8_t want[IMAGE_PAGE], have[IMAGE_PAGE];
    for (unsigned i = 0; i < MODEL_PAGES; i++) {
        struct err err = {0};
        int rc = image_read(image, addr_of(i), have, sizeof have, &err);
        if (!m->page[i].mapped) {
            if (rc == 0) {
                fprintf(stderr, "page %u is there, but was unmapped\n", i);
                return 1;
            }
            continue;
        }
        page_fill(want, m->page[i].touched ? m->page[i].seed : 0, i);
        if (rc < 0 || memcmp(want, have, sizeof want) != 0) {
            fprintf(stderr, "page %u differs (%s)\n", i, rc < 0 ? err.text : "content");
            return 1;
        }
    }
    return 0;
}

void model_expect(const struct model *m, const char *path, bool verify)
{
    struct err err;
    struct image *image = image_open(path, &err);
    ck_assert_msg(image != NULL, "%s", err.text);
    ck_assert_int_eq(model_differs(m, image), 0);
    image_close(image);
    if (verify && image_verify(path, &err) < 0)
        ck_abort_msg("%s", err.text);
}

void flip_byte(const char *path, long offset, uint8_t mask)
{
    FILE *f = fopen(path, "r+");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseek(f, offset, SEEK_SET), 0);
    int c = fgetc(f);
    ck_assert_int_ne(c, EOF);
    ck_assert_int_eq(fseek(f, offset, SEEK_SET), 0);
    fputc(c ^ mask, f);
    fclose(f);
}
