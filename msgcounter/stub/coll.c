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
 * The words stand in a hash table by gid that the agent may read at any moment: a slot's gid is
 * written once, and a larger table takes the place of a full one as a whole.
 */
#include "msgcounter/stub/coll.h"

#include "call_hand.h"
#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/count.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/request.h"

#define ENTERED_ONE 256u
#define INSIDE      255u
#define GID_FREED   UINT64_MAX
#define FREED_KEPT  1024

struct slot {
    uint64_t gid; /* 0: never used */
    uint64_t word;
    uint64_t members; /* as in gate_coll */
};

struct table {
    struct table *older; /* the agent was reading when its time had come */
    uint32_t room; /* a power of two */
    uint32_t used; /* slots with a gid, freed ones too */
    struct slot slot[];
};

static struct table *table;
static uint32_t readers; /* each says so before it looks which table there is */
static struct stub_lock lock;

/* The slot of a gid, or the free one where it would stand. */
static struct slot *find(struct table *t, uint64_t gid)
{
    uint32_t i = (uint32_t)((gid * 0x9e3779b97f4a7c15u) >> 32);
    while (t->slot[i & (t->room - 1)].gid && t->slot[i & (t->room - 1)].gid != gid)
        i++;
    return &t->slot[i & (t->room - 1)];
}

/* Who looks from now on sees the new table; another thread in MPI may be using a slot of an old one
 * for long. */
static void free_older(struct table *t)
{
    if (stub_threads_multiple || __atomic_load_n(&readers, __ATOMIC_SEQ_CST))
        return;
    for (struct table *o = t->older, *next; o; o = next) {
        next = o->older;
        stub_free(o);
    }
    t->older = NULL;
}

/* A table of twice the size without freed slots, or of the same size if most are freed. */
static void grow(void)
{
    uint32_t live = 0, room = 16;
    for (uint32_t i = 0; table && i < table->room; i++)
        live += table->slot[i].gid && table->slot[i].gid != GID_FREED;
    while (room < 4 * (live + 1))
        room *= 2;
    struct table *t = stub_alloc(sizeof *t + room * sizeof t->slot[0]);
    t->room = room;
    for (uint32_t i = 0; table && i < table->room; i++) {
        const struct slot *s = &table->slot[i];
        if (s->gid && s->gid != GID_FREED) {
            *find(t, s->gid) = *s;
            t->used++;
        }
    }
    t->older = table;
    __atomic_store_n(&table, t, __ATOMIC_SEQ_CST);
    free_older(t);
}

static struct slot *slot_add(uint64_t gid, uint64_t members)
{
    stub_lock(&lock);
    if (!table || 2 * (table->used + 1) > table->room)
        grow();
    struct slot *s = find(table, gid);
    if (!s->gid) {
        s->members = members;
        s->word = 0;
        __atomic_store_n(&s->gid, gid, __ATOMIC_RELEASE);
        table->used++;
    }
    stub_unlock(&lock);
    return s;
}

static uint64_t members_of(const struct comm *c)
{
    return (uint64_t)(c->size + c->remote_size);
}

static inline struct slot *slot_of(const struct comm *c)
{
    if (__builtin_expect(table != NULL, 1)) {
        struct slot *s = find(table, c->gid);
        if (__builtin_expect(s->gid != 0, 1))
            return s;
    }
    return slot_add(c->gid, members_of(c));
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

static void forget(uint64_t gid)
{
    struct slot *s = table && gid ? find(table, gid) : NULL;
    if (s && s->gid)
        __atomic_store_n(&s->gid, GID_FREED, __ATOMIC_RELEASE);
}

void coll_comm_freed(struct comm *c)
{
    if (members_of(c) < 2 || replaying() || c->folded)
        return;
    c->folded = true;
    stub_lock(&lock);
    struct slot *s = find(table, c->gid);
    uint64_t entered = s->gid ? s->word / ENTERED_ONE : 0;
    stub_unlock(&lock);
    group_count(c, GROUP_FREED, entered);
    stub_lock(&lock);
    forget(c->gid);
    stub_unlock(&lock);
}

/* The latest freed persistent collectives, a ring. */
static uint64_t freed[FREED_KEPT];
static uint32_t nfreed;

void coll_forget_later(const struct comm *c)
{
    stub_lock(&lock);
    forget(freed[nfreed % FREED_KEPT]);
    freed[nfreed++ % FREED_KEPT] = c->gid;
    stub_unlock(&lock);
}

void coll_forget_freed(void)
{
    for (uint32_t i = 0; i < FREED_KEPT; i++) {
        forget(freed[i]);
        freed[i] = 0;
    }
}

int coll_list(struct gate_coll *out, int max)
{
    __atomic_add_fetch(&readers, 1, __ATOMIC_SEQ_CST);
    struct table *t = __atomic_load_n(&table, __ATOMIC_SEQ_CST);
    int n = 0;
    for (uint32_t i = 0; t && i < t->room && n < max; i++) {
        uint64_t gid = __atomic_load_n(&t->slot[i].gid, __ATOMIC_ACQUIRE);
        uint64_t word = __atomic_load_n(&t->slot[i].word, __ATOMIC_SEQ_CST);
        if (gid && gid != GID_FREED)
            out[n++] = (struct gate_coll){.gid = gid,
                                          .entered = word / ENTERED_ONE,
                                          .members = (uint32_t)t->slot[i].members,
                                          .inside = (uint32_t)(word & INSIDE)};
    }
    __atomic_sub_fetch(&readers, 1, __ATOMIC_SEQ_CST);
    return n;
}

/* A communicator of one member needs nobody's leave. */
static bool agreed_on(const struct comm *c)
{
    return c && (c->size + c->remote_size > 1 || c->alone) && !replaying();
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
    }
    counters_set(&count.file->state, COUNTERS_COLLECTIVE);
}

void coll_turned_down(const struct comm *c)
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
