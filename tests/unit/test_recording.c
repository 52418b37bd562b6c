/*
 * test_recording.c - recordings as messages: which, of which event, from whom; the filter's words
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <xxhash.h>

#include "call_id.h"
#include "gdbbridge/recording.h"
#include "msgcounter/log/log_file.h"
#include "msgcounter/log/system_table.h"
#include "tests/unit/unit.h"

enum { WORLD = 1, ROOM = 4096 };

static const char *dir;
static struct log_file file;
static struct log_writer writer;

static void setup(void)
{
    scratch_enter();
    dir = scratch_folder();
    file = (struct log_file){.dir = dir, .segment_size = 1 << 16};
}

/* ---- writing what the stub writes ---- */

static void begin_log(uint32_t rank)
{
    struct log_owner owner = {.rank = rank, .world_size = 4};
    log_writer_init(&writer, &owner, log_file_rotate, &file);
}

static void end_log(void)
{
    munmap(writer.map.base, writer.map.size);
}

static void begin(enum call call)
{
    if (log_begin(&writer, (uint16_t)call, 0, ROOM) < 0)
        abort();
}

static void end(void)
{
    log_put_i32(&writer, LOG_PARAM_NONE, LOG_ROLE_RETCODE, 0);
    log_commit(&writer);
}

static void put_sent(int peer, int tag, const char *data)
{
    log_put_envelope(&writer, peer, tag, WORLD);
    log_put_digest(&writer, 0, XXH3_64bits(data, strlen(data)), strlen(data));
}

static void put_received(int peer, int tag, const char *data)
{
    struct log_status st = {peer, tag, 0, 0, (int64_t)strlen(data)};
    log_put_status(&writer, 6, &st);
    log_put(&writer, 0, LOG_ROLE_DATA, data, strlen(data));
}

static void isend(int peer, int tag, const char *data, int request)
{
    begin(CALL_MPI_Isend);
    put_sent(peer, tag, data);
    log_put_i32(&writer, 6, LOG_ROLE_REQUEST, request);
    end();
}

static void irecv(int peer, int tag, int request)
{
    begin(CALL_MPI_Irecv);
    log_put_envelope(&writer, peer, tag, WORLD);
    log_put_i32(&writer, 6, LOG_ROLE_REQUEST, request);
    end();
}

static void put_completion(int request, int peer, int tag, const char *data)
{
    log_put_i32(&writer, LOG_PARAM_NONE, LOG_ROLE_VALUE, 0);
    log_put_i32(&writer, LOG_PARAM_NONE, LOG_ROLE_REQUEST, request);
    put_received(peer, tag, data);
}

static struct recording *reopen(uint32_t rank)
{
    struct err err;
    struct recording *r = recording_open(dir, rank, &err);
    ck_assert_msg(r, "%s", err.text);
    return r;
}

/* ---- tests ---- */

START_TEST(messages_of_events)
{
    begin_log(2);
    begin(CALL_MPI_Recv); /* 0: from any source */
    log_put_envelope(&writer, -2, 7, WORLD);
    put_received(3, 7, "abcd");
    end();
    irecv(1, 5, 100);        /* 1 */
    isend(0, 6, "xy", 101);  /* 2 */
    begin(CALL_MPI_Waitall); /* 3 */
    put_completion(100, 1, 5, "late");
    log_put_i32(&writer, LOG_PARAM_NONE, LOG_ROLE_REQUEST, 101);
    log_put_status(&writer, 6, &(struct log_status){-2, -1, 0, 0, 0});
    end();
    begin(CALL_MPI_Barrier); /* 4 */
    end();
    begin(CALL_MPI_Sendrecv); /* 5 */
    put_sent(1, 8, "out");
    log_put_envelope(&writer, 0, 9, WORLD);
    put_received(0, 9, "in");
    end();
    begin(CALL_MPI_Send); /* 6: to MPI_PROC_NULL */
    put_sent(-1, 0, "");
    end();
    end_log();

    static const struct {
        uint64_t event, posted;
        enum message_kind kind;
        int peer, tag;
        uint64_t bytes;
    } wanted[] = {{0, 0, MESSAGE_RECEIVED, 3, 7, 4},  {2, 2, MESSAGE_SENT, 0, 6, 2},
                  {3, 1, MESSAGE_RECEIVED, 1, 5, 4},  {4, 4, MESSAGE_COLLECTIVE, -1, -1, 0},
                  {5, 5, MESSAGE_SENT, 1, 8, 3},      {5, 5, MESSAGE_RECEIVED, 0, 9, 2}};
    struct recording *r = reopen(2);
    size_t n;
    const struct message *m = recording_messages(r, &n);
    ck_assert_uint_eq(n, sizeof wanted / sizeof wanted[0]);
    for (size_t i = 0; i < n; i++) {
        ck_assert_uint_eq(m[i].event, wanted[i].event);
        ck_assert_uint_eq(m[i].posted, wanted[i].posted);
        ck_assert_int_eq(m[i].kind, wanted[i].kind);
        ck_assert_int_eq(m[i].peer, wanted[i].peer);
        ck_assert_int_eq(m[i].tag, wanted[i].tag);
        ck_assert_uint_eq(m[i].bytes, wanted[i].bytes);
    }
    ck_assert_uint_eq(recording_end(r), 7);
    ck_assert_str_eq(recording_event(r, 3)->call, "MPI_Waitall");
    ck_assert_ptr_null(recording_event(r, 7));
    ck_assert_uint_eq(recording_next(r, 0, &(struct message_filter){0}), 0);
    ck_assert_uint_eq(recording_next(r, 1, &(struct message_filter){0}), 2);
    ck_assert_uint_eq(recording_next(r, 6, &(struct message_filter){0}), UINT64_MAX);
    const struct message_filter received = {.kinds = MESSAGE_RECEIVED};
    ck_assert_uint_eq(recording_previous(r, 3, &received), 0);
    const struct message_filter sent = {.kinds = MESSAGE_SENT};
    ck_assert_uint_eq(recording_previous(r, 99, &sent), 5);
    recording_close(r);
}
END_TEST

/* Two receives that are completed in the other order, one message that was under way when the
 * recordings began, and one whose sending was when the sender's ended. */
START_TEST(sender_of_a_message)
{
    begin_log(0);
    isend(1, 3, "one", 10);  /* 0 */
    isend(1, 4, "else", 11); /* 1 */
    isend(1, 3, "two", 12);  /* 2 */
    end_log();
    begin_log(1);
    irecv(0, 3, 20); /* 0: "zero", of before */
    irecv(0, 3, 21);
    irecv(0, 3, 22);
    begin(CALL_MPI_Wait); /* 3 */
    put_completion(22, 0, 3, "two");
    end();
    begin(CALL_MPI_Waitall); /* 4 */
    put_completion(20, 0, 3, "zero");
    put_completion(21, 0, 3, "one");
    end();
    irecv(0, 3, 23);
    begin(CALL_MPI_Wait);
    put_completion(23, 0, 3, "three");
    end();
    end_log();

    static const struct {
        size_t message;
        uint64_t event; /* UINT64_MAX: not in the sender's recording, and: */
        const char *why;
    } wanted[] = {{0, 2, ""}, {1, UINT64_MAX, "before"}, {2, 0, ""}, {3, UINT64_MAX, "ends in"}};
    struct recording *from = reopen(0), *to = reopen(1);
    size_t n;
    const struct message *m = recording_messages(to, &n), *sent;
    ck_assert_uint_eq(n, 4);
    for (size_t i = 0; i < 4; i++) {
        struct err err = {0};
        const struct message *one = &m[wanted[i].message];
        int rc = recording_find_sender(to, 1, one, from, one->comm, &sent, &err);
        ck_assert_int_eq(rc, wanted[i].event == UINT64_MAX ? -1 : 0);
        if (rc == 0)
            ck_assert_uint_eq(sent->event, wanted[i].event);
        ck_assert_ptr_nonnull(strstr(err.text, wanted[i].why));
    }
    recording_close(from);
    recording_close(to);
}
END_TEST

START_TEST(names_of_calls)
{
    begin_log(1);
    begin(CALL_MPI_Barrier);
    end();
    begin((enum call)(SYSTEM_CALL | SYS_tgkill));
    end();
    end_log();
    struct recording *r = recording_open(dir, 1, NULL);
    ck_assert_str_eq(recording_event(r, 0)->call, "MPI_Barrier");
    ck_assert_str_eq(recording_event(r, 1)->call, "tgkill");
    recording_close(r);
}
END_TEST

START_TEST(filter_words)
{
    static const struct {
        const char *text, *rest; /* rest NULL: refused */
        struct message_filter f;
    } rows[] = {
        {"", "", {0}},
        {"--recv --from 3 --tag 7", "", {MESSAGE_RECEIVED, true, true, false, 3, 7, 0}},
        {"--from=3", "", {MESSAGE_RECEIVED, true, false, false, 3, 0, 0}},
        {"  --to 2  17 20", "17 20", {MESSAGE_SENT, true, false, false, 2, 0, 0}},
        {"--send --coll", "", {MESSAGE_SENT | MESSAGE_COLLECTIVE, false, false, false, 0, 0, 0}},
        {"--comm 5", "", {0, false, false, true, 0, 0, 5}},
        {"@0x10 4", "@0x10 4", {0}},
        {"--tag", NULL, {0}},
        {"--tag x", NULL, {0}},
        {"--tag 7x", NULL, {0}},
        {"--tag -1", NULL, {0}},
        {"--tag 4294967296", NULL, {0}},
        {"--from 1 --to 2", NULL, {0}},
        {"--received", NULL, {0}},
        {"-x", NULL, {0}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct message_filter f;
        const char *rest;
        struct err err;
        int rc = message_filter_parse(rows[i].text, &f, &rest, &err);
        ck_assert_msg(rc == (rows[i].rest ? 0 : -1), "\"%s\"", rows[i].text);
        if (rc < 0)
            continue;
        ck_assert_str_eq(rest, rows[i].rest);
        ck_assert_uint_eq(f.kinds, rows[i].f.kinds);
        ck_assert(f.has_peer == rows[i].f.has_peer && f.has_tag == rows[i].f.has_tag &&
                  f.has_comm == rows[i].f.has_comm);
        ck_assert_int_eq(f.peer, rows[i].f.peer);
        ck_assert_int_eq(f.tag, rows[i].f.tag);
        ck_assert_uint_eq(f.comm, rows[i].f.comm);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("recording");
    TCase *logs = tcase_create("logs"), *words = tcase_create("words");
    tcase_add_checked_fixture(logs, setup, scratch_leave);
    tcase_add_test(logs, messages_of_events);
    tcase_add_test(logs, sender_of_a_message);
    tcase_add_test(logs, names_of_calls);
    tcase_add_test(words, filter_words);
    suite_add_tcase(suite, logs);
    suite_add_tcase(suite, words);
    return unit_run(suite);
}
