/*
 * signal.c - the application's signal handlers
 *
 * A handler that interrupts the lower half would run on the lower half's FS base and corrupt the
 * TLS of both. So the stub takes the place of sigaction() and signal(): the kernel gets
 * stub_signal_entry(), which switches to the upper FS, calls the application's handler and switches
 * back. The application sees its own handlers only.
 *
 * Fatal signals that the application leaves at SIG_DFL go to the lower half, which writes the
 * failure image (GATE->fatal).
 */
#include "msgcounter/stub/signal.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "msgcounter/stub/thread.h"
#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/clock.h"
#include "msgcounter/stub/no_park.h"
#include "msgcounter/stub/signal_forward.h"
#include "msgcounter/stub/signal_place.h"
#include "msgcounter/stub/system.h"
#include "runtime/half/gate.h"
#include "runtime/half/sys.h"

#define NSIG_KERNEL 64
#define SA_RESTORER_FLAG 0x04000000ul
#define ALTSTACK_BYTES (64ul << 10)

#define EXPORT __attribute__((visibility("default")))

static __thread void *altstack; /* of ours, that this thread has */
static struct kernel_action actions[NSIG_KERNEL + 1]; /* what the application asked for */

/* signal_return.S: the bytes by which debuggers recognise a signal frame. */
void stub_sigaction_return(void);

static long kernel_sigaction(int sig, const struct kernel_action *act, struct kernel_action *old)
{
    return sys_call(SYS_rt_sigaction, sig, act, old, 8, 0, 0);
}

static void (*system_handler)(void); /* of SIGSYS, while system calls are dispatched */

static struct kernel_action for_kernel(int sig, const struct kernel_action *app);

__attribute__((noinline)) static void dispatch(int sig, siginfo_t *info, void *uc)
{
    struct kernel_action act = actions[sig];
    if (act.flags & SA_RESETHAND) {
        actions[sig] = (struct kernel_action){.handler = (void *)SIG_DFL};
        struct kernel_action k = for_kernel(sig, &actions[sig]);
        if (stub_active)
            kernel_sigaction(sig, &k, NULL);
    }
    if (act.handler == (void *)SIG_DFL || act.handler == (void *)SIG_IGN)
        return;
    if (act.flags & SA_SIGINFO)
        ((void (*)(int, siginfo_t *, void *))act.handler)(sig, info, uc);
    else
        ((void (*)(int))act.handler)(sig);
}

/* The signal came of an instruction of the thread: it will again, at the same place, in a replay.
 */
NO_PARK static bool of_instruction(int sig, const siginfo_t *info)
{
    return info->si_code > 0 &&
           (sig == SIGSEGV || sig == SIGBUS || sig == SIGFPE || sig == SIGILL || sig == SIGTRAP);
}

static void run(int sig, siginfo_t *info, void *uc, enum signal_run how)
{
    struct stub_thread *t = &stub_thread;
    uint64_t behind = t->behind;
    uint8_t in_call = t->in_call;
    t->in_call = 0;
    struct system_handler before = system_handler_begun(uc, how);
    dispatch(sig, info, uc);
    system_handler_ended(before);
    t->in_call = in_call;
    t->behind = behind;
}

static void meet(int sig, siginfo_t *info, void *uc, bool outside)
{
    signal_forwarded(info);
    if (sig == GATE_SIGNAL && info->si_code != SI_TKILL) /* it cancels no thread */
        return;
    bool of_own = of_instruction(sig, info), had_turn = stub_thread.has_turn;
    if (!of_own && signal_elsewhere(sig, info, uc))
        return;
    enum signal_run how = of_own || !signal_exact() ? (of_own ? SIGNAL_RUN : SIGNAL_RUN_ASIDE)
                                                    : signal_met(sig, info, uc, outside);
    if (how != SIGNAL_RUN_NOT)
        run(sig, info, uc, how);
    if (!had_turn)
        schedule_give();
}

/* A system call that this signal has ended is over: one to park that comes at that place must not
 * make it again. It tells them by rcx, where a call leaves the address behind it (interrupt.c). */
static void end_call(ucontext_t *uc)
{
    greg_t *regs = uc->uc_mcontext.gregs;
    const uint8_t *behind = (const uint8_t *)regs[REG_RIP];
    if (regs[REG_RAX] == -EINTR && regs[REG_RCX] == regs[REG_RIP] && behind[-2] == 0x0f &&
        behind[-1] == 0x05)
        regs[REG_RCX] = 0;
}

/* Runs on whichever FS was interrupted: nothing here may use TLS before the switch. */
NO_PARK static void stub_signal_entry(int sig, siginfo_t *info, void *uc)
{
    uint64_t fs = fs_base();
    if (fs >= GATE_ADDR)
        set_fs_base(*(const uint64_t *)(fs + (uint64_t)GATE->tls_upper_fs));
    else if (!of_instruction(sig, info) && clock_signal_later(info, uc))
        return;
    meet(sig, info, uc, fs >= GATE_ADDR);
    end_call(uc);
    if (fs >= GATE_ADDR)
        set_fs_base(fs);
}

void stub_signal_forward(int sig, siginfo_t *info, void *uc)
{
    if (info->si_code == SI_TIMER && (uint64_t)info->si_value.sival_ptr == GATE_LATE_VALUE)
        signal_late(uc);
    else
        dispatch(sig, info, uc);
}

bool stub_signal_handled(int sig)
{
    struct kernel_action k = {0};
    if (sig == GATE_SIGNAL) /* which the kernel may bring to the lower half first */
        return (uint64_t)actions[sig].handler > (uint64_t)SIG_IGN;
    return kernel_sigaction(sig, NULL, &k) == 0 &&
           instruction_handler_for(k.handler) == (void *)stub_signal_entry;
}

/* libc sets dispositions past us, in abort(3): the kernel knows. */
bool stub_signal_fatal(int sig)
{
    struct kernel_action k = {0};
    if (kernel_sigaction(sig, NULL, &k) != 0)
        return false;
    uint64_t handler = (uint64_t)instruction_handler_for(k.handler);
    return (handler == (uint64_t)SIG_DFL || handler >= GATE_ADDR) && sig != SIGCHLD &&
           sig != SIGURG && sig != SIGWINCH && sig != SIGCONT && sig != SIGSTOP && sig != SIGTSTP &&
           sig != SIGTTIN && sig != SIGTTOU;
}

/* What happens with SIGILL otherwise. It comes on the alternate stack unless the application's
 * handler wants another. */
static struct kernel_action with_instructions(struct kernel_action k)
{
    void *entry = instruction_handler(k.handler);
    if (!entry)
        return k;
    if (k.handler != (void *)stub_signal_entry)
        k.flags |= SA_ONSTACK;
    k.flags |= SA_SIGINFO | SA_RESTORER_FLAG;
    k.restorer = (void *)stub_sigaction_return;
    k.handler = entry;
    return k;
}

static struct kernel_action for_kernel(int sig, const struct kernel_action *app)
{
    struct kernel_action k = *app;
    k.restorer = (void *)stub_sigaction_return;
    k.flags |= SA_RESTORER_FLAG;
    if (app->handler == (void *)SIG_DFL) {
        if (GATE->fatal && (GATE->fatal_mask >> (sig - 1) & 1)) {
            k.handler = (void *)GATE->fatal;
            k.flags = SA_SIGINFO | SA_ONSTACK | SA_RESTORER_FLAG;
            k.mask = ~SYSTEM_SIGNAL_BITS;
        }
    } else if (app->handler != (void *)SIG_IGN) {
        k.handler = (void *)stub_signal_entry;
        k.flags |= SA_SIGINFO;
        if (sig == GATE_SIGNAL) /* a thread that is cancelled does not return, but still parks */
            k.flags |= SA_NODEFER;
        if (system_handler) /* it may be sent again, when its place has come: see dispatch() */
            k.flags &= ~(uint64_t)SA_RESETHAND;
        k.mask &= ~SYSTEM_SIGNAL_BITS;
    }
    if (sig == SIGILL)
        k = with_instructions(k);
    if (sig == SIGSYS && system_handler) {
        k.handler = (void *)system_handler;
        k.flags = SA_SIGINFO | SA_ONSTACK | SA_RESTORER_FLAG;
        k.mask = ~0ul;
    }
    return k;
}

EXPORT int sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
    if (sig < 1 || sig > NSIG_KERNEL || sig == GATE_SIGNAL || sig == GATE_SIGNAL + 1) {
        errno = EINVAL;
        return -1;
    }
    struct kernel_action before = actions[sig];
    if (act) {
        signal_place(0); /* for what has come while the old one held */
        struct kernel_action app = {.handler = (void *)act->sa_handler,
                                    .flags = (uint32_t)act->sa_flags};
        memcpy(&app.mask, &act->sa_mask, sizeof app.mask);
        actions[sig] = app;
        struct kernel_action k = stub_active ? for_kernel(sig, &app) : app;
        if (!stub_active) {
            k.restorer = (void *)stub_sigaction_return;
            k.flags |= SA_RESTORER_FLAG;
        }
        long r = kernel_sigaction(sig, &k, NULL);
        if (r < 0) {
            actions[sig] = before;
            errno = (int)-r;
            return -1;
        }
    }
    if (old) {
        memset(old, 0, sizeof *old);
        old->sa_handler = (void (*)(int))before.handler;
        old->sa_flags = (int)before.flags;
        memcpy(&old->sa_mask, &before.mask, sizeof before.mask);
    }
    return 0;
}

EXPORT int __sigaction(int sig, const struct sigaction *act, struct sigaction *old);

int __sigaction(int sig, const struct sigaction *act, struct sigaction *old)
{
    return sigaction(sig, act, old);
}

static sighandler_t set_handler(int sig, sighandler_t handler, int flags)
{
    struct sigaction act = {.sa_handler = handler, .sa_flags = flags}, old;
    sigemptyset(&act.sa_mask);
    if (handler == SIG_ERR) {
        errno = EINVAL;
        return SIG_ERR;
    }
    return sigaction(sig, &act, &old) < 0 ? SIG_ERR : old.sa_handler;
}

EXPORT sighandler_t signal(int sig, sighandler_t handler)
{
    return set_handler(sig, handler, SA_RESTART);
}

EXPORT sighandler_t bsd_signal(int sig, sighandler_t handler);

sighandler_t bsd_signal(int sig, sighandler_t handler)
{
    return set_handler(sig, handler, SA_RESTART);
}

EXPORT sighandler_t ssignal(int sig, sighandler_t handler);

sighandler_t ssignal(int sig, sighandler_t handler)
{
    return set_handler(sig, handler, SA_RESTART);
}

EXPORT sighandler_t __sysv_signal(int sig, sighandler_t handler);

sighandler_t __sysv_signal(int sig, sighandler_t handler)
{
    return set_handler(sig, handler, (int)(SA_RESETHAND | SA_NODEFER));
}

EXPORT sighandler_t sysv_signal(int sig, sighandler_t handler)
{
    return __sysv_signal(sig, handler);
}

/* Notes libc's handler of it. Returns what stands in its place. */
static struct kernel_action instead_of(const struct kernel_action *libc)
{
    actions[GATE_SIGNAL] = *libc;
    actions[GATE_SIGNAL].flags &= ~SA_RESTORER_FLAG;
    return for_kernel(GATE_SIGNAL, &actions[GATE_SIGNAL]);
}

void stub_signal_cancels(const struct kernel_action *libc)
{
    struct kernel_action k = instead_of(libc);
    kernel_sigaction(GATE_SIGNAL, &k, NULL);
}

static bool is_of_libc(const struct kernel_action *k)
{
    return (uint64_t)k->handler > (uint64_t)SIG_IGN && (uint64_t)k->handler < GATE_ADDR &&
           k->handler != (void *)stub_signal_entry;
}

/* libc has installed it before. In this order: the lower half, which takes GATE_SIGNAL, may be
 * about to keep the kernel's handler as the one that it passes on to. */
static void take_cancels(void)
{
    struct kernel_action k = {0}, *passed = GATE->passed_on;
    if (kernel_sigaction(GATE_SIGNAL, NULL, &k) == 0 && is_of_libc(&k))
        stub_signal_cancels(&k);
    if (passed && is_of_libc(passed))
        *passed = instead_of(passed);
}

void stub_signal_system(void (*handler)(void))
{
    system_handler = handler;
    take_cancels();
    for (int sig = 1; sig <= NSIG_KERNEL; sig++) {
        struct kernel_action k = for_kernel(sig, &actions[sig]);
        bool handled = (uint64_t)actions[sig].handler > (uint64_t)SIG_IGN;
        if (sig == SIGSYS || sig == SIGILL || (handled && sig != GATE_SIGNAL))
            kernel_sigaction(sig, &k, NULL);
    }
}

/* A stack on which a stack overflow can still be told. UCX has set one in the lower half, which
 * does not survive a restart. Programs that set their own keep it. */
void stub_signal_thread_started(void)
{
    stack_t old, st = {.ss_size = ALTSTACK_BYTES};
    if (sigaltstack(NULL, &old) < 0 ||
        (!(old.ss_flags & SS_DISABLE) && (uint64_t)old.ss_sp < GATE_ADDR))
        return;
    st.ss_sp = sys_mmap(stub_place(ALTSTACK_BYTES), ALTSTACK_BYTES, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (!sys_failed((long)st.ss_sp) && sigaltstack(&st, NULL) == 0)
        altstack = st.ss_sp;
}

void stub_signal_thread_ended(void)
{
    stack_t now, none = {.ss_flags = SS_DISABLE};
    if (!altstack || sigaltstack(NULL, &now) < 0 || (now.ss_flags & SS_ONSTACK))
        return;
    if (now.ss_sp == altstack)
        sigaltstack(&none, NULL);
    sys_call(SYS_munmap, altstack, ALTSTACK_BYTES, 0, 0, 0, 0);
    altstack = NULL;
}

void stub_signal_init(void)
{
    for (int sig = 1; sig <= NSIG_KERNEL; sig++) {
        struct kernel_action k;
        if (kernel_sigaction(sig, NULL, &k) < 0 || (uint64_t)k.handler >= GATE_ADDR)
            continue;
        actions[sig] = (struct kernel_action){
            .handler = k.handler, .flags = k.flags & ~SA_RESTORER_FLAG, .mask = k.mask};
        if (k.handler == (void *)SIG_DFL && (GATE->fatal_mask >> (sig - 1) & 1)) {
            struct kernel_action fatal = for_kernel(sig, &actions[sig]);
            kernel_sigaction(sig, &fatal, NULL);
        }
    }
    stub_signal_thread_started();
}
