/*
 * cut_rank.h - a rank's half of the coordinated cut: what it counts and when it holds
 *
 * Pure, like cut.h, and written for the agent: plain libc, no allocation but the table of
 * communicators (one realloc when it grows). The caller serialises all calls on one cut_rank; on
 * the application's path only cut_rank_count() and cut_rank_done() are needed while no cut is
 * wanted.
 *
 *     at a collective on gid                        on the agent's side
 *     ----------------------------------------     ------------------------------------------
 *     while (!cut_rank_may_enter(r))                INTENT: cut_rank_intent()  -> send ACK
 *         send HOLD once; wait for a RAISE, CANCEL  ARM:    cut_rank_arm()     -> send ARMED
 *     E = cut_rank_count(r, gid)                    RAISE:  cut_rank_raise()   -> wake holders
 *     if (cut_rank_reports(r)) send ENTER           STOP:   park, send STOPPED
 *     ... the call ...                              RESUME: cut_rank_reset(r)
 *     if (cut_rank_done(r, gid) && reports)         CANCEL: cut_rank_reset(r); wake
 *         send LEAVE
 */
#ifndef DBG3_COORD_CUT_RANK_H
#define DBG3_COORD_CUT_RANK_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/coord/proto.h"

enum cut_rank_stage { CUT_RANK_FREE, CUT_RANK_ASKED, CUT_RANK_ARMED };

struct cut_rank {
    enum cut_rank_stage stage;
    uint64_t epoch;
    unsigned behind; /* communicators with E < T; 0 unless armed */
    unsigned ncomm, room;
    struct proto_comm *comm; /* as ACK wants them */
    struct cut_rank_extra {
        uint64_t target; /* T */
    } *extra;
};

/* Frees the table. The struct itself is the caller's; all zeros is an empty one. */
void cut_rank_clear(struct cut_rank *r);

/* A communicator came into being. -1: no memory. */
int cut_rank_comm_add(struct cut_rank *r, uint64_t gid, uint64_t nmembers);

/* T = E everywhere. Fills *ack (it points into the table: send it before anything else happens). */
void cut_rank_intent(struct cut_rank *r, uint64_t epoch, struct proto_msg *ack);

/* Both ignore messages of another epoch. */
void cut_rank_arm(struct cut_rank *r, const struct proto_msg *arm);
void cut_rank_raise(struct cut_rank *r, const struct proto_msg *raise);

/* May any collective be entered now? (Rule 3: yes unless armed and behind on none.) */
bool cut_rank_may_enter(const struct cut_rank *r);

/* Must ENTER, LEAVE, HOLD, COMM be sent? */
bool cut_rank_reports(const struct cut_rank *r);

/* Counts a collective as entered, raising T if it goes beyond. Returns the new E. */
uint64_t cut_rank_count(struct cut_rank *r, uint64_t gid);
/* The same for what is only counted, by any number: E is at least `entered`. Returns E. */
uint64_t cut_rank_set(struct cut_rank *r, uint64_t gid, uint64_t entered);
/* Returned from a blocking collective, or started a non-blocking one. False if it was over when the
 * intent was answered: then the others do not know of it, and LEAVE must not be sent. */
bool cut_rank_done(struct cut_rank *r, uint64_t gid);

/* E of a communicator, 0 if it is not known. */
uint64_t cut_rank_entered(const struct cut_rank *r, uint64_t gid);

/* The cut is over. */
void cut_rank_reset(struct cut_rank *r);

#endif
