/*
 * session.h - the session folder and its catalog
 *
 *     app.dbg3/              0700, made by `dbg3 batch`; ./latest.dbg3 points at the newest
 *         session.db         SQLite, schema below; a transaction is what makes a fact true
 *         lock               held (fcntl) by the dbg3 that runs a phase
 *         control.sock       that dbg3's socket for `dbg3 checkpoint` and `dbg3 status`
 *         start/             rank-R.order: order logs from the start of the program
 *         epochs/NNNN/       rank-R.img; rank-R.order: order logs from there on
 *         fine/rank-R/       fine checkpoints of the present recording
 *         logs/              payload logs of the present recording
 *         counters/          rank-R.cnt of the newest phase (counters.h)
 *         failures/          failure images: PHASE-rank-R.img
 *
 * Invariants. An epoch is a row in `epochs`, written together with one row in `images` for each
 * rank in one transaction after all files are complete: a folder without a row is the rest of an
 * epoch that was interrupted, offered to nobody, and removed when the next phase starts. The
 * journal is SQLite's rollback journal: readers need no write access to -wal and -shm files, and a
 * kill -9 at any moment leaves the last committed state. Rows are never updated to mean something
 * else; a phase that was killed keeps `ended` NULL.
 *
 * Recordings (refine) replace each other as in rr: the new one gets empty logs/ and fine/, the old
 * ones are set aside as logs.old/ and fine.old/ and removed once all ranks of the new one are under
 * control; if they do not come to be (an image may be damaged), they are put back.
 */
#ifndef DBG3_COORD_SESSION_H
#define DBG3_COORD_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/base/err.h"
#include "runtime/coord/proto.h"

#define SESSION_SCHEMA 1
#define SESSION_LATEST "latest.dbg3"
#define SESSION_SUFFIX ".dbg3"

struct session;

/* Why a phase ended (phases.outcome). */
enum session_outcome {
    SESSION_RUNNING,     /* or its dbg3 was killed: see the lock */
    SESSION_COMPLETED,   /* every rank finalized, launcher exited with 0 */
    SESSION_FAILED,      /* a rank died */
    SESSION_HUNG,        /* --hang-after */
    SESSION_LAUNCHER,    /* launcher killed, or ended with a status, and no rank died */
    SESSION_NO_RANK,     /* nothing came under control */
    SESSION_INTERRUPTED, /* Ctrl-C or SIGTERM to dbg3 */
    SESSION_NOUTCOMES
};

/* The job as given to `dbg3 batch`. Strings are owned by the session until it is closed. */
struct session_job {
    const char *program;  /* absolute path of the application, "" until a rank told it */
    const char *build_id; /* hex, or "xxh3:..." of the whole file if it has none */
    const char *cwd;
    char **launcher;    /* NULL-terminated */
    char **environment; /* NULL-terminated "NAME=value": what could change what the job does */
    unsigned size;      /* ranks, 0 until known */
};

struct session_phase {
    uint64_t id;
    enum proto_phase kind;
    enum session_outcome outcome;
    double started, ended; /* seconds since 1970; ended is 0 while it runs */
    uint64_t from_epoch;   /* 0: the start of the program */
    int pid;               /* of its dbg3 */
    int status;            /* of the launcher, as from waitpid() */
};

struct session_rank {
    unsigned rank;
    int pid;
    bool finalized;
    const char *host;
    const char *program, *build_id; /* each rank its own: a job may run several programs */
};

struct session_image {
    unsigned rank;
    char file[64]; /* inside the epoch's folder */
    uint64_t bytes, us_write, us_pause, id;
};

struct session_epoch {
    uint64_t number;
    uint64_t phase;
    double committed; /* seconds since 1970 */
    uint64_t us_total; /* from intent to commit */
    unsigned nimages;
    uint64_t bytes;        /* sum */
    uint64_t us_pause_max; /* longest of a rank */
    const struct session_image *image; /* for session_epoch_commit() only */
};

struct session_failure {
    uint64_t phase;
    unsigned rank;
    int order; /* 1: the first of its phase */
    enum proto_failure kind;
    uint64_t code, event, pc, address, module_offset;
    double when;
    const char *text, *call, *image, *module, *source; /* source: "file.c:12 in main", "" unknown */
};

struct session_fine {
    uint64_t phase;
    unsigned rank;
    struct proto_fine fine;
};

/*
 * Makes a new session. `dir` NULL: "<app>.dbg3" in the current folder, or <app>-2.dbg3 and so on
 * if that exists; latest.dbg3 is pointed at it in either case. Takes the lock.
 */
struct session *session_create(const char *dir, const char *app, const struct session_job *job,
                               struct err *err);

/* Nothing came of a session that was made here: latest.dbg3 points where it pointed before. */
void session_latest_back(struct session *s);

/*
 * Opens a session for reading: dir, or ./latest.dbg3 if NULL. Fails, naming the next thing to type,
 * if there is none or its schema is newer.
 */
struct session *session_open(const char *dir, struct err *err);

/* Opens for running a phase: takes the lock (the error names the holder's pid) and cleans up. */
struct session *session_open_locked(const char *dir, struct err *err);

void session_close(struct session *s);

/* Absolute path of the folder. */
const char *session_dir(const struct session *s);

/* The folder of the payload logs. */
void session_logs(const struct session *s, char *buf, size_t cap);

/* Pid of the dbg3 that holds the lock, 0 if none does. */
int session_running(const struct session *s);

const struct session_job *session_job(const struct session *s);

/* Stores what the first rank told. */
int session_job_learn(struct session *s, const char *program, const char *build_id, unsigned size,
                      struct err *err);

/* Phases. Begin returns the id in *id. */
int session_phase_begin(struct session *s, enum proto_phase kind, uint64_t from_epoch,
                        char *const *launcher, uint64_t *id, struct err *err);
int session_phase_end(struct session *s, uint64_t id, enum session_outcome outcome, int status,
                      struct err *err);
int session_rank_seen(struct session *s, uint64_t phase, const struct session_rank *rank,
                      struct err *err);
int session_rank_finalized(struct session *s, uint64_t phase, unsigned rank, struct err *err);

/* Number for the next epoch: above all rows, folders and numbers handed out before; makes its
 * folder. */
int session_epoch_begin(struct session *s, uint64_t *number, char *folder, size_t cap,
                        struct err *err);
/* The one transaction. Syncs the folders first. */
int session_epoch_commit(struct session *s, const struct session_epoch *epoch, struct err *err);
/* Removes the folder of an epoch that came to nothing. */
void session_epoch_discard(struct session *s, uint64_t number);
/* Removes all but the newest `keep` epochs, catalog first. */
int session_epochs_trim(struct session *s, unsigned keep, struct err *err);

int session_failure_add(struct session *s, const struct session_failure *failure, struct err *err);
int session_fine_add(struct session *s, const struct session_fine *fine, unsigned n,
                     struct err *err);

/*
 * Readers: fill *out with a malloc'd array in catalog order (oldest first), *n with its length.
 * Strings in it live until the session is closed.
 */
int session_phases(struct session *s, struct session_phase **out, unsigned *n, struct err *err);
/* How many ranks a phase had: those of the job, and behind them what it has spawned. */
unsigned session_phase_size(struct session *s, uint64_t phase);
int session_ranks(struct session *s, uint64_t phase, struct session_rank **out, unsigned *n,
                  struct err *err);
int session_epochs(struct session *s, struct session_epoch **out, unsigned *n, struct err *err);
int session_images(struct session *s, uint64_t epoch, struct session_image **out, unsigned *n,
                   struct err *err);
int session_failures(struct session *s, uint64_t phase, struct session_failure **out, unsigned *n,
                     struct err *err);
int session_fines(struct session *s, int rank /* -1: all */, struct session_fine **out, unsigned *n,
                  struct err *err);

/* One epoch by number; 0 means the newest. Fails, naming `dbg3 list`, if there is none. */
int session_epoch_find(struct session *s, uint64_t number, struct session_epoch *out,
                       struct err *err);
/*
 * The epoch to go on from: the newest of the last batch or restart, else the one that it began at.
 * An epoch of an abandoned line (after `restart --epoch`) is not of the history that failed. Fails
 * as session_epoch_find() does.
 */
int session_epoch_last(struct session *s, struct session_epoch *out, struct err *err);
void session_epoch_folder(const struct session *s, uint64_t number, char *buf, size_t cap);

/* The refine that made the present recording: the newest to which all ranks came, none of them
 * refusing its image. Fails, naming `dbg3 refine`, if there is none. */
int session_recording(struct session *s, struct session_phase *out, struct err *err);

/* Sets the previous recording aside, and later forgets it or puts it back. */
int session_recording_begin(struct session *s, struct err *err);
void session_recording_started(struct session *s);
void session_recording_failed(struct session *s);

/* Name of an outcome, "failed". */
const char *session_outcome_name(enum session_outcome outcome);
const char *session_phase_name(enum proto_phase kind);

#endif
