/*
 * threads.h - threads of the lower half
 *
 * The application's threads run lower code on a TLS of the lower half. The first thread uses the
 * lower program's own; each other gets that of a donor: a lower thread that sleeps for ever. Donors
 * are made by the agent thread on demand and reused.
 *
 * All lower threads block every signal and are listed here, so that whoever looks for the
 * application's threads knows which are not.
 */
#ifndef DBG3_HALF_THREADS_H
#define DBG3_HALF_THREADS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/base/err.h"

#define THREADS_MAX 512

/* [lower FS, once] Starts the agent thread, which runs `agent` for ever. */
int threads_start(void (*agent)(void), struct err *err);

/* [any FS] GATE->thread_attach and thread_detach. */
uint64_t threads_attach(void);
void threads_detach(uint64_t lower_fs);

/* [agent] Makes the donors that were asked for. Called when the agent's wake descriptor is
 * readable. */
void threads_serve(void);

/* [any FS] Wakes the agent; [agent] the descriptor to poll. */
void threads_wake_agent(void);
int threads_wake_fd(void);

/* [any FS] True if tid is a thread of the lower half. */
bool threads_is_lower(pid_t tid);

/* How many there are. One that ends is no longer counted a moment before it is gone. */
int threads_lower_count(void);

/* The word of the lower TLS where the crossing notes the upper FS. */
extern __thread uint64_t threads_upper_fs;

#endif
