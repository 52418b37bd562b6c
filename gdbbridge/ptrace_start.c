/*
 * ptrace_start.c - starting, attaching, adopting, killing, detaching
 */
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gdbbridge/journal.h"
#include "gdbbridge/procfs.h"
#include "gdbbridge/ptrace_private.h"
#include "gdbbridge/reverse.h"

#define THREADS_MAX   1024 /* that keep their names when the process is made anew */
#define ATTACH_ROUNDS 1000 /* a process that makes threads faster than that cannot be attached to */

int trace_options(bool attached)
{
    /* TRACEEXIT: without it a leader that has called pthread_exit would be waited for forever. */
    return PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK |
           PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACEEXEC | PTRACE_O_TRACEEXIT |
           PTRACE_O_TRACESYSGOOD | (attached ? 0 : PTRACE_O_EXITKILL);
}

static void first_stop(struct process *p, struct event *stop)
{
    p->owner->newest = p->shown;
    *stop = (struct event){.kind = EVENT_STOPPED, .code = SIGTRAP, .thread = {p->shown, p->shown}};
}

/* ------------------------------------------------------------------ starting */

struct start {
    const struct run *how;
    const int *stdio;
    bool foreground;
    const char *file; /* of the program, wherever the child goes */
    int go[2];     /* closed by the parent when it traces the child */
    int failed[2]; /* the child's errno if it cannot exec */
};

static void set_foreground(int terminal, pid_t group)
{
    sigset_t ttou, old;
    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU); /* a background process that sets the foreground gets one */
    sigprocmask(SIG_BLOCK, &ttou, &old);
    tcsetpgrp(terminal, group);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

/* In the child. Only what is allowed after fork in a program with threads. */
static void child(const struct start *s)
{
    char byte;
    sigset_t none;
    int error;
    close(s->go[1]);
    setpgid(0, 0); /* so that the terminal's Ctrl-C reaches GDB only */
    for (int i = 0; i < 3; i++) {
        int fd = s->stdio[i] >= 0 ? s->stdio[i] : open("/dev/null", O_RDWR | O_CLOEXEC);
        if (fd != i && dup2(fd, i) < 0)
            goto failed;
    }
    if (s->foreground)
        set_foreground(0, getpid());
    if (!s->how->randomize)
        personality(ADDR_NO_RANDOMIZE | (unsigned long)personality(0xffffffff));
    if (s->how->directory && chdir(s->how->directory))
        goto failed;
    for (int signo = 1; signo < 32; signo++)
        if (signo != SIGKILL && signo != SIGSTOP)
            signal(signo, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (read(s->go[0], &byte, 1) != 0)
        _exit(127);
    execvpe(s->file, s->how->argv, s->how->env);
failed:
    error = errno;
    if (write(s->failed[1], &error, sizeof error) < 0)
        _exit(126);
    _exit(127);
}

/* Waits until the seized child has exec'd. Returns 0, or -1 with errno set if it could not. */
static int wait_exec(pid_t pid, const struct start *s)
{
    int status, error = ECHILD;
    while (waitpid(pid, &status, __WALL) == pid) {
        if (!WIFSTOPPED(status)) {
            if (read(s->failed[0], &error, sizeof error) != sizeof error)
                error = ECHILD;
            break;
        }
        if (status >> 16 == PTRACE_EVENT_EXEC)
            return 0;
        ptrace(PTRACE_CONT, pid, NULL, status >> 16 ? 0 : WSTOPSIG(status));
    }
    errno = error;
    return -1;
}

static bool is_x86_64(pid_t pid)
{
    Elf64_Ehdr head;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/exe", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return true; /* not for us to read: GDB will see */
    bool yes = read(fd, &head, sizeof head) == sizeof head && head.e_machine == EM_X86_64 &&
               head.e_ident[EI_CLASS] == ELFCLASS64;
    close(fd);
    return yes;
}

static void close_pair(int pair[2])
{
    close(pair[0]);
    close(pair[1]);
}

/* The program's file for execvpe: a relative path is made absolute, a bare name is left to PATH. */
static int find_program(const char *name, char *file, size_t size, struct err *err)
{
    char here[PATH_MAX];
    if (name[0] == '/' || !strchr(name, '/'))
        snprintf(file, size, "%s", name);
    else if (getcwd(here, sizeof here))
        snprintf(file, size, "%s/%s", here, name);
    else
        return err_sys(err, "cannot run %s", name);
    return 0;
}

/* A directory as GDB's user says it: ~ and ~USER stand for homes. */
static const char *find_directory(const char *name, char *path, size_t size)
{
    if (!name || name[0] != '~')
        return name;
    size_t n = strcspn(name, "/");
    char user[256];
    snprintf(user, sizeof user, "%.*s", (int)n - 1, name + 1);
    const struct passwd *known = user[0] ? getpwnam(user) : NULL;
    const char *home = user[0] ? known ? known->pw_dir : NULL : getenv("HOME");
    if (!home)
        return name;
    snprintf(path, size, "%s%s", home, name + n);
    return path;
}

/* Starts how->argv, seized and stopped behind its exec. Returns its pid or -1. */
static pid_t spawn(struct ptrace_target *t, const struct run *how, int options, struct err *err)
{
    char file[2 * PATH_MAX], directory[PATH_MAX];
    struct run there = *how;
    there.directory = find_directory(how->directory, directory, sizeof directory);
    struct start s = {&there, t->options.stdio, t->options.foreground, file, {-1, -1}, {-1, -1}};
    pid_t pid;
    if (find_program(how->argv[0], file, sizeof file, err))
        return -1;
    if (pipe2(s.go, O_CLOEXEC))
        return err_sys(err, "pipe");
    if (pipe2(s.failed, O_CLOEXEC)) {
        close_pair(s.go);
        return err_sys(err, "pipe");
    }
    pid = fork();
    if (pid == 0)
        child(&s);
    close(s.failed[1]);
    close(s.go[0]);
    if (pid < 0) {
        err_sys(err, "fork");
    } else if (ptrace(PTRACE_SEIZE, pid, NULL, options)) {
        err_sys(err, "cannot trace a child");
        kill(pid, SIGKILL);
        waitpid(pid, NULL, __WALL);
        pid = -1;
    }
    close(s.go[1]);
    if (pid > 0 && wait_exec(pid, &s)) {
        err_sys(err, "cannot run %s", how->argv[0]);
        pid = -1;
    }
    close(s.failed[0]);
    return pid;
}

/* Remembers how a program is run; an empty name stands for the one remembered so far. */
static void remember_argv(struct ptrace_target *t, char **argv)
{
    size_t n = 0;
    char **copy;
    while (argv[n])
        n++;
    copy = calloc(n + 1, sizeof *copy);
    for (size_t i = 0; copy && i < n; i++)
        if (!(copy[i] = strdup(i == 0 && !argv[0][0] ? t->argv[0] : argv[i])))
            abort();
    if (!copy)
        abort();
    for (char **a = t->argv; a && *a; a++)
        free(*a);
    free(t->argv);
    t->argv = copy;
}

int ptrace_target_start(struct target *base, const struct run *how, struct event *stop,
                        struct err *err)
{
    struct ptrace_target *t = ptrace_target_of(base);
    struct run again = *how;
    struct process *p;
    if ((!how->argv || !how->argv[0][0]) && !t->argv)
        return err_set(err, "no program to run");
    if (how->argv)
        remember_argv(t, how->argv);
    again.argv = t->argv;
    pid_t pid = spawn(t, &again, trace_options(false), err);
    if (pid < 0)
        return -1;
    p = process_add(t, pid, false);
    thread_add(p, pid, THREAD_STOPPED);
    if (!is_x86_64(pid)) {
        target_kill(base, pid);
        return err_set(err, "%s is not an x86-64 program", again.argv[0]);
    }
    if (t->options.record)
        journal_program(pid);
    first_stop(p, stop);
    return 0;
}

int target_run(struct target *base, const struct run *how, struct event *stop, struct err *err)
{
    struct ptrace_target *t = ptrace_target_of(base);
    struct adopted again = {0};
    if (!t->options.restart)
        return ptrace_target_start(base, how, stop, err);
    if (t->options.restart(t->options.restart_arg, &again, err))
        return -1;
    return ptrace_target_adopt(base, &again, stop, err);
}

/* ------------------------------------------------------------------ attaching, adopting */

/* Seizes the threads that are not ours yet. Returns how many, or -1 with errno set. */
static int seize_tasks(struct process *p)
{
    int seized = 0;
    ssize_t n = procfs_tasks(p->pid, NULL, 0);
    if (n < 0)
        return -1;
    size_t room = (size_t)n + 16;
    pid_t *tids = calloc(room, sizeof *tids);
    if (!tids)
        abort();
    n = procfs_tasks(p->pid, tids, room);
    for (ssize_t i = 0; i < n && i < (ssize_t)room; i++) {
        if (thread_find(p->owner, tids[i]))
            continue;
        if (!ptrace(PTRACE_SEIZE, tids[i], NULL, trace_options(p->attached))) {
            thread_add(p, tids[i], THREAD_RUNNING);
            seized++;
        } else if (tids[i] == p->pid) {
            seized = -1;
            break;
        /* else it has exited since, or a traced thread has just made it: that one's event tells */
        }
    }
    int saved = errno;
    free(tids);
    errno = saved;
    return seized;
}

static int threads_of(const struct process *p)
{
    int n = 0;
    for (const struct thread *th = p->threads; th; th = th->next)
        n++;
    return n;
}

/* Seizes and stops all threads. While some end, a listing of /proc is cut short where one did: the
 * kernel's count tells when none that runs is left. Returns 0, or -1 with errno set; the process
 * may have ended. */
static int seize_all(struct process *p)
{
    struct ptrace_target *t = p->owner;
    for (int rounds = 0; rounds < ATTACH_ROUNDS && !p->gone; rounds++) {
        if (seize_tasks(p) < 0)
            return -1;
        wait_stop_all(t, t->non_stop ? p : NULL);
        if (procfs_task_count(p->pid) == threads_of(p))
            break;
    }
    return 0;
}

int ptrace_target_attach(struct target *base, pid_t pid, struct event *stop, struct err *err)
{
    struct ptrace_target *t = ptrace_target_of(base);
    if (pid <= 1 || pid == getpid() || process_find(t, pid))
        return err_set(err, "cannot attach to process %d", (int)pid);
    if (!is_x86_64(pid))
        return err_set(err, "process %d is not an x86-64 program", (int)pid);
    struct process *p = process_add(t, pid, true);
    if (seize_all(p)) {
        err_sys(err, "cannot attach to process %d", (int)pid);
        process_remove(p);
        return -1;
    }
    if (p->gone) {
        process_remove(p);
        return err_set(err, "process %d has ended", (int)pid);
    }
    for (struct thread *th = p->threads; th; th = th->next)
        th->job_stopped = false; /* a program that was stopped goes on when GDB says so */
    wait_take_signals(p, 0);
    if (p->gone) {
        process_remove(p);
        return err_set(err, "process %d has ended", (int)pid);
    }
    for (struct thread *th = p->threads; t->non_stop && th; th = th->next)
        wait_pend_stop(th); /* each tells of its own */
    struct event other;
    first_stop(p, stop);
    if (!t->non_stop && wait_report(p->threads, &other))
        *stop = other;
    return 0;
}

/* Adds the threads of a process that the caller has stopped, the leader first. 0, or -1. */
static int add_tasks(struct process *p, struct err *err)
{
    ssize_t n = procfs_tasks(p->pid, NULL, 0);
    if (n <= 0)
        return err_set(err, "there is no process %d to adopt", (int)p->pid);
    size_t room = (size_t)n;
    pid_t *tids = calloc(room, sizeof *tids);
    if (!tids)
        abort();
    n = procfs_tasks(p->pid, tids, room);
    thread_add(p, p->pid, THREAD_STOPPED);
    for (ssize_t i = 0; i < n && i < (ssize_t)room; i++)
        if (tids[i] != p->pid)
            thread_add(p, tids[i], THREAD_STOPPED);
    free(tids);
    for (struct thread *th = p->threads; th; th = th->next)
        if (ptrace(PTRACE_SETOPTIONS, th->tid, NULL, trace_options(p->attached)))
            return err_sys(err, "thread %d is not stopped under our control", (int)th->tid);
    return 0;
}

int ptrace_target_adopt(struct target *base, const struct adopted *a, struct event *stop,
                        struct err *err)
{
    struct ptrace_target *t = ptrace_target_of(base);
    if (a->pid <= 1)
        return err_set(err, "there is no process %d to adopt", (int)a->pid);
    struct process *p = process_add(t, a->pid, false);
    if (add_tasks(p, err) < 0) {
        process_remove(p);
        return -1;
    }
    if (a->exec_file && !(p->exec_file = strdup(a->exec_file)))
        abort();
    if (a->auxv) {
        p->auxv = malloc(a->auxv_size);
        if (!p->auxv)
            abort();
        memcpy(p->auxv, a->auxv, a->auxv_size);
        p->auxv_size = a->auxv_size;
    }
    p->hide_from = a->hide_from;
    first_stop(p, stop);
    return 0;
}

/* ------------------------------------------------------------------ again */

/* What GDB knows a thread of the old process by. */
struct known {
    struct known *next;
    uint64_t fs_base; /* where it has its TLS: the same whenever the process runs */
    pid_t shown;      /* 0: taken by a thread of the new one */
};

/* In the order in which they were made. */
static struct known *know(struct process *p)
{
    struct known *list = NULL, **end = &list;
    for (struct thread *th = p->threads; th; th = th->next, end = &(*end)->next) {
        const struct user_regs_struct *user = thread_user(th);
        if (!(*end = malloc(sizeof **end)))
            abort();
        **end = (struct known){NULL, user ? user->fs_base : 0, th->shown};
    }
    return list;
}

/* The name of the first one that has this TLS, or (0) any. */
static bool take_name(struct known *list, uint64_t fs_base, struct thread *th)
{
    while (list && (!list->shown || (fs_base && list->fs_base != fs_base)))
        list = list->next;
    if (!list)
        return false;
    th->shown = list->shown;
    list->shown = 0;
    return true;
}

/* Threads keep the names that GDB has for them; those that have not come to their own TLS yet, in
 * the order in which they were made. Frees the list. */
static void recognize(struct process *p, struct known *list)
{
    bool known[THREADS_MAX] = {false};
    size_t i = 0;
    for (struct thread *th = p->threads; th && i < THREADS_MAX; th = th->next, i++) {
        const struct user_regs_struct *user = thread_user(th);
        known[i] = user && user->fs_base && take_name(list, user->fs_base, th);
    }
    i = 0;
    for (struct thread *th = p->threads; th && i < THREADS_MAX; th = th->next, i++)
        if (!known[i])
            take_name(list, 0, th);
    for (struct known *next; list; list = next) {
        next = list->next;
        free(list);
    }
}

void process_be_loud(struct process *p)
{
    if (p->quiet)
        points_put_back(p);
    p->quiet = false;
}

int ptrace_target_begin_again(struct target *base, uint64_t event, struct err *err)
{
    struct ptrace_target *t = ptrace_target_of(base);
    const struct recorded *r = &t->options.recorded;
    struct process *p = t->processes;
    struct adopted made;
    if (!p || p->next || !r->start)
        return err_set(err, "there is no recording to move in");
    if (r->start(r->arg, event, &made, err) < 0)
        return -1;
    struct known *threads = know(p);
    process_kill(p);
    if (t->past)
        past_begin(t->past);
    if (p->memory >= 0)
        close(p->memory);
    p->memory = -1;
    p->gone = false;
    p->pid = made.pid;
    int rc = add_tasks(p, err);
    recognize(p, threads);
    points_lift(p);
    p->quiet = t->moved = true;
    return rc;
}

/* ------------------------------------------------------------------ ending */

int target_kill(struct target *base, pid_t pid)
{
    struct process *p = process_find(ptrace_target_of(base), pid);
    if (!p)
        return -1;
    process_kill(p);
    process_remove(p);
    return 0;
}

/* The signal that a thread keeps when GDB leaves it. */
static int signal_left(const struct thread *th)
{
    const struct wanted *w = &th->process->owner->wanted;
    int signal = th->deliver ? th->deliver : th->reported;
    if (!signal && th->has_event && th->event.kind == EVENT_STOPPED &&
        th->event.trap == TRAP_OTHER && !th->faked)
        signal = th->event.code;
    if (signal && w->has_program_signals && sigismember(&w->program_signals, signal) != 1)
        return 0;
    return signal;
}

static void detach_thread(struct thread *th)
{
    debug_clear(th);
    ptrace(PTRACE_DETACH, th->tid, NULL, th->state == THREAD_STOPPED ? signal_left(th) : 0);
}

void process_let_go(struct process *p)
{
    const struct ptrace_options *o = &p->owner->options;
    /* It outlives us, and shall not be hung up on when the terminal is. */
    if (o->foreground && !p->attached && tcgetpgrp(o->stdio[0]) == p->pid)
        set_foreground(o->stdio[0], getpgrp());
    /* A vfork child's memory is its parent's, whose breakpoints stay. */
    if (!p->vfork_parent)
        points_lift(p);
    for (struct thread *th = p->threads; th; th = th->next)
        if (th->state == THREAD_STOPPED)
            detach_thread(th);
    journal_drop(p->pid);
    process_remove(p);
}

int target_detach(struct target *base, pid_t pid)
{
    struct ptrace_target *t = ptrace_target_of(base);
    struct process *p = process_find(t, pid);
    if (!p)
        return -1;
    wait_stop_all(t, t->non_stop ? p : NULL);
    /* Behind the stop that we asked for, the trap of a step or of a breakpoint may wait. */
    wait_take_signals(p, SIGTRAP);
    process_let_go(p);
    return 0;
}
