/*
 * test_schedule_spin.c - does a thread that has the turn wait in a loop of its own?
 *
 * Looks are made of registers that nobody has; in between the test uses processor time, as the
 * thread would that is looked at.
 */
#include <check.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "msgcounter/stub/record.h"
#include "msgcounter/stub/schedule_private.h"
#include "msgcounter/stub/stub.h"
#include "runtime/half/sys.h"
#include "tests/unit/unit.h"

struct schedule schedule;
static jmp_buf stopped;

uint64_t record_event(void)
{
    return 12;
}

void stub_stop(int code, const char *format, ...)
{
    longjmp(stopped, code);
}

/* Code with a loop that has `pause` in its midst, and code without. */
static _Alignas(4096) uint8_t code[8192];
#define WITH_PAUSE ((uint64_t)code + 512)
#define WITHOUT    ((uint64_t)code + 4096 + 512)

static void setup(void)
{
    memset(code, 0x90, sizeof code);
    code[512] = 0xf3;
    schedule.word = SCHEDULE_GIVEN + SCHEDULE_TAKEN;
}

static void next_turn(void)
{
    schedule.word += SCHEDULE_GIVEN;
}

static void run(uint64_t ns)
{
    for (uint64_t from = sys_thread_cpu_ns(); sys_thread_cpu_ns() - from < ns;)
        ;
}

static ucontext_t at(uint64_t pc, long value)
{
    ucontext_t uc;
    memset(&uc, 0, sizeof uc);
    uc.uc_mcontext.gregs[REG_RIP] = (greg_t)pc;
    uc.uc_mcontext.gregs[REG_RSP] = 0x7000;
    uc.uc_mcontext.gregs[REG_RCX] = value;
    return uc;
}

/* A look at a thread that has run since the last one. */
static bool look(uint64_t pc, long value)
{
    ucontext_t uc = at(pc, value);
    run(200000);
    return schedule_spins(&uc);
}

static bool look_as(uint64_t pc, long value, const struct schedule_change *was)
{
    ucontext_t uc = at(pc, value);
    run(200000);
    return schedule_spins_as(&uc, was);
}

START_TEST(pause_tells_after_three_looks)
{
    ck_assert(!look(WITH_PAUSE, 1));
    ck_assert(!look(WITH_PAUSE + 8, 2));
    ck_assert(look(WITH_PAUSE - 8, 3));
    next_turn();
    ck_assert(!look(WITH_PAUSE, 1));
    ck_assert(!look(WITH_PAUSE, 2));
    ck_assert(!look(WITHOUT, 3)); /* it has left the loop, and comes back */
    ck_assert(!look(WITH_PAUSE, 4));
    ck_assert(!look(WITH_PAUSE, 5));
    ck_assert(look(WITH_PAUSE, 6));
}
END_TEST

/* Two loops on the way to something are none that the thread waits in. */
START_TEST(another_loop_counts_anew)
{
    code[512 + 256] = 0xf3;
    ck_assert(!look(WITH_PAUSE, 1));
    ck_assert(!look(WITH_PAUSE, 2));
    ck_assert(!look(WITH_PAUSE + 256, 3));
    ck_assert(!look(WITH_PAUSE + 256, 4));
    ck_assert(look(WITH_PAUSE + 256, 5));
}
END_TEST

START_TEST(same_registers_tell)
{
    ck_assert(!look(WITHOUT, 1));
    ck_assert(!look(WITHOUT + 4, 1));
    ck_assert(!look(WITHOUT, 1));
    ck_assert(!look(WITHOUT + 4, 1));
    ck_assert(look(WITHOUT, 1));
}
END_TEST

START_TEST(one_that_gets_on_does_not_spin)
{
    for (long i = 0; i < 50; i++)
        ck_assert(!look(WITHOUT, i));
}
END_TEST

/* As many as come in a row on a busy machine tell no more than one. */
START_TEST(looks_without_work_between_them_tell_nothing)
{
    ucontext_t uc = at(WITH_PAUSE, 1);
    run(200000);
    for (int i = 0; i < 10; i++)
        ck_assert(!schedule_spins(&uc));
    ck_assert(!look(WITH_PAUSE, 1));
    ck_assert(look(WITH_PAUSE, 1));
}
END_TEST

START_TEST(turn_begins_with_nothing_seen)
{
    for (int turn = 0; turn < 3; turn++, next_turn()) {
        ck_assert(!look(WITH_PAUSE, 1));
        ck_assert(!look(WITH_PAUSE, 1));
    }
}
END_TEST

/* In a replay: anywhere in the loop where it was, on the same stack. */
START_TEST(replay_takes_any_place_in_the_loop)
{
    struct schedule_change was = {.pc = WITH_PAUSE, .sp = 0x7000};
    ck_assert(!look_as(WITH_PAUSE + 4, 1, &was));
    ck_assert(!look_as(WITH_PAUSE + 4, 2, &was));
    ck_assert(look_as(WITH_PAUSE + 4, 3, &was));
    next_turn();
    was.sp = 0x6000;
    for (long i = 0; i < 10; i++)
        ck_assert(!look_as(WITH_PAUSE, i, &was));
}
END_TEST

/* Without `pause` it is the recorded instruction, come by again with the same registers. */
START_TEST(replay_takes_the_same_instruction)
{
    struct schedule_change was = {.pc = WITHOUT, .sp = 0x7000};
    ck_assert(!look_as(WITHOUT + 4, 1, &was));
    ck_assert(!look_as(WITHOUT, 1, &was));
    ck_assert(!look_as(WITHOUT + 4, 1, &was));
    ck_assert(!look_as(WITHOUT, 2, &was));
    ck_assert(look_as(WITHOUT, 1, &was));
}
END_TEST

START_TEST(replay_that_waits_where_none_was_recorded_stops)
{
    if (setjmp(stopped) == 0) {
        for (int i = 0; i < 600; i++)
            ck_assert(!look_as(WITH_PAUSE, i, NULL));
        ck_abort_msg("it waits for ever");
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("schedule_spin");
    TCase *t = tcase_create("looks");
    tcase_add_checked_fixture(t, setup, NULL);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, pause_tells_after_three_looks);
    tcase_add_test(t, another_loop_counts_anew);
    tcase_add_test(t, same_registers_tell);
    tcase_add_test(t, one_that_gets_on_does_not_spin);
    tcase_add_test(t, looks_without_work_between_them_tell_nothing);
    tcase_add_test(t, turn_begins_with_nothing_seen);
    tcase_add_test(t, replay_takes_any_place_in_the_loop);
    tcase_add_test(t, replay_takes_the_same_instruction);
    tcase_add_test(t, replay_that_waits_where_none_was_recorded_stops);
    suite_add_tcase(s, t);
    return unit_run(s);
}
