/*
 * request.c - virtual requests
 */
#include "msgcounter/stub/request.h"

#include <stdio.h>
#include <string.h>

#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/count.h"

struct request request_pending = {.next = &request_pending, .prev = &request_pending};
struct request request_left = {.next = &request_left, .prev = &request_left};
unsigned request_nleft;
int64_t request_buffered;

static struct stub_lock lock; /* the table and the list */
static struct request *pool[HANDLE_CHUNKS];

#define TABLE (&handle_tables[HANDLE_REQUEST])

/* ------------------------------------------------------------------------------------- the table */

static struct handle_slot *slot_at(uint32_t i)
{
    return &TABLE->chunk[i >> HANDLE_CHUNK_BITS][i & (HANDLE_CHUNK - 1)];
}

static struct request *request_at(uint32_t i)
{
    return &pool[i >> HANDLE_CHUNK_BITS][i & (HANDLE_CHUNK - 1)];
}

static uint32_t index_of(const struct request *r)
{
    return (uint32_t)r->head.id & HANDLE_INDEX;
}

static void slot_free(uint32_t i)
{
    struct handle_slot *s = slot_at(i);
    s->object = NULL;
    s->real = TABLE->free_list;
    TABLE->free_list = i + 1;
}

static uint32_t slot_fresh(void)
{
    uint32_t i = TABLE->used, chunk = i >> HANDLE_CHUNK_BITS;
    if (chunk >= HANDLE_CHUNKS)
        stub_stop(125, "more than %u requests at the same time", i);
    if (!TABLE->chunk[chunk]) {
        pool[chunk] = stub_alloc(HANDLE_CHUNK * sizeof(struct request));
        TABLE->chunk[chunk] = stub_alloc(HANDLE_CHUNK * sizeof(struct handle_slot));
    }
    TABLE->used = i + 1;
    return i;
}

static inline uint32_t slot_take(void)
{
    uint32_t first = TABLE->free_list;
    if (__builtin_expect(!first, 0))
        return slot_fresh();
    TABLE->free_list = (uint32_t)slot_at(first - 1)->real;
    return first - 1;
}

/* In replay a request gets the id that it had, whatever other requests came and went unrecorded. */
static uint32_t slot_take_this(uint32_t want)
{
    uint32_t before = 0;
    while (TABLE->used <= want)
        slot_free(slot_fresh());
    for (uint32_t i = TABLE->free_list; i; before = i, i = (uint32_t)slot_at(i - 1)->real) {
        if (i - 1 != want)
            continue;
        if (before)
            slot_at(before - 1)->real = slot_at(want)->real;
        else
            TABLE->free_list = (uint32_t)slot_at(want)->real;
        return want;
    }
    stub_stop(1, "diverged: request %#x of the recording is in use", want);
}

/* -------------------------------------------------------------------------------------- the list */

static inline void list_append(struct request *list, struct request *r)
{
    r->prev = list->prev;
    r->next = list;
    r->prev->next = r;
    list->prev = r;
}

static inline void list_remove(struct request *r)
{
    r->prev->next = r->next;
    r->next->prev = r->prev;
}

/* ------------------------------------------------------------------------------------------ life */

struct request *request_new(enum request_kind kind, enum call start, int want)
{
    stub_lock(&lock);
    uint32_t i = __builtin_expect(want, 0) ? slot_take_this((uint32_t)want & HANDLE_INDEX) : slot_take();
    struct request *r = request_at(i);
    struct handle_slot *s = slot_at(i);
    r->head = (struct object){.id = HANDLE_REQUEST << HANDLE_KIND_SHIFT | HANDLE_MARK | (int)i,
                              .refs = 1,
                              .made = start,
                              .kind = HANDLE_REQUEST};
    r->kind = (uint8_t)kind;
    r->state = REQUEST_PENDING;
    r->persistent = r->orphan = r->owned = false;
    r->start = (uint16_t)start;
    r->type = NULL;
    r->comm = NULL;
    r->world = -1;
    r->bytes = 0;
    s->object = &r->head;
    s->real = 0;
    list_append(&request_pending, r);
    TABLE->live++;
    stub_unlock(&lock);
    return r;
}

void request_describe(struct request *r, const void *buf, int64_t n, MPI_Datatype datatype, int peer,
                      int tag, struct comm *comm)
{
    r->buf = (void *)buf;
    r->count = n;
    r->datatype = datatype;
    r->peer = peer;
    r->tag = tag;
    r->comm = comm;
    r->world = comm_world_rank(comm, peer);
    if (!comm->head.predefined)
        object_get(&comm->head);
    if (handle_is_ours(HANDLE_DATATYPE, datatype)) {
        r->type = (struct datatype *)handle_object(HANDLE_DATATYPE, datatype);
        object_get(&r->type->head);
    }
}

static int64_t room_of(const struct request *r)
{
    return r->bytes + MPI_BSEND_OVERHEAD;
}

void request_own(struct request *r)
{
    stub_lock(&lock);
    r->owned = true;
    request_nleft++;
    request_buffered += room_of(r);
    stub_unlock(&lock);
}

void request_abandon(struct request *r)
{
    stub_lock(&lock);
    r->orphan = true;
    r->persistent = false;
    request_nleft++;
    stub_unlock(&lock);
}

void request_delete(struct request *r)
{
    if (r->type)
        object_put(&r->type->head);
    if (r->comm && !r->comm->head.predefined)
        object_put(&r->comm->head);
    if (r->owned)
        stub_free(r->buf);
    stub_lock(&lock);
    bool left = r->orphan || r->owned;
    if (r->state == REQUEST_PENDING || (left && r->state == REQUEST_COMPLETE))
        list_remove(r);
    if (left)
        request_nleft--;
    if (r->owned)
        request_buffered -= room_of(r);
    r->state = REQUEST_INACTIVE;
    slot_free(index_of(r));
    TABLE->live--;
    stub_unlock(&lock);
}

void request_activate(struct request *r)
{
    stub_lock(&lock);
    r->state = REQUEST_PENDING;
    list_append(&request_pending, r);
    stub_unlock(&lock);
}

void request_persist(struct request *r)
{
    stub_lock(&lock);
    list_remove(r);
    r->persistent = true;
    r->state = REQUEST_INACTIVE;
    stub_unlock(&lock);
}

void request_settle(struct request *r, const struct gate_status *status)
{
    stub_lock(&lock);
    list_remove(r);
    r->state = REQUEST_COMPLETE;
    if (__builtin_expect(r->orphan || r->owned, 0))
        list_append(&request_left, r);
    stub_unlock(&lock);
    r->status = *status;
    if (r->kind != REQUEST_OTHER || !r->persistent)
        r->head.real = 0;
}

void request_settle_real(struct request *r, const struct gate_status *status)
{
    request_settle(r, status);
    /* MPICH 4.0 says source 0 when a receive from MPI_PROC_NULL completes. */
    if (r->kind == REQUEST_RECV && !status->cancelled && r->peer != MPI_PROC_NULL)
        count_taken(comm_world_rank(r->comm, status->source));
    else if (r->kind == REQUEST_SEND && status->cancelled)
        count_started(r->world, -1);
}

static void count_delivered(const struct request *r)
{
    const struct gate_status *st = &r->status;
    if (st->cancelled || r->owned)
        return;
    if (r->kind == REQUEST_OTHER) {
        if (call_table[r->start].class == CLASS_ICOLL)
            count_collective();
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
        r->state = REQUEST_INACTIVE;
    else
        request_delete(r);
}

/* ------------------------------------------------------------------------- requests of other calls */

/* MPI_Barrier_init and its like end in "_init", with or without "_c". */
static bool makes_persistent(enum call call)
{
    const char *init = strstr(call_table[call].name, "_init");
    return init && (init[5] == '\0' || strcmp(init + 5, "_c") == 0);
}

MPI_Request request_adopt(enum call call, struct comm *comm, MPI_Request real)
{
    if (real == MPI_REQUEST_NULL)
        return real;
    struct request *r = request_new(REQUEST_OTHER, call, 0);
    r->head.real = handle_slot(HANDLE_REQUEST, r->head.id)->real = (uint64_t)(uint32_t)real;
    r->peer = MPI_ANY_SOURCE;
    if (comm && !comm->head.predefined)
        object_get(&comm->head);
    r->comm = comm;
    if (makes_persistent(call))
        request_persist(r);
    return r->head.id;
}

struct layout *request_layout(const struct request *r)
{
    struct datatype *t = r->type ? r->type : datatype_of(r->datatype);
    return t ? t->layout : NULL;
}

/* Non-blocking collectives that are no longer than their start and end are finished by a drain: all
 * members have started them. What else MPI made is lost with it. */
static bool request_restorable(const struct request *r)
{
    return r->kind != REQUEST_OTHER || (call_table[r->start].class == CLASS_ICOLL && !r->persistent);
}

const char *request_unable(void)
{
    static char line[96];
    for (uint32_t i = 0; i < TABLE->used; i++) {
        if (!slot_at(i)->object || request_restorable(request_at(i)))
            continue;
        snprintf(line, sizeof line, "an MPI_Request (made by %s)", call_table[request_at(i)->start].name);
        return line;
    }
    return NULL;
}

/* -------------------------------------------------------------------------------------- statuses */

const struct gate_status status_no_proc = {.source = MPI_PROC_NULL, .tag = MPI_ANY_TAG};

void status_put(MPI_Status *out, const struct gate_status *in)
{
    if (out == MPI_STATUS_IGNORE)
        return;
    out->MPI_SOURCE = in->source;
    out->MPI_TAG = in->tag;
    out->count_hi_and_cancelled = in->cancelled != 0;
    status_set_bytes(out, in->bytes);
}

void status_put_empty(MPI_Status *out)
{
    status_put(out, &(struct gate_status){.source = MPI_ANY_SOURCE, .tag = MPI_ANY_TAG});
}
