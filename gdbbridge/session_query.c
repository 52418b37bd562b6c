/*
 * session_query.c - what GDB asks and sets: features, threads, signals, environment, monitor
 */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gdbbridge/session_private.h"
#include "gdbbridge/signals.h"

extern char **environ;

/* ------------------------------------------------------------------ features */

static bool has_run(const struct session *s)
{
    return s->ops->run;
}

static bool has_reverse(const struct session *s)
{
    return s->ops->reverse_step && s->ops->reverse_continue;
}

static bool has_scripts(const struct session *s)
{
    return s->ops->script_point;
}

static bool has_osdata(const struct session *s)
{
    return s->ops->osdata;
}

static bool has_catch(const struct session *s)
{
    return s->ops->catch_syscalls;
}

static bool has_non_stop(const struct session *s)
{
    return s->ops->set_non_stop;
}

/* What we offer. libraries-svr4 is left out on purpose: GDB then walks the dynamic linker's own
 * list, which is right also where the process holds two programs. */
static const struct {
    const char *text;
    bool (*offered)(const struct session *s);
} features[] = {
    {"QStartNoAckMode+", NULL},
    {"multiprocess+", NULL},
    {"swbreak+", NULL},
    {"hwbreak+", NULL},
    {"fork-events+", NULL},
    {"vfork-events+", NULL},
    {"exec-events+", NULL},
    {"vContSupported+", NULL},
    {"no-resumed+", NULL},
    {"QNonStop+", has_non_stop},
    {"QThreadEvents+", NULL},
    {"QPassSignals+", NULL},
    {"QProgramSignals+", NULL},
    {"QCatchSyscalls+", has_catch},
    {"qXfer:features:read+", NULL},
    {"qXfer:auxv:read+", NULL},
    {"qXfer:exec-file:read+", NULL},
    {"qXfer:threads:read+", NULL},
    {"qXfer:siginfo:read+", NULL},
    {"qXfer:siginfo:write+", NULL},
    {"qXfer:osdata:read+", has_osdata},
    {"QStartupWithShell+", has_run},
    {"QEnvironmentHexEncoded+", has_run},
    {"QEnvironmentReset+", has_run},
    {"QEnvironmentUnset+", has_run},
    {"QSetWorkingDir+", has_run},
    {"QDisableRandomization+", has_run},
    {"ReverseStep+", has_reverse},
    {"ReverseContinue+", has_reverse},
    {"ConditionalBreakpoints+", has_scripts},
    {"BreakpointCommands+", has_scripts},
};

static bool says(const struct rsp_param *p, const char *feature)
{
    size_t n = strlen(feature);
    const char *text = p->text, *end = p->text + p->size;
    while (p->present && text < end) {
        const char *next = memchr(text, ';', (size_t)(end - text));
        size_t size = (size_t)((next ? next : end) - text);
        if (size == n && !memcmp(text, feature, n))
            return true;
        text = next ? next + 1 : end;
    }
    return false;
}

static void run_supported(struct session *s, const struct rsp_param *p)
{
    s->multiprocess = says(&p[0], "multiprocess+");
    s->swbreak = says(&p[0], "swbreak+");
    s->hwbreak = says(&p[0], "hwbreak+");
    s->wanted.fork = says(&p[0], "fork-events+");
    s->wanted.vfork = says(&p[0], "vfork-events+");
    s->wanted.exec = says(&p[0], "exec-events+");
    s->ops->want(s->target, &s->wanted);
    bytes_printf(&s->reply, "PacketSize=%x", RSP_PACKET_MAX);
    for (size_t i = 0; i < sizeof features / sizeof features[0]; i++)
        if (!features[i].offered || features[i].offered(s))
            bytes_printf(&s->reply, ";%s", features[i].text);
}

static void run_no_ack(struct session *s, const struct rsp_param *p)
{
    rsp_no_ack(s->rsp);
    reply_ok(s);
}

/* ------------------------------------------------------------------ threads */

static void run_current(struct session *s, const struct rsp_param *p)
{
    struct ptid thread;
    if (session_general(s, &thread)) {
        reply_error(s, 1);
        return;
    }
    bytes_text(&s->reply, "QC");
    reply_thread(s, thread);
}

static void run_first_threads(struct session *s, const struct rsp_param *p)
{
    size_t n = session_threads(s);
    for (size_t i = 0; i < n; i++) {
        bytes_text(&s->reply, i ? "," : "m");
        reply_thread(s, s->threads[i]);
    }
    if (!n)
        bytes_text(&s->reply, "l");
}

static void run_next_threads(struct session *s, const struct rsp_param *p)
{
    bytes_text(&s->reply, "l");
}

static void run_attached(struct session *s, const struct rsp_param *p)
{
    struct ptid thread;
    if (session_resolve(s, p[0].present ? (struct ptid){(pid_t)p[0].number, -1} : s->general,
                        &thread))
        reply_error(s, 1);
    else
        bytes_text(&s->reply, s->ops->attached(s->target, thread.pid) ? "1" : "0");
}

static void run_tls_address(struct session *s, const struct rsp_param *p)
{
    struct ptid thread;
    uint64_t addr;
    struct err err;
    if (session_resolve(s, p[0].thread, &thread))
        reply_error(s, 1);
    else if (s->ops->tls_address(s->target, thread, p[2].number, p[1].number, &addr, &err))
        reply_error_text(s, &err);
    else
        bytes_printf(&s->reply, "%llx", (unsigned long long)addr);
}

static void run_non_stop(struct session *s, const struct rsp_param *p)
{
    s->non_stop = p[0].number;
    s->notified = s->listing = false;
    s->ops->set_non_stop(s->target, s->non_stop);
    reply_ok(s);
}

static void run_thread_events(struct session *s, const struct rsp_param *p)
{
    s->wanted.threads = p[0].number;
    s->ops->want(s->target, &s->wanted);
    reply_ok(s);
}

/* ------------------------------------------------------------------ signals, system calls */

/* "e;10;1c": protocol numbers in hex. */
static int parse_signals(const struct rsp_param *p, sigset_t *set)
{
    const char *text = p->text, *end = p->text + p->size;
    sigset_t parsed;
    sigemptyset(&parsed);
    while (text < end) {
        uint64_t number;
        if (rsp_parse_number(&text, end, &number) || (text < end && *text++ != ';'))
            return -1;
        int signo = signal_from_gdb((int)(number & 0xff));
        if (signo > 0)
            sigaddset(&parsed, signo);
    }
    *set = parsed;
    return 0;
}

static void run_pass_signals(struct session *s, const struct rsp_param *p)
{
    if (parse_signals(&p[0], &s->wanted.pass)) {
        reply_error(s, 22);
        return;
    }
    s->ops->want(s->target, &s->wanted);
    reply_ok(s);
}

static void run_program_signals(struct session *s, const struct rsp_param *p)
{
    if (parse_signals(&p[0], &s->wanted.program_signals)) {
        reply_error(s, 22);
        return;
    }
    s->wanted.has_program_signals = true;
    s->ops->want(s->target, &s->wanted);
    reply_ok(s);
}

#define CATCH_MAX 512

/* QCatchSyscalls:0, or :1 for all, or :1;NUMBER;NUMBER... */
static void run_catch_syscalls(struct session *s, const struct rsp_param *p)
{
    const char *text = p[1].text, *end = text + p[1].size;
    int numbers[CATCH_MAX], n = 0;
    struct ptid thread;
    struct err err = {.text = "which process?"};
    while (p[1].present && text < end) {
        uint64_t number;
        if (n == CATCH_MAX || rsp_parse_number(&text, end, &number) ||
            (text < end && *text++ != ';')) {
            reply_error(s, 22);
            return;
        }
        numbers[n++] = (int)number;
    }
    if (session_general(s, &thread) ||
        s->ops->catch_syscalls(s->target, thread.pid, numbers, p[0].number ? n : -1, &err))
        reply_error_text(s, &err);
    else
        reply_ok(s);
}

/* ------------------------------------------------------------------ the next run */

void session_env_reset(struct session *s)
{
    size_t n = 0;
    for (char **e = s->env; e && *e; e++)
        free(*e);
    free(s->env);
    while (environ[n])
        n++;
    s->env = calloc(n + 1, sizeof *s->env);
    for (size_t i = 0; s->env && i < n; i++)
        if (!(s->env[i] = strdup(environ[i])))
            abort();
    if (!s->env)
        abort();
}

/* Removes NAME (the part of `setting` before a '='); then adds the setting if there is a '='. */
static void env_edit(struct session *s, const char *setting)
{
    size_t name = strcspn(setting, "="), n = 0;
    for (char **e = s->env; *e; e++) {
        if (strncmp(*e, setting, name) || (*e)[name] != '=')
            s->env[n++] = *e;
        else
            free(*e);
    }
    s->env[n] = NULL;
    if (!setting[name])
        return;
    char **env = realloc(s->env, (n + 2) * sizeof *env);
    if (!env || !(env[n] = strdup(setting)))
        abort();
    env[n + 1] = NULL;
    s->env = env;
}

/* The parameter decoded from hex, to be freed; NULL after an error answer. */
static char *text_param(struct session *s, const struct rsp_param *p)
{
    char *text = calloc(1, p->size / 2 + 1);
    if (!text)
        abort();
    if (hex_decode(text, p->size / 2, p->text, p->size) >= 0)
        return text;
    free(text);
    reply_error(s, 22);
    return NULL;
}

static void run_env_edit(struct session *s, const struct rsp_param *p)
{
    char *setting = text_param(s, &p[0]);
    if (!setting)
        return;
    env_edit(s, setting);
    free(setting);
    reply_ok(s);
}

static void run_env_reset(struct session *s, const struct rsp_param *p)
{
    session_env_reset(s);
    reply_ok(s);
}

static void run_directory(struct session *s, const struct rsp_param *p)
{
    char *directory = text_param(s, &p[0]);
    if (!directory)
        return;
    free(s->directory);
    s->directory = NULL;
    if (directory[0])
        s->directory = directory;
    else
        free(directory);
    reply_ok(s);
}

static void run_randomization(struct session *s, const struct rsp_param *p)
{
    s->randomize = !p[0].number;
    reply_ok(s);
}

/* Programs are started without a shell; GDB has split the arguments already. */
static void run_shell(struct session *s, const struct rsp_param *p)
{
    reply_ok(s);
}

/* ------------------------------------------------------------------ monitor */

static int monitor_exit(void *arg, const char *args, struct bytes *out, struct err *err)
{
    struct session *s = arg;
    s->done = true;
    return 0;
}

static int monitor_threads(void *arg, const char *args, struct bytes *out, struct err *err)
{
    struct session *s = arg;
    size_t n = session_threads(s);
    for (size_t i = 0; i < n; i++) {
        struct thread_info info;
        if (!s->ops->thread_info(s->target, s->threads[i], &info))
            bytes_printf(out, "process %d thread %d \"%s\"\n", (int)s->threads[i].pid,
                         (int)s->threads[i].tid, info.name);
    }
    return 0;
}

static const struct monitor_command own_commands[] = {
    {"exit", "end the stub; what it started is killed, what it attached to is let go", monitor_exit,
     NULL},
    {"threads", "list the threads as the stub sees them", monitor_threads, NULL},
    {NULL, NULL, NULL, NULL},
};

static const struct monitor_command *monitor_find(const struct monitor_command *c, const char *name,
                                                  size_t size)
{
    for (; c && c->name; c++)
        if (strlen(c->name) == size && !memcmp(c->name, name, size))
            return c;
    return NULL;
}

static void monitor_help(struct session *s, struct bytes *out)
{
    const struct monitor_command *const tables[] = {own_commands, s->ops->monitor};
    bytes_printf(out, "%-12s %s\n", "help", "this list");
    for (int i = 0; i < 2; i++)
        for (const struct monitor_command *c = tables[i]; c && c->name; c++)
            bytes_printf(out, "%-12s %s\n", c->name, c->help);
}

static void monitor(struct session *s, const char *line, struct bytes *out)
{
    struct err err;
    size_t size = strcspn(line, " ");
    const char *args = line + size + strspn(line + size, " ");
    const struct monitor_command *c = monitor_find(own_commands, line, size);
    void *arg = s;
    if (!c && (c = monitor_find(s->ops->monitor, line, size)))
        arg = c->arg ? c->arg : s->target;
    if (c) {
        if (c->run(arg, args, out, &err))
            bytes_printf(out, "%s\n", err.text);
    } else {
        if (strcmp(line, "help"))
            bytes_printf(out, "\"%.*s\" is no monitor command; these are:\n", (int)size, line);
        monitor_help(s, out);
    }
}

static void run_monitor(struct session *s, const struct rsp_param *p)
{
    struct bytes out = {0};
    char *line = text_param(s, &p[0]);
    if (!line)
        return;
    monitor(s, line, &out);
    if (out.size)
        session_console(s, out.data, out.size);
    bytes_free(&out);
    free(line);
    reply_ok(s);
}

static const struct rsp_command session_query_rows[] = {
    {"qSupported", "|:b", run_supported, NULL},
    {"QStartNoAckMode", "", run_no_ack, NULL},
    {"qC", "", run_current, NULL},
    {"qfThreadInfo", "", run_first_threads, NULL},
    {"qsThreadInfo", "", run_next_threads, NULL},
    {"qAttached", "|:x", run_attached, NULL},
    {"qGetTLSAddr:", "t,x,x", run_tls_address, NULL},
    {"QNonStop:", "x", run_non_stop, has_non_stop},
    {"QThreadEvents:", "x", run_thread_events, NULL},
    {"QPassSignals:", "b", run_pass_signals, NULL},
    {"QProgramSignals:", "b", run_program_signals, NULL},
    {"QCatchSyscalls:", "x|;b", run_catch_syscalls, has_catch},
    {"QEnvironmentHexEncoded:", "b", run_env_edit, has_run},
    {"QEnvironmentUnset:", "b", run_env_edit, has_run},
    {"QEnvironmentReset", "", run_env_reset, has_run},
    {"QSetWorkingDir:", "|b", run_directory, has_run},
    {"QDisableRandomization:", "x", run_randomization, has_run},
    {"QStartupWithShell:", "x", run_shell, has_run},
    {"qRcmd,", "b", run_monitor, NULL},
};
COMMAND_TABLE(session_query);
