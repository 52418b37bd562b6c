/*
 * drain.c - bringing into the upper half what is on its way
 *
 * All ranks are parked and each knows how many messages its peers have sent it. A step makes progress on
 * what is pending and takes what has come:
 *
 *  - posted receives take their messages themselves, into the application's buffers;
 *  - what no receive is posted for is taken by matching probes, as packed bytes, in order of arrival;
 *  - messages that the application has matched but not received keep their identity and get their data;
 *  - sends and non-blocking collectives complete, as every peer drains too.
 *
 * Receives that are still pending afterwards have no message under way. No message in the queue fits one
 * of them: MPI would have given it to them.
 */
#include "msgcounter/stub/drain.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/complete.h"
#include "msgcounter/stub/count.h"
#include "msgcounter/stub/p2p.h"

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

/* Takes all that has come on a communicator and nobody has posted a receive for. The queue keeps the order of
 * arrival, so a message goes there before its data is whole. */
static int take_arrived(const struct comm *c)
{
    for (;;) {
        struct gate_status st;
        int flag = 0, real = 0;
        if (cross(GATE->probe, 0, (uint64_t)MPI_ANY_SOURCE, (uint64_t)MPI_ANY_TAG, p2p_real_comm(c),
                  (uint64_t)&real, (uint64_t)&flag, (uint64_t)&st))
            return say("a communicator could not be probed for the checkpoint", -EIO);
        if (!flag)
            return 0;
        struct match_message *m = match_new(&p2p_drained, st.bytes);
        m->comm = c->gid;
        m->source = st.source;
        m->tag = st.tag;
        match_add(&p2p_drained, m);
        int rc = receive_matched(real, m, comm_world_rank(c, st.source));
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

/* ----------------------------------------------------------------------- the application's requests */

#define BATCH 64

/* Tests every pending request once. */
static void progress_pending(void)
{
    struct request *batch[BATCH], *r = request_pending.next;
    while (r != &request_pending) {
        int n = 0;
        while (r != &request_pending && n < BATCH) {
            if (r->head.real)
                batch[n++] = r;
            r = r->next; /* not in the batch any more: settling it does not move this one */
        }
        if (n)
            requests_settle(GATE_COMPLETE_ALL, n, batch);
    }
}

/* Sends and collectives must be done; a receive may wait for a message that is yet to be sent. */
static bool pending_allowed(void)
{
    for (const struct request *r = request_pending.next; r != &request_pending; r = r->next)
        if (r->kind != REQUEST_RECV)
            return false;
    return true;
}

int drain_step(const uint64_t *expected, int nranks)
{
    int rc = 0;
    progress_pending();
    handle_each(HANDLE_MESSAGE, take_matched, &rc);
    bool self = false;
    for (const struct comm *c = comm_first(); c && !rc; c = c->next) {
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
            return say("more messages have arrived than were sent: no checkpoint possible", -EPROTO);
        if (count.taken[w] < expected[w])
            return 0;
    }
    return !incoming && (!expected || pending_allowed());
}

int request_rebuild(void)
{
    for (struct request *r = request_pending.next; r != &request_pending; r = r->next) {
        if (r->kind != REQUEST_RECV)
            return say("an operation was still pending in the checkpoint", -EPROTO);
        r->head.real = 0;
        if (p2p_start_real(r))
            return say("a pending receive could not be posted again", -EIO);
    }
    return 0;
}
