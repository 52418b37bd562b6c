/*
 * reverse_goto.c - to a recorded event, also to before the first leg
 */
#include <string.h>

#include "gdbbridge/procfs.h"
#include "gdbbridge/reverse_private.h"
#include "gdbbridge/reverse_wait.h"

/* ---- before the beginning ---- */

pid_t past_start_at(struct past *h, uint64_t event, struct err *err)
{
    const struct recorded *r = past_recorded(h);
    struct adopted made;
    if (r->start(r->arg, event, &made, err) < 0)
        return -1;
    struct crowd *c = crowd_look(made.pid);
    bool ok = !ptrace(PTRACE_SETOPTIONS, made.pid, NULL, trace_options(false));
    for (const struct member *m = c ? c->members->next : NULL; m; m = m->next)
        ok = ok && !ptrace(PTRACE_SETOPTIONS, m->tid, NULL, trace_options(false));
    if (!ok) {
        copy_kill(made.pid);
        return err_sys(err, "cannot trace the process");
    }
    return made.pid;
}

/* The thread of a copy that a place is told by: the one whose turn it is. NO_THREAD: they all wait,
 * and what they wait for is an event. */
static uint64_t thread_in_turn(const struct recorded *r, pid_t pid)
{
    const struct crowd *c = crowd_of(pid);
    pid_t tid = c && r->in_turn ? r->in_turn(r->arg, pid) : 0;
    const struct member *m = tid > 0 ? crowd_member(c, tid) : NULL;
    return !c ? 0 : m ? m->key : NO_THREAD;
}

/* Where threads take turns it may have taken some events as soon as it is started: it must be a
 * checkpoint before, then. */
pid_t past_start_before(struct past *h, uint64_t begin, uint64_t events)
{
    const struct recorded *r = past_recorded(h);
    pid_t pid = -1;
    for (; pid <= 0 && events; events /= 2)
        pid = begin < events ? -1 : past_start_at(h, begin - events, &h->begin);
    for (events = events ? events * 4 : 2; pid > 0 && r->next(r->arg, pid) >= begin; events *= 2) {
        copy_kill(pid);
        pid = past_start_at(h, events < begin ? begin - events : 0, &h->begin);
        if (events >= begin && pid > 0 && r->next(r->arg, pid) >= begin) {
            copy_kill(pid);
            return -1;
        }
    }
    return pid;
}

struct leg *past_leg_before(struct past *h, uint64_t events)
{
    const struct recorded *r = past_recorded(h);
    struct leg *l, *first = h->n ? h->leg[0] : NULL;
    struct place begin;
    err_set(&h->begin, "nothing is known of what was before");
    uint64_t thread = first ? thread_in_turn(r, first->anchor) : 0;
    bool told = thread != NO_THREAD;
    if (!r->start || !first || !h->rooted ||
        event_place(r, first->anchor, told ? thread : 0, told && thread, &begin) < 0)
        events = 0;
    pid_t anchor = past_start_before(h, begin.event, events);
    if (anchor <= 0 || !(l = leg_create(anchor)))
        return NULL;
    l->by_place = told;
    l->place = begin;
    l->end = (struct mark){.addr = begin.pc, .thread = begin.thread};
    if (told)
        return l;
    l->place.event = 0;
    leg_set_end(l, &(struct mark){.addr = r->word(r->arg, anchor),
                                  .size = sizeof(uint64_t),
                                  .n = 1,
                                  .written = true,
                                  .thread = NO_THREAD,
                                  .until = begin.event});
    return l;
}

int past_put_first(struct past *h, struct leg *l)
{
    if (h->n == LEGS_MAX && !past_thin(h))
        return -1;
    memmove(&h->leg[1], &h->leg[0], h->n * sizeof h->leg[0]);
    h->leg[0] = l;
    h->n++;
    return 0;
}

/* ---- to an event ---- */

/* A leg that ends where `pid`, a copy of its anchor that ran on, is. */
static struct leg *leg_to(struct past *h, pid_t anchor, pid_t pid)
{
    struct leg *l = past_add(h, anchor);
    l->by_place = event_place(past_recorded(h), pid, 0, false, &l->place) == 0;
    l->end.addr = l->place.pc;
    return l;
}

/* A copy of the anchor at the boundary of the event, or -1. */
static pid_t copy_to_event(struct past *h, pid_t anchor, uint64_t event)
{
    const struct recorded *r = past_recorded(h);
    pid_t pid = copy_make(anchor);
    if (pid <= 0 || r->next(r->arg, pid) >= event)
        return pid;
    if (event_reach(r, pid, event, NULL, NULL) == 0)
        return event_boundary(r, pid, event);
    copy_kill(pid);
    return -1;
}

size_t past_legs_before(const struct past *h, uint64_t event)
{
    const struct recorded *r = past_recorded(h);
    size_t n = h->n;
    while (n && r->next(r->arg, h->leg[n - 1]->anchor) >= event)
        n--;
    return n;
}

/* From a leg of the past, which then ends there: the last one that begins before the event.
 * Returns 1, 0 if there is none, or -1. */
static int go_by_leg(struct past *h, uint64_t event)
{
    size_t n = past_legs_before(h, event);
    if (!n)
        return 0;
    bool diverted = h->leg[n - 1]->diverted;
    pid_t anchor = copy_make(h->leg[n - 1]->anchor);
    pid_t pid = anchor > 0 ? copy_to_event(h, anchor, event) : -1;
    if (pid <= 0) {
        copy_kill(anchor);
        return -1;
    }
    while (h->n >= n)
        past_drop_last(h);
    leg_to(h, anchor, pid)->diverted = diverted;
    past_become(h, pid, 0);
    return 1;
}

static int go_by_start(struct past *h, uint64_t event, struct err *err)
{
    pid_t anchor = past_start_at(h, event, err);
    if (anchor <= 0)
        return -1;
    pid_t pid = copy_to_event(h, anchor, event);
    if (pid <= 0) {
        copy_kill(anchor);
        return err_set(err, NOT_THERE);
    }
    past_begin(h);
    leg_to(h, anchor, pid);
    past_become(h, pid, 0);
    return 0;
}

static int go_forward(struct past *h, struct thread *th, uint64_t event, struct err *err)
{
    pid_t anchor = past_copy_present(th);
    pid_t pid = anchor > 0 ? copy_to_event(h, anchor, event) : -1;
    if (pid <= 0) {
        copy_kill(anchor);
        return err_set(err, NOT_THERE);
    }
    leg_to(h, anchor, pid)->diverted = h->touched;
    past_become(h, pid, 0);
    return 0;
}

int past_go(struct past *h, uint64_t event, struct err *err)
{
    const struct recorded *r = past_recorded(h);
    struct thread *th = h->target->processes->threads;
    if (past_takes_turns(h)) {
        int went = past_go_to_event(h, event, false, err);
        if (went > 0 || th->process->threads->next)
            return went > 0 ? 0 : -1;
        /* perhaps an event that no thread comes back from */
    }
    if (r->next(r->arg, th->tid) < event)
        return go_forward(h, th, event, err);
    int went = go_by_leg(h, event);
    return went < 0 ? err_set(err, LOST) : went ? 0 : go_by_start(h, event, err);
}

int ptrace_target_goto(struct target *base, uint64_t event, struct err *err)
{
    struct ptrace_target *t = ptrace_target_of(base);
    struct past *h = t->past;
    if (!t->processes || !h || !t->options.recorded.start)
        return err_set(err, "there is no recording to move in");
    if (!past_can_follow(h, t->processes->threads))
        return err_set(err, "cannot move: %s", h->why);
    past_search_begin(h, "going to an event");
    int went = past_go(h, event, err);
    if (reverse_wait_end() && went < 0)
        err_set(err, "interrupted");
    t->moved |= went >= 0;
    return went;
}

bool ptrace_target_can_goto(struct target *base)
{
    struct ptrace_target *t = ptrace_target_of(base);
    return t->processes && t->past && t->options.recorded.start &&
           past_can_follow(t->past, t->processes->threads);
}

/* The event at whose boundary a process of one thread is, or 0. */
static uint64_t boundary(struct past *h, const struct thread *th)
{
    const struct recorded *r = past_recorded(h);
    struct place here;
    if (event_place(r, th->tid, 0, true, &here) < 0 || here.pc != r->site(r->arg, th->tid))
        return 0;
    /* It may have come to this instruction in another way since. */
    size_t n = past_legs_before(h, here.event);
    if (!n) /* the caller starts processes at boundaries */
        return h->rooted && h->n == 1 && leg_is_empty(h->leg[0]) ? here.event : 0;
    pid_t pid = copy_to_event(h, h->leg[n - 1]->anchor, here.event);
    bool same = pid > 0 && event_at_place(pid, &here);
    copy_kill(pid);
    return same ? here.event : 0;
}

uint64_t ptrace_target_boundary(struct target *base)
{
    struct past *h = ptrace_target_of(base)->past;
    if (!ptrace_target_can_goto(base))
        return 0;
    past_search_begin(h, "looking around");
    uint64_t event = past_takes_turns(h) ? past_boundary(h)
                                         : boundary(h, h->target->processes->threads);
    reverse_wait_end();
    return event;
}

bool ptrace_target_is_behind(struct target *base, uint64_t event)
{
    struct past *h = ptrace_target_of(base)->past;
    if (!ptrace_target_can_goto(base) || !past_takes_turns(h))
        return true;
    past_search_begin(h, "looking around");
    bool behind = past_is_behind(h, event);
    reverse_wait_end();
    return behind;
}

bool ptrace_target_is_later(struct target *base, uint64_t event, uint64_t other)
{
    struct past *h = ptrace_target_of(base)->past;
    if (!ptrace_target_can_goto(base) || !past_takes_turns(h))
        return event > other;
    past_search_begin(h, "looking around");
    bool later = past_is_later(h, event, other);
    reverse_wait_end();
    return later;
}
