/*
 * conn.h - one rank's connection: frames in, frames out, over libuv
 *
 * Knows framing and nothing else: who may speak, and what, is coord.c's business.
 */
#ifndef DBG3_COORD_CONN_H
#define DBG3_COORD_CONN_H

#include <uv.h>

#include "runtime/coord/proto.h"

struct conn;

/* A whole message; borrowed during the call. The callee may call conn_close(). */
typedef void conn_message_fn(struct conn *conn, const struct proto_msg *msg);

/*
 * The peer is gone (why is NULL), or broke the protocol (why says how). Called once; the connection
 * is freed after it returns. Not called after conn_close().
 */
typedef void conn_end_fn(struct conn *conn, const char *why);

/*
 * Accepts from a listening socket. Frames longer than `frame_max` end the connection; raise it with
 * conn_trust(). Returns NULL if there is nothing to accept.
 */
struct conn *conn_accept(uv_stream_t *listener, size_t frame_max, conn_message_fn *on_message,
                         conn_end_fn *on_end, void *data);

/* The peer has shown who it is: any frame of the protocol is welcome. */
void conn_trust(struct conn *conn);

void *conn_data(const struct conn *conn);
void conn_set_data(struct conn *conn, void *data);

/* "127.0.0.1:4711", for messages. */
const char *conn_peer(struct conn *conn);

/* Queues a message. */
void conn_send(struct conn *conn, const struct proto_msg *msg);

/* Closes after what is queued has been sent. */
void conn_close(struct conn *conn);

#endif
