/*
 * fatal.c - last words of a rank
 */
#include "runtime/ckpt/fatal.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
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

static const int fatal_signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGSYS,
                                    SIGTRAP, SIGPIPE, SIGXCPU, SIGXFSZ};

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

/* ---- a failure inside MPI ---- */

#define LOOK_WORDS  (1u << 17) /* 1 MiB of stack below the crossing */
#define STACK_ARGS  64
#define STUB_BYTES  (64l << 20)

/* What gate_cross has on the stack, from r15 on. */
enum { SAVED_R15, SAVED_R15_AGAIN, SAVED_R14, SAVED_R13, SAVED_R12, SAVED_RBX, SAVED_RBP,
       SAVED_RETURN, SAVED_WORDS };

static bool read_words(uint64_t addr, uint64_t *words, size_t n)
{
    struct iovec to = {words, n * sizeof *words}, from = {(void *)addr, n * sizeof *words};
    return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == (ssize_t)(n * sizeof *words);
}

/* The address of what gate_cross saved, if the word at `addr` is where the lower half returns
 * to. */
static uint64_t saved_at(uint64_t addr)
{
    for (uint64_t at = addr + 8; at < addr + 8 * STACK_ARGS; at += 8) {
        uint64_t w[SAVED_WORDS];
        if (!read_words(at, w, SAVED_WORDS))
            return 0;
        long away = (long)w[SAVED_RETURN] - (long)GATE->stub->crossing;
        if (w[SAVED_R15] == w[SAVED_R15_AGAIN] && away > -STUB_BYTES && away < STUB_BYTES)
            return at;
    }
    return 0;
}

/*
 * The thread as the application's half knows it: in gate_cross, just behind the call. Changes the
 * registers of `uc`, a copy. Returns false if the crossing cannot be found.
 */
static bool show_gate(ucontext_t *uc)
{
    greg_t *g = uc->uc_mcontext.gregs;
    uint64_t sp = (uint64_t)g[REG_RSP] & ~7ul, word, saved = 0;
    for (unsigned i = 0; i < LOOK_WORDS && !saved; i++, sp += 8) {
        if (!read_words(sp, &word, 1))
            return false;
        saved = word == (uint64_t)GATE->stub->crossing ? saved_at(sp) : 0;
    }
    if (!saved)
        return false;
    read_words(saved, &word, 1);
    g[REG_R15] = (greg_t)word;
    g[REG_RBP] = (greg_t)(saved + 8 * SAVED_RBP);
    g[REG_RSP] = (greg_t)sp; /* behind the word that was found */
    g[REG_RIP] = (greg_t)GATE->stub->crossing;
    return true;
}

/* "inside libucp.so.0 (ucp_rndv_receive)" */
static void describe_lower(uint64_t pc, char *text, size_t cap)
{
    Dl_info info;
    if (!dladdr((void *)pc, &info) || !info.dli_fname) {
        snprintf(text, cap, "inside the MPI library");
        return;
    }
    const char *slash = strrchr(info.dli_fname, '/');
    snprintf(text, cap, "inside %s%s%s%s", slash ? slash + 1 : info.dli_fname,
             info.dli_sname ? " (" : "", info.dli_sname ? info.dli_sname : "",
             info.dli_sname ? ")" : "");
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

/* `lower`: where in the lower half it was, or "". */
static void report(struct parked *self, int sig, const siginfo_t *info, const char *lower)
{
    char path[4096], text[256];
    struct err err;
    failure_path(path, sizeof path);
    if (*path && write_failure(path, self, sig, info, &err) < 0) {
        fprintf(stderr, "dbg3: rank %d: no failure image: %s\n", save_identity.rank, err.text);
        path[0] = '\0';
    }
    snprintf(text, sizeof text, "%s", *lower ? lower : strsignal(sig));
    agent_failure(&(struct agent_failure){
        .kind = PROTO_FAILURE_SIGNAL, .code = (uint64_t)sig, .text = text, .image = path,
        .pc = *lower ? 0 : (uint64_t)self->frame->uc_mcontext.gregs[REG_RIP],
        .address = sig == SIGSEGV || sig == SIGBUS ? (uint64_t)info->si_addr : 0});
}

/*
 * On the application's alternate stack, on either FS. Afterwards the signal kills the process as if
 * we had not been here: a fault happens again under SIG_DFL, a sent signal is sent again, and so is
 * a trap's, whose instruction is over.
 */
static void on_fatal(int sig, void *info, void *uc)
{
    uint64_t fs = fs_base();
    if (__atomic_exchange_n(&failing, 1, __ATOMIC_SEQ_CST) == 0 && save_identity.rank >= 0) {
        struct parked self;
        ucontext_t at_gate;
        char lower[192] = "";
        park_describe(&self, uc);
        if (fs >= GATE_ADDR) { /* inside MPI: the application's view is that of the crossing */
            self.fs_base = *(const uint64_t *)(fs + (uint64_t)GATE->tls_upper_fs);
            at_gate = *(const ucontext_t *)uc;
            describe_lower((uint64_t)at_gate.uc_mcontext.gregs[REG_RIP], lower, sizeof lower);
            if (show_gate(&at_gate))
                self.frame = &at_gate;
        } else {
            set_fs_base(GATE->thread_attach());
        }
        report(&self, sig, info, lower);
        set_fs_base(fs);
    }
    struct {
        uint64_t handler, flags, restorer, mask;
    } dfl = {0};
    sys_call(SYS_rt_sigaction, sig, &dfl, NULL, 8, 0, 0);
    if (((siginfo_t *)info)->si_code <= 0 || sig == SIGTRAP)
        sys_raise(sig);
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
