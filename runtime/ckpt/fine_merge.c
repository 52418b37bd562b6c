/*
 * fine_merge.c - the thread that keeps a rank's folder of fine checkpoints small
 *
 * It works on segments that are no longer written to, at a low priority, while the rank runs. How
 * much of the chain below them is merged with them doubles from one image to the next, as in a
 * log-structured store: each page is copied a few times only, however long the run, and there are
 * only a few images.
 */
#include "runtime/ckpt/fine_merge.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/fault.h"
#include "runtime/ckpt/payload_ring.h"
#include "runtime/half/own_fd.h"
#include "runtime/image/image.h"

#define NICE      10
#define SPARE_MAX (8 << 20) /* bytes: one with a large increment is not worth keeping */

#define ALONE_MIN   SPARE_MAX
#define ALONE_SHARE 4 /* less than that part of it */

struct job {
    uint64_t upto, bytes;
    uint32_t log_from;
};

static struct {
    const char *folder, *logs;
    uint32_t rank;
    clockid_t clock; /* of the thread's processor time */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct job job;
    bool busy, failed;
    struct err err;
} merge = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static bool is_segment(const char *path)
{
    return strstr(path, ".inc@") != NULL;
}

/* The path without the number of an increment. */
static void file_of(const char *path, char file[4096])
{
    snprintf(file, 4096, "%s", path);
    char *at = strrchr(file, '@');
    if (at && is_segment(path))
        *at = '\0';
}

/* UINT64_MAX if it cannot be told. */
static uint64_t file_size(const struct image *image, size_t k)
{
    struct stat st;
    return fstat(image_chain_fd(image, k), &st) < 0 ? UINT64_MAX : (uint64_t)st.st_size;
}

/* The oldest image that is to be merged: all increments, and images that are not much larger than
 * what is merged with them anyway. *bytes grows by what those have. */
static size_t choose_last(const struct image *image, uint64_t *bytes)
{
    size_t last = 0, n = image_chain_length(image);
    for (; last + 1 < n; last++) {
        if (is_segment(image_chain_path(image, last + 1)))
            continue;
        uint64_t size = file_size(image, last + 1);
        if (size > 2 * *bytes)
            break;
        *bytes += size;
    }
    return last;
}

/* The newest is alone in its segment, which makes this an image already, and what would be merged
 * with it, of `bytes` in all, is little beside it. A program fills its memory once: the increment
 * that holds all of it is not to be copied for what changed before. */
static bool stands_alone(const struct image *image, uint64_t bytes)
{
    char file[4096], next[4096] = "";
    uint64_t own = file_size(image, 0);
    file_of(image_chain_path(image, 0), file);
    if (image_chain_length(image) > 1)
        file_of(image_chain_path(image, 1), next);
    return strcmp(file, next) != 0 && own <= bytes && own >= ALONE_MIN &&
           bytes - own < own / ALONE_SHARE;
}

/* Gives a segment the name of a spare one. False if there are enough of them. */
static bool make_spare(const char *file)
{
    for (unsigned i = 0; i < FINE_SPARES; i++) {
        char spare[4096];
        snprintf(spare, sizeof spare, "%.4000s/" FINE_SPARE, merge.folder, i);
        if (access(spare, F_OK) < 0)
            return rename(file, spare) == 0;
    }
    return false;
}

/* Removes a file that is merged, or keeps it for use again. A reader that has it mapped holds a
 * lock. */
static void retire(const char *file)
{
    struct stat st;
    int fd = strstr(file, ".inc") ? open(file, O_RDONLY | O_CLOEXEC) : -1;
    bool kept = fd >= 0 && fstat(fd, &st) == 0 && st.st_size <= SPARE_MAX &&
                flock(fd, LOCK_EX | LOCK_NB) == 0 && make_spare(file);
    if (fd >= 0)
        close(fd);
    if (!kept)
        unlink(file);
}

/* The files of chain[0] to chain[last], oldest first: removed in this order, what is left is always
 * a chain. malloc'ed; NULL if there is no memory. */
static char **files_of(const struct image *image, size_t last, size_t *n)
{
    char **list = calloc(last + 1, sizeof *list), file[4096];
    *n = 0;
    for (size_t k = last + 1; list && k-- > 0;) {
        file_of(image_chain_path(image, k), file);
        if (*n == 0 || !list[*n - 1] || strcmp(file, list[*n - 1]) != 0)
            list[(*n)++] = strdup(file);
    }
    return list;
}

static int merge_upto(const struct job *job, struct err *err)
{
    char path[4096], out[4096], file[4096];
    size_t n;
    if (image_window_path(merge.folder, job->upto, path, sizeof path, err) < 0)
        return -1;
    snprintf(out, sizeof out, "%.4000s/%08lu.img", merge.folder, job->upto);
    struct image *image = image_open(path, err);
    if (!image)
        return -1;
    uint64_t bytes = job->bytes;
    size_t last = choose_last(image, &bytes);
    if (stands_alone(image, bytes)) {
        file_of(path, file);
        image_close(image);
        return rename(file, out) < 0 ? err_sys(err, "cannot rename %s to %s", file, out) : 0;
    }
    char **files = files_of(image, last, &n);
    int rc = files ? image_merge(image, last, out, NULL, err) : err_sys(err, "no memory");
    image_close(image); /* with its locks */
    fault_point(FAULT_FINE_MERGED);
    for (size_t i = 0; files && i < n; i++) {
        if (rc == 0 && files[i])
            retire(files[i]);
        free(files[i]);
    }
    free(files);
    return rc;
}

static int work(const struct job *job, struct err *err)
{
    if (job->upto && merge_upto(job, err) < 0)
        return -1;
    return payload_ring_trim(merge.logs, merge.rank, job->log_from, err);
}

static void *run(void *arg)
{
    struct err err;
    pthread_setname_np(pthread_self(), "dbg3-merge");
    setpriority(PRIO_PROCESS, (id_t)gettid(), NICE);
    own_fd_unshare();
    pthread_mutex_lock(&merge.lock);
    for (;;) {
        while (!merge.busy)
            pthread_cond_wait(&merge.changed, &merge.lock);
        struct job job = merge.job;
        pthread_mutex_unlock(&merge.lock);
        int rc = work(&job, &err);
        pthread_mutex_lock(&merge.lock);
        merge.busy = false;
        if (rc < 0) {
            merge.failed = true;
            merge.err = err;
        }
        pthread_cond_broadcast(&merge.changed);
    }
    return arg;
}

int fine_merge_start(const char *folder, const char *logs, uint32_t rank, struct err *err)
{
    pthread_t thread;
    merge.folder = folder;
    merge.logs = logs;
    merge.rank = rank;
    int rc = pthread_create(&thread, NULL, run, NULL);
    if (rc == 0) {
        pthread_getcpuclockid(thread, &merge.clock);
        pthread_detach(thread);
        return 0;
    }
    errno = rc;
    return err_sys(err, "cannot start the thread that merges fine checkpoints");
}

int fine_merge_ask(uint64_t upto, uint64_t bytes, uint32_t log_from, bool wait, struct err *err)
{
    int rc = 0;
    pthread_mutex_lock(&merge.lock);
    while (merge.busy && wait)
        pthread_cond_wait(&merge.changed, &merge.lock);
    if (merge.failed) {
        *err = merge.err;
        rc = -1;
    } else if (merge.busy) {
        rc = 1;
    } else {
        merge.job = (struct job){upto, bytes, log_from};
        merge.busy = true;
        pthread_cond_signal(&merge.changed);
    }
    pthread_mutex_unlock(&merge.lock);
    return rc;
}

uint64_t fine_merge_spent_us(void)
{
    struct timespec ts = {0};
    clock_gettime(merge.clock, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}
