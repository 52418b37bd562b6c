/*
 * win_call.c - one-sided calls: epochs as the coordinated cut sees them, results as recording does
 */
#include <string.h>

#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/coll.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/win.h"
#include "msgcounter/stub/win_watch.h"

/* What a call does to the epochs of its window. */
struct effect {
    enum call call;
    int8_t opens;     /* epochs that must be closed before a cut: +1, -1 */
    bool waits;       /* blocks: no cut falls inside */
    bool operates;    /* starts an operation at a target */
    enum { DONE_NONE, DONE_TARGET, DONE_ALL } done; /* operations that are complete at targets */
    enum { HERE_NONE, HERE_TARGET, HERE_ALL } here; /* results that are there when it returns */
    bool tests;       /* its effect depends on its flag */
    bool collective;
};

static const struct effect effects[] = {
    {.call = CALL_MPI_Win_fence, .done = DONE_ALL, .here = HERE_ALL, .collective = true},
    {.call = CALL_MPI_Win_free, .done = DONE_ALL, .here = HERE_ALL, .collective = true},
    {.call = CALL_MPI_Win_lock, .opens = 1, .waits = true},
    {.call = CALL_MPI_Win_unlock, .opens = -1, .waits = true, .done = DONE_TARGET,
     .here = HERE_TARGET},
    {.call = CALL_MPI_Win_lock_all, .waits = true},
    {.call = CALL_MPI_Win_unlock_all, .waits = true, .done = DONE_ALL, .here = HERE_ALL},
    {.call = CALL_MPI_Win_start, .opens = 1, .waits = true},
    {.call = CALL_MPI_Win_complete, .opens = -1, .waits = true, .done = DONE_ALL,
     .here = HERE_ALL},
    {.call = CALL_MPI_Win_post, .opens = 1, .waits = true},
    {.call = CALL_MPI_Win_wait, .opens = -1, .waits = true},
    {.call = CALL_MPI_Win_test, .opens = -1, .waits = true, .tests = true},
    {.call = CALL_MPI_Win_flush, .waits = true, .done = DONE_TARGET, .here = HERE_TARGET},
    {.call = CALL_MPI_Win_flush_all, .waits = true, .done = DONE_ALL, .here = HERE_ALL},
    {.call = CALL_MPI_Win_flush_local, .waits = true, .here = HERE_TARGET},
    {.call = CALL_MPI_Win_flush_local_all, .waits = true, .here = HERE_ALL},
    {.call = CALL_MPI_Put, .waits = true, .operates = true},
    {.call = CALL_MPI_Get, .waits = true, .operates = true},
    {.call = CALL_MPI_Accumulate, .waits = true, .operates = true},
    {.call = CALL_MPI_Get_accumulate, .waits = true, .operates = true},
    {.call = CALL_MPI_Fetch_and_op, .waits = true, .operates = true},
    {.call = CALL_MPI_Compare_and_swap, .waits = true, .operates = true},
    {.call = CALL_MPI_Rput, .waits = true, .operates = true},
    {.call = CALL_MPI_Rget, .waits = true, .operates = true},
    {.call = CALL_MPI_Raccumulate, .waits = true, .operates = true},
    {.call = CALL_MPI_Rget_accumulate, .waits = true, .operates = true},
};

static const struct effect *effect_of(enum call call)
{
    for (unsigned i = 0; i < sizeof effects / sizeof *effects; i++)
        if (effects[i].call == call_table[call].base)
            return &effects[i];
    __builtin_trap();
}

/* --------------------------------------------------------------------------------------- epochs */

static int param_named(enum call call, const char *one, const char *other)
{
    const struct call_info *info = &call_table[call];
    for (int i = 0; i < info->nparams; i++)
        if (!strcmp(info->params[i].name, one) || (other && !strcmp(info->params[i].name, other)))
            return i;
    return -1;
}

/* The rank that the call names, -1: none of the window's. */
static int target_of(enum call call, const uint64_t *v, const struct win *w)
{
    int i = param_named(call, "rank", "target_rank");
    int target = i < 0 ? -1 : (int)v[i];
    return target < w->comm->size ? target : -1;
}

static void set_dirty(struct win *w, int target, bool dirty)
{
    if (target < 0 || w->dirty[target] == dirty)
        return;
    w->dirty[target] = dirty;
    w->ndirty += dirty ? 1 : -1u;
}

static void all_done(struct win *w)
{
    memset(w->dirty, 0, (size_t)w->comm->size);
    w->ndirty = 0;
}

static void enter(enum call call, struct win *w)
{
    if (w->inside)
        return;
    w->inside = true;
    coll_begin(call, &w->busy);
}

/* An epoch may be open across a cut if nothing is under way in it. */
static void leave(enum call call, struct win *w)
{
    if (!w->inside || w->open || w->ndirty)
        return;
    w->inside = false;
    coll_end(call, &w->busy);
}

static void note_epoch(enum call call, const uint64_t *v, struct win *w, const struct effect *e)
{
    enum call base = call_table[call].base;
    if (base == CALL_MPI_Win_lock_all)
        w->all = 1 + (int)v[param_named(call, "assert", NULL)];
    if (base == CALL_MPI_Win_unlock_all)
        w->all = 0;
    if (base == CALL_MPI_Win_fence)
        w->fenced = !(v[param_named(call, "assert", NULL)] & MPI_MODE_NOSUCCEED);
    else if (e->opens > 0 || base == CALL_MPI_Win_lock_all)
        w->fenced = false;
}

static void apply(enum call call, const uint64_t *v, struct win *w, const struct effect *e,
                  uint64_t began)
{
    int target = target_of(call, v, w);
    if (e->tests && !*(int *)v[param_named(call, "flag", NULL)])
        return;
    w->open += (unsigned)e->opens;
    if (e->operates)
        set_dirty(w, target, true);
    if (e->done == DONE_TARGET)
        set_dirty(w, target, false);
    if (e->done == DONE_ALL)
        all_done(w);
    note_epoch(call, v, w, e);
    if (e->here == HERE_ALL)
        win_watch_done(call, w, -1, began);
    if (e->here == HERE_TARGET && target >= 0)
        win_watch_done(call, w, target, began);
}

/* ----------------------------------------------------------------------------------- operations */

/* Where the operation puts what it gets; parameters of that name. */
static const struct {
    const char *at, *count, *type;
} results[] = {
    {"result_addr", "result_count", "result_datatype"},
    {"result_addr", NULL, "datatype"},
    {"origin_addr", "origin_count", "origin_datatype"},
};

static struct watch *watch_result(enum call call, const uint64_t *v, const struct win *w)
{
    const struct call_info *info = &call_table[call];
    if (GATE->mode == GATE_LIVE)
        return NULL;
    for (unsigned i = 0; i < sizeof results / sizeof *results; i++) {
        int at = param_named(call, results[i].at, NULL);
        int type = param_named(call, results[i].type, NULL);
        int count = results[i].count ? param_named(call, results[i].count, NULL) : -1;
        if (at < 0 || type < 0 || !(info->params[at].dir & DIR_OUT))
            continue;
        return win_watch_result(w, (void *)v[at], count < 0 ? 1 : (int64_t)v[count],
                                (MPI_Datatype)v[type], target_of(call, v, w), info->request >= 0);
    }
    return NULL;
}

/* What a cut may not meet, at the end of a call while one is being agreed on: operations that
 * nothing but the program's own next flush would complete. */
static void flush_window(struct object *o, void *arg)
{
    struct win *w = (struct win *)o;
    if (!w->all || !w->ndirty || w->open)
        return;
    if (!replaying() && mpi_cross(CALL_MPI_Win_flush_all, w->head.real))
        return;
    all_done(w);
    leave(CALL_MPI_Win_flush_all, w);
}

void win_before_cut(void)
{
    handle_each(HANDLE_WIN, flush_window, NULL);
}

int hand_win_call(enum call call, const uint64_t *v)
{
    const struct call_info *info = &call_table[call];
    const struct effect *e = effect_of(call);
    uint64_t id = v[info->win];
    if (!info->params[info->win].by_value)
        id = id ? *(uint32_t *)id : 0;
    struct win *w = win_of((MPI_Win)id);
    if (!w)
        return call_generic(call, v);
    object_get(&w->head);
    if (e->waits)
        enter(call, w);
    if (e->collective)
        coll_begin(call, &w->agreed);
    struct watch *result = e->operates ? watch_result(call, v, w) : NULL;
    uint64_t began = win_watch_moment();
    int rc = call_generic(call, v);
    win_watch_issued(result);
    if (e->collective)
        coll_end(call, &w->agreed);
    if (!rc && info->request >= 0)
        win_watch_request(result, *(MPI_Request *)v[info->request]);
    if (!rc)
        apply(call, v, w, e, began);
    leave(call, w);
    object_put(&w->head);
    return rc;
}
