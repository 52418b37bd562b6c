/*
 * test_written.c - written pages of ranges, for two who ask: against a plain table of pages
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/ckpt/written.h"
#include "tests/unit/unit.h"

#define P     (uint64_t) IMAGE_PAGE
#define PAGES 400

static void forget_all(void)
{
    for (struct written_range *r = written_next(NULL); r; r = written_next(r))
        ;
}

static uint64_t take_all(struct written_range *r, enum written_for whom, char seen[PAGES])
{
    struct image_range run;
    uint64_t from = 0, pages = 0, last = 0;
    while (written_take(r, whom, &from, &run)) {
        ck_assert_uint_eq(run.end, from);
        ck_assert(pages == 0 || run.start > last); /* runs that touch would be one */
        last = run.end;
        for (uint64_t at = run.start; at < run.end; at += P, pages++)
            seen[at / P]++;
    }
    return pages;
}

START_TEST(new_range_is_all_new_to_its_window)
{
    char seen[PAGES] = {0};
    struct written_range *r = written_range(3 * P, 200 * P);
    ck_assert_uint_eq(take_all(r, WRITTEN_FOR_WINDOW, seen), 197);
    ck_assert_uint_eq(take_all(r, WRITTEN_FOR_WINDOW, seen), 0);
    ck_assert_uint_eq(take_all(r, WRITTEN_FOR_FINE, seen), 0);
    ck_assert_ptr_eq(written_range(3 * P, 200 * P), r);
    written_forget(3 * P, 200 * P);
    forget_all();
    ck_assert_ptr_null(written_next(NULL));
}
END_TEST

/* What fine checkpoints have not taken outlives the window. */
START_TEST(forgotten_range_gives_what_it_kept)
{
    char seen[PAGES] = {0};
    written_range(0, 10 * P);
    written_add(4 * P, 6 * P, WRITTEN_FOR_FINE);
    written_forget(0, 10 * P);
    struct written_range *r = written_next(NULL);
    ck_assert_ptr_nonnull(r);
    ck_assert_uint_eq(take_all(r, WRITTEN_FOR_FINE, seen), 2);
    ck_assert_ptr_null(written_next(r));
    ck_assert_ptr_null(written_next(NULL));
}
END_TEST

START_TEST(hopeless_until_it_is_forgotten)
{
    struct written_range *r = written_range(0, P);
    ck_assert(!written_hopeless(r));
    written_give_up(r);
    ck_assert(written_hopeless(written_range(0, P)));
    written_forget(0, P);
    ck_assert(!written_hopeless(written_range(0, P)));
    written_forget(0, P);
    forget_all();
}
END_TEST

START_TEST(too_many_are_refused)
{
    uint64_t n = 0;
    while (n < 10000 && written_range(n * P, (n + 1) * P))
        n++;
    ck_assert_uint_gt(n, 100);
    ck_assert_uint_lt(n, 10000);
    for (uint64_t i = 0; i < n; i++)
        written_forget(i * P, (i + 1) * P);
    forget_all();
    ck_assert_ptr_null(written_next(NULL));
}
END_TEST

/* Ranges that overlap, and notes that reach beyond them. */
START_TEST(as_a_plain_table)
{
    static const struct image_range of[] = {{0, 130}, {64, 128}, {100, 399}, {200, 201}};
    enum { N = sizeof of / sizeof of[0] };
    static char plain[N][2][PAGES], seen[PAGES];
    struct written_range *r[N];
    srand(7);
    memset(plain, 0, sizeof plain);
    for (int i = 0; i < N; i++) {
        r[i] = written_range(of[i].start * P, of[i].end * P);
        memset(plain[i][WRITTEN_FOR_WINDOW] + of[i].start, 1, of[i].end - of[i].start);
    }
    for (int turn = 0; turn < 2000; turn++) {
        enum written_for whom = rand() % 2 ? WRITTEN_FOR_FINE : WRITTEN_FOR_WINDOW;
        if (rand() % 3) {
            uint64_t start = (uint64_t)rand() % PAGES, n = (uint64_t)rand() % 90;
            uint64_t end = start + n < PAGES ? start + n : PAGES;
            written_add(start * P, end * P, whom);
            for (int i = 0; i < N; i++)
                for (uint64_t k = start; k < end; k++)
                    plain[i][whom][k] |= k >= of[i].start && k < of[i].end;
        } else {
            int i = rand() % N;
            memset(seen, 0, sizeof seen);
            take_all(r[i], whom, seen);
            ck_assert_int_eq(memcmp(seen, plain[i][whom], PAGES), 0);
            memset(plain[i][whom], 0, PAGES);
        }
    }
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("written");
    tcase_add_test(t, new_range_is_all_new_to_its_window);
    tcase_add_test(t, forgotten_range_gives_what_it_kept);
    tcase_add_test(t, hopeless_until_it_is_forgotten);
    tcase_add_test(t, too_many_are_refused);
    tcase_add_test(t, as_a_plain_table);
    Suite *s = suite_create("written");
    suite_add_tcase(s, t);
    return unit_run(s);
}
