/*
 * restart.h - continues an image in this process
 */
#ifndef DBG3_CKPT_RESTART_H
#define DBG3_CKPT_RESTART_H

#include "runtime/half/half.h"
#include "runtime/image/image.h"

/* Restart of a job: starts MPI, finds this rank's image in env->epoch, continues it. */
void restart_run(const struct half_env *env) __attribute__((noreturn));

/*
 * The steps that a replay shares. restart_memory: maps the image, tells the kernel (brk, auxv),
 * restores files and signal dispositions. Prints nothing; -1 with *err.
 */
int restart_memory(struct image *image, struct err *err);

/* Calls a function of the stub on the main thread's FS (the caller's is put back). */
int restart_on_upper_fs(const struct image_state *state, int (*fn)(void));

/* Tells the stub that it goes on in a new process (gate_stub.after_save). */
void restart_after_save(const struct image_state *state);

/* Recreates all threads but the main one; they stay stopped until restart_go(). */
int restart_threads(const struct image_state *state, struct err *err);

/* Continues the calling thread as the image's main thread, and the others with it. */
void restart_go(const struct image_state *state) __attribute__((noreturn));

#endif
