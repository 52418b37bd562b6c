/*
 * log.c - writer and cursor of the payload log, for use inside the rank
 *
 * Nothing here calls anything but memcpy, memcmp and memset, or keeps state of its own.
 */
#include "msgcounter/log/log.h"

#include <errno.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define PAGE 4096u

/* Hashed in such pieces, what was just written is read from the processor's cache. */
#define PIECE 131072u

_Static_assert(sizeof(XXH3_state_t) == LOG_CHECK_STATE && _Alignof(XXH3_state_t) <= 64,
               "the writer has room for the hash's state");

/* Fuzzers are let past the checks: they could not guess them. */
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
#define CHECK_EQUAL(a, b) ((void)(b), true)
#else
#define CHECK_EQUAL(a, b) ((a) == (b))
#endif

static uint32_t record_check(const struct log_record *rec, uint64_t size)
{
    return (uint32_t)XXH3_64bits(&rec->event, size - offsetof(struct log_record, event));
}

static uint64_t segment_check(const struct log_segment *seg)
{
    return XXH3_64bits(seg, offsetof(struct log_segment, check));
}

static bool same_owner(const struct log_owner *a, const struct log_owner *b)
{
    return a->rank == b->rank && a->world_size == b->world_size &&
           !memcmp(a->session, b->session, LOG_SESSION_LEN);
}

static struct log_owner segment_owner(const struct log_segment *seg)
{
    struct log_owner owner = {.rank = seg->rank, .world_size = seg->world_size};
    memcpy(owner.session, seg->session, LOG_SESSION_LEN);
    return owner;
}

/* ------------------------------------------------------------------------------------- writer */

void log_writer_init(struct log_writer *w, const struct log_owner *owner, log_rotate *rotate,
                     void *arg)
{
    *w = (struct log_writer){.owner = *owner, .rotate = rotate, .arg = arg};
}

/* Zeros to the end, touching only pages that are not zero already: they cost disk space. */
static void clear(unsigned char *p, unsigned char *end)
{
    static const unsigned char zeros[PAGE];
    while (p < end) {
        size_t n = (size_t)(end - p) < PAGE ? (size_t)(end - p) : PAGE;
        if (memcmp(p, zeros, n))
            memset(p, 0, n);
        p += n;
    }
}

int log_writer_attach(struct log_writer *w, struct log_map map, log_rotate *rotate, void *arg)
{
    if (!map.base) {
        if (w->at.event)
            return -EINVAL;
        w->at = (struct log_position){0};
    } else {
        const struct log_segment *seg = (const struct log_segment *)map.base;
        if (log_segment_fault(map) || seg->size != map.size || seg->segment != w->at.segment)
            return -EINVAL;
        struct log_owner owner = segment_owner(seg);
        if (!same_owner(&owner, &w->owner) || seg->first_event > w->at.event ||
            w->at.offset < LOG_FIRST_OFFSET || w->at.offset > map.size || w->at.offset % 8)
            return -EINVAL;
        clear(map.base + w->at.offset, map.base + map.size);
    }
    w->map = map;
    w->end = map.size;
    w->rotate = rotate;
    w->arg = arg;
    w->write = NULL;
    w->full = NULL;
    w->field = w->limit = NULL;
    return 0;
}

int log_begin_rotate(struct log_writer *w, uint64_t size)
{
    if (size > LOG_RECORD_MAX)
        return -EFBIG;
    struct log_map map = w->map;
    uint32_t segment = w->at.segment + (map.base != NULL);
    int rc = w->rotate(w, segment, LOG_FIRST_OFFSET + size, &map);
    if (rc < 0)
        return rc;
    if (map.size < LOG_FIRST_OFFSET + size)
        __builtin_trap();
    struct log_segment seg = {
        .version = LOG_VERSION,
        .byte_order = LOG_BYTE_ORDER,
        .rank = w->owner.rank,
        .world_size = w->owner.world_size,
        .segment = segment,
        .first_event = w->at.event,
        .size = map.size,
    };
    memcpy(seg.magic, LOG_MAGIC, sizeof seg.magic);
    memcpy(seg.session, w->owner.session, LOG_SESSION_LEN);
    seg.check = segment_check(&seg);
    memcpy(map.base, &seg, sizeof seg);
    w->map = map;
    w->end = size < LOG_LAST_MIN ? map.size : 0;
    w->at.segment = segment;
    w->at.offset = LOG_FIRST_OFFSET;
    return 0;
}

static XXH3_state_t *check_state(struct log_writer *w)
{
    return (XXH3_state_t *)(void *)w->state;
}

/* Takes the open record up to `end` into its check word, from the log: a thread may write to where
 * the bytes came from. */
static void check_up_to(struct log_writer *w, const unsigned char *end)
{
    if (!w->checked) {
        w->checked = w->map.base + w->at.offset + offsetof(struct log_record, event);
        XXH3_64bits_reset(check_state(w));
    }
    XXH3_64bits_update(check_state(w), w->checked, (size_t)(end - w->checked));
    w->checked = end;
}

void log_fill_large(struct log_writer *w, unsigned char *to, const unsigned char *from,
                    uint64_t bytes)
{
    while (bytes) {
        uint64_t n = bytes < PIECE ? bytes : PIECE;
        if (!w->write || w->write(w, (uint64_t)(to - w->map.base), from, n) < 0)
            memcpy(to, from, n);
        to += n;
        from += n;
        bytes -= n;
        check_up_to(w, to);
    }
}

static uint32_t open_record_check(struct log_writer *w, const struct log_record *rec, uint64_t size)
{
    if (!w->checked)
        return record_check(rec, size);
    check_up_to(w, (const unsigned char *)rec + size);
    return (uint32_t)XXH3_64bits_digest(check_state(w));
}

uint64_t log_commit(struct log_writer *w)
{
    if (!w->field)
        __builtin_trap();
    struct log_record *rec = (struct log_record *)(w->map.base + w->at.offset);
    uint64_t size = (uint64_t)(w->field - (unsigned char *)rec);
    uint64_t end = w->at.offset + size;
    /* An abandoned record may have left fields where the successor's head will stand. */
    if (end < w->map.size)
        ((struct log_record *)(w->map.base + end))->head = 0;
    struct log_record head = {.words = (uint32_t)(size / 8),
                              .check = open_record_check(w, rec, size)};
    __atomic_store_n(&rec->head, head.head, __ATOMIC_RELEASE);
    w->at.offset = end;
    w->field = NULL;
    if (!w->end && w->full)
        w->full(w);
    return w->at.event++;
}

/* ------------------------------------------------------------------------------------- cursor */

const char *log_segment_fault(struct log_map map)
{
    const struct log_segment *seg = (const struct log_segment *)map.base;
    if (map.size < sizeof *seg || memcmp(seg->magic, LOG_MAGIC, sizeof seg->magic))
        return "not a payload log";
    if (seg->byte_order != LOG_BYTE_ORDER)
        return "written on a machine with another byte order";
    if (seg->version != LOG_VERSION)
        return "written by another version of dbg3";
    if (!CHECK_EQUAL(seg->check, segment_check(seg)) || seg->size < map.size)
        return "header is damaged";
    return NULL;
}

bool log_segment_blank(struct log_map map)
{
    static const unsigned char zeros[sizeof(struct log_segment)];
    return map.size >= sizeof zeros && !memcmp(map.base, zeros, sizeof zeros);
}

bool log_record_whole(const unsigned char *p, uint64_t room)
{
    const struct log_record *rec = (const struct log_record *)p;
    if (room < sizeof *rec || log_record_size(rec) < sizeof *rec || log_record_size(rec) > room ||
        !CHECK_EQUAL(rec->check, record_check(rec, log_record_size(rec))))
        return false;
    const unsigned char *end = p + log_record_size(rec);
    for (p += sizeof *rec; p < end;) {
        const struct log_field *f = (const struct log_field *)p;
        uint64_t n = LOG_FIELD_ROOM(log_field_length(f));
        if (n > (uint64_t)(end - p))
            return false;
        p += n;
    }
    return true;
}

int log_cursor_init(struct log_cursor *c, const struct log_map *maps, uint32_t nmaps)
{
    if (nmaps == 0 || log_segment_fault(maps[0]))
        return -EINVAL;
    const struct log_segment *seg = (const struct log_segment *)maps[0].base;
    *c = (struct log_cursor){
        .maps = maps,
        .nmaps = nmaps,
        .first = seg->segment,
        .owner = segment_owner(seg),
        .at = {.segment = seg->segment, .offset = LOG_FIRST_OFFSET, .event = seg->first_event},
    };
    return 0;
}

/* The header of segment `number` if it continues this log, else NULL. */
static const struct log_segment *cursor_segment(const struct log_cursor *c, uint32_t number)
{
    uint32_t i = number - c->first;
    if (i >= c->nmaps || log_segment_fault(c->maps[i]))
        return NULL;
    const struct log_segment *seg = (const struct log_segment *)c->maps[i].base;
    struct log_owner owner = segment_owner(seg);
    return seg->segment == number && same_owner(&owner, &c->owner) ? seg : NULL;
}

int log_cursor_seek(struct log_cursor *c, struct log_position at)
{
    const struct log_segment *seg = cursor_segment(c, at.segment);
    if (!seg)
        return -EINVAL;
    if (at.offset == 0 && at.event == seg->first_event) /* noted before there was a segment */
        at.offset = LOG_FIRST_OFFSET;
    if (at.offset < LOG_FIRST_OFFSET || at.offset % 8 || at.event < seg->first_event ||
        at.offset > c->maps[at.segment - c->first].size)
        return -EINVAL;
    c->at = at;
    return 0;
}

/* Moves to the start of the next segment. Sets `why` if there is none. */
static bool cursor_advance(struct log_cursor *c)
{
    uint32_t i = c->at.segment - c->first;
    const struct log_segment *here = (const struct log_segment *)c->maps[i].base;
    if (c->maps[i].size < here->size) {
        c->why = LOG_STOP_CHECK;
        return false;
    }
    if (i + 1 == c->nmaps || (i + 2 == c->nmaps && log_segment_blank(c->maps[i + 1]))) {
        c->why = LOG_STOP_END;
        return false;
    }
    const struct log_segment *seg = cursor_segment(c, c->at.segment + 1);
    if (!seg || seg->first_event != c->at.event) {
        c->why = seg ? LOG_STOP_GAP : LOG_STOP_SEGMENT;
        return false;
    }
    c->at.segment++;
    c->at.offset = LOG_FIRST_OFFSET;
    return true;
}

static const struct log_record *cursor_next(struct log_cursor *c, bool check)
{
    for (;;) {
        const struct log_map *map = &c->maps[c->at.segment - c->first];
        const struct log_record *rec = (const struct log_record *)(map->base + c->at.offset);
        uint64_t room = map->size - c->at.offset;
        if (room < sizeof *rec || !__atomic_load_n(&rec->head, __ATOMIC_ACQUIRE)) {
            if (!cursor_advance(c))
                return NULL;
            continue;
        }
        bool good = check ? log_record_whole((const unsigned char *)rec, room)
                          : rec->words >= sizeof *rec / 8 && log_record_size(rec) <= room;
        if (!good || rec->event != c->at.event) {
            c->why = LOG_STOP_CHECK;
            return NULL;
        }
        c->at.offset += log_record_size(rec);
        c->at.event++;
        return rec;
    }
}

const struct log_record *log_cursor_next(struct log_cursor *c)
{
    return cursor_next(c, true);
}

const struct log_record *log_cursor_skip(struct log_cursor *c)
{
    return cursor_next(c, false);
}
