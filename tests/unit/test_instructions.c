/*
 * test_instructions.c - which bytes of this program are rdtsc, rdrand and the like
 *
 * The functions are written so that each has what the decoder must tell apart. That the functions
 * have frames (.cfi) is as with compiled code.
 */
#include <check.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "runtime/half/instructions.h"
#include "tests/unit/unit.h"

#define MANY 256

__asm__(".text\n"
        "asking:\n"
        "    .cfi_startproc\n"
        "asking_tsc:   rdtsc\n"
        "asking_tscp:  rdtscp\n"
        "asking_cpu:   cpuid\n"
        "asking_r13:   rdrand %r13\n"
        "asking_si:    rdrand %si\n"
        "asking_ebx:   rdseed %ebx\n"
        "    ret\n"
        "    .cfi_endproc\n"
        "looking_alike:\n" /* immediates with the bytes of rdtsc, cpuid, rdrand */
        "    .cfi_startproc\n"
        "    mov $0x310f310f, %eax\n"
        "    mov $0xa20fa20f, %eax\n"
        "    mov $0xf0c70ff0c70f, %rax\n"
        "    lea 0x310f(%rip), %rax\n"
        "    ret\n"
        "looking_alike_end:\n"
        "    .cfi_endproc\n"
        "data_inside:\n" /* the decoder does not come to this function's end */
        "    .cfi_startproc\n"
        "    rdtsc\n"
        "    ret\n"
        "    .byte 0x06, 0x0f, 0x31\n"
        "data_inside_end:\n"
        "    .cfi_endproc\n"
        "without_frame:\n"
        "    rdtsc\n"
        "    ret\n"
        "without_frame_end:\n");

extern const char asking_tsc[], asking_tscp[], asking_cpu[], asking_r13[], asking_si[],
    asking_ebx[], looking_alike[], looking_alike_end[], data_inside[], data_inside_end[],
    without_frame[], without_frame_end[];

static struct gate_instruction found[MANY];
static int nfound;

static void find(void)
{
    nfound = instructions_find(0, GATE_ADDR, found, MANY);
    ck_assert_int_gt(nfound, 0);
    ck_assert_int_lt(nfound, MANY);
}

static const struct gate_instruction *found_at(const void *at)
{
    for (int i = 0; i < nfound; i++)
        if (found[i].at == (uint64_t)at)
            return &found[i];
    return NULL;
}

static int found_in(const void *from, const void *to)
{
    int n = 0;
    for (int i = 0; i < nfound; i++)
        n += found[i].at >= (uint64_t)from && found[i].at < (uint64_t)to;
    return n;
}

static void check_one(const void *at, unsigned kind, unsigned length, unsigned reg, unsigned bits)
{
    const struct gate_instruction *g = found_at(at);
    ck_assert_ptr_nonnull(g);
    ck_assert_uint_eq(g->kind, kind);
    ck_assert_uint_eq(g->length, length);
    ck_assert_uint_eq(g->reg, reg);
    ck_assert_uint_eq(g->bits, bits);
    ck_assert_mem_eq(g->was, at, length);
    ck_assert_int_eq(g->prot, PROT_READ | PROT_EXEC);
}

START_TEST(instructions_are_found_with_their_registers)
{
    find();
    check_one(asking_tsc, GATE_RDTSC, 2, 0, 0);
    check_one(asking_tscp, GATE_RDTSCP, 3, 0, 0);
    check_one(asking_cpu, GATE_CPUID, 2, 0, 0);
    check_one(asking_r13, GATE_RDRAND, 4, 13, 64);
    check_one(asking_si, GATE_RDRAND, 4, 6, 16);
    check_one(asking_ebx, GATE_RDSEED, 3, 3, 32);
    for (int i = 1; i < nfound; i++)
        ck_assert_uint_lt(found[i - 1].at, found[i].at);
}
END_TEST

START_TEST(what_only_looks_like_one_is_left_alone)
{
    find();
    ck_assert_int_eq(found_in(looking_alike, looking_alike_end), 0);
    ck_assert_int_eq(found_in(data_inside, data_inside_end), 0);
    ck_assert_int_eq(found_in(without_frame, without_frame_end), 0);
}
END_TEST

START_TEST(no_more_than_asked_for)
{
    struct gate_instruction two[3] = {{0}};
    ck_assert_int_eq(instructions_find(0, GATE_ADDR, two, 2), 2);
    ck_assert_uint_eq(two[2].at, 0);
    ck_assert_int_eq(instructions_find(0, 4096, two, 2), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("instructions");
    TCase *tc = tcase_create("of this program");
    tcase_add_test(tc, instructions_are_found_with_their_registers);
    tcase_add_test(tc, what_only_looks_like_one_is_left_alone);
    tcase_add_test(tc, no_more_than_asked_for);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
