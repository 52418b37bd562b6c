/*
 * test_agent.c - the conditions and commands of breakpoints
 */
#include <check.h>
#include <string.h>

#include "gdbbridge/agent.h"
#include "gdbbridge/agent_print.h"
#include "gdbbridge/bytes.h"
#include "tests/unit/unit.h"

#define MEMORY_AT 0x1000u

static const uint8_t memory[] = {0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0xf1,
                                 0,    'w',  'o',  'r',  'd',  0,    'x'};

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

static const struct agent_world world = {read_memory, read_register, NULL, NULL};

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
    {"printing, where nothing is printed to",
     CODE(0x22, 0, 0x22, 0, 0x34, 0, 0, 2, '!', 0, 0x27), -1, 0},
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

/* ---- printf ---- */

static const struct print_row {
    const char *format;
    uint64_t values[3];
    size_t n;
    const char *printed; /* NULL: refused */
} print_rows[] = {
    {"plain 100%%\\n", {0}, 0, "plain 100%\n"},
    {"\\t\\101\\\\\\\"\\e", {0}, 0, "\tA\\\"\033"},
    {"%d %i %u", {~0ull, 0x1fffffffe, ~0ull}, 3, "-1 -2 4294967295"},
    {"%hhd %hx %ld", {0x1ff, 0x12345, ~0ull}, 3, "-1 2345 -1"},
    {"%zu %lld %#llx", {5, 1ull << 40, 1ull << 40}, 3, "5 1099511627776 0x10000000000"},
    {"[%5d|%-5d|%05d]", {42, 42, 42}, 3, "[   42|42   |00042]"},
    {"[%+d|%.3d|%6.2x]", {7, 7, 7}, 3, "[+7|007|    07]"},
    {"%c%3c%-3c|", {'a', 'b', 'c'}, 3, "a  bc  |"},
    {"%p %o", {0x1000, 8}, 2, "0x1000 10"},
    {"<%s> <%6.2s> <%s>", {MEMORY_AT + 9, MEMORY_AT + 9, 0}, 3, "<word> <    wo> <(null)>"},
    {"%.3s", {MEMORY_AT + 10}, 1, "ord"},
    {"%s", {MEMORY_AT + sizeof memory - 1}, 1, NULL},
    {"%s", {5}, 1, NULL},
    {"%d", {0}, 0, NULL},
    {"one", {1}, 1, NULL},
    {"%f", {0}, 1, NULL},
    {"%*d", {1, 2}, 2, NULL},
    {"%ls %lc", {1, 2}, 2, NULL},
    {"%99999d", {1}, 1, NULL},
    {"%.99999d", {1}, 1, NULL},
    {"%hhhd", {1}, 1, NULL},
    {"%", {1}, 1, NULL},
    {"\\q", {0}, 0, NULL},
    {"\\", {0}, 0, NULL},
};

START_TEST(prints)
{
    const struct print_row *r = &print_rows[_i];
    struct bytes out = {0};
    struct agent_world w = world;
    w.printed = &out;
    int result = agent_print(&w, r->format, strlen(r->format), r->values, r->n);
    ck_assert_msg(result == (r->printed ? 0 : -1), "%s", r->format);
    if (r->printed)
        ck_assert_str_eq(out.data, r->printed);
    bytes_free(&out);
}
END_TEST

/* ---- scripts ---- */

static const struct agent_script *script(struct agent_script **all, const char *text)
{
    const struct agent_script *s = agent_script(all, text, strlen(text));
    ck_assert_msg(s, "%s", text);
    ck_assert_ptr_eq(agent_script(all, text, strlen(text)), s);
    return s;
}

START_TEST(one_of_several_conditions_is_enough)
{
    struct agent_script *all = NULL;
    ck_assert(agent_meets(script(&all, "X3,220127"), &world));
    ck_assert(!agent_meets(script(&all, "X3,220027"), &world));
    ck_assert(!agent_meets(script(&all, "X3,220027X3,220027"), &world));
    ck_assert(agent_meets(script(&all, "X3,220027X3,220527"), &world));
    /* cannot be evaluated: GDB shall look */
    ck_assert(agent_meets(script(&all, "X3,220027X1,ff"), &world));
    ck_assert(!agent_has_commands(script(&all, "X3,220127")));
    agent_scripts_free(&all);
    ck_assert_ptr_null(all);
}
END_TEST

/* printf("%d %d", 6, 5), as GDB compiles it, and then printf("!"). */
#define PRINT "X13,22052206220022003402000625642025640027"

START_TEST(commands_print_in_their_order)
{
    struct agent_script *all = NULL;
    struct bytes out = {0};
    struct agent_world w = world;
    const struct agent_script *s =
        script(&all, "X3,220127;cmds:1," PRINT "Xa,22002200340000022100");
    ck_assert(agent_has_commands(s));
    ck_assert_int_eq(agent_execute(s, &w), -1); /* nowhere to print to */
    w.printed = &out;
    ck_assert_int_eq(agent_execute(s, &w), -1); /* the second has no end */
    ck_assert_str_eq(out.data, "6 5!");
    bytes_clear(&out);
    s = script(&all, "cmds:0," PRINT);
    ck_assert(agent_meets(s, &w));
    ck_assert_int_eq(agent_execute(s, &w), 0);
    ck_assert_str_eq(out.data, "6 5");
    ck_assert_int_eq(agent_execute(script(&all, "X3,220127"), &w), 0);
    bytes_free(&out);
    agent_scripts_free(&all);
}
END_TEST

START_TEST(refuses_what_is_no_script)
{
    static const char *const bad[] = {"3,220127", "X", "X3", "X3,", "X3,2201", "X3,22012z",
                                      "X3,220127;", "Xffffffffffffffff,22", "X-1,22", "cmds:",
                                      "cmds:0", "cmds:0;X3,220127", "X3,220127;cmds:0,X",
                                      "X3,220127;cmds:0,X3,220127;"};
    struct agent_script *all = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(!agent_script(&all, bad[i], strlen(bad[i])), "%s", bad[i]);
    ck_assert_ptr_null(all);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("agent");
    TCase *tc = tcase_create("agent");
    tcase_add_loop_test(tc, evaluates, 0, (int)(sizeof rows / sizeof rows[0]));
    tcase_add_test(tc, one_of_several_conditions_is_enough);
    tcase_add_test(tc, commands_print_in_their_order);
    tcase_add_test(tc, refuses_what_is_no_script);
    tcase_add_loop_test(tc, prints, 0, (int)(sizeof print_rows / sizeof print_rows[0]));
    suite_add_tcase(s, tc);
    return unit_run(s);
}
