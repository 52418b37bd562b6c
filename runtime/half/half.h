/*
 * half.h - start of a lower program: the gate, the steering, the application's environment
 *
 * Common to the lower program with MPI (lower_main.c) and the one without (replay/replay_main.c).
 */
#ifndef DBG3_HALF_HALF_H
#define DBG3_HALF_HALF_H

#include <stdbool.h>
#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/half/load.h"

/* What the environment says about this rank (runtime/launch/env.h). Strings live as long as the
 * process. */
struct half_env {
    const char *exe;         /* the application's file */
    const char *runtime;     /* folder of our programs and libraries */
    const char *session;     /* absolute path, or NULL: no session (the program just runs) */
    const char *phase;       /* "batch", "restart", "refine", or NULL */
    const char *epoch;       /* folder to restart from, or NULL */
    bool spawned;            /* by MPI_Comm_spawn: from its start, whatever the job began from */
    const char *coord;       /* host:port, or NULL */
    const char *token;
    uint64_t stack_size;     /* for the application's main thread */
    uint64_t stack_limit;    /* soft limit to give back: RLIM_INFINITY or bytes */
    uint64_t every_n_msgs;
    uint64_t keep;
    uint64_t overhead; /* of fine checkpoints, percent; 0: any */
    uint64_t order_wait_ms;  /* refine: how long to wait for what batch had; 0: runs free */
    const char *storm;       /* "CALLS:SEED", or NULL: none */
};

/* Reads the environment. Returns 0, -1 with *err if a variable that must be there is missing. */
int half_env_read(struct half_env *env, char **envp, struct err *err);

/* The environment the application shall see, plus LD_PRELOAD of the stub. malloc'ed. */
char **half_env_for_app(const struct half_env *env, char **envp, struct err *err);

/* Refuses machines that cannot do it, maps the gate, steers and fences. Single-threaded, lower
 * FS. */
int half_prepare(uint32_t mode, uint32_t ncalls, struct err *err);

/* Points GATE->kernel_vdso and GATE->vdso at the kernel's functions. */
void half_vdso(void);

/* In record and replay: readings of the clock go to the stub. The stub is known by now. */
void half_vdso_of_stub(void);

/* Gives the calling thread the program's name, as execve would (ps, GDB). */
void half_name(const char *program);

/* Starts the application. Does not return. */
void half_enter(const struct load *load) __attribute__((noreturn));

/* Prints "dbg3: <text>" and ends the process with code 125, so that no rank starts halfway. */
void half_die(const struct err *err) __attribute__((noreturn));
#define HALF_EXIT 125

#endif
