/*
 * counters_view.c - reading the ranks' counters files
 */
#include "runtime/coord/counters_view.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "call_id.h"
#include "runtime/coord/proto.h"

static int check(const struct counters_file *c, const char *path, unsigned rank, size_t bytes,
                 struct err *err)
{
    uint64_t version = counters_get(&c->version), size = counters_get(&c->size);
    if (counters_get(&c->magic) != COUNTERS_MAGIC)
        return err_set(err, "%s is not a counters file", path);
    if (version != COUNTERS_VERSION)
        return err_set(err, "%s has version %" PRIu64 ", this dbg3 reads %u", path, version,
                       COUNTERS_VERSION);
    if (size > PROTO_RANKS_MAX || bytes < counters_bytes(size) || counters_get(&c->rank) != rank)
        return err_set(err, "%s is damaged", path);
    return 0;
}

const struct counters_file *counters_map(const char *session_dir, unsigned rank, struct err *err)
{
    char path[PATH_MAX];
    struct stat st;
    snprintf(path, sizeof path, "%s/counters/rank-%u.cnt", session_dir, rank);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        err_sys(err, "%s", path);
        goto fail;
    }
    if ((size_t)st.st_size < sizeof(struct counters_file)) {
        err_set(err, "%s is too short", path);
        goto fail;
    }
    void *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        err_sys(err, "%s", path);
        goto fail;
    }
    close(fd);
    if (check(map, path, rank, (size_t)st.st_size, err) < 0) {
        munmap(map, (size_t)st.st_size);
        return NULL;
    }
    return map;
fail:
    if (fd >= 0)
        close(fd);
    return NULL;
}

void counters_unmap(const struct counters_file *file)
{
    if (file)
        munmap((void *)(uintptr_t)file, counters_bytes(file->size));
}

const char *counters_state_name(uint64_t state)
{
    static const char *const names[COUNTERS_NSTATES] = {
        "starting", "computing", "in call", "waiting",  "collective",
        "holding",  "parked",    "finalized", "dead"};
    return state < COUNTERS_NSTATES ? names[state] : "?";
}

const char *counters_call(const struct counters_file *file)
{
    const char *name = call_id_name(counters_get(&file->call) - 1);
    return name ? name : "";
}

int hang_watch_init(struct hang_watch *w, unsigned size)
{
    *w = (struct hang_watch){.size = size};
    w->file = calloc(size ? size : 1, sizeof(const struct counters_file *));
    return w->file ? 0 : -1;
}

void hang_watch_clear(struct hang_watch *w)
{
    for (unsigned r = 0; w->file && r < w->size; r++)
        counters_unmap(w->file[r]);
    free(w->file);
    *w = (struct hang_watch){0};
}

void hang_watch_touch(struct hang_watch *w, uint64_t now_ms)
{
    w->since_ms = now_ms;
}

uint64_t hang_watch_idle(struct hang_watch *w, const char *session_dir, uint64_t now_ms)
{
    uint64_t sum = 0;
    bool all = true;
    for (unsigned r = 0; r < w->size; r++) {
        if (!w->file[r])
            w->file[r] = counters_map(session_dir, r, NULL);
        if (w->file[r])
            sum += counters_get(&w->file[r]->messages) + counters_get(&w->file[r]->fine) +
                   counters_get(&w->file[r]->state) / COUNTERS_FINALIZED;
        else
            all = false;
    }
    if (!all || sum != w->sum || w->since_ms == 0) {
        w->sum = sum;
        w->since_ms = now_ms;
    }
    return now_ms - w->since_ms;
}
