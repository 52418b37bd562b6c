/*
 * thread.c - the stub's threads: first crossing, safe points, ends
 */
#include "msgcounter/stub/thread.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "msgcounter/stub/storm.h"
#include "msgcounter/stub/stub.h"
#include "runtime/half/sys.h"

__thread struct stub_thread stub_thread __attribute__((tls_model("initial-exec")));

static pthread_key_t detach_key;
static uint32_t next_ordinal;

static void detach(void *arg)
{
    if (stub_thread.generation == GATE->generation && stub_thread.lower_fs)
        GATE->thread_detach(stub_thread.lower_fs);
    stub_thread.generation = 0;
}

void stub_thread_init(void)
{
    pthread_key_create(&detach_key, detach);
    stub_thread.ordinal = next_ordinal++;
}

/* Called by gate_cross when this thread has not crossed before in this process. */
void stub_thread_attach(void)
{
    struct stub_thread *t = &stub_thread;
    if (GATE->flags & GATE_FLAG_SAME_FS)
        __asm__("rdfsbase %0" : "=r"(t->lower_fs));
    else
        t->lower_fs = GATE->thread_attach();
    if (t->generation == 0 && (uint64_t)gettid() != GATE->main_tid) {
        t->ordinal = __atomic_fetch_add(&next_ordinal, 1, __ATOMIC_RELAXED);
        pthread_setspecific(detach_key, t);
    }
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
    GATE->park_arm();
    sys_signal_thread(sys_call(SYS_gettid, 0, 0, 0, 0, 0, 0), GATE_SIGNAL, GATE_SIGNAL_VALUE);
}

void stub_safe_point(void)
{
    uint32_t inside = stub_thread.inside;
    stub_thread.inside = 0;
    __asm__ volatile("" ::: "memory");
    park_here();
    __asm__ volatile("" ::: "memory");
    stub_thread.inside = inside;
}

void stub_leave_slow(void)
{
    if (stub_thread.inside == 0 && (GATE->word & GATE_WORD_STORM))
        storm_call();
    if (stub_thread.inside == 0 && (GATE->word & (GATE_WORD_PARK | GATE_WORD_FINE)))
        park_here();
}

void stub_stop(int code, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    for (;;) /* a debugger that goes on meets it again */
        GATE->stop(code, text);
}
