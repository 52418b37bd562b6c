/*
 * gate_direct.c - a gate in an ordinary process, so that the stub can be developed and tested
 * without the split
 *
 *     mpiexec -n 4 env LD_PRELOAD=libgate_direct.so:libmpich.so.12 ./app
 *
 * This library's constructor comes first: it maps struct gate and, in the place of a lower half,
 * loads the real MPI library with dlmopen into a namespace of its own. The thread-local storage of
 * both libcs then lives under one FS base (GATE_FLAG_SAME_FS). Settings come from the environment:
 *
 *     DBG3_DIRECT=record|replay   the mode, else live; replay needs no mpiexec and loads no MPI
 *     DBG3_DIRECT_LOG=DIR         where the log is, or shall be
 *     DBG3_DIRECT_RANK=N          replay: which rank
 *     DBG3_DIRECT_CUT=N           at every Nth collective on MPI_COMM_WORLD: drain all messages and
 *     give all
 *                                 objects to the library again, as a checkpoint and a restart would
 */
#include <dlfcn.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <mpi.h>

#include "call_id.h"
#include "msgcounter/log/log_file.h"
#include "runtime/coord/counters.h"
#include "runtime/half/gate.h"
#include "runtime/half/p2p_loops.h"

#define WORLD_GID 1 /* comm.c */

static void *mpi[CALL_COUNT];
static struct gate_consts consts;
static struct {
    const char *log_dir;
    int rank, size;
    uint64_t cut_every, cut_done, ncuts;
    MPI_Comm comm; /* for the harness's own messages */
    struct log_map segment;
} direct;

static void __attribute__((noreturn)) fail(const char *what, const char *why)
{
    fprintf(stderr, "gate_direct: %s: %s\n", what, why ? why : "?");
    _exit(125);
}

/* ----------------------------------------------------------------------------- the library */

static void load_library(void)
{
    const char *path = getenv("DBG3_DIRECT_MPI");
    void *lib = dlmopen(LM_ID_NEWLM, path ? path : MPI_LIBRARY, RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        fail("dlmopen", dlerror());
    char ***lower_environ = dlsym(lib, "environ");
    if (lower_environ)
        *lower_environ = environ;
#define LOAD(name)                                                                                 \
    mpi[CALL_##name] = dlsym(lib, "P" #name);                                                      \
    if (!mpi[CALL_##name])                                                                         \
        mpi[CALL_##name] = dlsym(lib, #name);
    CALL_LIST(LOAD)
    void **unweighted = dlsym(lib, "MPI_UNWEIGHTED"), **empty = dlsym(lib, "MPI_WEIGHTS_EMPTY");
    consts.unweighted = unweighted ? *unweighted : NULL;
    consts.weights_empty = empty ? *empty : NULL;
}

#define real(name) ((__typeof__(P##name) *)mpi[CALL_##name])

/* ----------------------------------------------------------------------------- services */

static uint64_t thread_attach(void)
{
    return 0;
}

static void thread_detach(uint64_t lower_fs)
{
}

static void nothing(void)
{
}

static int job_started(int rank, int size, int level, uint64_t world)
{
    direct.rank = rank;
    direct.size = size;
    GATE->counters_size = counters_bytes((uint64_t)size);
    GATE->counters = calloc(1, GATE->counters_size);
    if (direct.cut_every)
        real(MPI_Comm_dup)(MPI_COMM_WORLD, &direct.comm);
    return rank;
}

static int job_ending(void)
{
    if (!direct.cut_every)
        return 0;
    real(MPI_Comm_free)(&direct.comm);
    if (direct.rank == 0)
        fprintf(stderr, "gate_direct: %lu cuts\n", (unsigned long)direct.ncuts);
    return 0;
}

static void job_abort(int code, uint64_t site)
{
}

static void job_exit(int status)
{
    fflush(NULL);
}

static int stop(int code, const char *text)
{
    dprintf(STDERR_FILENO, "dbg3: rank %d: %s\n", direct.rank, text);
    _exit(code);
}

static int log_segment(uint64_t min_bytes, uint64_t first_event, void **base, uint64_t *bytes,
                       uint64_t *segment)
{
    struct log_file file = {.dir = direct.log_dir};
    struct log_writer w = {
        .owner = {.rank = (uint32_t)direct.rank, .world_size = (uint32_t)direct.size},
        .arg = &file};
    int rc = log_file_rotate(&w, (uint32_t)*segment, min_bytes, &direct.segment);
    *base = direct.segment.base;
    *bytes = direct.segment.size;
    return rc;
}

static int log_write_past(uint64_t offset, const void *from, uint64_t bytes)
{
    memcpy(direct.segment.base + offset, from, bytes);
    return 0;
}

/* ----------------------------------------------------------------------------- cuts */

/* All ranks are about to enter the same collective: a consistent cut without a protocol. */
static int coll_enter(uint64_t gid, uint32_t members, uint64_t entered)
{
    if (gid != WORLD_GID || entered % direct.cut_every || entered == direct.cut_done)
        return 0;
    direct.cut_done = entered;
    return GATE_EAGAIN;
}

static int coll_leave(uint64_t gid, uint32_t members, uint64_t entered)
{
    return 0;
}

static int coll_count(uint64_t gid, uint32_t members, uint64_t entered)
{
    return 0;
}

static void safe_point(void)
{
    if (!(GATE->word & GATE_WORD_INTENT)) {
        GATE->word = 0;
        return;
    }
    int n, all_drained = 0;
    const uint64_t *sent = GATE->stub->sent(&n);
    uint64_t *expected = calloc((size_t)n, sizeof *expected);
    const char *unable = GATE->stub->unable();
    int able = !unable, all_able;
    if (unable)
        fprintf(stderr, "gate_direct: no cut: %s\n", unable);
    real(MPI_Allreduce)(&able, &all_able, 1, MPI_INT, MPI_LAND, direct.comm);
    if (!all_able)
        goto out;
    real(MPI_Alltoall)(sent, 1, MPI_UINT64_T, expected, 1, MPI_UINT64_T, direct.comm);
    while (!all_drained) {
        int drained = GATE->stub->drain_step(expected, n);
        if (drained < 0)
            fail("drain", strerror(-drained));
        real(MPI_Allreduce)(&drained, &all_drained, 1, MPI_INT, MPI_LAND, direct.comm);
    }
    GATE->stub->before_save();
    int rc = getenv("DBG3_DIRECT_REBUILD") ? GATE->stub->rebuild() : 0;
    if (rc)
        fail("rebuild", strerror(-rc));
    GATE->stub->after_save(0);
    real(MPI_Barrier)(direct.comm);
    direct.ncuts++;
out:
    free(expected);
}

/* ----------------------------------------------------------------------------- replay */

static void map_log(void)
{
    uint32_t *numbers;
    size_t n;
    struct err err;
    if (log_file_list(direct.log_dir, (uint32_t)direct.rank, &numbers, &n, &err) < 0)
        fail("replay", err.text);
    struct log_map *maps = calloc(n + 1, sizeof *maps);
    for (size_t i = 0; i < n; i++)
        if (log_file_map(direct.log_dir, (uint32_t)direct.rank, numbers[i], false, &maps[i]) < 0)
            fail("replay", "cannot map a segment");
    GATE->replay_segments = maps;
    GATE->replay_nsegments = n;
}

/* ----------------------------------------------------------------------------- start */

static int number(const char *name)
{
    const char *s = getenv(name);
    return s ? atoi(s) : 0;
}

/* This constructor runs before libc's, which sets environ; UCX wants no signal of the
 * application's. */
__attribute__((constructor)) static void start(int argc, char **argv, char **envp)
{
    environ = envp;
    setenv("UCX_ERROR_SIGNALS", "", 1);
    const char *mode = getenv("DBG3_DIRECT");
    struct gate *g = mmap((void *)GATE_ADDR, GATE_SIZE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (g != GATE)
        fail("mmap", "the gate's address is taken");
    direct.log_dir = getenv("DBG3_DIRECT_LOG");
    direct.cut_every = (uint64_t)number("DBG3_DIRECT_CUT");
    *g = (struct gate){
        .magic = GATE_MAGIC,
        .version = GATE_VERSION,
        .size = sizeof *g,
        .ncalls = CALL_COUNT,
        .mode = !mode                     ? GATE_LIVE
                : !strcmp(mode, "record") ? GATE_RECORD
                                          : GATE_REPLAY,
        .flags = GATE_FLAG_SAME_FS,
        .generation = 1,
        .main_tid = (uint64_t)gettid(),
        .thread_attach = thread_attach,
        .thread_detach = thread_detach,
        .mpi = mpi,
        .consts = &consts,
        .job_started = job_started,
        .job_ending = job_ending,
        .job_ended = nothing,
        .job_abort = job_abort,
        .job_exit = job_exit,
        .coll_enter = coll_enter,
        .coll_leave = coll_leave,
        .coll_count = coll_count,
        .log_segment = log_segment,
        .log_write = log_write_past,
        .log_full = nothing,
        .stop = stop,
        .park_arm = nothing,
        .safe_point = safe_point,
        .want_epoch = nothing,
        .kernel_vdso = {[GATE_VDSO_CLOCK_GETTIME] = clock_gettime,
                        [GATE_VDSO_GETTIMEOFDAY] = gettimeofday,
                        [GATE_VDSO_TIME] = time,
                        [GATE_VDSO_GETCPU] = getcpu,
                        [GATE_VDSO_CLOCK_GETRES] = clock_getres},
        .settings = {.oversubscribed = 1},
    };
    if (g->mode == GATE_REPLAY) {
        direct.rank = number("DBG3_DIRECT_RANK");
        map_log();
    } else {
        load_library();
        p2p_loops_install(g);
    }
    if (direct.cut_every)
        g->word = GATE_WORD_INTENT;
}
