/*
 * thread.h - what the stub keeps for each thread of the application, and the crossing
 *
 * The struct lives in the stub's initial-exec TLS, so that reaching it costs one %fs-relative load.
 * Its offsets are known to cross.S.
 */
#ifndef DBG3_STUB_THREAD_H
#define DBG3_STUB_THREAD_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "msgcounter/log/log_format.h"
#include "msgcounter/stub/schedule.h"
#include "runtime/half/gate.h"

/* Replay: the event that a thread takes next, or skips because it is another thread's. */
struct stub_place {
    struct log_position at;
    uint64_t taken; /* of an event that stands for several calls: how many of them */
};

struct stub_thread {
    /* the FS base to use in the lower half; valid if generation is GATE->generation */
    uint64_t lower_fs;
    uint32_t generation;
    uint32_t inside;     /* depth of stub code: while > 0 the park signal defers to stub_leave() */
    uint32_t ordinal;    /* stub_thread_ordinal() */
    uint32_t ending; /* rounds of destructors of thread-local data that have begun */
    uint32_t cursor_valid; /* replay: `cursor` holds this thread's place in the log */
    struct stub_place cursor;
    uint64_t call_site; /* where its MPI call, or the last one it made, returns to */
    /* CLOCK_MONOTONIC ns when the call that waits with a timeout began, 0: none (wait.c) */
    uint64_t wait_since;
    struct timespec wait_rest; /* of such a call that a checkpoint has interrupted */
    uint32_t named;    /* `ordinal` is known */
    uint32_t children; /* threads that this one has made so far */
    struct order_thread *order; /* order.c's */
    /* The byte that the kernel looks at when the application makes a system call (system.c), and
     * whether it does for this thread. */
    volatile uint8_t dispatch;
    uint8_t dispatched;
    uint8_t creating; /* pthread_create() makes a thread */
    uint8_t outside;  /* in a library's wait, without a turn (openmp.c) */
    uint8_t region;   /* in that library, which may make threads that begin outside */
    uint8_t has_turn; /* schedule.c */
    uint8_t parking;  /* at a safe point, where `inside` is 0 in a call, too */
    uint8_t in_call; /* signal_place.c: a system call of the application waits */
    uint8_t writing; /* in the lower half, to write the log */
    uint8_t ended; /* refine: a signal has ended the call that it is about to make (system.c) */
    uint32_t arrived; /* replay: messages that its last event has brought so far, for debuggers */
    void *handler; /* frame of an application's handler that came at no certain place; or NULL */
    void *late;    /* the frame of one that is replayed with another stack; or NULL */
    uint64_t mpi_calls; /* that it has begun */
    uint64_t calls;  /* how many system calls of the application have ended */
    uint64_t behind; /* where the last one goes on */
    uint64_t mask;   /* of signals, with which it went on then (signal_forward.h) */
    uint64_t clock_mask; /* clock.c: of signals, when one came while it read a clock */
    /* Replay: while it takes what answers a system call or instruction (system_take()): the frame
     * of the application, else NULL, and where that makes it. */
    void *answering;
    uint64_t before_call;
    uint64_t call_behind; /* replay: where a call that handlers run in goes on (signal_in_call()) */
};

extern __thread struct stub_thread stub_thread __attribute__((tls_model("initial-exec")));

/*
 * The number of the calling thread, which is the same whenever the rank runs again: threads may
 * reach MPI in any order, but each makes its own in the order of its program. 0 is the main
 * thread, n the nth that the main thread made; those that other threads made have numbers from
 * 2^31 on that follow from their makers'. A thread that did not come through pthread_create is
 * numbered from 2^30 on when it first meets the stub.
 */
uint32_t stub_thread_ordinal(void);

/* True once the application has made a thread; it is about to. */
extern bool stub_threads_made;
void stub_thread_is_made(void);

/* stub_alloc() and stub_free() outside of the stub's calls, where a checkpoint must not fall. */
void *stub_thread_alloc(size_t size) __attribute__((malloc, returns_nonnull));
void stub_thread_free(void *p);

/* Calls `fn` in the lower half with n arguments on the lower FS. Returns what fn returns (rax).
 * No TLS, errno or signal handler of the application runs in between. */
uint64_t gate_cross(void *fn, const uint64_t *args, uint64_t n);

extern const char gate_cross_returned[]; /* behind its call, see gate_stub.crossing */

/* The same symbol for functions that return a double (MPI_Wtime). */
double gate_cross_double(void *fn, const uint64_t *args, uint64_t n);

/* For thunks that the lower half calls: runs `fn` of the upper half with six arguments on the upper
 * FS of the crossing that is in progress, then goes back to the lower FS. */
uint64_t gate_up(void *fn, uint64_t a0, uint64_t a1, uint64_t a2, uint64_t a3, uint64_t a4,
                 uint64_t a5);

/* Shorthand: cross(GATE->recv, a, b, c). */
#define cross(fn, ...)                                                                             \
    gate_cross((void *)(fn), (const uint64_t[]){__VA_ARGS__},                                      \
               sizeof((const uint64_t[]){__VA_ARGS__}) / 8)

/* Around every entry of the stub, where other threads may have the turn. stub_leave() goes to the
 * safe point when GATE->word asks for it. */
static inline void stub_enter(void)
{
    if (__builtin_expect(schedule_on, 0) && stub_thread.inside == 0)
        schedule_give();
    stub_thread.inside++;
    __asm__ volatile("" ::: "memory");
}

void stub_leave_slow(void);
void stub_leave_in_turn(void);

static inline void stub_leave(void)
{
    __asm__ volatile("" ::: "memory");
    stub_thread.inside--;
    if (__builtin_expect(GATE->word != 0, 0))
        stub_leave_slow();
    if (__builtin_expect(schedule_on, 0) && stub_thread.inside == 0)
        stub_leave_in_turn();
}

/* The library, recording and replay leave different bytes on the stack, and some get into what a
 * program sends: the padding of a struct that it makes there next, an array of which it fills a
 * part. This makes 4 KiB below its caller's frame zeros. Not on a handler's stack, which may be
 * smaller. */
void stack_wipe(void);

/* In a wait loop that got GATE_EAGAIN: the state of the call must be wholly in the request table
 * or in local variables of upper-half frames. Parks if asked to (epoch, fine checkpoint); may
 * return in another process (after a restart), where real handles have changed: look them up
 * again. */
void stub_safe_point(void);

/* Prints one line for the user on standard error and ends the rank (in replay: stops it) with
 * `code`. */
void stub_stop(int code, const char *fmt, ...) __attribute__((noreturn, format(printf, 2, 3)));

/* False in a process that has no gate (a child of the application): every call is then refused. */
extern bool stub_active;

#endif
