/*
 * count.h - what this rank has sent, received and completed
 *
 * Two kinds of numbers, which differ while something is in flight:
 *
 *  - `sent` and `taken`, messages by world rank since MPI_Init: sends that were started, and
 *  messages that
 *    arrived in the upper half (in the application's buffers or in the queue of drained ones). A
 *    drain is
 *    over when what was taken from each peer is what it has sent.
 *  - the counters file (runtime/coord/counters.h): messages completed as the application sees it.
 *
 * Both are saved with the upper half. The counters file is mapped from above the gate, so a copy is
 * taken before memory is saved and written to the new file after a restart.
 */
#ifndef DBG3_STUB_COUNT_H
#define DBG3_STUB_COUNT_H

#include <stdint.h>

#include "msgcounter/stub/alloc.h"
#include "runtime/coord/counters.h"
#include "runtime/half/gate.h"

struct count {
    int nranks;
    uint64_t *sent, *taken;     /* [nranks] */
    struct counters_file *file; /* in use now: the gate's, or `own` */
    struct counters_file *own;  /* the copy that is saved */
    /* number of messages at which something is due; UINT64_MAX: never */
    uint64_t due;
};

extern struct count count;

/* After MPI_Init: rank and size of MPI_COMM_WORLD. */
void count_start(int rank, int size);

void count_before_save(void);
void count_after_save(int restored);

/* gate_stub.sent */
const uint64_t *count_sent(int *nranks);

/* A send to a world rank (-1: not one of ours) has been started, or (-1) turned out never to
 * leave. */
static inline void count_started(int world, int64_t n)
{
    if (world < 0)
        return;
    if (__builtin_expect(stub_threads_multiple, 0))
        __atomic_fetch_add(&count.sent[world], (uint64_t)n, __ATOMIC_RELAXED);
    else
        count.sent[world] += (uint64_t)n;
}

/* A message of a world rank has arrived in the upper half. */
static inline void count_taken(int world)
{
    if (world < 0)
        return;
    if (__builtin_expect(stub_threads_multiple, 0))
        __atomic_fetch_add(&count.taken[world], 1, __ATOMIC_RELAXED);
    else
        count.taken[world]++;
}

/* `due` was reached: asks for a fine checkpoint at the next call boundary, or for an epoch. */
void count_due(void);

/* A message more is complete. */
static inline void count_message(void)
{
    uint64_t n = counters_get(&count.file->messages) + 1;
    counters_set(&count.file->messages, n);
    if (__builtin_expect(n >= count.due, 0))
        count_due();
}

/* A send of `bytes` to a world rank (-1: unknown) is complete for the application. */
static inline void count_send(int world, int64_t bytes)
{
    struct counters_file *f = count.file;
    counters_add(&f->sent_msgs, 1);
    counters_add(&f->sent_bytes, (uint64_t)bytes);
    if (world >= 0) {
        counters_add(&f->peer[world].sent_msgs, 1);
        counters_add(&f->peer[world].sent_bytes, (uint64_t)bytes);
    }
    count_message();
}

static inline void count_recv(int world, int64_t bytes)
{
    struct counters_file *f = count.file;
    counters_add(&f->recv_msgs, 1);
    counters_add(&f->recv_bytes, (uint64_t)bytes);
    if (world >= 0) {
        counters_add(&f->peer[world].recv_msgs, 1);
        counters_add(&f->peer[world].recv_bytes, (uint64_t)bytes);
    }
    count_message();
}

static inline void count_collective(void)
{
    counters_add(&count.file->collectives, 1);
    count_message();
}

/* The rank begins (or ends) to wait for a message; peer: world rank, -1 any. */
static inline void count_waiting(int world)
{
    counters_set(&count.file->peer_wanted, (uint64_t)(world + 1));
    counters_set(&count.file->state, COUNTERS_WAITING);
}

static inline void count_waited(void)
{
    counters_set(&count.file->state, COUNTERS_IN_CALL);
}

#endif
