/*
 * save.h - writes the upper half of this process into an image
 */
#ifndef DBG3_CKPT_SAVE_H
#define DBG3_CKPT_SAVE_H

#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/ckpt/park.h"
#include "runtime/half/load.h"
#include "runtime/image/image.h"

/* What this process is, told once at the start or at the restart. */
struct save_identity {
    struct load_mm mm;
    uint64_t entry;
    char program[4096];
    uint8_t build_id[IMAGE_BUILD_ID_MAX];
    uint8_t build_id_len;
    uint64_t stack_limit;
    int rank, size; /* -1, 0 before MPI_Init */
    uint64_t epoch; /* the newest one taken or started from */
};
extern struct save_identity save_identity;

/* In the image under this name: what only a restart needs. Version 1. */
#define SAVE_BLOB "dbg3.restart"
struct save_blob {
    uint32_t version;
    uint32_t generation; /* GATE->generation of the process that was saved */
    int64_t mpi_level;
    uint64_t stack_limit;
    struct load_mm mm;
};

struct save_request {
    const char *path;
    enum image_kind kind;
    uint64_t checkpoint;             /* fine checkpoint number, 0 */
    uint64_t oldest;                 /* fine checkpoint: the oldest that stays with it */
    struct save_kept *kept;          /* many saves in a row: see below; NULL */
    int segment_fd;                  /* > 0: append to this segment, `path`; needs `kept` */
    uint64_t segment_at;
    struct image_position position;  /* in the log */
    const struct parked *threads;    /* failure: the one with the signal first */
    size_t nthreads;
    int signo;                       /* failure: of threads[0] */
    const void *siginfo;             /* failure: 128 bytes */
    const char *parent;              /* incremental */
    struct image_id parent_id;
    const struct image_range *changed;
    size_t nchanged;
    bool sync;
};

/* All application threads are parked. Lower FS. Returns 0, -1 with *err naming the file. */
int save_image(const struct save_request *request, struct image_written *written, struct err *err);

/* After a restart: regions that are mapped from this image keep what they were. The image stays
 * open. */
void save_mapped_from(struct image *image);

/* The upper half's regions as they are now, for other uses (what to track). malloc'ed array;
 * strings are borrowed from *keep, which the caller frees with save_regions_free(). */
struct save_regions {
    struct image_region *region;
    size_t n;
    void *maps;
};
int save_regions_read(struct save_regions *regions, struct err *err);
void save_regions_free(struct save_regions *regions);

/*
 * What many saves in a row have in common: open files of /proc, buffers, and the regions as long as
 * the address space is laid out the same. For one thread at a time; lives as long as the process.
 */
struct save_kept *save_kept_create(struct err *err); /* NULL with *err */

/* The regions as they are now, which the next save_image() with `kept` takes for granted. Valid
 * until the next call. NULL with *err. */
const struct save_regions *save_kept_regions(struct save_kept *kept, struct err *err);

#endif
