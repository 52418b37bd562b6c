/*
 * log.h - payload log of a rank: writer and cursor that work inside the rank
 *
 * While recording, every output of a call is written here; in replay the call is answered from
 * here. Both run where no libc may be used (no malloc, errno, TLS or system call), so mapping files
 * is the business of the owner: log_file.h does it for a lower half with a libc and for ordinary
 * processes; log_read.h is a reader with error texts.
 *
 * Writing a record, values packed straight into the log:
 *
 *     if (log_begin(w, CALL_RECV, thread, LOG_FIELD_ROOM(bytes) + LOG_FIELD_ROOM(4)) < 0) ...
 *     layout_pack(layout, count, buf, log_reserve(w, 0, LOG_ROLE_DATA, bytes), bytes);
 *     log_put_i32(w, LOG_PARAM_NONE, LOG_ROLE_RETCODE, rc);
 *     log_commit(w);
 *
 * Memory that lies in one piece is better handed to log_put() or log_fill() as it is: much of it
 * goes past the mapping.
 *
 * One record is open at a time; a rank with several threads holds its own lock from log_begin to
 * log_commit. The order of commits is the order of events.
 */
#ifndef DBG3_MSGCOUNTER_LOG_H
#define DBG3_MSGCOUNTER_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "msgcounter/log/log_format.h"

/* A mapped segment. */
struct log_map {
    unsigned char *base;
    uint64_t size; /* bytes */
};

/* Whose log this is; the same in every segment. */
struct log_owner {
    uint32_t rank;
    uint32_t world_size;
    uint8_t session[LOG_SESSION_LEN];
};

struct log_writer;

/*
 * Makes room for a record: called by log_begin when the present segment is full, and before the
 * first record. Creates and maps segment file `segment`, of max(default, min_size) bytes, zeros
 * where the header and that of a record will stand. On entry *map is the present mapping ({NULL, 0}
 * if none), which the writer does not touch any more; on success the function has stored the new
 * one. Returns 0, or -errno with *map as it was. log.h writes the header.
 */
typedef int log_rotate(struct log_writer *w, uint32_t segment, uint64_t min_size,
                       struct log_map *map);

/*
 * Puts bytes into the file of the present segment, `offset` from its start, without the mapping:
 * the first write to a page of a mapped file is a fault that clears it, which takes several times
 * as long as the copy. Returns 0, or -errno if they have to be copied through the mapping.
 */
typedef int log_write(struct log_writer *w, uint64_t offset, const void *from, uint64_t bytes);

/* From so many bytes on that is worth a system call. */
#define LOG_WRITE_MIN 16384

/* A record of so many bytes is the last of its segment. */
#define LOG_LAST_MIN (16u << 20)

/*
 * The present segment takes no more, and the writer does not touch its mapping again, except to
 * hand it to rotate. Put away now, while the program works towards the next such record, it leaves
 * its pages to that.
 */
typedef void log_full(struct log_writer *w);

/* Bytes of an XXH3_state_t: log.c makes sure. */
#define LOG_CHECK_STATE 576

/*
 * The writer. Lives in memory that checkpoints save: `owner` and `at` are the state that counts,
 * everything else is set by log_writer_attach() after a restore. Read `at` through
 * log_writer_position(); the rest is private to log.h and log_write.c.
 */
struct log_writer {
    struct log_owner owner;
    struct log_position at; /* of the next record */

    struct log_map map; /* of segment at.segment; {NULL, 0} before the first record */
    uint64_t end; /* a record that would go beyond it goes to the next segment */
    log_rotate *rotate;
    void *arg; /* the owner's, for rotate, write and full */
    log_write *write; /* NULL, as log_writer_init leaves it: all goes through the mapping */
    log_full *full;   /* may be NULL */

    unsigned char *field; /* where the next field of the open record goes; NULL if none is open */
    unsigned char *limit; /* first byte that the open record must not touch */

    const unsigned char *checked; /* the check word has all before; NULL: nothing so far */
    _Alignas(64) unsigned char state[LOG_CHECK_STATE]; /* of its hash */
};

/* An empty log that starts with event 0 in segment 0. Nothing is mapped before the first record. */
void log_writer_init(struct log_writer *w, const struct log_owner *owner, log_rotate *rotate,
                     void *arg);

/*
 * Continues at w->at after a restore: `map` is the segment w->at.segment, mapped again ({NULL, 0}
 * if w->at.event is 0: no segment was needed yet). What an earlier life wrote behind w->at is
 * cleared; later segment files must have been removed (log_remove_from in log_file.h). Returns 0,
 * -EINVAL if the segment is not the one that w describes.
 */
int log_writer_attach(struct log_writer *w, struct log_map map, log_rotate *rotate, void *arg);

/* Place of the next record: what a checkpoint notes and log_cursor_seek takes. */
static inline struct log_position log_writer_position(const struct log_writer *w)
{
    return w->at;
}

/* The slow path of log_begin: rotates. */
int log_begin_rotate(struct log_writer *w, uint64_t size);

/*
 * Opens a record with room for max_bytes of fields: the sum of LOG_FIELD_ROOM(length) of them, or
 * more. Only what is used is kept. Returns 0; -EFBIG if the record would exceed LOG_RECORD_MAX;
 * what rotate returned if there is no room (the record is then not open).
 */
static inline int log_begin(struct log_writer *w, uint16_t call, uint32_t thread,
                            uint64_t max_bytes)
{
    uint64_t size = sizeof(struct log_record) + ((max_bytes + 7) & ~UINT64_C(7));
    if (__builtin_expect(w->at.offset + size > w->end || max_bytes > LOG_RECORD_MAX, 0)) {
        int rc = log_begin_rotate(w, size);
        if (rc < 0)
            return rc;
    }
    unsigned char *p = w->map.base + w->at.offset;
    struct log_record *rec = (struct log_record *)p;
    rec->event = w->at.event;
    rec->call = call;
    rec->flags = 0;
    rec->thread = thread;
    w->field = p + sizeof *rec;
    w->limit = p + size;
    w->checked = NULL;
    return 0;
}

/*
 * Appends a field with a value of `length` bytes and returns where the caller must put them: inside
 * the log, 8-aligned, until log_commit. Traps if no record is open or its max_bytes is exceeded.
 */
static inline void *log_reserve(struct log_writer *w, uint8_t param, enum log_role role,
                                uint64_t length)
{
    struct log_field *f = (struct log_field *)w->field;
    if (!f || length >> 48 || (uint64_t)(w->limit - w->field) < LOG_FIELD_ROOM(length))
        __builtin_trap();
    f->param = param;
    f->role = (uint8_t)role;
    f->length_high = (uint16_t)(length >> 32);
    f->length = (uint32_t)length;
    w->field += LOG_FIELD_ROOM(length);
    if (length & 7)
        ((uint64_t *)w->field)[-1] = 0;
    return f + 1;
}

/* log_fill of much. */
void log_fill_large(struct log_writer *w, unsigned char *to, const unsigned char *from,
                    uint64_t bytes);

/* Copies to a place that log_reserve() gave: what follows from `to` on, or a part of it. What the
 * record has before that is as it stays. */
static inline void log_fill(struct log_writer *w, void *to, const void *from, uint64_t bytes)
{
    if (bytes < LOG_WRITE_MIN)
        __builtin_memcpy(to, from, bytes);
    else
        log_fill_large(w, (unsigned char *)to, (const unsigned char *)from, bytes);
}

static inline void log_put(struct log_writer *w, uint8_t param, enum log_role role,
                           const void *value, uint64_t length)
{
    log_fill(w, log_reserve(w, param, role, length), value, length);
}

static inline void log_put_i32(struct log_writer *w, uint8_t param, enum log_role role,
                               int32_t value)
{
    log_put(w, param, role, &value, sizeof value);
}

static inline void log_put_u64(struct log_writer *w, uint8_t param, enum log_role role,
                               uint64_t value)
{
    log_put(w, param, role, &value, sizeof value);
}

static inline void log_put_digest(struct log_writer *w, uint8_t param, uint64_t digest,
                                  uint64_t bytes)
{
    struct log_digest d = {digest, bytes};
    log_put(w, param, LOG_ROLE_DIGEST, &d, sizeof d);
}

static inline void log_put_envelope(struct log_writer *w, int32_t peer, int32_t tag, uint32_t comm)
{
    struct log_envelope e = {peer, tag, comm, 0};
    log_put(w, LOG_PARAM_NONE, LOG_ROLE_ENVELOPE, &e, sizeof e);
}

static inline void log_put_status(struct log_writer *w, uint8_t param, const struct log_status *st)
{
    log_put(w, param, LOG_ROLE_STATUS, st, sizeof *st);
}

/* Sets the flags of the open record (0 after log_begin), before its first field. */
static inline void log_set_flags(struct log_writer *w, uint16_t flags)
{
    ((struct log_record *)(w->map.base + w->at.offset))->flags = flags;
}

/* Closes the record: from now on readers see it, also if the process is killed the next moment.
 * Returns its event number. */
uint64_t log_commit(struct log_writer *w);

/* Forgets the open record; it takes no event number. */
static inline void log_abandon(struct log_writer *w)
{
    w->field = NULL;
}

/* ------------------------------------------------------------------------------------- cursor */

/* Why log_cursor_next returned no record. */
enum log_stop {
    LOG_STOP_END,     /* no further record in the segments given: end of recording */
    LOG_STOP_CHECK,   /* the record at `at` is torn or damaged, or the file is cut there */
    LOG_STOP_SEGMENT, /* the segment behind has a bad header or belongs to another log */
    LOG_STOP_GAP,     /* the segment behind starts with another event than is due */
};

/*
 * Reads mapped segments in place. `at` is the place of the next record and does not move when there
 * is none; after LOG_STOP_END the call may be repeated, to follow a log that is being written.
 */
struct log_cursor {
    const struct log_map *maps; /* of consecutive segments; the owner keeps them mapped */
    uint32_t nmaps;
    uint32_t first; /* number of the segment in maps[0] */
    struct log_owner owner;
    struct log_position at;
    enum log_stop why;
};

/*
 * Starts at the first record of maps[0]. The owner is taken from its header; later segments must
 * have the same. Returns 0, or -EINVAL if maps[0] is no segment of this version.
 */
int log_cursor_init(struct log_cursor *c, const struct log_map *maps, uint32_t nmaps);

/* Goes to a place that a writer noted. Returns 0, or -EINVAL if it is in none of the segments. */
int log_cursor_seek(struct log_cursor *c, struct log_position at);

/*
 * The next record, checked: its check word and event number are right and its fields lie inside it.
 * It is borrowed from the mapping. NULL at the end or at damage: see c->why and c->at.
 */
const struct log_record *log_cursor_next(struct log_cursor *c);

/* The same without the check word, for those who look for one of many records and leave it to
 * another cursor to check them. */
const struct log_record *log_cursor_skip(struct log_cursor *c);

/* Whether the bytes at p (8-aligned) begin with a whole record; `room` is what is left of the
 * segment. The event number is not looked at. */
bool log_record_whole(const unsigned char *p, uint64_t room);

/* NULL if the segment has a good header of this version, else what is wrong with it (static). */
const char *log_segment_fault(struct log_map map);

/* Whether the header was never written: the process died while it made the segment. */
bool log_segment_blank(struct log_map map);

static inline uint64_t log_record_size(const struct log_record *rec)
{
    return (uint64_t)rec->words * 8;
}

static inline uint64_t log_field_length(const struct log_field *f)
{
    return (uint64_t)f->length_high << 32 | f->length;
}

static inline const void *log_field_value(const struct log_field *f)
{
    return f + 1;
}

/* The field behind `f`, or the first if f is NULL; NULL behind the last. */
static inline const struct log_field *log_field_next(const struct log_record *rec,
                                                     const struct log_field *f)
{
    const unsigned char *p = f ? (const unsigned char *)f + LOG_FIELD_ROOM(log_field_length(f))
                               : (const unsigned char *)(rec + 1);
    return p < (const unsigned char *)rec + log_record_size(rec) ? (const struct log_field *)p
                                                                 : NULL;
}

/* The first field behind `f` (NULL: of the record) with this parameter and role, or NULL. */
static inline const struct log_field *log_field_find(const struct log_record *rec,
                                                     const struct log_field *f, uint8_t param,
                                                     enum log_role role)
{
    while ((f = log_field_next(rec, f)) && (f->param != param || f->role != role))
        ;
    return f;
}

/* The 4 or 8 bytes of a scalar field as a signed number; 0 for any other length. */
static inline int64_t log_field_int(const struct log_field *f)
{
    int32_t i;
    int64_t l;
    switch (log_field_length(f)) {
    case sizeof i:
        __builtin_memcpy(&i, log_field_value(f), sizeof i);
        return i;
    case sizeof l:
        __builtin_memcpy(&l, log_field_value(f), sizeof l);
        return l;
    default:
        return 0;
    }
}

#endif
