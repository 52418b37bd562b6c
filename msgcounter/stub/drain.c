/*
 * drain.c - bringing into the upper half what is on its way
 *
 * All ranks are parked and each knows how many messages its peers have sent it. A step makes
 * progress on what is pending and takes what has come:
 *
 *  - posted receives take their messages themselves, into the application's buffers;
 *  - what no receive is posted for is taken by matching probes, as packed bytes, in order of
 *  arrival;
 *  - messages that the application has matched but not received keep their identity and get their
 *  data;
 *  - sends and non-blocking collectives complete, as every peer drains too.
 *
 * Receives that are still pending afterwards have no message under way. No message in the queue
 * fits one of them: MPI would have given it to them.
 */
#include "msgcounter/stub/drain.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/complete.h"
#include "msgcounter/stub/count.h"
#include "msgcounter/stub/file.h"
#include "msgcounter/stub/order.h"
#include "msgcounter/stub/p2p.h"
#include "msgcounter/stub/post.h"

/* The receives of a drain: their requests are no requests of the application. */
struct incoming {
    struct incoming *next;
    int real;
    int world;
    int64_t bytes;
};

static struct incoming *incoming;

static int say(const char *text, int rc)
{
    char line[160];
    int n = snprintf(line, sizeof line, "dbg3: %s\n", text);
    return write(STDERR_FILENO, line, (size_t)n) < 0 ? rc : rc;
}

/* ------------------------------------------------------------------------------ taking messages */

/* Starts the receive of a matched message as bytes. Returns 0 or -EIO. */
static int receive_matched(int real_message, struct match_message *m, int world)
{
    struct incoming *in = stub_alloc(sizeof *in);
    int rc = mpi_cross(CALL_MPI_Imrecv_c, (uint64_t)m->data, (uint64_t)m->bytes, MPI_BYTE,
                       (uint64_t)&real_message, (uint64_t)&in->real);
    if (rc) {
        stub_free(in);
        return say("a message could not be received for the checkpoint", -EIO);
    }
    in->world = world;
    in->bytes = m->bytes;
    in->next = incoming;
    incoming = in;
    return 0;
}

/* Takes all that has come on a communicator and nobody has posted a receive for. The queue keeps
 * the order of arrival, so a message goes there before its data is whole. */
static int take_arrived(const struct comm *c)
{
    for (;;) {
        struct gate_status st;
        int flag = 0, real = 0;
        int rc =
            (int)cross(GATE->probe, 0, (uint64_t)MPI_ANY_SOURCE, (uint64_t)MPI_ANY_TAG,
                       p2p_real_comm(c), (uint64_t)&real, (uint64_t)&flag, (uint64_t)&st);
        if (rc)
            return say("a communicator could not be probed for the checkpoint", -EIO);
        if (!flag)
            return 0;
        struct match_message *m = match_new(&p2p_drained, st.bytes);
        m->comm = c->gid;
        m->source = st.source;
        m->tag = st.tag;
        match_add(&p2p_drained, m);
        rc = receive_matched(real, m, comm_world_rank(c, st.source));
        if (rc)
            return rc;
    }
}

static void take_matched(struct object *o, void *arg)
{
    struct message *m = (struct message *)o;
    int *rc = arg;
    if (!m->head.real || *rc)
        return;
    m->drained = match_new(&p2p_drained, m->bytes);
    m->drained->comm = m->comm->gid;
    m->drained->source = m->source;
    m->drained->tag = m->tag;
    *rc = receive_matched((int)m->head.real, m->drained, comm_world_rank(m->comm, m->source));
    m->head.real = 0;
}

/* Tests the receives that are under way. */
static void finish_incoming(void)
{
    struct incoming **p = &incoming;
    while (*p) {
        struct incoming *in = *p;
        struct gate_status st;
        cross(GATE->complete, GATE_COMPLETE_ALL, 1, (uint64_t)&in->real, (uint64_t)&st);
        if (st.error == GATE_PENDING) {
            p = &in->next;
            continue;
        }
        count_taken(in->world);
        *p = in->next;
        stub_free(in);
    }
}

/* ------------------------------------------------------------------ the application's requests */

#define BATCH 64

struct batch {
    const struct request *turn; /* of the collective operations on files, the one to be tested */
    int n;
    struct request *some[BATCH];
};

/* Each of ROMIO's consists of collectives that a test of its request starts when those before are
 * complete. Several at a time would start them in another order on each rank, and hang. */
static void find_turn(struct request *r, void *arg)
{
    struct batch *b = arg;
    if (r->state == REQUEST_PENDING && file_collective(r->start) &&
        (!b->turn || r->order < b->turn->order))
        b->turn = r;
}

static void test_batch(struct batch *b)
{
    if (b->n)
        requests_settle(GATE_COMPLETE_ALL, b->n, b->some);
    b->n = 0;
}

static void test_pending(struct request *r, void *arg)
{
    struct batch *b = arg;
    if (file_collective(r->start) && r != b->turn)
        return;
    if (r->state == REQUEST_PENDING && r->kind != REQUEST_GENERAL && request_real(r))
        b->some[b->n++] = r;
    if (b->n == BATCH)
        test_batch(b);
}

/* Tests every pending request once, but collective operations on files one after the other. */
static void progress_pending(void)
{
    struct batch b = {0};
    request_each(find_turn, &b);
    request_each(test_pending, &b);
    test_batch(&b);
}

/* Sends and collectives must be done; a receive may wait for a message that is yet to be sent. */
static void check_pending(struct request *r, void *arg)
{
    if (r->state == REQUEST_PENDING && r->kind != REQUEST_RECV && r->kind != REQUEST_GENERAL)
        *(bool *)arg = false;
}

static bool pending_allowed(void)
{
    bool allowed = true;
    request_each(check_pending, &allowed);
    return allowed;
}

int drain_step(const uint64_t *expected, int nranks)
{
    int rc = 0;
    progress_pending();
    handle_each(HANDLE_MESSAGE, take_matched, &rc);
    bool self = false;
    for (const struct comm *c = comm_first(); c && !rc; c = c->next) {
        if (!c->freed)
            rc = take_arrived(c);
        self |= c == &comm_self;
    }
    if (!rc && !self)
        rc = take_arrived(&comm_self);
    finish_incoming();
    if (rc)
        return rc;
    for (int w = 0; expected && w < nranks; w++) {
        if (count.taken[w] > expected[w])
            return say("more messages have arrived than were sent: no checkpoint possible",
                       -EPROTO);
        if (count.taken[w] < expected[w])
            return 0;
    }
    return !incoming && (!expected || pending_allowed());
}

/* ----------------------------------------------------------------------------- posting again */

struct search {
    struct request *next; /* the earliest that was started after `after` */
    uint64_t after;
};

static void find_next(struct request *r, void *arg)
{
    struct search *s = arg;
    if (r->state == REQUEST_PENDING && r->order > s->after &&
        (!s->next || r->order < s->next->order))
        s->next = r;
}

/* Each is found by a pass over the table: pending receives are few. */
void requests_each_pending(void (*fn)(struct request *r, void *arg), void *arg)
{
    struct search s = {0};
    while (s.next = NULL, request_each(find_next, &s), s.next) {
        s.after = s.next->order;
        fn(s.next, arg);
    }
}

static void rebuild(struct request *r, void *arg)
{
    int *rc = arg;
    if (*rc || r->kind == REQUEST_GENERAL)
        return;
    if (r->kind != REQUEST_RECV) {
        *rc = say("an operation was still pending in the checkpoint", -EPROTO);
        return;
    }
    r->head.real = 0;
    order_carry(r);
    if (r->comm->remnant) /* nothing can come any more; MPI shall take the receive all the same */
        r->from = MPI_ANY_SOURCE;
    if (p2p_start_real(r))
        *rc = say("a pending receive could not be posted again", -EIO);
}

int request_rebuild(void)
{
    int rc = 0;
    requests_each_pending(rebuild, &rc);
    return rc;
}

static void cancel(struct request *r, void *arg)
{
    if (r->kind != REQUEST_RECV)
        return;
    int real = (int)request_real(r);
    if (real)
        (void)mpi_cross(CALL_MPI_Cancel, (uint64_t)&real);
}

/* A cancelled receive completes by itself, as such or with the message that came before. */
static void settle_cancelled(struct request *r, void *arg)
{
    struct gate_status st = {.error = GATE_PENDING};
    if (r->kind != REQUEST_RECV || !r->head.real)
        return;
    while (st.error == GATE_PENDING)
        cross(GATE->complete, GATE_COMPLETE_ALL, 1, (uint64_t)&r->head.real, (uint64_t)&st);
    if (st.cancelled)
        r->head.real = 0;
    else
        request_settle_real(r, &st);
}

static void post_again(struct request *r, void *arg)
{
    if (r->kind != REQUEST_RECV)
        return;
    r->from = r->peer;
    if (p2p_start_recv(r))
        stub_stop(125, "a pending receive could not be posted again");
}

void requests_repost(void)
{
    requests_each_pending(cancel, NULL);
    requests_each_pending(settle_cancelled, NULL);
    requests_each_pending(post_again, NULL);
}
