/*
 * pending.h - signals that have been sent to the application and not been delivered
 *
 * A parked thread blocks all signals. What comes meanwhile, and what the application blocks itself
 * (for sigwait), waits in the kernel and would be lost in a restart. It is taken from there with
 * all that it says (siginfo), saved in the image, and sent again.
 */
#ifndef DBG3_CKPT_PENDING_H
#define DBG3_CKPT_PENDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PENDING_BLOB     "dbg3.pending"
#define PENDING_PROCESS  0 /* as a tid: sent to the process, not to one of its threads */

struct pending_signal {
    int32_t tid; /* of the process that was saved, or PENDING_PROCESS */
    int32_t signo; /* 0: none here */
    uint8_t info[128];
};

/* [any FS, in the handler] Takes what waits for the calling thread alone. */
void pending_take(pid_t tid);

/* [agent, all parked] Takes what waits for any thread. All that was taken is in *n records, valid
 * until they are put back. */
const struct pending_signal *pending_take_process(size_t *n);

/* [any FS] Sends the signals of `tid` again, to the thread `to` or, for PENDING_PROCESS, to this
 * process. */
void pending_put(pid_t tid, pid_t to);

/* Asks the stub which signals come from the log in a replay. Before any thread goes on: whoever
 * traces a replay takes the first instruction in the application's half for the application's. */
void pending_ask(void);

/* Whether this one does; 0: what asks for signals. */
bool pending_logged(int sig);

/* Before a restart's threads go on: what the image says. */
void pending_load(const void *blob, size_t size);

/* [any FS, all signals blocked] What is delivered to the calling thread when it goes on: a set (bit
 * signo - 1). */
uint64_t pending_now(void);

#endif
