/*
 * grequest.c - generalized requests
 */
#include "msgcounter/stub/grequest.h"

#include <time.h>

#include "call_hand.h"
#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/record.h"
#include "runtime/half/sys.h"

struct grequest {
    MPI_Grequest_query_function *query;
    MPI_Grequest_free_function *free;
    MPI_Grequest_cancel_function *cancel;
    MPIX_Grequest_poll_function *poll;
    MPIX_Grequest_wait_function *wait;
    void *state;
    bool fortran;
};

/* MPIX_Grequest_class_create makes them for good. */
static struct grequest *classes;
static int nclasses;

typedef void fortran_query(void *state, MPI_Status *status, MPI_Fint *error);
typedef void fortran_free(void *state, MPI_Fint *error);
typedef void fortran_cancel(void *state, MPI_Fint *complete, MPI_Fint *error);

static struct grequest *of(const struct request *r)
{
    return r->buf;
}

/* ------------------------------------------------------------------ the application's functions */

void grequest_query(struct request *r)
{
    struct grequest *g = of(r);
    MPI_Status s = {.MPI_SOURCE = MPI_ANY_SOURCE, .MPI_TAG = MPI_ANY_TAG};
    MPI_Fint error = MPI_SUCCESS;
    if (g->fortran)
        ((fortran_query *)(void *)g->query)(g->state, &s, &error);
    else
        error = g->query(g->state, &s);
    r->status = (struct gate_status){.source = s.MPI_SOURCE,
                                     .tag = s.MPI_TAG,
                                     .error = error,
                                     .cancelled = s.count_hi_and_cancelled & 1,
                                     .bytes = status_bytes(&s)};
}

/* Without a poll function there may be one that waits; it is given no time to. */
static void poll_one(struct grequest *g)
{
    MPI_Status s;
    if (g->poll)
        g->poll(g->state, &s);
    else
        g->wait(1, &g->state, 0.0, &s);
}

static bool polled(const struct request *r)
{
    return r && r->kind == REQUEST_GENERAL && r->state == REQUEST_PENDING &&
           (of(r)->poll || of(r)->wait);
}

static void poll_all(int n, struct request *const *req)
{
    for (int i = 0; i < n; i++)
        if (polled(req[i]))
            poll_one(of(req[i]));
}

bool grequest_poll(int n, struct request *const *req)
{
    const enum call event = CALL_MPIX_Grequest_class_create; /* which is none itself */
    const struct log_record *rec;
    int i = 0;
    while (i < n && !polled(req[i]))
        i++;
    if (i == n)
        return false;
    if (replaying()) {
        while ((rec = replay_peek()) && rec->call == event) {
            replay_next(event);
            poll_all(n, req);
        }
        return true;
    }
    if (recording()) {
        record_begin(event, 0);
        record_end(MPI_SUCCESS);
    }
    poll_all(n, req);
    return true;
}

static int let_free(const struct grequest *g)
{
    MPI_Fint error = MPI_SUCCESS;
    if (!g->fortran)
        return g->free(g->state);
    ((fortran_free *)(void *)g->free)(g->state, &error);
    return error;
}

static void forget(struct request *r)
{
    stub_free(of(r));
    r->buf = NULL;
}

int grequest_free(struct request *r)
{
    int rc = let_free(of(r));
    forget(r);
    return rc;
}

int grequest_cancel(struct request *r)
{
    struct grequest *g = of(r);
    int complete = r->state == REQUEST_COMPLETE;
    MPI_Fint error = MPI_SUCCESS;
    if (!g->fortran)
        return g->cancel(g->state, complete);
    ((fortran_cancel *)(void *)g->cancel)(g->state, &complete, &error);
    return error;
}

/* ------------------------------------------------------------------------------------ the calls */

static int start(enum call call, const struct grequest *like, MPI_Request *out)
{
    uint8_t at = (uint8_t)call_table[call].request;
    int id = 0;
    if (replaying())
        id = (int)log_field_int(replay_field(replay_next(call), at, LOG_ROLE_REQUEST));
    struct request *r = request_new(REQUEST_GENERAL, call, id);
    r->buf = stub_memdup(like, sizeof *like);
    r->peer = MPI_PROC_NULL;
    r->world = -1;
    if (recording()) {
        record_begin(call, LOG_FIELD_ROOM(4));
        log_put_i32(&record_writer, at, LOG_ROLE_REQUEST, r->head.id);
        record_end(MPI_SUCCESS);
    }
    *out = r->head.id;
    return MPI_SUCCESS;
}

/* The functions that the calls begin with; those of MPICH's extension have two more. */
static struct grequest functions(enum call call, const uint64_t *v)
{
    struct grequest g = {.query = (MPI_Grequest_query_function *)v[0],
                         .free = (MPI_Grequest_free_function *)v[1],
                         .cancel = (MPI_Grequest_cancel_function *)v[2]};
    if (call != CALL_MPI_Grequest_start) {
        g.poll = (MPIX_Grequest_poll_function *)v[3];
        g.wait = (MPIX_Grequest_wait_function *)v[4];
    }
    return g;
}

int hand_grequest_start(enum call call, const uint64_t *v)
{
    struct grequest g = functions(call, v);
    int at = call_table[call].request;
    g.state = (void *)v[at - 1];
    return start(call, &g, (MPI_Request *)v[at]);
}

int hand_grequest_class_create(enum call call, const uint64_t *v)
{
    struct grequest made = functions(call, v);
    stub_lock(&object_lock);
    classes = stub_realloc(classes, (size_t)(nclasses + 1) * sizeof *classes);
    classes[nclasses] = made;
    *(MPIX_Grequest_class *)v[5] = nclasses++;
    stub_unlock(&object_lock);
    return MPI_SUCCESS;
}

int hand_grequest_class_allocate(enum call call, const uint64_t *v)
{
    int class = (MPIX_Grequest_class)v[0];
    if (class < 0 || class >= nclasses)
        return error_return_comm(call, NULL, MPI_ERR_ARG);
    stub_lock(&object_lock); /* which move when there is one more */
    struct grequest g = classes[class];
    stub_unlock(&object_lock);
    g.state = (void *)v[1];
    return start(call, &g, (MPI_Request *)v[2]);
}

void grequest_set_fortran(MPI_Request id)
{
    struct request *r = request_of(id);
    if (r && r->kind == REQUEST_GENERAL)
        of(r)->fortran = true;
}

/* It may wait for nobody: an orphan ends here. */
int hand_grequest_complete(enum call call, const uint64_t *v)
{
    struct request *r = request_of((MPI_Request)v[0]);
    if (!r || r->kind != REQUEST_GENERAL || r->state != REQUEST_PENDING)
        return error_return_comm(call, NULL, MPI_ERR_REQUEST);
    if (replaying()) {
        replay_next(call);
    } else if (recording()) {
        record_begin(call, 0);
        record_end(MPI_SUCCESS);
    }
    bool orphan = r->orphan;
    request_settle(r, &status_sent);
    if (orphan) {
        (void)grequest_free(r);
        request_delete(r);
    }
    return MPI_SUCCESS;
}

int grequest_request_free(struct request *r)
{
    if (r->state == REQUEST_PENDING) {
        request_abandon(r);
        return MPI_SUCCESS;
    }
    int rc = let_free(of(r));
    if (!rc) {
        forget(r);
        request_delete(r);
    }
    return rc;
}

#define TURNS_AT_ONCE 100
#define PAUSE_NS      50000

void grequest_pause(unsigned *turn)
{
    if (GATE->word & (GATE_WORD_PARK | GATE_WORD_FINE)) {
        stub_safe_point();
    } else if (++*turn < TURNS_AT_ONCE) {
        sys_call(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
    } else {
        struct timespec t = {.tv_nsec = PAUSE_NS};
        sys_call(SYS_nanosleep, &t, 0, 0, 0, 0, 0);
    }
}
