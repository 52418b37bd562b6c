/*
 * session_run.c - starting, resuming and ending what is debugged
 */
#include <stdlib.h>
#include <string.h>

#include "gdbbridge/session_private.h"
#include "gdbbridge/signals.h"

/* ------------------------------------------------------------------ resuming */

static void resume(struct session *s, const struct resume *actions, size_t n)
{
    if (s->ops->resume(s->target, actions, n))
        reply_error(s, 1);
    else if (s->non_stop)
        reply_ok(s);
    else
        s->running = s->waiting = s->no_reply = true;
}

/* Parses the "s:p1.2" of one action. Returns 0 or -1. */
static int parse_action(const char *p, const char *end, struct resume *a)
{
    uint64_t number = 0;
    char verb = p < end ? *p++ : 0;
    *a = (struct resume){.thread = {-1, -1}};
    switch (verb) {
    case 'C':
    case 'S':
        if (rsp_parse_number(&p, end, &number) || number > 255)
            return -1;
        a->signal = signal_from_gdb((int)number);
        if (a->signal < 0)
            return -1;
        /* fall through */
    case 'c':
    case 's':
        a->how = verb == 'c' || verb == 'C' ? RESUME_CONT : RESUME_STEP;
        break;
    case 'r':
        a->how = RESUME_STEP;
        if (rsp_parse_number(&p, end, &a->low) || p == end || *p++ != ',' ||
            rsp_parse_number(&p, end, &a->high))
            return -1;
        break;
    case 't':
        a->how = RESUME_NOT;
        break;
    default:
        return -1;
    }
    if (p < end && (*p++ != ':' || rsp_parse_thread(&p, end, &a->thread)))
        return -1;
    if (a->thread.pid == 0)
        a->thread.pid = -1;
    if (a->thread.tid == 0)
        a->thread.tid = -1;
    return p == end ? 0 : -1;
}

static void run_vcont(struct session *s, const struct rsp_param *p)
{
    const char *text = p[0].text, *end = text + p[0].size;
    size_t n = 3, used = 0;
    for (const char *c = text; c < end; c++)
        n += *c == ';';
    struct resume *actions = calloc(n, sizeof *actions);
    if (!actions)
        abort();
    /* A wildcard does not mean the thread of whose stop GDB may not know yet, nor its child. */
    if (s->notified)
        actions[used++].thread = s->stop.thread;
    if (s->notified && (s->stop.kind == EVENT_FORK || s->stop.kind == EVENT_VFORK))
        actions[used++].thread = (struct ptid){s->stop.child.pid, -1};
    while (text < end) {
        const char *next = memchr(text, ';', (size_t)(end - text));
        if (!next)
            next = end;
        if (parse_action(text, next, &actions[used++])) {
            reply_error(s, 22);
            goto out;
        }
        text = next < end ? next + 1 : end;
    }
    resume(s, actions, used);
out:
    free(actions);
}

static void run_vcont_actions(struct session *s, const struct rsp_param *p)
{
    bytes_text(&s->reply, "vCont;c;C;t;s;S;r");
}

/* c, s, C and S, which a GDB that knows vCont does not use: the thread of Hc acts, others run. */
static void resume_one(struct session *s, enum resume_how how, const struct rsp_param *number)
{
    int signal = number ? signal_from_gdb((int)(number->number & 255)) : 0;
    struct resume actions[] = {{.thread = {-1, -1}, .how = how, .signal = signal < 0 ? 0 : signal},
                               {.thread = {-1, -1}, .how = RESUME_CONT}};
    struct ptid thread;
    if (session_resolve(s, s->resumed, &thread)) {
        reply_error(s, 1);
        return;
    }
    actions[0].thread = thread;
    resume(s, actions, s->resumed.tid > 0 && how == RESUME_STEP ? 1 : 2);
}

static void run_c(struct session *s, const struct rsp_param *p)
{
    resume_one(s, RESUME_CONT, NULL);
}

static void run_s(struct session *s, const struct rsp_param *p)
{
    resume_one(s, RESUME_STEP, NULL);
}

static void run_C(struct session *s, const struct rsp_param *p)
{
    resume_one(s, RESUME_CONT, p);
}

static void run_S(struct session *s, const struct rsp_param *p)
{
    resume_one(s, RESUME_STEP, p);
}

/* ------------------------------------------------------------------ backwards */

static bool offers_reverse(const struct session *s)
{
    return s->ops->reverse_step && s->ops->reverse_continue;
}

static void run_bs(struct session *s, const struct rsp_param *p)
{
    struct ptid thread;
    if (session_resolve(s, s->resumed, &thread) || s->ops->reverse_step(s->target, thread))
        reply_error(s, 1);
    else
        s->running = s->waiting = s->no_reply = true;
}

static void run_bc(struct session *s, const struct rsp_param *p)
{
    if (s->ops->reverse_continue(s->target))
        reply_error(s, 1);
    else
        s->running = s->waiting = s->no_reply = true;
}

/* ------------------------------------------------------------------ stops */

/* The next stopped thread, in the order of their list; OK when all have been told of. */
static void list_next(struct session *s)
{
    size_t n = session_threads(s), i = 0;
    uint8_t *block = malloc(registers_block_size(s->ops->registers(s->target)));
    if (!block)
        abort();
    while (s->last_listed.tid && i < n && s->threads[i].tid != s->last_listed.tid)
        i++;
    i += s->last_listed.tid ? 1 : 0;
    while (i < n && s->ops->read_registers(s->target, s->threads[i], block))
        i++; /* it runs */
    free(block);
    s->listing = i < n;
    if (!s->listing) {
        reply_ok(s);
        return;
    }
    struct event e = {.kind = EVENT_STOPPED, .thread = s->threads[i]};
    bool known = s->has_stop && s->stop.kind == EVENT_STOPPED && s->stop.thread.tid == e.thread.tid;
    s->last_listed = e.thread;
    reply_stop(s, known ? &s->stop : &e);
}

static void run_stopped(struct session *s, const struct rsp_param *p)
{
    if (s->listing)
        list_next(s);
    else
        session_tell_stop(s, true);
}

static void run_interrupt(struct session *s, const struct rsp_param *p)
{
    s->ops->interrupt(s->target);
    reply_ok(s);
}

static bool is_non_stop(const struct session *s)
{
    return s->non_stop;
}

static void run_why_stopped(struct session *s, const struct rsp_param *p)
{
    struct ptid thread;
    if (s->non_stop) {
        s->last_listed = (struct ptid){0, 0};
        list_next(s);
        return;
    }
    if (s->running) { /* the program ran on without a GDB and has just been interrupted */
        s->waiting = s->no_reply = true;
    } else if (session_resolve(s, (struct ptid){-1, -1}, &thread)) {
        bytes_text(&s->reply, "W00");
    } else if (s->has_stop && s->stop.thread.tid == thread.tid && s->stop.kind == EVENT_STOPPED) {
        reply_stop(s, &s->stop);
    } else {
        struct event e = {.kind = EVENT_STOPPED, .code = SIGTRAP, .thread = thread};
        session_set_stop(s, &e);
        reply_stop(s, &e);
    }
}

static void run_extended(struct session *s, const struct rsp_param *p)
{
    s->extended = true;
    reply_ok(s);
}

/* ------------------------------------------------------------------ starting */

static bool offers_run(const struct session *s)
{
    return s->ops->run;
}

static bool offers_attach(const struct session *s)
{
    return s->ops->attach;
}

static void start(struct session *s, char **argv)
{
    struct run how = {argv, s->env, s->directory, s->randomize};
    struct event e = {0};
    struct err err;
    if (s->ops->run(s->target, &how, &e, &err)) {
        reply_error_text(s, &err);
        return;
    }
    session_set_stop(s, &e);
    reply_stop(s, &e);
}

/* vRun;FILE;ARG...: each in hex. An empty FILE is the last one. */
static void run_run(struct session *s, const struct rsp_param *p)
{
    const char *text = p[0].text, *end = text + p[0].size;
    size_t n = 0;
    for (const char *c = text; c < end; c++)
        n += *c == ';';
    char **argv = calloc(n + 2, sizeof *argv);
    if (!argv)
        abort();
    for (size_t i = 0; i <= n; i++) {
        const char *next = memchr(text, ';', (size_t)(end - text));
        size_t digits = (size_t)((next ? next : end) - text);
        argv[i] = calloc(1, digits / 2 + 1);
        if (!argv[i])
            abort();
        if (hex_decode(argv[i], digits / 2, text, digits) < 0) {
            reply_error(s, 22);
            goto out;
        }
        text = next ? next + 1 : end;
    }
    start(s, argv);
out:
    for (char **a = argv; *a; a++)
        free(*a);
    free(argv);
}

static void run_restart(struct session *s, const struct rsp_param *p)
{
    session_end_processes(s);
    start(s, NULL);
    s->no_reply = true;
}

static void run_attach(struct session *s, const struct rsp_param *p)
{
    struct event e = {0};
    struct err err;
    if (s->ops->attach(s->target, (pid_t)p[0].number, &e, &err)) {
        reply_error_text(s, &err);
        return;
    }
    if (s->non_stop) { /* its threads' stops are polled */
        reply_ok(s);
        return;
    }
    session_set_stop(s, &e);
    reply_stop(s, &e);
}

/* ------------------------------------------------------------------ ending */

/* In plain remote mode there is nothing left to talk about without a process. */
static void end_if_empty(struct session *s)
{
    if (!s->extended && !session_has_process(s))
        s->done = true;
}

static void run_kill_all(struct session *s, const struct rsp_param *p)
{
    s->no_reply = true;
    while (session_threads(s))
        if (s->ops->kill(s->target, s->threads[0].pid))
            break;
    end_if_empty(s);
}

static void run_kill(struct session *s, const struct rsp_param *p)
{
    if (s->ops->kill(s->target, (pid_t)p[0].number))
        reply_error(s, 1);
    else
        reply_ok(s);
}

static void run_detach(struct session *s, const struct rsp_param *p)
{
    struct ptid thread;
    pid_t pid = p[0].present ? (pid_t)p[0].number : 0;
    if (session_resolve(s, pid ? (struct ptid){pid, -1} : s->general, &thread) ||
        s->ops->detach(s->target, thread.pid)) {
        reply_error(s, 1);
        return;
    }
    reply_ok(s);
    end_if_empty(s);
}

static const struct rsp_command session_run_rows[] = {
    {"?", "", run_why_stopped, NULL},
    {"!", "", run_extended, NULL},
    {"c", "", run_c, NULL},
    {"s", "", run_s, NULL},
    {"C", "x", run_C, NULL},
    {"S", "x", run_S, NULL},
    {"bs", "", run_bs, offers_reverse},
    {"bc", "", run_bc, offers_reverse},
    {"vStopped", "", run_stopped, is_non_stop},
    {"vCtrlC", "", run_interrupt, is_non_stop},
    {"vCont?", "", run_vcont_actions, NULL},
    {"vCont;", "b", run_vcont, NULL},
    {"vRun;", "b", run_run, offers_run},
    {"R", "|x", run_restart, offers_run},
    {"vAttach;", "x", run_attach, offers_attach},
    {"k", "|b", run_kill_all, NULL},
    {"vKill;", "x", run_kill, NULL},
    {"D", "|;x", run_detach, NULL},
};
COMMAND_TABLE(session_run);
