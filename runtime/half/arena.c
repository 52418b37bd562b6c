/*
 * arena.c - free ranges of the lower half's arena
 */
#include "runtime/half/arena.h"

void arena_init(struct arena *a, uint64_t start, uint64_t end)
{
    a->n = 1;
    a->free[0].start = start;
    a->free[0].end = end;
}

static void arena_remove(struct arena *a, uint32_t i)
{
    a->n--;
    for (; i < a->n; i++)
        a->free[i] = a->free[i + 1];
}

static int arena_insert(struct arena *a, uint32_t i, uint64_t start, uint64_t end)
{
    if (a->n == ARENA_MAX)
        return -1;
    for (uint32_t k = a->n; k > i; k--)
        a->free[k] = a->free[k - 1];
    a->n++;
    a->free[i].start = start;
    a->free[i].end = end;
    return 0;
}

uint64_t arena_take(struct arena *a, uint64_t size, uint64_t align)
{
    for (uint32_t i = 0; i < a->n; i++) {
        struct arena_free *f = &a->free[i];
        uint64_t at = (f->start + align - 1) & ~(align - 1);
        if (at < f->start || at > f->end || f->end - at < size)
            continue;
        uint64_t before = f->start, end = f->end;
        f->start = at + size;
        if (f->start == end)
            arena_remove(a, i);
        if (before < at)
            arena_insert(a, i, before, at);
        return at;
    }
    return 0;
}

void arena_give(struct arena *a, uint64_t start, uint64_t size)
{
    uint64_t end = start + size;
    uint32_t lo = 0, hi = a->n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (a->free[mid].start < start)
            lo = mid + 1;
        else
            hi = mid;
    }
    int joins_prev = lo > 0 && a->free[lo - 1].end == start;
    int joins_next = lo < a->n && a->free[lo].start == end;
    if (joins_prev && joins_next) {
        a->free[lo - 1].end = a->free[lo].end;
        arena_remove(a, lo);
    } else if (joins_prev) {
        a->free[lo - 1].end = end;
    } else if (joins_next) {
        a->free[lo].start = start;
    } else {
        arena_insert(a, lo, start, end);
    }
}
