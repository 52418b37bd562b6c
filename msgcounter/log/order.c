/*
 * order.c - order log of a rank: writing and reading it inside the rank
 */
#include "msgcounter/log/order.h"

#include <string.h>

/* A compiler barrier is enough: a reader sees the file after the writer, or is the same machine's
 * later process. */
#define STORED() __asm__ volatile("" ::: "memory")

#define DIGIT_MAX ((1u << ORDER_DIGIT_BITS) - 1)

/* ------------------------------------------------------------------------------------ writing */

void order_init(struct order_segment *s, uint32_t rank, uint32_t world_size, uint64_t epoch,
                uint64_t room)
{
    *s = (struct order_segment){.version = ORDER_VERSION,
                                .byte_order = ORDER_BYTE_ORDER,
                                .rank = rank,
                                .world_size = world_size,
                                .epoch = epoch,
                                .at = sizeof *s,
                                .room = room};
    STORED();
    memcpy(s->magic, ORDER_MAGIC, sizeof s->magic);
}

static unsigned char *place_of(struct order_segment *s, uint64_t place)
{
    return (unsigned char *)s + place;
}

static void append(struct order_segment *s, const unsigned char *bytes, unsigned n)
{
    memcpy(place_of(s, s->at), bytes, n);
    STORED();
    s->no = 0;
    s->at += n;
}

/* Returns the bytes it took. */
static unsigned put_number(unsigned char *p, uint32_t value)
{
    unsigned n = 0;
    for (; value > 127; value >>= 7)
        p[n++] = (unsigned char)(value | 0x80);
    p[n++] = (unsigned char)value;
    return n;
}

void order_put_yes(struct order_segment *s)
{
    append(s, (unsigned char[]){ORDER_YES}, 1);
}

void order_put_index(struct order_segment *s, uint32_t index)
{
    unsigned char b[8] = {(unsigned char)(ORDER_INDEX | index)};
    unsigned n = 1;
    if (index >= ORDER_INDEX_TWO) {
        b[0] = ORDER_INDEX_MORE;
        n += put_number(b + 1, index);
    } else if (index >= ORDER_INDEX_ONE) {
        b[0] = (unsigned char)(ORDER_INDEX_HIGH | (index - ORDER_INDEX_ONE) >> 8);
        b[n++] = (unsigned char)(index - ORDER_INDEX_ONE);
    }
    append(s, b, n);
}

void order_put_some(struct order_segment *s, uint32_t n, const int *indices)
{
    unsigned char *start = place_of(s, s->at), *p = start;
    int before = -1;
    *p++ = ORDER_SOME | (unsigned char)(n - 1 < ORDER_SOME_MORE ? n - 1 : ORDER_SOME_MORE);
    if (n - 1 >= ORDER_SOME_MORE)
        p += put_number(p, n - 1);
    for (uint32_t i = 0; i < n; i++) {
        p += put_number(p, (uint32_t)(indices[i] - before - 1));
        before = indices[i];
    }
    STORED();
    s->no = 0;
    s->at += (uint64_t)(p - start);
}

void order_put_some_all(struct order_segment *s)
{
    append(s, (unsigned char[]){ORDER_SOME | ORDER_SOME_ALL}, 1);
}

void order_put_no(struct order_segment *s)
{
    uint64_t place = s->no;
    if (!place) {
        append(s, (unsigned char[]){ORDER_NO | 1}, 1);
        s->no = s->at - 1;
        return;
    }
    /* Carries from digit to digit; a new one is appended when all are full. In between the number
     * is smaller than it should be, never larger. */
    while (place < s->at && *place_of(s, place) == (ORDER_NO | DIGIT_MAX))
        *place_of(s, place++) = ORDER_NO;
    STORED();
    if (place < s->at) {
        ++*place_of(s, place);
        return;
    }
    *place_of(s, place) = ORDER_NO | 1;
    STORED();
    s->at++;
}

void order_put_thread(struct order_segment *s, uint32_t thread)
{
    unsigned char b[8] = {ORDER_THREAD};
    if (s->thread == thread)
        return;
    append(s, b, 1 + put_number(b + 1, thread));
    s->thread = thread;
}

uint64_t order_put_no_wide(struct order_segment *s)
{
    append(s, (unsigned char[]){ORDER_NO_WIDE, 1, 0, 0, 0}, 5);
    return s->at - 4;
}

bool order_count_no_at(struct order_segment *s, uint64_t place)
{
    uint32_t n;
    memcpy(&n, place_of(s, place), sizeof n);
    if (n == UINT32_MAX)
        return false;
    n++;
    memcpy(place_of(s, place), &n, sizeof n);
    return true;
}

/* ---- sources: their width depends on the communicator, so that they can be filled in place */

static unsigned source_bytes(unsigned char first)
{
    return first == ORDER_SOURCE_WIDE ? 5 : first >= ORDER_SOURCE_TWO ? 2 : 1;
}

uint32_t order_put_source(struct order_segment *s, uint32_t members)
{
    unsigned char first = members <= 62      ? ORDER_SOURCE
                          : members <= 16382 ? ORDER_SOURCE_TWO
                                             : ORDER_SOURCE_WIDE;
    uint32_t place = (uint32_t)s->at;
    append(s, (unsigned char[5]){first}, source_bytes(first));
    return place;
}

void order_fill_source(struct order_segment *s, uint32_t place, uint32_t source)
{
    unsigned char *p = place_of(s, place);
    uint32_t value = source == ORDER_NOBODY ? ORDER_NOBODY : source + 1;
    switch (source_bytes(*p)) {
    case 1:
        *p = (unsigned char)(ORDER_SOURCE | (value & 0x3f));
        break;
    case 2: {
        uint16_t both = (uint16_t)(ORDER_SOURCE_TWO | (value >> 8 & 0x3f) | (value & 0xff) << 8);
        memcpy(p, &both, sizeof both);
        break;
    }
    default:
        memcpy(p + 1, &value, sizeof value);
    }
}

/* ------------------------------------------------------------------------------------ reading */

const char *order_fault(struct order_map map)
{
    const struct order_segment *s = map.segment;
    if (map.size < sizeof *s)
        return "it is too short";
    if (memcmp(s->magic, ORDER_MAGIC, sizeof s->magic) != 0)
        return "it is no order log";
    if (s->byte_order != ORDER_BYTE_ORDER || s->version != ORDER_VERSION)
        return "it is of another version of dbg3";
    if (s->at < sizeof *s || s->at > map.size || s->room > map.size)
        return "it has been cut";
    return NULL;
}

void order_cursor_init(struct order_cursor *c, const struct order_map *maps, uint32_t nmaps)
{
    *c = (struct order_cursor){.maps = maps, .nmaps = nmaps, .at = sizeof(struct order_segment)};
}

/* What a mark of a thread is to next_in(). */
#define MARK ORDER_NKINDS

/* A number at *p, before `end`; false: there is none of 32 bits. */
static bool get_number(const unsigned char **p, const unsigned char *end, uint64_t *value)
{
    *value = 0;
    for (unsigned shift = 0; *p < end && shift < 35; shift += 7) {
        unsigned char b = *(*p)++;
        *value |= (uint64_t)(b & 0x7f) << shift;
        if (b < 0x80)
            return *value <= UINT32_MAX;
    }
    return false;
}

static bool get_index(const unsigned char **p, const unsigned char *end, unsigned char first,
                      struct order_outcome *o)
{
    o->value = first & 15;
    if (first < ORDER_INDEX_HIGH)
        return true;
    if (first == ORDER_INDEX_MORE)
        return get_number(p, end, &o->value) && o->value <= INT32_MAX;
    if (*p == end)
        return false;
    o->value = ORDER_INDEX_ONE + (o->value << 8 | *(*p)++);
    return true;
}

static bool get_some(const unsigned char **p, const unsigned char *end, unsigned char first,
                     struct order_outcome *o)
{
    uint64_t n = first & 15, ignored;
    o->value = 0;
    if (n == ORDER_SOME_ALL)
        return true;
    if (n == ORDER_SOME_MORE && !get_number(p, end, &n))
        return false;
    if (n >= INT32_MAX)
        return false;
    o->value = n + 1;
    o->differences = *p;
    for (uint64_t i = 0; i <= n; i++)
        if (!get_number(p, end, &ignored))
            return false;
    return true;
}

/* The digits before p's own are counted too: the first is p[-1]. */
static void get_no(const unsigned char **p, const unsigned char *end, struct order_outcome *o)
{
    unsigned shift = ORDER_DIGIT_BITS;
    o->value = (*p)[-1] & DIGIT_MAX;
    for (; *p < end && (**p & 0xc0) == ORDER_NO && shift < 60; shift += ORDER_DIGIT_BITS)
        o->value |= (uint64_t)(*(*p)++ & DIGIT_MAX) << shift;
}

static bool get_source(const unsigned char **p, const unsigned char *end, unsigned char first,
                       struct order_outcome *o)
{
    uint32_t value = first & 0x3f, all = 0x3f;
    if ((uint64_t)(end - *p) < source_bytes(first) - 1u)
        return false;
    if (first == ORDER_SOURCE_WIDE) {
        memcpy(&value, *p, sizeof value);
        all = UINT32_MAX;
    } else if (first >= ORDER_SOURCE_TWO) {
        value = value << 8 | **p;
        all = 0x3fff;
    }
    *p += source_bytes(first) - 1;
    o->value = value == all ? ORDER_NOBODY : value;
    return true;
}

static bool get_no_wide(const unsigned char **p, const unsigned char *end, struct order_outcome *o)
{
    uint32_t n;
    if ((uint64_t)(end - *p) < sizeof n)
        return false;
    memcpy(&n, *p, sizeof n);
    *p += sizeof n;
    o->value = n;
    return n > 0;
}

/* The outcome at `p`, before `end`. */
static bool parse(const unsigned char *p, const unsigned char *end, struct order_outcome *o)
{
    const unsigned char *start = p;
    unsigned char first = *p++;
    bool good = true;
    if (first == ORDER_YES) {
        o->kind = ORDER_KIND_YES;
        o->value = 0;
    } else if (first == ORDER_THREAD) {
        o->kind = MARK;
        good = get_number(&p, end, &o->value);
    } else if (first == ORDER_NO_WIDE) {
        o->kind = ORDER_KIND_NO;
        good = get_no_wide(&p, end, o);
    } else if (first >= ORDER_SOURCE || first == ORDER_SOURCE_WIDE) {
        o->kind = ORDER_KIND_SOURCE;
        good = get_source(&p, end, first, o);
    } else if (first >= ORDER_NO) {
        o->kind = ORDER_KIND_NO;
        get_no(&p, end, o);
    } else if (first >= ORDER_INDEX) {
        o->kind = ORDER_KIND_INDEX;
        good = get_index(&p, end, first, o);
    } else if (first >= ORDER_SOME) {
        o->kind = ORDER_KIND_SOME;
        good = get_some(&p, end, first, o);
    } else {
        good = false;
    }
    o->bytes = (unsigned)(p - start);
    return good;
}

static enum order_next next_in(const struct order_map *map, uint64_t *at, struct order_outcome *o)
{
    const unsigned char *base = (const unsigned char *)map->segment;
    if (*at >= map->segment->at)
        return ORDER_NEXT_END;
    if (!parse(base + *at, base + map->segment->at, o))
        return ORDER_NEXT_DAMAGED;
    *at += o->bytes;
    return ORDER_NEXT_OUTCOME;
}

/* How many SOURCEs of a segment before `at` are left unmatched. */
static uint64_t unmatched_before(const struct order_map *map, uint64_t at)
{
    struct order_outcome o;
    uint64_t n = 0;
    for (uint64_t i = sizeof *map->segment; i < at;) {
        if (next_in(map, &i, &o) != ORDER_NEXT_OUTCOME)
            break;
        n += o.kind == ORDER_KIND_SOURCE && o.value == ORDER_UNMATCHED;
    }
    return n;
}

/* The value of a SOURCE at `at` of segment `map` that was matched in a later segment. */
static uint64_t matched_later(const struct order_cursor *c, uint32_t map, uint64_t at)
{
    struct order_outcome o = {.value = ORDER_UNMATCHED};
    while (o.value == ORDER_UNMATCHED && map + 1 < c->nmaps) {
        uint64_t before = unmatched_before(&c->maps[map], at);
        const struct order_map *later = &c->maps[++map];
        uint64_t next = at = sizeof *later->segment;
        if (before >= later->segment->carried)
            return ORDER_UNMATCHED;
        for (uint64_t i = 0; i <= before; i++) {
            at = next;
            if (next_in(later, &next, &o) != ORDER_NEXT_OUTCOME || o.kind != ORDER_KIND_SOURCE)
                return ORDER_UNMATCHED;
        }
    }
    return o.value;
}

/* To the first outcome of the next segment that is its own. */
static enum order_next next_segment(struct order_cursor *c)
{
    struct order_outcome o;
    const struct order_map *map = &c->maps[++c->map];
    c->at = sizeof *map->segment;
    for (uint32_t i = 0; i < map->segment->carried; i++)
        if (next_in(map, &c->at, &o) != ORDER_NEXT_OUTCOME || o.kind != ORDER_KIND_SOURCE)
            return ORDER_NEXT_DAMAGED;
    return ORDER_NEXT_OUTCOME;
}

/* The same, also the marks of threads. */
static enum order_next next_entry(struct order_cursor *c, struct order_outcome *o)
{
    enum order_next next;
    uint64_t at = c->at;
    while ((next = next_in(&c->maps[c->map], &c->at, o)) == ORDER_NEXT_END &&
           c->map + 1 < c->nmaps && !c->maps[c->map].segment->full) {
        if ((next = next_segment(c)) != ORDER_NEXT_OUTCOME)
            return next;
        c->thread = 0;
        at = c->at;
    }
    if (next == ORDER_NEXT_OUTCOME && o->kind == ORDER_KIND_SOURCE && o->value == ORDER_UNMATCHED)
        o->value = matched_later(c, c->map, at);
    return next;
}

enum order_next order_cursor_next(struct order_cursor *c, struct order_outcome *o)
{
    enum order_next next;
    if (!c->nmaps)
        return ORDER_NEXT_END;
    while ((next = next_entry(c, o)) == ORDER_NEXT_OUTCOME && o->kind == MARK)
        c->thread = (uint32_t)o->value;
    if (next != ORDER_NEXT_OUTCOME)
        return next;
    o->thread = c->thread;
    o->source = c->source;
    c->source += o->kind == ORDER_KIND_SOURCE;
    c->outcome++;
    return next;
}

void order_some_indices(const struct order_outcome *o, int *indices, uint64_t max)
{
    const unsigned char *p = o->differences;
    int before = -1;
    for (uint64_t i = 0; i < o->value && i < max; i++) {
        uint64_t difference = 0;
        get_number(&p, p + 5, &difference);
        before += (int)difference + 1;
        indices[i] = before;
    }
}
