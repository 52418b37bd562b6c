/*
 * order_job.c - the order log of this rank: which segment is written to, which ones are followed
 */
#include "runtime/ckpt/order_job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "msgcounter/log/order_file.h"
#include "runtime/ckpt/save.h"
#include "runtime/coord/counters.h"
#include "runtime/half/gate.h"

static const struct half_env *env;

static void say(const char *what, const char *why)
{
    fprintf(stderr, "dbg3: rank %d: %s: %s\n", save_identity.rank, what, why);
}

/* ---- keeping ---- */

static void begin(uint64_t epoch)
{
    struct err err;
    GATE->order = order_file_create(env->session, epoch, (uint32_t)save_identity.rank,
                                    (uint32_t)save_identity.size, &err);
    if (!GATE->order)
        say("the order of its receives is not kept", err.text);
}

void order_job_epoch(uint64_t epoch)
{
    struct order_segment *before = GATE->order;
    if (!before)
        return;
    begin(epoch);
    order_file_finish(before, GATE->order ? epoch : 0);
}

static int grow(uint64_t bytes)
{
    int rc = order_file_grow(env->session, GATE->order, bytes);
    if (rc < 0)
        say("the order of its receives is kept no longer", strerror(-rc));
    return rc;
}

/* ---- following: does the job stand still? ---- */

/* What was seen of a rank at the last look. */
struct seen {
    const struct counters_file *file;
    uint64_t messages, calls;
};

static struct {
    struct seen *rank;
    int n; /* of the job so far: it may spawn more */
    uint64_t moved_ms; /* when something last did */
} watch;

static const struct counters_file *counters_of(int rank)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/counters/rank-%d.cnt", env->session, rank);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    void *p = mmap(NULL, sizeof(struct counters_file), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    return p == MAP_FAILED ? NULL : p;
}

static bool waits(uint64_t state)
{
    return state == COUNTERS_WAITING || state == COUNTERS_COLLECTIVE || state == COUNTERS_HOLDING ||
           state >= COUNTERS_FINALIZED;
}

/* Whether a rank may still get to sending what another waits for: it has completed a message since
 * the last look, or works in the application. One that only asks whether something has come does
 * neither. */
static bool moves(struct seen *s)
{
    uint64_t messages = counters_get(&s->file->messages), calls = counters_get(&s->file->calls);
    bool worked = calls == s->calls && !waits(counters_get(&s->file->state));
    bool moved = messages != s->messages || worked;
    s->messages = messages;
    s->calls = calls;
    return moved;
}

/* One more rank of the job, if it has counters. */
static bool watch_next(void)
{
    const struct counters_file *file = counters_of(watch.n);
    struct seen *more =
        file ? realloc(watch.rank, ((size_t)watch.n + 1) * sizeof *watch.rank) : NULL;
    if (!more)
        return false;
    watch.rank = more;
    watch.rank[watch.n++] = (struct seen){.file = file};
    return true;
}

static int stuck(void)
{
    struct timespec t;
    bool moved = false;
    clock_gettime(CLOCK_MONOTONIC, &t);
    uint64_t now_ms = (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
    if (!watch.rank)
        watch.moved_ms = now_ms;
    while (watch_next())
        continue;
    for (int r = 0; r < watch.n; r++)
        if (r != save_identity.rank) /* it waits */
            moved |= moves(&watch.rank[r]);
    if (moved)
        watch.moved_ms = now_ms;
    return now_ms - watch.moved_ms >= env->order_wait_ms;
}

/* ---- following ---- */

static void follow(uint64_t epoch)
{
    static struct order_chain chain;
    struct err err;
    if (env->order_wait_ms == 0)
        return;
    if (order_chain_open(&chain, env->session, epoch, (uint32_t)save_identity.rank, &err) < 0)
        say("it runs free, not in the order of batch", err.text);
    else if (chain.n == 0)
        say("it runs free", "batch has kept no order from here on");
    GATE->order_maps = chain.maps;
    GATE->order_nmaps = chain.n;
}

void order_job_start(const struct half_env *half_env, uint64_t epoch)
{
    env = half_env;
    GATE->order_grow = grow;
    GATE->order_stuck = stuck;
    if (!env->session)
        return;
    if (GATE->mode == GATE_RECORD)
        follow(epoch);
    else
        begin(epoch);
}
