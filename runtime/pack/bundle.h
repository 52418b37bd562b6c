/*
 * bundle.h - one recorded rank as one file, to be opened on another machine
 *
 * A bundle is an archive (archive.h) with these members, in this order:
 *
 *     manifest.json            what it is, and what the machine must have
 *     fine/rank-R/...          the rank's fine checkpoints, or epochs/NNNN/rank-R.img
 *     logs/rank-R/...          its recording
 *     root/...                 files that it has mapped, by their absolute paths: program,
 *                              libraries, data; separate debug files in usr/lib/debug/.build-id
 *     source/...               source files that the debug information names, likewise
 *
 * Unpacked it is a folder that reads like a session's: what isolates a rank of a session isolates
 * this one, with every file looked up below root/.
 *
 * Pure library. It knows neither processes nor the catalog of a session.
 */
#ifndef DBG3_PACK_BUNDLE_H
#define DBG3_PACK_BUNDLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

#define BUNDLE_VERSION  1
#define BUNDLE_MANIFEST "manifest.json"
#define BUNDLE_ROOT     "root"
#define BUNDLE_SOURCE   "source"
#define BUNDLE_DEBUG    BUNDLE_ROOT "/usr/lib/debug"

/* What the manifest says. Strings are malloc'ed, never NULL. */
struct bundle_facts {
    char *dbg3;           /* version of the dbg3 that packed it */
    unsigned gate, calls; /* versions of what rank and replay agree on: they must be ours */
    unsigned rank, size;
    char *program, *build_id; /* absolute path there; hexadecimal */
    char *image;              /* where the rank begins if it has no fine checkpoints, else "" */
    uint64_t oldest, newest;  /* fine checkpoints; 0: none */
    uint64_t recorded_from;   /* epoch that the recording began at; 0: the start of the program */
    int signal;               /* by which the rank failed; 0: it did not */
    char *host, *kernel, *cpu;
    char *features;           /* of its processor, which the rank may use: "avx2 fma ..." */
    uint64_t bytes;           /* of all members' content */
};

void bundle_facts_clear(struct bundle_facts *facts);

/* The manifest's text (malloc'ed), and back. `name` is the bundle's, for errors. */
char *bundle_manifest_write(const struct bundle_facts *facts);
int bundle_manifest_read(const char *text, size_t size, const char *name,
                         struct bundle_facts *facts, struct err *err);

struct bundle_progress {
    void (*fn)(void *arg, uint64_t done, uint64_t all); /* bytes of content; often. NULL: none */
    void *arg;
};

/* ---- packing ---- */

struct bundle_pack_options {
    const char *session;       /* absolute path */
    struct bundle_facts facts; /* dbg3, gate, calls, rank, size, recorded_from, signal, image */
    bool sources;
    struct bundle_progress progress;
};

struct bundle_packed {
    uint64_t content, bytes; /* of the members; of the bundle */
    unsigned images, libraries, debug_files, sources;
};

/* Writes the bundle to fd; `name` is for errors. 0, or -1 with *err. */
int bundle_pack(const struct bundle_pack_options *options, int fd, const char *name,
                struct bundle_packed *packed, struct err *err);

/* ---- opening ---- */

/* Unpacks to the folder, which must exist and be empty. 0, or -1 with *err. */
int bundle_unpack(const char *file, const char *dir, const struct bundle_progress *progress,
                  struct err *err);

/* Reads the manifest of an unpacked bundle. 0, or -1 with *err; *facts is then empty. */
int bundle_open(const char *dir, struct bundle_facts *facts, struct err *err);

/*
 * Can this machine run the rank? 0, or -1 with *err naming all that it lacks. `gate` and `calls`
 * are those of this dbg3. any_cpu: without a look at the processor.
 */
int bundle_check_machine(const struct bundle_facts *facts, unsigned gate, unsigned calls,
                         bool any_cpu, struct err *err);

/* Removes an unpacked bundle. */
void bundle_remove(const char *dir);

/* ---- processors (features.c) ---- */

/* Features of this processor that change what a program can do, by their names in /proc/cpuinfo;
 * malloc'ed, "" if the file cannot be read. */
char *features_here(void);
/* Its name; malloc'ed. */
char *features_processor(void);
/* Words of `wanted` that are not in `present`; malloc'ed. */
char *features_missing(const char *wanted, const char *present);

#endif
