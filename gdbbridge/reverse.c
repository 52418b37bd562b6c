/*
 * reverse.c - the past of a process: its life, and GDB's commands
 */
#include "gdbbridge/reverse_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "gdbbridge/dispatch.h"
#include "gdbbridge/journal.h"
#include "gdbbridge/reverse_wait.h"

#define TRACE_MAX 4096 /* instructions that GDB steps forward in one leg */

static const char slower[] = "perf_event_open(2) is forbidden here: going back is slower, as each "
                             "hit of what is counted stops the program";

/* ---- taking long ---- */

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

const struct recorded *past_recorded(const struct past *h)
{
    return &h->target->options.recorded;
}

/* Says how far it is, once a second at most, and asks whether to give up. */
static bool attended(void *arg)
{
    struct past *h = arg;
    const struct attendant *a = &h->target->attendant;
    struct progress *g = &h->progress;
    uint64_t seconds = (now_ms() - g->began) / 1000;
    if (a->say && seconds > g->said) {
        char text[160];
        snprintf(text, sizeof text,
                 "dbg3: %s: %lu s, looking behind event %lu, %lu stops passed; Ctrl-C ends it\n",
                 g->what, (unsigned long)seconds, (unsigned long)g->event,
                 (unsigned long)g->stops);
        g->said = seconds;
        a->say(a->arg, text);
    }
    return a->gives_up && a->gives_up(a->arg);
}

void past_search_begin(struct past *h, const char *what)
{
    h->progress = (struct progress){.what = what, .began = now_ms()};
    reverse_wait_begin(attended, h);
}

void past_search_in(struct past *h, pid_t anchor)
{
    const struct recorded *r = past_recorded(h);
    h->progress.event = r->next ? r->next(r->arg, anchor) : 0;
}

void target_attend(struct target *base, const struct attendant *a)
{
    ptrace_target_of(base)->attendant = *a;
}

/* ---- life ---- */

struct past *past_create(struct ptrace_target *t)
{
    struct past *h = calloc(1, sizeof *h);
    if (!h)
        abort();
    h->target = t;
    h->rooted = true;
    if (t->options.recorded.next)
        copy_pass_logged();
    return h;
}

void past_forget(struct past *h)
{
    while (h->n)
        past_drop_last(h);
    h->touched = h->rooted = false;
}

void past_begin(struct past *h)
{
    past_forget(h);
    h->rooted = true;
    h->diverted = false;
}

void past_destroy(struct past *h)
{
    if (!h)
        return;
    past_forget(h);
    free(h);
}

void past_touched(struct past *h)
{
    struct ptrace_target *t = h->target;
    const struct run_hook *hook = &t->options.run_hook;
    bool first = !h->diverted;
    h->diverted = h->touched = true;
    if (t->processes)
        journal_cut(t->processes->pid);
    if (first && hook->diverts && t->processes)
        hook->diverts(hook->arg, &t->base, thread_shown(t->processes->threads));
}

/* Having gone back, perhaps to before GDB's first change. */
static void look_for_diversion(struct past *h)
{
    bool found = h->touched;
    for (size_t i = 0; i < h->n; i++)
        found |= h->leg[i]->diverted;
    h->diverted = found;
}

bool ptrace_target_diverted(struct target *base)
{
    const struct past *h = ptrace_target_of(base)->past;
    return h && h->diverted;
}

/* ---- forward ---- */

static void collect_points(const struct process *p, struct copy_points *points)
{
    points->n = 0;
    points->fast = false;
    for (const struct breakpoint *b = p->breakpoints; b; b = b->next)
        if (b->inserted && points->n < COPY_POINTS_MAX)
            points->point[points->n++] =
                (struct copy_point){POINT_SW, b->addr, 0, b->original, b->script};
    for (int i = 0; i < DEBUG_REGISTERS; i++)
        if (p->debug.slot[i].size && points->n < COPY_POINTS_MAX)
            points->point[points->n++] = (struct copy_point){
                p->debug.slot[i].kind, p->debug.slot[i].addr, p->debug.slot[i].size, 0,
                p->debug.slot[i].script};
}

uint64_t past_key(struct thread *th)
{
    const struct user_regs_struct *user = th == th->process->threads ? NULL : thread_user(th);
    return user ? user->fs_base : 0;
}

/* The process's threads, as what copies are made of; NULL: it has one. The caller forgets it. */
static struct crowd *crowd_present(struct process *p)
{
    if (!p->threads->next)
        return NULL;
    struct crowd *c = crowd_add(p->pid);
    for (struct thread *th = p->threads; th; th = th->next) {
        struct member *m = c->members;
        if (th->state != THREAD_STOPPED)
            continue;
        if (th != p->threads)
            m = crowd_join(c, th->tid, past_key(th));
        m->signal = th->deliver;
        m->info = th->info;
    }
    return c;
}

pid_t past_copy_present(struct thread *th)
{
    struct process *p = th->process;
    struct crowd *c = crowd_present(p);
    pid_t pid = copy_make(p->pid);
    for (const struct breakpoint *b = p->breakpoints; pid > 0 && b; b = b->next)
        if (b->inserted)
            copy_poke(pid, b->addr, b->original);
    for (th = p->threads; th; th = th->next) {
        th->can_inject = c && th->deliver; /* it is in another stop now */
        thread_forget_registers(th);
    }
    crowd_forget(c);
    return pid;
}

struct thread *past_in_turn(const struct past *h, const struct process *p)
{
    const struct recorded *r = past_recorded(h);
    pid_t tid = p->threads && p->threads->next && r->in_turn ? r->in_turn(r->arg, p->pid) : 0;
    return tid > 0 ? thread_find(h->target, tid) : NULL;
}

/* Can this thread of several be copied as it is? */
static bool can_copy(struct past *h, const struct thread *th)
{
    if (th->state == THREAD_EXITING)
        snprintf(h->why, sizeof h->why, "a thread is about to end");
    else if (th->in_call || th->in_vfork)
        snprintf(h->why, sizeof h->why, "a thread is in a system call");
    else if (th->deliver && !dispatch_behind(th->tid, th->deliver, &th->info))
        snprintf(h->why, sizeof h->why, "a signal was handed to the program");
    return !h->why[0];
}

/* Do several threads do again what they did? */
static bool take_turns(struct past *h, const struct process *p)
{
    const struct recorded *r = past_recorded(h);
    bool yes = !p->threads->next || (r->in_turn && r->in_turn(r->arg, p->pid) >= 0);
    if (!yes)
        snprintf(h->why, sizeof h->why, SEVERAL_THREADS);
    return yes;
}

static bool crowd_can_follow(struct past *h, const struct process *p)
{
    take_turns(h, p);
    for (const struct thread *th = p->threads; th && !h->why[0]; th = th->next)
        can_copy(h, th);
    return !h->why[0];
}

bool past_can_follow(struct past *h, const struct thread *th)
{
    const struct process *p = h->target->processes;
    h->why[0] = '\0';
    if (p->next)
        snprintf(h->why, sizeof h->why, "the program has several processes");
    else if (p->threads->next)
        return crowd_can_follow(h, p);
    else if (th->deliver && journal_met(th->tid) == JOURNAL_NONE)
        snprintf(h->why, sizeof h->why, "a signal was handed to the program");
    else if (h->target->options.record && journal_shares())
        snprintf(h->why, sizeof h->why, "the program has shared memory, which is not recorded");
    else if (th->in_call || journal_inside(th->tid))
        snprintf(h->why, sizeof h->why, "the program is in a system call");
    return !h->why[0];
}

/* A thread that a signal of the log has stopped is about to get it, and any other ones, too. */
static bool goes_on_with_logged(const struct process *p)
{
    bool any = false;
    for (const struct thread *th = p->threads; th && copy_logged(); th = th->next) {
        if (!th->deliver || dispatch_behind(th->tid, th->deliver, &th->info))
            continue;
        if (!th->at_signal || th->deliver != th->info.si_signo)
            return false;
        any = true;
    }
    return any;
}

/*
 * A copy that is made there would not have the signal: the leg goes on. But where GDB steps, what
 * follows is a handler's first instruction, and the leg ends before the signal.
 */
static void go_on_with_logged(struct past *h, struct leg *l, struct thread *th)
{
    h->into_handler = th->stepping;
    if (th->stepping)
        return;
    collect_points(th->process, &l->points);
    leg_drop_stations(l, 0);
    trace_destroy(l->trace);
    l->trace = NULL;
    l->points_from = (struct copy_nth){past_key(th), th->signals};
}

void past_resume(struct past *h, struct thread *th)
{
    struct leg *l = past_last(h);
    if ((l || h->rooted) && !h->touched && goes_on_with_logged(th->process)) {
        if (l) /* else the past begins at the next stop */
            go_on_with_logged(h, l, th);
        return;
    }
    if (l && journal_inside(th->tid)) {
        collect_points(th->process, &l->points); /* the call goes on, and so does the leg */
        return;
    }
    if (!past_can_follow(h, th)) {
        past_forget(h);
        journal_end();
        return;
    }
    if (h->target->options.record && !journal_has(th->tid)) {
        past_forget(h);
        journal_begin(th->tid);
        l = NULL;
    }
    if (th->stepping && l && l->trace && l->end.thread == past_key(th) && !h->touched &&
        trace_steps(l->trace) < TRACE_MAX)
        return;
    pid_t anchor = past_copy_present(th);
    bool touched = h->touched;
    h->touched = false;
    if (anchor <= 0) {
        past_forget(h);
        snprintf(h->why, sizeof h->why, "the process cannot be copied");
        return;
    }
    l = past_add(h, anchor);
    l->diverted = touched;
    collect_points(th->process, &l->points);
    for (struct thread *each = th->process->threads; each; each = each->next)
        each->signals = 0;
    if (!th->stepping)
        return;
    l->end.thread = past_key(th);
    l->trace = trace_create(leg_start(l, l->end.thread));
}

void past_hand(struct past *h, struct thread *th, int signal)
{
    if (journal_resume(th->tid, signal != 0))
        return;
    if (signal) { /* where it could not be handed over again */
        past_forget(h);
        journal_end();
    } else {
        journal_send(th->tid);
    }
}

void past_stepped(struct past *h, struct thread *th, uint64_t pc)
{
    struct leg *l = past_last(h);
    if (l && l->trace && l->end.thread == past_key(th))
        trace_add(l->trace, pc);
}

void past_ends_here(struct past *h)
{
    h->by_event = true;
}

/* The event that is next for a thread which takes turns with others: they may have taken more. */
static void be_of_thread(const struct recorded *r, pid_t tid, struct place *place)
{
    uint64_t behind, site;
    if (!r->last || !r->last(r->arg, tid, &behind, &site))
        return;
    place->event = behind;
    place->own = true;
}

void past_stopped(struct past *h, struct thread *th, uint64_t pc)
{
    struct leg *l = past_last(h);
    bool by_event = h->by_event, interrupted = th->faked == SIGINT;
    bool into_handler = h->into_handler;
    h->by_event = h->into_handler = false;
    if (!l || into_handler)
        return;
    struct thread *runs = interrupted ? past_in_turn(h, th->process) : NULL;
    if (runs && runs != th) { /* where the others are follows from that */
        th = runs;
        pc = thread_pc(th);
    }
    uint64_t thread = past_key(th);
    if (l->trace && l->end.thread == thread && trace_pc(l->trace) == pc)
        return;
    if (l->trace) { /* a stop that was no step: back to what can be run again */
        trace_destroy(l->trace);
        l->trace = NULL;
    }
    l->bound = journal_met(th->tid);
    l->signal = copy_logged() && th->at_signal ? th->signals : 0;
    l->measured = false;
    struct crowd *c = crowd_present(th->process);
    l->by_place = event_place(past_recorded(h), th->process->pid, thread, interrupted,
                              &l->place) == 0 &&
                  (by_event || interrupted);
    if (l->by_place && c)
        be_of_thread(past_recorded(h), th->tid, &l->place);
    crowd_forget(c);
    l->end = (struct mark){.addr = pc, .thread = thread};
}

/* ---- the present ---- */

/* A thread of the process is what it has become in the copy. */
static void thread_become(struct thread *th, const struct member *m)
{
    struct user_regs_struct regs;
    th->tid = m->tid;
    th->state = THREAD_STOPPED;
    th->can_inject = th->has_event = th->tripped = th->in_call = th->at_signal = false;
    th->injecting = th->faked = th->reported = th->deliver = 0;
    th->call_site = 0;
    th->deferral = DEFER_NONE;
    th->debug_generation = 0;
    th->went_back = true;
    thread_forget_registers(th);
    if (m->signal) {
        th->deliver = m->signal;
        th->info = m->info;
        th->can_inject = true;
    }
    if (!copy_registers(m->tid, &regs) && regs.eflags & COPY_COUNTED_FLAG) {
        regs.eflags &= ~(unsigned long long)COPY_COUNTED_FLAG;
        thread_set_user(th, &regs);
    }
}

static struct thread *thread_of_key(struct process *p, uint64_t key, const uint64_t *keys)
{
    size_t i = 0;
    for (struct thread *th = p->threads; th; th = th->next, i++)
        if (keys[i] == key)
            return th;
    return NULL;
}

/* Threads keep the names that GDB has for them; those that are not yet, or not any more, go. */
static void threads_become(struct process *p, const struct crowd *c, const uint64_t *keys)
{
    size_t n = 0;
    struct thread *now[CROWD_MAX] = {NULL};
    for (const struct member *m = c->members; m && n < CROWD_MAX; m = m->next)
        now[n++] = thread_of_key(p, m->key, keys);
    for (struct thread *th = p->threads, *next; th; th = next) {
        bool stays = false;
        next = th->next;
        for (size_t i = 0; i < n; i++)
            stays |= now[i] == th;
        if (!stays)
            thread_remove(th);
    }
    size_t i = 0;
    for (const struct member *m = c->members; m && i < n; m = m->next, i++)
        thread_become(now[i] ? now[i] : thread_add(p, m->tid, THREAD_STOPPED), m);
}

/* Ends the process; *keys are those that its threads had, in their order. */
static void end_present(struct process *p, uint64_t *keys, size_t max)
{
    size_t n = 0;
    for (struct thread *th = p->threads; th && n < max; th = th->next)
        keys[n++] = past_key(th);
    crowd_present(p);
    copy_kill(p->pid);
}

struct thread *past_thread(struct process *p, uint64_t key)
{
    struct thread *th = p->threads;
    while (th && past_key(th) != key)
        th = th->next;
    return th ? th : p->threads;
}

void past_become(struct past *h, pid_t pid, uint64_t thread)
{
    struct process *p = h->target->processes;
    struct crowd *c = crowd_of(pid), *alone = c ? NULL : crowd_add(pid);
    uint64_t keys[CROWD_MAX] = {0};
    end_present(p, keys, CROWD_MAX);
    p->pid = pid;
    p->told_end = false;
    journal_bound(pid, JOURNAL_NONE);
    if (p->memory >= 0)
        close(p->memory);
    p->memory = -1;
    threads_become(p, c ? c : alone, keys);
    crowd_forget(c ? c : alone);
    for (struct breakpoint *b = p->breakpoints; b; b = b->next)
        b->inserted = false;
    points_put_back(p);
    h->touched = false;
    h->thread = thread;
    h->target->last = past_thread(p, thread)->tid;
    look_for_diversion(h);
}

static void pend(struct past *h, enum trap trap, uint64_t addr, enum history where,
                 const char *text)
{
    struct ptrace_target *t = h->target;
    struct thread *th = past_thread(t->processes, h->thread);
    th->went_back = false;
    th->keeps_signal = th->at_signal && copy_logged(); /* it stands where it stood */
    t->pending = (struct event){.kind = EVENT_STOPPED,
                                .code = SIGTRAP,
                                .trap = trap,
                                .addr = addr,
                                .history = where,
                                .thread = thread_shown(th)};
    if (text)
        snprintf(t->pending.console, sizeof t->pending.console, "dbg3: cannot go back: %s\n", text);
    else if (where == HISTORY_BEGIN)
        snprintf(t->pending.console, sizeof t->pending.console,
                 "dbg3: no way further back: %.400s\n", h->begin.text);
    else if (copy_without_perf() && !h->told)
        snprintf(t->pending.console, sizeof t->pending.console, "dbg3: %s\n", slower);
    h->told |= copy_without_perf();
    t->has_pending = true;
}

/* Ctrl-C: the process stands where it stood, or where it had got to. */
static void pend_interrupted(struct past *h)
{
    pend(h, TRAP_OTHER, 0, HISTORY_INSIDE, NULL);
    h->target->pending.code = SIGINT;
    past_thread(h->target->processes, h->thread)->faked = SIGINT;
}

/* ---- for GDB ---- */

static enum trap trap_of(const struct copy_point *p)
{
    return p->kind == POINT_SW      ? TRAP_SW_BREAK
           : p->kind == POINT_HW    ? TRAP_HW_BREAK
           : p->kind == POINT_WRITE ? TRAP_WATCH_WRITE
                                    : TRAP_WATCH_ACCESS;
}

void past_begin_here(struct past *h, struct thread *th)
{
    if (h->n || (th->at_signal && copy_logged())) /* a copy would not have the signal */
        return;
    pid_t anchor = past_can_follow(h, th) && h->rooted ? past_copy_present(th) : -1;
    if (anchor > 0) {
        struct leg *l = past_add(h, anchor);
        leg_set_end(l, &(struct mark){.addr = l->start, .n = 1});
    }
}

/* Says so where there is no past. Returns false if there is one. */
static bool refuse(struct past *h)
{
    const struct process *p = h->target->processes;
    err_set(&h->begin, "nothing is known of what was before");
    past_begin_here(h, p->threads);
    if (!h->n || !take_turns(h, p))
        pend(h, TRAP_OTHER, 0, HISTORY_BEGIN, h->why[0] ? h->why : NULL);
    else
        return false;
    return true;
}

int target_reverse_step(struct target *base, struct ptid thread)
{
    struct ptrace_target *t = ptrace_target_of(base);
    if (!t->processes || !t->past)
        return -1;
    struct thread *th = thread_find(t, thread.tid);
    t->past->thread = th && th->process == t->processes ? past_key(th) : 0;
    if (refuse(t->past))
        return 0;
    if (t->options.run_hook.back)
        t->options.run_hook.back(t->options.run_hook.arg, base, true);
    past_search_begin(t->past, "going back");
    t->past->why[0] = '\0';
    int r = th && th->call_site ? past_call_back(t->past, t->past->thread, th->call_site)
                                : past_step_back(t->past, t->past->thread);
    if (reverse_wait_end() && r < 0)
        pend_interrupted(t->past);
    else
        pend(t->past, r > 0 ? TRAP_STEP : TRAP_OTHER, 0, r > 0 ? HISTORY_INSIDE : HISTORY_BEGIN,
             r >= 0 ? NULL : t->past->why[0] ? t->past->why : LOST);
    return 0;
}

/* Goes to the limit, if there is one and no later stop was found. Returns 1, 0: it does not, or -1
 * with h->why. */
static int to_limit(struct past *h, bool turns, bool found)
{
    struct ptrace_target *t = h->target;
    struct err err;
    int went = 0;
    if (!h->limit)
        return 0;
    if (turns)
        went = past_go_to_event(h, h->limit, found, &err);
    else if (!found || past_behind_limit(h, t->processes->threads->tid))
        went = past_go(h, h->limit, &err) == 0;
    if (went < 0)
        snprintf(h->why, sizeof h->why, "%.200s", err.text);
    if (went <= 0)
        return went;
    t->pending = (struct event){.kind = EVENT_STOPPED, .thread = ptrace_target_thread(&t->base)};
    t->has_pending = true;
    return 1;
}

int target_reverse_continue(struct target *base)
{
    struct ptrace_target *t = ptrace_target_of(base);
    struct copy_points points;
    const struct copy_point *point;
    if (!t->processes || !t->past)
        return -1;
    if (refuse(t->past))
        return 0;
    const struct run_hook *hook = &t->options.run_hook;
    collect_points(t->processes, &points);
    points.fast = true;
    bool turns = past_takes_turns(t->past);
    t->past->thread = 0;
    t->past->limit = hook->back ? hook->back(hook->arg, base, false) : 0;
    past_search_begin(t->past, "going back");
    int r = points.n || !t->past->limit ? past_continue_back(t->past, &points, &point) : 0;
    int limited = r >= 0 ? to_limit(t->past, turns, r > 0) : 0;
    if (t->past->limit && !limited && r == 0) { /* nothing stops it before the beginning */
        t->past->limit = 0;
        r = past_continue_back(t->past, &points, &point);
    }
    t->past->limit = 0;
    if (reverse_wait_end() && (r < 0 || limited < 0))
        pend_interrupted(t->past);
    else if (limited > 0)
        hook->backed(hook->arg, base, &t->pending);
    else if (r > 0)
        pend(t->past, trap_of(point), point->addr, HISTORY_INSIDE, NULL);
    else
        pend(t->past, TRAP_OTHER, 0, HISTORY_BEGIN,
             limited < 0 ? t->past->why : r < 0 ? LOST : NULL);
    return 0;
}
