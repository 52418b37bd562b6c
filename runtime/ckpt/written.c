/*
 * written.c - written pages of a few ranges, for two who ask at different times
 */
#include "runtime/ckpt/written.h"

#include <stdlib.h>
#include <string.h>

#define RANGES_MAX 256
#define BITS       64u

struct written_range {
    struct written_range *next;
    uint64_t start, end;
    bool hopeless, forgotten;
    uint64_t *kept[2]; /* a bit a page, by enum written_for */
};

static struct written_range *ranges;
static unsigned nranges;

static struct written_range *make(uint64_t start, uint64_t end)
{
    uint64_t words = ((end - start) / IMAGE_PAGE + BITS - 1) / BITS;
    struct written_range *r = nranges < RANGES_MAX ? calloc(1, sizeof *r) : NULL;
    if (!r)
        return NULL;
    r->kept[0] = calloc(2 * words, sizeof **r->kept);
    if (!r->kept[0]) {
        free(r);
        return NULL;
    }
    r->kept[1] = r->kept[0] + words;
    memset(r->kept[WRITTEN_FOR_WINDOW], 0xff, words * sizeof **r->kept);
    r->start = start;
    r->end = end;
    r->next = ranges;
    ranges = r;
    nranges++;
    return r;
}

static struct written_range *find(uint64_t start, uint64_t end)
{
    struct written_range *r = ranges;
    while (r && (r->start != start || r->end != end))
        r = r->next;
    return r;
}

struct written_range *written_range(uint64_t start, uint64_t end)
{
    struct written_range *r = find(start, end);
    if (!r)
        return make(start, end);
    if (r->forgotten)
        r->forgotten = r->hopeless = false;
    return r;
}

bool written_hopeless(const struct written_range *r)
{
    return r->hopeless;
}

void written_give_up(struct written_range *r)
{
    r->hopeless = true;
}

void written_forget(uint64_t start, uint64_t end)
{
    struct written_range *r = find(start, end);
    if (r)
        r->forgotten = true;
}

void written_add(uint64_t start, uint64_t end, enum written_for whom)
{
    for (struct written_range *r = ranges; r; r = r->next) {
        uint64_t from = start > r->start ? start : r->start, to = end < r->end ? end : r->end;
        for (; from < to; from += IMAGE_PAGE) {
            uint64_t page = (from - r->start) / IMAGE_PAGE;
            r->kept[whom][page / BITS] |= UINT64_C(1) << page % BITS;
        }
    }
}

static bool is_kept(const struct written_range *r, enum written_for whom, uint64_t at)
{
    uint64_t page = (at - r->start) / IMAGE_PAGE;
    return r->kept[whom][page / BITS] >> page % BITS & 1;
}

/* The first page kept from `at` on, or the end: a word without any is passed at once. */
static uint64_t first_kept(const struct written_range *r, enum written_for whom, uint64_t at)
{
    while (at < r->end && !is_kept(r, whom, at)) {
        uint64_t page = (at - r->start) / IMAGE_PAGE;
        uint64_t step = r->kept[whom][page / BITS] ? 1 : BITS - page % BITS;
        at += step * IMAGE_PAGE;
    }
    return at < r->end ? at : r->end;
}

bool written_take(struct written_range *r, enum written_for whom, uint64_t *from,
                  struct image_range *out)
{
    uint64_t at = first_kept(r, whom, *from > r->start ? *from : r->start);
    out->start = at;
    for (; at < r->end && is_kept(r, whom, at); at += IMAGE_PAGE) {
        uint64_t page = (at - r->start) / IMAGE_PAGE;
        r->kept[whom][page / BITS] &= ~(UINT64_C(1) << page % BITS);
    }
    out->end = *from = at;
    return out->start < out->end;
}

struct written_range *written_next(struct written_range *r)
{
    if (!r)
        return ranges;
    struct written_range *next = r->next, **p = &ranges;
    if (!r->forgotten)
        return next;
    while (*p != r)
        p = &(*p)->next;
    *p = next;
    nranges--;
    free(r->kept[0]);
    free(r);
    return next;
}
