/*
 * alloc.h - memory of the stub
 *
 * Never the application's malloc: the stub may run in a signal handler that interrupted it. Blocks
 * come from chunks that are mapped anonymously below GATE_ADDR, so they are saved in checkpoints
 * and stay at their address. A stub without memory cannot go on: allocation stops the rank rather
 * than return NULL.
 */
#ifndef DBG3_STUB_ALLOC_H
#define DBG3_STUB_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

#include "msgcounter/layout/layout.h"

/* Zeroed, 16-aligned. Never NULL, also for 0 bytes. */
void *stub_alloc(size_t size) __attribute__((malloc, returns_nonnull));

/* A block of the new size with the old contents; what is added is zero. p may be NULL. */
void *stub_realloc(void *p, size_t size) __attribute__((returns_nonnull));

/* NULL is fine. */
void stub_free(void *p);

/* The same for what the application asks MPI for: at the same addresses in recording and replay. */
void *application_alloc(size_t size) __attribute__((malloc, returns_nonnull));
void application_free(void *p);

/* A copy of `size` bytes, of a text. */
void *stub_memdup(const void *src, size_t size) __attribute__((malloc, returns_nonnull));
char *stub_strdup(const char *text) __attribute__((malloc, returns_nonnull));

/* The same memory for msgcounter/layout. */
extern const struct layout_alloc stub_layout_alloc;

/* Set once the application has got MPI_THREAD_MULTIPLE: from then on the stub's tables are
 * locked. */
extern bool stub_threads_multiple;

/* A spin lock that costs a load when there is one MPI thread at a time. Never held across a
 * safe point, a crossing or a callback. */
struct stub_lock {
    volatile char held;
};

/* Also where one thread at a time may call MPI: of what other threads come by, too. */
void stub_lock_slow(struct stub_lock *l);

static inline void stub_unlock_slow(struct stub_lock *l)
{
    __atomic_clear(&l->held, __ATOMIC_RELEASE);
}

static inline void stub_lock(struct stub_lock *l)
{
    if (__builtin_expect(stub_threads_multiple, 0))
        stub_lock_slow(l);
}

static inline void stub_unlock(struct stub_lock *l)
{
    if (__builtin_expect(stub_threads_multiple, 0))
        stub_unlock_slow(l);
}

/* Where a mapping of the stub's own should lie, for mmap(2): while calls are recorded or replayed,
 * away from where the kernel puts the application's, whose places a replay must find free. Else
 * NULL. */
void *stub_place(size_t size);

#endif
