/*
 * test_layout.c - layouts: normal form, refusals, partial messages, digests, serialised form
 *
 * That they mean what MPI's datatypes mean is the business of test_layout_mpi.c. `test_layout time`
 * prints what packing costs instead of testing.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "msgcounter/layout/layout_impl.h"
#include "tests/unit/unit.h"


static struct layout *basic(int64_t size)
{
    struct layout *l;
    if (layout_basic(&l, NULL, size, size, (uint32_t)size) < 0)
        abort();
    return l;
}

/* struct { char c; double d[2]; int i; } with holes behind c and at the end */
static struct layout *record(const struct layout_alloc *a)
{
    struct layout *l, *part[3] = {0};
    int rc = layout_basic(&part[0], a, 1, 1, 1);
    if (rc == 0)
        rc = layout_basic(&part[1], a, 8, 8, 8);
    if (rc == 0)
        rc = layout_basic(&part[2], a, 4, 4, 4);
    if (rc == 0)
        rc = layout_struct(&l, a, 3, (int64_t[]){1, 2, 1}, (int64_t[]){0, 8, 24}, part);
    for (int i = 0; i < 3; i++)
        layout_free(part[i]);
    return rc == 0 ? l : NULL;
}

static bool same_form(const struct layout *a, const struct layout *b)
{
    unsigned char x[4096], y[4096];
    int64_t n = layout_write(a, x, sizeof x);
    return n > 0 && layout_write(b, y, sizeof y) == n && !memcmp(x, y, (size_t)n);
}

/* -------------------------------------------------------------------------------- normal form */

START_TEST(a_million_blocks_are_one_node)
{
    enum { N = 1000000 };
    struct layout *d = basic(8), *vector, *indexed;
    int64_t *disps = calloc(N, sizeof *disps), *lens = calloc(N, sizeof *lens);
    for (int64_t i = 0; i < N; i++) {
        disps[i] = 5 * i;
        lens[i] = 2;
    }
    ck_assert_int_eq(layout_vector(&vector, N, 2, 5, d), 0);
    ck_assert_int_eq(layout_indexed(&indexed, N, lens, disps, d), 0);
    ck_assert_int_lt(layout_written_size(vector), 200);
    ck_assert(same_form(vector, indexed));
    ck_assert_int_eq(layout_bounds(vector).size, 16 * (int64_t)N);
    ck_assert_int_eq(layout_bounds(vector).ub, 8 * (5 * (int64_t)(N - 1) + 2));
    layout_free(indexed);
    for (int64_t i = 0; i < N; i++)
        disps[i] = 2 * i + 7; /* neighbours */
    ck_assert_int_eq(layout_indexed(&indexed, N, lens, disps, d), 0);
    ck_assert_int_lt(layout_written_size(indexed), 200);
    ck_assert(indexed->dense);
    layout_free(indexed);
    layout_free(vector);
    layout_free(d);
    free(disps);
    free(lens);
}
END_TEST

START_TEST(what_is_contiguous_is_dense)
{
    struct layout *i4 = basic(4), *d = basic(8), *l, *m;
    ck_assert_int_eq(layout_contiguous(&l, 1000, d), 0);
    ck_assert(l->dense);
    ck_assert_int_eq(layout_vector(&m, 10, 1000, 1000, d), 0);
    ck_assert(m->dense);
    layout_free(m);
    layout_free(l);
    ck_assert_int_eq(layout_struct(&l, NULL, 3, (int64_t[]){1, 3, 0}, (int64_t[]){8, 16, 99},
                                   (struct layout *[]){d, i4, d}),
                     0);
    ck_assert(l->dense);
    ck_assert_int_eq(layout_bounds(l).size, 20);
    ck_assert_int_eq(layout_bounds(l).ub, 32); /* padded to 8 */
    layout_free(l);
    ck_assert_int_eq(layout_struct(&l, NULL, 2, (int64_t[]){1, 1}, (int64_t[]){8, 0},
                                   (struct layout *[]){d, i4}),
                     0);
    ck_assert(!l->dense); /* another order */
    layout_free(l);
    l = record(NULL);
    ck_assert(!l->dense);
    ck_assert_int_eq(layout_bounds(l).ub, 32);
    ck_assert_int_eq(layout_bounds(l).true_ub, 28);
    layout_free(l);
    layout_free(i4);
    layout_free(d);
}
END_TEST

/* ----------------------------------------------------------------------------------- refusals */

START_TEST(bad_arguments_are_refused)
{
    struct layout *d = basic(8), *l = NULL;
    const int64_t one[] = {1}, minus[] = {-1}, far[] = {INT64_MAX / 4}, two[] = {2};
    const enum layout_distrib block[] = {LAYOUT_BLOCK}, none[] = {LAYOUT_NONE};
    const struct {
        int want, got;
    } rows[] = {
        {-EINVAL, layout_basic(&l, NULL, -1, 1, 0)},
        {-EINVAL, layout_basic(&l, NULL, 8, 3, 0)},
        {-EINVAL, layout_contiguous(&l, -1, d)},
        {-EOVERFLOW, layout_contiguous(&l, INT64_MAX / 2, d)},
        {-EINVAL, layout_vector(&l, -1, 1, 1, d)},
        {-EINVAL, layout_vector(&l, 1, -1, 1, d)},
        {-EOVERFLOW, layout_vector(&l, 2, 1, INT64_MAX / 2, d)},
        {-EOVERFLOW, layout_hvector(&l, 3, 1, INT64_MAX / 2, d)},
        {-EINVAL, layout_indexed(&l, -1, one, one, d)},
        {-EINVAL, layout_indexed(&l, 1, minus, one, d)},
        {-EOVERFLOW, layout_indexed(&l, 1, one, far, d)},
        {-EOVERFLOW, layout_hindexed(&l, 1, far, one, d)},
        {-EOVERFLOW, layout_resized(&l, INT64_MAX, 1, d)},
        {-EOVERFLOW, layout_resized(&l, INT64_MIN, -1, d)},
        {-EINVAL, layout_subarray(&l, 0, one, one, one, LAYOUT_ORDER_C, d)},
        {-EINVAL, layout_subarray(&l, 1, one, two, minus, LAYOUT_ORDER_C, d)},
        {-EINVAL, layout_subarray(&l, 1, two, two, one, LAYOUT_ORDER_C, d)},
        {-EOVERFLOW, layout_subarray(&l, 1, far, one, one, LAYOUT_ORDER_C, d)},
        {-EINVAL, layout_darray(&l, 2, 2, 1, two, block, minus, two, LAYOUT_ORDER_C, d)},
        {-EINVAL, layout_darray(&l, 3, 0, 1, two, block, minus, two, LAYOUT_ORDER_C, d)},
        {-EINVAL, layout_darray(&l, 2, 0, 1, two, none, minus, two, LAYOUT_ORDER_C, d)},
        {-EINVAL, layout_darray(&l, 1, 0, 1, two, block, one, one, LAYOUT_ORDER_C, d)},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        ck_assert_msg(rows[i].got == rows[i].want, "row %zu: %d", i, rows[i].got);
    ck_assert_ptr_null(l);
    ck_assert_int_eq(layout_packed_size(d, INT64_MAX), -EOVERFLOW);
    ck_assert_int_eq(layout_packed_size(d, -1), -EINVAL);
    layout_free(d);
    layout_free(NULL);
}
END_TEST

START_TEST(nesting_has_a_limit)
{
    struct layout *l = basic(1), *up;
    int rc, depth = 1;
    while ((rc = layout_hvector(&up, 1, 1, 0, l)) == 0 &&
           (layout_free(up), rc = layout_hindexed(&up, 1, (int64_t[]){1}, (int64_t[]){1}, l)) ==
               0) {
        layout_free(l);
        l = up;
        depth++;
    }
    ck_assert_int_eq(rc, -ELOOP);
    ck_assert_int_eq(depth, LAYOUT_DEPTH_MAX);
    unsigned char memory[LAYOUT_DEPTH_MAX] = {[LAYOUT_DEPTH_MAX - 1] = 7}, out = 0;
    ck_assert_int_eq(layout_pack(l, 1, memory, &out, 1), 1);
    ck_assert_int_eq(out, 7);
    layout_free(l);
}
END_TEST

/* An allocator that counts, and fails at a chosen call. */
struct meter {
    int calls, live, fail_at;
};

static void *meter_alloc(void *arg, size_t size)
{
    struct meter *m = arg;
    if (++m->calls == m->fail_at)
        return NULL;
    m->live++;
    return malloc(size);
}

static void meter_free(void *arg, void *p)
{
    struct meter *m = arg;
    m->live -= p != NULL;
    free(p);
}

/* Makes, writes and reads a layout of every kind of node; false if memory ran out. */
static bool make_all(const struct layout_alloc *a)
{
    struct layout *parts[3] = {0}, *whole = NULL, *back = NULL;
    unsigned char bytes[2048];
    int64_t n = 0;
    int rc = (parts[0] = record(a)) ? 0 : -ENOMEM;
    if (rc == 0)
        rc = layout_indexed(&parts[1], 3, (int64_t[]){1, 2, 1}, (int64_t[]){0, 3, 9}, parts[0]);
    if (rc == 0)
        rc = layout_darray(&parts[2], 4, 1, 2, (int64_t[]){7, 9},
                           (enum layout_distrib[]){LAYOUT_CYCLIC, LAYOUT_BLOCK},
                           (int64_t[]){2, LAYOUT_DFLT_DARG}, (int64_t[]){2, 2},
                           LAYOUT_ORDER_FORTRAN, parts[1]);
    if (rc == 0)
        rc = layout_struct(&whole, a, 3, (int64_t[]){1, 2, 1}, (int64_t[]){0, 1000, 9000}, parts);
    if (rc == 0 && (n = layout_write(whole, bytes, sizeof bytes)) < 0)
        rc = (int)n;
    if (rc == 0)
        rc = layout_read(&back, a, bytes, (size_t)n);
    if (rc == 0 && ((struct meter *)a->arg)->fail_at == 0) /* comparing allocates too */
        ck_assert(same_form(whole, back));
    for (int i = 0; i < 3; i++)
        layout_free(parts[i]);
    layout_free(whole);
    layout_free(back);
    ck_assert_int_eq(rc, rc ? -ENOMEM : 0);
    return rc == 0;
}

START_TEST(every_failed_allocation_is_survived)
{
    struct meter m = {0};
    struct layout_alloc a = {meter_alloc, meter_free, &m};
    ck_assert(make_all(&a));
    ck_assert_int_eq(m.live, 0);
    int calls = m.calls;
    ck_assert_int_gt(calls, 20);
    for (int i = 1; i <= calls; i++) {
        m = (struct meter){.fail_at = i};
        bool made = make_all(&a);
        ck_assert(made == (i > m.calls));
        ck_assert_int_eq(m.live, 0);
    }
}
END_TEST

/* ------------------------------------------------------------------------------------- copies */

START_TEST(short_message_fills_the_first_bytes)
{
    struct layout *l = record(NULL);
    enum { COUNT = 3, SPAN = 3 * 32, SIZE = 3 * 21 };
    unsigned char in[SIZE], out[SIZE];
    for (int i = 0; i < SIZE; i++)
        in[i] = (unsigned char)(i + 1);
    for (size_t len = 0; len <= SIZE; len++) {
        unsigned char memory[SPAN];
        memset(memory, 0xee, sizeof memory);
        ck_assert_int_eq(layout_unpack(l, COUNT, memory, in, len), (int64_t)len);
        ck_assert_int_eq(layout_pack(l, COUNT, memory, out, sizeof out), SIZE);
        ck_assert_mem_eq(out, in, len);
        for (size_t i = len; i < SIZE; i++)
            ck_assert_int_eq(out[i], 0xee);
        for (int i = 0; i < SPAN; i++) /* holes */
            ck_assert((i % 32 > 0 && i % 32 < 8) || i % 32 >= 28 ? memory[i] == 0xee : true);
    }
    ck_assert_int_eq(layout_unpack(l, COUNT, out, in, SIZE + 1), -EMSGSIZE);
    ck_assert_int_eq(layout_pack(l, COUNT, in, out, SIZE - 1), -ENOBUFS);
    layout_free(l);
}
END_TEST

/* A message may end within an element, and the buffer right behind the message. */
START_TEST(first_bytes_are_packed_without_the_rest)
{
    struct layout *l = record(NULL);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *m = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                            0);
    ck_assert_ptr_ne(m, MAP_FAILED);
    ck_assert_int_eq(mprotect(m + page, page, PROT_NONE), 0);
    unsigned char in[3 * 21], out[3 * 21];
    for (size_t i = 0; i < sizeof in; i++)
        in[i] = (unsigned char)(i + 1);
    unsigned char *whole = m + page - 3 * 32;
    ck_assert_int_eq(layout_unpack(l, 3, whole, in, sizeof in), sizeof in);
    for (size_t len = 0; len <= sizeof in; len++) {
        memset(out, 0, sizeof out);
        layout_pack_first(l, whole, out, len);
        ck_assert_mem_eq(out, in, len);
    }
    m[page - 1] = 77;
    layout_pack_first(l, m + page - 1, out, 1);
    ck_assert_int_eq(out[0], 77);
    munmap(m, 2 * page);
    layout_free(l);
}
END_TEST

START_TEST(piece_is_what_lies_in_one)
{
    static unsigned char memory[4096], packed[4096];
    struct layout *byte = basic(1), *row, *apart, *moved;
    ck_assert_int_eq(layout_contiguous(&row, 100, byte), 0);
    ck_assert_int_eq(layout_resized(&apart, 0, 128, row), 0);
    ck_assert_int_eq(layout_hindexed(&moved, 1, (int64_t[]){100}, (int64_t[]){24}, byte), 0);
    for (size_t i = 0; i < sizeof memory; i++)
        memory[i] = (unsigned char)(i * 2654435761u >> 13);
    ck_assert_ptr_eq(layout_piece(row, 7, memory), memory);
    ck_assert_ptr_eq(layout_piece(apart, 1, memory), memory);
    ck_assert_ptr_null(layout_piece(apart, 2, memory));
    ck_assert_ptr_eq(layout_piece(moved, 5, memory), memory + 24);
    ck_assert_int_eq(layout_pack(moved, 5, memory, packed, sizeof packed), 500);
    ck_assert_int_eq(memcmp(layout_piece(moved, 5, memory), packed, 500), 0);
    layout_free(moved);
    layout_free(apart);
    layout_free(row);
    layout_free(byte);
}
END_TEST

/* Blocks shorter and longer than what the digest gathers. */
START_TEST(digest_is_that_of_the_packed_bytes)
{
    static unsigned char memory[1 << 20], packed[1 << 20];
    for (size_t i = 0; i < sizeof memory; i++)
        memory[i] = (unsigned char)(i * 2654435761u >> 13);
    struct layout *byte = basic(1);
    const int64_t lengths[] = {1, 3, 4, 8, 16, 24, 100, 511, 512, 513, 4095, 4096, 5000};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        for (int64_t count = 1; count <= 50; count += 7) {
            struct layout *l;
            ck_assert_int_eq(layout_hvector(&l, count, lengths[i], lengths[i] + 9, byte), 0);
            int64_t n = layout_pack(l, 3, memory, packed, sizeof packed);
            ck_assert_int_eq(n, 3 * count * lengths[i]);
            ck_assert(layout_digest(l, 3, memory) == layout_digest(byte, n, packed));
            packed[n / 2]++;
            ck_assert(layout_digest(l, 3, memory) != layout_digest(byte, n, packed));
            layout_free(l);
        }
    /* xxh3-64 of nothing and of "abc" */
    ck_assert_uint_eq(layout_digest(byte, 0, NULL), 0x2d06800538d394c2);
    ck_assert_uint_eq(layout_digest(byte, 3, "abc"), 0x78af5f94892f3950);
    layout_free(byte);
}
END_TEST

START_TEST(elements_are_counted)
{
    struct layout *l = record(NULL);
    const struct {
        int64_t bytes, elements;
    } rows[] = {{0, 0},  {1, 1},  {8, 1},  {9, 2},  {16, 2}, {17, 3},    {20, 3},
                {21, 4}, {22, 5}, {29, 5}, {42, 8}, {-1, 0}, {2100, 400}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        ck_assert_int_eq(layout_elements(l, rows[i].bytes), rows[i].elements);
    layout_free(l);
}
END_TEST

/* ----------------------------------------------------------------------------- serialised form */

START_TEST(damaged_bytes_are_refused_or_harmless)
{
    struct layout *l = record(NULL), *list, *back;
    ck_assert_int_eq(layout_indexed(&list, 3, (int64_t[]){1, 2, 1}, (int64_t[]){0, 3, 9}, l), 0);
    unsigned char bytes[1024];
    int64_t n = layout_write(list, bytes, sizeof bytes);
    ck_assert_int_gt(n, 100);
    ck_assert_int_eq(layout_write(list, bytes, (size_t)n - 1), -ENOBUFS);
    for (int64_t i = 0; i < n; i++)
        ck_assert_int_eq(layout_read(&back, NULL, bytes, (size_t)i), -EINVAL);
    ck_assert_int_eq(layout_read(&back, NULL, bytes, (size_t)n + 8), -EINVAL);
    for (int64_t i = 0; i < n; i++)
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] ^= (unsigned char)(1 << bit);
            LLVMFuzzerTestOneInput(bytes, (size_t)n);
            bytes[i] ^= (unsigned char)(1 << bit);
        }
    layout_free(list);
    layout_free(l);
}
END_TEST

/* A member that is used many times stands once. */
START_TEST(shared_parts_are_written_once)
{
    struct layout *l = record(NULL), *up;
    for (int i = 0; i < 20; i++) {
        int64_t e = layout_extent(l);
        ck_assert_int_eq(layout_struct(&up, NULL, 3, (int64_t[]){1, 1, 2},
                                       (int64_t[]){0, 1 + e, 3 * e}, (struct layout *[]){l, l, l}),
                         0);
        layout_free(l);
        l = up;
    }
    ck_assert_int_eq(layout_bounds(l).size, INT64_C(21) << 40);
    ck_assert_int_lt(layout_written_size(l), 8192);
    layout_free(l);
}
END_TEST

START_TEST(corpus)
{
    unit_corpus("layout", 4, LLVMFuzzerTestOneInput);
}
END_TEST

/* ------------------------------------------------------------------------------------- figures */

static void print_times(void)
{
    enum { BYTES = 1 << 20 };
    static unsigned char memory[4 * BYTES], packed[BYTES];
    struct layout *d = basic(8);
    printf("%22s %10s %10s %10s\n", "1 MiB of doubles, GB/s", "pack", "unpack", "digest");
    const int64_t blocks[] = {0, 1, 2, 3, 16, 64, 512};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        struct layout *l;
        int64_t b = blocks[i] ? blocks[i] : BYTES / 8;
        if (layout_vector(&l, BYTES / 8 / b, b, 2 * b, d) < 0)
            abort();
        int64_t size = layout_packed_size(l, 1);
        double t[4] = {0};
        for (int k = 0; k < 4; k++) {
            t[k] = unit_cpu_seconds();
            for (int rep = 0; rep < 200 && k < 3; rep++)
                k == 0   ? (void)layout_pack(l, 1, memory, packed, BYTES)
                : k == 1 ? (void)layout_unpack(l, 1, memory, packed, (size_t)size)
                         : (void)(*(volatile uint64_t *)packed = layout_digest(l, 1, memory));
        }
        printf("blocks of %12ld %10.2f %10.2f %10.2f\n", (long)b, 200e-9 * BYTES / (t[1] - t[0]),
               200e-9 * BYTES / (t[2] - t[1]), 200e-9 * BYTES / (t[3] - t[2]));
        layout_free(l);
    }
    layout_free(d);
}

static Suite *suite(void)
{
    Suite *s = suite_create("layout");
    TCase *tc = tcase_create("layout");
    tcase_add_test(tc, a_million_blocks_are_one_node);
    tcase_add_test(tc, what_is_contiguous_is_dense);
    tcase_add_test(tc, bad_arguments_are_refused);
    tcase_add_test(tc, nesting_has_a_limit);
    tcase_add_test(tc, every_failed_allocation_is_survived);
    tcase_add_test(tc, short_message_fills_the_first_bytes);
    tcase_add_test(tc, first_bytes_are_packed_without_the_rest);
    tcase_add_test(tc, piece_is_what_lies_in_one);
    tcase_add_test(tc, digest_is_that_of_the_packed_bytes);
    tcase_add_test(tc, elements_are_counted);
    tcase_add_test(tc, damaged_bytes_are_refused_or_harmless);
    tcase_add_test(tc, shared_parts_are_written_once);
    tcase_add_test(tc, corpus);
    suite_add_tcase(s, tc);
    return s;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "time")) {
        print_times();
        return 0;
    }
    return unit_run(suite());
}
