/*
 * fine.c - fine checkpoints: local to one rank, at a call boundary, only what changed
 */
#define LOG_MODULE "fine"
#include "runtime/ckpt/fine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "msgcounter/log/log_file.h"
#include "runtime/base/fault.h"
#include "runtime/base/log.h"
#include "runtime/ckpt/agent.h"
#include "runtime/ckpt/park.h"
#include "runtime/ckpt/save.h"
#include "runtime/ckpt/track.h"
#include "runtime/half/gate.h"
#include "runtime/half/sys.h"

#define PARK_MS  20000
#define KEEP_MAX 4096
#define NAME_FORMAT "%08lu.img"

static struct {
    uint64_t keep;
    char folder[4096];
    char logs[4096];
    uint64_t number;           /* of the last checkpoint; the first is 1 */
    uint64_t oldest;           /* the oldest that is kept */
    struct image_id last_id;
    uint32_t segment[KEEP_MAX]; /* log segment of checkpoint number % KEEP_MAX */
} fine;

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void name(char *buf, size_t cap, uint64_t number)
{
    snprintf(buf, cap, "%.4000s/" NAME_FORMAT, fine.folder, number);
}

/* Folds the oldest checkpoint into its successor while there are too many, and drops log nobody
 * needs. */
static int trim(struct err *err)
{
    while (fine.number - fine.oldest + 1 > fine.keep) {
        char base[4096], child[4096];
        name(base, sizeof base, fine.oldest);
        name(child, sizeof child, fine.oldest + 1);
        fault_point(FAULT_FINE_WRITTEN);
        if (image_fold(base, child, false, err) < 0)
            return -1;
        fault_point(FAULT_FINE_FOLDED);
        uint32_t before = fine.segment[fine.oldest % KEEP_MAX];
        fine.oldest++;
        uint32_t now = fine.segment[fine.oldest % KEEP_MAX];
        if (now != before && log_trim(fine.logs, (uint32_t)save_identity.rank, now, err) < 0)
            return -1;
    }
    return 0;
}

static int write_checkpoint(const struct parked *threads, size_t n, struct image_written *written,
                            struct err *err)
{
    char path[4096], parent[64];
    struct save_regions regions = {0};
    struct save_request request = {
        .path = path, .kind = IMAGE_FULL, .threads = threads, .nthreads = n};
    uint64_t segment, offset, event;
    GATE->stub->position(&segment, &offset, &event);
    request.position = (struct image_position){(uint32_t)segment, offset, event};
    request.checkpoint = fine.number + 1;
    name(path, sizeof path, fine.number + 1);
    if (save_regions_read(&regions, err) < 0)
        return -1;
    int r = track_collect(&regions, &request.changed, &request.nchanged, err);
    save_regions_free(&regions);
    if (r < 0)
        return -1;
    if (fine.number > 0) {
        snprintf(parent, sizeof parent, NAME_FORMAT, fine.number);
        request.kind = IMAGE_INCREMENTAL;
        request.parent = parent;
        request.parent_id = fine.last_id;
    }
    if (save_image(&request, written, err) < 0)
        return -1;
    fine.last_id = written->id;
    fine.number++;
    fine.segment[fine.number % KEEP_MAX] = (uint32_t)segment;
    if (fine.number == 1)
        fine.oldest = 1;
    return trim(err);
}

static void on_upper_fs(uint64_t upper, void (*fn)(void))
{
    uint64_t lower = fs_base();
    set_fs_base(upper);
    fn();
    set_fs_base(lower);
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
    on_upper_fs(self->fs_base, GATE->stub->before_save);
    int r = park_all(self->tid, PARK_MS, &err);
    threads[0] = *self;
    const struct parked *others = park_threads(&n);
    memcpy(threads + 1, others, n * sizeof *others);
    if (r == 0)
        r = write_checkpoint(threads, n + 1, &written, &err);
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
}

void fine_init(uint64_t keep)
{
    fine.keep = keep < 1 ? 1 : keep > KEEP_MAX - 1 ? KEEP_MAX - 1 : keep;
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
    if (track_start(err) < 0)
        return -1;
    park_on_fine(take);
    __atomic_or_fetch(&GATE->word, GATE_WORD_FINE, __ATOMIC_SEQ_CST);
    return 0;
}
