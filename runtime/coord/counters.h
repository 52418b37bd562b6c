/*
 * counters.h - live counters of a rank, in a file that everyone may map
 *
 * <session>/counters/rank-R.cnt, mapped MAP_SHARED by the rank, which is its only writer; `dbg3
 * status` and the hang watch map it read-only. Every field is an aligned 64-bit word, written and
 * read with relaxed atomics: a reader may see two fields of different moments, never half a field.
 * The file outlives the rank (also one killed by SIGKILL): state and pid say whose word it is.
 *
 *     0      counters_file: a cache line each for identity, position and totals
 *     256    struct counters_peer [size]: one for each world rank
 *
 * What is a message: a completed point-to-point send or receive, or a completed collective. A send
 * counts as completed when its buffer may be used again (MPI_Send returned, or Wait/Test said so).
 */
#ifndef DBG3_COORD_COUNTERS_H
#define DBG3_COORD_COUNTERS_H

#include <stddef.h>
#include <stdint.h>

#define COUNTERS_MAGIC   0x746e633367626400ull /* "\0dbg3cnt" */
#define COUNTERS_VERSION 1u

enum counters_state {
    COUNTERS_STARTING,   /* before MPI_Init returned, or while restoring */
    COUNTERS_COMPUTING,  /* in the application */
    COUNTERS_IN_CALL,    /* in an MPI call that does not wait for others */
    COUNTERS_WAITING,    /* in a receive, wait, probe or send that is not done yet */
    COUNTERS_COLLECTIVE, /* in a collective */
    COUNTERS_HOLDING,    /* held before a collective by a cut */
    COUNTERS_PARKED,     /* stopped by a cut: draining or being written */
    COUNTERS_FINALIZED,  /* MPI_Finalize returned */
    COUNTERS_DEAD,       /* failed; written by its fatal signal or exit handler */
    COUNTERS_NSTATES
};

struct counters_peer {
    uint64_t sent_msgs;
    uint64_t sent_bytes;
    uint64_t recv_msgs;
    uint64_t recv_bytes;
};

struct counters_file {
    /* Who: written once, magic last. */
    uint64_t magic;
    uint64_t version;
    uint64_t rank;
    uint64_t size; /* of MPI_COMM_WORLD: elements of peer[] */
    uint64_t pid;
    uint64_t start_ns; /* CLOCK_REALTIME when the file was made */
    uint64_t reserved0[2];

    /* Where: written at each MPI call. */
    uint64_t state;   /* enum counters_state */
    uint64_t call;    /* number of the present call in the call table + 1, 0 outside MPI */
    uint64_t call_pc; /* the application's call site of the present or last call, 0 if unknown */
    uint64_t calls;   /* MPI calls entered so far: what the hang watch looks at, with messages */
    uint64_t peer_wanted; /* world rank waited for + 1, 0 none or any */
    uint64_t epoch;   /* newest epoch this rank took part in (batch) or was started from */
    uint64_t fine;    /* fine checkpoints made (refine) */
    uint64_t event;   /* events in the payload log (refine) */

    /* How much: written when something completes. */
    uint64_t messages; /* sends + receives + collectives completed */
    uint64_t sent_msgs, sent_bytes;
    uint64_t recv_msgs, recv_bytes;
    uint64_t collectives;
    uint64_t reserved1[2];

    uint64_t reserved2[8];

    struct counters_peer peer[];
};

_Static_assert(offsetof(struct counters_file, state) == 64, "position has a cache line of its own");
_Static_assert(offsetof(struct counters_file, messages) == 128, "so have the totals");
_Static_assert(offsetof(struct counters_file, peer) == 256, "layout of version 1");

/* Bytes of the file of a rank in a world of `size` ranks. */
static inline size_t counters_bytes(uint64_t size)
{
    return sizeof(struct counters_file) + size * sizeof(struct counters_peer);
}

/* The writer is one thread at a time: a plain load, an addition and a store, no locked
 * instruction. */
static inline void counters_set(uint64_t *field, uint64_t value)
{
    __atomic_store_n(field, value, __ATOMIC_RELAXED);
}

static inline uint64_t counters_get(const uint64_t *field)
{
    return __atomic_load_n(field, __ATOMIC_RELAXED);
}

static inline void counters_add(uint64_t *field, uint64_t n)
{
    counters_set(field, counters_get(field) + n);
}

#endif
