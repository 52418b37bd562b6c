/*
 * agent.h - the rank's end of the session: coordinator, counters, logs
 *
 * The agent is a thread of the lower half. It speaks with the coordinator at any moment, also while
 * the application computes, waits or is in a collective; it parks the application's threads, has
 * them drain, writes images. The application meets it only in the gate's words and, while an epoch
 * is being agreed on, before a collective.
 */
#ifndef DBG3_CKPT_AGENT_H
#define DBG3_CKPT_AGENT_H

#include "runtime/base/err.h"
#include "runtime/half/half.h"
#include "runtime/image/image.h"

/* Fills the gate's job services. Once, at the start. */
void agent_init(const struct half_env *env);

/* The thread's body. */
void agent_run(void);

/* The application has been loaded: what images say about it. */
void agent_app_loaded(const struct load *load);

/* After a restart: maps counters, connects to the coordinator. agent_running: the rank is about to
 * go on. */
int agent_restarted(const struct image_state *state, struct err *err);
void agent_running(void);

/*
 * The rank cannot be continued from its image: tells the coordinator why, as rank `rank` of `size`
 * (size 0: not known yet), or where there is none the user. Ends the process.
 */
void agent_refuse(int rank, int size, const struct err *why) __attribute__((noreturn));

/* [app thread, lower FS] Tells the coordinator that this rank fails, and waits until it is told
 * (at most some seconds). Strings may be NULL. */
struct agent_failure {
    int kind; /* enum proto_failure */
    uint64_t code, pc, address;
    const char *text, *image;
};
void agent_failure(const struct agent_failure *failure);

/* Folder of failure images, "" without a session. */
const char *agent_failure_folder(void);

/* A fine checkpoint was made: told to the coordinator in batches. */
void agent_fine(uint64_t number, uint64_t event, uint64_t bytes, uint64_t us);

/* Absolute path of the session, NULL if the rank runs without one. */
const char *agent_session(void);

#endif
