/*
 * target.h - what a GDB session needs of the thing it debugs
 *
 * The session (session.h) speaks the protocol and knows no ptrace; a target knows no protocol.
 * There are the ptrace target (ptrace_target.h) and the test's fake. All-stop, unless
 * set_non_stop() is called: resume() lets threads run, poll() reports one event with every thread
 * of the target stopped again.
 *
 * Operations that a target does not have are NULL and then not offered to GDB.
 *
 * Functions return 0 or a number, or -1; where a person may read the reason there is a struct err.
 */
#ifndef DBG3_GDBBRIDGE_TARGET_H
#define DBG3_GDBBRIDGE_TARGET_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/base/err.h"

struct bytes;
struct registers;
struct target;

/* A thread of a process. -1 stands for all, 0 for any (the protocol's conventions). */
struct ptid {
    pid_t pid, tid;
};

enum event_kind {
    EVENT_STOPPED, /* code: host signal number, 0 for none */
    EVENT_EXITED,  /* process ended; code: exit status */
    EVENT_KILLED,  /* process ended; code: host signal number */
    EVENT_FORK,    /* child: the new process, stopped */
    EVENT_VFORK,
    EVENT_VFORK_DONE,
    EVENT_EXEC,           /* path: the program */
    EVENT_SYSCALL_ENTRY,  /* code: system call number */
    EVENT_SYSCALL_RETURN, /* code: system call number */
    EVENT_THREAD_CREATED, /* it has not run yet */
    EVENT_THREAD_EXITED,  /* code: exit status; the thread is gone */
    EVENT_NONE_LEFT,      /* every resumed thread is gone; others are still stopped */
};

/* What an EVENT_STOPPED with SIGTRAP comes from, where that is known. */
enum trap {
    TRAP_OTHER,
    TRAP_STEP,
    TRAP_SW_BREAK, /* an int3 in memory; the program counter is that of the int3 */
    TRAP_HW_BREAK,
    TRAP_WATCH_WRITE, /* addr: the data address */
    TRAP_WATCH_READ,
    TRAP_WATCH_ACCESS,
};

/* Which end of the recorded history a target that runs backwards has met. */
enum history { HISTORY_INSIDE, HISTORY_BEGIN, HISTORY_END };

struct event {
    enum event_kind kind;
    struct ptid thread;
    int code;
    enum trap trap;
    uint64_t addr;
    struct ptid child;
    enum history history;
    char path[1024];
    char console[512]; /* text for GDB's console, printed before the stop; empty: none */
};

/* Kinds of break- and watchpoint, numbered as in packets Z0 to Z4. */
enum point { POINT_SW, POINT_HW, POINT_WRITE, POINT_READ, POINT_ACCESS };
enum point_result { POINT_UNSUPPORTED = 1 };

enum resume_how {
    RESUME_NOT, /* in non-stop mode: a running thread stops, with signal 0 */
    RESUME_CONT,
    RESUME_STEP, /* until the program counter has left [low, high), at least one instruction */
};

/* The first action whose thread pattern matches a thread is the thread's. */
struct resume {
    struct ptid thread; /* with -1 as wildcard */
    enum resume_how how;
    int signal; /* host number, 0: none */
    uint64_t low, high;
};

struct thread_info {
    char name[32];   /* empty: unknown */
    int core;        /* processor it last ran on, or -1 */
    uint64_t handle; /* pthread_t, or 0 */
};

/* How a program is started. */
struct run {
    /* NULL-terminated; argv[0] is the program's file, "" the last one. NULL: all as last time. */
    char **argv;
    char **env;            /* NULL-terminated NAME=VALUE */
    const char *directory; /* NULL: the stub's */
    bool randomize;        /* address space layout randomization */
};

/* What the session wants to hear of. Signals are host numbers. */
struct wanted {
    bool fork, vfork, exec;
    bool threads; /* their beginnings and ends */
    sigset_t pass; /* signals handed to the program without a stop */
    /* signals that a detaching GDB leaves with the program, if it said so */
    bool has_program_signals;
    sigset_t program_signals;
};

/* A command of `monitor`. */
struct monitor_command {
    const char *name;
    const char *help;
    /* Output goes to `out`. Returns 0 or -1 with *err set. */
    int (*run)(void *arg, const char *args, struct bytes *out, struct err *err);
    void *arg;
};

/* Who waits for a call that may take long: going back, or to an event. */
struct attendant {
    bool (*gives_up)(void *arg);              /* Ctrl-C, or GDB is gone. Never waits */
    void (*say)(void *arg, const char *text); /* for GDB's console */
    void *arg;
};

struct target_ops {
    void (*destroy)(struct target *t);

    /* --- processes. After run() and attach() the process is the event's, stopped. */
    int (*run)(struct target *t, const struct run *how, struct event *stop, struct err *err);
    int (*attach)(struct target *t, pid_t pid, struct event *stop, struct err *err);
    int (*kill)(struct target *t, pid_t pid);
    int (*detach)(struct target *t, pid_t pid);
    /* Was the process there before the target? GDB then detaches when it quits, else kills. */
    bool (*attached)(struct target *t, pid_t pid);

    /* --- threads. Fills at most max, returns how many there are. */
    size_t (*threads)(struct target *t, struct ptid *out, size_t max);
    int (*thread_info)(struct target *t, struct ptid thread, struct thread_info *info);

    /* --- state of a stopped thread or process. Registers are a block laid out by registers(). */
    const struct registers *(*registers)(struct target *t);
    int (*read_registers)(struct target *t, struct ptid thread, uint8_t *block);
    int (*write_registers)(struct target *t, struct ptid thread, const uint8_t *block);
    /* Bytes read, which may be fewer than asked for, or -1 if not even one; no breakpoint shows. */
    ssize_t (*read_memory)(struct target *t, pid_t pid, uint64_t addr, void *to, size_t size);
    int (*write_memory)(struct target *t, pid_t pid, uint64_t addr, const void *from, size_t size);
    int (*siginfo)(struct target *t, struct ptid thread, siginfo_t *info);
    int (*set_siginfo)(struct target *t, struct ptid thread, const siginfo_t *info);
    int (*auxv)(struct target *t, pid_t pid, struct bytes *out);
    int (*exec_file)(struct target *t, pid_t pid, char *path, size_t size);
    int (*tls_address)(struct target *t, struct ptid thread, uint64_t link_map, uint64_t offset,
                       uint64_t *addr, struct err *err);

    /* --- break- and watchpoints of a process. Inserting one twice is the same as once. Return 0,
     * -1 or POINT_UNSUPPORTED. `size`: bytes watched. */
    int (*insert_point)(struct target *t, pid_t pid, enum point kind, uint64_t addr, size_t size);
    /* What a POINT_SW or POINT_HW does by itself: a script as in a Z packet (agent.h), none: it
     * stops. A target may stop also where the script says not to. Returns 0, or -1: malformed.
     * NULL: it always stops. */
    int (*script_point)(struct target *t, pid_t pid, enum point kind, uint64_t addr,
                        const char *text, size_t size);
    int (*remove_point)(struct target *t, pid_t pid, enum point kind, uint64_t addr, size_t size);

    /* --- running */
    int (*resume)(struct target *t, const struct resume *actions, size_t n);
    /* The next event is a SIGINT, if nothing else comes first. */
    void (*interrupt)(struct target *t);
    /* The event that ended the last resume(), if there is one by now. Returns 1 and the event, or
     * 0. Never waits for the program to do something. */
    int (*poll)(struct target *t, struct event *event);
    /* While nothing runs for GDB: sees to the end of what GDB has left. NULL: nothing to do. */
    void (*reap)(struct target *t);
    void (*want)(struct target *t, const struct wanted *wanted);
    /* Non-stop mode: resume() and poll() concern single threads, the others run on; resume() does
     * nothing to threads that run already, or have an event that poll() has not given yet. */
    void (*set_non_stop)(struct target *t, bool on);
    /* System calls to report: n < 0 none, 0 all. 0, or -1 with *err. */
    int (*catch_syscalls)(struct target *t, pid_t pid, const int *numbers, int n, struct err *err);

    /* --- backwards. Their events are polled like those of resume(). */
    int (*reverse_step)(struct target *t, struct ptid thread);
    int (*reverse_continue)(struct target *t);
    /* Whom these ask, and tell, while they take long. NULL: they never do. */
    void (*attend)(struct target *t, const struct attendant *a);

    /* --- the machine. What GDB's `info os TYPE` shows; nothing if there is no such type. */
    void (*osdata)(const char *type, struct bytes *out);

    /* --- files. May GDB read and write the files of this machine (vFile)? */
    bool files;
    /* A descriptor with what GDB shall see when it opens path read-only (a view of
     * /proc/PID/maps, say), or -1: no view, open the file itself. */
    int (*open_view)(struct target *t, const char *path);

    /* Commands of its own for `monitor`, ended by a row without name; may be NULL. */
    const struct monitor_command *monitor;
};

struct target {
    const struct target_ops *ops;
};

#endif
