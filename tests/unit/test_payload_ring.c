/*
 * test_payload_ring.c - a log whose segments share files: whole to everybody, at any moment
 */
#include <check.h>
#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "msgcounter/log/log_read.h"
#include "runtime/ckpt/payload_ring.h"
#include "tests/unit/unit.h"

#define RANK    5u
#define SEGMENT 65536u
#define LARGEST 9000u

static const char *dir;
static struct log_file file;
static struct log_writer writer;
static const struct log_owner owner = {RANK, 8, "0123456789abcde"};
static uint64_t reused, made_small; /* segments: in a file of the ring; in a new one, not large */

static int rotate(struct log_writer *w, uint32_t segment, uint64_t min_size, struct log_map *map)
{
    bool warm = false;
    int rc = payload_ring_rotate(w, segment, min_size, map, &warm);
    reused += warm;
    made_small += !warm && map->size == SEGMENT;
    return rc;
}

static void setup_alone(void)
{
    scratch_enter();
    dir = scratch_folder();
    file = (struct log_file){.dir = dir, .segment_size = SEGMENT};
    log_writer_init(&writer, &owner, rotate, &file);
}

static void setup(void)
{
    setup_alone();
    payload_ring_start();
}

/* A word of record `event`, and how many it has. */
static uint64_t word_of(uint64_t event, uint64_t i)
{
    return event * 0x9e3779b97f4a7c15u + i;
}

static uint64_t words_of(uint64_t event)
{
    return event * 37 % (LARGEST / 8);
}

/* No ck_assert in here: Check notes each one, also those of a forked child. */
static void append(uint64_t event)
{
    uint64_t n = words_of(event);
    if (log_begin(&writer, 1, 0, LOG_FIELD_ROOM(LARGEST)) < 0)
        abort();
    uint64_t *p = log_reserve(&writer, 0, LOG_ROLE_DATA, n * 8);
    for (uint64_t i = 0; i < n; i++)
        p[i] = word_of(event, i);
    if (log_commit(&writer) != event)
        abort();
}

static void append_many(uint64_t n)
{
    while (n-- > 0)
        append(log_writer_position(&writer).event);
}

static bool record_ok(const struct log_record *rec, uint64_t event)
{
    const struct log_field *f = log_field_next(rec, NULL);
    if (rec->event != event || !f || log_field_length(f) != words_of(event) * 8)
        return false;
    const uint64_t *p = log_field_value(f);
    for (uint64_t i = 0; i < words_of(event); i++)
        if (p[i] != word_of(event, i))
            return false;
    return true;
}

static struct log_reader *open_reader(void)
{
    struct err err;
    struct log_reader *r;
    if (log_reader_open(&r, dir, RANK, owner.session, &err) < 0)
        ck_abort_msg("%s", err.text);
    return r;
}

/* Reads to the end and checks every record. Returns the event behind the last. */
static uint64_t read_on(struct log_reader *r)
{
    struct err err;
    const struct log_record *rec;
    int rc;
    uint64_t event = log_reader_position(r).event;
    for (; (rc = log_reader_next(r, &rec, &err)) > 0; event++)
        if (!record_ok(rec, event))
            ck_abort_msg("event %lu is not what was written", (unsigned long)event);
    if (rc < 0)
        ck_abort_msg("%s", err.text);
    return event;
}

static uint64_t read_all(void)
{
    struct log_reader *r = open_reader();
    uint64_t end = read_on(r);
    log_reader_close(r);
    return end;
}

/* The number of files in the rank's folder that are no segments. */
static unsigned others(void)
{
    char path[PATH_MAX];
    unsigned n = 0;
    snprintf(path, sizeof path, "%s/rank-%u", dir, RANK);
    DIR *d = opendir(path);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.' && !strstr(e->d_name, ".dlog");
    closedir(d);
    return n;
}

static bool on_tmpfs(void)
{
    struct statfs fs;
    return statfs(dir, &fs) == 0 && fs.f_type == 0x01021994;
}

/* The files of all segments, in their order; malloc'ed. */
static struct stat *stat_segments(size_t *n)
{
    char path[PATH_MAX];
    struct err err;
    uint32_t *numbers;
    ck_assert_int_eq(log_file_list(dir, RANK, &numbers, n, &err), 0);
    struct stat *st = calloc(*n, sizeof *st);
    ck_assert_ptr_nonnull(st);
    for (size_t i = 0; i < *n; i++) {
        log_file_path(path, sizeof path, dir, RANK, numbers[i]);
        ck_assert_int_eq(stat(path, &st[i]), 0);
    }
    free(numbers);
    return st;
}

/* The number of segments that are in a slot. */
static unsigned in_slots(void)
{
    size_t count;
    struct stat *st = stat_segments(&count);
    unsigned n = 0;
    for (size_t i = 0; i < count; i++)
        n += st[i].st_nlink == 2;
    free(st);
    return n;
}

/* With a pause every so often, in which the thread gets its turn. */
static void append_until_reused(uint64_t times)
{
    for (int i = 0; i < 20000 && reused < times && !on_tmpfs(); i++) {
        append_many(40);
        usleep(1000);
    }
    ck_assert(on_tmpfs() || reused >= times);
}

START_TEST(every_record_reads_back)
{
    append_until_reused(50);
    append_many(2000);
    ck_assert_uint_eq(read_all(), log_writer_position(&writer).event);
    ck_assert_uint_le(others(), 13);
    log_tidy(dir);
    ck_assert_uint_eq(others(), 0);
    ck_assert_uint_eq(read_all(), log_writer_position(&writer).event);
}
END_TEST

/* One that needs a segment of its own. Returns its number. */
static uint64_t append_bytes(const unsigned char *from, uint64_t bytes)
{
    ck_assert_int_eq(log_begin(&writer, 1, 0, LOG_FIELD_ROOM(bytes)), 0);
    log_put(&writer, 0, LOG_ROLE_DATA, from, bytes);
    return log_commit(&writer);
}

static uint64_t append_large(uint64_t bytes)
{
    static const unsigned char much[7 * SEGMENT];
    ck_assert_uint_le(bytes, sizeof much);
    return append_bytes(much, bytes);
}

START_TEST(large_record_has_a_segment_of_its_own)
{
    append_until_reused(3);
    uint64_t large = append_large(3 * SEGMENT);
    append_many(300);
    struct log_reader *r = open_reader();
    const struct log_record *rec;
    for (uint64_t event = 0; event <= large; event++)
        ck_assert_int_eq(log_reader_next(r, &rec, NULL), 1);
    ck_assert_uint_eq(log_field_length(log_field_next(rec, NULL)), 3 * SEGMENT);
    ck_assert_uint_eq(read_on(r), large + 301);
    log_reader_close(r);
}
END_TEST

/* How many segments are larger than others; and how many others take all that they may on the
 * disk. */
static unsigned large_segments(uint64_t *whole)
{
    size_t count;
    struct stat *st = stat_segments(&count);
    unsigned n = 0;
    *whole = 0;
    for (size_t i = 0; i + 1 < count; i++) { /* the last has room for more */
        n += st[i].st_size > SEGMENT;
        *whole += st[i].st_size == SEGMENT && st[i].st_nlink == 1 &&
                  st[i].st_blocks >= (blkcnt_t)SEGMENT / 512;
    }
    free(st);
    return n;
}

/* Between them are a few records, in segments whose files stay as small as they were, and of which
 * no more is copied than there is. */
START_TEST(large_records_share_files)
{
    unsigned large = 0;
    uint64_t again = 0;
    uint64_t whole;
    for (; large < 500 && again < 20 && !on_tmpfs(); large++) {
        uint64_t before = reused;
        append_large(6 * SEGMENT + large % 10 * 800);
        again += reused - before;
        append_many(6); /* more than a segment that is made for a large one has room for */
        usleep(1000);
    }
    ck_assert(on_tmpfs() || again >= 20);
    append_large(6 * SEGMENT);
    append_many(40); /* also if its file was made for a larger one */
    usleep(100000);
    ck_assert_uint_eq(large_segments(&whole), large + 1);
    ck_assert_uint_le(whole, made_small); /* those that found no file in the ring */
    uint64_t end = 0;
    const struct log_record *rec;
    struct log_reader *r = open_reader();
    while (log_reader_next(r, &rec, NULL) == 1)
        end++;
    ck_assert_uint_eq(end, log_writer_position(&writer).event);
    log_reader_close(r);
}
END_TEST

static void full(struct log_writer *w)
{
    payload_ring_full(w->map);
}

/* The file of the one is free before the next is there, with nothing in between. */
START_TEST(very_large_records_share_one_file)
{
    enum { RECORDS = 5 };
    unsigned char *much = mmap(NULL, LOG_LAST_MIN, PROT_READ | PROT_WRITE,
                               MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    writer.full = full;
    for (unsigned i = 0; i < RECORDS; i++) {
        memset(much, (int)i + 1, LOG_LAST_MIN);
        append_bytes(much, LOG_LAST_MIN);
        while (!on_tmpfs() && in_slots() > 0)
            usleep(1000);
        usleep(100000);
    }
    append_many(1);
    ck_assert_uint_eq(reused, on_tmpfs() ? 0 : RECORDS - 1);
    struct log_reader *r = open_reader();
    const struct log_record *rec;
    for (unsigned i = 0; i < RECORDS; i++) {
        ck_assert_int_eq(log_reader_next(r, &rec, NULL), 1);
        const unsigned char *value = log_field_value(log_field_next(rec, NULL));
        ck_assert_int_eq(value[0], (int)i + 1);
        ck_assert_int_eq(memcmp(value, value + 1, LOG_LAST_MIN - 1), 0);
    }
    ck_assert_uint_eq(read_on(r), RECORDS + 1);
    log_reader_close(r);
    munmap(much, LOG_LAST_MIN);
}
END_TEST

START_TEST(reader_keeps_what_it_has_mapped)
{
    append_until_reused(2);
    struct log_reader *r = open_reader();
    uint64_t end = log_writer_position(&writer).event;
    append_until_reused(20);
    ck_assert_uint_ge(read_on(r), end);
    log_reader_close(r);
}
END_TEST

/* A reader that opens the log again and again meets segments at all steps of their way. */
START_TEST(reader_may_come_at_any_moment)
{
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        uint64_t last = 0, end = 0;
        for (; access("stop", F_OK) < 0; last = end) {
            if (access("begun", F_OK) == 0 && (end = read_all()) < last)
                _exit(1);
            usleep(10000); /* with nothing mapped */
        }
        _exit(0);
    }
    append_many(1);
    ck_assert_int_eq(mkdir("begun", 0700), 0);
    append_until_reused(60);
    ck_assert_int_eq(mkdir("stop", 0700), 0);
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(trimmed_segment_does_not_come_back)
{
    struct err err;
    for (int i = 0; i < 400; i++) {
        append_many(40);
        uint32_t keep = log_writer_position(&writer).segment;
        keep -= keep > 1 ? (uint32_t)i % 2 : 0;
        ck_assert_msg(payload_ring_trim(dir, RANK, keep, &err) == 0, "%s", err.text);
        uint32_t *numbers;
        size_t n;
        ck_assert_int_eq(log_file_list(dir, RANK, &numbers, &n, &err), 0);
        ck_assert_uint_eq(n, log_writer_position(&writer).segment - keep + 1);
        ck_assert_uint_eq(numbers[0], keep);
        free(numbers);
        ck_assert_uint_eq(read_all(), log_writer_position(&writer).event);
    }
}
END_TEST

/* As many as what was written so far has earned: 4 of 64. */
START_TEST(full_segments_wait_for_being_trimmed)
{
    struct err err;
    while (log_writer_position(&writer).segment < 90 && !on_tmpfs()) {
        append_many(40);
        usleep(1000);
    }
    usleep(100000);
    ck_assert_uint_ge(in_slots(), on_tmpfs() ? 0 : 4);
    ck_assert_uint_le(in_slots(), 7);
    uint32_t keep = log_writer_position(&writer).segment;
    ck_assert_msg(payload_ring_trim(dir, RANK, keep, &err) == 0, "%s", err.text);
    usleep(100000);
    uint64_t before = reused;
    while (log_writer_position(&writer).segment < keep + 4)
        append_many(1);
    ck_assert_uint_eq(reused - before, on_tmpfs() ? 0 : 4);
    ck_assert_uint_eq(read_all(), log_writer_position(&writer).event);
}
END_TEST

static void write_and_count(volatile uint64_t *done)
{
    payload_ring_start();
    for (;;) {
        append(*done);
        if (++*done % 64 == 0)
            usleep(500);
    }
}

START_TEST(killed_writer_loses_no_commit)
{
    volatile uint64_t *done =
        mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        write_and_count(done);
    while (*done < 1000 + 331 * (uint64_t)_i)
        usleep(100);
    ck_assert_int_eq(kill(pid, SIGKILL), 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    uint64_t end = read_all();
    ck_assert_uint_ge(end, *done);
    ck_assert_uint_le(end, *done + 1);
    log_tidy(dir);
    ck_assert_uint_eq(read_all(), end);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("payload_ring");
    TCase *t = tcase_create("ring");
    tcase_add_checked_fixture(t, setup, scratch_leave);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, every_record_reads_back);
    tcase_add_test(t, large_record_has_a_segment_of_its_own);
    tcase_add_test(t, large_records_share_files);
    tcase_add_test(t, very_large_records_share_one_file);
    tcase_add_test(t, reader_keeps_what_it_has_mapped);
    tcase_add_test(t, reader_may_come_at_any_moment);
    tcase_add_test(t, full_segments_wait_for_being_trimmed);
    tcase_add_test(t, trimmed_segment_does_not_come_back);
    suite_add_tcase(s, t);
    t = tcase_create("death");
    tcase_add_checked_fixture(t, setup_alone, scratch_leave);
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, killed_writer_loses_no_commit, 0, 20);
    suite_add_tcase(s, t);
    return unit_run(s);
}
