/*
 * log_read.c - read a rank's payload log from its folder, with errors for people
 *
 * The cursor does the reading. What is added here: the files, the search for records behind an
 * apparent end (a head that was lost, as zeros, looks like the end of the recording), and the
 * texts.
 */
#include "msgcounter/log/log_read.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "msgcounter/log/log_file.h"

#define ADVICE "`dbg3 refine` records it again"

struct log_reader {
    char *dir;
    uint32_t rank;
    struct log_map *maps; /* of consecutive segments from the first that exists */
    uint32_t nmaps;
    bool gap;   /* segments are there behind a missing one */
    bool blank; /* the only segment was never begun: no record */
    bool ended; /* the end was looked behind and nothing found */
    struct log_cursor cursor;
};

struct path {
    char s[PATH_MAX];
};

static struct path segment_path(const struct log_reader *r, uint32_t segment)
{
    struct path p;
    log_file_path(p.s, sizeof p.s, r->dir, r->rank, segment);
    return p;
}

static int map_segments(struct log_reader *r, const uint32_t *numbers, size_t n, struct err *err)
{
    r->maps = calloc(n, sizeof *r->maps);
    if (!r->maps)
        return err_sys(err, "%s", r->dir);
    for (size_t i = 0; i < n; i++) {
        if (numbers[i] != numbers[0] + i) {
            r->gap = true;
            break;
        }
        int rc = log_file_map(r->dir, r->rank, numbers[i], false, &r->maps[i]);
        if (rc == -EINVAL) /* an empty file: said when reading gets there */
            r->maps[i] = (struct log_map){0};
        else if (rc < 0) {
            errno = -rc;
            return err_sys(err, "%s", segment_path(r, numbers[i]).s);
        }
        r->nmaps++;
    }
    return 0;
}

/* What is wrong with a segment's header, given whose log it should be; NULL if nothing. */
static const char *header_fault(struct log_map map, uint32_t number, const struct log_owner *owner,
                                const uint8_t *session)
{
    const char *fault = log_segment_fault(map);
    if (fault)
        return fault;
    const struct log_segment *seg = (const struct log_segment *)map.base;
    if (seg->segment != number)
        return "is another segment under a wrong name";
    if (seg->rank != owner->rank)
        return "is the log of another rank";
    if (session && memcmp(seg->session, session, LOG_SESSION_LEN))
        return "belongs to another session";
    if (owner->world_size && seg->world_size != owner->world_size)
        return "is of a job with another number of ranks";
    return NULL;
}

static int start(struct log_reader *r, uint32_t first, const uint8_t *session, struct err *err)
{
    struct log_owner owner = {.rank = r->rank};
    if (r->nmaps == 1 && !r->gap && log_segment_blank(r->maps[0])) {
        r->blank = true;
        r->cursor.owner = owner;
        return 0;
    }
    const char *fault = header_fault(r->maps[0], first, &owner, session);
    if (fault)
        return err_set(err, "%s: %s; " ADVICE, segment_path(r, first).s, fault);
    log_cursor_init(&r->cursor, r->maps, r->nmaps);
    return 0;
}

int log_reader_open(struct log_reader **out, const char *dir, uint32_t rank, const uint8_t *session,
                    struct err *err)
{
    uint32_t *numbers;
    size_t n;
    if (log_file_list(dir, rank, &numbers, &n, err) < 0)
        return -1;
    if (n == 0) {
        free(numbers);
        return err_set(err, "%s: no payload log of rank %" PRIu32 "; `dbg3 refine` makes one", dir,
                       rank);
    }
    struct log_reader *r = calloc(1, sizeof *r);
    if (!r || !(r->dir = strdup(dir))) {
        err_sys(err, "%s", dir);
        goto fail;
    }
    r->rank = rank;
    if (map_segments(r, numbers, n, err) < 0 || start(r, numbers[0], session, err) < 0)
        goto fail;
    free(numbers);
    *out = r;
    return 0;
fail:
    free(numbers);
    log_reader_close(r);
    return -1;
}

void log_reader_close(struct log_reader *r)
{
    if (!r)
        return;
    int saved = errno;
    for (uint32_t i = 0; i < r->nmaps; i++)
        if (r->maps[i].base)
            munmap(r->maps[i].base, r->maps[i].size);
    free(r->maps);
    free(r->dir);
    free(r);
    errno = saved;
}

/* The first whole record behind the cursor in its segment that has a later event number, or NULL.
 */
static const struct log_record *record_behind(const struct log_reader *r)
{
    const struct log_cursor *c = &r->cursor;
    const struct log_map *map = &r->maps[c->at.segment - c->first];
    uint64_t last = c->at.event + map->size / sizeof(struct log_record);
    for (uint64_t at = c->at.offset + 8; at + sizeof(struct log_record) <= map->size; at += 8) {
        const struct log_record *rec = (const struct log_record *)(map->base + at);
        if (rec->words && rec->event > c->at.event && rec->event <= last &&
            log_record_whole((const unsigned char *)rec, map->size - at))
            return rec;
    }
    return NULL;
}

static int damage(const struct log_reader *r, struct err *err, const char *what)
{
    const struct log_position *at = &r->cursor.at;
    return err_set(err,
                   "%s: offset %" PRIu64 ": %s: the log of rank %" PRIu32
                   " is readable up to event %" PRId64 "; " ADVICE,
                   segment_path(r, at->segment).s, at->offset, what, r->rank,
                   (int64_t)at->event - 1);
}

/* No further record, it seems. */
static int stop_end(struct log_reader *r, struct err *err)
{
    const struct log_cursor *c = &r->cursor;
    if (r->gap)
        return err_set(err,
                       "%s: missing, though later segments are there: the log of rank %" PRIu32
                       " is readable up to event %" PRId64 "; " ADVICE,
                       segment_path(r, c->first + r->nmaps).s, r->rank, (int64_t)c->at.event - 1);
    if (r->ended)
        return 0;
    const struct log_map *map = &r->maps[c->at.segment - c->first];
    const struct log_record *due = (const struct log_record *)(map->base + c->at.offset);
    const struct log_record *rec = record_behind(r);
    /* A writer at work may have committed both the due record and those behind it meanwhile. */
    if (rec && !__atomic_load_n(&due->head, __ATOMIC_ACQUIRE))
        return damage(r, err, "the record is lost but whole records follow");
    r->ended = !rec;
    return 0;
}

static int stop_segment(const struct log_reader *r, struct err *err)
{
    const struct log_cursor *c = &r->cursor;
    uint32_t number = c->at.segment + 1;
    const char *fault =
        header_fault(r->maps[number - c->first], number, &c->owner, c->owner.session);
    return err_set(
        err, "%s: %s: the log of rank %" PRIu32 " is readable up to event %" PRId64 "; " ADVICE,
        segment_path(r, number).s, fault ? fault : "header changed", r->rank,
        (int64_t)c->at.event - 1);
}

int log_reader_next(struct log_reader *r, const struct log_record **rec, struct err *err)
{
    if (r->blank)
        return 0;
    const struct log_record *next = log_cursor_next(&r->cursor);
    if (next) {
        r->ended = false;
        *rec = next;
        return 1;
    }
    switch (r->cursor.why) {
    case LOG_STOP_CHECK:
        return damage(r, err, "the record is torn or damaged");
    case LOG_STOP_GAP:
        return damage(r, err, "records are missing between here and the next segment");
    case LOG_STOP_SEGMENT:
        return stop_segment(r, err);
    default:
        return stop_end(r, err);
    }
}

int log_reader_seek(struct log_reader *r, struct log_position at, struct err *err)
{
    if (r->blank ? at.event != 0 : log_cursor_seek(&r->cursor, at) < 0)
        return err_set(err,
                       "%s: no place for event %" PRIu64 " at offset %" PRIu64
                       ": the log was trimmed or recorded again since",
                       segment_path(r, at.segment).s, at.event, at.offset);
    r->ended = false;
    return 0;
}

struct log_position log_reader_position(const struct log_reader *r)
{
    return r->cursor.at;
}

/* Where the records of a segment end, and how many there are. */
static uint64_t records_end(struct log_map map, uint64_t *records)
{
    uint64_t at = LOG_FIRST_OFFSET;
    for (*records = 0; at + sizeof(struct log_record) <= map.size; ++*records) {
        const struct log_record *rec = (const struct log_record *)(map.base + at);
        uint64_t words = (uint32_t)__atomic_load_n(&rec->head, __ATOMIC_ACQUIRE);
        if (words == 0 || words * 8 > map.size - at)
            break;
        at += words * 8;
    }
    return at;
}

int log_size_of(const char *dir, uint32_t rank, struct log_size *out, struct err *err)
{
    struct log_reader *r;
    struct log_size size = {0};
    if (log_reader_open(&r, dir, rank, NULL, err) < 0)
        return -1;
    uint32_t last = r->nmaps;
    while (last > 0 && (!r->maps[last - 1].base || log_segment_fault(r->maps[last - 1])))
        last--;
    if (last > 0) {
        const struct log_segment *first = (const struct log_segment *)r->maps[0].base;
        const struct log_segment *newest = (const struct log_segment *)r->maps[last - 1].base;
        size.bytes = records_end(r->maps[last - 1], &size.events);
        size.events += newest->first_event - first->first_event;
        size.first_event = first->first_event;
        for (uint32_t i = 0; i + 1 < last; i++)
            size.bytes += r->maps[i].size;
    }
    log_reader_close(r);
    *out = size;
    return 0;
}

const struct log_owner *log_reader_owner(const struct log_reader *r)
{
    return &r->cursor.owner;
}
