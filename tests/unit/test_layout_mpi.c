/*
 * test_layout_mpi.c - layouts against the datatypes of a real MPI library
 *
 * Thousands of random nested datatypes are built twice, with MPI's constructors and with ours.
 * Size, extents, packed bytes, unpacked memory and element counts must be the same. Runs as a job
 * of one rank. `test_layout_mpi FIRST LAST` tries other seeds and prints each datatype that
 * differs.
 */
#include <check.h>
#include <mpi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "msgcounter/layout/layout.h"

#define SEEDS    6000
#define PARTS    6         /* of a list, at most */
#define SPAN_MAX (1 << 20) /* bytes of a buffer; datatypes that need more are not packed */

/* For builds with a sanitizer: the MPI library keeps memory at exit. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

/* A datatype made twice, and how. */
struct pair {
    MPI_Datatype mpi;
    struct layout *ours;
    char text[2048];
};

static uint64_t state;

static uint64_t random_u64(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

/* lo..hi */
static int random_int(int lo, int hi)
{
    return lo + (int)(random_u64() % (uint64_t)(hi - lo + 1));
}

static bool chance(int percent)
{
    return random_int(1, 100) <= percent;
}

static void free_pair(struct pair *p)
{
    int n_ints, n_addrs, n_types, combiner;
    MPI_Type_get_envelope(p->mpi, &n_ints, &n_addrs, &n_types, &combiner);
    if (combiner != MPI_COMBINER_NAMED)
        MPI_Type_free(&p->mpi);
    layout_free(p->ours);
}

static void must(int rc, const char *what)
{
    if (rc) {
        fprintf(stderr, "%s: %d\n", what, rc);
        abort();
    }
}

/* ------------------------------------------------------------------------------- constructors */

static void make_basic(struct pair *p)
{
    static const struct {
        MPI_Datatype mpi;
        int size, align;
        const char *name;
    } rows[] = {
        {MPI_CHAR, 1, 1, "char"},   {MPI_SHORT, 2, 2, "short"},
        {MPI_INT, 4, 4, "int"},     {MPI_DOUBLE, 8, 8, "double"},
        {MPI_FLOAT, 4, 4, "float"}, {MPI_C_DOUBLE_COMPLEX, 16, 8, "complex"},
    };
    int i = random_int(0, sizeof rows / sizeof rows[0] - 1);
    p->mpi = rows[i].mpi;
    must(layout_basic(&p->ours, NULL, rows[i].size, rows[i].align, (uint32_t)i), "basic");
    strcpy(p->text, rows[i].name);
}

/* Numbers for a list: block lengths, and displacements that mostly do not make blocks overlap. */
struct numbers {
    int n;
    int lens[PARTS], disps[PARTS];
    int64_t lens64[PARTS], disps64[PARTS];
    MPI_Aint bytes[PARTS];
    int64_t bytes64[PARTS];
    char text[256];
};

static void draw_numbers(struct numbers *x, int64_t extent, bool same_length)
{
    int at = 0;
    x->n = chance(5) ? 0 : random_int(1, PARTS);
    bool even = chance(20);
    int gap = random_int(0, 3);
    size_t len = 0;
    x->text[0] = '\0';
    for (int i = 0; i < x->n; i++) {
        x->lens[i] = i && (same_length || even) ? x->lens[0] : chance(10) ? 0 : random_int(1, 4);
        at += even ? gap : random_int(0, 3);
        x->disps[i] = chance(5) ? at - random_int(0, 10) : at;
        at += x->lens[i];
        x->bytes[i] = x->disps[i] * (MPI_Aint)extent + (chance(10) ? random_int(0, 9) : 0);
        x->lens64[i] = x->lens[i];
        x->disps64[i] = x->disps[i];
        x->bytes64[i] = x->bytes[i];
        len += (size_t)snprintf(x->text + len, sizeof x->text - len, " %d@%d/%ld", x->lens[i],
                                x->disps[i], (long)x->bytes[i]);
    }
}

static void make(struct pair *p, int depth);

static void make_struct(struct pair *p, int depth)
{
    struct pair *parts = calloc(PARTS, sizeof *parts);
    MPI_Datatype mpi[PARTS];
    struct layout *ours[PARTS];
    struct numbers x;
    draw_numbers(&x, 24, false);
    MPI_Aint at = 0;
    size_t len = (size_t)snprintf(p->text, sizeof p->text, "struct(");
    for (int i = 0; i < x.n; i++) {
        make(&parts[i], depth - 1);
        mpi[i] = parts[i].mpi;
        ours[i] = parts[i].ours;
        if (chance(70)) { /* one after the other, aligned or not */
            MPI_Aint lb, extent;
            MPI_Type_get_true_extent(mpi[i], &lb, &extent);
            at = chance(50) ? (at + 7) & ~(MPI_Aint)7 : at;
            x.bytes64[i] = x.bytes[i] = at - lb;
            MPI_Type_get_extent(mpi[i], &lb, &extent);
            at += extent * x.lens[i];
        }
        int n = snprintf(p->text + len, sizeof p->text - len, "%d@%ld %s; ", x.lens[i],
                         (long)x.bytes[i], parts[i].text);
        len = len + (size_t)n < sizeof p->text ? len + (size_t)n : sizeof p->text - 1;
    }
    must(MPI_Type_create_struct(x.n, x.lens, x.bytes, mpi, &p->mpi), "mpi struct");
    must(layout_struct(&p->ours, NULL, x.n, x.lens64, x.bytes64, ours), "struct");
    for (int i = 0; i < x.n; i++)
        free_pair(&parts[i]);
    free(parts);
}

static void make_array(struct pair *p, const struct pair *old, char *what, size_t cap)
{
    int n = random_int(1, 4), sizes[4], subs[4], starts[4];
    int64_t sizes64[4], subs64[4], starts64[4];
    bool fortran = chance(50);
    size_t len = (size_t)snprintf(what, cap, "subarray %c", fortran ? 'F' : 'C');
    for (int i = 0; i < n; i++) {
        sizes64[i] = sizes[i] = random_int(1, 6);
        subs64[i] = subs[i] = random_int(1, sizes[i]);
        starts64[i] = starts[i] = random_int(0, sizes[i] - subs[i]);
        len += (size_t)snprintf(what + len, cap - len, " %d:%d/%d", starts[i], subs[i], sizes[i]);
    }
    must(MPI_Type_create_subarray(n, sizes, subs, starts, fortran ? MPI_ORDER_FORTRAN : MPI_ORDER_C,
                                  old->mpi, &p->mpi),
         "mpi subarray");
    must(layout_subarray(&p->ours, n, sizes64, subs64, starts64,
                         fortran ? LAYOUT_ORDER_FORTRAN : LAYOUT_ORDER_C, old->ours),
         "subarray");
}

static void make_darray(struct pair *p, const struct pair *old, char *what, size_t cap)
{
    static const int mpi_distrib[] = {
        [LAYOUT_BLOCK] = MPI_DISTRIBUTE_BLOCK,
        [LAYOUT_CYCLIC] = MPI_DISTRIBUTE_CYCLIC,
        [LAYOUT_NONE] = MPI_DISTRIBUTE_NONE,
    };
    int n = random_int(1, 3), gsizes[3], distribs[3], dargs[3], psizes[3], procs = 1;
    int64_t gsizes64[3], dargs64[3], psizes64[3];
    enum layout_distrib ours[3];
    bool fortran = chance(50);
    size_t len = (size_t)snprintf(what, cap, "darray %c", fortran ? 'F' : 'C');
    for (int i = 0; i < n; i++) {
        ours[i] = (enum layout_distrib)random_int(0, 2);
        distribs[i] = mpi_distrib[ours[i]];
        gsizes64[i] = gsizes[i] = random_int(1, 12);
        psizes64[i] = psizes[i] = ours[i] == LAYOUT_NONE ? 1 : random_int(1, 4);
        int least = ours[i] == LAYOUT_BLOCK ? (gsizes[i] + psizes[i] - 1) / psizes[i] : 1;
        dargs[i] = ours[i] == LAYOUT_NONE || chance(40) ? MPI_DISTRIBUTE_DFLT_DARG
                                                        : random_int(least, least + 2);
        dargs64[i] = dargs[i] == MPI_DISTRIBUTE_DFLT_DARG ? LAYOUT_DFLT_DARG : dargs[i];
        procs *= psizes[i];
        len += (size_t)snprintf(what + len, cap - len, " %d/%d %c%d", gsizes[i], psizes[i],
                                "BCN"[ours[i]], dargs[i]);
    }
    int rank = random_int(0, procs - 1);
    snprintf(what + len, cap - len, " rank %d/%d", rank, procs);
    must(MPI_Type_create_darray(procs, rank, n, gsizes, distribs, dargs, psizes,
                                fortran ? MPI_ORDER_FORTRAN : MPI_ORDER_C, old->mpi, &p->mpi),
         "mpi darray");
    must(layout_darray(&p->ours, procs, rank, n, gsizes64, ours, dargs64, psizes64,
                       fortran ? LAYOUT_ORDER_FORTRAN : LAYOUT_ORDER_C, old->ours),
         "darray");
}

/* A constructor with one old datatype. */
static void make_derived(struct pair *p, int depth)
{
    struct pair old;
    struct numbers x;
    char what[512];
    make(&old, depth - 1);
    MPI_Aint lb, extent;
    MPI_Type_get_extent(old.mpi, &lb, &extent);
    int kind = random_int(0, 10), count = random_int(chance(5) ? 0 : 1, 7);
    draw_numbers(&x, extent, kind >= 5);
    int blocklen = x.n ? x.lens[0] : 1;
    int stride = chance(10) ? -random_int(0, 6) : blocklen + random_int(0, 3);
    MPI_Aint bytes = stride * extent + (chance(20) ? random_int(0, 7) : 0);
    snprintf(what, sizeof what, "kind %d:%s", kind, x.text);
    switch (kind) {
    case 0:
        snprintf(what, sizeof what, "contiguous %d", count);
        must(MPI_Type_contiguous(count, old.mpi, &p->mpi), what);
        must(layout_contiguous(&p->ours, count, old.ours), what);
        break;
    case 1:
        snprintf(what, sizeof what, "vector %dx%d/%d", count, blocklen, stride);
        must(MPI_Type_vector(count, blocklen, stride, old.mpi, &p->mpi), what);
        must(layout_vector(&p->ours, count, blocklen, stride, old.ours), what);
        break;
    case 2:
        snprintf(what, sizeof what, "hvector %dx%d/%ld", count, blocklen, (long)bytes);
        must(MPI_Type_create_hvector(count, blocklen, bytes, old.mpi, &p->mpi), what);
        must(layout_hvector(&p->ours, count, blocklen, bytes, old.ours), what);
        break;
    case 3:
        must(MPI_Type_indexed(x.n, x.lens, x.disps, old.mpi, &p->mpi), what);
        must(layout_indexed(&p->ours, x.n, x.lens64, x.disps64, old.ours), what);
        break;
    case 4:
        must(MPI_Type_create_hindexed(x.n, x.lens, x.bytes, old.mpi, &p->mpi), what);
        must(layout_hindexed(&p->ours, x.n, x.lens64, x.bytes64, old.ours), what);
        break;
    case 5:
        must(MPI_Type_create_indexed_block(x.n, blocklen, x.disps, old.mpi, &p->mpi), what);
        must(layout_indexed_block(&p->ours, x.n, blocklen, x.disps64, old.ours), what);
        break;
    case 6:
        must(MPI_Type_create_hindexed_block(x.n, blocklen, x.bytes, old.mpi, &p->mpi), what);
        must(layout_hindexed_block(&p->ours, x.n, blocklen, x.bytes64, old.ours), what);
        break;
    case 7:
        lb = chance(50) ? 0 : random_int(-20, 20);
        extent = extent + random_int(0, 20);
        snprintf(what, sizeof what, "resized %ld+%ld", (long)lb, (long)extent);
        must(MPI_Type_create_resized(old.mpi, lb, extent, &p->mpi), what);
        must(layout_resized(&p->ours, lb, extent, old.ours), what);
        break;
    case 8:
        snprintf(what, sizeof what, "dup");
        must(MPI_Type_dup(old.mpi, &p->mpi), what);
        p->ours = layout_dup(old.ours);
        break;
    case 9:
        make_array(p, &old, what, sizeof what);
        break;
    default:
        make_darray(p, &old, what, sizeof what);
        break;
    }
    snprintf(p->text, sizeof p->text, "%s(%.1500s)", what, old.text);
    free_pair(&old);
}

static void make_any(struct pair *p, int depth)
{
    if (depth == 0 || chance(10))
        make_basic(p);
    else if (chance(25))
        make_struct(p, depth);
    else
        make_derived(p, depth);
}

/* Empty ones are left out: MPICH 4.0.2 gives some of them the bounds of what they might have held,
 * and divides by zero when it packs a datatype with one inside. */
static void make(struct pair *p, int depth)
{
    make_any(p, depth);
    while (layout_bounds(p->ours).size == 0) {
        free_pair(p);
        make_any(p, depth);
    }
}

/* ------------------------------------------------------------------------------------ compare */

static bool same_bounds(const struct pair *p)
{
    struct layout_bounds b = layout_bounds(p->ours);
    MPI_Count size, lb, extent, true_lb, true_extent;
    MPI_Type_size_x(p->mpi, &size);
    MPI_Type_get_extent_x(p->mpi, &lb, &extent);
    MPI_Type_get_true_extent_x(p->mpi, &true_lb, &true_extent);
    /* MPICH's true bounds of a distributed array include gaps of its elements. */
    bool same_true = strstr(p->text, "darray")
                         ? b.true_lb >= true_lb && b.true_ub <= true_lb + true_extent
                         : b.true_lb == true_lb && b.true_ub == true_lb + true_extent;
    if (b.size == size && b.lb == lb && b.ub - b.lb == extent && same_true)
        return true;
    printf("size %ld, MPI %ld; lb %ld, MPI %ld; extent %ld, MPI %ld; true lb %ld, MPI %ld; "
           "true extent %ld, MPI %ld\n",
           (long)b.size, (long)size, (long)b.lb, (long)lb, (long)(b.ub - b.lb), (long)extent,
           (long)b.true_lb, (long)true_lb, (long)(b.true_ub - b.true_lb), (long)true_extent);
    return false;
}

/* Only where MPICH 4.0.2 can count: it aborts for a part of an element, for complex numbers and for
 * arrays, and miscounts behind an empty member of a struct. */
static bool same_elements(const struct pair *p)
{
    int64_t size = layout_bounds(p->ours).size;
    if (strstr(p->text, "struct") || strstr(p->text, "complex") || strstr(p->text, "array"))
        return true;
    for (int64_t bytes = 1; bytes <= 2 * size; bytes += 1 + size / 200) {
        MPI_Status st;
        MPI_Count n;
        int64_t ours = layout_elements(p->ours, bytes);
        if (ours == layout_elements(p->ours, bytes - 1))
            continue;
        if (getenv("V"))
            fprintf(stderr, "el %ld %s\n", (long)bytes, p->text);
        memset(&st, 0, sizeof st);
        MPI_Status_set_elements_x(&st, MPI_BYTE, bytes);
        MPI_Get_elements_x(&st, p->mpi, &n);
        if (ours != n) {
            printf("%ld of %ld bytes: %ld elements, MPI %ld\n", (long)bytes, (long)size, (long)ours,
                   (long)n);
            return false;
        }
    }
    return true;
}

static unsigned char buf[SPAN_MAX], memory[SPAN_MAX], memory_mpi[SPAN_MAX], packed[SPAN_MAX],
    packed_mpi[SPAN_MAX];

static void fill(unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)random_u64();
}

/* A message of `part` bytes: they arrive, what lies behind stays. `at` is where the layout's
 * address 0 is in `memory`; only for layouts that do not overlap. */
static bool partial_ok(const struct pair *p, int count, int64_t at, int64_t size)
{
    static unsigned char again[SPAN_MAX];
    int64_t part = random_int(0, (int)size);
    layout_pack(p->ours, count, memory + at, again, SPAN_MAX);
    fill(packed, (size_t)part);
    if (layout_unpack(p->ours, count, memory + at, packed, (size_t)part) != part)
        return false;
    memcpy(again, packed, (size_t)part);
    layout_pack(p->ours, count, memory + at, packed, SPAN_MAX);
    return !memcmp(packed, again, (size_t)size);
}

static bool same_bytes(const struct pair *p, int count)
{
    struct layout_bounds b = layout_bounds(p->ours);
    int64_t last = (count - 1) * (b.ub - b.lb), size = count * b.size;
    int64_t lo = b.true_lb + (last < 0 ? last : 0), hi = b.true_ub + (last > 0 ? last : 0);
    if (hi - lo > SPAN_MAX || size > SPAN_MAX || size == 0)
        return true;
    fill(buf, (size_t)(hi - lo));
    memset(packed, 0, (size_t)size);
    int position = 0;
    MPI_Pack(buf - lo, count, p->mpi, packed_mpi, SPAN_MAX, &position, MPI_COMM_WORLD);
    if (position != size || layout_pack(p->ours, count, buf - lo, packed, (size_t)size) != size ||
        memcmp(packed, packed_mpi, (size_t)size)) {
        printf("packed bytes differ, count %d\n", count);
        return false;
    }
    struct layout *bytes;
    must(layout_basic(&bytes, NULL, 1, 1, 0), "byte");
    bool same = layout_digest(p->ours, count, buf - lo) == layout_digest(bytes, size, packed);
    layout_free(bytes);
    if (!same || layout_pack(p->ours, count, buf - lo, packed, (size_t)size - 1) >= 0) {
        printf("digest differs\n");
        return false;
    }
    fill(packed, (size_t)size);
    memcpy(memory, buf, (size_t)(hi - lo));
    memcpy(memory_mpi, buf, (size_t)(hi - lo));
    position = 0;
    MPI_Unpack(packed, (int)size, &position, memory_mpi - lo, count, p->mpi, MPI_COMM_WORLD);
    position = 0;
    MPI_Pack(memory_mpi - lo, count, p->mpi, packed_mpi, SPAN_MAX, &position, MPI_COMM_WORLD);
    if (memcmp(packed, packed_mpi, (size_t)size))
        return true; /* it overlaps itself: not to be received into */
    if (layout_unpack(p->ours, count, memory - lo, packed, (size_t)size) != size ||
        memcmp(memory, memory_mpi, (size_t)(hi - lo)) || !partial_ok(p, count, -lo, size)) {
        printf("unpacked bytes differ, count %d\n", count);
        return false;
    }
    return true;
}

static bool same_after_reading(const struct pair *p)
{
    static unsigned char out[1 << 16], again[1 << 16];
    struct layout *l;
    int64_t n = layout_write(p->ours, out, sizeof out);
    if (n < 0 || n != layout_written_size(p->ours) || layout_read(&l, NULL, out, (size_t)n) < 0) {
        printf("not written or not read back: %ld\n", (long)n);
        return false;
    }
    struct layout_bounds a = layout_bounds(p->ours), b = layout_bounds(l);
    bool same = !memcmp(&a, &b, sizeof a) && layout_write(l, again, sizeof again) == n &&
                !memcmp(out, again, (size_t)n);
    layout_free(l);
    if (!same)
        printf("another layout was read back\n");
    return same;
}

static bool same_for_seed(uint64_t seed)
{
    struct pair p;
    state = seed * 0x9e3779b97f4a7c15 + 1;
    for (int i = 0; i < 4; i++)
        random_u64();
    make(&p, random_int(1, 4));
    must(MPI_Type_commit(&p.mpi), "commit");
    bool same = same_bounds(&p) && same_elements(&p) && same_after_reading(&p) &&
                same_bytes(&p, 1) && same_bytes(&p, random_int(2, 4));
    if (!same)
        printf("seed %lu: %s\n", (unsigned long)seed, p.text);
    free_pair(&p);
    return same;
}

START_TEST(random_datatypes_are_the_same)
{
    int different = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++)
        different += !same_for_seed(seed);
    ck_assert_int_eq(different, 0);
}
END_TEST

int main(int argc, char **argv)
{
    MPI_Init(NULL, NULL);
    int failed = 0;
    if (argc == 3) {
        for (uint64_t s = strtoull(argv[1], NULL, 0); s <= strtoull(argv[2], NULL, 0); s++)
            failed += !same_for_seed(s);
        printf("%d differ\n", failed);
    } else {
        Suite *suite = suite_create("layout_mpi");
        TCase *tc = tcase_create("random");
        tcase_set_timeout(tc, 120);
        tcase_add_test(tc, random_datatypes_are_the_same);
        suite_add_tcase(suite, tc);
        SRunner *sr = srunner_create(suite);
        srunner_set_fork_status(sr, CK_NOFORK); /* MPI does not survive a fork */
        srunner_run_all(sr, CK_ENV);
        failed = srunner_ntests_failed(sr);
        srunner_free(sr);
    }
    MPI_Finalize();
    return failed != 0;
}
