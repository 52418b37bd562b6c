/*
 * gdbserver_main.c - the command `dbg3 gdbserver`
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gdbbridge/gdbserver.h"
#include "gdbbridge/ptrace_target.h"

#define INTERRUPTED 130 /* exit code, that of the other commands */

extern char **environ;

struct arguments {
    const char *listen;
    pid_t attach;
    bool randomize, record;
    struct gdbserver_options server;
    char **program; /* NULL: none */
};

enum { KEY_ONCE = 0x100, KEY_MULTI, KEY_RANDOMIZE, KEY_RECORD };

static const struct argp_option options[] = {
    {"listen", 'l', "ADDR", 0,
     "wait for GDB on ADDR: [HOST:]PORT (without HOST: this machine only; PORT 0: any, printed), "
     "or "
     "a path. Default: GDB is on standard input and output",
     0},
    {"attach", 'p', "PID", 0, "debug a process that runs already", 0},
    {"multi", KEY_MULTI, NULL, 0, "stay when no process is left, for GDB's extended-remote", 0},
    {"once", KEY_ONCE, NULL, 0, "end with the first connection", 0},
    {"randomize", KEY_RANDOMIZE, NULL, 0, "leave address space randomization on", 0},
    {"record", KEY_RECORD, NULL, 0, "record what enters the program, so that GDB can go back", 0},
    {NULL, 0, NULL, 0, NULL, 0},
};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct arguments *a = state->input;
    char *end;
    switch (key) {
    case 'l':
        a->listen = arg;
        break;
    case 'p':
        a->attach = (pid_t)strtol(arg, &end, 10);
        if (*end || a->attach <= 1)
            argp_error(state, "%s is no process id", arg);
        break;
    case KEY_MULTI:
        a->server.multi = true;
        break;
    case KEY_ONCE:
        a->server.once = true;
        break;
    case KEY_RANDOMIZE:
        a->randomize = true;
        break;
    case KEY_RECORD:
        a->record = true;
        break;
    case ARGP_KEY_ARG:
        a->program = &state->argv[state->next - 1];
        state->next = state->argc;
        break;
    case ARGP_KEY_END:
        if (a->program && a->attach)
            argp_error(state, "either a program or --attach");
        if (!a->program && !a->attach)
            a->server.multi = true;
        break;
    default:
        return ARGP_ERR_UNKNOWN;
    }
    return 0;
}

const struct argp gdbserver_argp = {
    options, parse, "[PROGRAM [ARGUMENT...]]",
    "Debug PROGRAM with a GDB elsewhere, or behind a pipe:\n"
    "  gdb PROGRAM -ex 'target remote | dbg3 gdbserver PROGRAM ARGUMENT...'\n"
    "  dbg3 gdbserver --listen :0 PROGRAM    (prints the port), and then\n"
    "  gdb PROGRAM -ex 'target remote :PORT'\v"
    "`target extended-remote' lets GDB run the program again, and attach to others.",
    NULL, NULL, NULL,
};

/* GDB's pipe moves away from the standard descriptors, so that nothing is printed into it; what the
 * program prints goes to standard error, which GDB shows. */
static int take_stdio(struct transport *tr, struct err *err)
{
    int in = fcntl(0, F_DUPFD_CLOEXEC, 3), out = fcntl(1, F_DUPFD_CLOEXEC, 3);
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (in < 0 || out < 0 || null < 0 || dup2(null, 0) < 0 || dup2(2, 1) < 0)
        return err_sys(err, "cannot take over standard input and output");
    close(null);
    transport_from_fds(tr, in, out);
    return 0;
}

static int open_transport(const struct arguments *a, struct transport *tr, struct err *err)
{
    return a->listen ? transport_listen(tr, a->listen, err) : take_stdio(tr, err);
}

/* The process to begin with, if one was asked for: *has_process. */
static int open_process(const struct arguments *a, struct target *t, struct event *stop,
                        bool *has_process, struct err *err)
{
    struct run how = {.argv = a->program, .env = environ, .randomize = a->randomize};
    *has_process = a->program || a->attach;
    if (a->attach)
        return ptrace_target_attach(t, a->attach, stop, err);
    if (!a->program)
        return 0;
    if (ptrace_target_start(t, &how, stop, err))
        return -1;
    if (a->listen)
        fprintf(stderr, "Process %s created; pid = %d\n", a->program[0], (int)stop->thread.pid);
    return 0;
}

int gdbserver_main(int argc, char **argv)
{
    struct arguments a = {0};
    struct err err;
    struct event stop;
    struct transport tr;
    bool has_process;
    if (argp_parse(&gdbserver_argp, argc, argv, ARGP_IN_ORDER, NULL, &a))
        return 2;
    gdbserver_prepare(!a.listen);
    struct ptrace_options po = {.stdio = {0, 1, 2}, .foreground = a.listen && isatty(0),
                                .record = a.record};
    struct target *t = ptrace_target_create(&po);
    int r = open_transport(&a, &tr, &err);
    if (!r) {
        r = open_process(&a, t, &stop, &has_process, &err);
        if (!r && a.listen)
            fprintf(stderr, "Listening on %s\n", tr.name);
        if (!r)
            r = gdbserver_serve(t, has_process ? &stop : NULL, &tr, &a.server, &err);
        transport_close(&tr);
    }
    if (r < 0)
        fprintf(stderr, "%s: %s\n", argv[0], err.text);
    t->ops->destroy(t);
    return r < 0 ? 1 : r > 0 ? INTERRUPTED : 0;
}
