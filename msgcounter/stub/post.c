/*
 * post.c - receives that the next crossing posts
 */
#include "msgcounter/stub/post.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/attr.h"
#include "msgcounter/stub/count.h"
#include "msgcounter/stub/p2p.h"

struct stub_posts stub_posts;

/* MPICH's ways to say yes (MPL's boolean variables). */
static bool variable_set(const char *name)
{
    const char *value = getenv(name);
    return value && (!strcasecmp(value, "yes") || !strcasecmp(value, "true") ||
                     !strcasecmp(value, "on") || atoi(value) != 0);
}

void post_start(void)
{
    stub_posts.never = variable_set("MPIR_CVAR_ASYNC_PROGRESS") ||
                       variable_set("MPICH_ASYNC_PROGRESS");
}

static bool datatype_good(MPI_Datatype d)
{
    if ((d & 0xff000000) == 0x4c000000 && d >> 8 & 0xff)
        return true;
    const struct datatype *t = (const struct datatype *)handle_object(HANDLE_DATATYPE, d);
    return t && t->committed;
}

/* What MPI looks at in a send as in a receive. */
static bool arguments_good(const uint64_t *v)
{
    return P2P_TAG(v) <= attr_predefined.value[0] && P2P_COUNT(v) >= 0 && P2P_BUF(v) &&
           datatype_good(P2P_DATATYPE(v));
}

bool post_allowed(const uint64_t *v)
{
    if (GATE->mode != GATE_LIVE || stub_threads_multiple || stub_posts.never)
        return false;
    const struct comm *c = comm_of(P2P_COMM(v));
    int source = P2P_PEER(v), tag = P2P_TAG(v);
    return c && source < (c->remote_size ? c->remote_size : c->size) &&
           (source >= 0 || source == MPI_ANY_SOURCE) && (tag >= 0 || tag == MPI_ANY_TAG) &&
           arguments_good(v);
}

void post_all(void)
{
    cross(GATE->post, 0, 0);
}

/* ------------------------------------------------------------------------------ to oneself */

static struct request *receive_of(const struct gate_operation *op)
{
    return (struct request *)((char *)op->real_request - offsetof(struct request, head.real));
}

/* The first that waits for such a message. */
static struct gate_operation *find(const struct comm *c, int source, int tag)
{
    for (uint32_t i = 0; i < stub_posts.n; i++) {
        struct gate_operation *op = &stub_posts.op[i];
        if (receive_of(op)->comm == c && (op->peer == source || op->peer == MPI_ANY_SOURCE) &&
            (op->tag == tag || op->tag == MPI_ANY_TAG))
            return op;
    }
    return NULL;
}

static void copy(const uint64_t *v, int64_t bytes, struct request *to)
{
    const struct datatype *theirs = to->type ? to->type : datatype_of(to->datatype);
    if (datatype_of(P2P_DATATYPE(v))->contiguous && theirs->contiguous) {
        memcpy(to->buf, P2P_BUF(v), (size_t)bytes);
        return;
    }
    void *packed = stub_alloc((size_t)bytes);
    datatype_pack(P2P_DATATYPE(v), P2P_COUNT(v), P2P_BUF(v), packed, bytes);
    layout_unpack(request_layout(to), to->count, to->buf, packed, (size_t)bytes);
    stub_free(packed);
}

bool post_deliver(const struct comm *c, const uint64_t *v)
{
    if (c->rank != P2P_PEER(v) || c->remote_size || P2P_TAG(v) < 0 || !arguments_good(v))
        return false;
    /* The lower half has no earlier receive that could take it, and no earlier message for ours. */
    int me = comm_world_rank(c, c->rank);
    if (request_nreceiving != stub_posts.n || me < 0 || count.sent[me] != count.taken[me])
        return false;
    struct gate_operation *op = find(c, c->rank, P2P_TAG(v));
    int64_t bytes = p2p_bytes(v);
    if (!op || bytes > receive_of(op)->bytes)
        return false;
    struct request *r = receive_of(op);
    copy(v, bytes, r);
    memmove(op, op + 1, (size_t)(&stub_posts.op[--stub_posts.n] - op) * sizeof *op);
    struct gate_status st = {.source = c->rank, .tag = P2P_TAG(v), .bytes = bytes};
    request_settle_real(r, &st);
    return true;
}
