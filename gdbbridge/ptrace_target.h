/*
 * ptrace_target.h - a target that debugs processes of this machine with ptrace
 *
 * Three ways to a process: start one, attach to one, or adopt one that the caller has created and
 * stopped. All calls must come from one thread, the one that traces (ptrace knows threads, not
 * processes); SIGCHLD must be blocked while the target lives, so that no event is lost between a
 * poll() of the target and the caller's sleep.
 *
 * The target reaps with waitpid(-1): a child of the caller that it does not know is handed to
 * `other_child`.
 */
#ifndef DBG3_GDBBRIDGE_PTRACE_TARGET_H
#define DBG3_GDBBRIDGE_PTRACE_TARGET_H

#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "gdbbridge/target.h"
#include "runtime/base/err.h"

/* ---- stops that mean something to the caller */

enum stop_verdict {
    STOP_DEFAULT, /* none of the hook's: as if it had not been asked */
    STOP_REPORT,  /* GDB sees the thread stop with `signal`, after `text` on its console */
    STOP_RESUME,  /* GDB sees nothing; the thread goes on, without the signal */
    STOP_EXIT,    /* the process is killed; GDB sees `text` and that it exits with `code` */
};

struct stop {
    struct target *target; /* for ops->read_registers, read_memory, write_registers ... */
    struct ptid thread;
    siginfo_t info;  /* as PTRACE_GETSIGINFO gives it */
    uint64_t pc;     /* of a breakpoint trap: the address of the int3 */
    int signal;      /* in: that of the stop; out: what GDB is told, 0 for "stopped" without one */
    int code;        /* out: exit code for STOP_EXIT */
    enum history history; /* out: HISTORY_END: the recording goes no further */
    /* out: the thread stands in a call that the program made and that does not return: where it
     * would, and one step back is to the call; or 0 */
    uint64_t call_site;
    char text[512];  /* out: for GDB's console, e.g. "end of recording\n"; empty: none */
};

/* Asked about each signal that stops a thread, before GDB hears of it and before its breakpoints
 * are looked at; not about interrupts by GDB and finished steps. A thread that int3 stopped is
 * at the int3 and meets it again when it goes on, unless the hook moves its program counter
 * (write_registers). */
struct stop_hook {
    enum stop_verdict (*look)(void *arg, struct stop *stop);
    void *arg;
};

/* Told when a thread is about to run for GDB (it may write memory then: copies of the process for
 * going back have been made), and when all have stopped for it. Asked before, where GDB continues
 * the process: it may move it to another place instead, and then says what GDB is to see. */
struct run_hook {
    bool (*move)(void *arg, struct target *t, struct event *stop); /* moved? */
    void (*start)(void *arg, struct target *t, struct ptid thread, bool stepping);
    void (*stopped)(void *arg, struct target *t, const struct event *stop);
    /* GDB steps or continues backwards. Where it continues: the boundary (ptrace_target_goto) at
     * which to stop if nothing else stops it before; 0: none; or NULL. And what GDB then sees, in
     * *stop. */
    uint64_t (*back)(void *arg, struct target *t, bool stepping);
    void (*backed)(void *arg, struct target *t, struct event *stop);
    /* GDB is about to change the program for the first time since it ran as it had run; or NULL. */
    void (*diverts)(void *arg, struct target *t, struct ptid thread);
    void *arg;
};

/* ---- a process that the caller made */

struct adopted {
    /* Every thread is traced by the calling thread with PTRACE_SEIZE, is in a ptrace stop at any
     * instruction, and its wait status has been consumed. */
    pid_t pid;
    const char *exec_file; /* what GDB takes for the program; NULL: /proc/PID/exe */
    const void *auxv;      /* its auxiliary vector; NULL: /proc/PID/auxv */
    size_t auxv_size;      /* bytes */
    uint64_t hide_from;    /* mappings at and above are not shown in views of /proc; 0: show all */
};

/* ---- a process whose inputs are recorded */

/*
 * What the caller knows of a process that does again what it did. An event is a recorded input;
 * events have numbers, and the process takes one after the other. Its thread is stopped when one of
 * these is called; they read its memory.
 */
struct recorded {
    void *arg;
    /* The number of the event that it takes next. */
    uint64_t (*next)(void *arg, pid_t pid);
    /* Address of 8 bytes that are written whenever it has taken one; 0: not known. */
    uint64_t (*word)(void *arg, pid_t pid);
    /* Where in the program the call returns to that took the last event; 0: not known. */
    uint64_t (*site)(void *arg, pid_t pid);
    /* Is the process in a call that takes events, not in the program? Or NULL. */
    bool (*in_call)(void *arg, pid_t pid);
    /* Which of the messages that the last event brings is being put into its buffer, from 1 (only
     * those with contents count); 0: none. Or NULL. */
    unsigned (*arriving)(void *arg, pid_t pid);
    /* The thread of several that runs, while the others wait for it to give its turn up; 0: it is
     * nobody's. -1: they do not take turns, and may run in another order again. Or NULL: the same.
     * Called while they run, too. */
    pid_t (*in_turn)(void *arg, pid_t pid);
    /* Of one of its threads: the number behind the last event that it has taken, and where in the
     * program the call returns to that took it. False: not known. Or NULL. */
    bool (*last)(void *arg, pid_t tid, uint64_t *behind, uint64_t *site);
    /* Makes the process anew, as it was when its next event was `event` or, failing that, as few
     * events before as can be had. 0, or -1 with *err: it cannot begin as early as that. */
    int (*start)(void *arg, uint64_t event, struct adopted *out, struct err *err);
};

struct ptrace_options {
    /* Makes the process again for GDB's `run`: fills *out as for ptrace_target_adopt. NULL: `run`
     * starts the program GDB names, or the last one started. */
    int (*restart)(void *arg, struct adopted *out, struct err *err);
    void *restart_arg;
    struct stop_hook hook;                  /* look == NULL: none */
    struct run_hook run_hook;               /* start == NULL: none */
    const struct monitor_command *monitor;  /* further ones, ended by a row without name; or NULL */
    void (*other_child)(void *arg, pid_t pid, int status); /* or NULL */
    void *other_child_arg;
    struct recorded recorded; /* start == NULL: nothing is known */
    bool reverse; /* the process does again what it did when it runs again from where it was */
    bool record;  /* it is made to: what enters it is written down (journal.h) */
    int stdio[3]; /* descriptors for programs the target starts; -1: /dev/null */
    bool foreground; /* a started program becomes the foreground of the terminal stdio[0] */
};

/* `options` may be NULL: no hooks, the caller's stdio. Strings and data in it are copied or must
 * live as long as the target (monitor, args). Destroy with target->ops->destroy, which lets go of
 * what is left: attached processes are detached, others killed. */
struct target *ptrace_target_create(const struct ptrace_options *options);

/* Each gives one more process, stopped, with its stop in *stop. */
int ptrace_target_start(struct target *t, const struct run *how, struct event *stop,
                        struct err *err);
int ptrace_target_attach(struct target *t, pid_t pid, struct event *stop, struct err *err);
int ptrace_target_adopt(struct target *t, const struct adopted *a, struct event *stop,
                        struct err *err);

/* From a stop hook that is going to report this stop, in a process with a recording: another run
 * would not stop here by itself. */
void ptrace_target_ends_here(struct target *t);

/*
 * With options.reverse: has GDB changed registers or memory, so that the process is not where its
 * inputs alone have brought it? Going back to before the change ends that.
 */
bool ptrace_target_diverted(struct target *t);

/*
 * A place that is kept: the one process as it stands, with the signal of the log that a thread is
 * about to get. The caller's, until kept_process_free(). NULL with *err.
 */
struct kept_process *ptrace_target_keep(struct target *t, struct err *err);
uint64_t kept_process_pc(const struct kept_process *k); /* 0: it is gone */
void kept_process_free(struct kept_process *k); /* NULL: nothing */

/*
 * The process becomes what `k` is, which stays as it is. That is no diversion: `k` must have been
 * made of none. GDB does not hear of it, as for ptrace_target_goto(). 0, or -1 with *err.
 */
int ptrace_target_return(struct target *t, const struct kept_process *k, struct err *err);

/*
 * Moves the one process, stopped, to the boundary of `event`: the events before it have been taken,
 * and the call that took the last of them has just returned to the program (or, where the program
 * did not make that call, has just taken it). Where threads take turns later events may have been
 * taken by then, but none by the thread that returns. Backwards or forwards, from the nearest place
 * that is kept or can be started. GDB does not hear of it: it must be told that registers and
 * memory are others now. Waits. 0, or -1 with *err; the process then is where it was.
 */
int ptrace_target_goto(struct target *t, uint64_t event, struct err *err);

/* Can it be moved so? Not where a thread is in the midst of something, or threads run freely. */
bool ptrace_target_can_goto(struct target *t);

/* The thread that has stopped last, or that the process was moved by. */
struct ptid ptrace_target_thread(struct target *t);

/* A write in the past of a process. */
struct last_write {
    uint64_t next; /* the event that was next then */
    uint64_t pc;   /* of the instruction behind it */
    bool in_call;  /* (struct recorded) */
    unsigned arriving;
};

/*
 * The last write to 1, 2, 4 or 8 bytes, aligned, that the one process, which stays where it is, has
 * made. Waits. Returns 1 with *found; 0, and *err says how far back it was looked for; or -1 with
 * *err.
 */
int ptrace_target_last_write(struct target *t, uint64_t addr, unsigned size,
                             struct last_write *found, struct err *err);

/*
 * The process, with all its threads, is made anew, as it was at the boundary of `event` or, failing
 * that, as few events before as can be had. What runs next stops at none of GDB's breakpoints until
 * something else has stopped it. GDB does not hear of it, as for ptrace_target_goto(). 0, or -1
 * with *err; the process then is where it was.
 */
int ptrace_target_begin_again(struct target *t, uint64_t event, struct err *err);

/* The event at whose boundary the one process, stopped, is. Waits. 0: at none, or that cannot be
 * told. */
uint64_t ptrace_target_boundary(struct target *t);

/*
 * Where threads take turns one of them may come back with an event after another one has with a
 * later event. Has the process come by this boundary, and gone on? The event before has been taken.
 * And of two boundaries that are behind: by this one later than by the other? Both wait.
 */
bool ptrace_target_is_behind(struct target *t, uint64_t event);
bool ptrace_target_is_later(struct target *t, uint64_t event, uint64_t other);

#endif
