/*
 * signal_place.h - signals from outside, recorded with the place at which their handlers run
 *
 * A signal from outside comes at any instruction, which no replay finds again. While a rank with
 * one thread is recorded, such a signal therefore waits until the thread is at a place that can be
 * named: the end of a system call, MPI call or clock reading, or inside of a system call that
 * waits. There its handler runs, as an event of the log, and there it runs in a replay, whose
 * signals come from the log alone.
 *
 *     application   --[event 7]----x--------------[event 8]----
 *     kernel                       | SIGALRM          | sent again: the handler runs
 *     log            7: MPI_Send                   8: clock, 9: a signal, ...
 *
 * No signal waits for longer than SIGNAL_LATE_NS: then its handler runs where the thread is, and in
 * a replay at the last place before; inside of an MPI call, at the call's end.
 *
 * A place is named by the event before it and by how many system calls the thread has made so far,
 * some of which are no events.
 *
 * libc's signal of pthread_cancel(3) is one of them, which no MPI call is interrupted for: so
 * threads are cancelled at places, too.
 *
 * With several threads, each has its own, and needs the turn (schedule.h) for a handler as for all
 * of the application's code. Where it was made to give its turn up, that is a place, too. One that
 * has no place for a signal hands it on (signal_forward.h). Without turns handlers run where
 * signals come, recorded or replayed, as they do for SIGPROF, whose place is what it is about.
 */
#ifndef DBG3_STUB_SIGNAL_PLACE_H
#define DBG3_STUB_SIGNAL_PLACE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <ucontext.h>

#define SIGNAL_LATE_NS 10000000

/* Where a handler ran. */
enum signal_where {
    SIGNAL_AFTER, /* behind a call */
    SIGNAL_IN,    /* in a system call that waits, before it ended */
    SIGNAL_LATE, /* somewhere behind a call: a replay runs it there, on another part of the stack */
    SIGNAL_OWN,  /* somewhere in an MPI call: the handler's own calls are not recorded */
};

/* Around the life of a thread. */
void signal_place_thread_begins(bool is_main);
void signal_place_thread_ends(void);

/* Whether signals of the calling thread are recorded, or come from the log. */
bool signal_exact(void);

/* A signal has come to the calling thread, which has no place for it: it is just being made, about
 * to end, or outside of turns. Returns whether another one gets it (signal_forward.h). */
bool signal_elsewhere(int sig, const siginfo_t *info, ucontext_t *uc);

/* A signal for which the application has a handler has come, on the upper FS. `outside`: of the
 * application's code, in an MPI call. Returns how the handler is to run now. */
enum signal_run {
    SIGNAL_RUN_NOT,   /* it is held, or none of this replay's */
    SIGNAL_RUN,       /* as part of the recorded execution */
    SIGNAL_RUN_LATE,  /* the same, on another part of the stack than when it was recorded */
    SIGNAL_RUN_ASIDE, /* its calls are not recorded */
    SIGNAL_RUNS
};
enum signal_run signal_met(int sig, const siginfo_t *info, ucontext_t *uc, bool outside);

/* The thread is at a place: signals that wait here are sent to it again. They come at once, or
 * when the caller unblocks them. `call`: a system call has ended, and goes on at `pc`; else 0. */
void signal_place(uint64_t pc);

/* The same at the end of an MPI call or clock reading, if that was an event. [GATE_WORD_SIGNAL] */
void signal_place_left(void);

/* The same where the thread has its turn again after it was made to give it up. */
void signal_place_again(void);

/* A system call is about to wait with this mask. [handler of SIGSYS, all signals blocked] */
void signal_before_wait(void);

/* Replay: runs the handlers that ran while a call, which goes on at `behind`, waited with this
 * mask. [the same] */
void signal_in_call(uint64_t mask, uint64_t behind);

/* What has waited for long is run. Called on any FS. [handler of SIGSYS] */
void signal_late(ucontext_t *uc);

/* gate_stub.signal_logged */
int signal_logged(int sig);

/* A handler returns with this frame: whether it has run at a place. */
bool signal_was_placed(const ucontext_t *frame);

/* Replay: a handler that ran in the present MPI call runs. */
void signal_again(const void *info);

/* Memory is about to be saved: what is in it must be in the log. */
void signal_place_before_save(void);

/* Recording or replay begins in this process. */
void signal_place_attach(void);

#endif
