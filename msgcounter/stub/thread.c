/*
 * thread.c - the stub's threads: first crossing, safe points, ends
 */
#include "msgcounter/stub/thread.h"

#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/count.h"
#include "msgcounter/stub/pid.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/signal.h"
#include "msgcounter/stub/signal_place.h"
#include "msgcounter/stub/storm.h"
#include "msgcounter/stub/stub.h"
#include "msgcounter/stub/system.h"
#include "msgcounter/stub/win_watch.h"
#include "runtime/half/sys.h"

#define EXPORT __attribute__((visibility("default")))

__thread struct stub_thread stub_thread __attribute__((tls_model("initial-exec")));

static pthread_key_t detach_key;
static uint32_t nstrangers;
static pthread_t main_thread;

/* The application's destructors of thread-local data may call MPI and unlock mutexes: the end comes
 * when they have had their rounds (pthread_key_create(3)). */
static void detach(void *arg)
{
    if (stub_thread.outside) {
        stub_thread.outside = 0;
        schedule_get_in_application();
    }
    if (++stub_thread.ending < PTHREAD_DESTRUCTOR_ITERATIONS) {
        pthread_setspecific(detach_key, &stub_thread);
        return;
    }
    if (stub_thread.generation == GATE->generation && stub_thread.lower_fs)
        GATE->thread_detach(stub_thread.lower_fs);
    stub_thread.generation = 0;
    stub_signal_thread_ended();
    signal_place_thread_ends();
    pid_thread_ended();
    if (!stub_thread.dispatched)
        schedule_threads(-1);
}

void stub_thread_init(void)
{
    pthread_key_create(&detach_key, detach);
    stub_thread.named = 1;
    main_thread = pthread_self();
    signal_place_thread_begins(true);
}

/* ---- starts ---- */

#define ORDINAL_STRANGER (1u << 30)
#define ORDINAL_DEEP     (1u << 31)

bool stub_threads_made;

void stub_thread_is_made(void)
{
    stub_threads_made = true;
    win_watch_decide();
}

uint32_t stub_thread_ordinal(void)
{
    struct stub_thread *t = &stub_thread;
    if (__builtin_expect(!t->named, 0)) {
        t->ordinal = ORDINAL_STRANGER + __atomic_fetch_add(&nstrangers, 1, __ATOMIC_RELAXED);
        t->named = 1;
    }
    return t->ordinal;
}

/* Of the thread that the calling one makes next. */
static uint32_t next_child(void)
{
    uint32_t parent = stub_thread_ordinal(), n = stub_thread.children + 1;
    if (parent == 0)
        return n;
    uint64_t mixed = ((uint64_t)parent << 32 | n) * 0x9e3779b97f4a7c15u;
    return ORDINAL_DEEP | (uint32_t)(mixed >> 33);
}

void *stub_thread_alloc(size_t size)
{
    stub_thread.inside++;
    void *p = stub_alloc(size);
    stub_thread.inside--;
    return p;
}

void stub_thread_free(void *p)
{
    stub_thread.inside++;
    stub_free(p);
    stub_thread.inside--;
}

struct start {
    void *(*fn)(void *);
    void *arg;
    uint32_t ordinal;
    uint8_t outside; /* stub_thread.outside to begin with */
    bool masked;     /* until it is ready for signals; `mask` is what it gets then */
    uint64_t mask;
};

static void *start_thread(void *arg)
{
    struct start start = *(struct start *)arg;
    stub_thread_free(arg);
    stub_thread.outside = start.outside;
    stub_thread.ordinal = start.ordinal;
    stub_thread.named = 1;
    pthread_setspecific(detach_key, &stub_thread);
    stub_signal_thread_started();
    signal_place_thread_begins(false);
    system_thread_started();
    if (start.masked)
        system_mask(start.mask);
    if (!start.outside)
        schedule_get(NULL);
    pid_thread_started();
    if (GATE->mode != GATE_LIVE)
        stack_wipe();
    return start.fn(start.arg);
}

static bool has_mask(const pthread_attr_t *attr)
{
    sigset_t set;
    return attr && pthread_attr_getsigmask_np(attr, &set) == 0;
}

/* A thread begins with the mask of its maker, or that of `attr`. A signal that came before it is
 * ready would have no place in the recording: it is made with all blocked. */
EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *),
                          void *arg)
{
    static void *known;
    int (*next)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *) =
        stub_next("pthread_create", &known);
    if (!stub_active)
        return next(thread, attr, fn, arg);
    struct start *start = stub_thread_alloc(sizeof *start);
    bool masked = stub_thread.dispatched && !has_mask(attr);
    uint64_t mask = masked ? system_mask(~(1ul << (GATE_SIGNAL - 1))) : 0;
    *start = (struct start){fn, arg, next_child(), stub_thread.region, masked, mask};
    signal_place(0);
    bool first = !stub_threads_made;
    stub_thread_is_made();
    if (first && stub_thread.dispatched)
        schedule_begin();
    schedule_threads(1);
    stub_thread.creating = 1;
    int rc = next(thread, attr, start_thread, start);
    stub_thread.creating = 0;
    if (masked)
        system_mask(mask);
    if (rc == 0) {
        stub_thread.children++;
        return 0;
    }
    schedule_threads(-1);
    stub_thread_free(start);
    return rc;
}

/* Called by gate_cross when this thread has not crossed before in this process. */
void stub_thread_attach(void)
{
    struct stub_thread *t = &stub_thread;
    if (GATE->flags & GATE_FLAG_SAME_FS)
        __asm__("rdfsbase %0" : "=r"(t->lower_fs));
    else
        t->lower_fs = GATE->thread_attach();
    stub_thread_ordinal();
    if (t->generation == 0 && pthread_self() != main_thread)
        pthread_setspecific(detach_key, t);
    t->generation = GATE->generation;
}

/*
 * The thread sends itself the park signal here, in the upper half, because the frame that the
 * kernel makes must lead back to code that is saved with it. (A test harness has no such signal and
 * does otherwise.)
 */
static void park_here(void)
{
    if (GATE->safe_point) {
        GATE->safe_point();
        return;
    }
    stub_thread.parking = 1;
    GATE->park_arm();
    sys_signal_thread(sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0), GATE_SIGNAL, GATE_SIGNAL_VALUE);
    stub_thread.parking = 0;
}

void stub_safe_point(void)
{
    if (recording())
        signal_place_before_save();
    uint32_t inside = stub_thread.inside;
    uint64_t state = counters_get(&count.file->state); /* what it goes on with */
    stub_thread.inside = 0;
    __asm__ volatile("" ::: "memory");
    park_here();
    __asm__ volatile("" ::: "memory");
    stub_thread.inside = inside;
    counters_set(&count.file->state, state);
}

void stub_leave_slow(void)
{
    if (stub_thread.inside == 0 && (GATE->word & GATE_WORD_STORM))
        storm_call();
    if (stub_thread.inside == 0 && recording())
        signal_place_before_save();
    if (stub_thread.inside == 0 && (GATE->word & (GATE_WORD_PARK | GATE_WORD_FINE)))
        park_here();
    if (stub_thread.inside == 0 && (GATE->word & GATE_WORD_SIGNAL) && !schedule_on)
        signal_place_left();
}

/* Back to the application, when the turn has come. */
void stub_leave_in_turn(void)
{
    schedule_get(NULL);
    if (schedule_on)
        signal_place_left();
}

void stub_stop(int code, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    while (!GATE->stop(code, text) || !stub_thread.answering)
        ; /* a debugger that goes on meets it again */
    system_go_before_call();
}
