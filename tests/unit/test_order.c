/*
 * test_order.c - order log: every kind of outcome there and back, chains of segments, damage, death
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "msgcounter/log/order_dump.h"
#include "msgcounter/log/order_file.h"
#include "tests/unit/unit.h"

#define RANK 3u


/* Three segments in memory. */
#define ROOM 65536
static _Alignas(64) unsigned char memory[3][ROOM];
static struct order_segment *seg[3];
static struct order_map maps[3];

static void setup(void)
{
    memset(memory, 0, sizeof memory);
    for (int i = 0; i < 3; i++) {
        seg[i] = (struct order_segment *)memory[i];
        maps[i] = (struct order_map){seg[i], ROOM};
        order_init(seg[i], RANK, 8, (uint64_t)i, ROOM);
    }
}

static struct order_cursor read_from_start(uint32_t n)
{
    struct order_cursor c;
    order_cursor_init(&c, maps, n);
    return c;
}

/* The next outcome is of this kind and value; it takes this many bytes. */
static void expect(struct order_cursor *c, enum order_kind kind, uint64_t value, unsigned bytes)
{
    struct order_outcome o = {0};
    ck_assert_int_eq(order_cursor_next(c, &o), ORDER_NEXT_OUTCOME);
    ck_assert_int_eq(o.kind, kind);
    ck_assert_uint_eq(o.value, value);
    ck_assert_uint_eq(o.bytes, bytes);
}

static void expect_end(struct order_cursor *c)
{
    struct order_outcome o;
    ck_assert_int_eq(order_cursor_next(c, &o), ORDER_NEXT_END);
}

static uint64_t used(const struct order_segment *s)
{
    return s->at - sizeof *s;
}

/* --------------------------------------------------------------------------------- outcomes */

START_TEST(indices)
{
    static const struct {
        uint32_t index;
        unsigned bytes;
    } rows[] = {{0, 1},   {15, 1},   {16, 2},   {17, 2},   {271, 2},
                {272, 2}, {3855, 2}, {3856, 3}, {16384, 4}, {INT32_MAX, 6}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        order_put_index(seg[0], rows[i].index);
    order_put_yes(seg[0]);
    struct order_cursor c = read_from_start(1);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        expect(&c, ORDER_KIND_INDEX, rows[i].index, rows[i].bytes);
    expect(&c, ORDER_KIND_YES, 0, 1);
    expect_end(&c);
}
END_TEST

/* Counted one by one, in place: what a reader finds at any moment is the count so far. */
START_TEST(noes)
{
    static const struct {
        uint64_t until;
        unsigned bytes;
    } rows[] = {{1, 1}, {63, 1}, {64, 2}, {4095, 2}, {4096, 3}, {300000, 4}};
    uint64_t n = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (; n < rows[i].until; n++)
            if (!order_count_no(seg[0]))
                order_put_no(seg[0]);
        struct order_cursor c = read_from_start(1);
        expect(&c, ORDER_KIND_NO, n, rows[i].bytes);
        expect_end(&c);
    }
    order_put_yes(seg[0]);
    ck_assert(!order_count_no(seg[0])); /* another run begins */
    order_put_no(seg[0]);
    struct order_cursor c = read_from_start(1);
    expect(&c, ORDER_KIND_NO, n, 4);
    expect(&c, ORDER_KIND_YES, 0, 1);
    expect(&c, ORDER_KIND_NO, 1, 1);
    expect_end(&c);
}
END_TEST

START_TEST(sources)
{
    static const struct {
        uint32_t members, source;
        unsigned bytes;
    } rows[] = {{2, 0, 1},       {62, 61, 1},       {63, 62, 2},         {63, 0, 2},
                {512, 417, 2},   {16382, 16381, 2}, {16383, 16382, 5},   {1u << 20, 77777, 5},
                {62, 0, 1},      {16382, 255, 2},   {16383, 0xfffffe, 5}};
    enum { N = sizeof rows / sizeof *rows };
    uint32_t place[N], nobody[N];
    for (size_t i = 0; i < N; i++) {
        place[i] = order_put_source(seg[0], rows[i].members);
        nobody[i] = order_put_source(seg[0], rows[i].members);
    }
    struct order_cursor c = read_from_start(1);
    for (size_t i = 0; i < 2 * N; i++)
        expect(&c, ORDER_KIND_SOURCE, ORDER_UNMATCHED, rows[i / 2].bytes);
    for (size_t i = N; i-- > 0;) { /* matched in another order than posted */
        order_fill_source(seg[0], place[i], rows[i].source);
        order_fill_source(seg[0], nobody[i], ORDER_NOBODY);
    }
    c = read_from_start(1);
    for (size_t i = 0; i < N; i++) {
        expect(&c, ORDER_KIND_SOURCE, rows[i].source + 1, rows[i].bytes);
        expect(&c, ORDER_KIND_SOURCE, ORDER_NOBODY, rows[i].bytes);
    }
    expect_end(&c);
}
END_TEST

START_TEST(somes)
{
    static const uint32_t sizes[] = {1, 2, 13, 14, 15, 16, 17, 100, 1000};
    int given[1000], got[1000];
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        for (uint32_t i = 0; i < sizes[k]; i++)
            given[i] = (int)(i * (k + 1) + (i > 7 ? 1000 : 0) + k);
        ck_assert(order_fits(seg[0], ORDER_ROOM_SOME(sizes[k])));
        order_put_some(seg[0], sizes[k], given);
        order_put_some_all(seg[0]);
    }
    struct order_cursor c = read_from_start(1);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        struct order_outcome o;
        ck_assert_int_eq(order_cursor_next(&c, &o), ORDER_NEXT_OUTCOME);
        ck_assert(o.kind == ORDER_KIND_SOME && o.value == sizes[k]);
        order_some_indices(&o, got, o.value);
        for (uint32_t i = 0; i < sizes[k]; i++)
            ck_assert_int_eq(got[i], (int)(i * (k + 1) + (i > 7 ? 1000 : 0) + k));
        expect(&c, ORDER_KIND_SOME, 0, 1);
    }
    expect_end(&c);
}
END_TEST

/* What the format promises: at most two bytes for what chance has decided, in jobs up to 16382. */
START_TEST(two_bytes)
{
    for (uint32_t source = 0; source < 16382; source += 77) {
        uint64_t before = used(seg[0]);
        order_fill_source(seg[0], order_put_source(seg[0], 16382), source);
        ck_assert_uint_le(used(seg[0]) - before, 2);
    }
    for (uint32_t n = 1; n < 13; n++) {
        int set[16];
        uint64_t before = used(seg[0]);
        for (uint32_t i = 0; i < n; i++)
            set[i] = (int)(i * 100);
        order_put_some(seg[0], n, set);
        ck_assert_uint_le(used(seg[0]) - before, 2 * n);
    }
}
END_TEST

/* Several threads: each outcome is one of a thread; each counts its NOs where it began to. */
START_TEST(threads)
{
    static const uint32_t who[] = {0, 1, 0x80000001u, 1, UINT32_MAX};
    struct order_cursor c;
    struct order_outcome o;
    order_put_index(seg[0], 0); /* thread 0's without a mark */
    for (uint32_t i = 1; i < 5; i++) {
        order_put_thread(seg[0], who[i]);
        order_put_index(seg[0], i);
        order_put_thread(seg[0], who[i]); /* no other mark */
        order_put_yes(seg[0]);
    }
    order_put_thread(seg[0], 1);
    for (int i = 0; i < 63; i++)
        ck_assert(i ? order_count_no(seg[0]) : (order_put_no(seg[0]), true));
    ck_assert(!order_count_no(seg[0]));
    uint64_t mine = order_put_no_wide(seg[0]);
    ck_assert(!order_count_no(seg[0]));
    order_put_thread(seg[0], 2);
    uint64_t other = order_put_no_wide(seg[0]);
    for (int i = 0; i < 99999; i++)
        ck_assert(order_count_no_at(seg[0], mine));
    ck_assert(order_count_no_at(seg[0], other));
    seg[1]->carried = 1;
    order_put_source(seg[1], 8);
    order_put_index(seg[1], 5); /* and again in the next segment */
    c = read_from_start(2);
    for (uint32_t i = 0; i < 5; i++) {
        ck_assert_int_eq(order_cursor_next(&c, &o), ORDER_NEXT_OUTCOME);
        ck_assert(o.kind == ORDER_KIND_INDEX && o.value == i && o.thread == who[i]);
        if (i == 0)
            continue;
        ck_assert_int_eq(order_cursor_next(&c, &o), ORDER_NEXT_OUTCOME);
        ck_assert(o.kind == ORDER_KIND_YES && o.thread == who[i]);
    }
    expect(&c, ORDER_KIND_NO, 63, 1);
    expect(&c, ORDER_KIND_NO, 100000, 5);
    expect(&c, ORDER_KIND_NO, 2, 5);
    ck_assert_int_eq(order_cursor_next(&c, &o), ORDER_NEXT_OUTCOME);
    ck_assert(o.kind == ORDER_KIND_INDEX && o.value == 5 && o.thread == 0);
    expect_end(&c);
    memset((char *)seg[0] + mine, 0xff, 4); /* full: another is begun */
    ck_assert(!order_count_no_at(seg[0], mine));
}
END_TEST

/* ------------------------------------------------------------------------------------ chains */

/* Receives that outlive their segment are filled in where a later one carries them. */
START_TEST(carried)
{
    uint32_t a, b;
    order_put_source(seg[0], 8);                         /* posted first: matched in segment 2 */
    order_fill_source(seg[0], order_put_source(seg[0], 8), 5);
    order_put_source(seg[0], 8);                         /* matched in segment 1 */
    order_put_yes(seg[0]);
    seg[1]->carried = 2;
    order_put_source(seg[1], 8);
    a = order_put_source(seg[1], 8);
    order_fill_source(seg[1], a, 6);
    order_put_source(seg[1], 8);                         /* its own: never matched */
    order_put_index(seg[1], 9);
    seg[2]->carried = 2;
    b = order_put_source(seg[2], 8);
    order_put_source(seg[2], 8);
    order_fill_source(seg[2], b, 7);
    order_put_index(seg[2], 10);

    struct order_cursor c = read_from_start(3);
    expect(&c, ORDER_KIND_SOURCE, 8, 1);
    expect(&c, ORDER_KIND_SOURCE, 6, 1);
    expect(&c, ORDER_KIND_SOURCE, 7, 1);
    expect(&c, ORDER_KIND_YES, 0, 1);
    expect(&c, ORDER_KIND_SOURCE, ORDER_UNMATCHED, 1);
    expect(&c, ORDER_KIND_INDEX, 9, 1);
    expect(&c, ORDER_KIND_INDEX, 10, 1);
    expect_end(&c);
    ck_assert_uint_eq(c.outcome, 7);

    /* From the epoch of the second, what it carries is posted again first. */
    order_cursor_init(&c, maps + 1, 2);
    expect(&c, ORDER_KIND_SOURCE, 8, 1);
    expect(&c, ORDER_KIND_SOURCE, 7, 1);
    expect(&c, ORDER_KIND_SOURCE, ORDER_UNMATCHED, 1);
    expect(&c, ORDER_KIND_INDEX, 9, 1);
    expect(&c, ORDER_KIND_INDEX, 10, 1);
    expect_end(&c);
}
END_TEST

/* What is missing behind a full segment is not skipped. */
START_TEST(full)
{
    order_put_yes(seg[0]);
    seg[0]->full = 1;
    order_put_yes(seg[1]);
    struct order_cursor c = read_from_start(2);
    expect(&c, ORDER_KIND_YES, 0, 1);
    expect_end(&c);
}
END_TEST

/* ------------------------------------------------------------------------------------ damage */

static void write_samples(struct order_segment *s)
{
    order_fill_source(s, order_put_source(s, 8), 2);
    order_put_source(s, 512);
    for (int i = 0; i < 100; i++)
        order_put_no(s);
    order_put_yes(s);
    order_put_index(s, 3);
    order_put_index(s, 300);
    order_put_some(s, 3, (int[]){0, 2, 200});
    order_put_some_all(s);
    order_fill_source(s, order_put_source(s, 100), ORDER_NOBODY);
    order_fill_source(s, order_put_source(s, 1 << 17), 99999);
    order_put_thread(s, 3);
    order_put_no_wide(s);
}

/* Reads to the end or to the damage; returns how many. */
static unsigned count_outcomes(uint32_t n)
{
    struct order_cursor c = read_from_start(n);
    struct order_outcome o;
    unsigned count = 0;
    while (order_cursor_next(&c, &o) == ORDER_NEXT_OUTCOME)
        count++;
    return count;
}

START_TEST(cut_anywhere)
{
    write_samples(seg[0]);
    uint64_t end = seg[0]->at;
    unsigned all = count_outcomes(1);
    ck_assert_uint_eq(all, 11);
    for (seg[0]->at = sizeof *seg[0]; seg[0]->at < end; seg[0]->at++)
        ck_assert_uint_lt(count_outcomes(1), all);
    ck_assert_uint_eq(count_outcomes(1), all);
}
END_TEST

START_TEST(any_byte)
{
    write_samples(seg[0]);
    write_samples(seg[1]);
    seg[1]->carried = 1;
    for (uint64_t at = sizeof *seg[0]; at < seg[0]->at; at++) {
        unsigned char was = memory[0][at];
        for (unsigned b = 0; b < 256; b++) {
            memory[0][at] = (unsigned char)b;
            ck_assert_uint_le(count_outcomes(2), 64);
        }
        memory[0][at] = was;
    }
}
END_TEST

START_TEST(faults)
{
    ck_assert_ptr_null(order_fault(maps[0]));
    ck_assert_ptr_nonnull(order_fault((struct order_map){seg[0], 100}));
    ck_assert_ptr_nonnull(order_fault((struct order_map){seg[0], ROOM - 1}));
    seg[0]->at = ROOM + 1;
    ck_assert_ptr_nonnull(order_fault(maps[0]));
    seg[0]->at = 3;
    ck_assert_ptr_nonnull(order_fault(maps[0]));
    seg[1]->version++;
    ck_assert_ptr_nonnull(order_fault(maps[1]));
    seg[2]->magic[0] = 0;
    ck_assert_ptr_nonnull(order_fault(maps[2]));
}
END_TEST

/* ------------------------------------------------------------------------------------- files */

static const char *session;

static void make_session(void)
{
    setup();
    scratch_enter();
    session = scratch_folder();
    ck_assert_int_eq(mkdir("epochs", 0700), 0);
}

static struct order_segment *create(uint64_t epoch)
{
    struct err err;
    struct order_segment *s = order_file_create(session, epoch, RANK, 8, &err);
    ck_assert_msg(s != NULL, "%s", err.text);
    return s;
}

/* From the start by way of two epochs; a restart from the first begins another line. */
START_TEST(chain_of_files)
{
    struct order_chain chain;
    struct order_segment *s = create(0), *t = create(2);
    order_put_yes(s);
    order_file_finish(s, 2);
    order_put_index(t, 5);
    s = create(7);
    order_file_finish(t, 7);
    order_put_index(s, 6);
    order_file_finish(s, 0);
    ck_assert_int_eq(order_chain_open(&chain, session, 0, RANK, NULL), 0);
    ck_assert_uint_eq(chain.n, 3);
    struct order_cursor c;
    order_cursor_init(&c, chain.maps, chain.n);
    expect(&c, ORDER_KIND_YES, 0, 1);
    expect(&c, ORDER_KIND_INDEX, 5, 1);
    expect(&c, ORDER_KIND_INDEX, 6, 1);
    expect_end(&c);
    order_chain_close(&chain);
    ck_assert_uint_eq(order_size_of(session, 2).bytes, 1);
    ck_assert_uint_eq(order_size_of(session, 2).outcomes, 1);
    ck_assert_uint_eq(order_size_of(session, 4).bytes, 0);

    /* What is carried is of the segment before; what is posted counts before it is matched. */
    s = create(3);
    order_put_source(s, 8);
    s->carried = 1;
    order_put_source(s, 8);
    order_put_no(s);
    order_put_no(s);
    order_file_finish(s, 0);
    ck_assert_uint_eq(order_size_of(session, 3).bytes, 3);
    ck_assert_uint_eq(order_size_of(session, 3).outcomes, 2);

    s = create(2);
    order_put_index(s, 8);
    order_file_finish(s, 9); /* its file was never made */
    ck_assert_int_eq(order_chain_open(&chain, session, 0, RANK, NULL), 0);
    ck_assert_uint_eq(chain.n, 2);
    order_chain_close(&chain);
    ck_assert_int_eq(order_chain_open(&chain, session, 7, RANK, NULL), 0);
    ck_assert_uint_eq(chain.n, 1);
    order_chain_close(&chain);
    ck_assert_int_eq(order_chain_open(&chain, session, 4, RANK, NULL), 0);
    ck_assert_uint_eq(chain.n, 0);
}
END_TEST

START_TEST(files_refused)
{
    struct order_chain chain;
    struct err err;
    struct order_segment *s = create(0);
    s->rank++;
    order_file_finish(s, 0);
    ck_assert_int_eq(order_chain_open(&chain, session, 0, RANK, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "another rank"));
    s = create(0);
    s->at = s->room + 1;
    order_file_finish(s, 0);
    ck_assert_int_eq(order_chain_open(&chain, session, 0, RANK, &err), -1);
    ck_assert_ptr_null(order_file_create("/nowhere/at/all", 0, RANK, 8, &err));
}
END_TEST

START_TEST(grows)
{
    struct order_segment *s = create(0);
    struct order_chain chain;
    uint64_t n = 0;
    for (; n < 300000; n++) {
        if (!order_fits(s, ORDER_ROOM_SMALL))
            ck_assert_int_eq(order_file_grow(session, s, ORDER_ROOM_SMALL), 0);
        order_put_index(s, (uint32_t)(n % 1000));
    }
    ck_assert_int_eq(order_file_grow(session, s, ORDER_SEGMENT_MAX), -EFBIG);
    order_file_finish(s, 0);
    ck_assert_int_eq(order_chain_open(&chain, session, 0, RANK, NULL), 0);
    struct order_cursor c;
    struct order_outcome o;
    order_cursor_init(&c, chain.maps, chain.n);
    for (uint64_t i = 0; i < n; i++)
        ck_assert(order_cursor_next(&c, &o) == ORDER_NEXT_OUTCOME && o.value == i % 1000);
    expect_end(&c);
    order_chain_close(&chain);
}
END_TEST

/* A writer that is killed leaves whole outcomes, up to its last. */
START_TEST(killed)
{
    struct order_chain chain;
    struct order_outcome o;
    struct order_cursor c;
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        struct order_segment *s = order_file_create(session, 0, RANK, 8, NULL);
        for (uint32_t i = 0; s; i = (i + 1) % 20000) {
            if (!order_fits(s, 64) && order_file_grow(session, s, 64) < 0)
                _exit(1);
            order_put_index(s, i);
            order_put_some(s, 2, (int[]){(int)i, (int)i + 200});
        }
        _exit(2);
    }
    do { /* until it has written something */
        usleep(1000);
        ck_assert_int_eq(order_chain_open(&chain, session, 0, RANK, NULL), 0);
        uint64_t at = chain.n ? chain.maps[0].segment->at : 0;
        order_chain_close(&chain);
        if (at > 20000)
            break;
    } while (true);
    ck_assert(pid > 1 && kill(pid, SIGKILL) == 0);
    ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
    ck_assert_int_eq(order_chain_open(&chain, session, 0, RANK, NULL), 0);
    order_cursor_init(&c, chain.maps, chain.n);
    enum order_next next;
    while ((next = order_cursor_next(&c, &o)) == ORDER_NEXT_OUTCOME)
        ck_assert_int_eq(o.kind, c.outcome % 2 ? ORDER_KIND_INDEX : ORDER_KIND_SOME);
    ck_assert_int_eq(next, ORDER_NEXT_END);
    ck_assert_uint_gt(c.outcome, 1000);
    order_chain_close(&chain);
}
END_TEST

/* -------------------------------------------------------------------------------------- dump */

START_TEST(dump_is_golden)
{
    write_samples(seg[0]);
    seg[1]->carried = 1;
    write_samples(seg[1]);
    for (int json = 0; json < 2; json++) {
        char *text;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        struct order_dump_opts opts = {.json = json};
        ck_assert_int_eq(order_dump(maps, 2, out, &opts, NULL), 0);
        fclose(out);
        unit_golden(json ? "order-dump.jsonl" : "order-dump.txt", text);
        free(text);
    }
}
END_TEST

START_TEST(dump_tells_damage)
{
    struct err err;
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    order_put_yes(seg[0]);
    memory[0][seg[0]->at++] = 0;
    ck_assert_int_eq(order_dump(maps, 1, out, &(struct order_dump_opts){.json = true}, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "outcome 1 "));
    fclose(out);
    ck_assert_ptr_nonnull(strstr(text, "\"kind\":\"yes\""));
    free(text);
}
END_TEST

START_TEST(corpus)
{
    unit_corpus("order", 4, LLVMFuzzerTestOneInput);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("order");
    TCase *tc = tcase_create("memory"), *files = tcase_create("files");
    tcase_add_checked_fixture(tc, setup, NULL);
    tcase_add_test(tc, indices);
    tcase_add_test(tc, noes);
    tcase_add_test(tc, sources);
    tcase_add_test(tc, somes);
    tcase_add_test(tc, two_bytes);
    tcase_add_test(tc, threads);
    tcase_add_test(tc, carried);
    tcase_add_test(tc, full);
    tcase_add_test(tc, cut_anywhere);
    tcase_add_test(tc, any_byte);
    tcase_add_test(tc, faults);
    tcase_add_test(tc, dump_is_golden);
    tcase_add_test(tc, dump_tells_damage);
    tcase_add_test(tc, corpus);
    suite_add_tcase(suite, tc);
    tcase_set_timeout(files, 60);
    tcase_add_checked_fixture(files, make_session, scratch_leave);
    tcase_add_test(files, chain_of_files);
    tcase_add_test(files, files_refused);
    tcase_add_test(files, grows);
    tcase_add_test(files, killed);
    suite_add_tcase(suite, files);
    return unit_run(suite);
}
