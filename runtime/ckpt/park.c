/*
 * park.c - brings the application's threads to a stop, each in a signal frame on its own stack
 *
 * The handler runs on whichever FS was interrupted, on the application's stack: this file is
 * compiled without stack protector, and what the handler calls uses raw system calls only.
 */
#include "runtime/ckpt/park.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "msgcounter/stub/thread.h"
#include "runtime/ckpt/interrupt.h"
#include "runtime/ckpt/pending.h"
#include "runtime/half/gate.h"
#include "runtime/half/own_fd.h"
#include "runtime/half/sys.h"
#include "runtime/half/threads.h"

#ifndef PR_GET_TID_ADDRESS
#define PR_GET_TID_ADDRESS 40
#endif

/* A thread that was just being created may have missed the first signal. */
#define SIGNAL_AGAIN_MS 5

/* Slots belong to parked threads, each to the one that claimed it, until it goes on. */
#define SLOT_FREE    0
#define SLOT_CLAIMED (-1) /* being filled */
static struct parked slots[PARK_MAX];
static struct parked sorted[PARK_MAX]; /* what park_threads() shows */
static volatile uint32_t nparked;      /* futex: threads that have a slot */
static volatile uint32_t park_wanted;  /* threads shall stay parked */

/* futex of parked threads: grows with anything that concerns them */
static volatile uint32_t change;

/* What each has found there, last of all before it waits for more: it is at rest then, and writes
 * nothing any more, not even to its stack. */
static volatile uint32_t slot_seen[PARK_MAX];
static volatile uint32_t rests; /* futex: grows when a thread comes to rest */

/* Parked threads go on as those of a restarted rank do. */
static volatile bool resume_anew;

/* Work for the parked main thread: `work_seq` grows when there is some, `work_done` (futex) follows
 * it. */
static long (*work_fn)(void *);
static void *work_arg;
static long work_result;
static volatile uint32_t work_seq, work_done;

static void (*fine_fn)(struct parked *);
static uint64_t main_lower_fs;

void park_describe(struct parked *p, ucontext_t *frame)
{
    p->tid = (pid_t)sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    p->frame = frame;
    p->fs_base = fs_base();
    p->gs_base = gs_base();
    p->clear_child_tid = 0;
    sys_call(SYS_prctl, PR_GET_TID_ADDRESS, &p->clear_child_tid, 0, 0, 0, 0);
}

static void announce_change(void)
{
    __atomic_add_fetch(&change, 1, __ATOMIC_SEQ_CST);
    sys_futex_wake(&change, INT32_MAX);
}

/* Has no slot any more, or got none. */
static void count_out(void)
{
    __atomic_sub_fetch(&nparked, 1, __ATOMIC_SEQ_CST);
    sys_futex_wake(&nparked, INT32_MAX);
}

/*
 * Says that the thread has seen that change, and waits for another. Whoever hears of it may write
 * the image at once, the stack below us with it, and hash that before: so there is no stack here,
 * but a wake and a wait in registers.
 */
static void rest(volatile uint32_t *slot, uint32_t seen)
{
    volatile uint32_t *word = &rests;
    register volatile uint32_t *r8 __asm__("r8") = &change;
    register uint32_t r9 __asm__("r9") = seen;
    uint64_t op = SYS_FUTEX_WAKE, n = INT32_MAX;
    __asm__ volatile("movl %%r9d, (%[slot])\n\t"
                     "lock incl (%%rdi)\n\t"
                     "movl %[futex], %%eax\n\t"
                     "syscall\n\t"
                     "movq %%r8, %%rdi\n\t"
                     "movl %[wait], %%esi\n\t"
                     "movl %%r9d, %%edx\n\t"
                     "xorl %%r10d, %%r10d\n\t"
                     "movl %[futex], %%eax\n\t"
                     "syscall"
                     : "+D"(word), "+S"(op), "+d"(n)
                     : [slot] "r"(slot), "r"(r8), "r"(r9), [futex] "i"(SYS_futex),
                       [wait] "i"(SYS_FUTEX_WAIT)
                     : "rax", "rcx", "r10", "r11", "cc", "memory");
}

/* Stays here while park_wanted, and takes what waits for it before each rest. Whether to go on
 * anew. */
static bool stay(struct parked *self, bool is_main)
{
    for (;;) {
        uint32_t seen = __atomic_load_n(&change, __ATOMIC_SEQ_CST);
        uint32_t seq = __atomic_load_n(&work_seq, __ATOMIC_SEQ_CST);
        if (!__atomic_load_n(&park_wanted, __ATOMIC_SEQ_CST))
            break;
        if (is_main && seq != work_done) {
            work_result = work_fn(work_arg);
            __atomic_store_n(&work_done, seq, __ATOMIC_SEQ_CST);
            sys_futex_wake(&work_done, INT32_MAX);
            continue;
        }
        pending_take(self->tid);
        rest(&slot_seen[self - slots], seen);
    }
    bool anew = resume_anew;
    slot_seen[self - slots] = 0;
    __atomic_store_n(&self->tid, SLOT_FREE, __ATOMIC_SEQ_CST);
    count_out();
    return anew;
}

/* Not in the kernel's vdso either: it will lie elsewhere after a restart. */
static bool at_safe_point(const ucontext_t *uc)
{
    uint64_t fs = fs_base(), pc = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
    if (fs == 0 || pc >= GATE_ADDR || fs >= GATE_ADDR || !GATE->stub ||
        (pc >= GATE->stub->no_park[0] && pc < GATE->stub->no_park[1]))
        return false;
    const struct stub_thread *t =
        (const struct stub_thread *)(fs + (uint64_t)GATE->stub->tls_thread);
    return t->inside == 0;
}

/* Fills a slot; its tid last, because that is what the side that stops us looks at. */
static struct parked *claim(const struct parked *here)
{
    for (int i = 0; i < PARK_MAX; i++) {
        pid_t none = SLOT_FREE;
        if (!__atomic_compare_exchange_n(&slots[i].tid, &none, SLOT_CLAIMED, false,
                                         __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
            continue;
        slots[i].frame = here->frame;
        slots[i].fs_base = here->fs_base;
        slots[i].gs_base = here->gs_base;
        slots[i].clear_child_tid = here->clear_child_tid;
        __atomic_store_n(&slots[i].tid, here->tid, __ATOMIC_SEQ_CST);
        return &slots[i];
    }
    return NULL;
}

struct park_action park_chained;

uint64_t park_signal(int sig, const siginfo_t *info, ucontext_t *uc);

/* The handler that a signal which is not ours goes on to, as if the kernel had called it. */
static uint64_t pass_on(const ucontext_t *uc)
{
    uint64_t mask;
    if (park_chained.handler <= 1)
        return 0;
    memcpy(&mask, &uc->uc_sigmask, sizeof mask);
    mask |= park_chained.mask;
    if (!(park_chained.flags & SA_NODEFER))
        mask |= 1ul << (GATE_SIGNAL - 1);
    sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8, 0, 0);
    return park_chained.handler;
}

static void park(ucontext_t *uc)
{
    bool fine = (GATE->word & GATE_WORD_FINE) && fine_fn;
    interrupt_undo(uc, fs_base() < GATE_ADDR ? fs_base() : 0);
    if (!at_safe_point(uc) || (!park_wanted && !fine)) { /* the kernel queues duplicates */
        interrupt_redo(uc, pending_now());
        return;
    }
    struct parked here;
    park_describe(&here, uc);
    if (fine && (uint64_t)here.tid == GATE->main_tid) {
        pending_take(here.tid);
        set_fs_base(main_lower_fs);
        fine_fn(&here);
        set_fs_base(here.fs_base);
        pending_put(here.tid, here.tid);
    }
    if (!park_wanted)
        return;
    __atomic_add_fetch(&nparked, 1, __ATOMIC_SEQ_CST);
    struct parked *self = claim(&here);
    if (!self) {
        count_out();
        return;
    }
    bool anew = stay(self, (uint64_t)here.tid == GATE->main_tid);
    pending_put(here.tid, here.tid);
    interrupt_redo(uc, pending_now());
    interrupt_resume(here.fs_base);
    if (anew) {
        uint64_t all = ~0ul;
        sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8, 0, 0);
        GATE->stub->thread_resumes(here.fs_base, uc);
    }
}

/* Called by park_signal_entry(). Returns the handler to go on in, or 0. */
uint64_t park_signal(int sig, const siginfo_t *info, ucontext_t *uc)
{
    if (!park_is_request(info))
        return pass_on(uc);
    park(uc);
    return 0;
}

void park_on_fine(void (*fine)(struct parked *self))
{
    fine_fn = fine;
}

extern void park_signal_entry(void);
extern void park_signal_return(void);

/* Not SIGSYS: the stub, whose functions are called here, may make system calls (system.h there). */
static void arm(void)
{
    struct park_action act = {(uint64_t)park_signal_entry, SA_SIGINFO | SA_RESTART | 0x04000000,
                              (uint64_t)park_signal_return, ~(1ul << (SIGSYS - 1))};
    struct park_action old;
    if (sys_call(SYS_rt_sigaction, GATE_SIGNAL, &act, &old, 8, 0, 0) == 0 &&
        old.handler != (uint64_t)park_signal_entry)
        park_chained = old;
}

int park_install(struct err *err)
{
    main_lower_fs = fs_base();
    GATE->park_arm = arm;
    GATE->passed_on = &park_chained;
    GATE->call_again = (void (*)(void *, uint64_t))interrupt_undo;
    arm();
    return 0;
}

/* ---- the side that stops the others ---- */

static uint64_t now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static bool is_at_rest(int slot)
{
    return __atomic_load_n(&slot_seen[slot], __ATOMIC_ACQUIRE) == change;
}

/* One that is still on its way out of the last stop, or on its way in, has a slot, too. */
static bool is_parked(pid_t tid)
{
    for (int i = 0; i < PARK_MAX; i++)
        if (__atomic_load_n(&slots[i].tid, __ATOMIC_ACQUIRE) == tid)
            return is_at_rest(i);
    return false;
}

/* Sends the signal to each application thread that has not parked. Returns how many those are, -1
 * on error. */
static int signal_others(pid_t except, bool send)
{
    int missing = 0;
    DIR *d = opendir("/proc/self/task");
    if (!d)
        return -1;
    for (struct dirent *e; (e = readdir(d));) {
        pid_t tid = (pid_t)strtol(e->d_name, NULL, 10);
        if (tid <= 1 || tid == except || threads_is_lower(tid) || is_parked(tid))
            continue;
        missing++;
        if (send)
            sys_signal_thread(tid, GATE_SIGNAL, GATE_SIGNAL_VALUE);
    }
    closedir(d);
    return missing;
}

int park_all(pid_t except, int timeout_ms, struct err *err)
{
    uint64_t deadline = now_ms() + (uint64_t)timeout_ms;
    arm();
    resume_anew = false;
    __atomic_store_n(&park_wanted, 1, __ATOMIC_SEQ_CST);
    announce_change();
    __atomic_or_fetch(&GATE->word, GATE_WORD_PARK, __ATOMIC_SEQ_CST);
    for (;;) {
        uint32_t seen = rests;
        int missing = signal_others(except, true);
        if (missing == 0)
            return 0;
        if (missing < 0)
            return err_sys(err, "cannot list threads (/proc/self/task)");
        if (now_ms() > deadline)
            return err_set(err, "%d thread%s did not come to a safe point in %g s", missing,
                           missing == 1 ? "" : "s", timeout_ms / 1e3);
        struct timespec ts = {0, SIGNAL_AGAIN_MS * 1000000};
        sys_call(SYS_futex, &rests, SYS_FUTEX_WAIT, seen, &ts, 0, 0);
    }
}

bool park_alone(void)
{
    static int task = -1;
    struct stat st;
    if (task < 0)
        task = own_fd_take(open("/proc/self/task", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    /* two links, and one a thread: Linux fs/proc/base.c, proc_task_getattr() */
    return task >= 0 && fstat(task, &st) == 0 &&
           (int)st.st_nlink - 2 == 1 + threads_lower_count();
}

void park_resume_anew(void)
{
    resume_anew = true;
    park_resume();
}

void park_resume(void)
{
    __atomic_and_fetch(&GATE->word, (uint32_t)~GATE_WORD_PARK, __ATOMIC_SEQ_CST);
    __atomic_store_n(&park_wanted, 0, __ATOMIC_SEQ_CST);
    announce_change();
    for (uint32_t n; (n = nparked) > 0;)
        sys_futex_wait(&nparked, n);
}

const struct parked *park_threads(size_t *n)
{
    size_t count = 0;
    for (size_t i = 0; i < PARK_MAX; i++) {
        if (slots[i].tid <= 0)
            continue;
        sorted[count] = slots[i];
        if ((uint64_t)slots[i].tid == GATE->main_tid) {
            sorted[count] = sorted[0];
            sorted[0] = slots[i];
        }
        count++;
    }
    *n = count;
    return sorted;
}

long park_run_on_main(long (*work)(void *arg), void *arg)
{
    work_fn = work;
    work_arg = arg;
    uint32_t before = work_seq;
    __atomic_store_n(&work_seq, before + 1, __ATOMIC_SEQ_CST);
    announce_change();
    while (__atomic_load_n(&work_done, __ATOMIC_SEQ_CST) == before)
        sys_futex_wait(&work_done, before);
    return work_result;
}

static bool all_at_rest(void)
{
    for (int i = 0; i < PARK_MAX; i++)
        if (slots[i].tid > 0 && !is_at_rest(i))
            return false;
    return true;
}

void park_take_pending(void)
{
    announce_change();
    for (uint32_t seen = rests; !all_at_rest(); seen = rests)
        sys_futex_wait(&rests, seen);
}
