/*
 * test_reverse_copy.c - a copy of a process with two threads does what the process does
 *
 * The child is this program: two threads that take turns by a futex, and mix what both do into one
 * number, which it ends with. Its addresses are ours.
 */
#include "tests/unit/unit.h"

#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gdbbridge/procfs.h"
#include "gdbbridge/reverse_copy.h"
#include "gdbbridge/reverse_crowd.h"

enum { ROUNDS = 40, OTHER_STACK = 1 << 16 };

#define OPTIONS (PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL)

/* ---- the child */

static struct {
    uint32_t turn; /* futex: whose */
    uint32_t done[2];
    uint32_t mixed;
    uint64_t signal_stack; /* of the second thread */
} state;

static volatile int *ready; /* shared with the child */

static __attribute__((noinline)) void step(uint32_t who)
{
    state.done[who]++;
    state.mixed = state.mixed * 31 + who + 1;
}

static void take_turns(uint32_t who)
{
    for (int i = 0; i < ROUNDS; i++) {
        while (__atomic_load_n(&state.turn, __ATOMIC_ACQUIRE) != who)
            syscall(SYS_futex, &state.turn, FUTEX_WAIT, 1 - who, NULL, NULL, 0);
        step(who);
        __atomic_store_n(&state.turn, 1 - who, __ATOMIC_RELEASE);
        syscall(SYS_futex, &state.turn, FUTEX_WAKE, 1, NULL, NULL, 0);
    }
}

static void *second(void *arg)
{
    static char memory[OTHER_STACK];
    stack_t stack = {.ss_sp = memory, .ss_size = sizeof memory}, now;
    sigset_t blocked;
    (void)arg;
    sigaltstack(&stack, NULL);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &blocked, NULL);
    *ready = 1;
    take_turns(1);
    sigaltstack(NULL, &now);
    pthread_sigmask(SIG_BLOCK, NULL, &blocked);
    if (now.ss_sp == memory && now.ss_size == sizeof memory && sigismember(&blocked, SIGUSR2))
        state.mixed ^= 0x55;
    return NULL;
}

static void child(int go)
{
    pthread_t thread;
    char byte;
    if (read(go, &byte, 1) != 1 || pthread_create(&thread, NULL, second, NULL) ||
        read(go, &byte, 1) != 1)
        _exit(255);
    take_turns(0);
    pthread_join(thread, NULL); /* the kernel must know where the copy's thread tells of its end */
    _exit((int)(state.mixed & 0x7f));
}

/* What it ends with. */
static int expected(void)
{
    uint32_t mixed = 0;
    for (int i = 0; i < ROUNDS; i++)
        mixed = (mixed * 31 + 1) * 31 + 2;
    return (int)((mixed ^ 0x55) & 0x7f);
}

/* ---- the tracer */

static int wait_stop(pid_t tid)
{
    int status;
    ck_assert_int_eq(waitpid(tid, &status, __WALL), tid);
    ck_assert(WIFSTOPPED(status));
    return status;
}

/* The child with its two threads, stopped. It reads one byte from *go, then runs. */
static pid_t start(int *go)
{
    int ends[2];
    unsigned long other;
    ready = mmap(NULL, sizeof *ready, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ck_assert(ready != MAP_FAILED);
    ck_assert_int_eq(pipe(ends), 0);
    pid_t pid = fork();
    if (pid == 0)
        child(ends[0]);
    ck_assert_int_gt(pid, 1);
    ck_assert_int_eq(ptrace(PTRACE_SEIZE, pid, NULL, OPTIONS), 0);
    *go = ends[1];
    ck_assert_int_eq(write(*go, "g", 1), 1);
    ck_assert_int_eq(wait_stop(pid) >> 16, PTRACE_EVENT_CLONE);
    ck_assert_int_eq(ptrace(PTRACE_GETEVENTMSG, pid, NULL, &other), 0);
    wait_stop((pid_t)other);
    ptrace(PTRACE_CONT, pid, NULL, 0);
    ptrace(PTRACE_CONT, other, NULL, 0);
    while (!*ready)
        usleep(1000);
    ptrace(PTRACE_INTERRUPT, pid, NULL, 0);
    ptrace(PTRACE_INTERRUPT, other, NULL, 0);
    wait_stop(pid);
    wait_stop((pid_t)other);
    ck_assert_ptr_nonnull(crowd_look(pid));
    return pid;
}

static uint64_t second_of(pid_t pid)
{
    const struct crowd *c = crowd_of(pid);
    ck_assert(c && c->members->next && !c->members->next->next);
    ck_assert_uint_ne(c->members->next->key, 0);
    return c->members->next->key;
}

/* Lets it run to its end, which it may. Returns its exit code. */
static int run_out(pid_t pid, int go)
{
    struct copy_run run;
    struct copy_stop stop;
    unsigned long status = 0;
    if (go >= 0)
        ck_assert_int_eq(write(go, "g", 1), 1);
    ck_assert_int_eq(copy_run_begin(&run, pid, NULL, NULL, NULL), 0);
    copy_run_on(&run, &stop);
    ck_assert_int_eq(stop.end, COPY_GONE);
    ptrace(PTRACE_GETEVENTMSG, pid, NULL, &status);
    copy_run_end(&run);
    copy_kill(pid);
    ck_assert_ptr_null(crowd_of(pid));
    return WEXITSTATUS((int)status);
}

static void peek_state(pid_t pid, void *to)
{
    ck_assert_int_eq(procfs_peek(pid, (uint64_t)&state, to, sizeof state), sizeof state);
}

START_TEST(test_same_end)
{
    int go;
    pid_t pid = start(&go), copy = copy_make(pid), twice = copy_make(copy);
    ck_assert(copy > 1 && twice > 1);
    ck_assert_uint_eq(second_of(copy), second_of(pid));
    ck_assert_uint_eq(second_of(twice), second_of(pid));
    ck_assert_int_eq(run_out(copy, go), expected());
    ck_assert_int_eq(run_out(pid, go), expected());
    ck_assert_int_eq(run_out(twice, go), expected());
}
END_TEST

START_TEST(test_mark_of_thread)
{
    int go;
    pid_t pid = start(&go);
    typeof(state) now;
    struct mark mark = {.addr = (uint64_t)step, .n = 7, .thread = second_of(pid)};
    struct mark other = {.addr = (uint64_t)step};
    uint64_t n = 0;
    ck_assert_int_eq(write(go, "ggg", 3), 3);
    for (int i = 0; i < 3; i++) { /* the same place each time */
        pid_t copy = copy_make(pid);
        ck_assert_int_eq(copy_run_to(copy, &mark, &other, &n), 0);
        peek_state(copy, &now);
        ck_assert_uint_eq(now.done[1], 6);
        ck_assert_uint_eq(now.done[0], 7);
        ck_assert_uint_eq(n, 7);
        pid_t on = copy_make(copy);
        copy_kill(copy);
        ck_assert_uint_ne(copy_step(on, mark.thread), 0);
        ck_assert_int_eq(run_out(on, -1), expected());
    }
    copy_kill(pid);
}
END_TEST

START_TEST(test_points_of_all)
{
    int go;
    pid_t pid = start(&go);
    const struct copy_points points = {
        .point = {{POINT_WRITE, (uint64_t)&state.mixed, 4, 0, NULL}}, .n = 1};
    struct copy_run run;
    struct copy_stop stop;
    uint64_t of[2] = {0, second_of(pid)};
    ck_assert_int_eq(write(go, "g", 1), 1);
    ck_assert_int_eq(copy_run_begin(&run, pid, NULL, &points, NULL), 0);
    for (uint64_t i = 0; i < 2 * ROUNDS; i++) {
        copy_run_on(&run, &stop);
        ck_assert_int_eq(stop.end, COPY_POINT);
        ck_assert_uint_eq(stop.thread, of[i % 2]);
        ck_assert_uint_eq(copy_run_hits(&run, &stop), i / 2 + 1);
    }
    copy_run_end(&run);
    copy_kill(pid);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("reverse_copy");
    TCase *threads = tcase_create("threads");
    tcase_add_test(threads, test_same_end);
    tcase_add_test(threads, test_mark_of_thread);
    tcase_add_test(threads, test_points_of_all);
    suite_add_tcase(s, threads);
    return unit_run(s);
}
