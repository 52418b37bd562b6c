/*
 * transport.h - the byte stream to GDB: a pair of descriptors, or a listening socket
 *
 * One GDB at a time: while one is connected, others are refused by closing their connection.
 */
#ifndef DBG3_GDBBRIDGE_TRANSPORT_H
#define DBG3_GDBBRIDGE_TRANSPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "runtime/base/err.h"

struct transport {
    int listening; /* -1: a pair of descriptors was given */
    int in, out;   /* -1: not connected */
    char *path;    /* of the unix socket, removed at the end; or NULL */
    char name[256]; /* what it listens on, for people: "port 4711", or a path */
};

/* The descriptors are the transport's from now on. */
void transport_from_fds(struct transport *tr, int in, int out);

/* address: PORT or :PORT (loopback), HOST:PORT, [HOST6]:PORT, a path with a '/' or unix:PATH.
 * Port 0: one that is free, see name. */
int transport_listen(struct transport *tr, const char *address, struct err *err);

/* The listening socket is readable: true if a GDB is connected now that was not before. */
bool transport_accept(struct transport *tr);

/* As read(2): 0 at the end. */
ssize_t transport_read(struct transport *tr, void *data, size_t size);

/* Writes all. An error is not reported: the next read will find the connection broken. */
void transport_write(struct transport *tr, const void *data, size_t size);

void transport_disconnect(struct transport *tr);
void transport_close(struct transport *tr);

#endif
