/*
 * files.h - the application's open descriptors, saved and restored
 *
 * Restored with their number, close-on-exec, flags, offset, and with what they share: descriptors
 * that dup() made share one offset afterwards, too. A file is opened again by its path (without
 * O_CREAT, O_EXCL and O_TRUNC), a deleted one is made anew with its content; of pipes and socket
 * pairs of the rank with itself what is in them is kept; eventfd, timerfd, signalfd and epoll as
 * they were. Standard streams and their duplicates are those of the new job.
 *
 * A file that an epoch finds open for writing is what it was then, once the job is restarted: up to
 * 1 MiB with its content (it may have been written over, cut or deleted since), a larger one by its
 * length: what it has grown by is cut off, for the restarted rank writes that again.
 */
#ifndef DBG3_CKPT_FILES_H
#define DBG3_CKPT_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "runtime/base/err.h"
#include "runtime/ckpt/locks.h"
#include "runtime/image/image.h"

#define FILES_BLOB "dbg3.files"

/* What to put into an image. Strings and records are freed by files_free(). */
struct files {
    struct image_file *file; /* for people and tools */
    size_t n;
    void *records; /* the blob */
    size_t bytes;
    struct locks locks; /* only with `all` */
    int failed;         /* private */
};

/* [threads parked] With `all`, a descriptor that cannot be restored is an error that names it;
 * else it is recorded as such. files_free() in any case. */
int files_describe(struct files *files, bool all, struct err *err);
void files_free(struct files *files);

/* Keeps the numbers of the application's descriptors from being given to something else. */
void files_occupy(const struct image_state *state);

/* Makes them again. In isolation (`alone`) nothing is written to the user's files: what was open
 * for writing is a copy in memory; what cannot be had is empty, with a line on standard error. */
int files_restore(const struct image_state *state, bool alone, struct err *err);

/* A restart's files of threads in /proc, left out so far: threads have other numbers now. */
int files_restore_threads(const struct image_state *state, pid_t (*tid_now)(pid_t),
                          struct err *err);

#endif
