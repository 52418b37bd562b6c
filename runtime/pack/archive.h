/*
 * archive.h - a bundle's outside: a tar file, compressed by zstd
 *
 * Any tar opens it (`tar --zstd -tf FILE`). What is ours is how little of tar is used, and that the
 * end can be told from a cut:
 *
 *     frame 1     member 1: header, content, padding
 *     frame 2     member 2 ...            each frame ends with zstd's checksum of it
 *     frame n     SUMS: XXH3-128 of each member, as `xxhsum -c SUMS` reads it; two zero blocks
 *
 * Members are files (regular, with their time of change and the owner's bits of the mode) and links
 * to earlier members. Names are relative and hold no "..": the reader refuses others.
 *
 * Pure library, both ends streaming: memory does not grow with the content. Errors name the file;
 * err->code is EBADMSG for a damaged, cut or foreign one.
 */
#ifndef DBG3_PACK_ARCHIVE_H
#define DBG3_PACK_ARCHIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/base/err.h"

#define ARCHIVE_NAME_MAX 4096

/* ---- writing ---- */

struct archive_writer;

/* Writes to fd, which stays the caller's; `name` is for error texts. NULL with *err. */
struct archive_writer *archive_writer_create(int fd, const char *name, struct err *err);
void archive_writer_destroy(struct archive_writer *w);

/* Called with the bytes of content so far, often. */
void archive_writer_progress(struct archive_writer *w, void (*progress)(void *arg, uint64_t bytes),
                             void *arg);

/*
 * Adds the file at `path`, as long as it is at this moment: what is written behind its end
 * meanwhile is left out, one that shrinks is an error. 0, or -1 with *err.
 */
int archive_add_file(struct archive_writer *w, const char *member, const char *path,
                     struct err *err);
int archive_add_bytes(struct archive_writer *w, const char *member, const void *data, size_t size,
                      struct err *err);
/* A second name of an earlier member. */
int archive_add_link(struct archive_writer *w, const char *member, const char *earlier,
                     struct err *err);

/* Writes the sums and the end. *bytes is the size of the archive. */
int archive_finish(struct archive_writer *w, uint64_t *bytes, struct err *err);

/* ---- reading ---- */

struct archive_reader;

struct archive_member {
    char name[ARCHIVE_NAME_MAX];
    char link[ARCHIVE_NAME_MAX]; /* "": a file */
    uint64_t size;
    bool executable;
    int64_t mtime; /* seconds since 1970 */
};

/* Reads from fd, which stays the caller's. NULL with *err, also if it is no archive at all. */
struct archive_reader *archive_reader_create(int fd, const char *name, struct err *err);
void archive_reader_destroy(struct archive_reader *r);

/*
 * Goes to the next member, past what is left of the present one. 1; 0 at the end, all sums having
 * been right; -1 with *err. SUMS itself is not shown.
 */
int archive_next(struct archive_reader *r, struct archive_member *m, struct err *err);

/* The next bytes of the member's content: at least one, 0 at its end, -1 with *err. */
ssize_t archive_read(struct archive_reader *r, void *buf, size_t size, struct err *err);

/* Content bytes of all members so far. */
uint64_t archive_reader_bytes(const struct archive_reader *r);

#endif
