/*
 * conn.c - one rank's connection: frames in, frames out, over libuv
 */
#define LOG_MODULE "coord"
#include "runtime/coord/conn.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/base/log.h"

#define BUFFER_START 16384u

struct conn {
    uv_tcp_t tcp;
    uv_shutdown_t shutdown;
    conn_message_fn *on_message;
    conn_end_fn *on_end;
    void *data;
    size_t frame_max;
    char *buffer; /* malloc'd: aligned as proto_decode() wants it */
    size_t used, room;
    bool closing;
    char peer[64];
};

struct outgoing {
    uv_write_t request;
    uint64_t frame[];
};

static void freed(uv_handle_t *handle)
{
    struct conn *conn = handle->data;
    free(conn->buffer);
    free(conn);
}

static void close_now(struct conn *conn)
{
    if (!uv_is_closing((uv_handle_t *)&conn->tcp))
        uv_close((uv_handle_t *)&conn->tcp, freed);
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    close_now(request->data);
}

void conn_close(struct conn *conn)
{
    if (conn->closing)
        return;
    conn->closing = true;
    uv_read_stop((uv_stream_t *)&conn->tcp);
    conn->shutdown.data = conn;
    if (uv_shutdown(&conn->shutdown, (uv_stream_t *)&conn->tcp, on_shutdown) < 0)
        close_now(conn);
}

static void end(struct conn *conn, const char *why)
{
    if (conn->closing)
        return;
    conn->on_end(conn, why);
    conn->closing = true;
    close_now(conn);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct conn *conn = handle->data;
    uint32_t length = 0;
    size_t need = conn->used + 1;
    if (conn->used >= PROTO_HEADER) {
        memcpy(&length, conn->buffer, sizeof length); /* at most frame_max: dispatch() looked */
        need = PROTO_HEADER + length;
    }
    if (need > conn->room) {
        size_t room = need > 2 * conn->room ? need : 2 * conn->room;
        char *more = realloc(conn->buffer, room);
        if (!more) {
            *buf = uv_buf_init(NULL, 0); /* libuv reports ENOBUFS */
            return;
        }
        conn->buffer = more;
        conn->room = room;
    }
    *buf = uv_buf_init(conn->buffer + conn->used, (unsigned)(conn->room - conn->used));
}

/* Takes whole frames off the buffer. Returns -1 after the connection was ended. */
static int dispatch(struct conn *conn)
{
    size_t done = 0;
    struct proto_msg msg;
    struct err err;
    char text[256];
    while (conn->used - done >= PROTO_HEADER) {
        uint32_t length;
        memcpy(&length, conn->buffer + done, sizeof length);
        ssize_t n = (size_t)length + PROTO_HEADER > conn->frame_max
                        ? err_set(&err, "not the dbg3 protocol (a frame of %u bytes)",
                                      length)
                        : proto_decode(conn->buffer + done, conn->used - done, &msg, &err);
        if (n < 0) {
            end(conn, err.text);
            return -1;
        }
        if (n == 0)
            break;
        log_debug("%s -> %s", conn_peer(conn), proto_text(&msg, text, sizeof text));
        conn->on_message(conn, &msg);
        if (conn->closing)
            return -1;
        done += (size_t)n;
    }
    memmove(conn->buffer, conn->buffer + done, conn->used - done);
    conn->used -= done;
    return 0;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct conn *conn = stream->data;
    if (n < 0) {
        end(conn, n == UV_EOF || n == UV_ECONNRESET ? NULL : uv_strerror((int)n));
        return;
    }
    conn->used += (size_t)n;
    dispatch(conn);
}

struct conn *conn_accept(uv_stream_t *listener, size_t frame_max, conn_message_fn *on_message,
                         conn_end_fn *on_end, void *data)
{
    struct conn *conn = calloc(1, sizeof *conn);
    if (!conn)
        return NULL;
    *conn = (struct conn){.on_message = on_message, .on_end = on_end, .data = data,
                          .frame_max = frame_max, .room = BUFFER_START};
    conn->buffer = malloc(conn->room);
    uv_tcp_init(listener->loop, &conn->tcp);
    conn->tcp.data = conn;
    if (!conn->buffer || uv_accept(listener, (uv_stream_t *)&conn->tcp) < 0 ||
        uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read) < 0) {
        conn->closing = true;
        close_now(conn);
        return NULL;
    }
    uv_tcp_nodelay(&conn->tcp, 1);
    return conn;
}

void conn_trust(struct conn *conn)
{
    conn->frame_max = PROTO_HEADER + PROTO_BODY_MAX;
}

void *conn_data(const struct conn *conn)
{
    return conn->data;
}

void conn_set_data(struct conn *conn, void *data)
{
    conn->data = data;
}

const char *conn_peer(struct conn *conn)
{
    struct sockaddr_in address;
    int length = sizeof address;
    char host[INET_ADDRSTRLEN] = "?";
    if (conn->peer[0] == '\0' &&
        uv_tcp_getpeername(&conn->tcp, (struct sockaddr *)&address, &length) == 0) {
        inet_ntop(AF_INET, &address.sin_addr, host, sizeof host);
        snprintf(conn->peer, sizeof conn->peer, "%s:%u", host, ntohs(address.sin_port));
    }
    return conn->peer;
}

static void on_sent(uv_write_t *request, int status)
{
    free(request->data);
}

void conn_send(struct conn *conn, const struct proto_msg *msg)
{
    struct err err;
    char text[256];
    size_t size = proto_size(msg);
    struct outgoing *out = malloc(sizeof *out + size);
    if (conn->closing || !out) {
        free(out);
        return;
    }
    if (proto_encode(msg, out->frame, size, &err) < 0) {
        log_warn("cannot send to %s: %s", conn_peer(conn), err.text);
        free(out);
        return;
    }
    log_debug("%s <- %s", conn_peer(conn), proto_text(msg, text, sizeof text));
    out->request.data = out;
    uv_buf_t buf = uv_buf_init((char *)out->frame, (unsigned)size);
    if (uv_write(&out->request, (uv_stream_t *)&conn->tcp, &buf, 1, on_sent) < 0)
        free(out);
}
