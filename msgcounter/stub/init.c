/*
 * init.c - start and end of MPI in this rank
 *
 * The lower half's MPI is initialised when the application asks, at the level that it asks for. The
 * event of MPI_Init holds what follows from it: rank, size, level and the predefined attributes.
 */
#include "msgcounter/stub/init.h"

#include <string.h>
#include <sys/auxv.h>
#include <time.h>

#include "msgcounter/stub/attr.h"
#include "msgcounter/stub/call.h"
#include "msgcounter/stub/comm.h"
#include "msgcounter/stub/complete.h"
#include "msgcounter/stub/count.h"
#include "msgcounter/stub/grequest.h"
#include "msgcounter/stub/order.h"
#include "msgcounter/stub/post.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/session.h"
#include "msgcounter/stub/stub.h"
#include "msgcounter/stub/system.h"

#define EXPORT     __attribute__((visibility("default")))
#define LEVEL_NONE ((uint64_t)-1)

/* What MPI_Init gave, as its event keeps it. */
static struct started {
    int rank, size, level;
    int rank_in_job;
    struct attr_predefined attrs;
} started;

static bool joined, left;            /* the job, over whatever call */
static bool initialized, finalized;  /* by MPI_Init and MPI_Finalize */
static struct stub_lock joining;
static uint32_t main_thread; /* ordinal of the thread that called MPI_Init */

static void begin(void)
{
    joined = true;
    attr_predefined = started.attrs;
    stub_threads_multiple = started.level == MPI_THREAD_MULTIPLE;
    stub_gate.mpi_level = (uint64_t)started.level;
    comm_start(started.rank, started.size);
    count_start(started.rank, started.size);
    order_attach();
}

/* All errors come back to the stub, which knows the application's handlers. */
static void return_errors(void)
{
    mpi_cross(CALL_MPI_Comm_set_errhandler, MPI_COMM_WORLD, (uint64_t)MPI_ERRORS_RETURN);
    mpi_cross(CALL_MPI_Comm_set_errhandler, MPI_COMM_SELF, (uint64_t)MPI_ERRORS_RETURN);
}

/*
 * 0, or what tells spawned processes of one MPI_COMM_WORLD from those of others: the random bytes
 * that the kernel gave to the first of them.
 */
static uint64_t spawned_world(void)
{
    int parent = MPI_COMM_NULL;
    uint64_t world = 0;
    mpi_cross(CALL_MPI_Comm_get_parent, (uint64_t)&parent);
    if (parent == MPI_COMM_NULL)
        return 0;
    memcpy(&world, (const void *)getauxval(AT_RANDOM), sizeof world);
    world |= 1;
    mpi_cross(CALL_MPI_Bcast, (uint64_t)&world, 1, (uint64_t)MPI_UINT64_T, 0, MPI_COMM_WORLD);
    return world;
}

static int start_live(enum call how, int required)
{
    /* argc and argv stay up here: the lower half has its own. */
    int rc, level = MPI_THREAD_SINGLE;
    if (call_table[how].nparams > 2) {
        rc = mpi_cross(how, 0, 0, (uint64_t)required, (uint64_t)&level);
    } else {
        rc = mpi_cross(how, 0, 0);
        if (!rc)
            mpi_cross(CALL_MPI_Query_thread, (uint64_t)&level);
    }
    if (rc)
        return rc;
    return_errors();
    started.level = level;
    post_start();
    mpi_cross(CALL_MPI_Comm_rank, MPI_COMM_WORLD, (uint64_t)&started.rank);
    mpi_cross(CALL_MPI_Comm_size, MPI_COMM_WORLD, (uint64_t)&started.size);
    attr_ask_predefined();
    started.attrs = attr_predefined;
    uint64_t world = spawned_world();
    started.rank_in_job = (int)cross(GATE->job_started, (uint64_t)started.rank,
                                     (uint64_t)started.size, (uint64_t)level, world);
    if (started.rank_in_job < 0)
        stub_stop(125, "dbg3: rank %d cannot join its job", started.rank);
    return 0;
}

static int join(enum call call, enum call how, int level)
{
    int rc;
    if (replaying()) {
        record_attach();
        const struct log_record *rec = replay_next(call);
        memcpy(&started, log_field_value(replay_field(rec, LOG_PARAM_NONE, LOG_ROLE_VALUE)),
               sizeof started);
        rc = replay_rc(rec);
    } else {
        rc = start_live(how, level);
    }
    if (rc)
        return rc;
    begin();
    if (recording()) {
        record_attach();
        record_begin(call, LOG_FIELD_ROOM(sizeof started));
        log_put(&record_writer, LOG_PARAM_NONE, LOG_ROLE_VALUE, &started, sizeof started);
        record_end(0);
        system_thread_started();
    }
    return 0;
}

int init_rank_in_job(void)
{
    return started.rank_in_job;
}

int init_join(enum call call, enum call how, int level)
{
    stub_lock(&joining);
    int rc = joined ? 0 : join(call, how, level);
    stub_unlock(&joining);
    return rc;
}

int hand_init(enum call call, const uint64_t *v)
{
    bool threads = call_table[call].nparams > 2;
    if (initialized)
        return error_return(call, v, MPI_ERR_OTHER);
    int rc = init_join(call, call, threads ? (int)v[2] : 0);
    if (rc)
        return rc;
    initialized = true;
    main_thread = stub_thread_ordinal();
    if (threads && v[3])
        *(int *)v[3] = started.level;
    return 0;
}

/* Comes back when no epoch is under way; peers that are to reach it may need progress here. May
 * return in another process. */
static void await_ending(void)
{
    unsigned turn = 0;
    while (!replaying() && (int)cross(GATE->job_ending, 0) == GATE_EAGAIN) {
        int flag;
        mpi_cross(CALL_MPI_Iprobe, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_SELF, (uint64_t)&flag,
                  (uint64_t)MPI_STATUS_IGNORE);
        grequest_pause(&turn);
    }
}

/* The lower half's MPI_Finalize; an event if the application has called it. */
static int leave(bool event)
{
    const enum call call = CALL_MPI_Finalize;
    int rc = 0;
    requests_flush_buffered(); /* MPI would wait for them too; it does not know them */
    await_ending();
    if (replaying()) {
        rc = event ? replay_rc(replay_next(call)) : 0;
    } else {
        rc = mpi_cross(call);
        if (event && recording()) {
            record_begin(call, 0);
            record_end(rc);
        }
    }
    left = true;
    stub_gate.finalized = 1;
    stub_gate.mpi_level = LEVEL_NONE;
    if (!replaying() && GATE->job_ended)
        cross(GATE->job_ended, 0);
    return rc;
}

void init_leave(void)
{
    stub_enter();
    if (joined && !left && !session_count() && initialized == finalized)
        leave(false);
    stub_leave();
}

int hand_finalize(enum call call, const uint64_t *v)
{
    if (!initialized || finalized)
        return call_generic(call, v);
    /* MPI 4.0 §11.4.2: attributes of MPI_COMM_SELF go first, while MPI still works. */
    attr_delete_all(MPI_COMM_SELF, &comm_self.attrs);
    attr_delete_all(MPI_COMM_WORLD, &comm_world.attrs);
    finalized = true;
    return session_count() ? MPI_SUCCESS : leave(true);
}

int hand_abort(enum call call, const uint64_t *v)
{
    if (replaying()) {
        const struct log_record *rec = replay_next(call);
        int code = (int)log_field_int(replay_field(rec, 1, LOG_ROLE_VALUE));
        if (code != (int)v[1])
            stub_stop(3, "diverged at event %lu: MPI_Abort with code %d where %d was recorded",
                      (unsigned long)rec->event, (int)v[1], code);
        stub_stop(0, "the rank called MPI_Abort with code %d, as recorded", code);
    }
    if (recording()) {
        record_begin(call, LOG_FIELD_ROOM(4));
        log_put_i32(&record_writer, 1, LOG_ROLE_VALUE, (int)v[1]);
        record_end(0);
    }
    if (GATE->job_abort)
        cross(GATE->job_abort, v[1], call_where.site);
    return mpi_cross(call, handle_real(HANDLE_COMM, (int)v[0]), v[1]);
}

int hand_initialized(enum call call, const uint64_t *v)
{
    *(int *)v[0] = initialized;
    return MPI_SUCCESS;
}

int hand_finalized(enum call call, const uint64_t *v)
{
    *(int *)v[0] = finalized;
    return MPI_SUCCESS;
}

int hand_query_thread(enum call call, const uint64_t *v)
{
    if (!initialized)
        return call_generic(call, v);
    *(int *)v[0] = started.level;
    return MPI_SUCCESS;
}

int hand_is_thread_main(enum call call, const uint64_t *v)
{
    if (!initialized)
        return call_generic(call, v);
    *(int *)v[0] = stub_thread_ordinal() == main_thread;
    return MPI_SUCCESS;
}

int hand_nothing(enum call call, const uint64_t *v)
{
    return MPI_SUCCESS;
}

int hand_get_version(enum call call, const uint64_t *v)
{
    *(int *)v[0] = MPI_VERSION;
    *(int *)v[1] = MPI_SUBVERSION;
    return MPI_SUCCESS;
}

int hand_get_address(enum call call, const uint64_t *v)
{
    *(MPI_Aint *)v[1] = (MPI_Aint)v[0];
    return MPI_SUCCESS;
}

int hand_alloc_mem(enum call call, const uint64_t *v)
{
    if (call_table[call].nparams == 1)
        application_free((void *)v[0]);
    else if ((MPI_Aint)v[0] < 0)
        return error_return(call, v, MPI_ERR_ARG);
    else
        *(void **)v[2] = application_alloc(v[0]);
    return MPI_SUCCESS;
}

/* MPICH reads CLOCK_MONOTONIC here too; ours goes through the clock that is recorded and
 * replayed. */
EXPORT double PMPI_Wtime(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

EXPORT double PMPI_Wtick(void)
{
    return 1e-9;
}

EXPORT MPI_Aint PMPI_Aint_add(MPI_Aint base, MPI_Aint disp)
{
    return (MPI_Aint)((uint64_t)base + (uint64_t)disp);
}

EXPORT MPI_Aint PMPI_Aint_diff(MPI_Aint a, MPI_Aint b)
{
    return (MPI_Aint)((uint64_t)a - (uint64_t)b);
}

/* Ids of files are ints, so both languages know them by the same number. */
EXPORT MPI_File PMPI_File_f2c(MPI_Fint file)
{
    return (MPI_File)(intptr_t)file;
}

EXPORT MPI_Fint PMPI_File_c2f(MPI_File file)
{
    return (MPI_Fint)(intptr_t)file;
}

#define ALIAS(name)                                                                                \
    extern __typeof__(P##name) name __attribute__((weak, alias("P" #name), visibility("default")))
ALIAS(MPI_Wtime);
ALIAS(MPI_Wtick);
ALIAS(MPI_Aint_add);
ALIAS(MPI_Aint_diff);
ALIAS(MPI_File_f2c);
ALIAS(MPI_File_c2f);
