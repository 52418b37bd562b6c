/*
 * post.h - receives that the next crossing posts
 *
 * A crossing costs more than MPI_Irecv itself. Until the rank next enters the MPI library nothing
 * can come into a receive's buffer, so a receive need not be posted before: it is noted here, and
 * gate_cross() (cross.S) hands what is noted to gate.post before it does anything else. Order among
 * all calls is thus what the application made it. A halo exchange of k receives and k sends crosses
 * k times less.
 *
 * A rank that sends to itself what such a receive asks for has its message delivered here, and does
 * not cross at all.
 *
 * Only where it cannot be told from the outside: in a live job (a recording writes each receive
 * anyway), one MPI thread at a time, MPI makes no progress by itself, and arguments that MPI cannot
 * refuse, because a refusal would come too late.
 */
#ifndef DBG3_STUB_POST_H
#define DBG3_STUB_POST_H

#include "msgcounter/stub/request.h"

#define POSTS_MAX 64

struct stub_posts {
    uint32_t n; /* cross.S looks at it in every crossing */
    uint32_t never; /* MPI has a progress thread of its own */
    struct gate_operation op[POSTS_MAX];
};

extern struct stub_posts stub_posts;

/* After MPI_Init. */
void post_start(void);

/* True if a receive with these arguments (MPI_Irecv's) may wait for the next crossing. */
bool post_allowed(const uint64_t *v);

/* Posts what waits. [crosses] */
void post_all(void);

/* Room for a receive that is allowed to wait, to be filled in at once; its real_request is
 * head.real of a request. [may cross] */
static inline struct gate_operation *post_later(void)
{
    if (__builtin_expect(stub_posts.n == POSTS_MAX, 0))
        post_all();
    return &stub_posts.op[stub_posts.n++];
}

/* Gives the message of a send (with arguments that MPI cannot refuse) to oneself to the receive
 * that waits for it here. False: there is none, or one further down comes first. */
bool post_deliver(const struct comm *c, const uint64_t *v);

/* The real request of one that is pending, in the lower half by now. [may cross] */
static inline uint64_t request_real(const struct request *r)
{
    if (__builtin_expect(stub_posts.n != 0, 0))
        post_all();
    return r->head.real;
}

#endif
