/*
 * win_watch.h - memory that other ranks write, as recording and replay see it
 *
 * One-sided operations change memory of a rank that makes no call for it: its windows, and the
 * buffers of its own gets until they complete. Recording keeps a copy of its windows, compares at
 * every MPI call that is recorded, and notes the runs of bytes that differ in an event of their own
 * behind the call's; replay puts them there at the same place. So what a rank sees of its windows
 * between two MPI calls is what it saw at the first of them: changes that arrive while it polls its
 * memory without any MPI call show at the next call. What a get brings is noted in the same way by
 * the call behind which the program may look at it.
 *
 * Of a large window only those pages are compared that were written, as the kernel says; not where
 * other processes write to it past our page tables.
 *
 * What the rank itself writes there differs, too, and costs log; replay writes the same again.
 */
#ifndef DBG3_STUB_WIN_WATCH_H
#define DBG3_STUB_WIN_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "msgcounter/stub/call.h"

struct win;
struct watch;

/* Whether there is such memory, in a rank that records or replays. In a replay with threads there
 * may always be some: another thread made it, in a call that need not have come as far here. */
extern bool win_watching;
void win_watch_decide(void);

/* Watches memory of a window until win_watch_end() or win_watch_forget(). Zero bytes are fine. */
void win_watch_memory(const struct win *w, void *at, uint64_t bytes);

/* The same of memory that was all zeros at first: others may have written to it already. */
void win_watch_zeros(const struct win *w, void *at, uint64_t bytes);

/* Watches where an operation that is about to start puts what it gets from `target`: until it is
 * done there, or with `alone` until the request is gone that win_watch_request() names. NULL: there
 * is nothing. */
struct watch *win_watch_result(const struct win *w, void *at, int64_t count, MPI_Datatype type,
                               int target, bool alone);
void win_watch_request(struct watch *k, MPI_Request request);

/* The operation has been started. NULL is fine. */
void win_watch_issued(struct watch *k);

/* Now, for win_watch_done(). */
uint64_t win_watch_moment(void);

/* Operations are complete at a target, or at all (-1), if they had been started at that moment,
 * when the call began: their results are noted a last time. Other threads may start some
 * meanwhile. */
void win_watch_done(enum call call, const struct win *w, int target, uint64_t since);

/* The memory that starts here is not the window's any more; all of the window's. */
void win_watch_forget(const struct win *w, const void *at);
void win_watch_end(const struct win *w);

/* Behind every call: notes what has changed, or changes it. */
void win_watch_look(enum call call);

/* At the start of a replay: other ranks may have written to shared memory after it was looked at
 * and before it was saved. */
void win_watch_replay(void);

/* After a restart, before any other rank can write: watched memory is as it was saved. */
void win_watch_begin(void);

#endif
