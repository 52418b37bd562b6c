/*
 * complete.c - Wait, Test and their families
 *
 * Each call goes through the same four steps: resolve the handles, settle (in the lower half, by
 * one crossing for the whole set; or from the log), record, deliver. What is settled but not
 * delivered (another member of a Waitany's set) stays COMPLETE in the request table until it is
 * asked for.
 *
 * A call that finds no active request answers from the table alone: it is no event in the log.
 */
#include "msgcounter/stub/complete.h"

#include <sched.h>
#include <string.h>

#include "call_hand.h"
#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/coll.h"
#include "msgcounter/stub/count.h"
#include "msgcounter/stub/grequest.h"
#include "msgcounter/stub/icoll.h"
#include "msgcounter/stub/order.h"
#include "msgcounter/stub/part.h"
#include "msgcounter/stub/post.h"
#include "msgcounter/stub/turn.h"

#define GREQUEST_PATIENCE 1000000 /* pauses: about a minute */
#define FEW 64 /* sets up to this size need no memory */

/* ------------------------------------------------------------------------------------ settling */

struct scratch {
    int ngeneral; /* pending ones that the lower half does not know */
    int *real;
    int *which; /* index in the caller's set */
    struct gate_status *status;
};

/* One crossing for all pending ones. Returns what the service returned. */
static int settle_once(uint32_t how, int n, struct request *const *req, const struct scratch *s,
                       int npending)
{
    if (order_following)
        how |= GATE_COMPLETE_BRIEF;
    int rc = (int)cross(GATE->complete, how, (uint64_t)npending, (uint64_t)s->real,
                        (uint64_t)s->status);
    if (rc == 0)
        return rc;
    for (int i = 0; i < npending; i++)
        if (s->status[i].error != GATE_PENDING)
            request_settle_real(req[s->which[i]], &s->status[i]);
    return rc;
}

static bool satisfied(uint32_t how, int npending, int ncomplete)
{
    return how & GATE_COMPLETE_ALL ? npending == 0 : ncomplete > 0 || npending == 0;
}

/* Sorts the set into pending ones (into the scratch) and complete ones (counted). */
static int gather(int n, struct request *const *req, struct scratch *s, int *ncomplete)
{
    int npending = 0;
    *ncomplete = s->ngeneral = 0;
    for (int i = 0; i < n; i++) {
        if (!req[i])
            continue;
        if (req[i]->state == REQUEST_COMPLETE) {
            ++*ncomplete;
        } else if (req[i]->kind == REQUEST_GENERAL) {
            s->ngeneral++;
        } else {
            s->real[npending] = (int)request_real(req[i]);
            s->which[npending++] = i;
        }
    }
    return npending;
}

bool wait_came_back(void)
{
    if (order_following && !(GATE->word & (GATE_WORD_PARK | GATE_WORD_FINE)))
        return order_patient();
    stub_safe_point();
    return true;
}

/* The rank waits for the first pending one, as far as others want to know. */
static void say_waiting(int n, struct request *const *req)
{
    int i = 0;
    while (i < n && (!req[i] || req[i]->state == REQUEST_COMPLETE))
        i++;
    count_waiting(i < n && req[i]->kind <= REQUEST_RECV ? req[i]->world : -1);
}

/* With BRIEF the set is one that batch had: the wait ends when the rank is free. */
static enum settle settle_pending(uint32_t how, int n, struct request *const *req,
                                  struct scratch *s)
{
    int npending, ncomplete;
    unsigned turn = 0;
    while (npending = gather(n, req, s, &ncomplete),
           !satisfied(how, npending + s->ngeneral, ncomplete)) {
        if (s->ngeneral && grequest_poll(n, req)) {
            npending = gather(n, req, s, &ncomplete);
            if (satisfied(how, npending + s->ngeneral, ncomplete))
                break;
        }
        uint32_t once = s->ngeneral ? how & ~(uint32_t)GATE_COMPLETE_WAIT : how;
        int rc = npending ? settle_once(once, n, req, s, npending) : 0;
        if (once != how) {
            grequest_pause(&turn);
            if (replaying())
                return SETTLE_REPLAY;
            continue;
        }
        if (!(how & GATE_COMPLETE_WAIT)) {
            npending = gather(n, req, s, &ncomplete);
            return satisfied(how, npending + s->ngeneral, ncomplete) ? SETTLE_DONE : SETTLE_NOT;
        }
        if (rc == GATE_EAGAIN) {
            bool comes = wait_came_back();
            if (replaying())
                return SETTLE_REPLAY;
            if (!comes && how & GATE_COMPLETE_BRIEF)
                return SETTLE_NOT;
        }
    }
    return SETTLE_DONE;
}

static enum settle settle(uint32_t how, int n, struct request *const *req, struct scratch *s)
{
    if (!(how & GATE_COMPLETE_WAIT))
        return settle_pending(how, n, req, s);
    say_waiting(n, req);
    enum settle result = settle_pending(how, n, req, s);
    count_waited();
    return result;
}

static enum settle settle_many(uint32_t how, int n, struct request *const *req)
{
    struct scratch s = {
        .real = stub_alloc((size_t)n * sizeof *s.real),
        .which = stub_alloc((size_t)n * sizeof *s.which),
        .status = stub_alloc((size_t)n * sizeof *s.status),
    };
    enum settle result = settle(how, n, req, &s);
    stub_free(s.real);
    stub_free(s.which);
    stub_free(s.status);
    return result;
}

enum settle requests_settle(uint32_t how, int n, struct request *const *req)
{
    if (n > FEW)
        return settle_many(how, n, req);
    int real[FEW], which[FEW];
    struct gate_status status[FEW];
    return settle(how, n, req,
                  &(struct scratch){.real = real, .which = which, .status = status});
}

/* -------------------------------------------------------------- completions in the payload log */

/* What came into the buffer: of a message that was too long (MPI_ERR_TRUNCATE) what had room. A
 * partitioned one that was shorter than the buffer ends in an error, too. */
static uint64_t data_bytes(const struct request *r)
{
    const struct gate_status *st = &r->status;
    if (r->coll)
        return icoll_bytes(r);
    if (part_receives(r) && !st->error)
        return (uint64_t)r->bytes;
    if ((r->kind != REQUEST_RECV && !part_receives(r)) || st->cancelled)
        return 0;
    int64_t room = st->error ? layout_packed_size(request_layout(r), r->count) : st->bytes;
    return (uint64_t)(st->bytes < room ? st->bytes : room);
}

uint64_t received_room(const struct request *r)
{
    return LOG_FIELD_ROOM(sizeof(struct log_status)) + LOG_FIELD_ROOM(data_bytes(r));
}

static uint64_t completion_room(const struct request *r)
{
    return 2 * LOG_FIELD_ROOM(4) + received_room(r);
}

void received_record(const struct request *r, uint8_t status_param, uint8_t data_param)
{
    const struct gate_status *st = &r->status;
    uint64_t bytes = data_bytes(r);
    struct log_status out = {st->source, st->tag, st->error, st->cancelled, st->bytes};
    log_put_status(&record_writer, status_param, &out);
    void *to = bytes ? log_reserve(&record_writer, data_param, LOG_ROLE_DATA, bytes) : NULL;
    if (to && r->coll)
        icoll_pack(r, to);
    else if (to)
        record_pack(request_layout(r), r->buf, to, bytes);
}

const struct log_field *received_apply(const struct log_record *rec, const struct log_field *f,
                                       struct request *r)
{
    struct log_status in;
    memcpy(&in, log_field_value(f), sizeof in);
    r->status = (struct gate_status){in.source, in.tag, in.error, in.cancelled, in.count};
    const struct log_field *data = log_field_next(rec, f);
    if (!data || data->role != LOG_ROLE_DATA)
        return f;
    stub_thread.arrived += !r->coll;
    if (r->coll)
        icoll_unpack(r, log_field_value(data), log_field_length(data));
    else if (layout_unpack(request_layout(r), r->count, r->buf, log_field_value(data),
                      log_field_length(data)) < 0)
        stub_stop(1, "diverged at event %lu: %s has room for less than was received",
                  (unsigned long)rec->event, call_table[rec->call].name);
    return data;
}

static void completion_record(const struct request *r, int index, uint8_t param)
{
    log_put_i32(&record_writer, param, LOG_ROLE_VALUE, index);
    log_put_i32(&record_writer, param, LOG_ROLE_REQUEST, r->head.id);
    received_record(r, param, param);
}

/* In replay: another thread completes it, however long that takes to come (it may sleep). */
static void await_complete(const struct request *r)
{
    unsigned turn = 0;
    while (__atomic_load_n(&r->state, __ATOMIC_ACQUIRE) == REQUEST_PENDING &&
           turn < GREQUEST_PATIENCE)
        grequest_pause(&turn);
}

/* Takes one completion of a record: f is its REQUEST field. Returns the last field used. */
static const struct log_field *completion_apply(const struct log_record *rec,
                                                const struct log_field *f, struct request *r)
{
    if (!r || r->head.id != (int)log_field_int(f))
        stub_stop(1, "diverged at event %lu: %s completes request %#x, which is not in use here",
                  (unsigned long)rec->event, call_table[rec->call].name,
                  (unsigned)log_field_int(f));
    if (r->kind == REQUEST_GENERAL)
        await_complete(r);
    f = received_apply(rec, log_field_next(rec, f), r);
    struct gate_status st = r->status;
    if (r->state == REQUEST_PENDING)
        request_settle(r, &st);
    return f;
}

/* ------------------------------------------------------------------- requests nobody waits for */

static void end_left(struct request *r)
{
    if (r->orphan && recording()) {
        record_beside_begin(CALL_MPI_Request_free, RECORD_LEFT, completion_room(r));
        completion_record(r, 0, 0);
        record_end(MPI_SUCCESS);
    }
    request_deliver(r);
}

static bool is_left(void *arg)
{
    const struct request *r = request_of(*(const MPI_Request *)arg);
    return r && __atomic_load_n(&r->orphan, __ATOMIC_ACQUIRE);
}

static void replay_left(void)
{
    const struct log_record *rec;
    while ((rec = replay_beside(RECORD_LEFT))) {
        const struct log_field *f = replay_field(rec, 0, LOG_ROLE_REQUEST);
        MPI_Request id = (MPI_Request)log_field_int(f);
        turn_await(is_left, &id); /* another thread may be about to free it */
        struct request *r = request_of(id);
        completion_apply(rec, f, r);
        request_deliver(r);
    }
}

/* Those of the left requests that are in a state. */
struct left {
    enum request_state state;
    bool owned_only;
    int n;
    struct request *some[FEW];
};

static void note_left(struct request *r, void *arg)
{
    struct left *l = arg;
    bool left = r->owned || (r->orphan && !l->owned_only && r->kind != REQUEST_GENERAL);
    if (left && r->state == l->state && l->n < FEW)
        l->some[l->n++] = r;
}

static struct left find_left(enum request_state state, bool owned_only)
{
    struct left l = {.state = state, .owned_only = owned_only};
    request_each(note_left, &l);
    return l;
}

/* One thread at a time works on them: two would complete the same one. Another has no need to. */
static bool sweeping;

static bool sweep_begin(void)
{
    return !__atomic_exchange_n(&sweeping, true, __ATOMIC_ACQUIRE);
}

static void sweep_end(void)
{
    __atomic_store_n(&sweeping, false, __ATOMIC_RELEASE);
}

/* Progress on those that are pending, the end for those that are complete. */
static void sweep(bool owned_only)
{
    struct left l = find_left(REQUEST_PENDING, owned_only);
    if (l.n)
        requests_settle(GATE_COMPLETE_ALL, l.n, l.some);
    l = find_left(REQUEST_COMPLETE, owned_only);
    for (int i = 0; i < l.n; i++)
        end_left(l.some[i]);
}

void requests_sweep(void)
{
    if (__builtin_expect(request_nleft == 0 && !(stub_threads_made && replaying()), 1))
        return;
    if (replaying()) {
        replay_left();
    } else if (sweep_begin()) {
        sweep(false);
        sweep_end();
    }
}

void requests_sweep_buffered(void)
{
    if (request_nowned && !replaying() && sweep_begin()) {
        sweep(true);
        sweep_end();
    }
}

bool requests_make_room(int64_t bytes, int64_t size)
{
    while (request_buffered + bytes > size) {
        if (!sweep_begin()) { /* by a thread that may be about to end what is in our way */
            if (GATE->word & GATE_WORD_PARK)
                return true; /* it may be parked, and the memory is not the application's anyway */
            sched_yield();
            continue;
        }
        int64_t before = request_buffered;
        sweep(true);
        bool ended = request_buffered < before;
        sweep_end();
        if (!ended)
            return request_buffered + bytes <= size;
    }
    return true;
}

/* Waits for a few. Returns false if the rank goes on in a replay. */
static bool flush_some(void)
{
    struct left l = find_left(REQUEST_PENDING, true);
    if (l.n &&
        requests_settle(GATE_COMPLETE_ALL | GATE_COMPLETE_WAIT, l.n, l.some) == SETTLE_REPLAY)
        return false;
    sweep(true);
    return true;
}

void requests_flush_buffered(void)
{
    bool live = true;
    while (live && request_nowned && !replaying()) {
        if (sweep_begin()) {
            live = flush_some();
            sweep_end();
        } else if (GATE->word & GATE_WORD_PARK) {
            stub_safe_point();
        } else {
            sched_yield();
        }
    }
}

/* --------------------------------------------------------------------------- a completion call */

struct completion {
    enum call call;
    int n;
    MPI_Request *ids;      /* the application's */
    struct request **req;  /* NULL where there is nothing to wait for */
    int active;            /* elements that are not NULL */
    MPI_Request first;     /* id of the first of them */
    int *chosen, nchosen;  /* indices of what this call delivers */
    struct request *few_req[FEW];
    int few_chosen[FEW];
};

static void completion_close(struct completion *c)
{
    if (c->n > FEW) {
        stub_free(c->req);
        stub_free(c->chosen);
    }
}

/* Resolves the handles. Returns an MPI error class; only after MPI_SUCCESS must it be closed. */
static int completion_open(struct completion *c, enum call call, int n, MPI_Request *ids)
{
    c->call = call;
    c->n = n;
    c->ids = ids;
    c->active = c->nchosen = 0;
    if (n < 0)
        return MPI_ERR_COUNT;
    if (n > 0 && !ids)
        return MPI_ERR_ARG;
    c->req = n > FEW ? stub_alloc((size_t)n * sizeof *c->req) : c->few_req;
    c->chosen = n > FEW ? stub_alloc((size_t)n * sizeof *c->chosen) : c->few_chosen;
    for (int i = 0; i < n; i++) {
        c->req[i] = NULL;
        if (ids[i] == MPI_REQUEST_NULL)
            continue;
        struct request *r = request_of(ids[i]);
        if (!r) {
            completion_close(c);
            return MPI_ERR_REQUEST;
        }
        if (r->state == REQUEST_INACTIVE)
            continue;
        c->req[i] = r;
        if (!c->active++)
            c->first = ids[i];
    }
    return MPI_SUCCESS;
}

static void choose(struct completion *c, uint32_t how)
{
    c->nchosen = 0;
    for (int i = 0; i < c->n; i++) {
        if (!c->req[i] || c->req[i]->state != REQUEST_COMPLETE)
            continue;
        c->chosen[c->nchosen++] = i;
        if (!(how & (GATE_COMPLETE_SOME | GATE_COMPLETE_ALL)))
            break;
    }
}

/* MPI_ERR_IN_STATUS if one of the chosen has failed. */
static int completion_error(const struct completion *c)
{
    for (int i = 0; i < c->nchosen; i++)
        if (c->req[c->chosen[i]]->status.error)
            return MPI_ERR_IN_STATUS;
    return MPI_SUCCESS;
}

static void record_completion(const struct completion *c)
{
    uint64_t room = 0;
    uint8_t param = (uint8_t)call_table[c->call].request;
    for (int i = 0; i < c->nchosen; i++)
        room += completion_room(c->req[c->chosen[i]]);
    record_begin(c->call, room);
    for (int i = 0; i < c->nchosen; i++)
        completion_record(c->req[c->chosen[i]], c->chosen[i], param);
    record_end(completion_error(c));
}

static void replay_completion(struct completion *c)
{
    const struct log_record *rec = replay_next(c->call);
    const struct log_field *f = NULL;
    int index = 0;
    while ((f = log_field_next(rec, f))) {
        if (f->role == LOG_ROLE_VALUE) {
            index = (int)log_field_int(f);
        } else if (f->role == LOG_ROLE_REQUEST) {
            bool known = index >= 0 && index < c->n;
            f = completion_apply(rec, f, known ? c->req[index] : NULL);
            c->chosen[c->nchosen++] = index;
        }
    }
}

/* ------------------------------------------------------------------------ what chance decides */

#define CERTAIN ORDER_NKINDS /* nothing: only one answer can come */

/* The kind of outcome that the call has, if it has something to say. */
static enum order_kind choice_of(const struct completion *c, uint32_t how)
{
    if (how & GATE_COMPLETE_WAIT && (how & GATE_COMPLETE_ALL || c->active == 1))
        return CERTAIN;
    if (how & GATE_COMPLETE_ALL || c->n == 1)
        return ORDER_KIND_YES;
    return how & GATE_COMPLETE_SOME ? ORDER_KIND_SOME : ORDER_KIND_INDEX;
}

static void keep_choice(const struct completion *c, uint32_t how)
{
    switch (choice_of(c, how)) {
    case ORDER_KIND_YES:
        order_yes();
        break;
    case ORDER_KIND_INDEX:
        order_index(c->chosen[0]);
        break;
    case ORDER_KIND_SOME:
        order_some(c->nchosen, c->chosen, c->active);
        break;
    default:
        break;
    }
}

/* Chooses what batch had. False: it is not there to be chosen. */
static bool choose_again(struct completion *c, const struct order_outcome *o)
{
    bool all = o->kind == ORDER_KIND_YES || (o->kind == ORDER_KIND_SOME && o->value == 0);
    c->nchosen = 0;
    for (int i = 0; all && i < c->n; i++)
        if (c->req[i])
            c->chosen[c->nchosen++] = i;
    if (all)
        return true;
    c->nchosen = o->kind == ORDER_KIND_INDEX ? 1 : (int)o->value;
    if (c->nchosen > c->active)
        return false;
    if (o->kind == ORDER_KIND_INDEX)
        c->chosen[0] = (int)o->value;
    else
        order_some_indices(o, c->chosen, o->value);
    for (int k = 0; k < c->nchosen; k++)
        if (c->chosen[k] < 0 || c->chosen[k] >= c->n || !c->req[c->chosen[k]])
            return false;
    return true;
}

static enum settle settle_chosen(struct completion *c)
{
    struct request *few[FEW] = {NULL}, **some = few;
    if (c->nchosen > FEW)
        some = stub_alloc((size_t)c->nchosen * sizeof *some);
    for (int k = 0; k < c->nchosen; k++)
        some[k] = c->req[c->chosen[k]];
    enum settle s = requests_settle(GATE_COMPLETE_ALL | GATE_COMPLETE_WAIT | GATE_COMPLETE_BRIEF,
                                    c->nchosen, some);
    if (some != few)
        stub_free(some);
    return s;
}

/* Following: settles and chooses what batch had. False: the rank is free. */
static bool follow(struct completion *c, uint32_t how, enum settle *s)
{
    struct order_outcome o;
    enum order_kind kind = choice_of(c, how);
    if (kind == CERTAIN || !order_answer(kind, how & GATE_COMPLETE_WAIT, &o))
        return false;
    *s = SETTLE_NOT;
    if (o.kind == ORDER_KIND_NO)
        return true;
    if (choose_again(c, &o))
        *s = settle_chosen(c);
    else
        order_unfit();
    if (*s != SETTLE_DONE)
        c->nchosen = 0;
    return *s != SETTLE_NOT;
}

/* Of each generalized request first one function, then the other, as MPICH calls them. Calls that
 * they make are events behind the completion. */
static void end_general(const struct completion *c)
{
    for (int k = 0; k < c->nchosen; k++) {
        struct request *r = c->req[c->chosen[k]];
        if (r->kind != REQUEST_GENERAL)
            continue;
        grequest_query(r);
        int freed = c->call == CALL_MPI_Request_get_status ? MPI_SUCCESS : grequest_free(r);
        if (!r->status.error)
            r->status.error = freed;
    }
}

/* Settles what `how` asks for, live or from the log, and chooses. False: nothing to deliver. */
static bool completion_run(struct completion *c, uint32_t how)
{
    bool wait = how & GATE_COMPLETE_WAIT;
    bool following = order_following;
    enum settle s = SETTLE_REPLAY;
    requests_sweep();
    if (!replaying() && !(following && follow(c, how, &s)))
        s = requests_settle(how, c->n, c->req);
    if (s == SETTLE_DONE && order_following && !following && !follow(c, how, &s))
        s = SETTLE_DONE; /* it waited at an epoch, and goes on in refine: batch's choice is there */
    if (s == SETTLE_REPLAY) {
        requests_sweep();
        grequest_poll(c->n, c->req);
        if (!wait && replay_idle(c->call, c->first))
            return false;
        replay_completion(c);
        end_general(c);
        return true;
    }
    if (s == SETTLE_NOT) {
        if (recording())
            record_idle(c->call, c->first);
        order_no();
        return false;
    }
    if (c->nchosen == 0)
        choose(c, how);
    keep_choice(c, how);
    if (__builtin_expect(recording(), 0))
        record_completion(c);
    end_general(c);
    return true;
}

/* ------------------------------------------------------------------------------------ delivery */

/* Hands element i over to the application. Returns the operation's error code. */
static int deliver(struct completion *c, int i, MPI_Status *s)
{
    struct request *r = c->req[i];
    int error = r->status.error;
    status_deliver(r, &r->status, s);
    if (!r->persistent)
        c->ids[i] = MPI_REQUEST_NULL;
    request_deliver(r);
    return error;
}

static MPI_Status *status_at(MPI_Status *s, int i)
{
    return s == MPI_STATUSES_IGNORE ? s : s + i;
}

/* Errors of completion calls are raised on MPI_COMM_WORLD, mostly, as MPICH does (binding_c.py:
 * calls without a communicator). */
static int finish(enum call call, int rc)
{
    return rc ? error_return_comm(call, NULL, rc) : MPI_SUCCESS;
}

/* ------------------------------------------------------------------------------- the fast path */

/* What request_settle_real (if it is pending still) and request_deliver do to a send or receive
 * that is done without error. */
static inline void end_now(struct request *r, const struct gate_status *st, bool pending,
                           MPI_Status *out)
{
    if (r->peer == MPI_PROC_NULL) {
        status_deliver(r, &status_no_proc, out);
    } else if (r->kind == REQUEST_SEND) {
        count_send(r->world, r->bytes);
        status_deliver(r, st, out);
    } else {
        int world = comm_world_rank(r->comm, st->source);
        if (pending) {
            count_taken(world);
            order_settled(r, st);
        }
        count_recv(world, st->bytes);
        status_put(out, st);
    }
    request_delete(r);
}

enum now {
    NOW_DONE,  /* the call is done */
    NOW_NOT,   /* a Test of one request that has not completed: flag is 0 */
    NOW_LATER, /* what has completed is settled; the general way takes over */
};

/* A send or receive that the general way has nothing to add to. */
static inline bool simple(const struct request *r)
{
    return r && r->state != REQUEST_INACTIVE && r->kind <= REQUEST_RECV && !r->persistent &&
           (r->state == REQUEST_PENDING || !(r->status.error | r->status.cancelled));
}

/* Wait, Test and Waitall of a few sends and receives, live, without errors: one pass to resolve,
 * one crossing for those that are not complete yet, one pass to deliver. */
static enum now complete_now(uint32_t how, int n, MPI_Request *ids, MPI_Status *statuses,
                             bool set_error)
{
    struct request *req[FEW];
    struct gate_status st[FEW];
    int real[FEW], npending = 0;
    if (GATE->mode != GATE_LIVE || request_nleft || n > FEW || n <= 0 || !ids)
        return NOW_LATER;
    for (int i = 0; i < n; i++) {
        struct request *r = req[i] = request_of(ids[i]);
        if (!simple(r))
            return NOW_LATER;
        if (r->state == REQUEST_PENDING)
            real[npending++] = (int)request_real(r);
    }
    bool good = true;
    if (npending) {
        int rc = (int)cross(GATE->complete, how | GATE_COMPLETE_ALL, (uint64_t)npending,
                            (uint64_t)real, (uint64_t)st);
        good = rc == npending;
        for (int k = 0; k < npending; k++)
            good &= !(st[k].error | st[k].cancelled);
        if (!good && !how && st[0].error == GATE_PENDING)
            return NOW_NOT;
    }
    const struct gate_status *next = st;
    for (int i = 0; i < n; i++) {
        MPI_Status *out = status_at(statuses, i);
        bool pending = req[i]->state == REQUEST_PENDING;
        const struct gate_status *mine = pending ? next++ : &req[i]->status;
        if (!good) {
            if (pending && mine->error != GATE_PENDING)
                request_settle_real(req[i], mine);
            continue;
        }
        end_now(req[i], mine, pending, out);
        if (set_error && out != MPI_STATUS_IGNORE)
            out->MPI_ERROR = MPI_SUCCESS;
        ids[i] = MPI_REQUEST_NULL;
    }
    return good ? NOW_DONE : NOW_LATER;
}

/* ----------------------------------------------------------------------------------- the calls */

static int one(enum call call, MPI_Request *id, int *flag, MPI_Status *status, uint32_t how)
{
    struct completion c;
    int rc = completion_open(&c, call, 1, id);
    if (rc)
        return finish(call, rc);
    if (!c.active) {
        status_put_empty(status);
        *flag = 1;
        return MPI_SUCCESS;
    }
    *flag = completion_run(&c, how);
    if (!*flag)
        return MPI_SUCCESS;
    /* Of a persistent request MPICH knows the communicator here (wait.c, test.c). */
    struct comm *comm = c.req[0]->persistent ? c.req[0]->comm : NULL;
    return error_return_comm(call, comm, deliver(&c, 0, status));
}

int hand_wait(enum call call, const uint64_t *v)
{
    int flag;
    if (complete_now(GATE_COMPLETE_WAIT, 1, (MPI_Request *)v[0], (MPI_Status *)v[1], false) ==
        NOW_DONE)
        return MPI_SUCCESS;
    return one(call, (MPI_Request *)v[0], &flag, (MPI_Status *)v[1],
               GATE_COMPLETE_ANY | GATE_COMPLETE_WAIT);
}

int hand_test(enum call call, const uint64_t *v)
{
    enum now now = complete_now(0, 1, (MPI_Request *)v[0], (MPI_Status *)v[2], false);
    if (now != NOW_LATER) {
        if (now == NOW_DONE)
            order_yes();
        else
            order_no();
        *(int *)v[1] = now == NOW_DONE;
        return MPI_SUCCESS;
    }
    return one(call, (MPI_Request *)v[0], (int *)v[1], (MPI_Status *)v[2], GATE_COMPLETE_ANY);
}

static int any(enum call call, int n, MPI_Request *ids, int *index, int *flag, MPI_Status *status,
               uint32_t how)
{
    struct completion c;
    int rc = completion_open(&c, call, n, ids);
    if (rc)
        return finish(call, rc);
    *index = MPI_UNDEFINED;
    *flag = 1;
    if (!c.active) {
        status_put_empty(status);
    } else if (completion_run(&c, how)) {
        *index = c.chosen[0];
        rc = deliver(&c, c.chosen[0], status);
    } else {
        *flag = 0;
    }
    completion_close(&c);
    return finish(call, rc);
}

int hand_waitany(enum call call, const uint64_t *v)
{
    int flag;
    return any(call, (int)v[0], (MPI_Request *)v[1], (int *)v[2], &flag, (MPI_Status *)v[3],
               GATE_COMPLETE_ANY | GATE_COMPLETE_WAIT);
}

int hand_testany(enum call call, const uint64_t *v)
{
    return any(call, (int)v[0], (MPI_Request *)v[1], (int *)v[2], (int *)v[3], (MPI_Status *)v[4],
               GATE_COMPLETE_ANY);
}

/* Delivers all that was chosen; statuses are those of the chosen ones, in their order. */
static int deliver_some(struct completion *c, MPI_Status *statuses)
{
    int rc = completion_error(c);
    for (int k = 0; k < c->nchosen; k++) {
        MPI_Status *s = status_at(statuses, k);
        int error = deliver(c, c->chosen[k], s);
        if (rc && s != MPI_STATUS_IGNORE)
            s->MPI_ERROR = error;
    }
    return rc;
}

static int some(enum call call, const uint64_t *v, uint32_t how)
{
    struct completion c;
    int *outcount = (int *)v[2], *indices = (int *)v[3];
    int rc = completion_open(&c, call, (int)v[0], (MPI_Request *)v[1]);
    if (rc)
        return finish(call, rc);
    if (!c.active) {
        *outcount = MPI_UNDEFINED;
    } else {
        *outcount = 0;
        if (completion_run(&c, how)) {
            *outcount = c.nchosen;
            memcpy(indices, c.chosen, (size_t)c.nchosen * sizeof *indices);
            rc = deliver_some(&c, (MPI_Status *)v[4]);
        }
    }
    completion_close(&c);
    return finish(call, rc);
}

int hand_waitsome(enum call call, const uint64_t *v)
{
    return some(call, v, GATE_COMPLETE_SOME | GATE_COMPLETE_WAIT);
}

int hand_testsome(enum call call, const uint64_t *v)
{
    return some(call, v, GATE_COMPLETE_SOME);
}

/* Delivers the whole set: statuses by position, empty ones for what was not active. */
static int deliver_all(struct completion *c, MPI_Status *statuses, bool set_error)
{
    int rc = completion_error(c);
    for (int i = 0; i < c->n; i++) {
        MPI_Status *s = status_at(statuses, i);
        int error = MPI_SUCCESS;
        if (c->req[i])
            error = deliver(c, i, s);
        else
            status_put_empty(s);
        if ((rc || set_error) && s != MPI_STATUS_IGNORE)
            s->MPI_ERROR = error;
    }
    return rc;
}

int hand_waitall(enum call call, const uint64_t *v)
{
    struct completion c;
    if (complete_now(GATE_COMPLETE_WAIT, (int)v[0], (MPI_Request *)v[1], (MPI_Status *)v[2],
                     true) == NOW_DONE)
        return MPI_SUCCESS;
    int rc = completion_open(&c, call, (int)v[0], (MPI_Request *)v[1]);
    if (rc)
        return finish(call, rc);
    if (c.active)
        completion_run(&c, GATE_COMPLETE_ALL | GATE_COMPLETE_WAIT);
    rc = deliver_all(&c, (MPI_Status *)v[2], true);
    completion_close(&c);
    return finish(call, rc);
}

int hand_testall(enum call call, const uint64_t *v)
{
    struct completion c;
    int *flag = (int *)v[2];
    int rc = completion_open(&c, call, (int)v[0], (MPI_Request *)v[1]);
    if (rc)
        return finish(call, rc);
    *flag = !c.active || completion_run(&c, GATE_COMPLETE_ALL);
    if (*flag)
        rc = deliver_all(&c, (MPI_Status *)v[3], false);
    completion_close(&c);
    return finish(call, rc);
}

/* --------------------------------------------------------------------------- other uses of one */

int hand_request_get_status(enum call call, const uint64_t *v)
{
    struct completion c;
    MPI_Request id = (MPI_Request)v[0];
    int *flag = (int *)v[1];
    int rc = completion_open(&c, call, 1, &id);
    if (rc)
        return finish(call, rc);
    *flag = 1;
    if (!c.active)
        status_put_empty((MPI_Status *)v[2]);
    else if (!(*flag = completion_run(&c, GATE_COMPLETE_ANY)))
        return MPI_SUCCESS;
    else
        status_deliver(c.req[0], &c.req[0]->status, (MPI_Status *)v[2]);
    return finish(call, c.active ? c.req[0]->status.error : MPI_SUCCESS);
}

int hand_request_free(enum call call, const uint64_t *v)
{
    MPI_Request *id = (MPI_Request *)v[0];
    struct request *r = request_of(*id);
    int rc = MPI_SUCCESS;
    requests_sweep();
    if (!r)
        return finish(call, MPI_ERR_REQUEST);
    if (r->kind == REQUEST_GENERAL) {
        rc = grequest_request_free(r);
        if (rc) /* it is still there: MPICH */
            return finish(call, rc);
    } else if (r->kind == REQUEST_OTHER) {
        int real = (int)r->head.real;
        if (real && !replaying()) /* an image of a recording knows the real one of then */
            rc = mpi_cross(call, (uint64_t)&real);
        request_delete(r);
    } else if (r->state == REQUEST_INACTIVE) {
        request_delete(r);
    } else {
        request_abandon(r); /* also if complete: the recorded execution does not depend on it */
    }
    *id = MPI_REQUEST_NULL;
    return finish(call, rc);
}

int hand_cancel(enum call call, const uint64_t *v)
{
    MPI_Request *id = (MPI_Request *)v[0];
    struct request *r = request_of(*id);
    if (!r || r->state == REQUEST_INACTIVE)
        return finish(call, MPI_ERR_REQUEST);
    if (r->kind == REQUEST_GENERAL)
        return finish(call, grequest_cancel(r));
    if (replaying() || !order_cancels(r) || r->state == REQUEST_COMPLETE)
        return MPI_SUCCESS;
    int real = (int)request_real(r);
    return finish(call, mpi_cross(call, (uint64_t)&real));
}
