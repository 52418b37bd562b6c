/*
 * ptrace_target.c - processes and threads, the vtable, what does not stop or run anything
 */
#include "gdbbridge/ptrace_target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gdbbridge/bytes.h"
#include "gdbbridge/osdata.h"
#include "gdbbridge/procfs.h"
#include "gdbbridge/ptrace_private.h"
#include "gdbbridge/reverse.h"
#include "gdbbridge/reverse_copy.h"
#include "gdbbridge/tls.h"

/* ------------------------------------------------------------------ processes, threads */

struct process *process_add(struct ptrace_target *t, pid_t pid, bool attached)
{
    struct process *p = calloc(1, sizeof *p), **at = &t->processes;
    if (!p)
        abort();
    p->owner = t;
    p->pid = p->shown = pid;
    p->attached = attached;
    p->memory = -1;
    p->exit_code = -1;
    while (*at)
        at = &(*at)->next;
    *at = p;
    return p;
}

void process_remove(struct process *p)
{
    struct process **at = &p->owner->processes;
    bool followed = *at == p; /* the past is that of the first */
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    if (p->owner->past && followed)
        past_begin(p->owner->past);
    for (struct process *q = p->owner->processes; q; q = q->next)
        if (q->vfork_parent == p)
            q->vfork_parent = NULL;
    while (p->threads)
        thread_remove(p->threads);
    points_forget(p);
    if (p->memory >= 0)
        close(p->memory);
    free(p->catch);
    free(p->exec_file);
    free(p->auxv);
    free(p);
}

struct process *process_find(struct ptrace_target *t, pid_t pid)
{
    for (struct process *p = t->processes; p; p = p->next)
        if (p->pid == pid || p->shown == pid)
            return p;
    return NULL;
}

struct thread *thread_add(struct process *p, pid_t tid, enum thread_state state)
{
    struct thread *th = calloc(1, sizeof *th), **at = &p->threads;
    if (!th)
        abort();
    th->process = p;
    th->tid = th->shown = tid;
    th->state = state;
    th->reported_at = p->owner->reports;
    while (*at)
        at = &(*at)->next;
    *at = th;
    return th;
}

void thread_remove(struct thread *th)
{
    struct thread **at = &th->process->threads;
    struct process *child = NULL;
    while (*at != th)
        at = &(*at)->next;
    *at = th->next;
    if (th->has_event && (th->event.kind == EVENT_FORK || th->event.kind == EVENT_VFORK))
        child = process_find(th->process->owner, th->event.child.pid);
    if (child && child->hidden) /* nobody will tell GDB of it any more */
        process_let_go(child);
    free(th->xsave);
    free(th);
}

struct thread *thread_find(struct ptrace_target *t, pid_t tid)
{
    for (struct process *p = t->processes; p; p = p->next)
        for (struct thread *th = p->threads; th; th = th->next)
            if (th->tid == tid || th->shown == tid)
                return th;
    return NULL;
}

struct ptid thread_shown(const struct thread *th)
{
    return (struct ptid){th->process->shown, th->shown};
}

struct thread *thread_stopped(struct ptrace_target *t, struct ptid id)
{
    struct thread *th = thread_find(t, id.tid);
    return th && th->state == THREAD_STOPPED ? th : NULL;
}

/* ------------------------------------------------------------------ what GDB asks */

static bool target_attached(struct target *t, pid_t pid)
{
    const struct process *p = process_find(ptrace_target_of(t), pid);
    return p && p->attached;
}

static size_t target_threads(struct target *t, struct ptid *out, size_t max)
{
    size_t n = 0;
    for (struct process *p = ptrace_target_of(t)->processes; p; p = p->next)
        for (struct thread *th = p->threads; th; th = th->next) {
            if (p->hidden || th->state == THREAD_EXITING)
                continue;
            if (n < max)
                out[n] = thread_shown(th);
            n++;
        }
    return n;
}

static int target_thread_info(struct target *t, struct ptid id, struct thread_info *info)
{
    struct thread *th = thread_find(ptrace_target_of(t), id.tid);
    if (!th)
        return -1;
    pid_t pid = th->process->pid;
    *info = (struct thread_info){.core = procfs_task_core(pid, th->tid)};
    procfs_task_name(pid, th->tid, info->name, sizeof info->name);
    if (th->state == THREAD_STOPPED && thread_user(th))
        info->handle = th->user.fs_base;
    return 0;
}

/* GDB is shown a Ctrl-C, of which the kernel does not know, as if we had sent a signal. */
static siginfo_t info_of_interrupt(void)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = SIGINT;
    info.si_code = SI_USER;
    info.si_pid = getpid();
    info.si_uid = getuid();
    return info;
}

static bool is_of_interrupt(const siginfo_t *info)
{
    return info->si_signo == SIGINT && info->si_code == SI_USER && info->si_pid == getpid();
}

static int target_siginfo(struct target *t, struct ptid id, siginfo_t *info)
{
    struct thread *th = thread_stopped(ptrace_target_of(t), id);
    if (!th)
        return -1;
    if (th->faked) {
        *info = info_of_interrupt();
        return 0;
    }
    return ptrace(PTRACE_GETSIGINFO, th->tid, NULL, info) ? -1 : 0;
}

static int target_set_siginfo(struct target *t, struct ptid id, const siginfo_t *info)
{
    struct thread *th = thread_stopped(ptrace_target_of(t), id);
    if (!th || th->faked)
        return -1;
    if (ptrace(PTRACE_SETSIGINFO, th->tid, NULL, info))
        return -1;
    /* A call by GDB ends with a signal, too; then that from before the call counts again. */
    if (is_of_interrupt(info))
        th->faked = SIGINT;
    if (info->si_signo != th->reported)
        th->reported = th->faked || info->si_signo == SIGTRAP ? 0 : info->si_signo;
    return 0;
}

static int target_auxv(struct target *t, pid_t pid, struct bytes *out)
{
    char path[64];
    struct process *p = process_find(ptrace_target_of(t), pid);
    if (!p)
        return -1;
    if (p->auxv) {
        bytes_add(out, p->auxv, p->auxv_size);
        return 0;
    }
    snprintf(path, sizeof path, "/proc/%d/auxv", (int)p->pid);
    return procfs_read(path, out);
}

static int target_exec_file(struct target *t, pid_t pid, char *path, size_t size)
{
    struct process *p = process_find(ptrace_target_of(t), pid);
    if (!p)
        return -1;
    if (!p->exec_file)
        return procfs_exe(p->pid, path, size);
    return (size_t)snprintf(path, size, "%s", p->exec_file) < size ? 0 : -1;
}

static int read_for_tls(void *arg, uint64_t addr, void *to, size_t size)
{
    return process_peek(arg, addr, to, size) == (ssize_t)size ? 0 : -1;
}

static int target_tls_address(struct target *t, struct ptid id, uint64_t link_map, uint64_t offset,
                              uint64_t *addr, struct err *err)
{
    struct thread *th = thread_stopped(ptrace_target_of(t), id);
    if (!th || !thread_user(th))
        return err_set(err, "thread %d is not stopped", (int)id.tid);
    struct tls_memory m = {read_for_tls, th->process};
    return tls_address(&m, th->user.fs_base, link_map, offset, addr, err);
}

static void target_want(struct target *t, const struct wanted *wanted)
{
    ptrace_target_of(t)->wanted = *wanted;
    if (ptrace_target_of(t)->past)
        copy_pass(&wanted->pass);
}

static void target_set_non_stop(struct target *base, bool on)
{
    struct ptrace_target *t = ptrace_target_of(base);
    if (t->non_stop && !on) {
        wait_stop_all(t, NULL);
        t->running = false;
    }
    t->non_stop = on;
}

static int target_catch_syscalls(struct target *t, pid_t pid, const int *numbers, int n,
                                 struct err *err)
{
    const struct ptrace_options *o = &ptrace_target_of(t)->options;
    struct process *p = process_find(ptrace_target_of(t), pid);
    if (!p)
        return err_set(err, "there is no process %d", (int)pid);
    if (n >= 0 && (o->recorded.start || o->record))
        return err_set(err, "system calls of a recorded program are answered from the recording, "
                            "and cannot be caught; use a breakpoint on the function that makes it");
    free(p->catch);
    p->catch = NULL;
    p->ncatch = 0;
    p->catching = n >= 0;
    if (n > 0) {
        p->catch = malloc((size_t)n * sizeof *p->catch);
        if (!p->catch)
            abort();
        memcpy(p->catch, numbers, (size_t)n * sizeof *p->catch);
        p->ncatch = (size_t)n;
    }
    return 0;
}

/* ------------------------------------------------------------------ views */

static int read_maps(const struct process *p, const char *path, struct bytes *out)
{
    struct bytes text = {0};
    int r = procfs_read(path, &text);
    if (!r)
        procfs_hide_maps(text.data ? text.data : "", text.size,
                         p->hide_from ? p->hide_from : UINT64_MAX, out);
    bytes_free(&text);
    return r;
}

static int target_open_view(struct target *t, const char *path)
{
    pid_t pid = procfs_maps_pid(path);
    struct process *p = pid > 0 ? process_find(ptrace_target_of(t), pid) : NULL;
    struct bytes text = {0};
    char own[64];
    if (!p || !p->hide_from)
        return -1;
    snprintf(own, sizeof own, "/proc/%d/maps", (int)p->pid);
    if (read_maps(p, own, &text))
        return -1;
    int fd = memfd_create("maps", MFD_CLOEXEC);
    if (fd >= 0 && write(fd, text.data ? text.data : "", text.size) != (ssize_t)text.size) {
        close(fd);
        fd = -1;
    }
    bytes_free(&text);
    return fd;
}

static int monitor_maps(void *arg, const char *args, struct bytes *out, struct err *err)
{
    struct ptrace_target *t = arg;
    char path[64];
    for (struct process *p = t->processes; p; p = p->next) {
        snprintf(path, sizeof path, "/proc/%d/maps", (int)p->pid);
        if (read_maps(p, path, out))
            return err_sys(err, "%s", path);
    }
    return 0;
}

/* Without an argument only tells where the process is. */
static int monitor_event(void *arg, const char *args, struct bytes *out, struct err *err)
{
    struct ptrace_target *t = arg;
    const struct recorded *r = &t->options.recorded;
    char *end;
    uint64_t event = strtoull(args, &end, 10);
    if (*end)
        return err_set(err, "'%s' is no event's number", args);
    if (end > args && ptrace_target_goto(&t->base, event, err) < 0)
        return -1;
    if (t->processes)
        bytes_printf(out, "event %lu is next\n",
                     (unsigned long)r->next(r->arg, t->processes->threads->tid));
    return 0;
}

/* ------------------------------------------------------------------ life */

static void target_destroy(struct target *base)
{
    struct ptrace_target *t = ptrace_target_of(base);
    past_destroy(t->past);
    agent_scripts_free(&t->scripts);
    t->past = NULL;
    while (t->processes) {
        struct process *p = t->processes;
        if (p->attached)
            target_detach(base, p->pid);
        else
            target_kill(base, p->pid);
    }
    while (t->early) {
        struct early *e = t->early;
        t->early = e->next;
        free(e);
    }
    for (char **a = t->argv; a && *a; a++)
        free(*a);
    free(t->argv);
    free(t->monitor);
    registers_destroy(t->registers);
    free(t);
}

static int target_attach(struct target *t, pid_t pid, struct event *stop, struct err *err)
{
    return ptrace_target_attach(t, pid, stop, err);
}

static const struct target_ops ptrace_ops = {
    .destroy = target_destroy,
    .run = target_run,
    .attach = target_attach,
    .kill = target_kill,
    .detach = target_detach,
    .attached = target_attached,
    .threads = target_threads,
    .thread_info = target_thread_info,
    .registers = target_registers,
    .read_registers = target_read_registers,
    .write_registers = target_write_registers,
    .read_memory = target_read_memory,
    .write_memory = target_write_memory,
    .siginfo = target_siginfo,
    .set_siginfo = target_set_siginfo,
    .osdata = osdata,
    .auxv = target_auxv,
    .exec_file = target_exec_file,
    .tls_address = target_tls_address,
    .insert_point = target_insert_point,
    .script_point = target_script_point,
    .remove_point = target_remove_point,
    .resume = target_resume,
    .interrupt = target_interrupt,
    .attend = target_attend,
    .poll = target_poll,
    .reap = target_reap,
    .want = target_want,
    .set_non_stop = target_set_non_stop,
    .catch_syscalls = target_catch_syscalls,
    .files = true,
    .open_view = target_open_view,
};

/* The target's own monitor commands and the caller's, in one table. */
static void make_monitor(struct ptrace_target *t, const struct monitor_command *more)
{
    size_t n = 0;
    while (more && more[n].name)
        n++;
    t->monitor = calloc(n + 3, sizeof *t->monitor);
    if (!t->monitor)
        abort();
    struct monitor_command *own = t->monitor;
    *own++ = (struct monitor_command){"maps", "memory map of the program", monitor_maps, t};
    if (t->options.recorded.start)
        *own++ = (struct monitor_command){
            "event", "the recorded event that is next; a number: goes there", monitor_event, t};
    if (n)
        memcpy(own, more, n * sizeof *more);
}

void ptrace_target_ends_here(struct target *t)
{
    if (ptrace_target_of(t)->past)
        past_ends_here(ptrace_target_of(t)->past);
}

struct ptid ptrace_target_thread(struct target *base)
{
    struct ptrace_target *t = ptrace_target_of(base);
    struct thread *th = thread_find(t, t->last);
    if (!th && t->processes)
        th = t->processes->threads;
    return th ? thread_shown(th) : (struct ptid){0, 0};
}

struct target *ptrace_target_create(const struct ptrace_options *options)
{
    struct ptrace_target *t = calloc(1, sizeof *t);
    if (!t)
        abort();
    t->options = (struct ptrace_options){.stdio = {0, 1, 2}};
    if (options)
        t->options = *options;
    make_monitor(t, t->options.monitor);
    t->ops = ptrace_ops;
    t->ops.monitor = t->monitor;
    if (t->options.run_hook.start || t->options.reverse)
        t->ops.set_non_stop = NULL; /* a rank that is replayed runs and stops as one */
    if (t->options.reverse || t->options.record) {
        t->past = past_create(t);
        t->ops.reverse_step = target_reverse_step;
        t->ops.reverse_continue = target_reverse_continue;
    }
    t->base.ops = &t->ops;
    sigemptyset(&t->wanted.pass);
    sigemptyset(&t->wanted.program_signals);
    return &t->base;
}
