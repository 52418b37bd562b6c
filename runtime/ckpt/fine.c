/*
 * fine.c - fine checkpoints: local to one rank, at a call boundary, only what changed
 */
#define LOG_MODULE "fine"
#include "runtime/ckpt/fine.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/fault.h"
#include "runtime/base/log.h"
#include "runtime/ckpt/agent.h"
#include "runtime/ckpt/fine_merge.h"
#include "runtime/ckpt/park.h"
#include "runtime/ckpt/payload.h"
#include "runtime/ckpt/payload_ring.h"
#include "runtime/ckpt/save.h"
#include "runtime/ckpt/track.h"
#include "runtime/coord/counters.h"
#include "runtime/half/gate.h"
#include "runtime/half/own_fd.h"
#include "runtime/half/sys.h"

#define PARK_MS       250
#define PARK_FIRST_MS 5000 /* isolation begins there */
#define TRIES_MAX     6
#define KEEP_MAX      4096

#define SEGMENT_BYTES (4ul << 20)  /* with so much, or so many, the next segment begins */
#define SEGMENT_COUNT 256
#define MERGE_BYTES   (16ul << 20) /* so much that is not kept any more is merged */
#define MERGE_COUNT   512
#define BEHIND_BYTES  (256ul << 20) /* with so much, or so many, the rank waits for the merging */
#define BEHIND_COUNT  4096
#define CLOSED_MAX    (KEEP_MAX + BEHIND_COUNT)

#define LOG_SHARE 0.8 /* of the overhead */

#define PAGE_US 4 /* to find, write and watch a page: 1 GB/s, a guess for the first increment */

/* A segment that is not written to any more. */
struct closed {
    uint64_t last; /* checkpoint in it */
    uint64_t count, bytes;
};

static struct {
    uint64_t keep, overhead;
    uint64_t since_us, since_messages; /* as run_us(), at the end of the first checkpoint, which has
                                        * to be whole */
    uint64_t spent_us;                 /* on those after it: pauses, and faults they cause */
    uint64_t merged_us, logged_us;     /* on merging and on the log, when the first was complete */
    uint64_t pages;                    /* in memory then */
    unsigned tries;                    /* in vain, since the last one */
    char folder[4096];
    char logs[4096];
    struct save_kept *kept;
    uint64_t number;            /* of the last checkpoint; the first is 1 */
    uint64_t oldest;            /* the oldest that is kept */
    struct image_id last_id;
    uint32_t log[KEEP_MAX];     /* log segment of checkpoint number % KEEP_MAX */
    uint32_t log_from;          /* the log before it was given up */
    int fd;                     /* of the segment that is written to; 0: none yet */
    uint64_t first, at;         /* its first checkpoint; its end */
    struct closed closed[CLOSED_MAX]; /* not merged, oldest first */
    size_t nclosed;
} fine;

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* Processor time of the rank, which is what it earns by: where ranks share cores a share of time on
 * the clock would be several times that of their work. */
static uint64_t run_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* ---- segments ---- */

static void close_segment(void)
{
    if (fine.fd > 0)
        own_fd_close(fine.fd);
    if (fine.fd > 0)
        fine.closed[fine.nclosed++] =
            (struct closed){fine.number, fine.number - fine.first + 1, fine.at};
    fine.fd = 0;
}

static void take_spare(const char *path)
{
    for (unsigned i = 0; i < FINE_SPARES; i++) {
        char spare[4096];
        snprintf(spare, sizeof spare, "%.4000s/" FINE_SPARE, fine.folder, i);
        if (rename(spare, path) == 0)
            return;
    }
}

/* Makes sure that there is a segment for the next checkpoint; its name goes to `path`. */
static int open_segment(char *path, size_t cap, struct err *err)
{
    if (fine.at >= SEGMENT_BYTES || fine.number - fine.first + 1 >= SEGMENT_COUNT)
        close_segment();
    if (fine.fd <= 0)
        fine.first = fine.number + 1;
    snprintf(path, cap, "%.4000s/%08lu.inc", fine.folder, fine.first);
    if (fine.fd > 0)
        return 0;
    take_spare(path);
    fine.at = 0;
    fine.fd = own_fd_take(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    return fine.fd < 0 ? err_sys(err, "cannot make %s", path) : 0;
}

/* Segments that hold nothing that is kept, as one to merge; how many those are. */
static size_t sum_up(struct closed *sum)
{
    size_t n = 0;
    *sum = (struct closed){0};
    for (; n < fine.nclosed && fine.closed[n].last < fine.oldest; n++) {
        sum->last = fine.closed[n].last;
        sum->count += fine.closed[n].count;
        sum->bytes += fine.closed[n].bytes;
    }
    return n;
}

/* Lets what is not needed any more be merged, or removed, when there is enough of it. */
static int trim(struct err *err)
{
    struct closed sum;
    size_t n = sum_up(&sum);
    uint32_t log_from = fine.log[fine.oldest % KEEP_MAX];
    bool merge = sum.bytes >= MERGE_BYTES || sum.count >= MERGE_COUNT;
    bool behind = sum.bytes >= BEHIND_BYTES || sum.count >= BEHIND_COUNT;
    if (!merge && log_from == fine.log_from)
        return 0;
    int r = fine_merge_ask(merge ? sum.last : 0, sum.bytes, log_from, behind, err);
    if (r != 0)
        return r < 0 ? -1 : 0;
    fine.log_from = log_from;
    if (merge) {
        fine.nclosed -= n;
        memmove(fine.closed, fine.closed + n, fine.nclosed * sizeof *fine.closed);
    }
    return 0;
}

/* ---- a checkpoint ---- */

/* Where the parent is: the increment before, or the image that the first checkpoint was. */
static void name_parent(char *buf, size_t cap, uint64_t first_of_parent)
{
    if (fine.number == 1)
        snprintf(buf, cap, "%08u.img", 1);
    else
        snprintf(buf, cap, "%08lu.inc@%lu", first_of_parent, fine.number);
}

static void describe_position(struct image_position *p)
{
    uint64_t segment, offset, event;
    GATE->stub->position(&segment, &offset, &event);
    *p = (struct image_position){(uint32_t)segment, offset, event};
}

static int write_whole(struct save_request *request, struct image_written *written,
                       struct err *err)
{
    char path[4096];
    snprintf(path, sizeof path, "%.4000s/%08u.img", fine.folder, 1);
    request->path = path;
    request->kind = IMAGE_FULL;
    return save_image(request, written, err);
}

static int write_increment(struct save_request *request, struct image_written *written,
                           struct err *err)
{
    char path[4096], parent[64];
    uint64_t first_of_parent = fine.first;
    if (open_segment(path, sizeof path, err) < 0)
        return -1;
    name_parent(parent, sizeof parent, first_of_parent);
    request->path = path;
    request->kind = IMAGE_INCREMENTAL;
    request->parent = parent;
    request->parent_id = fine.last_id;
    request->segment_fd = fine.fd;
    request->segment_at = fine.at;
    if (save_image(request, written, err) < 0)
        return -1;
    fine.at += written->file_bytes;
    return 0;
}

static int write_checkpoint(const struct parked *threads, size_t n, struct image_written *written,
                            struct err *err)
{
    uint64_t next = fine.number + 1, oldest = next > fine.keep ? next - fine.keep + 1 : 1;
    struct save_request request = {.threads = threads, .nthreads = n, .kept = fine.kept,
                                   .checkpoint = next, .oldest = oldest};
    describe_position(&request.position);
    const struct save_regions *regions = save_kept_regions(fine.kept, err);
    if (!regions || track_collect(regions, &request.changed, &request.nchanged, err) < 0)
        return -1;
    int r = fine.number == 0 ? write_whole(&request, written, err)
                             : write_increment(&request, written, err);
    if (r < 0)
        return -1;
    fault_point(FAULT_FINE_WRITTEN);
    fine.spent_us += fine.number == 0 ? 0 : track_cost_us();
    fine.last_id = written->id;
    fine.number = next;
    fine.oldest = oldest;
    fine.log[next % KEEP_MAX] = request.position.segment;
    return trim(err);
}

static void on_upper_fs(uint64_t upper, void (*fn)(void))
{
    uint64_t lower = fs_base();
    set_fs_base(upper);
    fn();
    set_fs_base(lower);
}

/* What is left for checkpoints of a second's work: the log takes its part of the overhead, but not
 * all of it. */
static double earned(uint64_t ran_us)
{
    double overhead = (double)fine.overhead / 100;
    double log = (double)(payload_spent_us() - fine.logged_us) / (double)ran_us;
    double most = LOG_SHARE * overhead;
    return overhead - (log < most ? log : most);
}

/* The rank has run for ran_us: how many messages from now on pay for cost_us? As many as come in
 * the time that is missing, by their rate so far. Whether any are owed. */
static bool owe(uint64_t ran_us, uint64_t cost_us)
{
    const struct counters_file *counters = GATE->counters;
    uint64_t messages = counters_get(&counters->messages);
    uint64_t must_us = (uint64_t)((double)cost_us / earned(ran_us));
    double rate = (double)(messages - fine.since_messages) / (double)ran_us;
    uint64_t owed_us = must_us > ran_us ? must_us - ran_us : 0;
    GATE->fine_from = messages + (uint64_t)(rate * (double)owed_us);
    return owed_us > 0;
}

/* Resident pages of the process that are no file's, as those of the log are: proc_pid_statm(5). 0
 * if they cannot be told. */
static uint64_t resident_pages(void)
{
    uint64_t size, resident, shared;
    FILE *f = fopen("/proc/self/statm", "re");
    int n = f ? fscanf(f, "%lu %lu %lu", &size, &resident, &shared) : 0;
    if (f)
        fclose(f);
    return n == 3 && resident > shared ? resident - shared : 0;
}

/* The first checkpoint is complete: what comes after it counts. */
static void start_to_count(void)
{
    const struct counters_file *counters = GATE->counters;
    fine.since_us = run_us();
    fine.since_messages = counters_get(&counters->messages);
    fine.merged_us = fine_merge_spent_us();
    fine.logged_us = payload_spent_us();
    fine.pages = resident_pages();
}

/* With an overhead: what has been spent in pauses, in faults of the watch and on merging is to be
 * paid for before the next one. */
static void put_off(uint64_t began_us)
{
    uint64_t passed_us = run_us() - fine.since_us;
    fine.spent_us += now_us() - began_us;
    uint64_t cost_us = fine.spent_us + fine_merge_spent_us() - fine.merged_us;
    if (fine.overhead)
        owe(passed_us > cost_us ? passed_us - cost_us : 1, cost_us);
}

/*
 * A program fills its memory after a first checkpoint at its start: the first increment holds all
 * of it, and nothing is known of what that takes. With an overhead it waits until so much has been
 * earned.
 */
static bool too_early(void)
{
    uint64_t pages = fine.overhead && fine.number == 1 ? resident_pages() : 0;
    return pages > fine.pages &&
           owe(run_us() - fine.since_us + 1, (pages - fine.pages) * PAGE_US);
}

/* A thread does not come to a safe point. It may be in a collective call that its peers enter when
 * they are through with checkpoints of their own, which wait for threads in collectives with us:
 * all go on, and the next try comes ever later. */
static void try_later(uint64_t began_us, const char *why)
{
    log_debug("rank %d: no checkpoint now: %s", save_identity.rank, why);
    park_resume();
    if (fine.number)
        put_off(began_us);
    if (fine.tries < TRIES_MAX)
        fine.tries++;
    const struct counters_file *counters = GATE->counters;
    uint64_t from =
        counters_get(&counters->messages) + (GATE->settings.fine_every << fine.tries);
    GATE->fine_from = from > GATE->fine_from ? from : GATE->fine_from;
}

/* Threads from before MPI_Init take turns from the first checkpoint on: isolation begins there, and
 * what they did before is in it. */
static bool adopted;
static void adopt_threads(void)
{
    adopted = GATE->stub->adopt_threads();
}

/* On the main thread, in its park signal, on the lower FS. */
static void take(struct parked *self)
{
    static struct parked threads[PARK_MAX + 1];
    struct image_written written;
    struct err err;
    size_t n;
    uint64_t start = now_us();
    __atomic_and_fetch(&GATE->word, (uint32_t)~GATE_WORD_FINE, __ATOMIC_SEQ_CST);
    if (too_early())
        return;
    on_upper_fs(self->fs_base, GATE->stub->before_save);
    bool alone = park_alone();
    if (!alone && park_all(self->tid, fine.number ? PARK_MS : PARK_FIRST_MS, &err) < 0) {
        try_later(start, err.text);
        return;
    }
    fine.tries = 0;
    threads[0] = *self;
    const struct parked *others = park_threads(&n);
    memcpy(threads + 1, others, n * sizeof *others);
    int r = write_checkpoint(threads, n + 1, &written, &err);
    adopted = false;
    if (r == 0 && fine.number == 1)
        on_upper_fs(self->fs_base, adopt_threads);
    if (!alone && adopted)
        park_resume_anew();
    else if (!alone)
        park_resume();
    if (r < 0) {
        char text[ERR_TEXT_MAX + 64];
        snprintf(text, sizeof text, "fine checkpoint %lu failed: %.1000s", fine.number + 1,
                 err.text);
        GATE->stop(1, text);
    }
    uint64_t segment, offset, event;
    GATE->stub->position(&segment, &offset, &event);
    agent_fine(fine.number, event, written.file_bytes, now_us() - start);
    log_debug("rank %d: checkpoint %lu at event %lu: %lu KiB, %lu us", save_identity.rank,
              fine.number, event, written.file_bytes >> 10, now_us() - start);
    if (fine.number == 1)
        start_to_count();
    else
        put_off(start);
}

void fine_init(uint64_t keep, uint64_t overhead)
{
    fine.overhead = overhead;
    fine.keep = keep < 1 ? 1 : keep > KEEP_MAX - 1 ? KEEP_MAX - 1 : keep;
}

static int written(uint64_t start, uint64_t end, uint64_t *from, void *out, uint64_t room)
{
    return track_range(start, end, from, out, room);
}

int fine_start(struct err *err)
{
    if (!agent_session())
        return 0;
    snprintf(fine.logs, sizeof fine.logs, "%s/logs", agent_session());
    snprintf(fine.folder, sizeof fine.folder, "%s/fine", agent_session());
    mkdir(fine.folder, 0700);
    size_t n = strlen(fine.folder);
    snprintf(fine.folder + n, sizeof fine.folder - n, "/rank-%d", save_identity.rank);
    if (mkdir(fine.folder, 0700) < 0 && errno != EEXIST)
        return err_sys(err, "cannot make %s", fine.folder);
    fine.kept = save_kept_create(err);
    if (track_start() == TRACK_PROTECT)
        GATE->written = written;
    if (!fine.kept ||
        fine_merge_start(fine.folder, fine.logs, (uint32_t)save_identity.rank, err) < 0)
        return -1;
    payload_ring_start();
    park_on_fine(take);
    __atomic_or_fetch(&GATE->word, GATE_WORD_FINE, __ATOMIC_SEQ_CST);
    return 0;
}
