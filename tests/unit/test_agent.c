/*
 * test_agent.c - the conditions of breakpoints
 */
#include <check.h>
#include <string.h>

#include "gdbbridge/agent.h"
#include "tests/unit/unit.h"

#define MEMORY_AT 0x1000u

static const uint8_t memory[] = {0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0xf1};

static int read_memory(void *arg, uint64_t addr, void *to, size_t size)
{
    (void)arg;
    if (addr < MEMORY_AT || addr - MEMORY_AT > sizeof memory - size)
        return -1;
    memcpy(to, memory + (addr - MEMORY_AT), size);
    return 0;
}

static int read_register(void *arg, unsigned number, uint64_t *value)
{
    (void)arg;
    *value = 100 + number;
    return number < 18 ? 0 : -1;
}

static const struct agent_world world = {read_memory, read_register, NULL};

#define CODE(...) (const uint8_t[]){__VA_ARGS__}, sizeof(uint8_t[]){__VA_ARGS__}

static const struct row {
    const char *what;
    const uint8_t *code;
    size_t size;
    int result;
    uint64_t value;
} rows[] = {
    {"7 - 3", CODE(0x22, 7, 0x22, 3, 0x03, 0x27), 0, 4},
    {"3 - 7", CODE(0x22, 3, 0x22, 7, 0x03, 0x27), 0, (uint64_t)-4},
    {"-6 / 4 with sign", CODE(0x22, 0, 0x22, 6, 3, 0x22, 4, 5, 0x27), 0, (uint64_t)-1},
    {"-6 % 4 with sign", CODE(0x22, 0, 0x22, 6, 3, 0x22, 4, 7, 0x27), 0, (uint64_t)-2},
    {"-6 % 4 without", CODE(0x22, 0, 0x22, 6, 3, 0x22, 4, 8, 0x27), 0, (uint64_t)-6 % 4},
    {"division by zero", CODE(0x22, 1, 0x22, 0, 5, 0x27), -1, 0},
    {"smallest / -1",
     CODE(0x25, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x22, 0xff, 0x16, 8, 5, 0x27), 0, 1ull << 63},
    {"shifts", CODE(0x22, 1, 0x22, 63, 9, 0x22, 63, 0x0a, 0x27), 0, ~0ull},
    {"a shift by all bits", CODE(0x22, 1, 0x22, 64, 9, 0x27), 0, 0},
    {"16 bits, big-endian", CODE(0x23, 0x12, 0x34, 0x27), 0, 0x1234},
    {"sign extension", CODE(0x22, 0x80, 0x16, 8, 0x27), 0, (uint64_t)-128},
    {"zero extension", CODE(0x23, 0x12, 0x34, 0x2a, 8, 0x27), 0, 0x34},
    {"memory, 32 bits", CODE(0x23, 0x10, 0x00, 0x19, 0x27), 0, 0x55667788},
    {"memory, 64 bits", CODE(0x23, 0x10, 0x00, 0x1a, 0x27), 0, 0xf122334455667788},
    {"memory that is not there", CODE(0x23, 0x20, 0x00, 0x17, 0x27), -1, 0},
    {"a register", CODE(0x26, 0, 7, 0x27), 0, 107},
    {"a register that is not there", CODE(0x26, 0, 99, 0x27), -1, 0},
    {"less, with sign", CODE(0x22, 0xff, 0x16, 8, 0x22, 1, 0x14, 0x27), 0, 1},
    {"less, without", CODE(0x22, 0xff, 0x16, 8, 0x22, 1, 0x15, 0x27), 0, 0},
    {"if", CODE(0x22, 1, 0x20, 0, 8, 0x22, 5, 0x27, 0x22, 9, 0x27), 0, 9},
    {"if not", CODE(0x22, 0, 0x20, 0, 8, 0x22, 5, 0x27, 0x22, 9, 0x27), 0, 5},
    {"pick", CODE(0x22, 4, 0x22, 5, 0x32, 1, 0x27), 0, 4},
    {"pick too deep", CODE(0x22, 4, 0x32, 1, 0x27), -1, 0},
    {"rotation: a b c is c a b", CODE(0x22, 1, 0x22, 2, 0x22, 3, 0x33, 0x03, 0x27), 0,
     (uint64_t)-1},
    {"swap", CODE(0x22, 7, 0x22, 3, 0x2b, 0x03, 0x27), 0, (uint64_t)-4},
    {"an endless loop", CODE(0x21, 0, 0), -1, 0},
    {"no end", CODE(0x22, 1), -1, 0},
    {"an operand cut off", CODE(0x25, 1, 2), -1, 0},
    {"an empty stack", CODE(0x02, 0x27), -1, 0},
    {"nothing on the stack", CODE(0x27), -1, 0},
    {"too much on the stack", CODE(0x22, 1, 0x28, 0x21, 0, 2), -1, 0},
    {"floating point", CODE(0x22, 1, 0x01, 0x27), -1, 0},
    {"tracing", CODE(0x22, 1, 0x22, 1, 0x0c, 0x27), -1, 0},
    {"no operation", CODE(0xff), -1, 0},
};

START_TEST(evaluates)
{
    const struct row *r = &rows[_i];
    uint64_t value = 12345;
    ck_assert_msg(agent_evaluate(r->code, r->size, &world, &value) == r->result, "%s", r->what);
    if (r->result == 0)
        ck_assert_msg(value == r->value, "%s: %#lx", r->what, (unsigned long)value);
    else
        ck_assert_uint_eq(value, 12345);
}
END_TEST

static bool stops(struct agent_conditions **all, const char *text)
{
    const struct agent_conditions *c = agent_conditions(all, text, strlen(text));
    ck_assert_ptr_nonnull(c);
    ck_assert_ptr_eq(agent_conditions(all, text, strlen(text)), c);
    return agent_stops(c, &world);
}

START_TEST(one_of_several_conditions_is_enough)
{
    struct agent_conditions *all = NULL;
    ck_assert(stops(&all, "X3,220127"));
    ck_assert(!stops(&all, "X3,220027"));
    ck_assert(!stops(&all, "X3,220027X3,220027"));
    ck_assert(stops(&all, "X3,220027X3,220527"));
    ck_assert(stops(&all, "X3,220027X1,ff")); /* cannot be evaluated: GDB shall look */
    agent_conditions_free(&all);
    ck_assert_ptr_null(all);
}
END_TEST

START_TEST(refuses_what_is_no_condition)
{
    static const char *const bad[] = {"3,220127", "X", "X3", "X3,", "X3,2201", "X3,22012z",
                                      "X3,220127;", "Xffffffffffffffff,22", "X-1,22"};
    struct agent_conditions *all = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(!agent_conditions(&all, bad[i], strlen(bad[i])), "%s", bad[i]);
    ck_assert_ptr_null(all);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("agent");
    TCase *tc = tcase_create("agent");
    tcase_add_loop_test(tc, evaluates, 0, (int)(sizeof rows / sizeof rows[0]));
    tcase_add_test(tc, one_of_several_conditions_is_enough);
    tcase_add_test(tc, refuses_what_is_no_condition);
    suite_add_tcase(s, tc);
    return unit_run(s);
}
