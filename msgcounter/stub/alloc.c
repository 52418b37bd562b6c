/*
 * alloc.c - memory of the stub: size classes carved from anonymous chunks
 *
 * A block's header names its class; freed blocks go to their class's list and never back to the
 * kernel, except large ones, which are mappings of their own. No libc: mmap is called directly.
 *
 * A replay needs other tables than the recording had. So that the application's memory is at the
 * same addresses all the same, the stub's lies apart, where the kernel places nothing on its own,
 * and what the application asks MPI for is a heap of its own beside the application's mappings.
 */
#include "msgcounter/stub/alloc.h"

#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "msgcounter/stub/thread.h"
#include "runtime/half/sys.h"

#define CHUNK      (1ul << 20)
#define APART      0x300000000000ul /* far from mappings, brk and sanitizers' shadows */
#define APART_END  0x500000000000ul
#define CLASSES    13 /* 32 bytes << class, header included: up to 128 KiB */
#define LARGE      CLASSES
#define SMALLEST   32ul
#define HEADER     16ul

struct block {
    uint64_t size; /* usable bytes */
    uint32_t class;
    uint32_t pad;
};

struct heap {
    void *(*map)(size_t size);
    struct stub_lock lock; /* threads that call no MPI are made and end beside it */
    struct free_block {
        struct free_block *next;
    } *free[CLASSES];
    unsigned char *at, *end; /* the present chunk */
};

static void *map(size_t size);
static void *map_apart(size_t size);
static struct heap own = {.map = map_apart}, application = {.map = map};

bool stub_threads_multiple;

void stub_lock_slow(struct stub_lock *l)
{
    while (__atomic_test_and_set(&l->held, __ATOMIC_ACQUIRE))
        for (int spins = 0; l->held; spins++)
            if (spins > 100)
                sys_call(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
}

/* Of the application's heap, and of what else it gets, which threads take at other times. */
#define HEAP_FIRST  0x5c0000000000ul
#define PLACE_FIRST 0x600000000000ul
#define PLACE_END   0x680000000000ul

static void *place(uint64_t *next, uint64_t end, size_t size)
{
    if (GATE->mode == GATE_LIVE)
        return NULL;
    uint64_t at = __atomic_fetch_add(next, (size + 4095) & ~4095ul, __ATOMIC_RELAXED);
    return at < end ? (void *)at : NULL;
}

void *stub_place(size_t size)
{
    static uint64_t next = PLACE_FIRST;
    return place(&next, PLACE_END, size);
}

static void *map(size_t size)
{
    static uint64_t next = HEAP_FIRST;
    void *p = sys_mmap(place(&next, PLACE_FIRST, size), size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sys_failed((long)p))
        stub_stop(125, "dbg3: no memory for %zu bytes of the stub's tables", size);
    return p;
}

static void *map_apart(size_t size)
{
    static uint64_t next = APART;
    for (int tries = 0; tries < 1000; tries++) {
        uint64_t at = __atomic_fetch_add(&next, size, __ATOMIC_RELAXED);
        if (at + size > APART_END) {
            __atomic_store_n(&next, APART, __ATOMIC_RELAXED);
            continue;
        }
        void *p = sys_mmap((void *)at, size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (!sys_failed((long)p))
            return p;
    }
    return map(size);
}

static unsigned class_of(size_t size)
{
    unsigned c = 0;
    while ((SMALLEST << c) < size && c < LARGE)
        c++;
    return c;
}

static struct block *carve(struct heap *h, unsigned class)
{
    size_t size = SMALLEST << class;
    if ((size_t)(h->end - h->at) < size) {
        h->at = h->map(CHUNK);
        h->end = h->at + CHUNK;
    }
    struct block *b = (struct block *)h->at;
    h->at += size;
    return b;
}

static void *heap_alloc(struct heap *h, size_t size)
{
    unsigned class = class_of(size + HEADER);
    if (class == LARGE) {
        size_t whole = (size + HEADER + 4095) & ~4095ul;
        struct block *b = h->map(whole);
        *b = (struct block){.size = whole - HEADER, .class = LARGE};
        return b + 1;
    }
    stub_lock_slow(&h->lock);
    struct block *b;
    struct free_block *f = h->free[class];
    if (f) {
        h->free[class] = f->next;
        b = (struct block *)f - 1;
    } else {
        b = carve(h, class);
    }
    stub_unlock_slow(&h->lock);
    *b = (struct block){.size = (SMALLEST << class) - HEADER, .class = class};
    return memset(b + 1, 0, b->size); /* all of it: stub_realloc grows in place */
}

static void heap_free(struct heap *h, void *p)
{
    if (!p)
        return;
    struct block *b = (struct block *)p - 1;
    if (b->class == LARGE) {
        sys_call(SYS_munmap, (uint64_t)b, b->size + HEADER, 0, 0, 0, 0);
        return;
    }
    struct free_block *f = p;
    stub_lock_slow(&h->lock);
    f->next = h->free[b->class];
    h->free[b->class] = f;
    stub_unlock_slow(&h->lock);
}

void *stub_alloc(size_t size)
{
    return heap_alloc(&own, size);
}

void *application_alloc(size_t size)
{
    return heap_alloc(&application, size);
}

void application_free(void *p)
{
    heap_free(&application, p);
}

void *stub_realloc(void *p, size_t size)
{
    if (!p)
        return stub_alloc(size);
    struct block *b = (struct block *)p - 1;
    if (size <= b->size)
        return p;
    /* Doubling keeps growing arrays linear. */
    void *q = stub_alloc(size < 2 * b->size ? 2 * b->size : size);
    memcpy(q, p, b->size);
    stub_free(p);
    return q;
}

void stub_free(void *p)
{
    heap_free(&own, p);
}

void *stub_memdup(const void *src, size_t size)
{
    return memcpy(stub_alloc(size), src, size);
}

char *stub_strdup(const char *text)
{
    return stub_memdup(text, strlen(text) + 1);
}

static void *layout_memory(void *arg, size_t size)
{
    return stub_alloc(size);
}

static void layout_release(void *arg, void *p)
{
    stub_free(p);
}

const struct layout_alloc stub_layout_alloc = {layout_memory, layout_release, NULL};
