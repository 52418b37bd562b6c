/*
 * buffers.h - message buffers of a call, as its row describes them
 *
 * A row says for each buffer how its blocks follow from counts, displacements, datatypes and the
 * communicator (enum buffer_span), and which ranks read or write it. From there on a buffer is
 * packed bytes and a digest.
 */
#ifndef DBG3_STUB_BUFFERS_H
#define DBG3_STUB_BUFFERS_H

#include "msgcounter/stub/call.h"
#include "msgcounter/stub/comm.h"

/* A call with its arguments. The communicator stands beside them: it may have been freed since. */
struct buffers {
    const struct call_info *info;
    const uint64_t *v;
    const struct comm *comm; /* NULL: the call has none */
    uint32_t omits;          /* bit i: buffer i is taken without the block from this rank itself */
};

/* What this rank gives itself in a collective that moves blocks about. */
struct buffers_own {
    unsigned param; /* the buffer that receives */
    void *to;
    const void *from; /* in the buffer that is sent */
    uint64_t bytes;   /* 0: there is none, or it does not lie in one piece */
    uint32_t apart;   /* bit i: buffer i is sent, and this block of it to nobody else */
};

struct buffers buffers_of(const struct call_info *info, const uint64_t *v);

/* Whether this rank reads (DIR_IN) or writes (DIR_OUT) parameter i, which may be no buffer. */
bool buffers_used(const struct buffers *b, unsigned i, int dir);

/* Elements of the vectors (counts, displacements, types) that describe buffer i; 0: it has none. */
int64_t buffers_vector(const struct buffers *b, unsigned i);

uint64_t buffers_bytes(const struct buffers *b, unsigned i);
uint64_t buffers_digest(const struct buffers *b, unsigned i);

/* Packs all blocks into the open event, to `to`, which has room for buffers_bytes(). */
void buffers_pack(const struct buffers *b, unsigned i, unsigned char *to);

/* The reverse; bytes beyond the buffer's, or missing, are left alone. */
void buffers_unpack(const struct buffers *b, unsigned i, const unsigned char *from, uint64_t bytes);

struct buffers_own buffers_own(const struct buffers *b);

#endif
