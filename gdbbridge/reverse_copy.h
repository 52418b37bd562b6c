/*
 * reverse_copy.h - copies of a stopped process, and running them to an exact place
 *
 * A copy is a fork of a traced, stopped process, made by a system call that it is made to execute:
 * copy-on-write, traced by us, stopped where the original is, a child of the original's parent; its
 * other threads are made anew (reverse_crowd.h). Given the same inputs it runs as the original ran,
 * so that a place in its future is told by a mark: the n-th time that an instruction of a thread is
 * about to run, or that it has read or written bytes. The kernel counts (a breakpoint of
 * perf_event_open(2), at hit n a SIGTRAP); the processor's performance counters, which virtual
 * machines often lack, are not needed.
 *
 * What a copy writes to its descriptors while it runs here is not written: it has been before. A
 * process that handles its own system calls (dispatch.h) knows that better, and sees to it itself.
 *
 * Every function waits: nothing here returns before the copy has stopped again. [tracer]
 */
#ifndef DBG3_GDBBRIDGE_REVERSE_COPY_H
#define DBG3_GDBBRIDGE_REVERSE_COPY_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#include "gdbbridge/agent.h"
#include "gdbbridge/target.h"

/* What a mark counts. */
struct mark {
    uint64_t addr;
    unsigned size; /* 0: executions of the instruction; else accesses to that many bytes */
    uint64_t n;    /* from 1. The instruction at which a copy starts counts as executed once. */
    bool written;  /* count only what writes to these bytes */
    uint64_t thread; /* whose (reverse_crowd.h: its key) */
    uint64_t until;  /* or, if not 0: any thread's write by which the word is at least that; n of
                        the first thread's do it, as long as there is no other */
    int sent; /* the signal, which somebody has sent, that comes before that instruction; or 0 */
};
#define NO_THREAD UINT64_MAX

/* A break- or watchpoint that is looked for in a copy. */
struct copy_point {
    enum point kind;
    uint64_t addr;
    unsigned size;
    uint8_t original; /* software breakpoint: the byte that it replaces */
    const struct agent_script *script; /* NULL: it always stops */
};

#define COPY_POINTS_MAX 256

struct copy_points {
    struct copy_point point[COPY_POINTS_MAX];
    size_t n;
    /* Software breakpoints may become debug registers, which are passed faster. Where the process
     * blocks signals these stop too late, and are not told of. */
    bool fast;
};

enum copy_end {
    COPY_MARK,   /* at the mark; that instruction has not run */
    COPY_POINT,  /* at a point; see copy_stop */
    COPY_SIGNAL, /* a signal is about to be delivered */
    COPY_GONE,
};

struct copy_stop {
    enum copy_end end;
    int signal;
    const struct copy_point *point;
    uint64_t pc;
    bool counted; /* the instruction at pc has been counted as executed */
    uint64_t thread; /* that has stopped */
    pid_t tid;
    const struct copy_lane *lane;
};

/* What a debug register counts, where perf events are forbidden. */
struct copy_register {
    uint64_t data, period, hits;
};

/* What is counted of one thread. */
struct copy_lane {
    struct copy_lane *next;
    pid_t tid;       /* 0: it has ended */
    uint64_t thread; /* its key */
    int mark_fd, count_fd, point_fd[COPY_POINTS_MAX]; /* or numbers of debug registers */
    struct copy_register reg[4];
    int nregs;
    uint64_t due; /* the datum of the one that stopped it */
    uint64_t traps[COPY_POINTS_MAX]; /* of points in memory */
    /* of threads that have ended and had the same key */
    uint64_t mark_base, count_base, point_base[COPY_POINTS_MAX];
    bool skipping; /* a system call for output */
    uint64_t signals; /* that have come for it, where a replay sends them (copy_pass_logged) */
};

/* A process that runs to a mark, with points in place. */
struct copy_run {
    pid_t pid;
    uint64_t number; /* of this run, among all */
    struct mark mark, count;
    const struct copy_points *points; /* may be NULL */
    bool in_memory[COPY_POINTS_MAX]; /* is an int3 */
    uint64_t *passed; /* counts stops at points, also where their scripts say to go on; or NULL */
    bool silent; /* its output is ours to suppress, not its own */
    bool failed; /* there is no counter for a new thread */
    uint64_t hits; /* of the mark, where it shares its address with a point */
    /* Where a replay sends the signals: it stops at this one, counted from 1, of a thread; 0: at
     * none. And points stop nothing before that many. */
    struct copy_nth {
        uint64_t thread, n;
    } signal, points_from;
    struct copy_lane lane; /* of the first thread; then of others */
};

/*
 * Whether perf events are forbidden here (perf_event_paranoid, seccomp), so that the debug
 * registers stop the process at each hit, and hits are counted in this process: the same places,
 * slower.
 */
bool copy_without_perf(void);

/* Signals that copies get without a stop, as the process got them when it ran. */
void copy_pass(const sigset_t *signals);
bool copy_passes(int signal);

/* From here on copies are of a process that sends itself the signals of a log. They get all of
 * them: what was done about them when it ran follows from that. */
void copy_pass_logged(void);
bool copy_logged(void);

/* Copies the process; the original stays as it is. Returns the copy's pid or -1. What has several
 * threads must have a crowd. */
pid_t copy_make(pid_t pid);
void copy_kill(pid_t pid);

/*
 * Has a stopped thread make a system call, by the instruction at `at`, with the registers `base`
 * but for those of the call. It has other registers then, and is in another stop. `born`, or NULL:
 * the call is clone(2), and that is what it has made, stopped. 0, or -1: it failed.
 */
int copy_call(pid_t tid, uint64_t at, const struct user_regs_struct *base, long number,
              const uint64_t args[6], pid_t *born);

/* Blocks all signals but that of a single step, so that none comes in the way of copy_call(). */
int copy_mask(pid_t tid, uint64_t *was);

/* Of a thread that a stop has interrupted in a system call: it is about to make that call. The
 * kernel does so only for the thread itself. */
void copy_restart_call(struct user_regs_struct *regs);

/* Is there a system call at this address of a process? */
bool copy_at_call(pid_t pid, uint64_t addr);

/* Does this system call send out as many bytes as its third argument says? */
bool copy_is_output(unsigned long long number);

/* The flag by which the kernel lets an instruction run at which an execution breakpoint has fired:
 * set in eflags, the instruction to come has been counted already. */
#define COPY_COUNTED_FLAG 0x10000

int copy_registers(pid_t pid, struct user_regs_struct *regs);
int copy_poke(pid_t pid, uint64_t addr, uint8_t byte);

/*
 * Prepares a run: to `mark` (n == 0: no mark), looking for `points`, counting executions of
 * `count` (or NULL) beside. 0 or -1: no counter to be had. copy_run_end releases what it took and
 * takes the points out.
 */
int copy_run_begin(struct copy_run *run, pid_t pid, const struct mark *mark,
                   const struct copy_points *points, const struct mark *count);
void copy_run_on(struct copy_run *run, struct copy_stop *stop);
uint64_t copy_run_count(const struct copy_run *run);
/* How often the thread that has stopped at a point has met it so far. */
uint64_t copy_run_hits(const struct copy_run *run, const struct copy_stop *stop);
void copy_run_end(struct copy_run *run);

/* Runs to the mark and nowhere else. Returns 0, or -1: it is not there. */
int copy_run_to(pid_t pid, const struct mark *mark, const struct mark *count, uint64_t *counted);

/* One instruction of a thread; others run only where it waits for them. Returns the new pc, 0 if
 * the thread is gone or meets a signal. */
uint64_t copy_step(pid_t pid, uint64_t thread);

/*
 * The same without anything that the process does about it: no system call, no signal, no turn that
 * others have meanwhile. 0 also where that is not so; *behind: where the program goes on then, if
 * that is known, else 0. The copy is of no use any more.
 */
uint64_t copy_step_alone(pid_t pid, uint64_t thread, uint64_t *behind);

#endif
