/*
 * test_p2p.c - requests, drained messages, counters, collectives; point to point in the log
 *
 * The whole stub over a lower half of this file: a table of operations that complete when a test
 * says so. Rank 0 of 4. Each test runs in a process of its own, with a fresh gate.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "msgcounter/stub/coll.h"
#include "msgcounter/stub/complete.h"
#include "msgcounter/stub/count.h"
#include "msgcounter/stub/drain.h"
#include "msgcounter/stub/init.h"
#include "msgcounter/stub/p2p.h"
#include "msgcounter/stub/attr.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/stub.h"
#include "tests/unit/unit.h"

enum { RANKS = 4, OPS = 64 };

/* ------------------------------------------------------------------------------- the lower half */

static struct op {
    bool recv, done;
    void *buf;
    long bytes;
    int peer, tag;
    struct gate_status status;
} ops[OPS]; /* real request i + 1 */

static struct arrival {
    int source, tag, value;
    bool taken;
} arrivals[OPS];

static int nops, narrivals, crossings;
static void (*on_wait)(void); /* what happens while a call waits */

/* A message for receive number i, as MPI would complete it. */
static void finish_recv(int i, int source, int tag, int value)
{
    memcpy(ops[i].buf, &value, sizeof value);
    ops[i].status = (struct gate_status){.source = source, .tag = tag, .bytes = sizeof value};
    ops[i].done = true;
}

static int start_op(bool recv, const void *buf, long n, int peer, int tag, int *real)
{
    ck_assert_int_lt(nops, OPS);
    crossings++;
    ops[nops] = (struct op){
        .recv = recv, .done = !recv, .buf = (void *)buf, .bytes = n, .peer = peer, .tag = tag};
    *real = ++nops;
    return MPI_SUCCESS;
}

static int fake_isend(const void *buf, long n, int type, int dest, int tag, int comm, int *real)
{
    if (dest >= RANKS)
        return MPI_ERR_RANK;
    return start_op(false, buf, n, dest, tag, real);
}

static int fake_irecv(void *buf, long n, int type, int source, int tag, int comm, int *real)
{
    return start_op(true, buf, n, source, tag, real);
}

/* The messages of matching probes are their arrivals' numbers, and are received at once. */
static int fake_imrecv(void *buf, long n, int type, int *message, int *real)
{
    const struct arrival *a = &arrivals[*message - 1];
    start_op(true, buf, n, a->source, a->tag, real);
    finish_recv(*real - 1, a->source, a->tag, a->value);
    return MPI_SUCCESS;
}

static int look(int n, int *real, struct gate_status *st, bool first_only)
{
    int done = 0;
    for (int i = 0; i < n; i++) {
        st[i].error = GATE_PENDING;
        if (!ops[real[i] - 1].done || (first_only && done))
            continue;
        st[i] = ops[real[i] - 1].status;
        real[i] = MPI_REQUEST_NULL;
        done++;
    }
    return done;
}

static int fake_complete(uint32_t how, int n, void *reals, struct gate_status *st)
{
    int real[OPS], done;
    crossings++;
    for (;;) {
        memcpy(real, reals, (size_t)n * sizeof *real);
        done = look(n, real, st, !(how & (GATE_COMPLETE_ALL | GATE_COMPLETE_SOME)));
        if (!(how & GATE_COMPLETE_WAIT) || (how & GATE_COMPLETE_ALL ? done == n : done > 0))
            return done;
        if (GATE->word & GATE_WORD_PARK)
            return GATE_EAGAIN;
        ck_assert_msg(on_wait != NULL, "waits for ever");
        on_wait();
    }
}

static int fake_start_send(const struct gate_operation *op)
{
    return fake_isend(op->buf, op->count, 0, op->peer, op->tag, 0, op->real_request);
}

static int fake_send(const struct gate_operation *op)
{
    struct gate_status st;
    int rc = fake_start_send(op);
    if (rc)
        return rc;
    rc = fake_complete(GATE_COMPLETE_ALL | GATE_COMPLETE_WAIT, 1, op->real_request, &st);
    return rc < 0 ? rc : st.error;
}

static void fake_post(const struct gate_operation *recvs, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        start_op(true, recvs[i].buf, recvs[i].count, recvs[i].peer, recvs[i].tag,
                 recvs[i].real_request);
}

static int fake_recv(const struct gate_operation *op, struct gate_status *st)
{
    fake_post(op, 1);
    int rc = fake_complete(GATE_COMPLETE_ALL | GATE_COMPLETE_WAIT, 1, op->real_request, st);
    return rc < 0 ? rc : st->error;
}

static int fake_probe(uint32_t how, int source, int tag, long comm, void *message, int *flag,
                      struct gate_status *st)
{
    crossings++;
    *flag = 0;
    for (int i = 0; i < narrivals && !*flag && comm == MPI_COMM_WORLD; i++) {
        struct arrival *a = &arrivals[i];
        if (a->taken || (source != MPI_ANY_SOURCE && source != a->source) ||
            (tag != MPI_ANY_TAG && tag != a->tag))
            continue;
        *flag = 1;
        *st = (struct gate_status){.source = a->source, .tag = a->tag, .bytes = sizeof a->value};
        if (message) {
            a->taken = true;
            *(int *)message = i + 1;
        }
    }
    if (*flag || !(how & GATE_COMPLETE_WAIT))
        return MPI_SUCCESS;
    if (message)
        *(int *)message = MPI_MESSAGE_NULL;
    GATE->word |= GATE_WORD_PARK;
    return GATE_EAGAIN;
}

static void arrive(int source, int tag, int value)
{
    arrivals[narrivals++] = (struct arrival){source, tag, value, false};
}

/* --------------------------------------------------------------------------- the log, in memory */

static struct log_map segment;

static int fake_log_segment(uint64_t min, uint64_t first, void **base, uint64_t *bytes,
                            uint64_t *number)
{
    ck_assert_ptr_null(segment.base);
    segment = (struct log_map){calloc(1, 1 << 20), 1 << 20};
    *base = segment.base;
    *bytes = segment.size;
    return 0;
}

/* When the stub stops the rank, the test's process ends: with 42 if the text was expected. */
static const char *expected_stop;

static int fake_stop(int code, const char *text)
{
    if (!expected_stop)
        fprintf(stderr, "stopped: %s\n", text);
    _exit(expected_stop && strstr(text, expected_stop) ? 42 : 99);
}

/* ---------------------------------------------------------------------------- fixture and calls */

static void *mpi[CALL_COUNT];
static void (*at_safe_point)(void);

static void fake_safe_point(void)
{
    GATE->word &= ~(uint32_t)GATE_WORD_PARK;
    if (at_safe_point)
        at_safe_point();
}

static void set_up(void)
{
    struct gate *g = mmap((void *)GATE_ADDR, GATE_SIZE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    ck_assert_ptr_eq(g, GATE);
    mpi[CALL_MPI_Isend] = mpi[CALL_MPI_Isend_c] = (void *)fake_isend;
    mpi[CALL_MPI_Irecv] = (void *)fake_irecv;
    mpi[CALL_MPI_Imrecv_c] = mpi[CALL_MPI_Imrecv] = (void *)fake_imrecv;
    *g = (struct gate){.magic = GATE_MAGIC,
                       .flags = GATE_FLAG_SAME_FS,
                       .generation = 1,
                       .main_tid = (uint64_t)gettid(),
                       .mpi = mpi,
                       .complete = fake_complete,
                       .isend = fake_start_send,
                       .post = fake_post,
                       .send = fake_send,
                       .recv = fake_recv,
                       .probe = fake_probe,
                       .log_segment = fake_log_segment,
                       .stop = fake_stop,
                       .safe_point = fake_safe_point};
    stub_active = true;
    comm_start(0, RANKS);
    count_start(0, RANKS);
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
}

static MPI_Request irecv(int *out, int source, int tag)
{
    MPI_Request r;
    ck_assert_int_eq(MPI_Irecv(out, 4, MPI_BYTE, source, tag, MPI_COMM_WORLD, &r), 0);
    return r;
}

static MPI_Request isend(const int *value, int dest, int tag)
{
    MPI_Request r;
    ck_assert_int_eq(MPI_Isend(value, 4, MPI_BYTE, dest, tag, MPI_COMM_WORLD, &r), 0);
    return r;
}

static void expect(const int *expected, int result)
{
    uint64_t want[RANKS];
    for (int i = 0; i < RANKS; i++)
        want[i] = (uint64_t)expected[i];
    int rc = 0;
    for (int i = 0; i < 10 && rc == 0; i++)
        rc = drain_step(want, RANKS);
    ck_assert_int_eq(rc, result);
}

/* ----------------------------------------------------------------------------------------- live */

START_TEST(counts)
{
    int out = 7, in = 0;
    MPI_Status st;
    MPI_Request r[2] = {irecv(&in, MPI_ANY_SOURCE, 5), isend(&out, 2, 6)};
    finish_recv(0, 3, 5, 99);
    ck_assert_uint_eq(count.sent[2], 1);
    ck_assert_uint_eq(count.taken[3], 0);
    ck_assert_uint_eq(count.file->messages, 0);
    ck_assert_int_eq(MPI_Waitall(2, r, MPI_STATUSES_IGNORE), 0);
    ck_assert_int_eq(in, 99);
    ck_assert(r[0] == MPI_REQUEST_NULL && r[1] == MPI_REQUEST_NULL);
    ck_assert_uint_eq(count.taken[3], 1);
    ck_assert_uint_eq(count.file->messages, 2);
    ck_assert_uint_eq(count.file->peer[3].recv_bytes, 4);
    ck_assert_uint_eq(count.file->peer[2].sent_msgs, 1);
    ck_assert_int_eq(crossings, 3);
    ck_assert_int_eq(MPI_Wait(&r[0], &st), 0);
    ck_assert(st.MPI_SOURCE == MPI_ANY_SOURCE && st.MPI_TAG == MPI_ANY_TAG);
    ck_assert_int_eq(MPI_Send(&out, 4, MPI_BYTE, RANKS, 0, MPI_COMM_WORLD), MPI_ERR_RANK);
    ck_assert_uint_eq(count.file->messages, 2);
}
END_TEST

/* Ids come back, but not before a freed request's operation is done. */
START_TEST(ids)
{
    int in[3000], n = 0;
    MPI_Request a = irecv(&in[0], 1, 1), b = irecv(&in[1], 1, 2), freed = a;
    ck_assert_int_eq(MPI_Request_free(&freed), 0);
    ck_assert_int_eq(freed, MPI_REQUEST_NULL);
    MPI_Request c = irecv(&in[2], 1, 3);
    ck_assert(c != a && c != b);
    finish_recv(0, 1, 1, 5);
    finish_recv(1, 1, 2, 6);
    ck_assert_int_eq(MPI_Wait(&b, MPI_STATUS_IGNORE), 0);
    ck_assert_int_eq(in[0], 5);
    ck_assert_uint_eq(count.taken[1], 2);
    ck_assert_uint_eq(request_nleft, 0);
    MPI_Request bad = a;
    ck_assert_int_eq(MPI_Wait(&bad, MPI_STATUS_IGNORE), MPI_ERR_REQUEST);
    struct request *all[3000];
    for (n = 0; n < 3000; n++)
        all[n] = request_new(REQUEST_OTHER, CALL_MPI_Ibarrier, 0);
    for (int i = 0; i < n; i++)
        ck_assert_ptr_eq(request_of(all[i]->head.id), all[i]);
    int id = all[1500]->head.id;
    for (int i = 0; i < n; i++)
        request_delete(all[i]);
    ck_assert_ptr_null(request_of(id));
    ck_assert_int_eq(request_new(REQUEST_OTHER, CALL_MPI_Ibarrier, id)->head.id, id);
}
END_TEST

/* What completes beside the one that a Waitany returns is kept for the next call. */
START_TEST(any_and_some)
{
    int in[4], index, flag, n, indices[4];
    MPI_Request r[4];
    MPI_Status st[4];
    for (int i = 0; i < 4; i++)
        r[i] = irecv(&in[i], 1, i);
    ck_assert_int_eq(MPI_Testany(4, r, &index, &flag, st), 0);
    ck_assert_int_eq(flag, 0);
    ck_assert_int_eq(MPI_Testsome(4, r, &n, indices, st), 0);
    ck_assert_int_eq(n, 0);
    finish_recv(2, 1, 2, 22);
    finish_recv(3, 1, 3, 33);
    ck_assert_int_eq(MPI_Testall(4, r, &flag, st), 0); /* settles two, delivers none */
    ck_assert_int_eq(flag, 0);
    ck_assert_uint_eq(count.file->messages, 0);
    ck_assert_int_eq(MPI_Waitany(4, r, &index, st), 0);
    ck_assert_int_eq(index, 2);
    ck_assert_int_eq(st[0].MPI_TAG, 2);
    finish_recv(0, 1, 0, 0);
    ck_assert_int_eq(MPI_Waitsome(4, r, &n, indices, st), 0);
    ck_assert_int_ge(n, 1);
    ck_assert_int_eq(MPI_Testsome(4, r, &index, indices, st), 0);
    finish_recv(1, 1, 1, 11);
    ck_assert_int_eq(MPI_Waitall(4, r, st), 0);
    ck_assert_int_eq(st[1].MPI_TAG, 1);
    ck_assert_int_eq(MPI_Waitsome(4, r, &n, indices, st), 0);
    ck_assert_int_eq(n, MPI_UNDEFINED);
    ck_assert_int_eq(in[0] + in[1] + in[2] + in[3], 66);
    ck_assert_uint_eq(count.file->messages, 4);
}
END_TEST

START_TEST(errors_in_status)
{
    int in[2];
    MPI_Request r[2] = {irecv(&in[0], 1, 1), irecv(&in[1], 1, 2)};
    MPI_Status st[2];
    finish_recv(0, 1, 1, 5);
    finish_recv(1, 1, 2, 6);
    ops[1].status.error = MPI_ERR_TRUNCATE;
    ck_assert_int_eq(MPI_Waitall(2, r, st), MPI_ERR_IN_STATUS);
    ck_assert_int_eq(st[0].MPI_ERROR, MPI_SUCCESS);
    ck_assert_int_eq(st[1].MPI_ERROR, MPI_ERR_TRUNCATE);
    ck_assert(r[0] == MPI_REQUEST_NULL && r[1] == MPI_REQUEST_NULL);
    ck_assert_uint_eq(count.taken[1], 2);
}
END_TEST

/* Room in the attached buffer is taken until the message has left. */
START_TEST(buffered)
{
    char buffer[2 * (4 + MPI_BSEND_OVERHEAD)];
    int value = 3, size;
    void *address;
    ck_assert_int_eq(MPI_Bsend(&value, 4, MPI_BYTE, 1, 0, MPI_COMM_WORLD), MPI_ERR_BUFFER);
    ck_assert_int_eq(MPI_Buffer_attach(buffer, sizeof buffer), 0);
    for (int i = 0; i < 3; i++) {
        int rc = MPI_Bsend(&value, 4, MPI_BYTE, 1, 0, MPI_COMM_WORLD);
        ck_assert_int_eq(rc, i < 2 ? MPI_SUCCESS : MPI_ERR_BUFFER);
        if (i < 2)
            ops[i].done = false;
    }
    ck_assert_ptr_ne(ops[0].buf, &value);
    ck_assert_int_eq(memcmp(ops[0].buf, &value, 4), 0);
    ops[0].done = ops[1].done = true;
    ck_assert_int_eq(MPI_Buffer_detach(&address, &size), 0);
    ck_assert_ptr_eq(address, buffer);
    ck_assert_int_eq(request_buffered, 0);
    ck_assert_uint_eq(count.sent[1], 2);
    ck_assert_uint_eq(count.file->messages, 2);
}
END_TEST

/* -------------------------------------------------------- receives that the next crossing posts */

START_TEST(posts_wait)
{
    int in[2], out = 1, flag;
    attr_predefined.value[0] = 1000; /* MPI_TAG_UB */
    MPI_Request r[3] = {irecv(&in[0], 1, 5), irecv(&in[1], MPI_ANY_SOURCE, 6)};
    ck_assert_int_eq(crossings, 0);
    r[2] = isend(&out, 2, 7); /* posts both, in their order, and is complete itself */
    ck_assert_int_eq(nops, 3);
    ck_assert(ops[0].tag == 5 && ops[1].tag == 6 && !ops[2].recv);
    finish_recv(0, 1, 5, 55);
    finish_recv(1, 3, 6, 66);
    ck_assert_int_eq(MPI_Waitall(3, r, MPI_STATUSES_IGNORE), 0);
    ck_assert(in[0] == 55 && in[1] == 66);
    r[0] = irecv(&in[0], 1, 1001); /* for MPI to refuse, or not */
    ck_assert_int_eq(nops, 4);
    r[1] = irecv(&in[1], 1, 8);
    ck_assert_int_eq(nops, 4);
    ck_assert_int_eq(MPI_Test(&r[1], &flag, MPI_STATUS_IGNORE), 0);
    ck_assert(!flag && nops == 5);
    r[2] = irecv(&in[1], 1, 9);
    expect((int[]){0, 1, 0, 1}, 1); /* a drain posts what waits */
    ck_assert_int_eq(nops, 6);
}
END_TEST

START_TEST(posts_meet_own_sends)
{
    int in[4] = {0}, out[2] = {11, 12};
    MPI_Status st[2];
    attr_predefined.value[0] = 1000;
    MPI_Request r[4] = {irecv(&in[0], 0, 1), irecv(&in[1], MPI_ANY_SOURCE, MPI_ANY_TAG),
                        irecv(&in[2], 0, 2)};
    ck_assert_int_eq(MPI_Send(&out[0], 4, MPI_BYTE, 0, 2, MPI_COMM_WORLD), 0);
    r[3] = isend(&out[1], 0, 1);
    ck_assert_int_eq(nops, 0);
    ck_assert(in[1] == 11 && in[0] == 12); /* by order of posting, not of sending */
    ck_assert_int_eq(MPI_Waitall(2, r, st), 0);
    ck_assert(st[1].MPI_SOURCE == 0 && st[1].MPI_TAG == 2);
    ck_assert_int_eq(MPI_Wait(&r[3], MPI_STATUS_IGNORE), 0);
    ck_assert_int_eq(crossings, 0);
    ck_assert(count.sent[0] == 2 && count.taken[0] == 2 && count.file->messages == 4);

    /* too long for the receive: MPI shall say so */
    ck_assert_int_eq(MPI_Send(in, 8, MPI_BYTE, 0, 2, MPI_COMM_WORLD), 0);
    ck_assert(nops == 2 && ops[0].recv);
    /* now that a message and a receive are below, nothing may pass them */
    r[1] = irecv(&in[1], 0, 2);
    ck_assert_int_eq(MPI_Send(&out[0], 4, MPI_BYTE, 0, 2, MPI_COMM_WORLD), 0);
    ck_assert_int_eq(nops, 4);
    finish_recv(0, 0, 2, 7);
    finish_recv(2, 0, 2, 8);
    ck_assert_int_eq(MPI_Wait(&r[2], MPI_STATUS_IGNORE), 0);
    ck_assert_int_eq(MPI_Wait(&r[1], MPI_STATUS_IGNORE), 0);
}
END_TEST

/* ---------------------------------------------------------------------------- drain and restart */

START_TEST(drained_messages)
{
    int in = 0, flag;
    MPI_Status st;
    MPI_Message m;
    MPI_Request posted = irecv(&in, 1, 8);
    finish_recv(0, 1, 8, 80);
    arrive(1, 5, 50);
    arrive(2, 5, 51);
    arrive(1, 6, 60);
    expect((int[]){0, 4, 1, 0}, 0);
    arrive(1, 7, 70);
    expect((int[]){0, 4, 1, 0}, 1);
    ck_assert_uint_eq(p2p_drained.count, 4);
    int before = crossings;
    ck_assert_int_eq(MPI_Iprobe(MPI_ANY_SOURCE, 6, MPI_COMM_WORLD, &flag, &st), 0);
    ck_assert(flag && st.MPI_SOURCE == 1);
    ck_assert_int_eq(MPI_Recv(&in, 4, MPI_BYTE, MPI_ANY_SOURCE, 5, MPI_COMM_WORLD, &st), 0);
    ck_assert(in == 50 && st.MPI_SOURCE == 1);
    ck_assert_int_eq(MPI_Mprobe(1, MPI_ANY_TAG, MPI_COMM_WORLD, &m, &st), 0);
    ck_assert_int_eq(st.MPI_TAG, 6);
    ck_assert_int_eq(MPI_Mrecv(&in, 4, MPI_BYTE, &m, &st), 0);
    ck_assert(in == 60 && m == MPI_MESSAGE_NULL);
    ck_assert_int_eq(MPI_Recv(&in, 2, MPI_BYTE, 1, 7, MPI_COMM_WORLD, &st), MPI_ERR_TRUNCATE);
    MPI_Request r = irecv(&in, MPI_ANY_SOURCE, MPI_ANY_TAG);
    ck_assert_int_eq(MPI_Wait(&r, &st), 0);
    ck_assert(in == 51 && st.MPI_SOURCE == 2);
    in = 80;
    ck_assert_int_eq(MPI_Wait(&posted, &st), 0);
    ck_assert_int_eq(st.MPI_TAG, 8);
    ck_assert_int_eq(crossings, before);
    ck_assert_uint_eq(count.taken[1], 4); /* each message once */
}
END_TEST

/* A message that was matched before the cut, and more messages than there can be. */
START_TEST(drain_matched)
{
    int in = 0;
    MPI_Message m;
    MPI_Status st;
    arrive(3, 1, 31);
    ck_assert_int_eq(MPI_Mprobe(3, 1, MPI_COMM_WORLD, &m, &st), 0);
    expect((int[]){0, 0, 0, 1}, 1);
    ck_assert_int_eq(MPI_Mrecv(&in, 4, MPI_BYTE, &m, &st), 0);
    ck_assert(in == 31 && st.MPI_SOURCE == 3);
    ck_assert_uint_eq(count.taken[3], 1);
    arrive(3, 1, 32);
    expect((int[]){0, 0, 0, 1}, -71 /* EPROTO */);
}
END_TEST

/* A probe waits through a cut, which drains what it waits for; a second cut finds nothing to do. */
static void drain_one(void)
{
    arrive(2, 4, 44);
    expect((int[]){0, 0, 1, 0}, 1);
}

START_TEST(cut_in_probe)
{
    int in = 0;
    MPI_Message m;
    MPI_Status st;
    at_safe_point = drain_one;
    ck_assert_int_eq(MPI_Mprobe(MPI_ANY_SOURCE, 4, MPI_COMM_WORLD, &m, &st), 0);
    ck_assert_int_eq(st.MPI_SOURCE, 2);
    expect((int[]){0, 0, 1, 0}, 1);
    ck_assert_int_eq(MPI_Mrecv(&in, 4, MPI_BYTE, &m, &st), 0);
    ck_assert_int_eq(in, 44);
}
END_TEST

/* A receive that waits through a cut: drained, posted again in another library, completed there. */
static int reposted_from;

static void restart(void)
{
    expect((int[]){0, 0, 0, 0}, 1);
    reposted_from = nops;
    ck_assert_int_eq(request_rebuild(), 0);
    at_safe_point = NULL;
    on_wait = NULL;
    ck_assert_int_eq(nops, reposted_from + 3);
    for (int i = 0; i < 3; i++)
        finish_recv(reposted_from + i, 1, ops[reposted_from + i].tag, 100 + i);
}

static void park(void)
{
    GATE->word |= GATE_WORD_PARK;
}

START_TEST(restart_in_receive)
{
    int in[3];
    MPI_Request r[2] = {irecv(&in[0], 1, 4), irecv(&in[1], 1, 3)};
    MPI_Status st;
    on_wait = park;
    at_safe_point = restart;
    ck_assert_int_eq(MPI_Recv(&in[2], 4, MPI_BYTE, 1, 9, MPI_COMM_WORLD, &st), 0);
    ck_assert_int_eq(st.MPI_TAG, 9);
    ck_assert_int_eq(MPI_Waitall(2, r, MPI_STATUSES_IGNORE), 0);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(in[i], 100 + i); /* posted in the old order */
    ck_assert_int_eq(ops[reposted_from].tag, 4);
}
END_TEST

/* ------------------------------------------------------------------------------ counts that ask */

static int wanted;

static void want(void)
{
    wanted++;
}

START_TEST(due)
{
    int value = 1;
    GATE->mode = GATE_RECORD;
    GATE->settings.fine_every = 3;
    GATE->settings.epoch_every = 4;
    GATE->want_epoch = want;
    record_attach();
    count_after_save(0);
    for (int i = 1; i <= 12; i++) {
        GATE->word = 0;
        stub_thread.inside = 1; /* as if below a call: the word is not consumed */
        ck_assert_int_eq(MPI_Send(&value, 4, MPI_BYTE, 1, 0, MPI_COMM_WORLD), 0);
        ck_assert_int_eq(!!(GATE->word & GATE_WORD_FINE), i % 3 == 0);
        ck_assert_int_eq(wanted, i / 4);
    }
}
END_TEST

static struct gate_coll asked;
static int asks, lefts;

static int fake_enter(uint64_t gid, uint32_t members, uint64_t entered)
{
    int n = coll_list(&asked, 1);
    ck_assert_int_eq(n, 1);
    ck_assert_uint_eq(asked.gid, gid);
    ck_assert_uint_eq(asked.entered, entered);
    ck_assert_uint_eq(asked.inside, 1);
    return asks++ == 0 ? GATE_EAGAIN : 0;
}

static int fake_leave(uint64_t gid, uint32_t members, uint64_t entered)
{
    lefts++;
    return 0;
}

START_TEST(collectives)
{
    struct gate_coll c[4];
    GATE->coll_enter = fake_enter;
    GATE->coll_leave = fake_leave;
    coll_begin(CALL_MPI_Barrier, &comm_world);
    coll_end(CALL_MPI_Barrier, &comm_world);
    ck_assert_int_eq(asks, 0);
    GATE->word = GATE_WORD_INTENT;
    coll_begin(CALL_MPI_Barrier, &comm_world);
    ck_assert_int_eq(asks, 2);
    coll_end(CALL_MPI_Barrier, &comm_world);
    ck_assert_int_eq(lefts, 1);
    coll_begin(CALL_MPI_Barrier, &comm_self);
    coll_end(CALL_MPI_Barrier, &comm_self);
    ck_assert_int_eq(asks, 2);
    ck_assert_int_eq(coll_list(c, 4), 1);
    ck_assert(c[0].gid == comm_world.gid && c[0].entered == 2 && c[0].inside == 0);
    ck_assert_uint_eq(c[0].members, RANKS);
    ck_assert_uint_eq(count.file->collectives, 3);
    GATE->word = 0;
}
END_TEST

static uint64_t entered_in_all(void)
{
    struct gate_coll all[200];
    uint64_t sum = 0;
    for (int i = 0, n = coll_list(all, 200); i < n; i++)
        sum += all[i].entered;
    return sum;
}

/* What is freed is not listed, and not lost: its group has counted it. */
START_TEST(collectives_freed)
{
    struct gate_coll all[200];
    static struct comm many[100];
    int before = coll_list(all, 200);
    for (int i = 0; i < 100; i++) {
        many[i] = (struct comm){.gid = 1000u + (unsigned)i, .group = 7, .size = 2};
        coll_comm_made(&many[i]);
        coll_begin(CALL_MPI_Ibarrier, &many[i]);
        coll_end(CALL_MPI_Ibarrier, &many[i]);
        uint64_t entered = entered_in_all();
        if (i % 2) {
            coll_comm_freed(&many[i]);
            coll_comm_freed(&many[i]);
        }
        ck_assert_uint_eq(entered_in_all(), entered);
    }
    ck_assert_int_eq(coll_list(all, 200), before + 2 + 50);
    static struct comm persistent = {.gid = 2000, .size = 2};
    coll_known(&persistent, false);
    coll_forget_later(&persistent);
    ck_assert_int_eq(coll_list(all, 200), before + 2 + 50 + 1);
    coll_forget_freed();
    ck_assert_int_eq(coll_list(all, 200), before + 2 + 50);
}
END_TEST

/* ---------------------------------------------------------------------------- record and replay */

/* A small program: what it receives depends on the lower half alone. */
static int program(int send_value)
{
    int in[3] = {0}, flag, polls = 0, index;
    MPI_Request r[2] = {irecv(&in[0], MPI_ANY_SOURCE, 1), irecv(&in[1], 2, 2)};
    MPI_Status st;
    MPI_Send(&send_value, 4, MPI_BYTE, 1, 7, MPI_COMM_WORLD);
    do {
        MPI_Test(&r[0], &flag, &st);
        if (++polls == 5 && GATE->mode == GATE_RECORD)
            finish_recv(0, 3, 1, 1000);
    } while (!flag);
    if (GATE->mode == GATE_RECORD) {
        finish_recv(1, 2, 2, 2000);
        arrive(1, 3, 3000);
    }
    MPI_Waitany(2, r, &index, MPI_STATUS_IGNORE);
    MPI_Message m;
    MPI_Improbe(1, 3, MPI_COMM_WORLD, &flag, &m, MPI_STATUS_IGNORE);
    MPI_Mrecv(&in[2], 4, MPI_BYTE, &m, MPI_STATUS_IGNORE);
    return in[0] + in[1] + in[2] + polls * 10 + index + st.MPI_SOURCE * 100000;
}

static int recorded;

static void record_program(void)
{
    GATE->mode = GATE_RECORD;
    record_attach();
    recorded = program(42);
    record_flush();
    ck_assert_int_eq(recorded, 306000 + 60 + 1);
    GATE->mode = GATE_REPLAY;
    GATE->generation++;
    GATE->replay_segments = &segment;
    GATE->replay_nsegments = 1;
    /* From the start of the log, as an image that was saved then would. */
    record_writer.at = (struct log_position){.offset = LOG_FIRST_OFFSET};
    stub_thread.cursor_valid = 0;
    record_attach();
}

START_TEST(replay)
{
    record_program();
    int before = crossings;
    ck_assert_int_eq(program(42), recorded);
    ck_assert_int_eq(crossings, before);
    ck_assert_ptr_null(replay_peek());
}
END_TEST

START_TEST(replay_other_data)
{
    record_program();
    expected_stop = "MPI_Send to 1 tag 7 has other data than recorded";
    program(43);
}
END_TEST

START_TEST(replay_end)
{
    int in;
    record_program();
    program(42);
    expected_stop = "end of recording";
    MPI_Recv(&in, 4, MPI_BYTE, 1, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}
END_TEST

int main(void)
{
    TCase *t = tcase_create("p2p");
    tcase_add_checked_fixture(t, set_up, NULL);
    tcase_add_test(t, counts);
    tcase_add_test(t, ids);
    tcase_add_test(t, any_and_some);
    tcase_add_test(t, errors_in_status);
    tcase_add_test(t, buffered);
    tcase_add_test(t, posts_wait);
    tcase_add_test(t, posts_meet_own_sends);
    tcase_add_test(t, drained_messages);
    tcase_add_test(t, drain_matched);
    tcase_add_test(t, cut_in_probe);
    tcase_add_test(t, restart_in_receive);
    tcase_add_test(t, due);
    tcase_add_test(t, collectives);
    tcase_add_test(t, collectives_freed);
    tcase_add_test(t, replay);
    tcase_add_exit_test(t, replay_other_data, 42);
    tcase_add_exit_test(t, replay_end, 42);
    Suite *s = suite_create("p2p");
    suite_add_tcase(s, t);
    return unit_run(s);
}
