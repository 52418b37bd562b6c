/*
 * handle.c - tables from virtual ids to objects, and from real handles to objects
 */
#include "msgcounter/stub/handle.h"

#include <string.h>

#include "msgcounter/stub/thread.h"
#include "msgcounter/stub/turn.h"

struct handle_table handle_tables[HANDLE_NKINDS];

static struct stub_lock lock;

struct stub_lock object_lock;

/* Objects by real handle: open addressing, linear probing. Holds an object as long as it lives
 * and has a real handle; of two with the same (the lower half reused it) the newer one. */
static struct {
    struct object **slot;
    uint32_t size, used; /* size is a power of two; used counts tombstones too */
} by_real;

static struct object tombstone;

/* Handles that are ints may come with any upper half. */
static uint64_t real_key(enum handle_kind kind, uint64_t real)
{
    return kind == HANDLE_FILE ? real : (uint32_t)real;
}

static uint32_t hash_real(enum handle_kind kind, uint64_t real)
{
    uint64_t h = (real_key(kind, real) + kind) * 0x9e3779b97f4a7c15u;
    return (uint32_t)(h >> 32);
}

static struct object **find_slot(enum handle_kind kind, uint64_t real)
{
    struct object **free_slot = NULL;
    for (uint32_t i = hash_real(kind, real);; i++) {
        struct object **s = &by_real.slot[i & (by_real.size - 1)];
        if (!*s)
            return free_slot ? free_slot : s;
        if (*s == &tombstone)
            free_slot = free_slot ? free_slot : s;
        else if ((*s)->kind == kind && real_key(kind, (*s)->real) == real_key(kind, real))
            return s;
    }
}

static void forget_real(struct object *o)
{
    if (!o->real || !by_real.size)
        return;
    struct object **s = find_slot(o->kind, o->real);
    if (*s == o)
        *s = &tombstone;
}

static void grow(void)
{
    struct object **old = by_real.slot;
    uint32_t n = by_real.size, live = 0;
    for (uint32_t i = 0; i < n; i++)
        live += old[i] && old[i] != &tombstone;
    by_real.size = 64;
    while (by_real.size < 4 * (live + 1))
        by_real.size *= 2;
    by_real.slot = stub_alloc(by_real.size * sizeof *by_real.slot);
    by_real.used = live;
    for (uint32_t i = 0; i < n; i++)
        if (old[i] && old[i] != &tombstone)
            *find_slot(old[i]->kind, old[i]->real) = old[i];
    stub_free(old);
}

static void note_real(struct object *o)
{
    if (!o->real)
        return;
    if (2 * (by_real.used + 1) > by_real.size)
        grow();
    struct object **s = find_slot(o->kind, o->real);
    if (!*s)
        by_real.used++;
    *s = o;
}

static struct handle_slot *slot_at(struct handle_table *t, uint32_t i)
{
    return &t->chunk[i >> HANDLE_CHUNK_BITS][i & (HANDLE_CHUNK - 1)];
}

static uint32_t extend(struct handle_table *t)
{
    uint32_t i = t->used;
    if (i >= HANDLE_CHUNKS * HANDLE_CHUNK)
        stub_stop(125, "dbg3: more than %u live MPI handles of a kind", i);
    if (!t->chunk[i >> HANDLE_CHUNK_BITS])
        t->chunk[i >> HANDLE_CHUNK_BITS] = stub_alloc(HANDLE_CHUNK * sizeof(struct handle_slot));
    t->used = i + 1;
    return i;
}

/* Takes index `want` out of the free list or extends the table to it. Replay only: the list is
 * searched where threads raced for ids while recording. False: it is in use. */
static bool take_index(struct handle_table *t, uint32_t want)
{
    while (want >= t->used) {
        uint32_t i = extend(t);
        if (i == want)
            return true;
        slot_at(t, i)->real = t->free_list;
        t->free_list = i + 1;
    }
    uint32_t before = 0, i = t->free_list;
    while (i && i - 1 != want) {
        before = i;
        i = (uint32_t)slot_at(t, i - 1)->real;
    }
    if (!i)
        return false;
    uint32_t next = (uint32_t)slot_at(t, want)->real;
    if (before)
        slot_at(t, before - 1)->real = next;
    else
        t->free_list = next;
    return true;
}

struct wanted {
    struct handle_table *table;
    uint32_t index;
};

static bool take_wanted(void *arg)
{
    const struct wanted *w = arg;
    stub_lock(&lock);
    bool taken = take_index(w->table, w->index);
    stub_unlock(&lock);
    return taken;
}

/* The same, where another thread that has had its turn may be about to free the handle. */
static void take_index_soon(struct handle_table *t, uint32_t want)
{
    struct wanted w = {t, want};
    if (!turn_await(take_wanted, &w))
        stub_stop(1, "diverged: handle %x of the recording is in use", want);
}

static uint32_t new_index(struct handle_table *t)
{
    if (!t->free_list)
        return extend(t);
    uint32_t i = t->free_list - 1;
    t->free_list = (uint32_t)slot_at(t, i)->real;
    return i;
}

/* Gives `o` the id of this index. [locked] */
static void give_id(struct object *o, uint32_t i)
{
    struct handle_table *t = &handle_tables[o->kind];
    struct handle_slot *s = slot_at(t, i);
    s->real = o->real;
    s->object = o;
    t->live++;
    o->refs++;
    o->handles = 1;
    o->id = (int32_t)((uint32_t)o->kind << HANDLE_KIND_SHIFT | HANDLE_MARK | i);
    note_real(o);
}

/* [locked] */
static void end_id(struct object *o)
{
    struct handle_table *t = &handle_tables[o->kind];
    uint32_t i = o->id & HANDLE_INDEX;
    struct handle_slot *s = slot_at(t, i);
    s->object = NULL;
    s->real = t->free_list;
    t->free_list = i + 1;
    t->live--;
    o->id = 0;
}

int handle_new(struct object *o, int want)
{
    struct handle_table *t = &handle_tables[o->kind];
    uint32_t i = (uint32_t)want & HANDLE_INDEX;
    if (want)
        take_index_soon(t, i);
    stub_lock(&lock);
    give_id(o, want ? i : new_index(t));
    stub_unlock(&lock);
    return o->id;
}

int handle_again(struct object *o, int want)
{
    stub_lock(&lock);
    bool has = o->id;
    if (has)
        o->handles++;
    else if (!want)
        give_id(o, new_index(&handle_tables[o->kind]));
    stub_unlock(&lock);
    return has || !want ? o->id : handle_new(o, want);
}

bool handle_free(struct object *o)
{
    stub_lock(&lock);
    bool last = --o->handles == 0;
    if (last)
        end_id(o);
    stub_unlock(&lock);
    if (!last)
        return false;
    if (object_freed[o->kind])
        object_freed[o->kind](o);
    object_put(o);
    return true;
}

void handle_set_real(struct object *o, uint64_t real)
{
    stub_lock(&lock);
    forget_real(o);
    o->real = real;
    if (o->id)
        slot_at(&handle_tables[o->kind], o->id & HANDLE_INDEX)->real = real;
    note_real(o);
    stub_unlock(&lock);
}

struct object *handle_find_real(enum handle_kind kind, uint64_t real)
{
    if (!by_real.size || !real)
        return NULL;
    stub_lock(&lock);
    struct object *o = *find_slot(kind, real);
    stub_unlock(&lock);
    return o == &tombstone ? NULL : o;
}

int64_t handle_virtual(enum handle_kind kind, uint64_t real)
{
    struct object *o = handle_find_real(kind, real);
    return o && o->id ? o->id : (int64_t)(int32_t)real;
}

void object_put(struct object *o)
{
    if (!o || __atomic_sub_fetch(&o->refs, 1, __ATOMIC_ACQ_REL) || o->predefined)
        return;
    stub_lock(&lock);
    forget_real(o);
    stub_unlock(&lock);
    if (object_destroy[o->kind])
        object_destroy[o->kind](o);
    stub_free(o);
}

void object_keep_text(char **at, const char *text)
{
    char *copy = stub_strdup(text);
    stub_lock(&object_lock);
    char *old = *at;
    *at = copy;
    stub_unlock(&object_lock);
    stub_free(old);
}

void handle_each(enum handle_kind kind, void (*fn)(struct object *o, void *arg), void *arg)
{
    struct handle_table *t = &handle_tables[kind];
    for (uint32_t i = 0; i < t->used; i++) {
        struct object *o = slot_at(t, i)->object;
        if (o)
            fn(o, arg);
    }
}
