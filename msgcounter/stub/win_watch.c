/*
 * win_watch.c - memory that other ranks write, as recording and replay see it
 *
 *     field of an event     | address: 8 bytes | the bytes there |
 */
#include "msgcounter/stub/win_watch.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/datatype.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/request.h"
#include "msgcounter/stub/win.h"
#include "runtime/half/sys.h"

#define PAGE 4096u
#define GAP  16u /* equal bytes between two runs that cost less than a field of their own */
#define RUN  (64u << 20)
#define TRACK_MIN   (1u << 20) /* memory of so many bytes is not looked at as a whole each time */
#define WRITTEN_MAX 64
#define NEAR 8 /* watches that are tried for a new result */
#define STACK (8u << 20)

struct watch {
    struct watch *next;
    const struct win *win;
    unsigned char *at;
    uint64_t bytes;
    unsigned char *copy; /* of a window: as it was last noted; NULL unless recording */
    bool result;         /* of operations, at `target` */
    bool alone;          /* of one operation, which has a request */
    bool done;           /* the result is there */
    int target;
    uint32_t thread;     /* that started the operations */
    uint64_t issued;     /* when the last of them had been started; 0: it is about to be */
    MPI_Request request; /* 0: none */
};

/* Where memory differs from its copy. */
struct run {
    unsigned char *at;
    const unsigned char *copy; /* with the new bytes */
    uint64_t bytes;
};

struct runs {
    struct run *some;
    uint64_t n, room;
};

bool win_watching;
static struct watch *watches;
static struct stub_lock lock;
static uint64_t moments; /* that win_watch_moment() has named */

/* ------------------------------------------------------------------------------------- the list */

/* Whole pages, as the kernel wants them. */
struct pages {
    uint64_t from, to;
};

static struct pages pages_of(const void *at, uint64_t bytes)
{
    return (struct pages){(uint64_t)at & ~(uint64_t)(PAGE - 1),
                          ((uint64_t)at + bytes + PAGE - 1) & ~(uint64_t)(PAGE - 1)};
}

/* Memory of a window may go before the window does: MPICH's own tests free it first. What is
 * mapped there later is not the window's, but the same in a replay. Asks the kernel only about
 * pages that are not `known`: results lie side by side. */
static bool mapped(const void *at, uint64_t bytes, struct pages *known)
{
    struct pages all = pages_of(at, bytes);
    if (all.from >= known->from && all.to <= known->to)
        return true;
    if (sys_call(SYS_msync, all.from, all.to - all.from, MS_ASYNC, 0, 0, 0))
        return false;
    *known = all;
    return true;
}

void win_watch_decide(void)
{
    win_watching = recording() ? watches != NULL : replaying() && (watches || stub_threads_made);
}

static void add(struct watch *k)
{
    stub_lock(&lock);
    k->next = watches;
    watches = k;
    win_watch_decide();
    stub_unlock(&lock);
}

static struct watch *make(const struct win *w, void *at, uint64_t bytes)
{
    struct watch *k = stub_alloc(sizeof *k);
    k->win = w;
    k->at = at;
    k->bytes = bytes;
    return k;
}

/* Calls leave other bytes on the stack in a replay: what the rank has not written there differs. */
static bool on_stack(const void *at)
{
    uint64_t here = (uint64_t)__builtin_frame_address(0);
    return (uint64_t)at > here && (uint64_t)at - here < STACK;
}

void win_watch_memory(const struct win *w, void *at, uint64_t bytes)
{
    if (!bytes)
        return;
    struct watch *k = make(w, at, bytes);
    if (recording())
        k->copy = stub_memdup(at, bytes);
    if (k->copy && on_stack(at))
        for (uint64_t i = 0; i < bytes; i++)
            k->copy[i] = (unsigned char)~k->copy[i]; /* all of it is noted once */
    add(k);
}

void win_watch_zeros(const struct win *w, void *at, uint64_t bytes)
{
    if (!bytes)
        return;
    struct watch *k = make(w, at, bytes);
    if (recording())
        k->copy = stub_alloc(bytes);
    add(k);
}

/* The watch grows to what is `at`, which overlaps it or touches it. */
static void grow(struct watch *k, unsigned char *at, uint64_t bytes)
{
    unsigned char *end = at + bytes > k->at + k->bytes ? at + bytes : k->at + k->bytes;
    k->at = at < k->at ? at : k->at;
    k->bytes = (uint64_t)(end - k->at);
}

/* Thousands of operations may be under way, and each call looks at all watches. Those whose results
 * go to the same place, or side by side, share one. NULL: there is none so far. */
static struct watch *share(const struct win *w, unsigned char *at, uint64_t bytes, int target)
{
    struct watch **p = &watches, *k;
    int near = NEAR;
    stub_lock(&lock);
    for (; (k = *p) && near; p = &k->next, near--)
        if (k->win == w && k->result && !k->alone && k->target == target &&
            k->thread == stub_thread_ordinal() && at <= k->at + k->bytes && at + bytes >= k->at)
            break;
    if (k && near) { /* to the front, where the next looks */
        *p = k->next;
        k->next = watches;
        watches = k;
        k->issued = 0;
        grow(k, at, bytes);
    }
    stub_unlock(&lock);
    return near ? k : NULL;
}

struct watch *win_watch_result(const struct win *w, void *at, int64_t count, MPI_Datatype type,
                               int target, bool alone)
{
    struct datatype *t = datatype_of(type);
    if (GATE->mode == GATE_LIVE || !t || count <= 0 || target == MPI_PROC_NULL)
        return NULL;
    struct layout_bounds b = layout_bounds(t->layout);
    int64_t stride = (count - 1) * (b.ub - b.lb);
    int64_t low = b.true_lb + (stride < 0 ? stride : 0);
    int64_t high = b.true_ub + (stride > 0 ? stride : 0);
    if (high <= low)
        return NULL;
    unsigned char *from = (unsigned char *)at + low;
    struct watch *k = alone ? NULL : share(w, from, (uint64_t)(high - low), target);
    if (k)
        return k;
    k = make(w, from, (uint64_t)(high - low));
    k->result = true;
    k->alone = alone;
    k->target = target;
    k->thread = stub_thread_ordinal();
    add(k);
    return k;
}

uint64_t win_watch_moment(void)
{
    return __atomic_add_fetch(&moments, 1, __ATOMIC_SEQ_CST);
}

void win_watch_issued(struct watch *k)
{
    if (!k)
        return;
    stub_lock(&lock);
    k->issued = win_watch_moment();
    stub_unlock(&lock);
}

void win_watch_request(struct watch *k, MPI_Request request)
{
    if (k)
        k->request = request;
}

/* Other processes write to shared memory past our page tables. */
static bool is_tracked(const struct watch *k)
{
    return k->copy && k->bytes >= TRACK_MIN && k->win->flavor != MPI_WIN_FLAVOR_SHARED &&
           GATE->written;
}

static void release(struct watch *k)
{
    struct pages all = pages_of(k->at, k->bytes);
    if (is_tracked(k))
        cross(GATE->written, all.from, all.to, 0, 0, 0);
    stub_free(k->copy);
    stub_free(k);
}

/* Drops those that `of` says. */
static void drop(bool (*of)(const struct watch *k, const void *arg), const void *arg)
{
    stub_lock(&lock);
    for (struct watch **p = &watches; *p;) {
        struct watch *k = *p;
        if (!of(k, arg)) {
            p = &k->next;
            continue;
        }
        *p = k->next;
        release(k);
    }
    win_watch_decide();
    stub_unlock(&lock);
}

static bool of_window(const struct watch *k, const void *arg)
{
    return k->win == arg;
}

static bool as_named(const struct watch *k, const void *arg)
{
    const struct watch *named = arg;
    return k->win == named->win && k->at == named->at && !k->result;
}

static bool at_target(const struct watch *k, const void *arg)
{
    const struct watch *named = arg;
    return k->win == named->win && k->result && (named->target < 0 || k->target == named->target);
}

static bool is_done(const struct watch *k, const void *arg)
{
    return at_target(k, arg) && k->done;
}

static bool request_gone(const struct watch *k, const void *arg)
{
    return k->request && !request_of(k->request);
}

void win_watch_end(const struct win *w)
{
    drop(of_window, w);
}

void win_watch_forget(const struct win *w, const void *at)
{
    drop(as_named, &(struct watch){.win = w, .at = (unsigned char *)at});
}

void win_watch_done(enum call call, const struct win *w, int target, uint64_t since)
{
    const struct watch named = {.win = w, .target = target};
    if (!win_watching)
        return;
    stub_lock(&lock);
    for (struct watch *k = watches; k; k = k->next)
        k->done |= at_target(k, &named) && k->issued && k->issued < since;
    stub_unlock(&lock);
    win_watch_look(call);
    drop(is_done, &named);
}

void win_watch_begin(void)
{
    struct pages known = {0, 0};
    for (struct watch *k = watches; k; k = k->next) {
        stub_free(k->copy);
        k->copy = recording() && !k->result ? stub_alloc(k->bytes) : NULL;
        if (k->copy && mapped(k->at, k->bytes, &known))
            memcpy(k->copy, k->at, k->bytes);
    }
    win_watch_decide();
}

void win_watch_replay(void)
{
    for (struct watch *k = watches; k; k = k->next)
        if (k->copy && k->win->flavor == MPI_WIN_FLAVOR_SHARED)
            memcpy(k->at, k->copy, k->bytes);
    win_watch_decide();
}

/* ------------------------------------------------------------------------------------ comparing */

static void add_run(struct runs *r, unsigned char *at, const unsigned char *copy, uint64_t bytes)
{
    if (r->n == r->room) {
        r->room = r->room ? 2 * r->room : 16;
        r->some = stub_realloc(r->some, r->room * sizeof *r->some);
    }
    r->some[r->n++] = (struct run){at, copy, bytes};
}

static void add_difference(struct runs *r, struct watch *k, uint64_t from, uint64_t to)
{
    struct run *last = r->n ? &r->some[r->n - 1] : NULL;
    memcpy(k->copy + from, k->at + from, to - from);
    if (last && last->at + last->bytes + GAP >= k->at + from && last->at < k->at + from &&
        last->bytes + to - from < RUN && last->copy >= k->copy && last->copy < k->copy + k->bytes)
        last->bytes = (uint64_t)(k->at + to - last->at);
    else
        add_run(r, k->at + from, k->copy + from, to - from);
}

/* The runs of one page that differ. */
static void compare_page(struct runs *r, struct watch *k, uint64_t from, uint64_t to)
{
    while (from < to) {
        while (from < to && k->at[from] == k->copy[from])
            from++;
        uint64_t end = from;
        while (end < to && k->at[end] != k->copy[end])
            end++;
        if (end > from)
            add_difference(r, k, from, end);
        from = end;
    }
}

static void compare_part(struct runs *r, struct watch *k, uint64_t from, uint64_t end)
{
    for (uint64_t to; from < end; from = to) {
        to = from + PAGE < end ? from + PAGE : end;
        if (memcmp(k->at + from, k->copy + from, to - from))
            compare_page(r, k, from, to);
    }
}

static void compare_written(struct runs *r, struct watch *k, const struct pages *p)
{
    uint64_t start = (uint64_t)k->at;
    uint64_t from = p->from > start ? p->from - start : 0;
    uint64_t to = p->to - start < k->bytes ? p->to - start : k->bytes;
    compare_part(r, k, from, to);
}

/* What it costs follows what was written, where that is known. */
static void compare(struct runs *r, struct watch *k)
{
    struct pages some[WRITTEN_MAX], all = pages_of(k->at, k->bytes);
    uint64_t from = all.from;
    int n = WRITTEN_MAX;
    while (is_tracked(k) && n == WRITTEN_MAX) {
        n = (int)cross(GATE->written, all.from, all.to, (uint64_t)&from, (uint64_t)some,
                       WRITTEN_MAX);
        for (int i = 0; i < n; i++)
            compare_written(r, k, &some[i]);
    }
    if (!is_tracked(k) || n < 0)
        compare_part(r, k, 0, k->bytes);
}

/* A result is noted when it is there, and whole: what the memory held before may differ in a
 * replay, where calls leave other bytes on the stack. Until then nobody may look at it. */
static void take_result(struct runs *r, const struct watch *k)
{
    for (uint64_t from = 0; from < k->bytes; from += RUN)
        add_run(r, k->at + from, k->at + from, k->bytes - from < RUN ? k->bytes - from : RUN);
}

/* What is written of windows is the copies: memory itself may change meanwhile. */
static void note(enum call call)
{
    struct runs r = {0};
    struct pages known = {0, 0};
    stub_lock(&lock); /* the copies are of one moment, and stay until they are in the log */
    for (struct watch *k = watches; k; k = k->next) {
        bool due = !k->result || k->done || request_gone(k, NULL);
        if (!due || !mapped(k->at, k->bytes, &known))
            continue;
        if (k->result)
            take_result(&r, k);
        else
            compare(&r, k);
    }
    if (r.n) {
        uint64_t room = 0;
        for (uint64_t i = 0; i < r.n; i++)
            room += LOG_FIELD_ROOM(r.some[i].bytes + sizeof(uint64_t));
        record_beside_begin(call, RECORD_MEMORY, room);
        for (uint64_t i = 0; i < r.n; i++) {
            unsigned char *to = log_reserve(&record_writer, LOG_PARAM_NONE, LOG_ROLE_DATA,
                                            sizeof(uint64_t) + r.some[i].bytes);
            memcpy(to, &r.some[i].at, sizeof(uint64_t));
            memcpy(to + sizeof(uint64_t), r.some[i].copy, r.some[i].bytes);
        }
        record_end(MPI_SUCCESS);
    }
    stub_unlock(&lock);
    stub_free(r.some);
}

static void apply(const struct log_record *rec)
{
    const struct log_field *f = NULL;
    while ((f = log_field_next(rec, f))) {
        unsigned char *at;
        if (f->role != LOG_ROLE_DATA)
            continue;
        memcpy(&at, log_field_value(f), sizeof at);
        memcpy(at, (const unsigned char *)log_field_value(f) + sizeof at,
               log_field_length(f) - sizeof at);
    }
}

void win_watch_look(enum call call)
{
    const struct log_record *rec;
    if (!win_watching || call_table[call].flags & CALL_PURE)
        return;
    schedule_get(NULL); /* no other thread looks at memory, or writes to it, meanwhile */
    if (recording())
        note(call);
    else if ((rec = replay_beside(RECORD_MEMORY)))
        apply(rec);
    drop(request_gone, NULL);
}
