/*
 * reverse_find.c - to a recorded event where threads take turns
 *
 * The boundary of an event is a place of the thread that took the one before: where its call
 * returns to. That thread has its turn there; the others are where this leaves them, and may have
 * taken later events, which they wait to come back from.
 */
#include "gdbbridge/procfs.h"
#include "gdbbridge/reverse_private.h"
#include "gdbbridge/reverse_wait.h"

/* Where a boundary lies. */
enum where {
    WHERE_LOST = -1,
    WHERE_BEFORE, /* the past, as far as there are legs */
    WHERE_IN,     /* a leg */
    WHERE_HERE,   /* at its end */
    WHERE_AHEAD,
};

/* In the past: a leg, and a mark in it. */
struct spot {
    size_t leg;
    struct mark mark;
    struct place place; /* event 0: not known */
};

bool past_takes_turns(const struct past *h)
{
    const struct process *p = h->target->processes;
    const struct recorded *r = past_recorded(h);
    return r->last && r->in_turn && (p->threads->next || r->in_turn(r->arg, p->pid) >= 0);
}

/* ---- finding ---- */

/* On which side of `end` is the mark? Both are counted from the leg's anchor. */
static enum where compare(const struct leg *l, const struct mark *end, const struct mark *at)
{
    const struct mark count = {.addr = at->addr, .thread = at->thread};
    uint64_t n = 0;
    if (end->thread == at->thread && end->addr == at->addr && !end->size)
        return at->n < end->n ? WHERE_IN : at->n == end->n ? WHERE_HERE : WHERE_AHEAD;
    pid_t pid = leg_copy(l);
    int r = pid > 0 ? copy_run_to(pid, end, &count, &n) : -1;
    copy_kill(pid);
    return r < 0 ? WHERE_LOST : n >= at->n ? WHERE_IN : WHERE_AHEAD;
}

/* A place that was not before this leg. */
static enum where find_in_leg(struct past *h, struct leg *l, const struct place *place,
                              struct mark *mark)
{
    past_search_in(h, l->anchor);
    if (leg_measure(h, l) < 0)
        return WHERE_LOST;
    pid_t pid = leg_copy(l);
    int r = pid > 0 ? event_mark(past_recorded(h), pid, place, mark) : -1;
    copy_kill(pid);
    return r < 0 ? WHERE_LOST : compare(l, &l->end, mark);
}

/* The boundary as a place, from a leg that begins before. False: the program does not come there,
 * or this was given up. */
static bool find_place(struct past *h, const struct leg *l, uint64_t event, struct place *place)
{
    for (size_t i = 0; i < PLACES_MAX && !h->diverted; i++)
        if (h->places[i].event == event) {
            *place = h->places[i];
            return true;
        }
    pid_t pid = leg_copy(l);
    bool there = pid > 0 && event_return(past_recorded(h), pid, event, place) == 0;
    copy_kill(pid);
    if (there && !h->diverted)
        h->places[h->nplaces++ % PLACES_MAX] = *place;
    return there;
}

static enum where find(struct past *h, uint64_t event, struct spot *s)
{
    enum where w = WHERE_AHEAD;
    *s = (struct spot){.leg = past_legs_before(h, event)};
    if (!s->leg)
        return WHERE_BEFORE;
    const struct leg *from = h->leg[--s->leg];
    if (!find_place(h, from, event, &s->place) && !find_place(h, from, event, &s->place)) {
        s->place.event = 0;
        return WHERE_AHEAD;
    }
    for (; s->leg < h->n; s->leg++) {
        struct leg *l = h->leg[s->leg];
        if (leg_measure(h, l) == 0 && leg_is_empty(l))
            continue;
        w = find_in_leg(h, l, &s->place, &s->mark);
        if (w == WHERE_IN || w == WHERE_LOST)
            break;
    }
    return w;
}

/* The past begins before that boundary, if it can. */
static void reach_back(struct past *h, uint64_t event)
{
    const struct recorded *r = past_recorded(h);
    past_begin_here(h, h->target->processes->threads);
    while (h->n && !past_legs_before(h, event)) {
        struct leg *l = past_leg_before(h, r->next(r->arg, h->leg[0]->anchor) - event + 1);
        if (!l)
            return;
        if (leg_measure(h, l) < 0 || past_put_first(h, l) < 0) {
            leg_free(l);
            return;
        }
    }
}

/* ---- going ---- */

static int go_by_leg(struct past *h, const struct spot *s)
{
    struct leg *l = h->leg[s->leg];
    pid_t pid = leg_copy(l);
    if (pid <= 0 || copy_run_to(pid, &s->mark, NULL, NULL) < 0) {
        copy_kill(pid);
        return -1;
    }
    past_keep_legs(h, s->leg + 1);
    leg_set_end(l, &s->mark);
    l->place = s->place;
    past_become(h, pid, s->mark.thread);
    return 0;
}

/* The process becomes `pid`, which has come to the place from the anchor, where a leg begins. */
static void go_on_from(struct past *h, pid_t anchor, pid_t pid, const struct place *place)
{
    struct leg *l = past_add(h, anchor);
    l->by_place = true;
    l->place = *place;
    l->end = (struct mark){.addr = place->pc, .thread = place->thread};
    l->diverted = h->touched;
    past_become(h, pid, place->thread);
}

/* Forward. The place is known where its event has been taken. */
static int go_ahead(struct past *h, uint64_t event, const struct place *known, struct err *err)
{
    const struct recorded *r = past_recorded(h);
    struct place place = *known;
    struct mark mark;
    pid_t anchor = past_copy_present(h->target->processes->threads);
    pid_t pid = anchor > 0 ? copy_make(anchor) : -1;
    bool taken = pid > 0 && r->next(r->arg, pid) >= event;
    if (pid > 0 && (taken && place.event ? event_mark(r, pid, &place, &mark) == 0
                                         : event_return(r, pid, event, &place) == 0)) {
        go_on_from(h, anchor, pid, &place);
        return 0;
    }
    copy_kill(pid);
    copy_kill(anchor);
    return err_set(err, NOT_THERE);
}

/* Has the process, which the caller has just started, not left that boundary? */
static bool begins_at(const struct recorded *r, pid_t pid, uint64_t event)
{
    struct user_regs_struct regs;
    uint64_t behind, site;
    return r->last(r->arg, pid, &behind, &site) && behind == event &&
           !copy_registers(pid, &regs) && regs.rip == site;
}

/* Returns as past_go_to_event(). */
static int go_by_start(struct past *h, uint64_t event, struct err *err)
{
    const struct recorded *r = past_recorded(h);
    struct place place;
    pid_t anchor = past_start_before(h, event, 1), pid = anchor > 0 ? copy_make(anchor) : -1;
    if (pid > 0 && event_return(r, pid, event, &place) == 0) {
        past_begin(h);
        go_on_from(h, anchor, pid, &place);
        return 1;
    }
    copy_kill(pid);
    copy_kill(anchor);
    if (anchor > 0)
        return err_set(err, NOT_THERE);
    *err = h->begin;
    anchor = past_start_at(h, event, &h->begin);
    pid = anchor > 0 && begins_at(r, anchor, event) ? copy_make(anchor) : -1;
    if (pid <= 0) {
        copy_kill(anchor);
        return 0;
    }
    past_begin(h);
    struct leg *l = past_add(h, anchor);
    leg_set_end(l, &(struct mark){.addr = l->start, .n = 1});
    past_become(h, pid, 0);
    return 1;
}

int past_go_to_event(struct past *h, uint64_t event, bool found, struct err *err)
{
    const struct recorded *r = past_recorded(h);
    const struct process *p = h->target->processes;
    struct spot s = {.leg = 0};
    bool taken = r->next(r->arg, p->pid) >= event;
    enum where w = taken ? find(h, event, &s) : WHERE_AHEAD;
    if (w == WHERE_LOST) /* threads that spin for each other may have gone another way, once */
        w = find(h, event, &s);
    switch (w) {
    case WHERE_BEFORE:
        return found ? 0 : go_by_start(h, event, err);
    case WHERE_IN:
        if (found)
            return 0;
        return go_by_leg(h, &s) < 0 ? err_set(err, LOST) : 1;
    case WHERE_HERE:
        return !found;
    case WHERE_AHEAD:
        return go_ahead(h, event, &s.place, err) < 0 ? -1 : 1;
    default:
        return err_set(err, LOST);
    }
}

/* ---- asking ---- */

bool past_is_behind(struct past *h, uint64_t event)
{
    const struct recorded *r = past_recorded(h);
    struct spot s;
    uint64_t behind, site;
    const struct thread *th = h->target->processes->threads;
    while (th && !(r->last(r->arg, th->tid, &behind, &site) && behind == event))
        th = th->next;
    if (!th) /* it has taken another one since, or is gone */
        return true;
    reach_back(h, event);
    enum where w = find(h, event, &s);
    return w == WHERE_IN || w == WHERE_LOST || (w == WHERE_BEFORE && past_boundary(h) != event);
}

bool past_is_later(struct past *h, uint64_t event, uint64_t other)
{
    struct spot a, b;
    reach_back(h, event < other ? event : other);
    if (find(h, event, &a) != WHERE_IN || find(h, other, &b) != WHERE_IN)
        return false;
    return a.leg != b.leg ? a.leg > b.leg
                          : compare(h->leg[a.leg], &b.mark, &a.mark) == WHERE_AHEAD;
}

uint64_t past_boundary(struct past *h)
{
    const struct recorded *r = past_recorded(h);
    struct process *p = h->target->processes;
    struct thread *th = p->threads->next ? past_in_turn(h, p) : p->threads;
    struct spot s;
    uint64_t behind, site;
    if (!th || !r->last(r->arg, th->tid, &behind, &site) || thread_pc(th) != site)
        return 0;
    if (!past_legs_before(h, behind)) /* the caller starts processes at boundaries */
        return h->rooted && h->n == 1 && leg_is_empty(h->leg[0]) ? behind : 0;
    return find(h, behind, &s) == WHERE_HERE ? behind : 0;
}
