/*
 * p2p_loops.c - the lower half's waiting: point-to-point services behind the gate
 *
 * The test is MPI_Testany also for a single request: in MPICH it looks at completion before it
 * makes progress, where MPI_Test pokes the network first (MPICH 4.0.2, request_impl.c). A request
 * that is complete already then costs what it costs in MPI_Wait.
 */
#include "runtime/half/p2p_loops.h"

#include <mpi.h>
#include <stdbool.h>
#include <sched.h>
#include <time.h>

#include "call_id.h"

/* The stub hands over counts as 64-bit words, for MPI_Isend as for MPI_Isend_c: on x86-64 both find
 * theirs in the same register. */
typedef int start_fn(void *, long, MPI_Datatype, int, int, MPI_Comm, MPI_Request *);

static void *const *mpi; /* by call id */
static __typeof__(PMPI_Testany) *testany;
static __typeof__(PMPI_Request_free) *request_free;
static __typeof__(PMPI_Iprobe) *iprobe;
static __typeof__(PMPI_Improbe) *improbe;

/* ------------------------------------------------------------------------------- stepping back */

/* How a wait steps back: `spin` turns with nothing in between, then the processor is offered to
 * others, then sleep of 1/16 of what was waited so far, between the two bounds (nanoseconds). */
#define SPIN_ALONE     20000
#define SPIN_SHARED    30
#define YIELD_ALONE    10000000ull
#define YIELD_SHARED   500000ull
#define SLEEP_SHORTEST 20000ull
#define SLEEP_LONGEST  1000000ull
#define BRIEF          200000000ull

struct backoff {
    bool brief; /* comes back now and then (GATE_COMPLETE_BRIEF) */
    unsigned turns;
    uint64_t since; /* when spinning ended */
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Returns how long this has gone on, in nanoseconds. */
static uint64_t step_back(struct backoff *b)
{
    uint64_t now = now_ns();
    if (!b->since)
        b->since = now;
    uint64_t waited = now - b->since;
    if (waited < (GATE->settings.oversubscribed ? YIELD_SHARED : YIELD_ALONE)) {
        sched_yield();
        return waited;
    }
    uint64_t sleep = waited / 16;
    if (sleep < SLEEP_SHORTEST)
        sleep = SLEEP_SHORTEST;
    if (sleep > SLEEP_LONGEST)
        sleep = SLEEP_LONGEST;
    nanosleep(&(struct timespec){.tv_nsec = (long)sleep}, NULL);
    return waited;
}

/* Between two tests that found nothing. Returns 0 to test again, GATE_EAGAIN to leave the lower
 * half. GATE_WORD_INTENT is no reason to leave: a rank that waits for a message has nothing to
 * say. */
static int wait_turn(struct backoff *b)
{
    if (__builtin_expect(GATE->word & (GATE_WORD_PARK | GATE_WORD_FINE), 0))
        return GATE_EAGAIN;
    if (b->turns++ >= (GATE->settings.oversubscribed ? SPIN_SHARED : SPIN_ALONE) &&
        step_back(b) > BRIEF && b->brief)
        return GATE_EAGAIN;
    return 0;
}

/* ---------------------------------------------------------------------------------- completion */

static void status_fill(struct gate_status *st, const MPI_Status *m, int error)
{
    st->source = m->MPI_SOURCE;
    st->tag = m->MPI_TAG;
    st->error = error;
    st->cancelled = m->count_hi_and_cancelled & 1;
    st->bytes = (int64_t)(uint32_t)m->count_lo |
                (int64_t)((uint32_t)m->count_hi_and_cancelled >> 1) << 32;
}

/* One look at requests[0..n). Returns the index of one that is complete, with its status in *st,
 * or -1. MPI leaves the status of a send alone but for the cancelled bit: hence the blank. */
static int look(int n, MPI_Request *requests, struct gate_status *st)
{
    MPI_Status m = {.MPI_SOURCE = MPI_ANY_SOURCE, .MPI_TAG = MPI_ANY_TAG};
    int index = MPI_UNDEFINED, flag = 0;
    int rc = testany(n, requests, &index, &flag, &m);
    if (index == MPI_UNDEFINED && !flag)
        return -1;
    if (index == MPI_UNDEFINED) { /* nothing but what post() could not post */
        index = 0;
        rc = MPI_ERR_OTHER;
    }
    status_fill(st, &m, rc);
    return index;
}

static int wait_one(MPI_Request *request, struct gate_status *st)
{
    struct backoff b = {0};
    while (look(1, request, st) < 0)
        if (wait_turn(&b) < 0)
            return GATE_EAGAIN;
    return st->error;
}

static int complete_all(uint32_t how, int n, MPI_Request *requests, struct gate_status *st)
{
    struct backoff b = {.brief = how & GATE_COMPLETE_BRIEF};
    bool wait = how & GATE_COMPLETE_WAIT;
    int done = 0;
    for (int i = 0; i < n; i++) {
        while (look(1, &requests[i], &st[i]) < 0) {
            if (!wait || wait_turn(&b) < 0) {
                if (wait)
                    return GATE_EAGAIN;
                break;
            }
        }
        if (st[i].error != GATE_PENDING)
            done++;
    }
    return done;
}

/* The first that is complete, and with SOME those behind it that are complete too. */
static int complete_any(uint32_t how, int n, MPI_Request *requests, struct gate_status *st)
{
    struct backoff b = {.brief = how & GATE_COMPLETE_BRIEF};
    bool some = how & GATE_COMPLETE_SOME;
    struct gate_status one;
    int index;
    while ((index = look(n, requests, &one)) < 0) {
        if (!(how & GATE_COMPLETE_WAIT))
            return 0;
        if (wait_turn(&b) < 0)
            return GATE_EAGAIN;
    }
    st[index] = one;
    int done = 1;
    for (int from = index + 1; some && from < n; from = index + 1) {
        index = look(n - from, requests + from, &one);
        if (index < 0)
            break;
        index += from;
        st[index] = one;
        done++;
    }
    return done;
}

static int complete(uint32_t how, int n, void *real_requests, struct gate_status *st)
{
    for (int i = 0; i < n; i++)
        st[i].error = GATE_PENDING;
    return how & GATE_COMPLETE_ALL ? complete_all(how, n, real_requests, st)
                                   : complete_any(how, n, real_requests, st);
}

static int wait_any(int n, void *real_requests, int *index, struct gate_status *st)
{
    struct backoff b = {0};
    while ((*index = look(n, real_requests, st)) < 0)
        if (wait_turn(&b) < 0)
            return GATE_EAGAIN;
    return st->error;
}

/* ------------------------------------------------------------------------------------ starting */

static int start(const struct gate_operation *op)
{
    return ((start_fn *)mpi[op->start])(op->buf, op->count, op->datatype, op->peer, op->tag,
                                        op->comm, op->real_request);
}

/* Starts a send. An eager one is over when MPI_Isend returns: MPICH then gives the same predefined
 * request to all (request handles are builtin, 01 in bits 31..30, in no other case). */
static int isend(const struct gate_operation *op)
{
    MPI_Request *request = op->real_request;
    int rc = start(op);
    if (rc || (unsigned)*request >> 30 != 1)
        return rc;
    request_free(request);
    return GATE_COMPLETED;
}

static void post(const struct gate_operation *ops, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (start(&ops[i]))
            *(MPI_Request *)ops[i].real_request = MPI_REQUEST_NULL;
}

static int send_wait(const struct gate_operation *op)
{
    struct gate_status st;
    int rc = isend(op);
    if (rc == GATE_COMPLETED)
        return MPI_SUCCESS;
    return rc ? rc : wait_one(op->real_request, &st);
}

static int recv_wait(const struct gate_operation *op, struct gate_status *st)
{
    int rc = start(op);
    return rc ? rc : wait_one(op->real_request, st);
}

static int probe_wait(uint32_t how, int source, int tag, long comm, void *real_message, int *flag,
                      struct gate_status *st)
{
    struct backoff b = {.brief = how & GATE_COMPLETE_BRIEF};
    MPI_Status m = {.MPI_SOURCE = MPI_ANY_SOURCE, .MPI_TAG = MPI_ANY_TAG};
    do {
        int rc = real_message ? improbe(source, tag, (MPI_Comm)comm, flag, real_message, &m)
                              : iprobe(source, tag, (MPI_Comm)comm, flag, &m);
        if (rc)
            return rc;
        if (*flag)
            status_fill(st, &m, MPI_SUCCESS);
        if (*flag || !(how & GATE_COMPLETE_WAIT))
            return MPI_SUCCESS;
    } while (wait_turn(&b) == 0);
    return GATE_EAGAIN;
}

void p2p_loops_install(struct gate *g)
{
    mpi = g->mpi;
    testany = (__typeof__(testany))mpi[CALL_MPI_Testany];
    request_free = (__typeof__(request_free))mpi[CALL_MPI_Request_free];
    iprobe = (__typeof__(iprobe))mpi[CALL_MPI_Iprobe];
    improbe = (__typeof__(improbe))mpi[CALL_MPI_Improbe];
    g->wait_any = wait_any;
    g->complete = complete;
    g->isend = isend;
    g->post = post;
    g->send = send_wait;
    g->recv = recv_wait;
    g->probe = probe_wait;
}
