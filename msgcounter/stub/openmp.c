/*
 * openmp.c - where threads of GCC's OpenMP library wait for each other
 *
 * libgomp spins in its barriers before it sleeps, for up to some milliseconds, which a thread that
 * has the turn (schedule.h) would do in vain. So these functions take the place of its own: the
 * application's code has the turn, the library's waits do not.
 *
 *     main      GOMP_parallel --has turn--> [region: turn] --none--> barrier --> turn again
 *     thread 1        dock, no turn         [region: turn] --none--> barrier, dock
 *
 * Without a turn a thread is `outside`: its system calls are nobody's events, and made in a replay,
 * too. What it does there does not depend on who comes first; what does depend on it (locks, who
 * gets a single region or the next piece of a loop) is done with the turn.
 */
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "msgcounter/stub/schedule.h"
#include "msgcounter/stub/stub.h"
#include "msgcounter/stub/thread.h"

#define EXPORT __attribute__((visibility("default")))

#define TASK_DETACH (1u << 13) /* GOMP_TASK_FLAG_DETACH of gomp-constants.h */

typedef void body_fn(void *);

/* Of a thread, while its state is changed. */
struct state {
    uint8_t outside, region;
};

static struct state state_set(uint8_t outside, uint8_t region)
{
    struct state before = {stub_thread.outside, stub_thread.region};
    stub_thread.outside = outside;
    stub_thread.region = region;
    return before;
}

/* Runs the application's code, whose turn may begin with it. */
static void run(body_fn *fn, void *data)
{
    struct state before = state_set(0, 0);
    schedule_get_in_application();
    fn(data);
    if (before.outside)
        schedule_give();
    state_set(before.outside, before.region);
}

/* ---- parallel regions ---- */

struct region {
    body_fn *fn;
    void *data;
    const struct stub_thread *maker;
};

static void run_region(void *arg)
{
    const struct region *r = arg;
    run(r->fn, r->data);
    if (r->maker == &stub_thread) { /* it waits for the others now */
        schedule_give();
        stub_thread.outside = 1;
    }
}

typedef void region_fn(body_fn *fn, void *data, long, long, long, long, long, long);

/* These differ in the numbers behind the first two arguments, which at most six are. */
static void region(region_fn *real, body_fn *fn, void *data, const long *a)
{
    struct region r = {fn, data, &stub_thread};
    struct state before = state_set(stub_thread.outside, 1);
    real(run_region, &r, a[0], a[1], a[2], a[3], a[4], a[5]);
    state_set(before.outside, before.region);
    if (!before.outside)
        schedule_get_in_application();
}

#define REGION(name)                                                                               \
    EXPORT void name(body_fn *fn, void *data, long a, long b, long c, long d, long e, long f);     \
    void name(body_fn *fn, void *data, long a, long b, long c, long d, long e, long f)             \
    {                                                                                              \
        static void *known;                                                                        \
        region((region_fn *)stub_next(#name, &known), fn, data, (const long[]){a, b, c, d, e, f}); \
    }
REGION(GOMP_parallel)
REGION(GOMP_parallel_loop_static)
REGION(GOMP_parallel_loop_dynamic)
REGION(GOMP_parallel_loop_guided)
REGION(GOMP_parallel_loop_runtime)
REGION(GOMP_parallel_loop_nonmonotonic_dynamic)
REGION(GOMP_parallel_loop_nonmonotonic_guided)
REGION(GOMP_parallel_loop_nonmonotonic_runtime)
REGION(GOMP_parallel_loop_maybe_nonmonotonic_runtime)
REGION(GOMP_parallel_sections)

/* Returns a number. */
EXPORT unsigned GOMP_parallel_reductions(body_fn *fn, void *data, unsigned threads, unsigned flags);

unsigned GOMP_parallel_reductions(body_fn *fn, void *data, unsigned threads, unsigned flags)
{
    static void *known;
    unsigned (*real)(body_fn *, void *, unsigned, unsigned) =
        stub_next("GOMP_parallel_reductions", &known);
    struct region r = {fn, data, &stub_thread};
    struct state before = state_set(stub_thread.outside, 1);
    unsigned n = real(run_region, &r, threads, flags);
    state_set(before.outside, before.region);
    if (!before.outside)
        schedule_get_in_application();
    return n;
}

/* ---- barriers ---- */

static void wait_outside(void (*real)(void))
{
    schedule_give();
    struct state before = state_set(1, 1);
    real();
    state_set(before.outside, before.region);
    schedule_get_in_application();
}

#define BARRIER(name)                                                                              \
    EXPORT void name(void);                                                                        \
    void name(void)                                                                                \
    {                                                                                              \
        static void *known;                                                                        \
        wait_outside((void (*)(void))stub_next(#name, &known));                                    \
    }
BARRIER(GOMP_barrier)
BARRIER(GOMP_loop_end)
BARRIER(GOMP_sections_end)

/* ---- tasks, which may run in a thread that waits at a barrier ---- */

/* Before a task's arguments, as long as their alignment asks for. */
struct task {
    body_fn *fn;
    uint64_t arguments; /* where they are, from here */
};

/* What they are made of. */
struct making {
    struct task task;
    void *data;
    void (*copy)(void *, void *);
    size_t size;
};

static void make_task(void *to, void *from)
{
    const struct making *m = from;
    char *arguments = (char *)to + m->task.arguments;
    *(struct task *)to = m->task;
    if (m->copy)
        m->copy(arguments, m->data);
    else
        memcpy(arguments, m->data, m->size);
}

static void run_task(void *arg)
{
    const struct task *task = arg;
    run(task->fn, (char *)arg + task->arguments);
}

typedef void task_fn(body_fn *, void *, void (*)(void *, void *), long, long, bool, unsigned,
                     void **, int, void *);
EXPORT task_fn GOMP_task;

void GOMP_task(body_fn *fn, void *data, void (*copy)(void *, void *), long size, long align,
               bool deferred, unsigned flags, void **depend, int priority, void *detach)
{
    static void *known;
    task_fn *real = (task_fn *)stub_next("GOMP_task", &known);
    long room = align > (long)sizeof(struct task) ? align : (long)sizeof(struct task);
    struct making m = {{fn, (uint64_t)room}, data, copy, (size_t)size};
    if (flags & TASK_DETACH) { /* it writes into `data` */
        schedule_end("an OpenMP task is detached");
        real(fn, data, copy, size, align, deferred, flags, depend, priority, detach);
    } else {
        real(run_task, &m, make_task, room + size, room, deferred, flags, depend, priority, detach);
    }
}

/* ---- what is not done in turns ---- */

typedef void any_fn(long, long, long, long, long, long, long, long, long, long, long);

#define FREELY(name)                                                                               \
    EXPORT any_fn name;                                                                            \
    void name(long a, long b, long c, long d, long e, long f, long g, long h, long i, long j,      \
              long k)                                                                              \
    {                                                                                              \
        static void *known;                                                                        \
        schedule_end("OpenMP has " #name);                                                         \
        ((any_fn *)stub_next(#name, &known))(a, b, c, d, e, f, g, h, i, j, k);                     \
    }
FREELY(GOMP_taskloop)
FREELY(GOMP_taskloop_ull)
FREELY(GOMP_teams_reg)
FREELY(GOMP_parallel_start)
FREELY(GOMP_parallel_sections_start)
FREELY(GOMP_parallel_loop_static_start)
FREELY(GOMP_parallel_loop_dynamic_start)
FREELY(GOMP_parallel_loop_guided_start)
FREELY(GOMP_parallel_loop_runtime_start)
