/*
 * coord.h - the coordinator of a phase: launcher, ranks, epochs, end
 *
 * Lives in the dbg3 process of `batch`, `restart` and `refine`: one libuv loop, no threads. Starts
 * the launcher, admits the ranks that know the session's secret, drives the cut (cut.h), writes the
 * catalog (session.h), watches for hangs, and decides how the phase ended.
 */
#ifndef DBG3_COORD_COORD_H
#define DBG3_COORD_COORD_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/coord/cut.h"
#include "runtime/coord/session.h"

/* What the user sees while it runs: a transient line (progress), one that stays, or one that stays
 * where somebody looks on (begun). */
enum coord_notice { COORD_PROGRESS, COORD_NOTE, COORD_BEGUN };
typedef void coord_notify_fn(void *arg, enum coord_notice kind, const char *line);

struct coord_settings {
    struct session *session; /* opened with the lock; stays the caller's */
    enum proto_phase phase;
    uint64_t phase_id;
    uint64_t every_ms;      /* epoch by timer; 0: none */
    uint64_t every_n_msgs;  /* told to the ranks, which ask with WANT; 0: none */
    uint64_t hang_after_ms; /* 0: no watch */
    unsigned keep_epochs;   /* 0: all */
    unsigned keep_fine;     /* told to the ranks */
    char *const *launcher;  /* run as it is, stdio inherited */
    char *const *environment; /* of the launcher; the coordinator adds its address and the secret */
    const char *cwd;          /* of the launcher */
    const struct cut_limits *limits; /* NULL: the usual ones */
    coord_notify_fn *notify;
    void *notify_arg;
};

struct coord_result {
    enum session_outcome outcome;
    int status;         /* of the launcher, as from waitpid(); 0 if it could not be had */
    unsigned size;      /* of the world, 0 if no rank came */
    unsigned seen;      /* ranks that came under control */
    unsigned finalized;
    unsigned epochs;    /* committed */
    unsigned cancelled; /* tried in vain */
    bool recording;     /* refine: all ranks came, the new recording replaces the one before */
};

/*
 * Runs the phase to its end. 0 with *result filled however the job ended; -1 if it could not be
 * started. Failures, epochs and ranks are in the catalog by then.
 */
int coord_run(const struct coord_settings *settings, struct coord_result *result, struct err *err);

/*
 * Asks the dbg3 that runs a phase on this session, through control.sock. `request` is a word:
 * "checkpoint" (answers when the epoch is complete or has failed) or "status". Returns its answer,
 * a line of JSON to be freed, or NULL with err set.
 */
char *coord_ask(const char *session_dir, const char *request, struct err *err);

#endif
