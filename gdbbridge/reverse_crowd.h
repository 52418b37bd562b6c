/*
 * reverse_crowd.h - the threads of copies that have several
 *
 * A copy is known by its pid. What has one thread has no crowd, and nothing here costs it anything.
 * A thread's name is the same in all copies: its key, the address of its thread-local data, which
 * is its pthread_t; 0 stands for the process's first thread. A key may come again when its thread
 * has ended. The kernel's numbers differ from copy to copy.
 *
 *     process        copy of it
 *     first thread --clone--> first thread       a fork: memory, descriptors
 *     thread a                  |--clone--> a    shares them; then is given what the kernel keeps
 *     thread b                  '--clone--> b    for the original: registers, masks, lists
 *
 * [tracer]
 */
#ifndef DBG3_GDBBRIDGE_REVERSE_CROWD_H
#define DBG3_GDBBRIDGE_REVERSE_CROWD_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define CROWD_MAX 1024 /* threads */

enum member_state {
    MEMBER_STOPPED,
    MEMBER_RUNNING,
};

struct member {
    struct member *next;
    pid_t tid;
    uint64_t key;
    enum member_state state;
    bool asked;     /* to stop; it has not stopped since */
    int signal;     /* whose stop it is in, to be handed over when it runs next; or 0 */
    siginfo_t info; /* of that signal */
    bool met;       /* it has come to a stop that nobody has looked at */
    int status;     /* of that */
};

struct crowd {
    struct crowd *next;
    pid_t pid;
    struct member *members; /* the first thread first, then as they were made */
    unsigned steps; /* of members alone, since others ran */
};

/* That of a process, or NULL. */
struct crowd *crowd_of(pid_t pid);

/* A new one with the first thread only, stopped; forgotten with the process (crowd_forget). */
struct crowd *crowd_add(pid_t pid);
void crowd_forget(struct crowd *c);

/* The process's threads, all stopped, from /proc. Returns the crowd; NULL: there is one thread. */
struct crowd *crowd_look(pid_t pid);

struct member *crowd_join(struct crowd *c, pid_t tid, uint64_t key);
void crowd_leave(struct crowd *c, pid_t tid);
struct member *crowd_member(const struct crowd *c, pid_t tid);

/* A thread of a process by its key; 0: there is none (now). */
pid_t crowd_tid(pid_t pid, uint64_t key);

/* The key of a stopped thread. */
uint64_t crowd_key(pid_t pid, pid_t tid);

/* Kills the process and waits until all of it is gone. */
void crowd_kill(struct crowd *c);

/*
 * Gives `to`, a fork of the process's first thread, the threads that the process has. All of it is
 * stopped, and stays so. `syscall_at` is an instruction to make calls with. Returns 0 or -1.
 */
int crowd_copy(const struct crowd *c, pid_t to, uint64_t syscall_at);

/* ---- running */

/* What happens to a crowd while it runs. */
struct crowd_watch {
    void (*born)(void *arg, struct member *m); /* a thread has been made, and is about to run */
    void (*gone)(void *arg, struct member *m); /* one is about to end */
    void *arg;
    int request; /* ptrace's, that members go on with */
};

/* A stopped member runs, with its signal. */
void crowd_start(struct member *m, int request);
void crowd_start_all(struct crowd *c, int request);

/* A thread of the process, in the stop of PTRACE_EVENT_CLONE, has made another one, which is
 * stopped. The process may have had no crowd. NULL: what was made is no thread of it. */
struct member *crowd_birth(pid_t pid, pid_t maker);

/* Births, ends, stops that were asked for: the member goes on. Returns false for all else, and
 * leaves it stopped. */
bool crowd_status(struct crowd *c, struct member *m, int status, const struct crowd_watch *w);

/* The next status of a member; NULL: the process is gone, or this was given up (reverse_wait.h). */
struct member *crowd_wait(struct crowd *c, int *status);

/* Stops all members that run. What stopped one of them before is left for it to be looked at. */
void crowd_stop(struct crowd *c, const struct crowd_watch *w);

/*
 * The next status of a member that makes a system call, alone; if it waits for others, these run
 * until it has it. -1 as above.
 */
int crowd_wait_call(struct crowd *c, struct member *m);

/* A member is about to step, alone. Now and then others run for a moment, as it may spin for what
 * one of them does. */
void crowd_breathe(struct crowd *c, const struct member *m);

#endif
