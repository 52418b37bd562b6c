/*
 * part.c - partitioned communication
 *
 * Recording keeps of a send what each MPI_Pready let go, and of
 * a receive the data: of a partition when MPI_Parrived says that it is there, of all when the
 * receive completes.
 */
#include "msgcounter/stub/part.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "call_hand.h"
#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/buffers.h"
#include "msgcounter/stub/census.h"
#include "msgcounter/stub/coll.h"
#include "msgcounter/stub/complete.h"
#include "msgcounter/stub/errhandler.h"
#include "msgcounter/stub/grequest.h"
#include "msgcounter/stub/info.h"
#include "msgcounter/stub/p2p.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/tally.h"

struct part {
    int n;              /* partitions */
    uint64_t key;       /* of communicator, peer, tag and side */
    uint64_t other;     /* what the other side has for key */
    uint64_t nth;       /* of this key, from 0 */
    struct object *hints;
    bool active;
};

/* What is let go by one call. */
struct ready {
    uint64_t digest, bytes;
};

/* -------------------------------------------------------------------------------- life and cut */

static struct tally made; /* of each key */
static struct stub_lock lock;

/* Active operations of this rank, and what the cut sees of them. */
static unsigned nactive;
static bool inside;
static struct comm busy;

static struct comm *busy_here(void)
{
    busy = (struct comm){.gid = comm_name(comm_self.gid, 0), .size = 1, .alone = true};
    return &busy;
}

/* May return in another process. */
static void enter(enum call call, struct part *p)
{
    unsigned turn = 0;
    stub_lock(&lock);
    bool first = nactive++ == 0;
    p->active = true;
    stub_unlock(&lock);
    if (first) {
        coll_begin(call, busy_here());
        __atomic_store_n(&inside, true, __ATOMIC_SEQ_CST);
    }
    while (!__atomic_load_n(&inside, __ATOMIC_SEQ_CST)) /* another thread is asking for leave */
        grequest_pause(&turn);
}

void part_done(struct part *p)
{
    stub_lock(&lock);
    bool last = p->active && --nactive == 0;
    p->active = false;
    inside &= !last;
    stub_unlock(&lock);
    if (last)
        coll_end(CALL_MPI_Wait, busy_here());
}

void part_destroy(struct part *p)
{
    if (!p)
        return;
    part_done(p);
    info_drop(&p->hints);
    stub_free(p);
}

/* The operation's name on one of its sides. */
static uint64_t key_of(const struct request *r, bool receiver)
{
    uint64_t here = (uint64_t)comm_world.rank, there = (uint64_t)r->world;
    const uint64_t what[] = {r->comm->gid, part_receives(r) ? there : here,
                             part_receives(r) ? here : there, (uint64_t)r->tag, receiver};
    return XXH3_64bits(what, sizeof what);
}

/* buf, partitions, count, datatype, peer, tag, comm, info, request */
void after_part_init(enum call call, const uint64_t *v)
{
    struct request *r = request_of(*(const MPI_Request *)v[8]);
    if (!r)
        return;
    struct comm *had = r->comm;
    struct part *p = stub_alloc(sizeof *p);
    p->n = (int)v[1];
    request_describe(r, (void *)v[0], p->n * (int64_t)v[2], (MPI_Datatype)v[3], (int)v[4],
                     (int)v[5], comm_of((MPI_Comm)v[6]));
    if (had && !had->head.predefined)
        object_put(&had->head);
    r->part = p;
    p->key = key_of(r, part_receives(r));
    p->other = key_of(r, !part_receives(r));
    stub_lock(&lock);
    p->nth = tally_next(&made, p->key);
    stub_unlock(&lock);
    info_add(&p->hints, handle_object(HANDLE_INFO, (int)v[7]));
    r->bytes = layout_packed_size(request_layout(r), r->count);
    request_persist(r);
}

int part_start(enum call call, struct request *r)
{
    int rc;
    enter(call, r->part); /* before it is active: an epoch may fall in there */
    request_activate(r);
    if (replaying()) {
        rc = replay_rc(replay_next(call));
    } else {
        int real = (int)r->head.real;
        rc = mpi_cross(CALL_MPI_Start, (uint64_t)&real);
    }
    if (recording()) {
        record_begin(call, 0);
        record_end(rc);
    }
    if (rc) {
        request_persist(r);
        part_done(r->part);
    }
    return rc;
}

/* ---------------------------------------------------------------------------------- partitions */

static bool is_part_of(const struct request *r, int i)
{
    return r && r->part && i >= 0 && i < r->part->n && request_layout(r);
}

static unsigned char *part_at(const struct request *r, int i)
{
    struct layout_bounds b = layout_bounds(request_layout(r));
    return (unsigned char *)r->buf + i * (r->count / r->part->n) * (b.ub - b.lb);
}

static void add_part(struct ready *sum, const struct request *r, int i)
{
    if (GATE->mode == GATE_LIVE || !is_part_of(r, i))
        return;
    int64_t n = r->count / r->part->n;
    sum->digest = sum->digest * 0x9e3779b97f4a7c15u +
                  layout_digest(request_layout(r), n, part_at(r, i)) + (uint64_t)i;
    sum->bytes += (uint64_t)layout_packed_size(request_layout(r), n);
}

static int make_ready(enum call call, const struct request *r, const struct ready *sum,
                      uint64_t first, uint64_t second)
{
    int rc;
    if (replaying()) {
        const struct log_record *rec = replay_next(call);
        replay_check_digest(rec, 0, sum->digest, sum->bytes);
        rc = replay_rc(rec);
    } else {
        uint64_t real = r ? r->head.real : MPI_REQUEST_NULL;
        rc = call == CALL_MPI_Pready ? mpi_cross(call, first, real)
                                     : mpi_cross(call, first, second, real);
    }
    if (recording()) {
        record_begin(call, LOG_FIELD_ROOM(sizeof(struct log_digest)));
        log_put_digest(&record_writer, 0, sum->digest, sum->bytes);
        record_end(rc);
    }
    return rc ? error_return_comm(call, r ? r->comm : NULL, rc) : MPI_SUCCESS;
}

int hand_pready(enum call call, const uint64_t *v)
{
    const struct request *r = request_of((MPI_Request)v[1]);
    struct ready sum = {0};
    add_part(&sum, r, (int)v[0]);
    return make_ready(call, r, &sum, v[0], 0);
}

int hand_pready_range(enum call call, const uint64_t *v)
{
    const struct request *r = request_of((MPI_Request)v[2]);
    struct ready sum = {0};
    for (int i = (int)v[0]; i <= (int)v[1]; i++)
        add_part(&sum, r, i);
    return make_ready(call, r, &sum, v[0], v[1]);
}

int hand_pready_list(enum call call, const uint64_t *v)
{
    const struct request *r = request_of((MPI_Request)v[2]);
    const int *list = (const int *)v[1];
    struct ready sum = {0};
    for (int i = 0; list && i < (int)v[0]; i++)
        add_part(&sum, r, list[i]);
    return make_ready(call, r, &sum, v[0], v[1]);
}

/* ----------------------------------------------------------------------------------- arrivals */

static void record_arrival(enum call call, const struct request *r, int i, int flag, int rc)
{
    int64_t n = is_part_of(r, i) ? r->count / r->part->n : 0;
    uint64_t bytes = flag && !rc && n ? (uint64_t)layout_packed_size(request_layout(r), n) : 0;
    record_begin(call, LOG_FIELD_ROOM(sizeof flag) + LOG_FIELD_ROOM(bytes));
    log_put_i32(&record_writer, 2, LOG_ROLE_VALUE, flag);
    if (bytes)
        record_pack(request_layout(r), part_at(r, i),
                    log_reserve(&record_writer, 0, LOG_ROLE_DATA, bytes), bytes);
    record_end(rc);
}

static int replay_arrival(enum call call, const struct request *r, int i, int *flag)
{
    const struct log_record *rec = replay_next(call);
    const struct log_field *data = log_field_find(rec, NULL, 0, LOG_ROLE_DATA);
    *flag = (int)log_field_int(replay_field(rec, 2, LOG_ROLE_VALUE));
    if (data && is_part_of(r, i))
        layout_unpack(request_layout(r), r->count / r->part->n, part_at(r, i),
                      log_field_value(data), log_field_length(data));
    return replay_rc(rec);
}

int hand_parrived(enum call call, const uint64_t *v)
{
    MPI_Request id = (MPI_Request)v[0];
    const struct request *r = request_of(id);
    int rc = MPI_SUCCESS, flag = 0;
    if (!replaying() && r && r->part && r->state == REQUEST_COMPLETE)
        flag = 1; /* what the lower half has may be a new one, which was never started */
    else if (!replaying())
        rc = mpi_cross(call, r ? r->head.real : MPI_REQUEST_NULL, v[1], (uint64_t)&flag);
    else if (!replay_idle(call, id))
        rc = replay_arrival(call, r, (int)v[1], &flag);
    if (recording() && !flag && !rc)
        record_idle(call, id);
    else if (recording())
        record_arrival(call, r, (int)v[1], flag, rc);
    if (rc)
        return error_return_comm(call, r ? r->comm : NULL, rc);
    *(int *)v[2] = flag;
    return MPI_SUCCESS;
}

/* -------------------------------------------------------------------------------------- restart */

struct list {
    struct request **some;
    int n;
};

/* In the order of their making, as far as it counts. */
static void note_one(struct request *r, void *arg)
{
    struct list *l = arg;
    if (!r->part)
        return;
    int i = l->n++;
    l->some = stub_realloc(l->some, (size_t)l->n * sizeof *l->some);
    for (; i > 0 && l->some[i - 1]->part->nth > r->part->nth; i--)
        l->some[i] = l->some[i - 1];
    l->some[i] = r;
}

static uint64_t name_of(uint64_t key, uint64_t nth)
{
    return comm_name(key, nth + 1);
}

/* How many of a key a rank has made. */
static uint64_t count_of(const struct census *tallies, int rank, uint64_t key)
{
    const uint64_t *k = tallies->keys + tallies->starts[rank];
    for (int i = 0; i < tallies->counts[rank]; i += 2)
        if (k[i] == key)
            return k[i + 1];
    return 0;
}

static int make_again(struct request *r)
{
    enum call call = r->start;
    struct part *p = r->part;
    int real = MPI_REQUEST_NULL, info = MPI_INFO_NULL;
    int rc = p->hints ? info_make_real(p->hints, &info) : 0;
    if (!rc)
        rc = mpi_cross(call, (uint64_t)r->buf, (uint64_t)p->n, (uint64_t)(r->count / p->n),
                       (uint64_t)(r->type ? datatype_make_real(r->type) : r->datatype),
                       (uint64_t)r->peer, (uint64_t)r->tag, p2p_real_comm(r->comm), (uint64_t)info,
                       (uint64_t)&real);
    if (info != MPI_INFO_NULL)
        mpi_cross(CALL_MPI_Info_free, (uint64_t)&info);
    r->head.real = r->slot->real = (uint64_t)(uint32_t)real;
    return rc;
}

/* The other side may be yet to make its own; if it had and has none now, it has freed it. */
static int make_pairs(const struct list *l, const struct census *names,
                      const struct census *tallies)
{
    int rc = 0;
    for (int i = 0; i < l->n && !rc; i++) {
        struct request *r = l->some[i];
        const struct part *p = r->part;
        r->head.real = r->slot->real = 0;
        if (r->world < 0 || census_has(names, r->world, name_of(p->other, p->nth)) ||
            count_of(tallies, r->world, p->other) <= p->nth)
            rc = make_again(r);
    }
    return rc;
}

/* Sorted, without libc's help: a thread may be stopped in its heap. */
static uint64_t *names_of(const struct list *l)
{
    uint64_t *names = stub_alloc((size_t)l->n * sizeof *names);
    for (int n = 0; n < l->n; n++) {
        uint64_t name = name_of(l->some[n]->part->key, l->some[n]->part->nth);
        int i = n;
        for (; i > 0 && names[i - 1] > name; i--)
            names[i] = names[i - 1];
        names[i] = name;
    }
    return names;
}

int part_rebuild(void)
{
    struct list l = {0};
    struct census names = {0}, tallies = {0};
    request_each(note_one, &l);
    uint64_t *mine = names_of(&l);
    int rc = census_take(&names, mine, l.n);
    if (!rc)
        rc = census_take(&tallies, (const uint64_t *)made.some, (int)(2 * made.n));
    if (!rc)
        rc = make_pairs(&l, &names, &tallies);
    census_free(&names);
    census_free(&tallies);
    stub_free(mine);
    stub_free(l.some);
    return rc;
}
