/*
 * request.c - virtual requests
 */
#include "msgcounter/stub/request.h"

#include <string.h>

#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/count.h"
#include "msgcounter/stub/icoll.h"
#include "msgcounter/stub/order.h"
#include "msgcounter/stub/part.h"
#include "msgcounter/stub/stub.h"
#include "msgcounter/stub/turn.h"

unsigned request_nleft, request_nowned, request_nreceiving;
int64_t request_buffered;
struct request *request_free_list;
uint64_t request_order;

static struct stub_lock lock;
static struct request *pool[HANDLE_CHUNKS];

#define TABLE (&handle_tables[HANDLE_REQUEST])

/* ----------------------------------------------------------------------------------- the table */

static struct request *request_at(uint32_t i)
{
    return &pool[i >> HANDLE_CHUNK_BITS][i & (HANDLE_CHUNK - 1)];
}

static void put_back(struct request *r)
{
    r->slot->object = NULL;
    r->next = request_free_list;
    request_free_list = r;
}

/* One request more, free. */
static void add_request(void)
{
    uint32_t i = TABLE->used, chunk = i >> HANDLE_CHUNK_BITS;
    if (chunk >= HANDLE_CHUNKS)
        stub_stop(125, "more than %u requests at the same time", i);
    if (!TABLE->chunk[chunk]) {
        pool[chunk] = stub_alloc(HANDLE_CHUNK * sizeof(struct request));
        TABLE->chunk[chunk] = stub_alloc(HANDLE_CHUNK * sizeof(struct handle_slot));
    }
    struct request *r = request_at(i);
    r->head = (struct object){.id = HANDLE_REQUEST << HANDLE_KIND_SHIFT | HANDLE_MARK | (int)i,
                              .refs = 1,
                              .kind = HANDLE_REQUEST};
    r->slot = &TABLE->chunk[chunk][i & (HANDLE_CHUNK - 1)];
    TABLE->used = i + 1;
    put_back(r);
}

/* Takes the request with this id off the free list: in replay it gets the id that it had,
 * whatever other requests came and went unrecorded. NULL: it is in use. */
static struct request *take_this(uint32_t i)
{
    while (TABLE->used <= i)
        add_request();
    struct request **p = &request_free_list, *r = request_at(i);
    while (*p && *p != r)
        p = &(*p)->next;
    if (!*p)
        return NULL;
    *p = r->next;
    return r;
}

static struct request *take(int want)
{
    stub_lock(&lock);
    if (!request_free_list)
        add_request();
    struct request *r = want ? take_this((uint32_t)want & HANDLE_INDEX) : request_free_list;
    if (!want)
        request_free_list = r->next;
    if (r)
        r->slot->object = &r->head;
    stub_unlock(&lock);
    return r;
}

struct wanted {
    int id;
    struct request *request;
};

static bool take_wanted(void *arg)
{
    struct wanted *w = arg;
    w->request = take(w->id);
    return w->request;
}

struct request *request_take_slowly(int want)
{
    /* In replay a thread passes its turn on when it has its event: another may want the request
     * that the first is about to put back. */
    struct wanted w = {.id = want};
    if (!turn_await(take_wanted, &w))
        stub_stop(1, "diverged: request %#x of the recording is in use", (unsigned)want);
    return w.request;
}

void request_put_back_slowly(struct request *r)
{
    stub_lock(&lock);
    put_back(r);
    stub_unlock(&lock);
}

void request_each(void (*fn)(struct request *r, void *arg), void *arg)
{
    for (uint32_t i = 0; i < TABLE->used; i++)
        if (request_at(i)->slot->object)
            fn(request_at(i), arg);
}

/* ---------------------------------------------------------------------------------------- life */

static int64_t room_of(const struct request *r)
{
    return r->bounded ? r->bytes + MPI_BSEND_OVERHEAD : 0;
}

void request_own(struct request *r, bool bounded)
{
    stub_lock(&lock);
    r->owned = true;
    r->bounded = bounded;
    request_nleft++;
    request_nowned++;
    request_buffered += room_of(r);
    stub_unlock(&lock);
}

static void drop_owned(struct request *r, void *arg)
{
    if (r->owned)
        request_delete(r);
}

void requests_drop_owned(void)
{
    if (request_nowned)
        request_each(drop_owned, NULL);
}

void request_abandon(struct request *r)
{
    stub_lock(&lock);
    r->persistent = false;
    request_nleft++;
    __atomic_store_n(&r->orphan, true, __ATOMIC_RELEASE); /* last: others look for that */
    stub_unlock(&lock);
}

void request_release(struct request *r)
{
    if (r->type)
        object_put(&r->type->head);
    if (r->comm && !r->comm->head.predefined)
        object_put(&r->comm->head);
    icoll_destroy(r->coll);
    r->coll = NULL;
    part_destroy(r->part);
    r->part = NULL;
    if (r->owned)
        stub_free(r->buf);
    if (!r->orphan && !r->owned)
        return;
    stub_lock(&lock);
    request_nleft--;
    if (r->owned) {
        request_nowned--;
        request_buffered -= room_of(r);
    }
    stub_unlock(&lock);
}

void request_persist(struct request *r)
{
    r->persistent = true;
    request_set_state(r, REQUEST_INACTIVE);
}

void request_activate(struct request *r)
{
    request_set_state(r, REQUEST_PENDING);
    r->order = ++request_order;
}

void request_settle(struct request *r, const struct gate_status *status)
{
    r->status.source = status->source;
    r->status.tag = status->tag;
    r->status.error = status->error;
    r->status.cancelled = status->cancelled;
    r->status.bytes = status->bytes;
    if (r->kind != REQUEST_OTHER || !r->persistent)
        r->head.real = 0;
    else if (r->part)
        part_done(r->part);
    /* Last: a thread that waits for a generalized request takes over when it is complete. */
    __atomic_thread_fence(__ATOMIC_RELEASE);
    request_set_state(r, REQUEST_COMPLETE);
}

void request_settle_real(struct request *r, const struct gate_status *status)
{
    request_settle(r, status);
    order_settled(r, status);
    /* MPICH 4.0 says source 0 when a receive from MPI_PROC_NULL completes. */
    if (r->kind == REQUEST_RECV && !status->cancelled && r->peer != MPI_PROC_NULL)
        count_taken(comm_world_rank(r->comm, status->source));
    else if (r->kind == REQUEST_SEND && status->cancelled)
        count_started(r->world, -1);
}

static void count_delivered(const struct request *r)
{
    const struct gate_status *st = &r->status;
    if (st->cancelled || r->owned || r->kind == REQUEST_GENERAL)
        return;
    if (r->kind == REQUEST_OTHER) {
        if (call_table[r->start].class == CLASS_ICOLL)
            count_collective();
        else if (r->part && r->peer != MPI_PROC_NULL)
            part_receives(r) ? count_recv(r->world, r->bytes) : count_send(r->world, r->bytes);
    } else if (r->peer != MPI_PROC_NULL) {
        if (r->kind == REQUEST_SEND)
            count_send(r->world, r->bytes);
        else
            count_recv(comm_world_rank(r->comm, st->source), st->bytes);
    }
}

void request_deliver(struct request *r)
{
    count_delivered(r);
    if (r->persistent)
        request_set_state(r, REQUEST_INACTIVE);
    else
        request_delete(r);
}

/* --------------------------------------------------------------------- requests of other calls */

struct request *request_of_call(enum call call, struct comm *comm, uint64_t real, int want)
{
    struct request *r = request_new(REQUEST_OTHER, call, want);
    r->head.real = r->slot->real = real;
    r->world = -1;
    r->peer = MPI_ANY_SOURCE;
    if (comm && !comm->head.predefined)
        object_get(&comm->head);
    r->comm = comm;
    if (call_table[call].flags & CALL_PERSISTENT)
        request_persist(r);
    return r;
}

MPI_Request request_adopt(enum call call, struct comm *comm, MPI_Request real)
{
    if (real == MPI_REQUEST_NULL)
        return real;
    return request_of_call(call, comm, (uint64_t)(uint32_t)real, 0)->head.id;
}

struct layout *request_layout(const struct request *r)
{
    struct datatype *t = r->type ? r->type : datatype_of(r->datatype);
    /* A message of no elements may come without a datatype: MPICH does not look at it. */
    t = t || r->count ? t : datatype_of(MPI_BYTE);
    return t ? t->layout : NULL;
}

/* Collectives and file operations are finished by a drain, as all members have started them; what
 * is persistent is made again. No cut falls where an operation on a window or a partitioned one is
 * under way (win.h, part.h). What else MPI made is lost with it. */
static bool request_restorable(const struct request *r)
{
    enum call_class class = call_table[r->start].class;
    return r->kind != REQUEST_OTHER || class == CLASS_ICOLL || class == CLASS_IO ||
           class == CLASS_RMA || r->part;
}

const char *request_unable(void)
{
    static char line[96];
    for (uint32_t i = 0; i < TABLE->used; i++) {
        if (!request_at(i)->slot->object || request_restorable(request_at(i)))
            continue;
        stub_join(line, sizeof line, "an MPI_Request that ",
                  call_table[request_at(i)->start].name, " made");
        return line;
    }
    return NULL;
}

/* ------------------------------------------------------------------------------------ statuses */

const struct gate_status status_sent = {.source = MPI_ANY_SOURCE, .tag = MPI_ANY_TAG};

const struct gate_status status_no_proc = {.source = MPI_PROC_NULL, .tag = MPI_ANY_TAG};
