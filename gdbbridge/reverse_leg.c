/*
 * reverse_leg.c - legs of the past: made, measured, split, thinned out
 */
#include <stdlib.h>
#include <string.h>

#include "gdbbridge/dispatch.h"
#include "gdbbridge/reverse_private.h"

/* ---- legs ---- */

void leg_drop_stations(struct leg *l, size_t beyond)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->nstations; i++)
        if (l->station[i].step > beyond)
            copy_kill(l->station[i].pid);
        else
            l->station[kept++] = l->station[i];
    l->nstations = kept;
}

pid_t leg_copy(const struct leg *l)
{
    pid_t pid = copy_make(l->anchor);
    if (pid > 0)
        journal_bound(pid, l->bound);
    return pid;
}

void leg_free(struct leg *l)
{
    for (size_t i = 0; i < l->nstations; i++)
        copy_kill(l->station[i].pid);
    copy_kill(l->anchor);
    trace_destroy(l->trace);
    free(l);
}

struct leg *past_last(const struct past *h)
{
    return h->n ? h->leg[h->n - 1] : NULL;
}

void past_drop_last(struct past *h)
{
    leg_free(h->leg[--h->n]);
}

void past_keep_legs(struct past *h, size_t n)
{
    while (h->n > n)
        past_drop_last(h);
}

struct leg *leg_create(pid_t anchor)
{
    struct user_regs_struct regs;
    struct leg *l = calloc(1, sizeof *l);
    if (!l)
        abort();
    l->anchor = anchor;
    l->bound = JOURNAL_NONE;
    if (!copy_registers(anchor, &regs))
        l->start = regs.rip;
    return l;
}

struct leg *past_add(struct past *h, pid_t anchor)
{
    struct leg *l = leg_create(anchor);
    if (h->n == LEGS_MAX && !past_thin(h)) { /* the beginning moves */
        leg_free(h->leg[0]);
        memmove(&h->leg[0], &h->leg[1], (LEGS_MAX - 1) * sizeof h->leg[0]);
        h->n--;
        h->rooted = false;
    }
    h->leg[h->n++] = l;
    return l;
}

/* ---- measuring ---- */

/* Counts to the first stop, with the points that were in place. */
static int measure_by_stop(struct leg *l, pid_t pid)
{
    struct mark count = {.addr = l->end.addr, .thread = l->end.thread};
    struct copy_run run;
    struct copy_stop stop;
    if (copy_run_begin(&run, pid, NULL, l->signal ? NULL : &l->points, &count) < 0)
        return -1;
    run.signal = (struct copy_nth){l->end.thread, l->signal};
    run.points_from = l->points_from;
    copy_run_on(&run, &stop);
    l->end.n = copy_run_count(&run) + (stop.counted ? 0 : 1);
    l->end.sent = stop.end == COPY_SIGNAL && !stop.counted ? stop.signal : 0;
    copy_run_end(&run);
    return stop.end != COPY_GONE && stop.pc == l->end.addr && stop.thread == l->end.thread ? 0 : -1;
}

int leg_measure(struct past *h, struct leg *l)
{
    int r;
    if (l->trace) {
        struct mark end = {.addr = trace_pc(l->trace),
                           .n = trace_count(l->trace),
                           .thread = l->end.thread};
        end.sent = l->end.addr == end.addr && l->end.n == end.n ? l->end.sent : 0;
        l->end = end;
        return 0;
    }
    if (l->measured)
        return 0;
    pid_t pid = leg_copy(l);
    if (pid <= 0)
        return -1;
    r = l->by_place ? event_mark(past_recorded(h), pid, &l->place, &l->end)
                    : measure_by_stop(l, pid);
    copy_kill(pid);
    l->measured = r == 0;
    return r;
}

bool leg_is_empty(const struct leg *l)
{
    return !l->end.until && l->end.n == 1 && l->end.addr == leg_start(l, l->end.thread);
}

uint64_t leg_start(const struct leg *l, uint64_t thread)
{
    struct user_regs_struct regs;
    pid_t tid = thread ? crowd_tid(l->anchor, thread) : 0;
    return !thread ? l->start : tid > 0 && !copy_registers(tid, &regs) ? regs.rip : 0;
}

void leg_set_end(struct leg *l, const struct mark *end)
{
    bool traced = l->trace && l->end.thread == end->thread;
    l->end = *end;
    l->measured = true;
    l->bound = JOURNAL_NONE;
    l->place.event = 0;
    size_t step;
    if (l->trace && !traced) {
        leg_drop_stations(l, 0);
        trace_destroy(l->trace);
        l->trace = NULL;
    }
    if (l->trace && !trace_find(l->trace, end->addr, end->n, &step)) {
        trace_cut(l->trace, step);
        leg_drop_stations(l, step);
    }
}

#define EVENTS_OF_CALL 8 /* that one system call takes: its own, and those of signals behind it */

/* A copy of the leg where it is about to take this event, or an earlier one if that is taken in
 * the call which a signal at the leg's end is behind: no step is counted in there. -1: there is
 * none. */
static pid_t reach_from(struct past *h, const struct leg *l, uint64_t event,
                        const struct mark *count, uint64_t *passed)
{
    const struct recorded *r = past_recorded(h);
    uint64_t first = r->next(r->arg, l->anchor), tries = l->end.sent ? EVENTS_OF_CALL : 1;
    for (; tries && event > first; tries--, event--) {
        pid_t pid = leg_copy(l);
        *passed = 0;
        bool there = pid > 0 && event_reach(r, pid, event, count, passed) == 0;
        if (there && !(l->end.sent && dispatch_inside(pid)))
            return pid;
        copy_kill(pid);
        if (!there)
            break;
    }
    return -1;
}

/*
 * Ends the past with a leg that takes one event, where the end's event is known: what is looked for
 * next is mostly near, and counting to there costs some microseconds for each turn of a loop. Not
 * with one that takes none: the end may be where the event is taken.
 */
void past_split_at_event(struct past *h)
{
    struct leg *l = past_last(h), end;
    const struct recorded *r = past_recorded(h);
    struct user_regs_struct regs;
    uint64_t event = l && !l->trace && r->next ? l->place.event : 0, passed = 0;
    if (h->target->processes->threads->next) /* which of them takes it may differ */
        return;
    /* signals are counted from the anchor */
    if (l && (l->signal || l->points_from.n) && leg_measure(h, l) < 0)
        return;
    if (event < 2)
        return;
    struct mark count = {.addr = l->end.addr};
    pid_t pid = reach_from(h, l, event - 1, l->measured ? &count : NULL, &passed);
    if (pid <= 0 || copy_registers(pid, &regs)) {
        copy_kill(pid);
        return;
    }
    end = *l;
    l->by_place = event_place(r, pid, 0, false, &l->place) == 0;
    l->measured = false;
    l->end = (struct mark){.addr = regs.rip};
    l = past_add(h, pid);
    l->points = end.points;
    l->place = end.place;
    l->by_place = end.by_place;
    l->measured = end.measured;
    l->end = end.end;
    if (l->measured)
        l->end.n -= passed - (regs.rip == end.end.addr && regs.eflags & COPY_COUNTED_FLAG);
}

/* Gives up the anchor between two legs, of which the first then reaches as far as both. The pair is
 * taken from the older half in turn, so that anchors stay denser near the present. */
bool past_thin(struct past *h)
{
    size_t i = h->thinned++ % (LEGS_MAX / 2);
    struct leg *l = h->leg[i], *next = h->leg[i + 1];
    struct user_regs_struct regs;
    if (next->diverted || leg_measure(h, l) < 0 || leg_measure(h, next) < 0)
        return false;
    struct mark end = next->end, count = {.addr = end.addr, .thread = end.thread};
    regs.rip = 0;
    uint64_t passed = 0;
    pid_t pid = leg_copy(l);
    int r = pid > 0 ? copy_run_to(pid, &l->end, &count, &passed) : -1;
    if (r == 0 && !end.until)
        r = copy_registers(crowd_tid(pid, end.thread), &regs);
    copy_kill(pid);
    if (r < 0)
        return false;
    bool twice = regs.rip == end.addr && regs.eflags & COPY_COUNTED_FLAG;
    end.n += end.until ? 0 : passed - (twice ? 1 : 0);
    leg_drop_stations(l, 0);
    trace_destroy(l->trace);
    l->trace = NULL;
    l->end = end;
    l->bound = next->bound;
    l->measured = true;
    leg_free(next);
    memmove(&h->leg[i + 1], &h->leg[i + 2], (h->n - i - 2) * sizeof h->leg[0]);
    h->n--;
    return true;
}

/* ---- splitting ---- */

/* Of several threads: does it run, or wait for its turn, in its stub? That it does as often as it
 * takes, and what it does there is no place that can be found again. */
static bool has_no_turn(struct past *h, pid_t pid, uint64_t thread)
{
    const struct recorded *r = past_recorded(h);
    return crowd_of(pid) && r->in_turn &&
           r->in_turn(r->arg, pid) != crowd_tid(pid, thread);
}

/* The mark of a thread's access as one of executions of the instruction behind it. 0 or -1. */
static int as_executions(const struct leg *l, const struct mark *at, struct mark *here)
{
    struct user_regs_struct regs;
    pid_t pid = leg_copy(l);
    uint64_t n = 0;
    int r = pid > 0 ? copy_run_to(pid, at, here, &n) : -1;
    if (r == 0)
        r = copy_registers(crowd_tid(pid, at->thread), &regs);
    copy_kill(pid);
    if (r == 0)
        here->n = n + (regs.eflags & COPY_COUNTED_FLAG ? 0 : 1);
    return r == 0 && regs.rip == here->addr ? 0 : -1;
}

/* Splits the last, measured leg at a place before its end, of the same thread. Returns 1 if it did,
 * 0 if that place is its start or no place, -1 if it cannot be reached. */
static int split(struct past *h, const struct mark *at)
{
    struct leg *l = past_last(h);
    struct mark count = {.addr = l->end.addr, .thread = at->thread}, end = l->end;
    struct user_regs_struct regs;
    uint64_t passed = 0;
    pid_t pid = leg_copy(l);
    if (pid <= 0)
        return -1;
    if (copy_run_to(pid, at, &count, &passed) < 0 ||
        copy_registers(crowd_tid(pid, at->thread), &regs)) {
        copy_kill(pid);
        return -1;
    }
    bool counted = regs.eflags & COPY_COUNTED_FLAG;
    /* it came by with all signals blocked, and may stand there again */
    bool late = !at->size && (regs.rip != at->addr || !counted);
    if (late || has_no_turn(h, pid, at->thread)) {
        copy_kill(pid);
        return 0;
    }
    /* the end itself: */
    if (regs.rip == end.addr && passed + (counted ? 0 : 1) == end.n && at->size) {
        copy_kill(pid);
        struct mark before = *at;
        return --before.n ? split(h, &before) : 0;
    }
    bool twice = regs.rip == end.addr && counted; /* up to there, and again from there */
    uint64_t event = l->place.event;
    struct mark here = {.addr = regs.rip, .n = at->n, .thread = at->thread};
    if (passed - (twice ? 1 : 0) >= end.n || (at->size && as_executions(l, at, &here) < 0)) {
        copy_kill(pid);
        return -1;
    }
    end.n = end.n - passed + (twice ? 1 : 0);
    if (here.addr == leg_start(l, here.thread) && here.n == 1) {
        copy_kill(pid);
        return 0;
    }
    size_t bound = l->bound;
    leg_set_end(l, &here);
    struct leg *rest = past_add(h, pid);
    leg_set_end(rest, &end);
    rest->bound = bound;
    rest->place.event = event;
    return 1;
}

int past_split_at(struct past *h, struct mark at)
{
    at.thread = past_last(h)->end.thread;
    return at.n ? split(h, &at) : 0;
}

int past_split_at_last(struct past *h, struct mark what)
{
    struct leg *l = past_last(h);
    what.thread = l->end.thread;
    if (!what.size && what.addr == l->end.addr) {
        what.n = l->end.n - 1;
    } else {
        pid_t pid = leg_copy(l);
        int r = pid > 0 ? copy_run_to(pid, &l->end, &what, &what.n) : -1;
        copy_kill(pid);
        if (r < 0)
            return -1;
    }
    return what.n ? split(h, &what) : 0;
}
