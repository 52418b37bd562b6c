/*
 * restart.c - continues an image in this process
 *
 * The lower half is up, everything below the split is free. Memory is mapped from the image file,
 * threads are cloned and wait; then all of them return into the signal frames in which they were
 * parked.
 */
#include "runtime/ckpt/restart.h"

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include "runtime/ckpt/files.h"
#include "runtime/ckpt/interrupt.h"
#include "runtime/ckpt/park.h"
#include "runtime/ckpt/pending.h"
#include "runtime/ckpt/save.h"
#include "runtime/ckpt/share.h"
#include "runtime/ckpt/timers.h"
#include "runtime/ckpt/vectors.h"
#include "runtime/half/gate.h"
#include "runtime/half/half.h"
#include "runtime/half/sys.h"

#define CLONE_STACK (64ul << 10)
#define RED_ZONE    128 /* and more than the 8 bytes before a frame */

/* ---- signals and timers ---- */

/* From here on none is delivered until a thread is back in its frame, which has its own mask.
 * Faults of this half go on being told. */
static void block_signals(void)
{
    uint64_t mask = ~GATE->fatal_mask;
    sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8, 0, 0);
}

static void restore_signals(const struct image_state *state)
{
    const struct image_meta *meta = &state->meta;
    size_t size;
    const void *pending = image_blob_find(state, PENDING_BLOB, &size);
    block_signals();
    if (pending)
        pending_load(pending, size);
    for (int sig = 1; sig <= IMAGE_NSIG; sig++) {
        const struct image_sigaction *a = &meta->sigactions[sig - 1];
        struct {
            uint64_t handler, flags, restorer, mask;
        } k = {a->handler, a->flags, a->restorer, a->mask};
        if (sig == GATE_SIGNAL)
            park_chained = (struct park_action){k.handler, k.flags, k.restorer, k.mask};
        bool parks = sig == GATE_SIGNAL && GATE->mode != GATE_REPLAY; /* the handler is ours */
        if (sig == SIGKILL || sig == SIGSTOP || parks)
            continue;
        if (k.handler >= GATE_ADDR) {
            /* The lower half's: either the handler of last words, or one that its library has
             * installed anew in this process. A replay has neither. */
            bool last_words = GATE->fatal_mask >> (sig - 1) & 1;
            if (!last_words && GATE->mode != GATE_REPLAY)
                continue;
            k.handler = last_words ? (uint64_t)GATE->fatal : (uint64_t)SIG_DFL;
        }
        sys_call(SYS_rt_sigaction, sig, &k, NULL, 8, 0, 0);
    }
}

/* ---- memory ---- */

static int tell_kernel(const struct image_state *state, struct err *err)
{
    size_t size;
    const struct save_blob *blob = image_blob_find(state, SAVE_BLOB, &size);
    if (!blob || size != sizeof *blob || blob->version != 1)
        return err_set(err,
                       "the image has no restart note of this version; it was written by another "
                       "version of dbg3");
    save_identity.mm = blob->mm;
    save_identity.entry = state->meta.entry;
    save_identity.stack_limit = blob->stack_limit;
    save_identity.epoch = state->meta.epoch;
    save_identity.rank = state->meta.rank;
    save_identity.size = state->meta.size;
    snprintf(save_identity.program, sizeof save_identity.program, "%s", state->meta.program);
    memcpy(save_identity.build_id, state->meta.build_id, sizeof save_identity.build_id);
    save_identity.build_id_len = state->meta.build_id_len;
    GATE->generation = blob->generation + 1;
    GATE->stub = (struct gate_stub *)state->meta.root;
    struct rlimit rl;
    if (getrlimit(RLIMIT_STACK, &rl) == 0) {
        rl.rlim_cur = blob->stack_limit;
        setrlimit(RLIMIT_STACK, &rl);
    }
    return load_tell_kernel(&blob->mm, err);
}

int restart_memory(struct image *image, struct err *err)
{
    const struct image_state *state = image_state(image);
    if (image_map(image, err) < 0 || tell_kernel(state, err) < 0 ||
        files_restore(state, GATE->mode == GATE_REPLAY, err) < 0)
        return -1;
    if (GATE->mode != GATE_REPLAY && share_restore(state, err) < 0)
        return -1;
    restore_signals(state);
    /* A replay may be on another machine; what the rank asks about folders is in its log. */
    if (chdir(state->meta.cwd) < 0 && GATE->mode != GATE_REPLAY)
        return err_sys(err, "cannot go to the working directory %s", state->meta.cwd);
    umask((mode_t)state->meta.umask);
    half_name(state->meta.program);
    save_mapped_from(image);
    return 0;
}

/* ---- threads ---- */

static volatile uint32_t go; /* futex: 1 when the threads may continue */

static const struct image_state *restored; /* by restart_threads() */
static pid_t *tids;                        /* what its threads have for numbers now */

/* 0: none has that number. */
static pid_t tid_now(pid_t was)
{
    for (size_t i = 0; i < restored->nthreads; i++)
        if (restored->threads[i].tid == was)
            return tids[i];
    return 0;
}

static pid_t tid_for_timer(pid_t was)
{
    pid_t tid = tid_now(was);
    return tid ? tid : getpid();
}

/* What a recreated thread needs; malloc'ed, for as long as the process lives. */
struct start {
    struct park_resume resume;
    pid_t was; /* its tid in the process that was saved */
};

/* What the application has called a thread: set before any of them runs. */
static void set_name(long tid, const char *name)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%ld/comm", tid);
    FILE *f = name && *name ? fopen(path, "we") : NULL;
    if (!f)
        return;
    fputs(name, f);
    fclose(f);
}

/* The number by which the application knows a thread stands where the kernel clears it at its end:
 * in glibc's struct pthread. */
static void renumber(const struct image_thread *t, long tid)
{
    const int *number = (const int *)t->clear_child_tid;
    if (number && *number != (int)tid && GATE->stub->renumber)
        GATE->stub->renumber(*number, (int)tid);
}

static void describe_start(struct start *s, const struct image_thread *t)
{
    vectors_adapt((ucontext_t *)t->resume_sp, t, t->resume_sp - RED_ZONE);
    s->resume =
        (struct park_resume){t->regs.fs_base, t->regs.gs_base, t->resume_sp, t->clear_child_tid,
                             t->robust_list, t->robust_list_len};
    s->was = t->tid;
}

/* [any FS] The last steps of each thread, all signals blocked. */
__attribute__((noreturn)) static void go_on(const struct start *s)
{
    ucontext_t *frame = (ucontext_t *)s->resume.frame;
    uint64_t all = ~0ul;
    sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, 8, 0, 0);
    pending_put(s->was, (pid_t)sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0));
    interrupt_redo(frame, pending_now());
    interrupt_resume(s->resume.fs_base);
    if (GATE->stub->thread_resumes)
        GATE->stub->thread_resumes(s->resume.fs_base, frame);
    park_continue(&s->resume);
}

/* First code of a recreated thread, on a small stack above the split, on no TLS. */
__attribute__((noreturn)) static void thread_body(const struct start *s)
{
    while (!__atomic_load_n(&go, __ATOMIC_ACQUIRE))
        sys_futex_wait(&go, 0);
    go_on(s);
}

long restart_clone(uint64_t flags, void *stack, void (*body)(const struct start *),
                   const struct start *s);

int restart_threads(const struct image_state *state, struct err *err)
{
    tids = calloc(state->nthreads, sizeof *tids);
    if (!tids)
        return err_sys(err, "no memory");
    restored = state;
    tids[0] = getpid();
    renumber(&state->threads[0], getpid());
    set_name(getpid(), state->threads[0].name);
    for (size_t i = 1; i < state->nthreads; i++) {
        const struct image_thread *t = &state->threads[i];
        struct start *s = malloc(sizeof *s);
        uint8_t *stack =
            mmap(NULL, CLONE_STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (!s || stack == MAP_FAILED)
            return err_sys(err, "no memory for thread %d", t->tid);
        describe_start(s, t);
        long tid = restart_clone(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                                     CLONE_SYSVSEM,
                                 stack + CLONE_STACK, thread_body, s);
        if (tid < 0) {
            errno = (int)-tid;
            return err_sys(err, "cannot recreate thread %d of %zu", t->tid, state->nthreads);
        }
        tids[i] = (pid_t)tid;
        renumber(t, tid);
        set_name(tid, t->name);
    }
    return GATE->mode == GATE_REPLAY ? 0 : files_restore_threads(state, tid_now, err);
}

int restart_on_upper_fs(const struct image_state *state, int (*fn)(void))
{
    uint64_t lower = fs_base();
    set_fs_base(state->threads[0].regs.fs_base);
    int r = fn();
    set_fs_base(lower);
    return r;
}

static int after_save(void)
{
    GATE->stub->after_save(1);
    return 0;
}

void restart_after_save(const struct image_state *state)
{
    restart_on_upper_fs(state, after_save);
    pending_ask();
}

void restart_go(const struct image_state *state)
{
    struct start s;
    struct err err;
    describe_start(&s, &state->threads[0]);
    pending_put(PENDING_PROCESS, 0);
    if (!pending_logged(0)) {
        itimers_restore(state->meta.itimers);
        if (timers_restore(state, tid_for_timer, &err) < 0)
            half_die(&err);
    }
    __atomic_store_n(&go, 1, __ATOMIC_RELEASE);
    sys_futex_wake(&go, INT32_MAX);
    go_on(&s);
}
