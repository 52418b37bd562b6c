/*
 * test_pending.c - signals that wait for a thread are taken from the kernel, and sent again
 */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/ckpt/pending.h"
#include "runtime/half/gate.h"
#include "runtime/half/sys.h"
#include "tests/unit/unit.h"

/* What the code under test asks of a rank: nothing is replayed. */
static void setup(void)
{
    void *gate = mmap((void *)GATE_ADDR, sizeof(struct gate), PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    ck_assert_ptr_eq(gate, (void *)GATE_ADDR);
    uint64_t all = ~0ul; /* also libc's own, which pthread_sigmask(3) leaves open */
    ck_assert_int_eq(sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8, 0, 0), 0);
}

static void teardown(void)
{
    munmap((void *)GATE_ADDR, sizeof(struct gate));
}

/* What is pending, by number; 0: nothing. Takes it. */
static int next_pending(siginfo_t *info)
{
    uint64_t all = ~0ul;
    struct timespec at_once = {0, 0};
    long sig = sys_call(SYS_rt_sigtimedwait, &all, info, &at_once, 8, 0, 0);
    return sig < 0 ? 0 : (int)sig;
}

/* Of libc's cancellation and of our own requests to park, which have one number, the first is
 * kept. */
START_TEST(cancellation_is_kept)
{
    siginfo_t info;
    size_t n;
    pid_t self = gettid();
    sys_signal_thread(self, GATE_SIGNAL, GATE_SIGNAL_VALUE);
    ck_assert_int_eq(syscall(SYS_tgkill, getpid(), self, GATE_SIGNAL), 0);
    sys_signal_thread(self, GATE_SIGNAL, GATE_SIGNAL_VALUE);
    ck_assert_int_eq(syscall(SYS_tgkill, getpid(), self, GATE_SIGNAL + 1), 0);
    ck_assert_uint_eq(pending_now(), 0); /* neither ends a call */
    pending_take(self);
    ck_assert_int_eq(next_pending(&info), 0);
    const struct pending_signal *list = pending_take_process(&n);
    ck_assert_uint_eq(n, 2);
    ck_assert_int_eq(list[0].signo, GATE_SIGNAL);
    ck_assert_int_eq(list[0].tid, self);
    ck_assert_int_eq(list[1].signo, GATE_SIGNAL + 1);
    pending_put(self, self);
    for (int sig = GATE_SIGNAL; sig <= GATE_SIGNAL + 1; sig++) {
        ck_assert_int_eq(next_pending(&info), sig);
        ck_assert_int_eq(info.si_code, SI_TKILL);
        ck_assert_int_eq(info.si_pid, getpid());
    }
    ck_assert_int_eq(next_pending(&info), 0);
}
END_TEST

/* libc does not look at what another process has sent. */
START_TEST(saved_cancellation_is_of_this_process)
{
    siginfo_t info = {.si_signo = GATE_SIGNAL, .si_code = SI_TKILL};
    struct pending_signal saved = {.tid = 4711, .signo = GATE_SIGNAL};
    info.si_pid = 4710;
    memcpy(saved.info, &info, sizeof saved.info);
    pending_load(&saved, sizeof saved);
    pending_put(4711, gettid());
    ck_assert_int_eq(next_pending(&info), GATE_SIGNAL);
    ck_assert_int_eq(info.si_code, SI_TKILL);
    ck_assert_int_eq(info.si_pid, getpid());
}
END_TEST

START_TEST(what_a_signal_says_is_kept)
{
    siginfo_t info;
    size_t n;
    ck_assert_int_eq(sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = 17}), 0);
    ck_assert_int_eq(syscall(SYS_tgkill, getpid(), gettid(), SIGUSR1), 0);
    ck_assert_uint_ne(pending_now() & 1ul << (SIGUSR1 - 1), 0);
    pending_take(gettid());
    ck_assert_int_eq(pending_take_process(&n)[1].tid, PENDING_PROCESS);
    ck_assert_uint_eq(n, 2);
    pending_put(gettid(), gettid());
    pending_put(PENDING_PROCESS, 0);
    ck_assert_int_eq(next_pending(&info), SIGUSR1);
    ck_assert_int_eq(next_pending(&info), SIGRTMIN + 3);
    ck_assert_int_eq(info.si_value.sival_int, 17);
    ck_assert_int_eq(info.si_pid, getpid());
    ck_assert_int_eq(next_pending(&info), 0);
}
END_TEST

static void *put_for_process(void *arg)
{
    pending_put(PENDING_PROCESS, 0);
    return NULL;
}

/* The kernel lets only the first thread say that kill(2) has sent it, but it is not lost. */
START_TEST(another_thread_sends_it_too)
{
    siginfo_t info;
    pthread_t thread;
    size_t n;
    for (int other = 0; other < 2; other++) {
        ck_assert_int_eq(kill(getpid(), SIGUSR1), 0);
        ck_assert_int_eq(pending_take_process(&n)[0].signo, SIGUSR1);
        if (other)
            pthread_create(&thread, NULL, put_for_process, NULL);
        else
            put_for_process(NULL);
        if (other)
            pthread_join(thread, NULL);
        ck_assert_int_eq(next_pending(&info), SIGUSR1);
        ck_assert_int_eq(info.si_code, other ? SI_QUEUE : SI_USER);
        ck_assert_int_eq(info.si_pid, getpid());
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("pending");
    TCase *t = tcase_create("pending");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, cancellation_is_kept);
    tcase_add_test(t, saved_cancellation_is_of_this_process);
    tcase_add_test(t, what_a_signal_says_is_kept);
    tcase_add_test(t, another_thread_sends_it_too);
    suite_add_tcase(s, t);
    return unit_run(s);
}
