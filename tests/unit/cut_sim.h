/*
 * cut_sim.h - simulated ranks that run random MPI programs and take part in cuts
 *
 * A program is a random global sequence of operations (collectives of several kinds on overlapping
 * communicators, point-to-point with and without rendezvous, communicators made and freed); each
 * rank runs its own part of it in order, which no MPI library can make deadlock. The ranks' side of
 * the protocol is cut_rank.h, as in the real agent. The simulation checks at each WRITE that what
 * the images would hold is consistent.
 */
#ifndef DBG3_TESTS_CUT_SIM_H
#define DBG3_TESTS_CUT_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/coord/proto.h"

struct sim;

struct sim_options {
    unsigned nranks;
    unsigned nops;        /* global operations */
    unsigned percent_p2p; /* of them */
    uint64_t seed;
};

/* A rank's agent sends a message (borrowed). */
typedef void sim_send_fn(void *arg, unsigned rank, const struct proto_msg *msg);

struct sim *sim_create(const struct sim_options *options, sim_send_fn *send, void *arg);
void sim_destroy(struct sim *sim);

/* Lets a rank do its next small thing. False if it cannot: it waits, holds, is parked or is
 * done. */
bool sim_step(struct sim *sim, unsigned rank);

/* Its agent gets a message. WRITE is answered with `written` (file, bytes, ... of u.written). */
void sim_control(struct sim *sim, unsigned rank, const struct proto_msg *msg);

/* While true, ranks that have done their work compute on instead of finalizing. */
void sim_stay(struct sim *sim, bool stay);

/* All ranks have finalized. */
bool sim_done(const struct sim *sim);
bool sim_finalized(const struct sim *sim, unsigned rank);

/* Collectives and messages completed by a rank: grows as it gets on. */
uint64_t sim_progress(const struct sim *sim, unsigned rank);

/* First violation found, or NULL. */
const char *sim_violation(const struct sim *sim);

/* What each rank is at, for a failure's message. */
void sim_describe(const struct sim *sim, char *buf, size_t cap);

/* splitmix64: the tests' own random numbers, the same everywhere. */
uint64_t sim_random(uint64_t *state);

#endif
