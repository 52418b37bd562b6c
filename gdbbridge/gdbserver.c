/*
 * gdbserver.c - the loop: GDB's bytes, the target's events, signals to end
 */
#include "gdbbridge/gdbserver.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "gdbbridge/session.h"

#define CTRL_C 0x03

struct server {
    struct session *session;
    struct transport *transport;
    const struct gdbserver_options *options;
    int signals;
    bool end;
    bool signalled; /* to end */
    char held[256]; /* what GDB said while a target took long, and is yet to be heard */
    size_t nheld;
    bool gone; /* GDB, meanwhile */
};

/* SIGCHLD: the target has news. The others: end. */
static void wanted_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGCHLD);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
}

void gdbserver_prepare(bool own_group)
{
    sigset_t set;
    wanted_signals(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN); /* a GDB that is gone is seen at the next read */
    signal(SIGCHLD, SIG_DFL); /* ignored, as a caller may have left it, it would tell of no stop */
    if (own_group && setsid() < 0)
        setpgid(0, 0);
}

static void output(void *arg, const void *data, size_t size)
{
    struct server *sv = arg;
    transport_write(sv->transport, data, size);
}

/* GDB is gone or done. A listening server waits for the next one while there is something to
 * debug. */
static void disconnected(struct server *sv)
{
    transport_disconnect(sv->transport);
    sv->end = sv->transport->listening < 0 || sv->options->once || session_done(sv->session) ||
              (!session_has_process(sv->session) && !session_extended(sv->session) &&
               !sv->options->multi);
}

/* Takes out of `held` the Ctrl-C that it may begin with. Acknowledgements may come before it. */
static bool take_interrupt(struct server *sv)
{
    for (size_t i = 0; i < sv->nheld && (sv->held[i] == CTRL_C || sv->held[i] == '+'); i++)
        if (sv->held[i] == CTRL_C) {
            memmove(sv->held + i, sv->held + i + 1, --sv->nheld - i);
            return true;
        }
    return false;
}

/* While a target takes long only Ctrl-C is heard; the rest waits. */
static bool gives_up(void *arg)
{
    struct server *sv = arg;
    struct pollfd in = {sv->transport->in, POLLIN, 0};
    size_t room = sizeof sv->held - sv->nheld;
    if (!sv->gone && room && poll(&in, 1, 0) > 0) {
        ssize_t n = transport_read(sv->transport, sv->held + sv->nheld, room);
        sv->gone = n <= 0;
        sv->nheld += n > 0 ? (size_t)n : 0;
    }
    return take_interrupt(sv) || sv->gone;
}

static void say(void *arg, const char *text)
{
    struct server *sv = arg;
    session_say(sv->session, text);
}

static void on_held(struct server *sv)
{
    char data[sizeof sv->held];
    size_t n = sv->nheld;
    memcpy(data, sv->held, n);
    sv->nheld = 0;
    session_input(sv->session, data, n);
    if (sv->gone || session_done(sv->session))
        disconnected(sv);
    sv->gone = false;
}

static void on_input(struct server *sv)
{
    char data[16384];
    ssize_t n = transport_read(sv->transport, data, sizeof data);
    if (n > 0)
        session_input(sv->session, data, (size_t)n);
    if (n <= 0 || session_done(sv->session))
        disconnected(sv);
}

static void on_signal(struct server *sv)
{
    struct signalfd_siginfo info;
    while (read(sv->signals, &info, sizeof info) == sizeof info)
        if (info.ssi_signo != SIGCHLD)
            sv->end = sv->signalled = true;
}

static int serve(struct server *sv, struct err *err)
{
    while (!sv->end) {
        /* also without SIGCHLD: an event may have been there before GDB resumed */
        session_poll(sv->session);
        if (sv->nheld || sv->gone) {
            on_held(sv);
            continue;
        }
        struct pollfd fds[] = {{sv->signals, POLLIN, 0},
                               {sv->transport->in, POLLIN, 0},
                               {sv->transport->listening, POLLIN, 0}};
        if (poll(fds, 3, -1) < 0) {
            if (errno == EINTR)
                continue;
            return err_sys(err, "poll");
        }
        if (fds[0].revents)
            on_signal(sv);
        /* First what the present GDB says: it may be that it has gone, and the next one comes. */
        if (fds[1].revents)
            on_input(sv);
        else if (fds[2].revents && transport_accept(sv->transport))
            session_connect(sv->session);
    }
    return sv->signalled;
}

int gdbserver_serve(struct target *t, const struct event *stop, struct transport *tr,
                    const struct gdbserver_options *options, struct err *err)
{
    struct server sv = {.transport = tr, .options = options};
    struct session_options so = {output, &sv, stop};
    sigset_t set;
    wanted_signals(&set);
    sv.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (sv.signals < 0)
        return err_sys(err, "signalfd");
    sv.session = rsp_session_create(t, &so);
    if (!sv.session)
        abort();
    if (t->ops->attend)
        t->ops->attend(t, &(struct attendant){gives_up, say, &sv});
    session_connect(sv.session);
    int r = serve(&sv, err);
    if (t->ops->attend)
        t->ops->attend(t, &(struct attendant){NULL, NULL, NULL});
    session_end_processes(sv.session);
    rsp_session_destroy(sv.session);
    close(sv.signals);
    return r;
}
