/*
 * park.h - brings the application's threads to a stop, each in a signal frame on its own stack
 *
 * Every checkpoint is a signal frame: a thread that computes gets GATE_SIGNAL; one that is inside
 * the stub or the lower half defers and sends itself the signal at its next safe point. Going on,
 * in this process or after a restart in another, is rt_sigreturn on that frame: the kernel restores
 * registers, mask and alternate stack.
 *
 * One thread, the one that called MPI_Init, can be given work while it is parked (drain, rebuild).
 */
#ifndef DBG3_CKPT_PARK_H
#define DBG3_CKPT_PARK_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <ucontext.h>

#include "runtime/base/err.h"
#include "runtime/half/gate.h"

#define PARK_MAX 1024

/* Whether a GATE_SIGNAL is a request to park, and not libc's, which has the same number. */
static inline bool park_is_request(const siginfo_t *info)
{
    return info->si_code == SI_QUEUE && (uint64_t)info->si_value.sival_ptr == GATE_SIGNAL_VALUE;
}

struct parked {
    pid_t tid;
    /* in upper-half memory, valid while parked; rt_sigreturn takes rsp = frame */
    ucontext_t *frame;
    uint64_t fs_base, gs_base;
    uint64_t clear_child_tid;
};

/* Installs the handler. Lower FS, single-threaded. */
int park_install(struct err *err);

/*
 * Stops all application threads but `except` (0: none). Waits until each has parked: a thread
 * inside MPI comes when its call lets it. New threads are caught. Returns 0; -1 with *err after
 * `timeout_ms` without all parked (threads already parked stay so; call park_resume). Lower FS: the
 * agent, or an application thread that crossed.
 */
int park_all(pid_t except, int timeout_ms, struct err *err);

/* True if the caller, an application thread, is the only one: there is nobody to park. */
bool park_alone(void);

/* Lets everyone go on. Anew: as in a restarted rank, each told to the stub (thread_resumes). */
void park_resume(void);
void park_resume_anew(void);

/* The parked threads; the main thread is first if it is among them. Valid until park_resume(). */
const struct parked *park_threads(size_t *n);

/* [agent, all parked] Runs `work` on the parked main thread, on its upper FS, and waits for its
 * result. */
long park_run_on_main(long (*work)(void *arg), void *arg);

/* [agent, all parked] Each parked thread takes what has come for it alone (pending_take()) since it
 * did so on its way here. Behind it none of them writes to memory before it is told to. */
void park_take_pending(void);

/* What the handler does with a parked main thread when GATE->word has GATE_WORD_FINE. Lower FS. */
void park_on_fine(void (*fine)(struct parked *self));

/* [any FS] Describes the calling thread, interrupted at `frame`. */
void park_describe(struct parked *p, ucontext_t *frame);

/* What glibc has installed for GATE_SIGNAL (pthread_cancel), which we pass its signals on to;
 * all zeros: nothing. Part of the rank's state. */
struct park_action {
    uint64_t handler, flags, restorer, mask;
};
extern struct park_action park_chained;

/* Continues the calling thread from a frame: FS, GS, tid address, robust list, rt_sigreturn. */
struct park_resume {
    uint64_t fs_base, gs_base, frame, clear_child_tid, robust_list, robust_list_len;
};
void park_continue(const struct park_resume *r) __attribute__((noreturn));

#endif
