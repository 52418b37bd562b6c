/*
 * test_match.c - the queue of drained messages: order, wildcards, comparison with a plain list
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "msgcounter/stub/match.h"
#include "tests/unit/unit.h"

static int live; /* blocks that are not freed yet */

static void *count_alloc(size_t size)
{
    live++;
    return calloc(1, size);
}

static void count_free(void *p)
{
    live--;
    free(p);
}

static struct match_queue new_queue(void)
{
    live = 0;
    return (struct match_queue){.alloc = count_alloc, .free = count_free};
}

/* A message that carries its number. */
static void add(struct match_queue *q, uint64_t comm, int source, int tag, int number)
{
    struct match_message *m = match_new(q, sizeof number);
    m->comm = comm;
    m->source = source;
    m->tag = tag;
    memcpy(m->data, &number, sizeof number);
    match_add(q, m);
}

static int number_of(const struct match_message *m)
{
    int number = -1;
    if (m)
        memcpy(&number, m->data, sizeof number);
    return number;
}

static int take(struct match_queue *q, uint64_t comm, int source, int tag)
{
    struct match_message *m = match_take(q, comm, source, tag);
    int number = number_of(m);
    match_free(q, m);
    return number;
}

START_TEST(earliest_that_fits)
{
    struct match_queue q = new_queue();
    add(&q, 1, 0, 5, 100);
    add(&q, 1, 2, 5, 101);
    add(&q, 1, 0, 6, 102);
    add(&q, 1, 0, 5, 103);
    add(&q, 2, 0, 5, 104);
    static const struct {
        uint64_t comm;
        int source, tag, number;
    } cases[] = {
        {1, 3, 5, -1},
        {3, MATCH_ANY_SOURCE, MATCH_ANY_TAG, -1},
        {1, 0, 6, 102},
        {1, 2, MATCH_ANY_TAG, 101},
        {1, MATCH_ANY_SOURCE, 5, 100},
        {2, MATCH_ANY_SOURCE, MATCH_ANY_TAG, 104},
        {1, MATCH_ANY_SOURCE, MATCH_ANY_TAG, 103},
        {1, MATCH_ANY_SOURCE, MATCH_ANY_TAG, -1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_int_eq(number_of(match_find(&q, cases[i].comm, cases[i].source, cases[i].tag)),
                         cases[i].number);
        ck_assert_int_eq(take(&q, cases[i].comm, cases[i].source, cases[i].tag), cases[i].number);
    }
    ck_assert_uint_eq(q.count, 0);
    ck_assert_int_eq(live, 0);
}
END_TEST

/* The last one of a list is taken and others come: the list's end must have moved. */
START_TEST(end_moves)
{
    struct match_queue q = new_queue();
    add(&q, 1, 0, 1, 1);
    add(&q, 1, 0, 2, 2);
    ck_assert_int_eq(take(&q, 1, 0, 2), 2);
    add(&q, 1, 0, 3, 3);
    ck_assert_int_eq(take(&q, 1, 0, 1), 1);
    ck_assert_int_eq(take(&q, 1, 0, 3), 3);
    add(&q, 1, 0, 4, 4);
    ck_assert_int_eq(take(&q, 1, 0, 4), 4);
    ck_assert_int_eq(live, 0);
}
END_TEST

struct plain {
    uint64_t comm;
    int source, tag, number;
};

/* What a receive takes from an array in order of arrival. */
static int plain_take(struct plain *list, int *n, uint64_t comm, int source, int tag)
{
    for (int i = 0; i < *n; i++) {
        struct plain p = list[i];
        if (p.comm != comm || (source != MATCH_ANY_SOURCE && source != p.source) ||
            (tag != MATCH_ANY_TAG && tag != p.tag))
            continue;
        memmove(&list[i], &list[i + 1], (size_t)(*n - i - 1) * sizeof *list);
        --*n;
        return p.number;
    }
    return -1;
}

START_TEST(as_a_plain_list)
{
    enum { STEPS = 20000 };
    static struct plain list[STEPS];
    struct match_queue q = new_queue();
    int n = 0;
    srand(7);
    for (int i = 0; i < STEPS; i++) {
        uint64_t comm = (uint64_t)(rand() % 100) << (rand() % 2 * 40);
        int source = rand() % 4, tag = rand() % 3;
        if (rand() % 2) {
            list[n++] = (struct plain){comm, source, tag, i};
            add(&q, comm, source, tag, i);
            continue;
        }
        source = rand() % 3 ? source : MATCH_ANY_SOURCE;
        tag = rand() % 3 ? tag : MATCH_ANY_TAG;
        ck_assert_int_eq(take(&q, comm, source, tag), plain_take(list, &n, comm, source, tag));
        ck_assert_uint_eq(q.count, (uint64_t)n);
    }
    ck_assert_int_gt(n, 100);
    while (n)
        ck_assert_int_eq(take(&q, list[0].comm, list[0].source, list[0].tag),
                         plain_take(list, &n, list[0].comm, list[0].source, list[0].tag));
    ck_assert_int_eq(live, 0);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("match");
    tcase_add_test(t, earliest_that_fits);
    tcase_add_test(t, end_moves);
    tcase_add_test(t, as_a_plain_list);
    Suite *s = suite_create("match");
    suite_add_tcase(s, t);
    return unit_run(s);
}
