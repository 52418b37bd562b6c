/*
 * record.c - recording and replaying of calls: the stub's end of the payload log
 *
 * The writer's place in the log is in upper-half memory: an image that was saved while recording
 * knows where replay has to begin. Each thread reads the log with a place of its own
 * (stub_thread.cursor) and skips the events of others.
 */
#include "msgcounter/stub/record.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "msgcounter/log/system_table.h"
#include "msgcounter/stub/comm.h"
#include "msgcounter/stub/init.h"
#include "msgcounter/stub/op.h"
#include "msgcounter/stub/request.h"
#include "msgcounter/stub/stub.h"
#include "msgcounter/stub/system.h"
#include "msgcounter/stub/turn.h"
#include "msgcounter/stub/win_watch.h"

struct log_writer record_writer;

static struct stub_lock lock;
#define EARLY_SEGMENT 65536

static void begin(uint16_t call, uint16_t flags, uint32_t thread, uint64_t max_bytes);

static bool attached; /* record_writer has a log */
static __thread uint64_t moment;

/* Events before MPI_Init, when there is no log yet: in memory. */
static struct log_map *early;
static unsigned nearly;

/* What record_idle holds back. */
static struct {
    uint64_t count;
    uint32_t thread;
    int object;
    enum call call;
} idle;

/* ----------------------------------------------------------------------------- writing */

static int rotate(struct log_writer *w, uint32_t segment, uint64_t min_size, struct log_map *map)
{
    void *base = NULL;
    uint64_t bytes = 0, number = segment;
    stub_thread.writing = 1;
    int rc = (int)cross(GATE->log_segment, min_size, w->at.event, (uint64_t)&base, (uint64_t)&bytes,
                        (uint64_t)&number);
    stub_thread.writing = 0;
    if (rc == 0)
        *map = (struct log_map){base, bytes};
    return rc;
}

/* Past the mapping, into the file. */
static int write_file(struct log_writer *w, uint64_t offset, const void *from, uint64_t bytes)
{
    stub_thread.writing = 1;
    int rc = (int)cross(GATE->log_write, offset, (uint64_t)from, bytes, 0, 0);
    stub_thread.writing = 0;
    return rc;
}

static void segment_full(struct log_writer *w)
{
    (void)w;
    stub_thread.writing = 1;
    cross(GATE->log_full, 0);
    stub_thread.writing = 0;
}

static int rotate_early(struct log_writer *w, uint32_t segment, uint64_t min_size,
                        struct log_map *map)
{
    uint64_t size = min_size > EARLY_SEGMENT ? min_size : EARLY_SEGMENT;
    early = stub_realloc(early, (nearly + 1) * sizeof *early);
    *map = early[nearly++] = (struct log_map){stub_alloc(size), size};
    return 0;
}

/* Writes the early events to the log that there is now. They keep their numbers. */
static void copy_early(void)
{
    struct log_cursor c;
    const struct log_record *rec;
    if (!nearly || log_cursor_init(&c, early, nearly) < 0)
        return;
    while ((rec = log_cursor_next(&c))) {
        const struct log_field *f = NULL;
        begin(rec->call, rec->flags, rec->thread, log_record_size(rec));
        while ((f = log_field_next(rec, f)))
            log_put(&record_writer, f->param, f->role, log_field_value(f), log_field_length(f));
        log_commit(&record_writer);
    }
    for (unsigned i = 0; i < nearly; i++)
        stub_free(early[i].base);
    stub_free(early);
    early = NULL;
    nearly = 0;
}

const char *record_name(uint16_t call)
{
    if (call & SYSTEM_CALL)
        return system_name(call & ~SYSTEM_CALL);
    return call < CALL_COUNT ? call_table[call].name : "a clock reading";
}

static void begin(uint16_t call, uint16_t flags, uint32_t thread, uint64_t max_bytes)
{
    if (!record_writer.rotate)
        log_writer_init(&record_writer, &(struct log_owner){0}, rotate_early, NULL);
    int rc = log_begin(&record_writer, call, thread, max_bytes + LOG_FIELD_ROOM(4));
    if (rc < 0)
        stub_stop(125, "%s: event %lu cannot be recorded: %s", record_name(call),
                  (unsigned long)record_writer.at.event, strerror(-rc));
    log_set_flags(&record_writer, flags);
}

static void flush(void)
{
    if (!idle.count)
        return;
    uint64_t count = idle.count;
    idle.count = 0;
    begin((uint16_t)idle.call, RECORD_IDLE, idle.thread, LOG_FIELD_ROOM(8) + LOG_FIELD_ROOM(4));
    log_put_u64(&record_writer, LOG_PARAM_NONE, LOG_ROLE_VALUE, count);
    log_put_i32(&record_writer, LOG_PARAM_NONE, LOG_ROLE_HANDLE, idle.object);
    log_commit(&record_writer);
}

/* Also where only one thread may call MPI the others read the clock. */
static void writer_lock(void)
{
    if (stub_threads_made)
        stub_lock_slow(&lock);
}

static void writer_unlock(void)
{
    if (stub_threads_made)
        stub_unlock_slow(&lock);
}

void record_flush(void)
{
    if (!recording())
        return;
    writer_lock();
    flush();
    writer_unlock();
}

void record_begin(enum call call, uint64_t max_bytes)
{
    writer_lock();
    flush();
    begin((uint16_t)call, 0, stub_thread_ordinal(), max_bytes);
}

void record_callback_begin(enum call call, uint64_t max_bytes)
{
    writer_lock();
    flush();
    begin((uint16_t)call, RECORD_CALLBACK, stub_thread_ordinal(), max_bytes);
}

void record_beside_begin(enum call call, enum record_flag flag, uint64_t max_bytes)
{
    writer_lock();
    flush();
    begin((uint16_t)call, flag, stub_thread_ordinal(), max_bytes + LOG_FIELD_ROOM(8));
    log_put(&record_writer, LOG_PARAM_NONE, LOG_ROLE_VALUE, &stub_thread.mpi_calls, 8);
}

void record_system_begin(unsigned number, uint16_t flags, uint64_t max_bytes)
{
    writer_lock();
    flush();
    begin((uint16_t)(SYSTEM_CALL | number), flags, stub_thread_ordinal(),
          max_bytes + LOG_FIELD_ROOM(8));
}

void record_system_end(long result)
{
    log_put_u64(&record_writer, LOG_PARAM_NONE, LOG_ROLE_RETCODE, (uint64_t)result);
    log_commit(&record_writer);
    moment++;
    writer_unlock();
}

void record_signal(unsigned where, uint64_t calls, const void *info)
{
    record_system_begin(SYSTEM_SIGNALLED, 0, LOG_FIELD_ROOM(8) + LOG_FIELD_ROOM(sizeof(siginfo_t)));
    log_put_u64(&record_writer, (uint8_t)where, LOG_ROLE_HANDLE, calls);
    log_put(&record_writer, (uint8_t)where, LOG_ROLE_VALUE, info, sizeof(siginfo_t));
    record_system_end(0);
}

void record_pack(const struct layout *l, const void *buf, void *to, uint64_t bytes)
{
    int64_t size = layout_bounds(l).size;
    const void *piece = bytes < LOG_WRITE_MIN || size == 0
                            ? NULL
                            : layout_piece(l, ((int64_t)bytes + size - 1) / size, buf);
    if (piece)
        log_fill(&record_writer, to, piece, bytes);
    else
        layout_pack_first(l, buf, to, bytes);
}

/* It is nobody's event: threads that look for their own pass it by. */
void record_schedule(const struct schedule_change *change)
{
    writer_lock();
    flush();
    begin(SYSTEM_CALL | SYSTEM_SCHEDULE, 0, SCHEDULE_NOBODY, LOG_FIELD_ROOM(sizeof *change));
    log_put(&record_writer, LOG_PARAM_NONE, LOG_ROLE_VALUE, change, sizeof *change);
    log_commit(&record_writer);
    writer_unlock();
}

uint64_t record_moment(void)
{
    return moment;
}

uint64_t record_end(int rc)
{
    log_put_i32(&record_writer, LOG_PARAM_NONE, LOG_ROLE_RETCODE, rc);
    uint64_t event = log_commit(&record_writer);
    moment++;
    writer_unlock();
    return event;
}

void record_idle(enum call call, int object)
{
    uint32_t thread = stub_thread_ordinal();
    writer_lock();
    if (idle.count && (idle.call != call || idle.object != object || idle.thread != thread))
        flush();
    idle.call = call;
    idle.object = object;
    idle.thread = thread;
    idle.count++;
    moment++;
    writer_unlock();
}

/* ----------------------------------------------------------------------------- reading */

/* The log as it is mapped; `at` is set from the thread's place before each use. */
static struct log_cursor cursor;
static struct log_position start;
static uint32_t generation; /* of the process that attached */

/* Where replay begins: where this image was recording, else at the log's start. */
static void attach_cursor(void)
{
    if (log_cursor_init(&cursor, GATE->replay_segments, (uint32_t)GATE->replay_nsegments) < 0)
        stub_stop(125, "the recording cannot be read: its first segment is damaged");
    start = attached ? record_writer.at : cursor.at;
    if (log_cursor_seek(&cursor, start) < 0)
        stub_stop(125, "the recording does not reach back to event %lu, where this image was saved",
                  (unsigned long)start.event);
    start = cursor.at; /* one that was noted before there was a segment has been made good */
    stub_thread.cursor_valid = 0;
    requests_drop_owned();
    win_watch_replay();
    turn_start(start.event);
    schedule_begins_at(start);
    generation = GATE->generation;
}

const struct log_record *replay_at(struct log_position at)
{
    struct log_cursor c = cursor;
    c.at = at;
    return cursor.maps ? log_cursor_next(&c) : NULL;
}

bool replay_find_schedule(struct log_position *at, uint64_t *event, struct schedule_change *change)
{
    struct log_cursor c = cursor;
    const struct log_record *rec;
    c.at = *at;
    while (cursor.maps && (rec = log_cursor_skip(&c)))
        if (rec->call == (SYSTEM_CALL | SYSTEM_SCHEDULE)) {
            const struct log_field *f = replay_field(rec, LOG_PARAM_NONE, LOG_ROLE_VALUE);
            memcpy(change, log_field_value(f), sizeof *change);
            *event = rec->event;
            *at = c.at;
            return true;
        }
    return false;
}

static struct stub_place *thread_place(void)
{
    struct stub_place *p = &stub_thread.cursor;
    if (!stub_thread.cursor_valid) {
        *p = (struct stub_place){.at = start};
        stub_thread.cursor_valid = 1;
    }
    return p;
}

/* The next event of this thread; *after is the place behind it. */
static const struct log_record *look(struct log_position *after)
{
    if (GATE->replay_nsegments == 0 && GATE->log_start_event == 0) {
        cursor.why = LOG_STOP_END; /* it failed before its first event */
        return NULL;
    }
    if (!cursor.maps)
        attach_cursor();
    struct log_cursor c = cursor;
    c.at = thread_place()->at;
    uint32_t thread = stub_thread_ordinal();
    const struct log_record *rec;
    do
        rec = log_cursor_next(&c);
    while (rec && rec->thread != thread);
    *after = c.at;
    cursor.why = c.why;
    if (rec) {
        schedule_wait(rec->event);
        turn_wait(rec->event);
    }
    return rec;
}

void record_taken(uint64_t event)
{
    uint64_t wanted = GATE->replay_stop_at;
    if (!wanted || event + 1 < wanted)
        return;
    GATE->stop(GATE_STOP_EVENT, "");
}

/* The call through the table keeps one address that a debugger can count at. */
static void take(const struct log_record *rec, struct log_position after)
{
    *thread_place() = (struct stub_place){.at = after};
    stub_thread.arrived = 0;
    turn_taken(rec->event);
    schedule_taken(after);
    stub_gate.taken(rec->event);
}

/* The next event of this thread, which need not have come yet: for what asks at each call, where
 * the thread itself may have to go on for it to come. Another event is left for those who want it
 * to check. */
static const struct log_record *look_ahead(struct log_position *after)
{
    struct log_cursor c = cursor;
    const struct log_record *rec;
    if (!cursor.maps)
        return NULL;
    c.at = thread_place()->at;
    while ((rec = log_cursor_skip(&c)) && rec->thread != stub_thread_ordinal())
        ;
    *after = c.at;
    return rec;
}

/* The same if a handler ran there. */
static const struct log_record *look_for_signal(struct log_position *after)
{
    const struct log_record *rec = look_ahead(after);
    return rec && rec->call == (SYSTEM_CALL | SYSTEM_SIGNALLED) ? rec : NULL;
}

static const void *take_signal(const struct log_record *rec, struct log_position after)
{
    const struct log_field *f = log_field_next(rec, NULL); /* both have the place as `param` */
    schedule_wait(rec->event);
    take(rec, after);
    return log_field_value(replay_field(rec, f->param, LOG_ROLE_VALUE));
}

static bool is_signal_of_call(const struct log_record *rec)
{
    return rec->call == (SYSTEM_CALL | SYSTEM_SIGNALLED) &&
           log_field_next(rec, NULL)->param == SIGNAL_OWN;
}

/* The next event that is no callback; runs the callbacks before it, and handlers of signals, which
 * belong to the call that asks. */
static const struct log_record *look_past_callbacks(struct log_position *after)
{
    const struct log_record *rec;
    while ((rec = look(after)))
        if (rec->flags & RECORD_CALLBACK) {
            take(rec, *after);
            op_replay(rec);
        } else if (is_signal_of_call(rec)) {
            signal_again(take_signal(rec, *after));
        } else {
            break;
        }
    return rec;
}

const struct log_record *replay_peek(void)
{
    struct log_position after;
    return look_past_callbacks(&after);
}

static void __attribute__((noreturn)) no_event(uint16_t call)
{
    unsigned long event = thread_place()->at.event;
    static const char *const why[] = {
        [LOG_STOP_SEGMENT] = "its next segment is not of this recording",
        [LOG_STOP_GAP] = "events are missing",
        [LOG_STOP_CHECK] = "the event is damaged",
    };
    if (cursor.why == LOG_STOP_END) {
        if (!schedule_wait_for_end())
            turn_end();
        stub_stop(0, "end of recording: event %lu (the rank is in %s)", event, record_name(call));
    }
    stub_stop(125, "the recording cannot be read at event %lu: %s", event, why[cursor.why]);
}

static void __attribute__((noreturn)) diverged(uint16_t call, const struct log_record *rec)
{
    stub_stop(3, "diverged at event %lu: %s is called where %s%s was recorded",
              (unsigned long)rec->event, record_name(call), record_name(rec->call),
              rec->flags & RECORD_IDLE ? " without success" : "");
}

static const struct log_record *next_of(uint16_t call)
{
    struct log_position after;
    const struct log_record *rec = look_past_callbacks(&after);
    if (!rec)
        no_event(call);
    if (rec->call != call || rec->flags & (RECORD_IDLE | RECORD_MEMORY | RECORD_LEFT))
        diverged(call, rec);
    take(rec, after);
    return rec;
}

const struct log_record *replay_next(enum call call)
{
    return next_of((uint16_t)call);
}

const struct log_record *replay_system(unsigned number)
{
    return next_of((uint16_t)(SYSTEM_CALL | number));
}

const void *replay_signal(uint64_t calls, enum signal_where *where)
{
    struct log_position after;
    const struct log_record *rec = look_for_signal(&after);
    const struct log_field *f = rec ? log_field_next(rec, NULL) : NULL;
    if (!f || f->param == SIGNAL_IN || (uint64_t)log_field_int(f) > calls ||
        schedule_changes_before(rec->event))
        return NULL;
    *where = f->param;
    return take_signal(rec, after);
}

static const struct log_record *look_for_signal_in_call(struct log_position *after)
{
    const struct log_record *rec = look_for_signal(after);
    const struct log_field *f = rec ? log_field_next(rec, NULL) : NULL;
    return f && f->param == SIGNAL_IN ? rec : NULL;
}

bool replay_signal_is_in_call(void)
{
    struct log_position after;
    return look_for_signal_in_call(&after);
}

const void *replay_signal_in_call(void)
{
    struct log_position after;
    const struct log_record *rec = look_for_signal_in_call(&after);
    return rec ? take_signal(rec, after) : NULL;
}

bool replay_idle(enum call call, int object)
{
    struct log_position after;
    const struct log_record *rec = look_past_callbacks(&after);
    if (!rec || !(rec->flags & RECORD_IDLE) || rec->call != call ||
        log_field_int(replay_field(rec, LOG_PARAM_NONE, LOG_ROLE_HANDLE)) != object)
        return false;
    struct stub_place *p = thread_place();
    p->taken++;
    if (p->taken == (uint64_t)log_field_int(replay_field(rec, LOG_PARAM_NONE, LOG_ROLE_VALUE)))
        take(rec, after);
    return true;
}

/* Of this call, and not of a later one of several that are no events themselves. */
static bool is_here(const struct log_record *rec, enum record_flag flag)
{
    return rec->flags & flag &&
           (uint64_t)log_field_int(replay_field(rec, LOG_PARAM_NONE, LOG_ROLE_VALUE)) ==
               stub_thread.mpi_calls;
}

const struct log_record *replay_beside(enum record_flag flag)
{
    struct log_position after;
    const struct log_record *rec = look_ahead(&after);
    if (!rec || !is_here(rec, flag) || !(rec = look(&after)))
        return NULL;
    take(rec, after);
    return rec;
}

int replay_rc(const struct log_record *rec)
{
    return (int)log_field_int(replay_field(rec, LOG_PARAM_NONE, LOG_ROLE_RETCODE));
}

const struct log_field *replay_field(const struct log_record *rec, uint8_t param,
                                     enum log_role role)
{
    const struct log_field *f = log_field_find(rec, NULL, param, role);
    if (!f)
        stub_stop(125,
                  "event %lu of the recording lacks a value of %s: it is of another build of dbg3",
                  (unsigned long)rec->event, record_name(rec->call));
    return f;
}

/* " to 12 tag 7", if the event tells. */
static const char *envelope_text(const struct log_record *rec, char *text, size_t size)
{
    const struct log_field *f = log_field_find(rec, NULL, LOG_PARAM_NONE, LOG_ROLE_ENVELOPE);
    const struct log_envelope *e = f ? log_field_value(f) : NULL;
    text[0] = 0;
    if (e)
        snprintf(text, size, " to %d tag %d", e->peer, e->tag);
    return text;
}

void replay_check_envelope(const struct log_record *rec, int peer, int tag, uint32_t comm)
{
    const struct log_envelope *e =
        log_field_value(replay_field(rec, LOG_PARAM_NONE, LOG_ROLE_ENVELOPE));
    unsigned long event = rec->event;
    if (e->peer != peer)
        stub_stop(3, "diverged at event %lu: %s names peer %d, recorded %d", event,
                  record_name(rec->call), peer, e->peer);
    if (e->tag != tag)
        stub_stop(3, "diverged at event %lu: %s of peer %d has tag %d, recorded %d", event,
                  record_name(rec->call), peer, tag, e->tag);
    if (e->comm != comm)
        stub_stop(
            3,
            "diverged at event %lu: %s of peer %d tag %d is on another communicator than recorded",
            event, record_name(rec->call), peer, tag);
}

void replay_check_digest(const struct log_record *rec, uint8_t param, uint64_t digest,
                         uint64_t bytes)
{
    const struct log_digest *d = log_field_value(replay_field(rec, param, LOG_ROLE_DIGEST));
    char to[64];
    if (d->bytes != bytes)
        stub_stop(3, "diverged at event %lu: %s%s has %lu bytes, recorded %lu",
                  (unsigned long)rec->event, record_name(rec->call),
                  envelope_text(rec, to, sizeof to), (unsigned long)bytes, (unsigned long)d->bytes);
    if (d->digest != digest)
        stub_stop(3, "diverged at event %lu: %s%s has other data than recorded",
                  (unsigned long)rec->event, record_name(rec->call),
                  envelope_text(rec, to, sizeof to));
}

/* ----------------------------------------------------------------------------- place */

uint64_t record_event(void)
{
    return replaying() ? thread_place()->at.event : record_writer.at.event;
}

void record_attach(void)
{
    if (replaying()) {
        if (!cursor.maps || generation != GATE->generation)
            attach_cursor();
        system_record(); /* an image of batch dispatches nothing */
        signal_place_attach();
    } else if (recording()) {
        struct log_owner owner = {.rank = (uint32_t)init_rank_in_job(),
                                  .world_size = (uint32_t)comm_world.size};
        record_flush();
        log_writer_init(&record_writer, &owner, rotate, NULL);
        record_writer.write = write_file;
        record_writer.full = segment_full;
        attached = true;
        copy_early();
        system_record();
        signal_place_attach();
    }
    generation = GATE->generation;
}
