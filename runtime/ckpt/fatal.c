/*
 * fatal.c - last words of a rank
 */
#include "runtime/ckpt/fatal.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <ucontext.h>
#include <unistd.h>

#include "runtime/ckpt/agent.h"
#include "runtime/ckpt/park.h"
#include "runtime/ckpt/save.h"
#include "runtime/coord/proto.h"
#include "runtime/half/gate.h"
#include "runtime/half/sys.h"
#include "runtime/half/threads.h"

#define FATAL_PARK_MS 2000

static const int fatal_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS, SIGTRAP};

static volatile uint32_t failing; /* the first thread that fails speaks for the rank */

/*
 * Writes the image of the rank as `first` finds it. The other threads that can be parked are in it;
 * one that is inside MPI and does not come out in time is left out.
 */
static int write_failure(const char *path, const struct parked *first, int signo, const void *info,
                         struct err *err)
{
    static struct parked threads[PARK_MAX + 1];
    struct image_written written;
    struct save_request request = {.path = path, .kind = IMAGE_FAILURE, .signo = signo,
                                   .siginfo = info, .threads = threads};
    size_t n;
    struct err ignored;
    park_all(first ? first->tid : 0, FATAL_PARK_MS, &ignored);
    const struct parked *others = park_threads(&n);
    if (first)
        threads[request.nthreads++] = *first;
    memcpy(threads + request.nthreads, others, n * sizeof *others);
    request.nthreads += n;
    if (request.nthreads == 0)
        return err_set(err, "no thread came to a safe point");
    mkdir(agent_failure_folder(), 0700);
    return save_image(&request, &written, err);
}

static void failure_path(char *path, size_t cap)
{
    const char *folder = agent_failure_folder();
    if (*folder)
        snprintf(path, cap, "%s/%s-rank-%d.img", folder,
                 GATE->mode == GATE_RECORD ? "refine" : "batch", save_identity.rank);
    else
        path[0] = '\0';
}

static void report(struct parked *self, int sig, const siginfo_t *info)
{
    char path[4096], text[128];
    struct err err;
    failure_path(path, sizeof path);
    if (*path && write_failure(path, self, sig, info, &err) < 0) {
        fprintf(stderr, "dbg3: rank %d: no failure image: %s\n", save_identity.rank, err.text);
        path[0] = '\0';
    }
    snprintf(text, sizeof text, "%s", strsignal(sig));
    agent_failure(&(struct agent_failure){
        .kind = PROTO_FAILURE_SIGNAL, .code = (uint64_t)sig, .text = text, .image = path,
        .pc = (uint64_t)self->frame->uc_mcontext.gregs[REG_RIP],
        .address = sig == SIGSEGV || sig == SIGBUS ? (uint64_t)info->si_addr : 0});
}

/*
 * On the application's alternate stack, on either FS. Afterwards the signal kills the process as if
 * we had not been here: a fault happens again under SIG_DFL, a sent signal is sent again.
 */
static void on_fatal(int sig, void *info, void *uc)
{
    uint64_t fs = fs_base();
    if (__atomic_exchange_n(&failing, 1, __ATOMIC_SEQ_CST) == 0 && save_identity.rank >= 0) {
        struct parked self;
        park_describe(&self, uc);
        if (fs >= GATE_ADDR) /* inside MPI: the application's view is that of the crossing */
            self.fs_base = *(const uint64_t *)(fs + (uint64_t)GATE->tls_upper_fs);
        else
            set_fs_base(GATE->thread_attach());
        report(&self, sig, info);
        set_fs_base(fs);
    }
    struct {
        uint64_t handler, flags, restorer, mask;
    } dfl = {0};
    sys_call(SYS_rt_sigaction, sig, &dfl, NULL, 8, 0, 0);
    if (((siginfo_t *)info)->si_code <= 0)
        sys_call(SYS_tgkill, getpid(), gettid(), sig, 0, 0, 0);
}

void fatal_install(void)
{
    for (size_t i = 0; i < sizeof fatal_signals / sizeof fatal_signals[0]; i++)
        GATE->fatal_mask |= 1ul << (fatal_signals[i] - 1);
    GATE->fatal = on_fatal;
}

void fatal_examine(const char *why)
{
    char path[4096];
    struct err err;
    failure_path(path, sizeof path);
    if (*path && write_failure(path, NULL, 0, NULL, &err) < 0)
        path[0] = '\0';
    agent_failure(&(struct agent_failure){.kind = PROTO_FAILURE_HANG, .text = why, .image = path});
    park_resume();
}
