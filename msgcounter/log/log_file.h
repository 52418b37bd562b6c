/*
 * log_file.h - segment files of a payload log, with a libc
 *
 * For the lower half that records and for ordinary processes. <dir> is the folder that holds one
 * folder a rank.
 */
#ifndef DBG3_MSGCOUNTER_LOG_FILE_H
#define DBG3_MSGCOUNTER_LOG_FILE_H

#include <stddef.h>

#include "msgcounter/log/log.h"
#include "runtime/base/err.h"

/* The argument of log_file_rotate. */
struct log_file {
    const char *dir;       /* must exist */
    uint64_t segment_size; /* bytes; 0: LOG_SEGMENT_SIZE */
};

/* Behind the name of a segment: a file that is to become it. */
#define LOG_FILE_NEW ".new"

/*
 * A log_rotate for log_writer_init; the writer's arg is a struct log_file. Makes <dir>/rank-<R> if
 * it is missing. Disk space is allocated here, so that a full disk is -ENOSPC from log_begin and
 * never a SIGBUS later; the file is then removed again. A file of that name is replaced.
 */
log_rotate log_file_rotate;

/*
 * Maps an existing segment, for log_writer_attach (writable) or log_cursor_init. Returns 0 or
 * -errno. The caller unmaps it with munmap(map->base, map->size); until then a shared flock(2)
 * tells a writer that its file must not be used for another segment.
 */
int log_file_map(const char *dir, uint32_t rank, uint32_t segment, bool writable,
                 struct log_map *map);

/* Writes the name of a segment file. Returns its length as snprintf does. */
int log_file_path(char *buf, size_t size, const char *dir, uint32_t rank, uint32_t segment);

/* The name of a file that holds segments in turn, and has theirs, too (payload_ring.h). */
int log_file_ring_path(char *buf, size_t size, const char *dir, uint32_t rank, unsigned slot);

/* The numbers of the segments that exist, ascending; the caller frees *numbers. A rank without a
 * folder has none. */
int log_file_list(const char *dir, uint32_t rank, uint32_t **numbers, size_t *n, struct err *err);

/* Removes the segments before keep_from: no kept checkpoint's position is in them. */
int log_trim(const char *dir, uint32_t rank, uint32_t keep_from, struct err *err);

/* Removes what is no segment from the folders of all ranks, when their processes are gone. */
void log_tidy(const char *dir);

/* Removes segment `from` and later ones: a recording that goes on from an earlier position. */
int log_remove_from(const char *dir, uint32_t rank, uint32_t from, struct err *err);

#endif
