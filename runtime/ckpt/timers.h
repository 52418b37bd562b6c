/*
 * timers.h - timers of timer_create(2) and setitimer(2), saved and restored
 *
 * The application knows one of the first by the kernel's number, which must therefore be the same
 * again. The kernel counts them up in each process; a restored process makes and deletes timers
 * until it is at the right one (as CRIU does).
 */
#ifndef DBG3_CKPT_TIMERS_H
#define DBG3_CKPT_TIMERS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "runtime/base/err.h"
#include "runtime/ckpt/pending.h"
#include "runtime/image/image.h"

#define TIMERS_BLOB "dbg3.timers"

/* The blob: one after the other, by number. */
struct timer_record {
    int32_t id, clock, signal, notify; /* notify: SIGEV_* */
    uint64_t value;                    /* sigev_value */
    int32_t tid;                       /* of SIGEV_THREAD_ID */
    uint32_t unused;
    struct itimerspec left;
};

/* The rank's timers, malloc'ed; NULL: none. */
struct timer_record *timers_describe(size_t *n);

/*
 * Signals that were taken after the timers had been described: of a timer that expired in between,
 * the signal and what is left of it must not tell of the same expiry twice.
 */
void timers_settle(struct timer_record *timers, size_t ntimers,
                   const struct pending_signal *pending, size_t npending);

/* Makes them again. `tid_of` tells what number a thread has now. */
int timers_restore(const struct image_state *state, pid_t (*tid_of)(pid_t was), struct err *err);

/* What is left of those of setitimer(2), as an image has it; the same as timers_settle() and
 * timers_restore(). */
void itimers_describe(struct image_itimer left[IMAGE_NITIMERS]);
void itimers_settle(struct image_itimer left[IMAGE_NITIMERS], const struct pending_signal *pending,
                    size_t npending);
void itimers_restore(const struct image_itimer left[IMAGE_NITIMERS]);

#endif
