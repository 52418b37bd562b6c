/*
 * image.h - checkpoint images: one rank's memory and state in one ELF core file
 *
 * An image is an ELF64 ET_CORE file that GDB opens (`gdb ./app IMAGE`) and that a restart maps
 * straight into memory: every segment is page-aligned in the file. What a Linux core dump says
 * stands in the usual notes (NT_PRSTATUS, NT_FILE, ...); what only a restart needs stands in notes
 * of owner "DBG3".
 *
 *      0   ELF header; image header at 64 (ids, kind, sizes, checksums): one 512-byte sector,
 * written last 4096   pages of memory, in any order .   metadata, wherever the image header says:
 * notes, program headers, checksum table
 *
 * What a mapping was (struct image_region) is kept apart from what it is mapped from at the moment:
 * after a restart a heap is mapped from an image file, and is still a heap.
 *
 * An incremental image holds the changed pages only and names its parent by file name and id.
 * Whatever reads an image here sees the whole chain.
 *
 * Fine checkpoints stand in a folder of their own, many in a file:
 *
 *     00000001.img   checkpoint 1, whole
 *     00000250.img   2 to 250 merged: an increment on 1, or whole; or 250 alone, which was the only
 *                    one in its segment
 *     00000251.inc   a segment: the increments 251, 252, ... in a row
 *
 * `00000251.inc@260` names one of a segment's wherever an image's path is wanted, `00000251.inc`
 * the newest.
 *
 * Pure library: any process, any thread, no global state. Reading and writing allocate with malloc.
 * Errors: -1 with a text that names the file; err->code is EBADMSG for a damaged, torn or foreign
 * file, ESTALE for a parent with another id, else the errno of the call that failed.
 */
#ifndef DBG3_IMAGE_IMAGE_H
#define DBG3_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/user.h>

#include "runtime/base/err.h"

#define IMAGE_VERSION      2
#define IMAGE_PAGE         4096u
#define IMAGE_BUILD_ID_MAX 32
#define IMAGE_NSIG         64

/* ---- what an image says: the same structures for the writer and the reader ---- */

enum image_kind {
    IMAGE_FULL = 1,        /* all memory: an epoch, or a flattened chain */
    IMAGE_INCREMENTAL = 2, /* pages changed since the parent */
    IMAGE_FAILURE = 3,     /* all memory at the instruction of a fatal signal; threads[0] got it */
};

struct image_id {
    uint8_t bytes[16];
};

/* What pages without content in the image hold, and so what an unpopulated page means to the
 * writer. */
enum image_fill {
    IMAGE_FILL_ZERO = 0, /* anonymous memory: a page never touched is zero */
    IMAGE_FILL_FILE =
        1, /* clean file mapping: the page of `path` at its offset; referenced, not copied */
    IMAGE_FILL_READ = 2, /* writer only: read it anyway (mapped from an image, shared memory). The
                            reader sees IMAGE_FILL_ZERO */
};

enum image_region_flag {
    IMAGE_REGION_SHARED = 1 << 0,    /* MAP_SHARED; else private */
    IMAGE_REGION_FILE = 1 << 1,      /* a mapping of `path`; else anonymous */
    IMAGE_REGION_STACK = 1 << 2,     /* main thread's stack */
    IMAGE_REGION_HEAP = 1 << 3,      /* brk area */
    IMAGE_REGION_NORESERVE = 1 << 4, /* MAP_NORESERVE */
    IMAGE_REGION_GROWSDOWN = 1 << 5, /* MAP_GROWSDOWN */
};

struct image_region {
    uint64_t start, end; /* page-aligned; regions are sorted and do not overlap */
    uint32_t prot;       /* PROT_* */
    uint32_t flags;      /* enum image_region_flag */
    enum image_fill fill;
    const char *path; /* file it was mapped from, or a label such as "[heap]"; NULL if none */
    uint64_t offset;  /* of `start` in path */
    uint64_t dev, ino;
    uint8_t build_id[IMAGE_BUILD_ID_MAX]; /* of an ELF file; fill with image_build_id() */
    uint8_t build_id_len;                 /* 0: unknown or no ELF file */
};

struct image_thread {
    int32_t tid;
    int32_t signo;                /* signal it stopped or died by, 0 if none */
    struct user_regs_struct regs; /* with fs_base and gs_base */
    const uint8_t *xsave;  /* XSAVE area, not compacted (first 512 bytes: FXSAVE), NULL if unknown;
                              the writer's as this processor lays it out, the reader's for GDB
                              (image_xsave.h). There the software bytes 464..511 are replaced by
                              the XCR0 mask, as ptrace shows them */
    uint32_t xsave_size;
    bool xsave_for_gdb; /* the reader's */
    uint32_t siginfo_size; /* 0 or sizeof(siginfo_t) = 128 */
    uint8_t siginfo[128];
    uint64_t sigmask, pending;
    uint64_t resume_sp; /* saved rt_sigframe on its own stack, 0 if none */
    uint64_t clear_child_tid;
    uint64_t robust_list, robust_list_len;
    uint64_t altstack_sp, altstack_size;
    uint32_t altstack_flags;
    const char *name; /* comm, or NULL */
};

/* As rt_sigaction(2) passes it on x86-64. */
struct image_sigaction {
    uint64_t handler, flags, restorer, mask;
};

#define IMAGE_NITIMERS 3

struct image_itimer {
    uint64_t interval_us, value_us;
};

/* Position in the rank's log. */
struct image_position {
    uint32_t segment;
    uint64_t offset; /* bytes in the segment */
    uint64_t event;  /* number of the next event */
};

struct image_meta {
    int32_t rank, size;  /* in MPI_COMM_WORLD; -1 before MPI_Init */
    uint64_t epoch;      /* epoch it belongs to or started from */
    uint64_t checkpoint; /* fine checkpoint number, 0 in an epoch */
    struct image_position position;
    uint64_t time_ns; /* CLOCK_REALTIME when it was taken */
    int32_t pid, ppid, pgrp, sid;
    uint32_t uid, gid;
    uint32_t umask;
    uint64_t brk_start, brk; /* start and present end of the brk area */
    uint64_t entry;          /* application's entry point, relocated */
    uint64_t root;           /* address of the stub's state; opaque, handed back at restart */
    uint64_t xcr0;           /* CPU state components that the saved xsave areas use */
    const char *program;     /* absolute path of the application */
    uint8_t build_id[IMAGE_BUILD_ID_MAX];
    uint8_t build_id_len;
    const char *hostname, *cwd;
    const char *const *argv; /* argc strings */
    size_t argc;
    const uint8_t *auxv; /* Elf64_auxv_t bytes, AT_NULL included */
    size_t auxv_size;
    struct image_sigaction sigactions[IMAGE_NSIG]; /* [signo - 1] */
    struct image_itimer itimers[IMAGE_NITIMERS]; /* ITIMER_REAL, _VIRTUAL, _PROF */
};

enum image_file_kind {
    IMAGE_FILE_PATH = 0,
    IMAGE_FILE_PIPE = 1,
    IMAGE_FILE_SOCKET = 2,
    IMAGE_FILE_TTY = 3,
    IMAGE_FILE_OTHER = 4,
};

/* An open file descriptor. */
struct image_file {
    int32_t fd;
    enum image_file_kind kind;
    uint32_t flags; /* F_GETFL */
    bool cloexec;
    uint64_t offset, size;
    uint64_t dev, ino;
    const char *path; /* what /proc/self/fd shows */
};

/* Named bytes of other modules: new facts need no new format version. */
struct image_blob {
    const char *name;
    const void *data;
    size_t size;
};

struct image_range {
    uint64_t start, end;
};

/*
 * All that an image says besides the pages. Everything is borrowed: by the writer during the call,
 * from the reader until image_close().
 */
struct image_state {
    enum image_kind kind;
    struct image_id id; /* the writer makes one if it is all zero */
    const char *parent; /* incremental: the parent's path relative to the image's own folder */
    struct image_id parent_id; /* incremental */
    uint64_t oldest; /* fine checkpoints: the oldest one that was kept when this one was made */
    struct image_meta meta;
    const struct image_region *regions; /* all regions, in an incremental image too */
    size_t nregions;
    const struct image_thread
        *threads; /* main thread first; failure: the one with the signal first */
    size_t nthreads;
    const struct image_file *files;
    size_t nfiles;
    const struct image_blob *blobs;
    size_t nblobs;
};

/* Build-id of an ELF file. Returns its length; 0 if it has none or is no ELF file. */
size_t image_build_id(const char *path, uint8_t id[IMAGE_BUILD_ID_MAX]);

/* Bytes of the named blob, or NULL. *size may be NULL. */
const void *image_blob_find(const struct image_state *state, const char *name, size_t *size);

/* Id as 32 hex digits and NUL. */
void image_id_text(const struct image_id *id, char text[33]);

/* ---- writing ---- */

/*
 * Where pages come from. image_source_self() is the process that calls; image_source_pid() another
 * one, which must be stopped. Tests and image_core() bring their own.
 */
struct image_source {
    /* Copies memory, whatever its protection. 0, or -1 with errno. */
    int (*read)(void *ctx, uint64_t addr, void *buf, size_t len);
    /*
     * Finds pages of [start, end) that were touched: at most `max` ranges into `out`; *walked is
     * how far it looked. private_only: only pages that differ from the mapped file (not in the page
     * cache). Returns the number of ranges or -1 with errno. NULL: every page counts as touched.
     */
    ssize_t (*populated)(void *ctx, uint64_t start, uint64_t end, bool private_only,
                         struct image_range *out, size_t max, uint64_t *walked);
    bool direct; /* readable regions can be read through pointers */
    bool moving; /* their content may change meanwhile: what is hashed and written is one copy */
    void *ctx;
    int mem_fd, pagemap_fd; /* of the two sources below */
    bool no_scan;           /* the kernel lacks PAGEMAP_SCAN */
};

/* Opens the source. image_source_close() closes it; a source that failed to open needs no close. */
int image_source_self(struct image_source *source, struct err *err);
int image_source_pid(struct image_source *source, pid_t pid, struct err *err);
void image_source_close(struct image_source *source);

struct image_write_options {
    bool sync; /* fdatasync, and fsync of the folder: the image survives power loss */
    bool uncached; /* pages go past the page cache if there is much of them: nobody reads it soon */
    const struct image_range *changed; /* incremental: sorted, page-aligned; parts outside of
                                          regions are ignored. Pages in no range are the parent's */
    size_t nchanged;
    const struct image_range
        *mapped; /* sorted: memory that image_map() mapped from an image. A page
                    not touched since is neither zero nor the file's: it is read
                    whatever the region's fill. Stale ranges only cost size */
    size_t nmapped;
};

struct image_written {
    struct image_id id;
    uint64_t file_bytes; /* size of the file */
    uint64_t page_bytes; /* memory content in it */
    uint64_t pages;      /* page_bytes / IMAGE_PAGE; in an incremental image the changed pages */
    uint64_t segments;   /* program headers */
    double scan_ms, write_ms, sync_ms;
};

/*
 * Writes an image to a temporary name beside `path` and renames it when it is complete, so that
 * `path` is always a whole image or not there. On failure the temporary is removed. Mode 0600.
 *
 * The memory must not change meanwhile, unless the source says so. options and out may be NULL.
 */
int image_write(const char *path, const struct image_state *state, struct image_source *source,
                const struct image_write_options *options, struct image_written *out,
                struct err *err);

/* ---- segments ---- */

/* A writer keeps what writing needs, for many increments. */
struct image_writer *image_writer_create(void); /* NULL: no memory */
void image_writer_destroy(struct image_writer *writer);

/*
 * Writes an increment at offset `at`, a multiple of IMAGE_PAGE, of the open segment `path`.
 * out->file_bytes is the room that it takes, a multiple of IMAGE_PAGE too. On failure, or killed,
 * the segment still ends at `at`. options->sync is not for segments.
 */
int image_append(struct image_writer *writer, int fd, const char *path, uint64_t at,
                 const struct image_state *state, struct image_source *source,
                 const struct image_write_options *options, struct image_written *out,
                 struct err *err);

/* The checkpoints of a folder that are kept. */
struct image_window {
    uint64_t oldest, newest;
};
/* 0, or -1: err->code is ENOENT if there is none. */
int image_window_read(const char *folder, struct image_window *window, struct err *err);

/* The name of checkpoint `number` of the folder. 0, or -1 with *err. */
int image_window_path(const char *folder, uint64_t number, char *path, size_t cap,
                      struct err *err);

/* ---- reading ---- */

struct image;

/*
 * Opens an image and the parents it names. Checks everything but the page contents: truncated,
 * torn, foreign and mismatched files are errors. A shared lock on each file says that it is in use,
 * until image_close(): a segment that someone has mapped must not be written again.
 */
struct image *image_open(const char *path, struct err *err);
void image_close(struct image *image);

/* What the newest image of the chain says. Valid until image_close(). */
const struct image_state *image_state(const struct image *image);

/* The chain: 0 is the image itself, the last one has no parent. */
size_t image_chain_length(const struct image *image);
const char *image_chain_path(const struct image *image, size_t k);
int image_chain_fd(const struct image *image, size_t k);
const struct image_state *image_chain_state(const struct image *image, size_t k);

/* Checks every checksum of the image and its parents. The text names the first damaged file, its
 * byte range and the memory it held. */
int image_verify(const char *path, struct err *err);

enum image_piece_kind {
    IMAGE_PIECE_IMAGE, /* chain[depth] at offset */
    IMAGE_PIECE_ZERO,
    IMAGE_PIECE_FILE, /* region->path at offset */
};

struct image_piece {
    uint64_t start, end;
    enum image_piece_kind kind;
    uint32_t depth;
    uint64_t offset;
    const struct image_region *region; /* protection and what it was; of the newest image */
    bool patch; /* in image_steps(): read or clear it in place, over the step that maps around it */
};

/* All memory, as disjoint sorted pieces: where the content of each page is. Until image_close(). */
const struct image_piece *image_pieces(const struct image *image, size_t *count);

/*
 * The same memory as steps for a restorer, in order: map a step (MAP_PRIVATE|MAP_FIXED from the
 * file, or anonymous), then pread the patches that follow it into it, then give it region->prot.
 * Thousands of scattered changed pages so cost a read each, and not a mapping each
 * (vm.max_map_count is 65530). Until image_close().
 */
const struct image_piece *image_steps(const struct image *image, size_t *count);

/* The ranges of image_steps() that a restorer maps from image files: what
 * image_write_options.mapped wants from then on. Until image_close(). */
const struct image_range *image_mapped(const struct image *image, size_t *count);

/*
 * Carries out image_steps() in this process. Maps over whatever is there. A file of
 * IMAGE_PIECE_FILE must have the recorded build-id (or, without one, be long enough), else an error
 * names it.
 */
int image_map(const struct image *image, struct err *err);

/* Mapped files are looked up below this folder from now on (a copy is kept; NULL: not any more). */
void image_set_root(struct image *image, const char *root);

/* Reads memory as the image holds it. 0, or -1 (EFAULT in err->code: no such address). */
int image_read(struct image *image, uint64_t addr, void *buf, size_t len, struct err *err);

/* ---- whole files ---- */

/* Writes the chain as one full image. with_files: clean pages of mapped files are copied as well,
 * so that the result can be carried to a machine without them. */
int image_core(struct image *image, const char *out, bool with_files, struct image_written *written,
               struct err *err);

/*
 * Writes chain[0] to chain[last] as one image of chain[0]'s name and id: an increment on
 * chain[last + 1], or a whole image if there is none. What chain[0] is the parent of can be opened
 * with or without the images that were merged. Both chain[0] and, if there is one, chain[last + 1]
 * must be in the folder of `out`; the latter must not be in a segment.
 */
int image_merge(struct image *image, size_t last, const char *out, struct image_written *written,
                struct err *err);

/* Description for people or as JSON. 0, or -1 when writing to `out` failed. */
int image_dump(const struct image *image, FILE *out, bool json, struct err *err);

#endif
