/*
 * coll.c - collectives as the coordinated cut sees them
 *
 * E and "inside" of a communicator are one word, so that the agent reads both at the same moment:
 *
 *      63                                    8 7        0
 *     +---------------------------------------+----------+
 *     | E: entered or started so far          | inside   |
 *     +---------------------------------------+----------+
 *
 * Words stay where they are while anybody may use them. The agent reads all of them at any moment,
 * without a lock: they stand in chunks that are never given back, and a word that was freed and
 * taken for another thing shows by its gid. Who makes and frees things finds them by gid, under a
 * lock.
 */
#include "msgcounter/stub/coll.h"

#include "call_hand.h"
#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/count.h"
#include "msgcounter/stub/grequest.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/request.h"

#define ENTERED_ONE 256u
#define INSIDE      255u
#define FREED_KEPT  1024
#define CHUNK       126 /* slots: about a page */

struct slot {
    uint64_t gid; /* 0: not in use */
    uint64_t word;
    uint64_t members;  /* as in gate_coll */
    struct slot *next; /* with the same hash, or free, too */
};

struct chunk {
    struct chunk *next;
    struct slot slot[CHUNK];
};

static struct chunk *chunks; /* the agent's list: only ever grows */

static struct {
    struct stub_lock lock;
    struct slot *free;
    struct slot **bucket;
    uint32_t room; /* buckets: a power of two */
    uint32_t used; /* slots in them */
} by_gid;

static struct slot **bucket_of(uint64_t gid)
{
    uint32_t hash = (uint32_t)((gid * 0x9e3779b97f4a7c15u) >> 32);
    return &by_gid.bucket[hash & (by_gid.room - 1)];
}

/* The link to the slot of a gid, or to where there is none. */
static struct slot **find(uint64_t gid)
{
    struct slot **p = bucket_of(gid);
    while (*p && (*p)->gid != gid)
        p = &(*p)->next;
    return p;
}

static void more_buckets(void)
{
    struct slot **before = by_gid.bucket;
    uint32_t room = by_gid.room;
    by_gid.room = room ? 2 * room : 16;
    by_gid.bucket = stub_alloc(by_gid.room * sizeof *by_gid.bucket);
    for (uint32_t i = 0; i < room; i++)
        for (struct slot *s = before[i], *next; s; s = next) {
            struct slot **p = bucket_of(s->gid);
            next = s->next;
            s->next = *p;
            *p = s;
        }
    stub_free(before);
}

static void more_slots(void)
{
    struct chunk *c = stub_alloc(sizeof *c);
    c->next = chunks;
    for (unsigned i = 0; i < CHUNK; i++) {
        c->slot[i].next = by_gid.free;
        by_gid.free = &c->slot[i];
    }
    __atomic_store_n(&chunks, c, __ATOMIC_RELEASE);
}

static struct slot *slot_add(uint64_t gid, uint64_t members)
{
    stub_lock(&by_gid.lock);
    if (by_gid.used == by_gid.room)
        more_buckets();
    if (!by_gid.free)
        more_slots();
    struct slot **p = find(gid), *s = *p;
    if (!s) {
        s = *p = by_gid.free;
        by_gid.free = s->next;
        by_gid.used++;
        s->next = NULL;
        __atomic_store_n(&s->members, members, __ATOMIC_RELAXED);
        __atomic_store_n(&s->word, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&s->gid, gid, __ATOMIC_RELEASE);
    }
    stub_unlock(&by_gid.lock);
    return s;
}

/* With the lock. The agent that meets what the slot is next used for meets another gid, too. */
static void forget(uint64_t gid)
{
    struct slot **p = by_gid.room ? find(gid) : NULL, *s = p ? *p : NULL;
    if (!s)
        return;
    *p = s->next;
    __atomic_store_n(&s->gid, 0, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_RELEASE);
    s->next = by_gid.free;
    by_gid.free = s;
    by_gid.used--;
}

/* 0 of one with members outside of the job's world: there is no epoch while it is there. */
static uint64_t members_of(const struct comm *c)
{
    return c->foreign ? 0 : (uint64_t)(c->size + c->remote_size);
}

/* The communicator keeps it: a copy of one, with another gid, may have come by the wrong one. */
static inline struct slot *slot_of(struct comm *c)
{
    struct slot *s = __atomic_load_n(&c->slot, __ATOMIC_RELAXED);
    if (__builtin_expect(!s || s->gid != c->gid, 0)) {
        s = slot_add(c->gid, members_of(c));
        __atomic_store_n(&c->slot, s, __ATOMIC_RELAXED);
    }
    return s;
}

/* What a group counts (coll_comm_made). */
enum group_word { GROUP_MADE = 1, GROUP_FREED };

static struct slot *group_slot(const struct comm *c, enum group_word which)
{
    return slot_add(comm_name(c->group, which), members_of(c));
}

/* The word first, then the question whether a cut is wanted: see coll.h. */
static void group_count(const struct comm *c, enum group_word which, uint64_t n)
{
    struct slot *s = group_slot(c, which);
    uint64_t word = __atomic_add_fetch(&s->word, n * ENTERED_ONE, __ATOMIC_SEQ_CST);
    if (__builtin_expect(GATE->word & GATE_WORD_INTENT, 0))
        cross(GATE->coll_count, s->gid, s->members, word / ENTERED_ONE);
}

void coll_known(const struct comm *c, bool for_good)
{
    if (members_of(c) < 2)
        return;
    struct slot *s = slot_add(c->gid, for_good ? members_of(c) : 0);
    /* The epoch may have begun before: then it waits for all members to list this one. */
    if (for_good && __atomic_load_n(&GATE->word, __ATOMIC_SEQ_CST) & GATE_WORD_INTENT)
        cross(GATE->coll_count, s->gid, s->members, 0);
}

void coll_comm_made(const struct comm *c)
{
    if (members_of(c) < 2 || replaying())
        return;
    group_slot(c, GROUP_FREED);
    coll_known(c, false);
    group_count(c, GROUP_MADE, 1);
}

void coll_comm_freed(struct comm *c)
{
    if (members_of(c) < 2 || replaying() || c->folded)
        return;
    c->folded = true;
    stub_lock(&by_gid.lock);
    const struct slot *s = by_gid.room ? *find(c->gid) : NULL;
    uint64_t entered = s ? s->word / ENTERED_ONE : 0;
    stub_unlock(&by_gid.lock);
    group_count(c, GROUP_FREED, entered);
    stub_lock(&by_gid.lock);
    forget(c->gid);
    stub_unlock(&by_gid.lock);
}

/* The latest freed persistent collectives, a ring. */
static uint64_t freed[FREED_KEPT];
static uint32_t nfreed;

void coll_forget_later(const struct comm *c)
{
    stub_lock(&by_gid.lock);
    forget(freed[nfreed % FREED_KEPT]);
    freed[nfreed++ % FREED_KEPT] = c->gid;
    stub_unlock(&by_gid.lock);
}

void coll_forget_freed(void)
{
    for (uint32_t i = 0; i < FREED_KEPT; i++) {
        forget(freed[i]);
        freed[i] = 0;
    }
}

/* What a slot says at one moment. False: it is not in use. */
static bool read_slot(const struct slot *s, struct gate_coll *out)
{
    for (;;) {
        uint64_t gid = __atomic_load_n(&s->gid, __ATOMIC_ACQUIRE);
        uint64_t word = __atomic_load_n(&s->word, __ATOMIC_SEQ_CST);
        uint64_t members = __atomic_load_n(&s->members, __ATOMIC_RELAXED);
        if (!gid)
            return false;
        *out = (struct gate_coll){.gid = gid,
                                  .entered = word / ENTERED_ONE,
                                  .members = (uint32_t)members,
                                  .inside = (uint32_t)(word & INSIDE)};
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(&s->gid, __ATOMIC_RELAXED) == gid)
            return true;
    }
}

int coll_list(struct gate_coll *out, int max)
{
    int n = 0;
    for (const struct chunk *c = __atomic_load_n(&chunks, __ATOMIC_ACQUIRE); c; c = c->next)
        for (unsigned i = 0; i < CHUNK && n < max; i++)
            n += read_slot(&c->slot[i], &out[n]);
    return n;
}

/* A communicator of one member needs nobody's leave. */
static bool agreed_on(const struct comm *c)
{
    return c && (members_of(c) > 1 || c->alone) && !replaying();
}

/* One that has come into being while an epoch was under way: that stops all ranks, finds that it
 * cannot be made, and is gone. */
static void await_no_epoch(void)
{
    unsigned turn = 0;
    while (GATE->word & GATE_WORD_INTENT) {
        counters_set(&count.file->state, COUNTERS_HOLDING);
        grequest_pause(&turn);
    }
}

static void ask_to_enter(const struct slot *s)
{
    while (GATE->word & GATE_WORD_INTENT) {
        /* gate_cross returns rax; an int's sign is not extended into it. */
        int rc = (int)cross(GATE->coll_enter, s->gid, s->members, s->word / ENTERED_ONE);
        if (rc != GATE_EAGAIN)
            return;
        counters_set(&count.file->state, COUNTERS_HOLDING);
        stub_safe_point();
    }
}

void coll_begin(enum call call, struct comm *c)
{
    (void)call;
    if (agreed_on(c)) {
        struct slot *s = slot_of(c);
        __atomic_fetch_add(&s->word, ENTERED_ONE + 1, __ATOMIC_SEQ_CST);
        if (__builtin_expect(GATE->word & GATE_WORD_INTENT, 0))
            ask_to_enter(s);
    } else if (c && c->foreign && !replaying()) {
        await_no_epoch();
    }
    counters_set(&count.file->state, COUNTERS_COLLECTIVE);
}

void coll_turned_down(struct comm *c)
{
    if (agreed_on(c))
        __atomic_fetch_sub(&slot_of(c)->word, ENTERED_ONE, __ATOMIC_SEQ_CST);
}

void coll_end(enum call call, struct comm *c)
{
    if (agreed_on(c)) {
        struct slot *s = slot_of(c);
        __atomic_fetch_sub(&s->word, 1, __ATOMIC_SEQ_CST);
        if (__builtin_expect(GATE->word & GATE_WORD_INTENT, 0))
            cross(GATE->coll_leave, s->gid, s->members, s->word / ENTERED_ONE);
        if (__builtin_expect(c->freed, 0))
            coll_comm_freed(c);
    }
    counters_set(&count.file->state, COUNTERS_IN_CALL);
    /* A non-blocking one is counted when its request completes; what windows and files agree on is
     * none. */
    if (call_table[call].class == CLASS_RMA || call_table[call].class == CLASS_IO)
        return;
    if (call_table[call].class != CLASS_ICOLL && call_table[call].class != CLASS_COMPLETE)
        count_collective();
}
