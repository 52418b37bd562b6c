/*
 * test_reverse.c - the way of single steps that going backwards keeps
 */
#include <check.h>
#include <stdlib.h>

#include "gdbbridge/reverse_trace.h"
#include "tests/unit/unit.h"

static struct trace *way(const uint64_t *pc, size_t n)
{
    struct trace *t = trace_create(pc[0]);
    for (size_t i = 1; i < n; i++)
        trace_add(t, pc[i]);
    return t;
}

START_TEST(counts_executions_from_the_start)
{
    static const uint64_t loop[] = {10, 12, 10, 12, 10};
    struct trace *t = way(loop, 5);
    size_t step;
    ck_assert_uint_eq(trace_steps(t), 4);
    ck_assert_uint_eq(trace_pc(t), 10);
    ck_assert_uint_eq(trace_count(t), 3);
    ck_assert_int_eq(trace_find(t, 10, 1, &step), 0);
    ck_assert_uint_eq(step, 0);
    ck_assert_int_eq(trace_find(t, 12, 2, &step), 0);
    ck_assert_uint_eq(step, 3);
    ck_assert_int_eq(trace_find(t, 12, 3, &step), -1);
    trace_destroy(t);
}
END_TEST

START_TEST(repeated_instruction_is_one)
{
    static const uint64_t rep[] = {10, 12, 12, 12, 14, 12};
    struct trace *t = way(rep, 6);
    size_t step;
    ck_assert_uint_eq(trace_count(t), 2);
    ck_assert_int_eq(trace_find(t, 12, 2, &step), 0);
    ck_assert_uint_eq(step, 5);
    trace_destroy(t);
}
END_TEST

START_TEST(cut_forgets_the_rest)
{
    static const uint64_t straight[] = {1, 2, 3};
    struct trace *t = way(straight, 3);
    size_t step;
    trace_cut(t, 1);
    ck_assert_uint_eq(trace_pc(t), 2);
    ck_assert_int_eq(trace_find(t, 3, 1, &step), -1);
    for (uint64_t i = 0; i < 1000; i++) /* grows */
        trace_add(t, 100 + i);
    ck_assert_uint_eq(trace_pc(t), 1099);
    ck_assert_uint_eq(trace_steps(t), 1001);
    trace_destroy(t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("reverse");
    TCase *tc = tcase_create("trace");
    tcase_add_test(tc, counts_executions_from_the_start);
    tcase_add_test(tc, repeated_instruction_is_one);
    tcase_add_test(tc, cut_forgets_the_rest);
    suite_add_tcase(s, tc);
    return unit_run(s);
}
