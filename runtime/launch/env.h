/*
 * env.h - environment variables between the dbg3 command, the launch preload and the lower program
 *
 * The dbg3 command sets the first group for the launcher; the preload adds the second when it
 * starts a rank; the lower program removes both before it builds the application's environment.
 */
#ifndef DBG3_LAUNCH_ENV_H
#define DBG3_LAUNCH_ENV_H

#define ENV_PREFIX "DBG3_"

/* Set by dbg3 batch, restart, refine. */
#define ENV_RUNTIME      "DBG3_RUNTIME"      /* folder of dbg3-lower, lib/libmpich.so.12 */
#define ENV_SESSION      "DBG3_SESSION"      /* absolute path of the session folder */
#define ENV_PHASE        "DBG3_PHASE"        /* batch, restart, refine */
#define ENV_COORD        "DBG3_COORD"        /* host:port */
#define ENV_TOKEN        "DBG3_TOKEN"
#define ENV_EPOCH        "DBG3_EPOCH"        /* restart, refine: epoch folder; none: the start */
#define ENV_EVERY_N_MSGS "DBG3_EVERY_N_MSGS"
#define ENV_KEEP         "DBG3_KEEP"
#define ENV_OVERHEAD     "DBG3_OVERHEAD"     /* refine: percent of the time; none: any */
#define ENV_ORDER_WAIT   "DBG3_ORDER_WAIT"   /* refine: ms to wait for a job that stands still */
#define ENV_STORM        "DBG3_STORM"        /* the user's own, with a seed: "CALLS:SEED" */
#define ENV_LOG          "DBG3_LOG"          /* the user's own, for the application's children */

/* Set by the preload for the lower program. */
#define ENV_EXE    "DBG3_RANK_EXE"     /* the application's file */
#define ENV_UNSET  "DBG3_RANK_UNSET"   /* names that the preload added, separated by ':' */
#define ENV_STACK  "DBG3_RANK_STACK"   /* soft stack limit of the user, in bytes, or "unlimited" */
#define ENV_USER_PRELOAD "DBG3_RANK_PRELOAD" /* LD_PRELOAD without ours */

/* File name of the preload; how it recognises itself in LD_PRELOAD. */
#define LAUNCH_PRELOAD_NAME "libdbg3-launch.so"

#endif
