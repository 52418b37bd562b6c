/*
 * order_job.h - the order log of this rank: which segment is written to, which ones are followed
 */
#ifndef DBG3_CKPT_ORDER_JOB_H
#define DBG3_CKPT_ORDER_JOB_H

#include <stdint.h>

#include "runtime/base/err.h"
#include "runtime/half/half.h"

/*
 * The rank is part of its job: its log begins (batch, restart) at `epoch`, or what batch has kept
 * from there on is mapped to be followed (refine). 0: the start of the program. Without a session
 * there is no log. A job that cannot keep its log runs on, after one line.
 */
void order_job_start(const struct half_env *env, uint64_t epoch);

/* An epoch is complete. [parked, between before_save and after_save] */
void order_job_epoch(uint64_t epoch);

#endif
