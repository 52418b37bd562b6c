/*
 * transport.c - the byte stream to GDB
 */
#include "gdbbridge/transport.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void transport_from_fds(struct transport *tr, int in, int out)
{
    *tr = (struct transport){.listening = -1, .in = in, .out = out};
}

/* ------------------------------------------------------------------ listening */

static int listen_unix(struct transport *tr, const char *path, struct err *err)
{
    struct sockaddr_un sun = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof sun.sun_path)
        return err_set(err, "%s: the path is too long for a socket", path);
    strcpy(sun.sun_path, path);
    tr->listening = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (tr->listening < 0 || bind(tr->listening, (struct sockaddr *)&sun, sizeof sun) ||
        listen(tr->listening, 4))
        return err_sys(err, "cannot listen on %s", path);
    tr->path = strdup(path);
    snprintf(tr->name, sizeof tr->name, "%s", path);
    return 0;
}

/* Splits HOST:PORT, [HOST]:PORT, :PORT and PORT. Returns the host ("" for none) and the port. */
static const char *split_address(char *text, char **port)
{
    char *colon = strrchr(text, ':');
    if (!colon) {
        *port = text;
        return "";
    }
    *port = colon + 1;
    *colon = '\0';
    if (text[0] == '[' && colon > text && colon[-1] == ']') {
        colon[-1] = '\0';
        text++;
    }
    return text;
}

static unsigned bound_port(int fd)
{
    struct sockaddr_storage bound;
    socklen_t size = sizeof bound;
    if (getsockname(fd, (struct sockaddr *)&bound, &size))
        return 0;
    return ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                             : ((struct sockaddr_in *)&bound)->sin_port);
}

static int listen_tcp(struct transport *tr, const char *address, struct err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    char text[256], *port;
    int on = 1, r;
    if (snprintf(text, sizeof text, "%s", address) >= (int)sizeof text)
        return err_set(err, "%s: no address", address);
    const char *host = split_address(text, &port);
    if (strtoul(port, NULL, 10) > UINT16_MAX) /* getaddrinfo takes what is left of it */
        return err_set(err, "cannot listen on %s: there is no port %s", address, port);
    r = getaddrinfo(host[0] ? host : "127.0.0.1", port, &hints, &found);
    if (r)
        return err_set(err, "cannot listen on %s: %s", address, gai_strerror(r));
    tr->listening = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (tr->listening >= 0)
        setsockopt(tr->listening, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    r = tr->listening < 0 || bind(tr->listening, found->ai_addr, found->ai_addrlen) ||
        listen(tr->listening, 4);
    if (r)
        err_sys(err, "cannot listen on %s", address);
    freeaddrinfo(found);
    if (r)
        return -1;
    snprintf(tr->name, sizeof tr->name, "port %u", bound_port(tr->listening));
    return 0;
}

int transport_listen(struct transport *tr, const char *address, struct err *err)
{
    int r;
    transport_from_fds(tr, -1, -1);
    if (!strncmp(address, "unix:", 5))
        r = listen_unix(tr, address + 5, err);
    else if (strchr(address, '/'))
        r = listen_unix(tr, address, err);
    else
        r = listen_tcp(tr, address, err);
    if (r)
        transport_close(tr);
    return r;
}

bool transport_accept(struct transport *tr)
{
    int on = 1, fd = accept4(tr->listening, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return false;
    if (tr->in >= 0) {
        close(fd);
        return false;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on); /* fails on unix sockets: no matter */
    tr->in = tr->out = fd;
    return true;
}

/* ------------------------------------------------------------------ bytes */

ssize_t transport_read(struct transport *tr, void *data, size_t size)
{
    ssize_t n;
    do
        n = read(tr->in, data, size);
    while (n < 0 && errno == EINTR);
    return n;
}

void transport_write(struct transport *tr, const void *data, size_t size)
{
    const char *p = data;
    while (size && tr->out >= 0) {
        ssize_t n = write(tr->out, p, size);
        if (n < 0 && errno != EINTR)
            return;
        if (n > 0) {
            p += n;
            size -= (size_t)n;
        }
    }
}

void transport_disconnect(struct transport *tr)
{
    if (tr->out >= 0 && tr->out != tr->in)
        close(tr->out);
    if (tr->in >= 0)
        close(tr->in);
    tr->in = tr->out = -1;
}

void transport_close(struct transport *tr)
{
    transport_disconnect(tr);
    if (tr->listening >= 0)
        close(tr->listening);
    tr->listening = -1;
    if (tr->path)
        unlink(tr->path);
    free(tr->path);
    tr->path = NULL;
}
