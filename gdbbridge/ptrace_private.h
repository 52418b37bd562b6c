/*
 * ptrace_private.h - shared by the ptrace target's files
 *
 *     ptrace_target.c   processes and threads, the vtable, what does not stop or run anything
 *     ptrace_start.c    starting, attaching, adopting, killing, detaching
 *     ptrace_wait.c     wait statuses: what happened, stopping all, choosing the event to report
 *     ptrace_pass.c     breakpoints that do not stop
 *     ptrace_resume.c   letting threads run
 *     ptrace_state.c    registers and memory
 *     ptrace_points.c   breakpoints and debug registers
 *
 * A thread is always attached with PTRACE_SEIZE: it is stopped by PTRACE_INTERRUPT, which needs no
 * signal, and a job-control stop can be told from a signal (ptrace(2)).
 */
#ifndef DBG3_GDBBRIDGE_PTRACE_PRIVATE_H
#define DBG3_GDBBRIDGE_PTRACE_PRIVATE_H

#include <sys/ptrace.h>
#include <sys/user.h>

#include "gdbbridge/agent.h"
#include "gdbbridge/ptrace_target.h"
#include "gdbbridge/registers.h"

enum thread_state {
    THREAD_STOPPED, /* in a ptrace stop that we have seen */
    THREAD_RUNNING,
    THREAD_EXITING, /* past PTRACE_EVENT_EXIT: cannot be stopped any more, is not shown to GDB */
};

enum deferral { DEFER_NONE, DEFER_INTERRUPT, DEFER_STALE };

struct thread {
    struct thread *next;
    struct process *process;
    pid_t tid;
    pid_t shown; /* what GDB knows it by: as in process */
    enum thread_state state;

    /* What GDB wants: set by each resume. */
    bool resumed;
    bool stopping; /* to be stopped for GDB, alone (non-stop mode) */
    bool stepping;
    uint64_t step_low, step_high;
    bool ends;   /* the step is one instruction that cannot wait for anything */
    bool walks;  /* the step is one of GDB's user, not one over a breakpoint */
    bool walked; /* such a step is what GDB heard of it last */
    int deliver; /* signal to hand over when it runs next, or 0 */
    bool keeps_signal; /* GDB hands none over, as it knows it at that stop since (reverse.c) */
    bool went_back; /* GDB knows it at a later stop; what it hands over belongs to that */

    /* Steps over a system call that the program handles itself (dispatch.h): until it is behind the
     * instruction again, on the same stack. */
    uint64_t call_pc, call_sp;
    bool call_looks; /* it is no instruction, but a look at who has the turn (dispatch.h) */
    bool looked_at;  /* in this step */
    bool newborn;      /* its first stop, which comes by itself, has not been seen */
    bool interrupting; /* PTRACE_INTERRUPT sent, its stop not seen */
    enum deferral deferral; /* of an interrupt, to the end of a handler that blocks all signals */
    bool in_vfork;     /* blocked in the kernel until its vfork child is done */
    bool job_stopped;  /* left in a job-control stop with PTRACE_LISTEN */

    /* How it stopped last. */
    bool in_call;    /* by an event in the midst of a system call */
    bool can_inject; /* in a signal-delivery stop: the kernel takes a signal on resume */
    siginfo_t info;  /* of the signal that stopped it last */
    bool at_signal;    /* that is what it stopped for, last of all */
    uint64_t signals;  /* that have come since the past's last leg began (reverse.c) */
    bool injected;   /* it is in the stop of a signal that was sent on GDB's behalf */
    int injecting;   /* signal sent on GDB's behalf that will stop the thread once more, or 0 */
    int faked;       /* signal reported to GDB that the kernel does not know of, or 0 */
    bool has_event;  /* `event` is yet to be reported */
    bool tripped;    /* the event is from a breakpoint of ours: void once that is removed */
    struct event event;
    bool passing;     /* steps over a breakpoint that does not stop it */
    bool pass_due;    /* is to, once the other threads of its process stand still */
    uint64_t call_site; /* of the call that it stands in, as the caller's hook says, or 0 */
    uint64_t stop_pc; /* where a signal stopped it, before the caller's hook; 0: no signal */
    int reported; /* signal last reported to GDB and not yet passed on, or 0 */
    uint64_t reported_at; /* the last report of it, or before it began, by number */

    unsigned debug_generation; /* of the process's debug registers, as this thread has them */
    bool has_user, has_xsave;  /* caches, valid while stopped */
    struct user_regs_struct user;
    uint8_t *xsave;
    size_t xsave_size;
};

struct breakpoint {
    struct breakpoint *next;
    uint64_t addr;
    uint8_t original;
    bool inserted;
    const struct agent_script *script; /* NULL: it always stops */
};

#define DEBUG_REGISTERS 4

/* The debug registers of all threads of a process. */
struct debug_registers {
    struct {
        uint64_t addr;
        unsigned size; /* bytes, 0: free */
        enum point kind;
        unsigned users;
        const struct agent_script *script; /* of POINT_HW */
    } slot[DEBUG_REGISTERS];
    unsigned generation; /* counts changes */
};

struct process {
    struct process *next;
    struct ptrace_target *owner;
    pid_t pid;
    bool attached; /* was there before us */
    bool hidden;   /* forked, and GDB has not been told yet */
    struct thread *threads;
    int memory; /* /proc/PID/mem, or -1 */
    struct breakpoint *breakpoints;
    struct debug_registers debug;
    pid_t shown; /* what GDB knows it by: a process that went back is another one for the kernel */
    struct process *vfork_parent; /* while this shares its memory */
    /* breakpoints are out of memory while an unfollowed vfork child uses it */
    bool points_suspended;
    bool quiet; /* breakpoints are out of memory until it stops for something else */

    bool catching; /* system calls */
    int *catch;    /* NULL: all */
    size_t ncatch;

    bool told_end; /* GDB has seen it, recorded, before the call that ends it */
    bool gone; /* `status` is its exit, yet to be reported */
    int status;
    int exit_code; /* >= 0: what GDB sees instead of status (STOP_EXIT) */
    char exit_text[512];

    /* Overrides of an adopted process. */
    char *exec_file;
    void *auxv;
    size_t auxv_size;
    uint64_t hide_from;
};

/* A stop of a thread that we learn of before we know whose child it is. */
struct early {
    struct early *next;
    pid_t tid;
    int status;
};

struct ptrace_target {
    struct target base;
    struct target_ops ops; /* with this target's monitor commands */
    struct ptrace_options options;
    struct process *processes;
    struct early *early;
    struct registers *registers;
    struct wanted wanted;
    bool running;   /* between resume() and the event that poll() reports */
    bool stopping;  /* stop_all() is waiting */
    const struct process *stopping_only; /* for the threads of this one; NULL: for all */
    bool non_stop;
    bool gone_quietly; /* a thread has ended since the last report */
    bool interrupt; /* GDB's Ctrl-C has not been reported */
    pid_t newest;   /* the process started or attached to last, as GDB knows it: Ctrl-C is for it */
    pid_t last;     /* thread reported last */
    uint64_t reports;
    char **argv;    /* of the last start */
    struct monitor_command *monitor;
    struct agent_script *scripts; /* all that breakpoints have had */
    struct past *past; /* reverse.h; NULL: forward only */
    struct attendant attendant; /* of searches in the past; its functions may be NULL */
    bool has_pending;        /* an event of going back is to be reported */
    struct event pending;
    bool moved; /* GDB has not heard of it: a signal that it hands over belongs to where it was */
};

static inline struct ptrace_target *ptrace_target_of(struct target *t)
{
    return (struct ptrace_target *)t;
}

/* ---- ptrace_target.c */
struct process *process_add(struct ptrace_target *t, pid_t pid, bool attached);
void process_remove(struct process *p);
struct process *process_find(struct ptrace_target *t, pid_t pid);
struct thread *thread_add(struct process *p, pid_t tid, enum thread_state state);
void thread_remove(struct thread *th);
struct thread *thread_find(struct ptrace_target *t, pid_t tid);
/* What GDB knows the thread by. */
struct ptid thread_shown(const struct thread *th);
/* The stopped thread that GDB means, or NULL. */
struct thread *thread_stopped(struct ptrace_target *t, struct ptid id);

/* ---- ptrace_start.c */
/* PTRACE_O_ of the target's processes. */
int trace_options(bool attached);
int target_run(struct target *t, const struct run *how, struct event *stop, struct err *err);
int target_kill(struct target *t, pid_t pid);
int target_detach(struct target *t, pid_t pid);
/* It stops at GDB's breakpoints again. */
void process_be_loud(struct process *p);
/* Lets a stopped process go that GDB was not told of. */
void process_let_go(struct process *p);

/* ---- ptrace_wait.c */
#define SYSCALL_TRAP (SIGTRAP | 0x80) /* PTRACE_O_TRACESYSGOOD */
/* waitpid() for a thread or (-1) any, in spite of signals. */
pid_t wait_for(pid_t tid, int *status, int flags);
/* What a wait status brings about. */
void wait_handle(struct ptrace_target *t, pid_t tid, int status);
/* What stopped the thread is none of GDB's business: it goes on if it may. */
void wait_go_on(struct thread *th, int signal);
/* Is the process being stopped, by us? */
bool wait_is_stopping(const struct process *p);
/* Is there something to report? */
bool wait_has_news(const struct ptrace_target *t);
int target_poll(struct target *t, struct event *event);
void target_reap(struct target *t);
void target_interrupt(struct target *t);
/* Handles all statuses there are, without waiting. */
void wait_reap(struct ptrace_target *t);
/* Kills the process and waits until it is gone; it stays in the list. */
void process_kill(struct process *p);
/* Stops all threads, those of one process or of all (NULL), and waits until they have. */
void wait_stop_all(struct ptrace_target *t, const struct process *only);
/* Stops a running thread for GDB, alone; its stop is polled. */
void wait_stop_one(struct thread *th);
/* A stopped thread is to be reported as stopped without a signal, if nothing else is. */
void wait_pend_stop(struct thread *th);
/* Lets the threads of a process that we have stopped meet the signal (0: any) that waits for them,
 * before any instruction. p->gone tells whether it has ended of one. */
void wait_take_signals(struct process *p, int signal);
/* Its event, if it has one, is told now. */
bool wait_report(struct thread *th, struct event *event);
/* Stops running threads for a moment, so that they start again as their process now has it. */
void wait_refresh(struct process *p);

/* ---- ptrace_pass.c */
/* Does the breakpoint that a thread has come to not stop it? */
bool pass_wanted(struct thread *th, enum trap trap, uint64_t addr);
/* It goes on from there: at once, or when pass_all_due() is called. */
void pass(struct thread *th, enum trap trap);
void pass_all_due(struct ptrace_target *t);
/* Is the next instruction of a stopped thread a system call? */
bool pass_at_call(struct thread *th);
/* A breakpoint where it is now does what it does by itself. */
void pass_arrived(struct thread *th);

/* ---- ptrace_resume.c */
int target_resume(struct target *t, const struct resume *actions, size_t n);
/* Lets a stopped thread run as its fields say, with a signal (0: none). */
void thread_start(struct thread *th, int signal);

/* ---- ptrace_state.c */
const struct registers *target_registers(struct target *t);
int target_read_registers(struct target *t, struct ptid thread, uint8_t *block);
int target_write_registers(struct target *t, struct ptid thread, const uint8_t *block);
ssize_t target_read_memory(struct target *t, pid_t pid, uint64_t addr, void *to, size_t size);
int target_write_memory(struct target *t, pid_t pid, uint64_t addr, const void *from, size_t size);
/* As they are, breakpoints included. */
ssize_t process_peek(struct process *p, uint64_t addr, void *to, size_t size);
int process_poke(struct process *p, uint64_t addr, const void *from, size_t size);
/* General registers of a stopped thread, cached; NULL if it is gone. */
const struct user_regs_struct *thread_user(struct thread *th);
int thread_set_user(struct thread *th, const struct user_regs_struct *user);
uint64_t thread_pc(struct thread *th); /* 0 if the thread is gone */
void thread_forget_registers(struct thread *th);

/* ---- ptrace_points.c */
int target_insert_point(struct target *t, pid_t pid, enum point kind, uint64_t addr, size_t size);
int target_script_point(struct target *t, pid_t pid, enum point kind, uint64_t addr,
                        const char *text, size_t size);
/* That of the breakpoint that is there, or NULL. */
const struct agent_script *point_script(const struct process *p, enum point kind, uint64_t addr);
int target_remove_point(struct target *t, pid_t pid, enum point kind, uint64_t addr, size_t size);
bool point_inserted(const struct process *p, uint64_t addr);
/* Is there one on an int3 of the program's own? */
bool point_permanent(const struct process *p, uint64_t addr);
/* Overlays the original bytes on memory read at addr. */
void points_hide(const struct process *p, uint64_t addr, uint8_t *data, size_t size);
/* As the write of `data` at addr: what goes into memory (in place), and remembers the originals. */
void points_write(struct process *p, uint64_t addr, uint8_t *data, size_t size);
void points_copy(struct process *to, const struct process *from);
void points_lift(struct process *p);    /* out of memory, not forgotten */
void points_put_back(struct process *p); /* what points_lift took out */
void points_forget(struct process *p);  /* the memory they were in is gone */
/* Brings the thread's debug registers up to date. */
void debug_apply(struct thread *th);
void debug_clear(struct thread *th);
/* What a debug trap came from; also resets the thread's debug status. TRAP_OTHER: none of ours. */
enum trap debug_why(struct thread *th, uint64_t *addr);

#endif
