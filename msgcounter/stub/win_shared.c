/*
 * win_shared.c - windows of memory that several ranks share
 */
#include "msgcounter/stub/win_shared.h"

#include <string.h>
#include <sys/mman.h>

#include "call_hand.h"
#include "msgcounter/stub/errhandler.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/win_watch.h"
#include "runtime/half/sys.h"

#define PAGE 4096ul

/* What the event behind that of the call holds: replay has no MPI to ask. */
struct note {
    unsigned char *memory;
    uint64_t room;
    struct win_part parts[]; /* as the application sees them */
};

static size_t note_bytes(const struct win *w)
{
    return sizeof(struct note) + (size_t)w->comm->size * sizeof(struct win_part);
}

/* The parts as the lower half has them, and the pages that hold them all. */
static int ask(const struct win *w, int real, struct note *n)
{
    uint64_t start = UINT64_MAX, end = 0;
    for (int i = 0; i < w->comm->size; i++) {
        struct win_part *p = &n->parts[i];
        int disp_unit;
        int rc = mpi_cross(CALL_MPI_Win_shared_query, (uint64_t)real, (uint64_t)i,
                           (uint64_t)&p->size, (uint64_t)&disp_unit, (uint64_t)&p->base);
        if (rc)
            return rc;
        p->disp_unit = disp_unit;
        if (!p->size)
            continue;
        uint64_t at = (uint64_t)p->base;
        start = at < start ? at : start;
        end = at + (uint64_t)p->size > end ? at + (uint64_t)p->size : end;
    }
    n->memory = (unsigned char *)(end ? start & ~(PAGE - 1) : 0);
    n->room = end ? ((end + PAGE - 1) & ~(PAGE - 1)) - (uint64_t)n->memory : 0;
    return 0;
}

/* Maps the lower half's pages at `to`, too: mremap(2) of no bytes copies a shared mapping. */
static void map_again(const struct note *lower, unsigned char *to)
{
    long at = sys_call(SYS_mremap, (uint64_t)lower->memory, 0, lower->room,
                       MREMAP_MAYMOVE | MREMAP_FIXED, (uint64_t)to, 0);
    if (lower->room && at != (long)to)
        stub_stop(125, "the memory of a shared window cannot be mapped (error %ld)", -at);
}

/* The same parts where the application sees them. One without bytes may be anywhere. */
static void move(struct note *n, unsigned char *to, int size)
{
    for (int i = 0; i < size; i++) {
        uint64_t offset = (uint64_t)(n->parts[i].base - n->memory);
        n->parts[i].base = n->room && offset <= n->room ? to + offset : NULL;
    }
    n->memory = to;
}

static void adopt(struct win *w, const struct note *n)
{
    w->parts = stub_memdup(n->parts, (size_t)w->comm->size * sizeof *w->parts);
    w->base = w->parts[w->comm->rank].base;
    w->memory = n->memory;
    w->room = n->room;
    win_watch_zeros(w, n->memory, n->room);
}

static void map_live(struct win *w, struct note *n)
{
    unsigned char *to = NULL;
    int rc = ask(w, (int)w->head.real, n);
    if (rc)
        stub_stop(125, "MPI does not tell where a shared window lies (error code %d)", rc);
    if (n->room)
        to = sys_mmap(NULL, n->room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if ((uint64_t)to > -4096ul)
        stub_stop(125, "no memory for a shared window of %lu bytes", (unsigned long)n->room);
    map_again(n, to);
    move(n, to, w->comm->size);
}

static void map_replayed(enum call call, struct win *w, struct note *n)
{
    const struct log_field *f = replay_field(replay_next(call), LOG_PARAM_NONE, LOG_ROLE_VALUE);
    memcpy(n, log_field_value(f), note_bytes(w));
    void *at = n->memory;
    if (n->room && sys_mmap(at, n->room, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != at)
        stub_stop(125, "%s: the memory of the recording is in use", call_table[call].name);
}

int hand_win_allocate_shared(enum call call, const uint64_t *v)
{
    uint64_t args[CALL_PARAMS_MAX];
    const struct comm *c = comm_of((MPI_Comm)win_param(call, v, "comm"));
    int at = win_param_index(call, "baseptr");
    void *lower;
    if (c && c->size == 1)
        return hand_win_allocate(call, v);
    memcpy(args, v, call_table[call].nparams * sizeof *v);
    args[at] = (uint64_t)&lower;
    int rc = call_generic(call, args);
    if (rc)
        return rc;
    struct win *w = win_of(*(MPI_Win *)win_param(call, v, "win"));
    struct note *n = stub_alloc(note_bytes(w));
    if (replaying())
        map_replayed(call, w, n);
    else
        map_live(w, n);
    adopt(w, n);
    if (recording()) {
        record_begin(call, LOG_FIELD_ROOM(note_bytes(w)));
        log_put(&record_writer, LOG_PARAM_NONE, LOG_ROLE_VALUE, n, note_bytes(w));
        record_end(MPI_SUCCESS);
    }
    stub_free(n);
    *(void **)v[at] = w->base;
    return MPI_SUCCESS;
}

void win_shared_alone(struct win *w)
{
    w->flavor = MPI_WIN_FLAVOR_SHARED;
    w->parts = stub_alloc(sizeof *w->parts);
    *w->parts = (struct win_part){w->size, w->disp_unit, w->base};
}

/* ---------------------------------------------------------------------------------------- query */

static void put(enum call call, int param, const uint64_t *v, MPI_Aint value)
{
    if (call_table[call].params[param].size == 8)
        *(MPI_Aint *)v[param] = value;
    else
        *(int *)v[param] = (int)value;
}

int hand_win_shared_query(enum call call, const uint64_t *v)
{
    const struct win *w = win_of((MPI_Win)v[0]);
    int rank = (int)v[1];
    if (!w || !w->parts)
        return error_return(call, v, w ? MPI_ERR_RMA_FLAVOR : MPI_ERR_WIN);
    if (rank != MPI_PROC_NULL && (rank < 0 || rank >= w->comm->size))
        return error_return(call, v, MPI_ERR_RANK);
    if (rank == MPI_PROC_NULL) /* the first that has any (MPI 4.0 §12.2.3) */
        for (rank = 0; rank < w->comm->size - 1 && !w->parts[rank].size;)
            rank++;
    const struct win_part *p = &w->parts[rank];
    put(call, 2, v, p->size);
    put(call, 3, v, p->disp_unit);
    *(void **)v[4] = p->base;
    return MPI_SUCCESS;
}

/* -------------------------------------------------------------------------------------- restart */

int win_shared_again(struct win *w, uint64_t info, uint64_t comm, int *real)
{
    void *lower;
    struct note *n = stub_alloc(note_bytes(w));
    int rc = mpi_cross(CALL_MPI_Win_allocate_shared, (uint64_t)w->size, (uint64_t)w->disp_unit,
                       info, comm, (uint64_t)&lower, (uint64_t)real);
    if (!rc)
        rc = ask(w, *real, n);
    if (!rc && n->room != w->room)
        rc = MPI_ERR_RMA_SHARED;
    if (!rc && w->size)
        memcpy(lower, w->base, (size_t)w->size);
    if (!rc)
        rc = mpi_cross(CALL_MPI_Barrier, comm);
    if (!rc)
        map_again(n, w->memory);
    stub_free(n);
    return rc;
}
