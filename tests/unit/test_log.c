/*
 * test_log.c - payload log: writer, cursor, folder reader, dump, and every kind of damage
 *
 * `test_log time` prints what writing and reading cost instead of testing.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "msgcounter/log/log_dump.h"
#include "msgcounter/log/log_file.h"
#include "tests/unit/unit.h"

#define RANK 3u


static const char *dir;
static struct log_file file;
static struct log_writer writer;
static const struct log_owner owner = {RANK, 8, "0123456789abcde"};

static void setup(void)
{
    scratch_enter();
    dir = scratch_folder();
    file = (struct log_file){.dir = dir, .segment_size = 4096};
    log_writer_init(&writer, &owner, log_file_rotate, &file);
}

static void teardown(void)
{
    if (writer.map.base)
        munmap(writer.map.base, writer.map.size);
    scratch_leave();
}

/* A log_rotate that always gives the same memory. */
static int rotate_in_place(struct log_writer *w, uint32_t segment, uint64_t min_size,
                           struct log_map *map)
{
    static _Alignas(64) unsigned char memory[4 << 20];
    *map = (struct log_map){memory, sizeof memory};
    return min_size <= sizeof memory ? 0 : -EFBIG;
}

/* ------------------------------------------------------------------ records made from a number */

/* A byte of record `event`, so that any record can be made and checked on its own. */
static unsigned char byte_of(uint64_t event, uint64_t i)
{
    return (unsigned char)(event * 131 + i * 7 + (i >> 8));
}

static uint64_t data_length(uint64_t event)
{
    return event % 11 == 0 ? 0 : event * 37 % 301;
}

/* No ck_assert in here: Check notes each one, also those of a forked child. */
static void append(struct log_writer *w, uint64_t event, uint64_t salt)
{
    uint64_t n = data_length(event);
    if (log_begin(w, (uint16_t)(event % 400), (uint32_t)(event % 3),
                  LOG_FIELD_ROOM(n) + 2 * LOG_FIELD_ROOM(8) + 100) < 0)
        abort();
    log_set_flags(w, (uint16_t)(event % 5));
    log_put_u64(w, 1, LOG_ROLE_VALUE, event ^ salt);
    unsigned char *p = log_reserve(w, 2, LOG_ROLE_DATA, n);
    for (uint64_t i = 0; i < n; i++)
        p[i] = byte_of(event, i);
    log_put_i32(w, LOG_PARAM_NONE, LOG_ROLE_RETCODE, -(int32_t)event);
    if (log_commit(w) != event)
        abort();
}

static void append_many(struct log_writer *w, uint64_t n, uint64_t salt)
{
    while (n-- > 0)
        append(w, log_writer_position(w).event, salt);
}

static bool record_ok(const struct log_record *rec, uint64_t event, uint64_t salt)
{
    if (!rec || rec->event != event || rec->call != event % 400 || rec->thread != event % 3 ||
        rec->flags != event % 5 || log_field_find(rec, NULL, 1, LOG_ROLE_DATA))
        return false;
    const struct log_field *value = log_field_find(rec, NULL, 1, LOG_ROLE_VALUE);
    const struct log_field *data = log_field_find(rec, value, 2, LOG_ROLE_DATA);
    const struct log_field *rc = log_field_find(rec, data, LOG_PARAM_NONE, LOG_ROLE_RETCODE);
    if (!value || log_field_int(value) != (int64_t)(event ^ salt) || !data ||
        log_field_length(data) != data_length(event) || !rc ||
        log_field_int(rc) != -(int64_t)event || log_field_next(rec, rc))
        return false;
    const unsigned char *p = log_field_value(data);
    for (uint64_t i = 0; i < data_length(event); i++)
        if (p[i] != byte_of(event, i))
            return false;
    return true;
}

/* Reads from the start until there is nothing more; checks each record. Returns what the last call
 * of log_reader_next returned (or -2 if opening failed) and stores the number of records. */
static int read_all(uint64_t *records, struct err *err)
{
    struct log_reader *r;
    *records = 0;
    if (log_reader_open(&r, dir, RANK, owner.session, err) < 0)
        return -2;
    const struct log_record *rec;
    int rc;
    uint64_t event = log_reader_position(r).event;
    for (; (rc = log_reader_next(r, &rec, err)) > 0; event++, ++*records)
        if (!record_ok(rec, event, 0))
            ck_abort_msg("event %lu is not what was written", (unsigned long)event);
    const struct log_record *again;
    if (log_reader_next(r, &again, NULL) != rc || log_reader_position(r).event != event)
        ck_abort_msg("the reader moved on after its end");
    log_reader_close(r);
    return rc;
}

/* Valid until the call after the next. */
static const char *segment_name(uint32_t segment)
{
    static char paths[2][PATH_MAX];
    static int turn;
    turn = !turn;
    log_file_path(paths[turn], sizeof paths[turn], dir, RANK, segment);
    return paths[turn];
}

static struct log_map map_segment(uint32_t segment)
{
    struct log_map map;
    ck_assert_int_eq(log_file_map(dir, RANK, segment, true, &map), 0);
    return map;
}

/* -------------------------------------------------------------------------- writing and reading */

START_TEST(empty)
{
    struct err err;
    uint64_t n;
    ck_assert_int_eq(read_all(&n, &err), -2);
    ck_assert_ptr_nonnull(strstr(err.text, "no payload log of rank 3"));
    ck_assert_int_eq(log_begin(&writer, 1, 0, 8), 0);
    log_abandon(&writer);
    ck_assert_int_eq(read_all(&n, &err), 0);
    ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(round_trip)
{
    struct err err;
    uint64_t n;
    append_many(&writer, 1000, 0);
    ck_assert_uint_gt(log_writer_position(&writer).segment, 20);
    ck_assert_int_eq(read_all(&n, &err), 0);
    ck_assert_uint_eq(n, 1000);
}
END_TEST

/* What a replaying rank does: cursor over mapped segments, from any noted place. */
START_TEST(cursor_seeks_everywhere)
{
    static struct log_position at[301];
    for (uint64_t i = 0; i < 300; i++) {
        at[i] = log_writer_position(&writer);
        append(&writer, i, 0);
    }
    at[300] = log_writer_position(&writer);
    ck_assert_uint_eq(at[0].offset, 0);

    uint32_t nmaps = at[300].segment + 1;
    struct log_map *maps = calloc(nmaps, sizeof *maps);
    for (uint32_t s = 0; s < nmaps; s++)
        maps[s] = map_segment(s);
    struct log_cursor c;
    ck_assert_int_eq(log_cursor_init(&c, maps, nmaps), 0);
    for (uint64_t i = 0; i <= 300; i++) {
        ck_assert_int_eq(log_cursor_seek(&c, at[i]), 0);
        for (uint64_t k = i; k < 300; k++)
            ck_assert(record_ok(log_cursor_next(&c), k, 0));
        ck_assert_ptr_null(log_cursor_next(&c));
        ck_assert_int_eq(c.why, LOG_STOP_END);
    }
    /* The cursor follows a log that grows. */
    append(&writer, 300, 0);
    if (log_writer_position(&writer).segment == at[300].segment)
        ck_assert(record_ok(log_cursor_next(&c), 300, 0));

    struct log_position bad = at[5];
    bad.offset += 4;
    ck_assert_int_eq(log_cursor_seek(&c, bad), -EINVAL);
    bad = at[5];
    bad.segment = nmaps;
    ck_assert_int_eq(log_cursor_seek(&c, bad), -EINVAL);
    for (uint32_t s = 0; s < nmaps; s++)
        munmap(maps[s].base, maps[s].size);
    free(maps);
}
END_TEST

START_TEST(large_record_has_a_segment_of_its_own)
{
    append_many(&writer, 3, 0);
    uint64_t n = 3 << 20;
    ck_assert_int_eq(log_begin(&writer, 9, 0, LOG_FIELD_ROOM(n)), 0);
    memset(log_reserve(&writer, 0, LOG_ROLE_DATA, n), 0x5a, n);
    ck_assert_uint_eq(log_commit(&writer), 3);
    append_many(&writer, 30, 0);

    struct stat st;
    ck_assert_int_eq(stat(segment_name(1), &st), 0);
    ck_assert_int_gt(st.st_size, 3 << 20);
    ck_assert_int_lt(st.st_size, (3 << 20) + 8192);
    ck_assert_int_eq(stat(segment_name(2), &st), 0);
    ck_assert_int_eq(st.st_size, 4096);

    struct log_reader *r;
    const struct log_record *rec = NULL;
    ck_assert_int_eq(log_reader_open(&r, dir, RANK, NULL, NULL), 0);
    for (uint64_t i = 0; i < 4; i++)
        ck_assert_int_eq(log_reader_next(r, &rec, NULL), 1);
    const struct log_field *f = log_field_next(rec, NULL);
    ck_assert_uint_eq(log_field_length(f), n);
    ck_assert_int_eq(((const unsigned char *)log_field_value(f))[n - 1], 0x5a);
    for (uint64_t i = 4; i < 34; i++) {
        ck_assert_int_eq(log_reader_next(r, &rec, NULL), 1);
        ck_assert(record_ok(rec, i, 0));
    }
    log_reader_close(r);
    ck_assert_int_eq(log_begin(&writer, 0, 0, LOG_RECORD_MAX), -EFBIG);
}
END_TEST

/* The segment of a very large record takes no other, and is whole when the next one begins. */
START_TEST(very_large_record_is_the_last_of_its_segment)
{
    uint64_t n = LOG_LAST_MIN - 1024 * (uint64_t)_i;
    ck_assert_int_eq(log_begin(&writer, 9, 0, LOG_FIELD_ROOM(n)), 0);
    memset(log_reserve(&writer, 0, LOG_ROLE_DATA, n), 0x5a, n);
    ck_assert_uint_eq(log_commit(&writer), 0);
    ck_assert_uint_eq(writer.at.segment, 0);
    append_many(&writer, 1, 0);
    ck_assert_uint_eq(writer.at.segment, _i == 0);

    struct log_reader *r;
    const struct log_record *rec = NULL;
    ck_assert_int_eq(log_reader_open(&r, dir, RANK, NULL, NULL), 0);
    ck_assert_int_eq(log_reader_next(r, &rec, NULL), 1);
    ck_assert_uint_eq(log_field_length(log_field_next(rec, NULL)), n);
    ck_assert_int_eq(log_reader_next(r, &rec, NULL), 1);
    ck_assert(record_ok(rec, 1, 0));
    ck_assert_int_eq(log_reader_next(r, &rec, NULL), 0);
    log_reader_close(r);
}
END_TEST

static struct {
    unsigned calls;
    bool broken;
} past;

/* A log_write: into the file, past the mapping. */
static int write_past(struct log_writer *w, uint64_t offset, const void *from, uint64_t bytes)
{
    past.calls++;
    if (past.broken)
        return -EIO;
    int fd = open(segment_name(w->at.segment), O_WRONLY);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pwrite(fd, from, bytes, (off_t)offset), (ssize_t)bytes);
    close(fd);
    return 0;
}

/* The check word of what is written in pieces is that of one piece. */
START_TEST(check_of_pieces)
{
    static unsigned char from[400000];
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = byte_of(_i, i);
    past.calls = 0;
    past.broken = _i == 1;
    writer.write = write_past;
    for (int round = 0; round < 3; round++) {
        ck_assert_int_eq(log_begin(&writer, 7, 0, 3 * LOG_FIELD_ROOM(sizeof from)), 0);
        log_set_flags(&writer, 5);
        log_put_u64(&writer, 0, LOG_ROLE_VALUE, 17);
        log_put(&writer, 1, LOG_ROLE_DATA, from, sizeof from - (size_t)round);
        log_put(&writer, 2, LOG_ROLE_DATA, from, 100);
        log_put(&writer, 3, LOG_ROLE_DATA, from + 1, sizeof from - 1);
        if (round == 1)
            log_abandon(&writer);
        else
            log_commit(&writer);
    }
    ck_assert_uint_eq(past.calls, 3 * 2 * 4);

    struct log_reader *r;
    const struct log_record *rec = NULL;
    ck_assert_int_eq(log_reader_open(&r, dir, RANK, NULL, NULL), 0);
    ck_assert_int_eq(log_reader_next(r, &rec, NULL), 1);
    ck_assert_int_eq(log_reader_next(r, &rec, NULL), 1);
    ck_assert_int_eq(rec->flags, 5);
    const struct log_field *f = log_field_find(rec, NULL, 3, LOG_ROLE_DATA);
    ck_assert_int_eq(memcmp(log_field_value(f), from + 1, sizeof from - 1), 0);
    ck_assert_int_eq(log_reader_next(r, &rec, NULL), 0);
    log_reader_close(r);
}
END_TEST

/* Fields of all lengths about the one from which on they are written past the mapping. */
static void append_fields(const unsigned char *from)
{
    for (uint64_t n = LOG_WRITE_MIN - 9; n < LOG_WRITE_MIN + 9; n++) {
        ck_assert_int_eq(log_begin(&writer, 7, 0, 2 * LOG_FIELD_ROOM(n)), 0);
        log_put(&writer, 0, LOG_ROLE_DATA, from, n);
        unsigned char *to = log_reserve(&writer, 1, LOG_ROLE_DATA, n);
        log_fill(&writer, to, from + 9, n / 2);
        log_fill(&writer, to + n / 2, from + 9 + n / 2, n - n / 2);
        log_commit(&writer);
    }
}

START_TEST(large_field_goes_past_the_mapping)
{
    static unsigned char from[LOG_WRITE_MIN + 18];
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = byte_of(_i, i);
    past.calls = 0;
    past.broken = _i == 1;
    writer.write = write_past;
    file.segment_size = 10 * LOG_WRITE_MIN;
    append_fields(from);
    ck_assert_uint_eq(past.calls, 9); /* no half is large */

    struct log_reader *r;
    const struct log_record *rec = NULL;
    ck_assert_int_eq(log_reader_open(&r, dir, RANK, NULL, NULL), 0);
    for (uint64_t n = LOG_WRITE_MIN - 9; n < LOG_WRITE_MIN + 9; n++) {
        ck_assert_int_eq(log_reader_next(r, &rec, NULL), 1);
        for (uint8_t param = 0; param < 2; param++) {
            const struct log_field *f = log_field_find(rec, NULL, param, LOG_ROLE_DATA);
            ck_assert_uint_eq(log_field_length(f), n);
            ck_assert_int_eq(memcmp(log_field_value(f), from + 9 * param, n), 0);
        }
    }
    ck_assert_int_eq(log_reader_next(r, &rec, NULL), 0);
    log_reader_close(r);
}
END_TEST

START_TEST(abandoned_record_leaves_no_trace)
{
    append_many(&writer, 5, 0);
    for (uint64_t event = 5; event < 60; event++) {
        ck_assert_int_eq(log_begin(&writer, 77, 0, 600), 0);
        memset(log_reserve(&writer, 0, LOG_ROLE_DATA, 580), 0xff, 580);
        log_abandon(&writer);
        uint64_t n;
        ck_assert_int_eq(read_all(&n, NULL), 0);
        ck_assert_uint_eq(n, event);
        append(&writer, event, 0);
    }
}
END_TEST

/* Without the fixture: nobody tidies up after a test that is meant to die. */
START_TEST(field_beyond_the_room_traps)
{
    log_writer_init(&writer, &owner, rotate_in_place, NULL);
    ck_assert_int_eq(log_begin(&writer, 1, 0, 16), 0);
    log_put_u64(&writer, 0, LOG_ROLE_VALUE, 1);
    log_put_i32(&writer, 0, LOG_ROLE_VALUE, 1);
}
END_TEST

START_TEST(commit_without_begin_traps)
{
    log_writer_init(&writer, &owner, rotate_in_place, NULL);
    append_many(&writer, 1, 0);
    log_commit(&writer);
}
END_TEST

/* ------------------------------------------------------------------------- death, restart, trim */

START_TEST(killed_writer_loses_no_commit)
{
    volatile uint64_t *done =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        for (;;) {
            append(&writer, *done, 0);
            ++*done;
        }
    while (*done < 500)
        usleep(100);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    uint64_t n;
    struct err err;
    ck_assert_msg(read_all(&n, &err) == 0, "%s", err.text);
    ck_assert_uint_ge(n, *done);
    ck_assert_uint_le(n, *done + 1);
}
END_TEST

/* A second life writes other records of the same sizes, so that records of the first one stand
 * where the reader looks next. */
START_TEST(restored_writer_forgets_the_future)
{
    append_many(&writer, 100, 0);
    struct log_writer saved = writer;
    uint64_t saved_offset = log_writer_position(&writer).offset;
    append_many(&writer, 100, 1);
    munmap(writer.map.base, writer.map.size);

    writer = saved;
    struct err err;
    uint32_t segment = log_writer_position(&writer).segment;
    ck_assert_int_eq(log_remove_from(dir, RANK, segment + 1, &err), 0);
    ck_assert_int_eq(log_writer_attach(&writer, map_segment(segment), log_file_rotate, &file), 0);
    uint64_t n;
    ck_assert_int_eq(read_all(&n, &err), 0);
    ck_assert_uint_eq(n, 100);
    ck_assert_uint_eq(log_writer_position(&writer).offset, saved_offset);
    for (uint64_t event = 100; event < 250; event++) {
        append(&writer, event, 0);
        ck_assert_int_eq(read_all(&n, &err), 0);
        ck_assert_uint_eq(n, event + 1);
    }

    /* Not its segment, not its log. */
    struct log_map other = map_segment(segment - 1);
    struct log_writer w = saved;
    ck_assert_int_eq(log_writer_attach(&w, other, log_file_rotate, &file), -EINVAL);
    w.owner.rank++;
    ck_assert_int_eq(log_writer_attach(&w, writer.map, log_file_rotate, &file), -EINVAL);
    w = saved;
    ck_assert_int_eq(log_writer_attach(&w, (struct log_map){0}, log_file_rotate, &file), -EINVAL);
    munmap(other.base, other.size);
}
END_TEST

START_TEST(writer_restored_to_the_start)
{
    struct log_writer saved = writer;
    append_many(&writer, 50, 1);
    munmap(writer.map.base, writer.map.size);
    writer = saved;
    ck_assert_int_eq(log_remove_from(dir, RANK, 0, NULL), 0);
    ck_assert_int_eq(log_writer_attach(&writer, (struct log_map){0}, log_file_rotate, &file), 0);
    append_many(&writer, 20, 0);
    uint64_t n;
    ck_assert_int_eq(read_all(&n, NULL), 0);
    ck_assert_uint_eq(n, 20);
}
END_TEST

START_TEST(trim_keeps_from_a_segment)
{
    append_many(&writer, 300, 0);
    struct err err;
    struct log_map map = map_segment(7);
    uint64_t first = ((const struct log_segment *)map.base)->first_event;
    munmap(map.base, map.size);
    ck_assert_int_eq(log_trim(dir, RANK, 7, &err), 0);
    ck_assert_int_eq(access(segment_name(6), F_OK), -1);
    uint64_t n;
    ck_assert_int_eq(read_all(&n, &err), 0);
    ck_assert_uint_eq(n, 300 - first);
    struct log_position end = log_writer_position(&writer);
    struct log_size size;
    ck_assert_int_eq(log_size_of(dir, RANK, &size, &err), 0);
    ck_assert_uint_eq(size.first_event, first);
    ck_assert_uint_eq(size.events, n);
    ck_assert_uint_eq(size.bytes, (end.segment - 7) * file.segment_size + end.offset);
    ck_assert_int_eq(log_size_of(dir, RANK + 1, &size, &err), -1);
    ck_assert_int_eq(log_trim(dir, RANK, 0, &err), 0);
    ck_assert_int_eq(log_trim(dir, RANK + 1, 9, &err), 0);

    struct log_reader *r;
    ck_assert_int_eq(log_reader_open(&r, dir, RANK, NULL, &err), 0);
    ck_assert_int_eq(log_reader_seek(r, (struct log_position){2, 0, 72, 30}, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "trimmed"));
    log_reader_close(r);
}
END_TEST

/* posix_fallocate meets the limit where a full disk would say ENOSPC; nothing is left behind. */
START_TEST(no_room_is_an_error_of_begin)
{
    append_many(&writer, 3, 0);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit limit = {8192, 8192};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_int_eq(log_begin(&writer, 1, 0, 100000), -EFBIG);
    ck_assert_int_eq(access(segment_name(1), F_OK), -1);
    append_many(&writer, 30, 0);
    uint64_t n;
    ck_assert_int_eq(read_all(&n, NULL), 0);
    ck_assert_uint_eq(n, 33);
}
END_TEST

/* ------------------------------------------------------------------------------------- damage */

/* Each byte of the used part of a middle segment and of the last one is damaged in three ways. */
START_TEST(every_flipped_byte_is_recognised)
{
    append_many(&writer, 30, 0);
    uint32_t last = log_writer_position(&writer).segment;
    ck_assert_uint_eq(last, 1);
    for (uint32_t s = 0; s <= last; s++) {
        struct log_map map = map_segment(s);
        struct log_map maps[1] = {map};
        struct log_cursor c;
        ck_assert_int_eq(log_cursor_init(&c, maps, 1), 0);
        while (log_cursor_next(&c))
            ;
        uint64_t end = c.at.offset;
        for (uint64_t i = 0; i < end; i++) {
            const unsigned char ways[] = {1, 0x80, map.base[i] ? map.base[i] : 0xff};
            for (int k = 0; k < 3; k++) {
                struct err err;
                uint64_t n;
                map.base[i] ^= ways[k];
                int rc = read_all(&n, &err);
                if (rc >= 0 || n >= 30 || !strstr(err.text, dir) || !strstr(err.text, "refine"))
                    ck_abort_msg("segment %u byte %lu way %d: %d, %lu records", s, (unsigned long)i,
                                 k, rc, (unsigned long)n);
                map.base[i] ^= ways[k];
            }
        }
        munmap(map.base, map.size);
    }
    uint64_t n;
    ck_assert_int_eq(read_all(&n, NULL), 0);
    ck_assert_uint_eq(n, 30);
}
END_TEST

/* A block of zeros where a record began, as after a power failure: not taken for the end. */
START_TEST(lost_block_is_not_the_end)
{
    append_many(&writer, 12, 0);
    memset(writer.map.base + 1024, 0, 512);
    struct err err;
    uint64_t n;
    ck_assert_int_eq(read_all(&n, &err), -1);
    memset(writer.map.base + 600, 0, 512);
    struct log_map map = writer.map;
    struct log_cursor c;
    ck_assert_int_eq(log_cursor_init(&c, &map, 1), 0);
    while (log_cursor_next(&c))
        ;
    memset(writer.map.base + c.at.offset, 0, 1024);
    ck_assert_int_eq(read_all(&n, &err), -1);
    ck_assert_uint_lt(n, 12);
    ck_assert_msg(strstr(err.text, "whole records follow") != NULL, "%s", err.text);
}
END_TEST

START_TEST(every_truncation_is_readable_to_the_last_whole_record)
{
    append_many(&writer, 12, 0);
    ck_assert_uint_eq(log_writer_position(&writer).segment, 0);
    uint64_t used = log_writer_position(&writer).offset;
    uint64_t before = 12;
    for (uint64_t size = 4095; size > 0; size--) {
        struct err err;
        uint64_t n;
        ck_assert_int_eq(truncate(segment_name(0), (off_t)size), 0);
        int rc = read_all(&n, &err);
        if (rc != (size < LOG_FIRST_OFFSET ? -2 : -1) || n > before || n + 1 < before ||
            (size >= used && n != 12))
            ck_abort_msg("%lu bytes: %d, %lu records", (unsigned long)size, rc, (unsigned long)n);
        before = n;
    }
    ck_assert_uint_eq(before, 0);
}
END_TEST

/* Expects that opening, or reading after `records`, fails with a text that has both parts. */
static void expect_fault(uint64_t records, const char *part, const char *part2)
{
    struct err err;
    uint64_t n;
    ck_assert_int_lt(read_all(&n, &err), 0);
    ck_assert_uint_eq(n, records);
    ck_assert_msg(strstr(err.text, part) && strstr(err.text, part2), "%s", err.text);
}

START_TEST(folder_faults_are_told)
{
    append_many(&writer, 100, 0);
    char keep[PATH_MAX];
    snprintf(keep, sizeof keep, "%s/keep", dir);
    struct log_map map = map_segment(2);
    uint64_t second = ((const struct log_segment *)map.base)->first_event;

    ck_assert_int_eq(rename(segment_name(2), keep), 0);
    expect_fault(second, "00000002.dlog", "missing");
    ck_assert_int_eq(truncate(segment_name(1), 0), 0);
    struct err err;
    uint64_t n;
    ck_assert_int_eq(read_all(&n, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "00000001.dlog: not a payload log"));
    ck_assert_int_eq(rename(keep, segment_name(1)), 0);
    ck_assert_int_eq(read_all(&n, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "another segment under a wrong name"));
    ck_assert_int_eq(log_remove_from(dir, RANK, 3, NULL), 0);
    ck_assert_int_eq(rename(segment_name(1), segment_name(2)), 0);
    ck_assert_int_eq(log_trim(dir, RANK, 2, NULL), 0);
    munmap(map.base, map.size);
    ck_assert_int_eq(read_all(&n, &err), 0);

    struct log_reader *r;
    ck_assert_int_eq(log_reader_open(&r, dir, RANK, (const uint8_t *)"another session", &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "belongs to another session"));
}
END_TEST

START_TEST(segment_of_another_life_is_told)
{
    append_many(&writer, 12, 0);
    struct log_writer other;
    struct log_owner stranger = owner;
    stranger.session[0]++;
    log_writer_init(&other, &stranger, log_file_rotate, &file);
    other.at.segment = 1; /* its first segment will be 1, which continues ours by number */
    other.at.event = 12;
    append_many(&other, 3, 0);
    expect_fault(12, "00000001.dlog", "belongs to another session");
    munmap(other.map.base, other.map.size);

    log_writer_init(&other, &owner, log_file_rotate, &file);
    other.at.segment = 1;
    other.at.event = 25;
    append_many(&other, 3, 0);
    expect_fault(12, "00000000.dlog", "records are missing");
    memset(other.map.base, 0, other.map.size); /* as if killed before it wrote the header */
    uint64_t n;
    ck_assert_int_eq(read_all(&n, NULL), 0);
    ck_assert_uint_eq(n, 12);
    munmap(other.map.base, other.map.size);
}
END_TEST

START_TEST(other_version_and_byte_order_are_told)
{
    append_many(&writer, 2, 0);
    struct log_segment *seg = (struct log_segment *)writer.map.base;
    struct log_segment good = *seg;
    seg->version = LOG_VERSION + 1;
    expect_fault(0, "00000000.dlog", "another version of dbg3");
    *seg = good;
    seg->byte_order = __builtin_bswap32(LOG_BYTE_ORDER);
    expect_fault(0, "00000000.dlog", "byte order");
    *seg = good;
    uint64_t n;
    ck_assert_int_eq(read_all(&n, NULL), 0);
}
END_TEST

/* --------------------------------------------------------------------------------------- dump */

static const char *name_of(void *arg, uint16_t call)
{
    static const char *const names[] = {"MPI_Send", "MPI_Recv", "MPI_Neighbor_alltoallw",
                                        "MPI_Wtime"};
    return call < 4 ? names[call] : NULL;
}

/* One record of each kind that the dump treats differently. */
static void write_samples(struct log_writer *w)
{
    static const unsigned char data[40] = "ten doubles";
    struct log_status st = {.source = 5, .tag = 42, .error = 0, .count = sizeof data};
    log_begin(w, 0, 0, 500);
    log_put_envelope(w, 5, 7, 0x44000000);
    log_put_digest(w, 0, 0x0123456789abcdef, 8000000);
    log_put_i32(w, LOG_PARAM_NONE, LOG_ROLE_RETCODE, 0);
    log_commit(w);
    log_begin(w, 1, 1, 500);
    log_put_envelope(w, -2, -1, 3);
    log_put_status(w, 6, &st);
    log_put(w, 0, LOG_ROLE_DATA, data, sizeof data);
    log_put_i32(w, LOG_PARAM_NONE, LOG_ROLE_RETCODE, 0);
    log_commit(w);
    log_begin(w, 2, 0, 500);
    log_set_flags(w, 9);
    log_put(w, 0, LOG_ROLE_DATA, data, 3);
    log_put(w, 0, LOG_ROLE_DATA, data, 4);
    log_put_i32(w, 1, LOG_ROLE_HANDLE, -1);
    log_put_u64(w, 2, LOG_ROLE_REQUEST, 123456789012);
    log_put(w, 3, LOG_ROLE_VALUE, data, 6);
    log_commit(w);
    double now = 0.5;
    int64_t reading[2] = {1700000000, 999999999};
    log_begin(w, 3, 0, 500);
    log_put(w, LOG_PARAM_NONE, LOG_ROLE_TIME, &now, sizeof now);
    log_put(w, LOG_PARAM_NONE, LOG_ROLE_TIME, reading, sizeof reading);
    log_put(w, 1, LOG_ROLE_TEXT, "node-17", 7);
    log_put(w, 1, LOG_ROLE_TEXT, "\xff\xfe", 2);
    log_commit(w);
    log_begin(w, 999, 0, 500);
    log_put(w, 0, (enum log_role)200, data, 3);
    log_put(w, 0, LOG_ROLE_STATUS, data, 3);
    log_put(w, 0, LOG_ROLE_DATA, data, 0);
    log_commit(w);
}

START_TEST(dump_is_golden)
{
    write_samples(&writer);
    for (int json = 0; json < 2; json++) {
        char *text;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        struct log_reader *r;
        struct log_dump_opts opts = {.json = json, .name_of = name_of};
        ck_assert_int_eq(log_reader_open(&r, dir, RANK, NULL, NULL), 0);
        ck_assert_int_eq(log_dump(r, out, &opts, NULL), 0);
        log_reader_close(r);
        fclose(out);
        unit_golden(json ? "log-dump.jsonl" : "log-dump.txt", text);
        for (const char *line = text, *nl; !json && (nl = strchr(line, '\n')); line = nl + 1)
            ck_assert_int_le(nl - line, 80);
        free(text);
    }
}
END_TEST

START_TEST(dump_range)
{
    append_many(&writer, 50, 0);
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    struct log_reader *r;
    struct log_dump_opts opts = {.json = true, .from = 10, .to = 12};
    ck_assert_int_eq(log_reader_open(&r, dir, RANK, NULL, NULL), 0);
    ck_assert_int_eq(log_dump(r, out, &opts, NULL), 0);
    log_reader_close(r);
    fclose(out);
    const char *second = strchr(text, '\n') + 1;
    ck_assert(!strncmp(text, "{\"event\":10,", 12) && !strncmp(second, "{\"event\":11,", 12));
    ck_assert_str_eq(strchr(second, '\n'), "\n");
    free(text);
}
END_TEST

START_TEST(corpus)
{
    unit_corpus("log", 4, LLVMFuzzerTestOneInput);
}
END_TEST

/* ------------------------------------------------------------------------------------- figures */

static double time_write(uint64_t payload, uint64_t records)
{
    static unsigned char source[1 << 20];
    double start = unit_cpu_seconds();
    for (uint64_t i = 0; i < records; i++) {
        if (log_begin(&writer, 1, 0, LOG_FIELD_ROOM(payload) + 24 + 16) < 0)
            abort();
        log_put_envelope(&writer, 1, 2, 3);
        log_put(&writer, 0, LOG_ROLE_DATA, source, payload);
        log_put_i32(&writer, LOG_PARAM_NONE, LOG_ROLE_RETCODE, 0);
        log_commit(&writer);
    }
    return (unit_cpu_seconds() - start) / (double)records;
}

static double time_read(uint64_t records)
{
    struct log_reader *r;
    const struct log_record *rec;
    if (log_reader_open(&r, dir, RANK, NULL, NULL) < 0)
        abort();
    double start = unit_cpu_seconds();
    uint64_t n = 0;
    while (log_reader_next(r, &rec, NULL) > 0)
        n++;
    double each = (unit_cpu_seconds() - start) / (double)records;
    log_reader_close(r);
    if (n != records)
        abort();
    return each;
}

/* Records of an envelope, `payload` bytes of data and a return code. */
static void print_times(uint64_t payload, uint64_t records)
{
    setup();
    writer.rotate = rotate_in_place;
    time_write(payload, records);
    double memory = time_write(payload, records);
    writer.map = (struct log_map){0};
    teardown();

    setup();
    file.segment_size = 0;
    double files = time_write(payload, records);
    double reading = time_read(records);
    teardown();
    printf("%8lu %12.1f %8.2f %12.1f %8.2f %12.1f\n", (unsigned long)payload, memory * 1e9,
           (double)payload / memory * 1e-9, files * 1e9, (double)payload / files * 1e-9,
           reading * 1e9);
}

static void print_all_times(void)
{
    printf("%8s %12s %8s %12s %8s %12s\n", "payload", "memory ns", "GB/s", "file ns", "GB/s",
           "read ns");
    static const struct {
        uint64_t payload, records;
    } rows[] = {{8, 2000000}, {64, 2000000}, {1024, 200000}, {65536, 4000}, {1 << 20, 200}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        print_times(rows[i].payload, rows[i].records);
}

static Suite *suite(void)
{
    Suite *s = suite_create("log");
    TCase *tc = tcase_create("log");
    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, empty);
    tcase_add_test(tc, round_trip);
    tcase_add_test(tc, cursor_seeks_everywhere);
    tcase_add_test(tc, large_record_has_a_segment_of_its_own);
    tcase_add_loop_test(tc, very_large_record_is_the_last_of_its_segment, 0, 2);
    tcase_add_loop_test(tc, large_field_goes_past_the_mapping, 0, 2);
    tcase_add_loop_test(tc, check_of_pieces, 0, 2);
    tcase_add_test(tc, abandoned_record_leaves_no_trace);
    tcase_add_test(tc, killed_writer_loses_no_commit);
    tcase_add_test(tc, restored_writer_forgets_the_future);
    tcase_add_test(tc, writer_restored_to_the_start);
    tcase_add_test(tc, trim_keeps_from_a_segment);
    tcase_add_test(tc, no_room_is_an_error_of_begin);
    tcase_add_test(tc, every_flipped_byte_is_recognised);
    tcase_add_test(tc, lost_block_is_not_the_end);
    tcase_add_test(tc, every_truncation_is_readable_to_the_last_whole_record);
    tcase_add_test(tc, folder_faults_are_told);
    tcase_add_test(tc, segment_of_another_life_is_told);
    tcase_add_test(tc, other_version_and_byte_order_are_told);
    tcase_add_test(tc, dump_is_golden);
    tcase_add_test(tc, dump_range);
    tcase_add_test(tc, corpus);
    suite_add_tcase(s, tc);

    tc = tcase_create("misuse");
    tcase_add_test_raise_signal(tc, field_beyond_the_room_traps, SIGILL);
    tcase_add_test_raise_signal(tc, commit_without_begin_traps, SIGILL);
    suite_add_tcase(s, tc);
    return s;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "time")) {
        print_all_times();
        return 0;
    }
    return unit_run(suite());
}
