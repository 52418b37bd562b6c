/*
 * recorded.h - what a session's catalog knows of a rank of the present recording
 */
#ifndef DBG3_CMD_RECORDED_H
#define DBG3_CMD_RECORDED_H

#include <limits.h>
#include <stdbool.h>

#include "runtime/coord/session.h"

struct recorded {
    unsigned rank;
    unsigned size; /* ranks of the recording, with those that the job has spawned */
    uint64_t from_epoch; /* that the recording began at; 0: the start of the program */
    int signal;          /* by which the rank died, 0 if it did not */
    bool has_fine;       /* one that failed before its first call has no fine checkpoint */
};

/* 0, or -1 with *err: no recording, no such rank. */
int recorded_rank(struct session *s, long rank, struct recorded *r, struct err *err);

/* Path of the rank's image in the epoch that the recording began at. 0, or -1 with *err. */
int recorded_epoch_image(struct session *s, const struct recorded *r, char path[PATH_MAX],
                         struct err *err);

#endif
