/*
 * part.c - partitioned communication
 *
 * The lower half has the operation: its request is persistent and known by its real request, and
 * there is no epoch while one lives. Recording keeps of a send what each MPI_Pready let go, and of
 * a receive the data: of a partition when MPI_Parrived says that it is there, of all when the
 * receive completes.
 */
#include "msgcounter/stub/part.h"

#include "call_hand.h"
#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/buffers.h"
#include "msgcounter/stub/complete.h"
#include "msgcounter/stub/errhandler.h"
#include "msgcounter/stub/record.h"

/* What is let go by one call. */
struct ready {
    uint64_t digest, bytes;
};

/* buf, partitions, count, datatype, peer, tag, comm, info, request */
void after_part_init(enum call call, const uint64_t *v)
{
    struct request *r = request_of(*(const MPI_Request *)v[8]);
    if (!r)
        return;
    struct comm *had = r->comm;
    int64_t parts = (int)v[1];
    request_describe(r, (void *)v[0], parts * (int64_t)v[2], (MPI_Datatype)v[3], (int)v[4],
                     (int)v[5], comm_of((MPI_Comm)v[6]));
    if (had && !had->head.predefined)
        object_put(&had->head);
    r->parts = (int)parts;
    r->bytes = layout_packed_size(request_layout(r), r->count);
    request_persist(r);
}

int part_start(enum call call, struct request *r)
{
    int rc;
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
    if (rc)
        request_persist(r);
    return rc;
}

/* ---------------------------------------------------------------------------------- partitions */

static bool is_part_of(const struct request *r, int i)
{
    return r && r->kind == REQUEST_OTHER && i >= 0 && i < r->parts && request_layout(r);
}

static unsigned char *part_at(const struct request *r, int i)
{
    struct layout_bounds b = layout_bounds(request_layout(r));
    return (unsigned char *)r->buf + i * (r->count / r->parts) * (b.ub - b.lb);
}

static void add_part(struct ready *sum, const struct request *r, int i)
{
    if (GATE->mode == GATE_LIVE || !is_part_of(r, i))
        return;
    int64_t n = r->count / r->parts;
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
    int64_t n = is_part_of(r, i) ? r->count / r->parts : 0;
    uint64_t bytes = flag && !rc && n ? (uint64_t)layout_packed_size(request_layout(r), n) : 0;
    record_begin(call, LOG_FIELD_ROOM(sizeof flag) + LOG_FIELD_ROOM(bytes));
    log_put_i32(&record_writer, 2, LOG_ROLE_VALUE, flag);
    if (bytes)
        layout_pack_first(request_layout(r), part_at(r, i),
                          log_reserve(&record_writer, 0, LOG_ROLE_DATA, bytes), bytes);
    record_end(rc);
}

static int replay_arrival(enum call call, const struct request *r, int i, int *flag)
{
    const struct log_record *rec = replay_next(call);
    const struct log_field *data = log_field_find(rec, NULL, 0, LOG_ROLE_DATA);
    *flag = (int)log_field_int(replay_field(rec, 2, LOG_ROLE_VALUE));
    if (data && is_part_of(r, i))
        layout_unpack(request_layout(r), r->count / r->parts, part_at(r, i), log_field_value(data),
                      log_field_length(data));
    return replay_rc(rec);
}

int hand_parrived(enum call call, const uint64_t *v)
{
    MPI_Request id = (MPI_Request)v[0];
    const struct request *r = request_of(id);
    int rc = MPI_SUCCESS, flag = 0;
    if (!replaying())
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
