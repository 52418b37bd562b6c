/*
 * signal_forward.c - signals of the process that come to a thread which has no place for them
 *
 * What a signal came with is kept once for each, as the kernel keeps one of each that is pending.
 * It needs that only for those of kill(2) and of the kernel: others may be sent with what they came
 * with.
 */
#include "msgcounter/stub/signal_forward.h"

#include "msgcounter/stub/schedule_private.h"
#include "msgcounter/stub/thread.h"
#include "runtime/half/sys.h"

#define TRIES 100 /* to read what another thread writes at the same time, in some instructions */

static struct {
    volatile uint32_t version; /* odd: it changes */
    siginfo_t info;
} kept[_NSIG + 1];

static const struct stub_thread *volatile main_thread;

void signal_forward_begin(void)
{
    main_thread = &stub_thread;
}

void signal_forward_end(void)
{
    if (main_thread == &stub_thread)
        main_thread = NULL;
}

void signal_forward_mask(uint64_t mask)
{
    stub_thread.mask = mask;
    if (stub_thread.has_turn)
        schedule.mask = mask;
}

/* libc blocks its own signals, too, for the moment in which it makes a thread or sends a signal. */
static bool is_blocked(int sig, uint64_t mask)
{
    return mask >> (sig - 1) & 1 && !(mask >> (GATE_SIGNAL - 1) & 1);
}

/* The kernel's number of the thread that gets it; 0: none can. */
static long receiver(int sig)
{
    const struct stub_thread *t = main_thread;
    long tid = sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0);
    if (t && !t->outside && !is_blocked(sig, t->mask))
        return (long)GATE->main_tid;
    /* Whether it has just given it up or not: it is the likeliest to be in the application. */
    return is_blocked(sig, schedule.mask) || schedule.tid == tid ? 0 : schedule.tid;
}

static void keep(int sig, const siginfo_t *info)
{
    uint32_t version = kept[sig].version;
    if (version % 2 == 0 &&
        __atomic_compare_exchange_n(&kept[sig].version, &version, version + 1, false,
                                    __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
        kept[sig].info = *info;
        __atomic_store_n(&kept[sig].version, version + 2, __ATOMIC_SEQ_CST);
    }
}

bool signal_forward(int sig, const siginfo_t *info)
{
    long pid = sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0), to = receiver(sig);
    siginfo_t on = *info;
    if (to <= 1 || info->si_code == SI_TKILL) /* which is for this thread */
        return false;
    if (info->si_code >= 0) {
        keep(sig, info);
        on.si_code = SI_QUEUE;
        on.si_value.sival_ptr = &kept[sig];
    }
    return sys_call(SYS_rt_tgsigqueueinfo, pid, to, sig, &on, 0, 0) == 0;
}

void signal_forwarded(siginfo_t *info)
{
    int sig = info->si_signo;
    if (info->si_code != SI_QUEUE || info->si_value.sival_ptr != &kept[sig])
        return;
    for (int i = 0; i < TRIES; i++) {
        uint32_t version = __atomic_load_n(&kept[sig].version, __ATOMIC_SEQ_CST);
        *info = kept[sig].info;
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (version % 2 == 0 && version == kept[sig].version)
            return;
    }
}
