/*
 * test_ptrace_target.c - the ptrace target with real processes, in orders that a real GDB comes to
 * only under load
 */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gdbbridge/procfs.h"
#include "gdbbridge/ptrace_target.h"
#include "gdbbridge/registers.h"
#include "tests/unit/unit.h"

static struct target *target;

static void create(void)
{
    struct ptrace_options options = {.stdio = {-1, -1, -1}};
    target = ptrace_target_create(&options);
    ck_assert_ptr_nonnull(target);
}

static void destroy(void)
{
    target->ops->destroy(target);
}

/* This program, with an argument that makes another one of it, at its first instruction. */
static struct ptid start_itself(char *as)
{
    char *argv[] = {"/proc/self/exe", as, NULL}, *env[] = {NULL};
    struct run how = {.argv = argv, .env = env};
    struct event stop;
    struct err err;
    ck_assert_msg(!target->ops->run(target, &how, &stop, &err), "%s", err.text);
    return stop.thread;
}

/* What is behind a word of a thread's status. */
static void read_status(pid_t pid, pid_t tid, const char *format, void *to)
{
    char path[64], line[256];
    snprintf(path, sizeof path, "/proc/%d/task/%d/status", (int)pid, (int)tid);
    FILE *f = fopen(path, "r");
    while (f && fgets(line, sizeof line, f))
        sscanf(line, format, to);
    if (f)
        fclose(f);
}

/* ------------------------------------------------------------------ Ctrl-C */

/* A program that does nothing for a while, stopped at its first instruction. */
static struct ptid start_sleeper(void)
{
    char *argv[] = {"sleep", "60", NULL}, *env[] = {"PATH=/usr/bin:/bin", NULL};
    struct run how = {.argv = argv, .env = env};
    struct event stop;
    struct err err;
    ck_assert_msg(!target->ops->run(target, &how, &stop, &err), "%s", err.text);
    return stop.thread;
}

static void resume(struct ptid thread, enum resume_how how)
{
    struct resume action = {.thread = thread, .how = how};
    ck_assert_int_eq(target->ops->resume(target, &action, 1), 0);
}

static struct event next_event(void)
{
    struct event event;
    while (!target->ops->poll(target, &event))
        nanosleep(&(struct timespec){0, 50000}, NULL);
    return event;
}

static void check_interrupted(struct ptid thread)
{
    struct event event = next_event();
    ck_assert_int_eq(event.kind, EVENT_STOPPED);
    ck_assert_int_eq(event.code, SIGINT);
    ck_assert_int_eq(event.thread.pid, thread.pid);
}

/* GDB steps one process over a breakpoint when Ctrl-C comes: it is for the process started last,
 * when that runs again, whether the Ctrl-C comes before GDB asks for the step or after. */
START_TEST(interrupt_waits_for_step_of_another_process)
{
    const struct ptid all = {-1, -1};
    struct ptid former = start_sleeper(), newest = start_sleeper();
    if (_i == 0)
        target->ops->interrupt(target);
    resume(former, RESUME_STEP);
    if (_i == 1)
        target->ops->interrupt(target);
    struct event event = next_event();
    ck_assert_int_eq(event.kind, EVENT_STOPPED);
    ck_assert_int_eq(event.trap, TRAP_STEP);
    ck_assert_int_eq(event.thread.pid, former.pid);
    resume(all, RESUME_CONT);
    check_interrupted(newest);
}
END_TEST

/* The process that Ctrl-C is for takes it before the step that GDB asks for. */
START_TEST(interrupt_precedes_step_of_the_newest_process)
{
    start_sleeper();
    struct ptid newest = start_sleeper();
    target->ops->interrupt(target);
    resume(newest, RESUME_STEP);
    check_interrupted(newest);
}
END_TEST

/* ------------------------------------------------------------------ signals of a call by GDB */

/* Stops the process with a signal, or (0) with Ctrl-C. */
static void stop_with(struct ptid process, int signal)
{
    struct event event;
    resume((struct ptid){-1, -1}, RESUME_CONT);
    if (signal)
        kill(process.pid, signal);
    else
        target->ops->interrupt(target);
    event = next_event();
    ck_assert_int_eq(event.kind, EVENT_STOPPED);
    ck_assert_int_eq(event.code, signal ? signal : SIGINT);
}

/*
 * GDB calls a function of a program: that ends with a signal of its own, at an address that GDB has
 * chosen, after which GDB puts back the siginfo that was there before. What a detached program
 * takes along is the signal from before the call.
 */
static const struct {
    bool stopped; /* the program ran before the call, until it stopped with */
    int signal;   /* this one, 0: Ctrl-C */
    int taken;    /* what the program takes along, and ends of; 0: none */
} calls[] = {
    {false, 0, 0},
    {true, 0, 0},
    {true, SIGUSR2, SIGUSR2},
};

START_TEST(signal_of_a_call_stays_behind)
{
    siginfo_t before;
    struct ptid process = start_sleeper();
    int status, taken = calls[_i].taken;
    if (calls[_i].stopped)
        stop_with(process, calls[_i].signal);
    ck_assert_int_eq(target->ops->siginfo(target, process, &before), 0);
    stop_with(process, SIGUSR1);
    ck_assert_int_eq(target->ops->set_siginfo(target, process, &before), 0);
    ck_assert_int_eq(target->ops->detach(target, process.pid), 0);
    if (!taken)
        kill(process.pid, SIGTERM);
    ck_assert_int_eq(waitpid(process.pid, &status, 0), process.pid);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), taken ? taken : SIGTERM);
}
END_TEST

/* The same without a call: GDB leaves the program with the signal that has stopped it. */
START_TEST(signal_is_taken_along)
{
    struct ptid process = start_sleeper();
    int status;
    stop_with(process, SIGUSR1);
    ck_assert_int_eq(target->ops->detach(target, process.pid), 0);
    ck_assert_int_eq(waitpid(process.pid, &status, 0), process.pid);
    ck_assert(WIFSIGNALED(status));
    ck_assert_int_eq(WTERMSIG(status), SIGUSR1);
}
END_TEST

/* ------------------------------------------------------------------ steps and stops */

/* As a program of its own: only instructions of one byte, wherever it is stopped. */
static void slide(void)
{
    raise(SIGUSR1);
    for (;;)
        __asm__ volatile(".fill 65536, 1, 0x90");
}

static uint64_t *pc_in(uint8_t *block)
{
    size_t offset;
    registers_find(target->ops->registers(target), REGISTER_RIP, &offset);
    return (uint64_t *)(block + offset);
}

static uint64_t pc_of(struct ptid thread)
{
    uint8_t block[4096];
    ck_assert_int_eq(target->ops->read_registers(target, thread, block), 0);
    return *pc_in(block);
}

/*
 * GDB stops a thread that it steps, out of line maybe, and must hear whether the step was made: it
 * then puts the thread where the instruction was, or behind it. No end of a step comes after that.
 */
START_TEST(stop_tells_of_the_end_of_a_step)
{
    struct event e = {.thread = start_itself("slide")};
    uint8_t block[4096];
    target->ops->set_non_stop(target, true);
    resume(e.thread, RESUME_CONT);
    e = next_event();
    ck_assert_int_eq(e.code, SIGUSR1);
    for (int i = 0; i < 256; i++) {
        resume(e.thread, RESUME_CONT);
        resume(e.thread, RESUME_NOT);
        e = next_event();
        ck_assert_int_eq(e.kind, EVENT_STOPPED);
        ck_assert_int_eq(e.code, 0);
        ck_assert_int_eq(target->ops->read_registers(target, e.thread, block), 0);
        uint64_t before = *pc_in(block);
        resume(e.thread, RESUME_STEP);
        for (volatile int wait = i % 64 * 20; wait > 0; wait--)
            ; /* the thread is on its way in more than one place */
        resume(e.thread, RESUME_NOT);
        e = next_event();
        ck_assert_int_eq(target->ops->read_registers(target, e.thread, block), 0);
        ck_assert_int_eq(e.trap == TRAP_STEP, *pc_in(block) != before);
        *pc_in(block) = before;
        ck_assert_int_eq(target->ops->write_registers(target, e.thread, block), 0);
    }
}
END_TEST

/* The same with a breakpoint: GDB looks where the thread stands, and may put one of its own there.
 * Behind the int3 that is in the midst of an instruction. */
START_TEST(stop_tells_of_a_breakpoint)
{
    struct ptid thread = start_itself("slide");
    target->ops->set_non_stop(target, true);
    resume(thread, RESUME_CONT);
    ck_assert_int_eq(next_event().code, SIGUSR1);
    for (int i = 0; i < 1024; i++) {
        uint64_t before = pc_of(thread);
        ck_assert_int_eq(target->ops->insert_point(target, thread.pid, POINT_SW, before, 1), 0);
        resume(thread, RESUME_CONT);
        for (volatile int wait = i % 64 * 20; wait > 0; wait--)
            ; /* as above */
        resume(thread, RESUME_NOT);
        struct event e = next_event();
        ck_assert_int_eq(pc_of(thread), before);
        ck_assert_int_eq(target->ops->remove_point(target, thread.pid, POINT_SW, before, 1), 0);
        if (e.trap == TRAP_SW_BREAK)
            continue;
        resume(thread, RESUME_CONT); /* it had not yet begun */
        resume(thread, RESUME_NOT);
        next_event();
    }
}
END_TEST

/* As a program of its own: the same system call for ever. */
static void calls_for_ever(void)
{
    raise(SIGUSR1);
    for (;;)
        __asm__ volatile("syscall" : : "a"(SYS_getpid) : "rcx", "r11", "memory");
}

static uint64_t call_near(struct ptid thread)
{
    static const uint8_t call[] = {0x0f, 0x05};
    uint8_t code[32];
    uint64_t start = pc_of(thread) - 16;
    ck_assert_uint_eq(target->ops->read_memory(target, thread.pid, start, code, 32), 32);
    const uint8_t *at = memmem(code, 32, call, sizeof call);
    ck_assert_ptr_nonnull(at);
    return start + (uint64_t)(at - code);
}

/* A breakpoint whose condition does not hold, on a system call: that may wait for ever. */
START_TEST(stop_precedes_a_breakpoint_that_is_passed)
{
    static const char never[] = "X3,220027"; /* const8 0, end */
    struct ptid thread = start_itself("calls");
    target->ops->set_non_stop(target, true);
    resume(thread, RESUME_CONT);
    ck_assert_int_eq(next_event().code, SIGUSR1);
    resume(thread, RESUME_CONT);
    nanosleep(&(struct timespec){0, 50000000}, NULL);
    resume(thread, RESUME_NOT);
    next_event();
    uint64_t call = call_near(thread);
    ck_assert_int_eq(target->ops->insert_point(target, thread.pid, POINT_SW, call, 1), 0);
    ck_assert_int_eq(target->ops->script_point(target, thread.pid, POINT_SW, call, never, 9), 0);
    for (int i = 0; i < 1024; i++) {
        resume(thread, RESUME_CONT);
        for (volatile int wait = i % 64 * 20; wait > 0; wait--)
            ; /* as above */
        resume(thread, RESUME_NOT);
        ck_assert_int_eq(next_event().kind, EVENT_STOPPED);
    }
}
END_TEST

/* ------------------------------------------------------------------ threads that stop together */

#define SPINNERS 3

static atomic_int spinning;

static void *spin(void *arg)
{
    atomic_fetch_add(&spinning, 1);
    __asm__ volatile("1: jmp 1b");
    return arg;
}

/* As a program of its own: threads that are at one instruction for ever. */
static void spinners(void)
{
    pthread_t thread;
    for (int i = 0; i < SPINNERS; i++)
        pthread_create(&thread, NULL, spin, NULL);
    while (spinning < SPINNERS)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
    nanosleep(&(struct timespec){0, 100000000}, NULL);
    raise(SIGUSR1);
    for (;;)
        pause();
}

static void wait_for_traps(pid_t pid, const pid_t *tids)
{
    char state;
    for (int i = 1; i <= SPINNERS; i++)
        do {
            nanosleep(&(struct timespec){0, 1000000}, NULL);
            state = 0;
            read_status(pid, tids[i], "State: %c", &state);
        } while (state != 't');
}

/* Threads come to a breakpoint at once, again and again, and GDB removes it while it has heard of
 * one of them alone: in the end it has heard of each. */
START_TEST(each_thread_is_heard_of)
{
    const struct ptid all = {-1, -1};
    struct ptid first = start_itself("spinners");
    pid_t tids[SPINNERS + 1];
    unsigned heard[SPINNERS + 1] = {0};
    resume(all, RESUME_CONT);
    ck_assert_int_eq(next_event().code, SIGUSR1);
    ck_assert_int_eq(procfs_tasks(first.pid, tids, SPINNERS + 1), SPINNERS + 1);
    uint64_t pc = pc_of((struct ptid){first.pid, tids[1]});
    for (int i = 0; i < 2 * SPINNERS; i++) {
        ck_assert_int_eq(target->ops->insert_point(target, first.pid, POINT_SW, pc, 1), 0);
        resume(all, RESUME_CONT);
        wait_for_traps(first.pid, tids);
        struct event e = next_event();
        ck_assert_int_eq(e.trap, TRAP_SW_BREAK);
        for (int j = 1; j <= SPINNERS; j++)
            heard[j] += e.thread.tid == tids[j];
        ck_assert_int_eq(target->ops->remove_point(target, first.pid, POINT_SW, pc, 1), 0);
        stop_with(first, 0);
    }
    for (int j = 1; j <= SPINNERS; j++)
        ck_assert_uint_eq(heard[j], 2);
}
END_TEST

/* ------------------------------------------------------------------ attaching */

static void *short_lived(void *arg)
{
    pthread_t next;
    pthread_detach(pthread_self());
    pthread_create(&next, NULL, short_lived, arg);
    return NULL;
}

/* As a program of its own: threads that make a thread each, and end. */
static void brood(void)
{
    for (int i = 0; i < 8; i++)
        short_lived(NULL);
    for (;;)
        pause();
}

static pid_t tracer_of(pid_t pid, pid_t tid)
{
    int tracer = -1;
    read_status(pid, tid, "TracerPid: %d", &tracer);
    return tracer;
}

/* A thread that is left out would run on, and end the process at GDB's first breakpoint. */
START_TEST(attaching_leaves_no_thread_out)
{
    struct event stop;
    struct err err;
    pid_t tids[256], pid = fork();
    if (pid == 0) {
        execl("/proc/self/exe", "test", "brood", NULL);
        _exit(127);
    }
    for (int i = 0; i < 30; i++) {
        nanosleep(&(struct timespec){0, 2000000}, NULL);
        ck_assert_msg(!target->ops->attach(target, pid, &stop, &err), "%s", err.text);
        ssize_t n = procfs_tasks(pid, tids, 256);
        for (ssize_t j = 0; j < n && j < 256; j++)
            ck_assert_int_ne(tracer_of(pid, tids[j]), 0); /* -1: it has ended */
        ck_assert_int_eq(target->ops->detach(target, pid), 0);
    }
    kill(pid, SIGKILL);
    while (waitpid(-1, NULL, __WALL) != pid)
        ; /* threads that were about to end are still ours */
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("ptrace_target");
    TCase *tc = tcase_create("interrupt");
    tcase_add_checked_fixture(tc, create, destroy);
    tcase_add_loop_test(tc, interrupt_waits_for_step_of_another_process, 0, 2);
    tcase_add_test(tc, interrupt_precedes_step_of_the_newest_process);
    suite_add_tcase(s, tc);

    tc = tcase_create("signals");
    tcase_add_checked_fixture(tc, create, destroy);
    tcase_add_loop_test(tc, signal_of_a_call_stays_behind, 0, sizeof calls / sizeof calls[0]);
    tcase_add_test(tc, signal_is_taken_along);
    suite_add_tcase(s, tc);

    tc = tcase_create("steps");
    tcase_add_checked_fixture(tc, create, destroy);
    tcase_set_timeout(tc, 60); /* the thread competes with whatever else runs */
    tcase_add_test(tc, stop_tells_of_the_end_of_a_step);
    tcase_add_test(tc, stop_tells_of_a_breakpoint);
    tcase_add_test(tc, stop_precedes_a_breakpoint_that_is_passed);
    suite_add_tcase(s, tc);

    tc = tcase_create("threads");
    tcase_add_checked_fixture(tc, create, destroy);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, each_thread_is_heard_of);
    suite_add_tcase(s, tc);

    tc = tcase_create("attaching");
    tcase_add_checked_fixture(tc, create, destroy);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, attaching_leaves_no_thread_out);
    suite_add_tcase(s, tc);
    return s;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "slide"))
        slide();
    if (argc > 1 && !strcmp(argv[1], "brood"))
        brood();
    if (argc > 1 && !strcmp(argv[1], "calls"))
        calls_for_ever();
    if (argc > 1 && !strcmp(argv[1], "spinners"))
        spinners();
    return unit_run(suite());
}
