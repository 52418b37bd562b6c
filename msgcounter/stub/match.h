/*
 * match.h - messages that were received before the application asked for them
 *
 * A drain takes every message in flight into this queue; later receives and probes look here first,
 * by MPI's rules: within a communicator the earliest message that fits, wildcards included (MPI 4.0
 * §3.5).
 *
 * Pure: no MPI, no global state. Communicators are told apart by a number that is the caller's, so
 * that messages survive a restart. Memory comes from the caller's functions.
 */
#ifndef DBG3_STUB_MATCH_H
#define DBG3_STUB_MATCH_H

#include <stddef.h>
#include <stdint.h>

#define MATCH_ANY_SOURCE (-2) /* as in MPICH's mpi.h */
#define MATCH_ANY_TAG    (-1)

struct match_message {
    struct match_message *next;
    uint64_t comm;
    int32_t source, tag; /* rank in comm */
    int64_t bytes;
    unsigned char data[] __attribute__((aligned(16))); /* packed */
};

#define MATCH_BUCKETS 64

struct match_queue {
    void *(*alloc)(size_t size);
    void (*free)(void *p);
    uint64_t count; /* messages in the queue */
    struct match_list {
        struct match_message *first, **end; /* end NULL: never used */
    } bucket[MATCH_BUCKETS];                /* by communicator, in order of arrival */
};

/* A message with room for `bytes` of data, not in the queue yet. */
struct match_message *match_new(struct match_queue *q, int64_t bytes);
void match_free(struct match_queue *q, struct match_message *m);

/* Appends: m has arrived after all others of its communicator. */
void match_add(struct match_queue *q, struct match_message *m);

/* The earliest message that a receive with these arguments takes; NULL: none. It stays in the
 * queue. */
struct match_message *match_find(const struct match_queue *q, uint64_t comm, int source, int tag);

/* The same, taken out; the caller frees it. */
struct match_message *match_take(struct match_queue *q, uint64_t comm, int source, int tag);

#endif
