/*
 * test_half.c - the pure parts of the split process: the arena's free ranges, /proc/PID/maps
 */
#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/half/arena.h"
#include "runtime/half/maps.h"
#include "tests/unit/unit.h"


#define PAGE 4096ul

static struct arena arena;

START_TEST(arena_takes_first_fit_and_joins_what_comes_back)
{
    arena_init(&arena, 16 * PAGE, 64 * PAGE);
    ck_assert_uint_eq(arena_take(&arena, 4 * PAGE, PAGE), 16 * PAGE);
    ck_assert_uint_eq(arena_take(&arena, 4 * PAGE, PAGE), 20 * PAGE);
    ck_assert_uint_eq(arena_take(&arena, 4 * PAGE, PAGE), 24 * PAGE);
    arena_give(&arena, 20 * PAGE, 4 * PAGE);
    ck_assert_uint_eq(arena.n, 2);
    ck_assert_uint_eq(arena_take(&arena, 8 * PAGE, PAGE), 28 * PAGE);
    ck_assert_uint_eq(arena_take(&arena, 2 * PAGE, PAGE), 20 * PAGE);
    arena_give(&arena, 20 * PAGE, 2 * PAGE);
    arena_give(&arena, 16 * PAGE, 4 * PAGE);
    arena_give(&arena, 24 * PAGE, 12 * PAGE);
    ck_assert_uint_eq(arena.n, 1);
    ck_assert_uint_eq(arena.free[0].start, 16 * PAGE);
    ck_assert_uint_eq(arena.free[0].end, 64 * PAGE);
}
END_TEST

START_TEST(arena_aligns_and_keeps_the_gap_in_front)
{
    arena_init(&arena, 17 * PAGE, 64 * PAGE);
    ck_assert_uint_eq(arena_take(&arena, 8 * PAGE, 16 * PAGE), 32 * PAGE);
    ck_assert_uint_eq(arena_take(&arena, 15 * PAGE, PAGE), 17 * PAGE);
    ck_assert_uint_eq(arena_take(&arena, 100 * PAGE, PAGE), 0);
}
END_TEST

/* Every page is either free or taken, whatever happens, and full tables lose address space only. */
START_TEST(arena_survives_random_use)
{
    enum { PAGES = 4096, HELD = 256 };
    static struct {
        uint64_t at, size;
    } held[HELD];
    unsigned seed = (unsigned)_i;
    uint64_t free_pages = PAGES;
    memset(held, 0, sizeof held);
    arena_init(&arena, PAGE, (PAGES + 1) * PAGE);
    for (int step = 0; step < 20000; step++) {
        int k = rand_r(&seed) % HELD;
        if (held[k].size) {
            arena_give(&arena, held[k].at, held[k].size);
            free_pages += held[k].size / PAGE;
            held[k].size = 0;
        } else {
            uint64_t size = (1 + (unsigned)rand_r(&seed) % 32) * PAGE;
            uint64_t at = arena_take(&arena, size, PAGE << (rand_r(&seed) % 3));
            if (!at)
                continue;
            bool apart = true; /* one assertion for all: each of them is a system call */
            for (int j = 0; j < HELD; j++)
                apart &= !held[j].size || at + size <= held[j].at ||
                         held[j].at + held[j].size <= at;
            ck_assert(apart);
            held[k].at = at;
            held[k].size = size;
            free_pages -= size / PAGE;
        }
        uint64_t sum = 0;
        for (uint32_t i = 0; i < arena.n; i++)
            sum += (arena.free[i].end - arena.free[i].start) / PAGE;
        ck_assert_uint_eq(sum, free_pages);
    }
}
END_TEST

START_TEST(maps_parses_what_the_kernel_writes)
{
    struct maps maps;
    struct err err;
    char *text = strdup("7f00-8000 r-xp 00001000 fe:01 42                  /a b/c.so (deleted)\n"
                        "9000-a000 rw-s 00000000 00:00 0 \n"
                        "b000-c000 ---p 00000000 00:00 0                  [heap]\n");
    ck_assert_int_eq(maps_parse(&maps, text, &err), 0);
    ck_assert_uint_eq(maps.n, 3);
    ck_assert_uint_eq(maps.entry[0].start, 0x7f00);
    ck_assert_int_eq(maps.entry[0].prot, PROT_READ | PROT_EXEC);
    ck_assert_uint_eq(maps.entry[0].offset, 0x1000);
    ck_assert_uint_eq(maps.entry[0].dev_major, 0xfe);
    ck_assert_uint_eq(maps.entry[0].inode, 42);
    ck_assert_str_eq(maps.entry[0].path, "/a b/c.so (deleted)");
    ck_assert_int_eq(maps.entry[1].shared, 1);
    ck_assert_str_eq(maps.entry[1].path, "");
    ck_assert_int_eq(maps.entry[2].prot, PROT_NONE);
    ck_assert_str_eq(maps.entry[2].path, "[heap]");
    maps_free(&maps);
}
END_TEST

START_TEST(maps_names_a_line_it_does_not_understand)
{
    struct maps maps;
    struct err err;
    char *text = strdup("7f00-8000 r-xp 00001000 fe:01 42 /a\nnonsense\n");
    ck_assert_int_eq(maps_parse(&maps, text, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "nonsense"));
    free(text);
}
END_TEST

START_TEST(maps_reads_this_process)
{
    struct maps maps;
    struct err err;
    bool found = false;
    ck_assert_int_eq(maps_read(&maps, &err), 0);
    for (size_t i = 0; i < maps.n; i++) {
        ck_assert(i == 0 || maps.entry[i - 1].end <= maps.entry[i].start ||
                  strcmp(maps.entry[i].path, "[vsyscall]") == 0);
        found |= maps.entry[i].start <= (uint64_t)&maps && (uint64_t)&maps < maps.entry[i].end;
    }
    ck_assert(found);
    maps_free(&maps);
}
END_TEST

START_TEST(maps_corpus)
{
    unit_corpus("maps", 1, LLVMFuzzerTestOneInput);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("half");
    TCase *tc = tcase_create("arena and maps");
    tcase_add_test(tc, arena_takes_first_fit_and_joins_what_comes_back);
    tcase_add_test(tc, arena_aligns_and_keeps_the_gap_in_front);
    tcase_add_loop_test(tc, arena_survives_random_use, 0, 4);
    tcase_add_test(tc, maps_parses_what_the_kernel_writes);
    tcase_add_test(tc, maps_names_a_line_it_does_not_understand);
    tcase_add_test(tc, maps_reads_this_process);
    tcase_add_test(tc, maps_corpus);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
