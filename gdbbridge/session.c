/*
 * session.c - connection, dispatch, stop replies
 */
#include "gdbbridge/session.h"

#include <stdlib.h>
#include <string.h>

#include "gdbbridge/session_private.h"
#include "gdbbridge/signals.h"

#define LOG_MODULE "rsp"
#include "runtime/base/log.h"

#define LOG_PART 256 /* bytes of a packet that are logged */

/* ------------------------------------------------------------------ answers */

void reply_ok(struct session *s)
{
    bytes_text(&s->reply, "OK");
}

void reply_error(struct session *s, int number)
{
    bytes_clear(&s->reply);
    bytes_printf(&s->reply, "E%02x", (unsigned)number & 0xff);
}

void reply_error_text(struct session *s, const struct err *err)
{
    bytes_clear(&s->reply);
    bytes_printf(&s->reply, "E.%s", err->text);
}

static void send_reply(struct session *s)
{
    const char *data = s->reply.data ? s->reply.data : "";
    log_debug("> %.*s", (int)(s->reply.size < LOG_PART ? s->reply.size : LOG_PART), data);
    rsp_send(s->rsp, data, s->reply.size);
}

static void add_id(struct bytes *b, pid_t id)
{
    if (id < 0)
        bytes_text(b, "-1");
    else
        bytes_printf(b, "%x", (unsigned)id);
}

void reply_thread(struct session *s, struct ptid thread)
{
    if (s->multiprocess) {
        bytes_text(&s->reply, "p");
        add_id(&s->reply, thread.pid);
        bytes_text(&s->reply, ".");
    }
    add_id(&s->reply, thread.tid);
}

void session_console(struct session *s, const char *text, size_t size)
{
    struct bytes packet = {0};
    while (size) {
        size_t part = size < RSP_PACKET_MAX / 4 ? size : RSP_PACKET_MAX / 4;
        bytes_clear(&packet);
        bytes_text(&packet, "O");
        bytes_hex(&packet, text, part);
        rsp_send(s->rsp, packet.data, packet.size);
        text += part;
        size -= part;
    }
    bytes_free(&packet);
}

void session_say(struct session *s, const char *text)
{
    session_console(s, text, strlen(text));
}

/* ------------------------------------------------------------------ threads */

size_t session_threads(struct session *s)
{
    for (;;) {
        s->nthreads = s->ops->threads(s->target, s->threads, s->threads_room);
        if (s->nthreads <= s->threads_room)
            return s->nthreads;
        size_t room = s->nthreads * 2;
        struct ptid *threads = realloc(s->threads, room * sizeof *threads);
        if (!threads)
            abort();
        s->threads = threads;
        s->threads_room = room;
    }
}

static bool matches(struct ptid pattern, struct ptid thread)
{
    return (pattern.pid <= 0 || pattern.pid == thread.pid) &&
           (pattern.tid <= 0 || pattern.tid == thread.tid);
}

int session_resolve(struct session *s, struct ptid pattern, struct ptid *thread)
{
    const struct ptid *found = NULL;
    size_t n = session_threads(s);
    for (size_t i = 0; i < n; i++) {
        if (!matches(pattern, s->threads[i]))
            continue;
        bool stopped = s->has_stop && s->threads[i].tid == s->stop.thread.tid;
        if (!found || stopped)
            found = &s->threads[i];
    }
    if (!found)
        return -1;
    *thread = *found;
    return 0;
}

int session_general(struct session *s, struct ptid *thread)
{
    return session_resolve(s, s->general, thread);
}

int session_process(struct session *s, pid_t *pid)
{
    struct ptid thread, pattern = s->general;
    if (session_resolve(s, pattern, &thread)) { /* that thread has ended */
        pattern.tid = -1;
        if (pattern.pid <= 0 || session_resolve(s, pattern, &thread))
            return -1;
    }
    *pid = thread.pid;
    return 0;
}

/* ------------------------------------------------------------------ stop replies */

void session_set_stop(struct session *s, const struct event *event)
{
    s->stop = *event;
    s->has_stop = true;
    if (!s->notified)
        s->general = s->resumed = event->thread;
}

static void add_trap(struct session *s, const struct event *e)
{
    static const char *const watch[] = {
        [TRAP_WATCH_WRITE] = "watch",
        [TRAP_WATCH_READ] = "rwatch",
        [TRAP_WATCH_ACCESS] = "awatch",
    };
    switch (e->trap) {
    case TRAP_SW_BREAK:
        if (s->swbreak)
            bytes_text(&s->reply, "swbreak:;");
        break;
    case TRAP_HW_BREAK:
        if (s->hwbreak)
            bytes_text(&s->reply, "hwbreak:;");
        break;
    case TRAP_WATCH_WRITE:
    case TRAP_WATCH_READ:
    case TRAP_WATCH_ACCESS:
        bytes_printf(&s->reply, "%s:%llx;", watch[e->trap], (unsigned long long)e->addr);
        break;
    case TRAP_OTHER:
    case TRAP_STEP:
        break;
    }
    if (e->history != HISTORY_INSIDE)
        bytes_printf(&s->reply, "replaylog:%s;", e->history == HISTORY_BEGIN ? "begin" : "end");
}

/* Registers that GDB wants at every stop, so that it need not ask. */
static void add_registers(struct session *s, struct ptid thread)
{
    static const unsigned expedited[] = {REGISTER_RBP, REGISTER_RSP, REGISTER_RIP};
    const struct registers *r = s->ops->registers(s->target);
    uint8_t *block = malloc(registers_block_size(r));
    if (!block)
        abort();
    if (!s->ops->read_registers(s->target, thread, block)) {
        for (size_t i = 0; i < sizeof expedited / sizeof expedited[0]; i++) {
            size_t offset, size = registers_find(r, expedited[i], &offset);
            bytes_printf(&s->reply, "%02x:", expedited[i]);
            bytes_hex(&s->reply, block + offset, size);
            bytes_text(&s->reply, ";");
        }
    }
    free(block);
}

static void add_thread(struct session *s, struct ptid thread)
{
    struct thread_info info;
    bytes_text(&s->reply, "thread:");
    reply_thread(s, thread);
    bytes_text(&s->reply, ";");
    if (!s->ops->thread_info(s->target, thread, &info) && info.core >= 0)
        bytes_printf(&s->reply, "core:%x;", (unsigned)info.core);
}

static void add_child(struct session *s, const char *what, struct ptid child)
{
    bytes_printf(&s->reply, "T05%s:", what);
    reply_thread(s, child);
    bytes_text(&s->reply, ";");
}

static void add_end(struct session *s, char how, unsigned code, pid_t pid)
{
    bytes_printf(&s->reply, "%c%02x", how, code);
    if (s->multiprocess)
        bytes_printf(&s->reply, ";process:%x", (unsigned)pid);
}

void reply_stop(struct session *s, const struct event *e)
{
    switch (e->kind) {
    case EVENT_EXITED:
        add_end(s, 'W', (unsigned)e->code & 0xff, e->thread.pid);
        return;
    case EVENT_KILLED:
        add_end(s, 'X', (unsigned)signal_to_gdb(e->code), e->thread.pid);
        return;
    case EVENT_NONE_LEFT:
        bytes_text(&s->reply, "N");
        return;
    case EVENT_THREAD_EXITED:
        bytes_printf(&s->reply, "w%02x;", (unsigned)e->code & 0xff);
        reply_thread(s, e->thread);
        return;
    case EVENT_THREAD_CREATED:
        bytes_text(&s->reply, "T05create:;");
        break;
    case EVENT_STOPPED:
        bytes_printf(&s->reply, "T%02x", (unsigned)signal_to_gdb(e->code));
        add_trap(s, e);
        break;
    case EVENT_FORK:
        add_child(s, "fork", e->child);
        break;
    case EVENT_VFORK:
        add_child(s, "vfork", e->child);
        break;
    case EVENT_VFORK_DONE:
        bytes_text(&s->reply, "T05vforkdone:;");
        break;
    case EVENT_EXEC:
        bytes_text(&s->reply, "T05exec:");
        bytes_hex(&s->reply, e->path, strlen(e->path));
        bytes_text(&s->reply, ";");
        break;
    case EVENT_SYSCALL_ENTRY:
        bytes_printf(&s->reply, "T05syscall_entry:%x;", (unsigned)e->code);
        break;
    case EVENT_SYSCALL_RETURN:
        bytes_printf(&s->reply, "T05syscall_return:%x;", (unsigned)e->code);
        break;
    }
    add_registers(s, e->thread);
    add_thread(s, e->thread);
}

void session_tell_stop(struct session *s, bool asked)
{
    struct event e;
    s->notified = s->ops->poll(s->target, &e);
    if (asked)
        bytes_clear(&s->reply);
    if (s->notified) {
        session_set_stop(s, &e);
        bytes_clear(&s->reply);
        if (!asked)
            bytes_text(&s->reply, "Stop:");
        reply_stop(s, &e);
    } else if (asked) {
        reply_ok(s);
    }
    if (asked || !s->notified)
        return;
    log_debug("%% %.*s", (int)(s->reply.size < LOG_PART ? s->reply.size : LOG_PART),
              s->reply.data);
    rsp_notify(s->rsp, s->reply.data, s->reply.size);
}

void session_poll(struct session *s)
{
    struct event e;
    if (s->non_stop) {
        if (!s->notified && !s->listing)
            session_tell_stop(s, false);
        return;
    }
    if (!s->running && s->ops->reap)
        s->ops->reap(s->target);
    if (!s->running || !s->ops->poll(s->target, &e))
        return;
    s->running = false;
    session_set_stop(s, &e);
    if (!s->waiting) /* the GDB that resumed it has gone */
        return;
    s->waiting = false;
    if (e.console[0])
        session_console(s, e.console, strlen(e.console));
    bytes_clear(&s->reply);
    reply_stop(s, &e);
    send_reply(s);
}

/* ------------------------------------------------------------------ dispatch */

static void dispatch(struct session *s, const char *packet, size_t size)
{
    const struct command_table *const tables[] = {&session_run_commands, &session_state_commands,
                                                  &session_query_commands, &session_xfer_commands,
                                                  &session_file_commands};
    struct rsp_param params[RSP_PARAMS_MAX];
    const struct rsp_command *command;
    enum rsp_parse parsed = RSP_UNKNOWN;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0] && parsed == RSP_UNKNOWN; i++)
        parsed = rsp_command_parse(tables[i]->rows, tables[i]->count, s, packet, size, &command,
                                   params);
    log_debug("< %.*s", (int)(size < LOG_PART ? size : LOG_PART), packet);
    bytes_clear(&s->reply);
    s->no_reply = false;
    if (parsed == RSP_PARSED)
        command->run(s, params);
    else if (parsed == RSP_MALFORMED)
        reply_error(s, 22);
    if (!s->no_reply)
        send_reply(s);
}

void session_input(struct session *s, const void *data, size_t size)
{
    const uint8_t *p = data;
    for (size_t i = 0; i < size && !s->done; i++) {
        size_t n;
        switch (rsp_feed(s->rsp, p[i])) {
        case RSP_PACKET: {
            const char *payload = rsp_payload(s->rsp, &n);
            dispatch(s, payload, n);
            break;
        }
        case RSP_INTERRUPT:
            if (session_has_process(s))
                s->ops->interrupt(s->target);
            break;
        case RSP_NOTHING:
            break;
        }
    }
}

/* ------------------------------------------------------------------ life */

void session_connect(struct session *s)
{
    session_close_files(s);
    rsp_destroy(s->rsp);
    s->rsp = rsp_create(s->options.output, s->options.arg);
    if (!s->rsp)
        abort();
    if (s->non_stop) {
        s->ops->set_non_stop(s->target, false);
        s->running = false;
    }
    s->non_stop = s->notified = s->listing = false;
    s->done = s->extended = s->multiprocess = s->swbreak = s->hwbreak = s->waiting = false;
    s->general = s->resumed = s->has_stop ? s->stop.thread : (struct ptid){0, 0};
    s->wanted = (struct wanted){0};
    sigemptyset(&s->wanted.pass);
    sigemptyset(&s->wanted.program_signals);
    s->ops->want(s->target, &s->wanted);
    s->randomize = false;
    session_env_reset(s);
    if (s->running)
        s->ops->interrupt(s->target);
}

struct session *rsp_session_create(struct target *t, const struct session_options *options)
{
    struct session *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->target = t;
    s->ops = t->ops;
    s->options = *options;
    for (int i = 0; i < SESSION_FILES_MAX; i++)
        s->files[i].fd = -1;
    if (options->stop)
        session_set_stop(s, options->stop);
    return s;
}

void rsp_session_destroy(struct session *s)
{
    if (!s)
        return;
    session_close_files(s);
    for (char **e = s->env; e && *e; e++)
        free(*e);
    free(s->env);
    free(s->directory);
    free(s->threads);
    bytes_free(&s->reply);
    bytes_free(&s->xfer);
    rsp_destroy(s->rsp);
    free(s);
}

bool session_done(const struct session *s)
{
    return s->done;
}

bool session_extended(const struct session *s)
{
    return s->extended;
}

bool session_has_process(struct session *s)
{
    return session_threads(s) > 0;
}

void session_end_processes(struct session *s)
{
    while (session_threads(s)) {
        pid_t pid = s->threads[0].pid;
        bool attached = s->ops->attached(s->target, pid);
        if (attached ? s->ops->detach(s->target, pid) : s->ops->kill(s->target, pid))
            return;
    }
}
