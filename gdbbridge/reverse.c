/*
 * reverse.c - the past of a process with one thread, and going there
 */
#include "gdbbridge/reverse.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "gdbbridge/procfs.h"
#include "gdbbridge/reverse_copy.h"
#include "gdbbridge/reverse_event.h"
#include "gdbbridge/reverse_trace.h"
#include "gdbbridge/reverse_wait.h"

#define LEGS_MAX      64      /* a bound for the memory that anchors take */
#define STATIONS_MAX  32
#define STATION_EVERY 64      /* instructions: 1 ms of single steps */
#define TRACE_MAX     4096    /* instructions that GDB steps forward in one leg */
#define SEARCH_MAX    4000000 /* instructions that are stepped through to find the one before */
#define LONGEST       15      /* bytes of an instruction */

static const char lost[] = "the program does not run as it ran before";
static const char several_threads[] =
    "the program has several threads, and a copy of a process has but one";
static const char slower[] = "perf_event_open(2) is forbidden here: going back is slower, as each "
                             "hit of what is counted stops the program";
static const char not_there[] = "the recording, or the program, ends before that event";

struct station {
    size_t step;
    pid_t pid;
};

struct leg {
    pid_t anchor;
    uint64_t start; /* program counter of the anchor */
    struct copy_points points; /* in place when it ran forward */
    struct mark end;
    bool measured;     /* `end` is known; until then its address only */
    bool diverted; /* GDB has changed something at its anchor */
    bool by_place; /* its end is known as `place`, and by no stop; else only its event may be */
    struct place place;
    struct trace *trace; /* of a traced leg, else NULL */
    struct station station[STATIONS_MAX];
    size_t nstations;
};

/* How far a search is, for whoever waits for it. */
struct progress {
    const char *what; /* "going back" */
    uint64_t began;   /* now_ms() */
    uint64_t said;    /* seconds since then, when it was said last */
    uint64_t event;   /* the search is in what follows it */
    uint64_t stops;   /* that it has seen */
};

struct past {
    struct ptrace_target *target;
    struct progress progress;
    struct leg *leg[LEGS_MAX];
    size_t n;
    uint64_t limit; /* event before whose boundary no stop is looked for; 0: none */
    bool touched;
    bool diverted; /* the present does not follow from the recording */
    bool by_event;  /* the stop to come is one that only the recording tells */
    size_t thinned; /* how often, ever */
    bool told; /* that it is slower here */
    bool rooted; /* leg 0 begins where the caller started the process */
    char why[256]; /* why there is no past, or empty */
    struct err begin; /* why the past does not go on before its first leg */
};

/* ---- taking long ---- */

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static const struct recorded *recorded_of(const struct past *h)
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

static void search_begin(struct past *h, const char *what)
{
    h->progress = (struct progress){.what = what, .began = now_ms()};
    reverse_wait_begin(attended, h);
}

static void search_in(struct past *h, pid_t anchor)
{
    const struct recorded *r = recorded_of(h);
    h->progress.event = r->next ? r->next(r->arg, anchor) : 0;
}

void target_attend(struct target *base, const struct attendant *a)
{
    ptrace_target_of(base)->attendant = *a;
}

/* ---- legs ---- */

static void stations_drop(struct leg *l, size_t beyond)
{
    size_t kept = 0;
    for (size_t i = 0; i < l->nstations; i++)
        if (l->station[i].step > beyond)
            copy_kill(l->station[i].pid);
        else
            l->station[kept++] = l->station[i];
    l->nstations = kept;
}

static void leg_free(struct leg *l)
{
    for (size_t i = 0; i < l->nstations; i++)
        copy_kill(l->station[i].pid);
    copy_kill(l->anchor);
    trace_destroy(l->trace);
    free(l);
}

static struct leg *last(const struct past *h)
{
    return h->n ? h->leg[h->n - 1] : NULL;
}

static void drop_last(struct past *h)
{
    leg_free(h->leg[--h->n]);
}

static void keep_legs(struct past *h, size_t n)
{
    while (h->n > n)
        drop_last(h);
}

static bool thin(struct past *h);

/* A leg that begins with `anchor`, which it owns. */
static struct leg *leg_create(pid_t anchor)
{
    struct user_regs_struct regs;
    struct leg *l = calloc(1, sizeof *l);
    if (!l)
        abort();
    l->anchor = anchor;
    if (!copy_registers(anchor, &regs))
        l->start = regs.rip;
    return l;
}

/* A new last leg, which begins with `anchor`. */
static struct leg *add(struct past *h, pid_t anchor)
{
    struct leg *l = leg_create(anchor);
    if (h->n == LEGS_MAX && !thin(h)) { /* the beginning moves */
        leg_free(h->leg[0]);
        memmove(&h->leg[0], &h->leg[1], (LEGS_MAX - 1) * sizeof h->leg[0]);
        h->n--;
        h->rooted = false;
    }
    h->leg[h->n++] = l;
    return l;
}

struct past *past_create(struct ptrace_target *t)
{
    struct past *h = calloc(1, sizeof *h);
    if (!h)
        abort();
    h->target = t;
    h->rooted = true;
    return h;
}

void past_forget(struct past *h)
{
    while (h->n)
        drop_last(h);
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

/* ---- forward ---- */

static void collect_points(const struct process *p, struct copy_points *points)
{
    points->n = 0;
    points->fast = false;
    for (const struct breakpoint *b = p->breakpoints; b; b = b->next)
        if (b->inserted && points->n < COPY_POINTS_MAX)
            points->point[points->n++] =
                (struct copy_point){POINT_SW, b->addr, 0, b->original, b->conditions};
    for (int i = 0; i < DEBUG_REGISTERS; i++)
        if (p->debug.slot[i].size && points->n < COPY_POINTS_MAX)
            points->point[points->n++] = (struct copy_point){
                p->debug.slot[i].kind, p->debug.slot[i].addr, p->debug.slot[i].size, 0,
                p->debug.slot[i].conditions};
}

/* A copy of the process as it stands, with no breakpoint in its memory. */
static pid_t copy_present(struct thread *th)
{
    pid_t pid = copy_make(th->tid);
    for (const struct breakpoint *b = th->process->breakpoints; pid > 0 && b; b = b->next)
        if (b->inserted)
            copy_poke(pid, b->addr, b->original);
    th->can_inject = false; /* it is in another stop now */
    thread_forget_registers(th);
    return pid;
}

/* Is there one process with one thread, and can it be copied as it stands? */
static bool can_follow(struct past *h, const struct thread *th)
{
    const struct process *p = h->target->processes;
    h->why[0] = '\0';
    if (p->next)
        snprintf(h->why, sizeof h->why, "the program has several processes");
    else if (p->threads->next)
        snprintf(h->why, sizeof h->why, "%s", several_threads);
    else if (th->deliver)
        snprintf(h->why, sizeof h->why, "a signal was handed to the program");
    return !h->why[0];
}

void past_resume(struct past *h, struct thread *th)
{
    struct leg *l = last(h);
    if (!can_follow(h, th)) {
        past_forget(h);
        return;
    }
    if (th->stepping && l && l->trace && !h->touched && trace_steps(l->trace) < TRACE_MAX)
        return;
    pid_t anchor = copy_present(th);
    bool touched = h->touched;
    h->touched = false;
    if (anchor <= 0) {
        past_forget(h);
        snprintf(h->why, sizeof h->why, "the process cannot be copied");
        return;
    }
    l = add(h, anchor);
    l->diverted = touched;
    collect_points(th->process, &l->points);
    if (th->stepping)
        l->trace = trace_create(l->start);
}

void past_stepped(struct past *h, uint64_t pc)
{
    struct leg *l = last(h);
    if (l && l->trace)
        trace_add(l->trace, pc);
}

void past_ends_here(struct past *h)
{
    h->by_event = true;
}

void past_stopped(struct past *h, struct thread *th, uint64_t pc)
{
    struct leg *l = last(h);
    bool by_event = h->by_event;
    h->by_event = false;
    if (!l)
        return;
    if (l->trace && trace_pc(l->trace) == pc)
        return;
    if (l->trace) { /* a stop that was no step: back to what can be run again */
        trace_destroy(l->trace);
        l->trace = NULL;
    }
    bool interrupted = th->faked == SIGINT;
    l->measured = false;
    l->by_place = event_place(recorded_of(h), th->tid, interrupted, &l->place) == 0 &&
                  (by_event || interrupted);
    l->end = (struct mark){.addr = pc};
}

/* ---- measuring ---- */

/* Counts to the first stop, with the points that were in place. */
static int measure_by_stop(struct leg *l, pid_t pid)
{
    struct mark count = {.addr = l->end.addr};
    struct copy_run run;
    struct copy_stop stop;
    if (copy_run_begin(&run, pid, NULL, &l->points, &count) < 0)
        return -1;
    copy_run_on(&run, &stop);
    l->end.n = copy_run_count(&run) + (stop.counted ? 0 : 1);
    copy_run_end(&run);
    return stop.end != COPY_GONE && stop.pc == l->end.addr ? 0 : -1;
}

/* Finds the leg's end as a mark. Returns 0 or -1. */
static int measure(struct past *h, struct leg *l)
{
    int r;
    if (l->trace) {
        l->end = (struct mark){.addr = trace_pc(l->trace), .n = trace_count(l->trace)};
        return 0;
    }
    if (l->measured)
        return 0;
    pid_t pid = copy_make(l->anchor);
    if (pid <= 0)
        return -1;
    r = l->by_place ? event_mark(recorded_of(h), pid, &l->place, &l->end)
                    : measure_by_stop(l, pid);
    copy_kill(pid);
    l->measured = r == 0;
    return r;
}

static bool is_empty(const struct leg *l)
{
    return l->end.addr == l->start && l->end.n == 1;
}

static void set_end(struct leg *l, const struct mark *end)
{
    l->end = *end;
    l->measured = true;
    l->place.event = 0;
    size_t step;
    if (l->trace && !trace_find(l->trace, end->addr, end->n, &step)) {
        trace_cut(l->trace, step);
        stations_drop(l, step);
    }
}

/*
 * Ends the past with a leg that takes one event, where the end's event is known: what is looked for
 * next is mostly near, and counting to there costs some microseconds for each turn of a loop. Not
 * with one that takes none: the end may be where the event is taken.
 */
static void split_at_event(struct past *h)
{
    struct leg *l = last(h), end;
    const struct recorded *r = recorded_of(h);
    struct user_regs_struct regs;
    uint64_t event = l && !l->trace && r->next ? l->place.event : 0, passed = 0;
    if (event < 2 || r->next(r->arg, l->anchor) >= --event)
        return;
    struct mark count = {.addr = l->end.addr};
    pid_t pid = copy_make(l->anchor);
    if (pid <= 0 || event_reach(r, pid, event, l->measured ? &count : NULL, &passed) < 0 ||
        copy_registers(pid, &regs)) {
        copy_kill(pid);
        return;
    }
    end = *l;
    l->by_place = event_place(r, pid, false, &l->place) == 0;
    l->measured = false;
    l->end = (struct mark){.addr = regs.rip};
    l = add(h, pid);
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
static bool thin(struct past *h)
{
    size_t i = h->thinned++ % (LEGS_MAX / 2);
    struct leg *l = h->leg[i], *next = h->leg[i + 1];
    struct user_regs_struct regs;
    if (next->diverted || measure(h, l) < 0 || measure(h, next) < 0)
        return false;
    struct mark end = next->end, count = {.addr = end.addr};
    uint64_t passed = 0;
    pid_t pid = copy_make(l->anchor);
    int r = pid > 0 ? copy_run_to(pid, &l->end, &count, &passed) : -1;
    if (r == 0)
        r = copy_registers(pid, &regs);
    copy_kill(pid);
    if (r < 0)
        return false;
    bool twice = regs.rip == end.addr && regs.eflags & COPY_COUNTED_FLAG;
    end.n += passed - (twice ? 1 : 0);
    stations_drop(l, 0);
    trace_destroy(l->trace);
    l->trace = NULL;
    l->end = end;
    l->measured = true;
    leg_free(next);
    memmove(&h->leg[i + 1], &h->leg[i + 2], (h->n - i - 2) * sizeof h->leg[0]);
    h->n--;
    return true;
}

/* ---- the present ---- */

/* A copy becomes the process that GDB sees. */
static void become(struct past *h, pid_t pid)
{
    struct process *p = h->target->processes;
    struct thread *th = p->threads;
    struct user_regs_struct regs;
    copy_kill(p->pid);
    p->pid = th->tid = pid;
    if (p->memory >= 0)
        close(p->memory);
    p->memory = -1;
    th->can_inject = th->has_event = th->tripped = false;
    th->injecting = th->faked = th->reported = th->deliver = 0;
    th->deferral = DEFER_NONE;
    th->debug_generation = 0;
    thread_forget_registers(th);
    if (!copy_registers(pid, &regs)) {
        regs.eflags &= ~0x10000ull; /* RF */
        thread_set_user(th, &regs);
    }
    for (struct breakpoint *b = p->breakpoints; b; b = b->next)
        b->inserted = false;
    points_put_back(p);
    h->touched = false;
    h->target->last = pid;
    look_for_diversion(h);
}

static void pend(struct past *h, enum trap trap, uint64_t addr, enum history where,
                 const char *text)
{
    struct ptrace_target *t = h->target;
    struct thread *th = t->processes->threads;
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
    h->target->processes->threads->faked = SIGINT;
}

/* ---- one instruction back ---- */

/* Splits the last, measured leg at a place before its end. Returns 1 if it did, 0 if that place is
 * its start, -1 if it cannot be reached. */
static int split(struct past *h, const struct mark *at)
{
    struct leg *l = last(h);
    struct mark count = {.addr = l->end.addr}, end = l->end;
    struct user_regs_struct regs;
    uint64_t passed = 0, n = 0;
    pid_t pid = copy_make(l->anchor);
    if (pid <= 0)
        return -1;
    if (copy_run_to(pid, at, &count, &passed) < 0 || copy_registers(pid, &regs)) {
        copy_kill(pid);
        return -1;
    }
    bool counted = regs.eflags & COPY_COUNTED_FLAG;
    /* the end itself: */
    if (regs.rip == end.addr && passed + (counted ? 0 : 1) == end.n && at->size) {
        copy_kill(pid);
        struct mark before = {.addr = at->addr, .size = at->size, .n = at->n - 1};
        return before.n ? split(h, &before) : 0;
    }
    bool twice = regs.rip == end.addr && counted; /* up to there, and again from there */
    uint64_t event = l->place.event;
    end.n = end.n - passed + (twice ? 1 : 0);
    struct mark here = {.addr = regs.rip, .n = at->n};
    if (at->size) { /* as executions of the instruction behind the write */
        pid_t again = copy_make(l->anchor);
        struct mark which = {.addr = regs.rip};
        int r = again > 0 ? copy_run_to(again, at, &which, &n) : -1;
        if (r == 0)
            r = copy_registers(again, &regs);
        counted = regs.eflags & COPY_COUNTED_FLAG;
        copy_kill(again);
        if (r < 0) {
            copy_kill(pid);
            return -1;
        }
        here.n = n + (counted ? 0 : 1);
    }
    if (here.addr == l->start && here.n == 1) {
        copy_kill(pid);
        return 0;
    }
    set_end(l, &here);
    struct leg *rest = add(h, pid);
    set_end(rest, &end);
    rest->place.event = event;
    return 1;
}

/* Splits at the last time before the end that `what` happened, if it did. */
static int split_at_last(struct past *h, struct mark what)
{
    struct leg *l = last(h);
    if (!what.size && what.addr == l->end.addr) {
        what.n = l->end.n - 1;
    } else {
        pid_t pid = copy_make(l->anchor);
        int r = pid > 0 ? copy_run_to(pid, &l->end, &what, &what.n) : -1;
        copy_kill(pid);
        if (r < 0)
            return -1;
    }
    return what.n ? split(h, &what) : 0;
}

/* Steps through the last leg from its anchor to its end, and writes down the way. */
static int trace_last(struct past *h)
{
    struct leg *l = last(h);
    pid_t pid = copy_make(l->anchor);
    struct trace *tr = trace_create(l->start);
    uint64_t last_pc = l->start, seen = l->start == l->end.addr;
    while (pid > 0 && seen < l->end.n) {
        uint64_t pc = trace_steps(tr) < SEARCH_MAX ? copy_step(pid) : 0;
        seen += pc == l->end.addr && pc != last_pc;
        last_pc = pc;
        if (!pc) {
            copy_kill(pid);
            pid = -1;
            break;
        }
        trace_add(tr, pc);
        if (trace_steps(tr) % STATION_EVERY)
            continue;
        if (l->nstations == STATIONS_MAX) {
            copy_kill(l->station[0].pid);
            memmove(l->station, l->station + 1, (STATIONS_MAX - 1) * sizeof l->station[0]);
            l->nstations--;
        }
        pid_t station = copy_make(pid);
        if (station > 0)
            l->station[l->nstations++] = (struct station){trace_steps(tr), station};
    }
    if (pid <= 0) {
        trace_destroy(tr);
        return -1;
    }
    copy_kill(pid);
    l->trace = tr;
    return 0;
}

/*
 * Ends the history with a short traced leg. Its start is the latest of some places that are likely
 * to be just behind us: this instruction's last execution; the last use of the words about the top
 * of the stack, by a call, by a return, or by a callee that restored its registers; and the
 * instructions that lie before this one in memory.
 */
static int refine(struct past *h, uint64_t sp)
{
    struct leg *l = last(h);
    uint64_t pc = l->end.addr;
    const struct mark likely[] = {{.addr = pc},
                                  {.addr = sp, .size = 8},
                                  {.addr = sp - 8, .size = 8},
                                  {.addr = sp - 16, .size = 8},
                                  {.addr = sp - 24, .size = 8},
                                  {.addr = sp - 64, .size = 8}};
    for (size_t i = 0; i < sizeof likely / sizeof likely[0]; i++)
        if (split_at_last(h, likely[i]) < 0)
            return -1;
    for (uint64_t back = 1; back <= LONGEST; back++)
        if (split_at_last(h, (struct mark){.addr = pc - back}) < 0)
            return -1;
    return trace_last(h);
}

/* A copy of the traced leg as it is after `step` instructions. */
static pid_t copy_at(const struct leg *l, size_t step)
{
    struct station from = {0, l->anchor};
    for (size_t i = 0; i < l->nstations; i++)
        if (l->station[i].step <= step && l->station[i].step >= from.step)
            from = l->station[i];
    pid_t pid = copy_make(from.pid);
    for (size_t at = from.step; pid > 0 && at < step; at++)
        if (!copy_step(pid)) {
            copy_kill(pid);
            return -1;
        }
    return pid;
}

/* ---- before the beginning ---- */

/* The process, made anew, as it was at an event or shortly before. Returns its pid, or -1. */
static pid_t start_at(struct past *h, uint64_t event, struct err *err)
{
    const struct recorded *r = recorded_of(h);
    struct adopted made;
    if (r->start(r->arg, event, &made, err) < 0)
        return -1;
    if (procfs_tasks(made.pid, NULL, 0) != 1 ||
        ptrace(PTRACE_SETOPTIONS, made.pid, NULL, trace_options(false))) {
        copy_kill(made.pid);
        return err_set(err, "%s", several_threads);
    }
    return made.pid;
}

/*
 * A leg that ends where the past begins: from a checkpoint at least `events` events before, or from
 * the oldest that there is. It is not part of the past yet. NULL: nothing is known of what was
 * before.
 */
static struct leg *leg_before(struct past *h, uint64_t events)
{
    const struct recorded *r = recorded_of(h);
    struct leg *l, *first = h->n ? h->leg[0] : NULL;
    struct place begin;
    err_set(&h->begin, "nothing is known of what was before");
    if (!r->start || !first || !h->rooted || event_place(r, first->anchor, false, &begin) < 0)
        events = 0;
    pid_t anchor = -1;
    for (; anchor <= 0 && events; events /= 2)
        anchor = begin.event < events ? -1 : start_at(h, begin.event - events, &h->begin);
    if (anchor <= 0 || !(l = leg_create(anchor)))
        return NULL;
    l->by_place = true;
    l->place = begin;
    l->end.addr = begin.pc;
    return l;
}

/* The past begins with this leg, too. Returns 0, or -1: the leg stays the caller's. */
static int put_first(struct past *h, struct leg *l)
{
    if (h->n == LEGS_MAX && !thin(h))
        return -1;
    memmove(&h->leg[1], &h->leg[0], h->n * sizeof h->leg[0]);
    h->leg[0] = l;
    h->n++;
    return 0;
}

/* Goes one instruction back. Returns 1, 0 at the beginning, or -1. */
static int step_back(struct past *h)
{
    for (;;) {
        split_at_event(h);
        struct leg *l = last(h);
        if (!l || measure(h, l) < 0)
            return l ? -1 : 0;
        if (is_empty(l)) {
            struct leg *before = h->n == 1 ? leg_before(h, 1) : NULL;
            if (h->n == 1 && !before)
                return 0;
            drop_last(h);
            if (before)
                put_first(h, before);
            continue;
        }
        if (!l->trace) {
            struct user_regs_struct regs;
            pid_t there = copy_make(l->anchor);
            int r = there > 0 ? copy_run_to(there, &l->end, NULL, NULL) : -1;
            if (r == 0)
                r = copy_registers(there, &regs);
            copy_kill(there);
            if (r < 0 || refine(h, regs.rsp) < 0)
                return -1;
            l = last(h);
        }
        size_t step = trace_steps(l->trace) - 1;
        pid_t pid = copy_at(l, step);
        if (pid <= 0)
            return -1;
        trace_cut(l->trace, step);
        stations_drop(l, step);
        become(h, pid);
        return 1;
    }
}

/* ---- to the last stop ---- */

/* A stop of a leg: the point, and the stop as a mark from the leg's anchor. */
struct found {
    const struct copy_point *point; /* NULL: none yet */
    struct mark mark;
    uint64_t pc;
};

struct values {
    uint64_t value[COPY_POINTS_MAX];
};

static uint64_t read_value(pid_t pid, const struct copy_point *p)
{
    char path[64];
    uint64_t value = 0;
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    FILE *f = fopen(path, "re");
    if (f) {
        setvbuf(f, NULL, _IONBF, 0);
        if (fseek(f, (long)p->addr, SEEK_SET) || fread(&value, 1, p->size, f) != p->size)
            value = 0;
        fclose(f);
    }
    return value;
}

/* A write that leaves the value as it was is none for GDB. */
static bool counts(pid_t pid, const struct copy_points *points, const struct copy_point *p,
                   struct values *v)
{
    if (p->kind != POINT_WRITE)
        return true;
    size_t i = (size_t)(p - points->point);
    uint64_t now = read_value(pid, p);
    bool changed = now != v->value[i];
    v->value[i] = now;
    return changed;
}

/* A watched place that has been written just before the mark, where one SIGTRAP tells of both. */
static const struct copy_point *written(pid_t pid, const struct copy_points *points,
                                        struct values *v)
{
    for (size_t i = 0; i < points->n; i++)
        if (points->point[i].kind == POINT_WRITE && counts(pid, points, &points->point[i], v))
            return &points->point[i];
    return NULL;
}

static void find(struct found *f, const struct copy_run *run, const struct copy_stop *stop)
{
    const struct copy_point *p = stop->point;
    bool data = p->kind >= POINT_WRITE;
    *f = (struct found){.point = p,
                        .mark = {p->addr, data ? p->size : 0, copy_run_hits(run, p),
                                 p->kind == POINT_WRITE},
                        .pc = stop->pc};
}

/* Runs a copy of the leg through its stops, to the last. Returns 0 or -1. */
static int run_stops(struct past *h, struct leg *l, pid_t pid, const struct copy_points *points,
                     struct found *f)
{
    struct copy_run run;
    struct copy_stop stop;
    struct values v;
    for (size_t i = 0; i < points->n; i++)
        v.value[i] = points->point[i].kind == POINT_WRITE ? read_value(pid, &points->point[i]) : 0;
    if (copy_run_begin(&run, pid, &l->end, points, NULL) < 0)
        return -1;
    run.passed = &h->progress.stops;
    do {
        copy_run_on(&run, &stop);
        if (stop.end == COPY_POINT && counts(pid, points, stop.point, &v))
            find(f, &run, &stop);
    } while (stop.end == COPY_POINT);
    if (stop.end == COPY_MARK && (stop.point = written(pid, points, &v)))
        find(f, &run, &stop);
    copy_run_end(&run);
    return stop.end == COPY_MARK ? 0 : -1;
}

/* Runs a copy of the leg's anchor to the stop, where the leg then ends. Returns 0 or -1. */
static int run_to_found(struct past *h, struct leg *l, pid_t pid, const struct found *f)
{
    struct mark end = f->mark, count = {.addr = f->pc};
    struct user_regs_struct regs;
    bool data = f->mark.size;
    if (copy_run_to(pid, &f->mark, data ? &count : NULL, data ? &count.n : NULL) < 0 ||
        copy_registers(pid, &regs) || regs.rip != f->pc)
        return -1;
    if (data)
        end = (struct mark){.addr = f->pc, .n = count.n + !(regs.eflags & COPY_COUNTED_FLAG)};
    set_end(l, &end);
    event_place(recorded_of(h), pid, false, &l->place);
    return 0;
}

/* Finds the last stop in a leg. Returns a copy of the process there, with *point, and the leg's end
 * is there; 0 if there is none, or -1. */
static pid_t search(struct past *h, struct leg *l, const struct copy_points *points,
                    const struct copy_point **point)
{
    struct found f = {.point = NULL};
    search_in(h, l->anchor);
    pid_t pid = copy_make(l->anchor);
    int r = pid > 0 ? run_stops(h, l, pid, points, &f) : -1;
    copy_kill(pid);
    if (r < 0 || !f.point)
        return r;
    *point = f.point;
    pid = copy_make(l->anchor);
    if (pid > 0 && run_to_found(h, l, pid, &f) == 0)
        return pid;
    copy_kill(pid);
    return -1;
}

static enum trap trap_of(const struct copy_point *p)
{
    return p->kind == POINT_SW      ? TRAP_SW_BREAK
           : p->kind == POINT_HW    ? TRAP_HW_BREAK
           : p->kind == POINT_WRITE ? TRAP_WATCH_WRITE
                                    : TRAP_WATCH_ACCESS;
}

/* To the beginning of the first leg, for want of a stop. */
static int to_beginning(struct past *h)
{
    struct leg *l = h->leg[0];
    pid_t pid = copy_make(l->anchor);
    if (pid <= 0)
        return -1;
    keep_legs(h, 1);
    set_end(l, &(struct mark){.addr = l->start, .n = 1});
    become(h, pid);
    return 0;
}

/* Does the limit lie behind this anchor, or where the process is now? */
static bool behind_limit(const struct past *h, pid_t pid)
{
    const struct recorded *r = recorded_of(h);
    return h->limit && r->next(r->arg, pid) < h->limit;
}

/* Looks through what was before the past, checkpoint by checkpoint; while nothing is found the
 * strides grow, as making the process costs more than letting it run over a few events. */
static int continue_before(struct past *h, const struct copy_points *points,
                           const struct copy_point **point)
{
    struct leg *l;
    for (uint64_t events = 1; (l = leg_before(h, events)); events *= 2) {
        pid_t pid = measure(h, l) < 0 ? -1 : search(h, l, points, point);
        if (pid < 0 || put_first(h, l) < 0) {
            copy_kill(pid);
            leg_free(l);
            return -1;
        }
        if (pid > 0) {
            keep_legs(h, 1);
            become(h, pid);
            return 1;
        }
        if (behind_limit(h, l->anchor))
            return 0;
    }
    return to_beginning(h);
}

/* Returns 1 with *point, 0 at the beginning, or -1. */
static int continue_back(struct past *h, const struct copy_points *points,
                         const struct copy_point **point)
{
    int r = 0;
    split_at_event(h);
    for (size_t i = h->n; i > 0 && !r; i--) {
        struct leg *l = h->leg[i - 1];
        if (measure(h, l) < 0)
            return -1;
        pid_t pid = is_empty(l) ? 0 : search(h, l, points, point);
        if (pid < 0)
            return -1;
        if (!pid && behind_limit(h, l->anchor))
            return 0;
        if (!pid)
            continue;
        keep_legs(h, i);
        become(h, pid);
        r = 1;
    }
    if (!r && h->n)
        r = continue_before(h, points, point);
    if (r > 0 && (*point)->kind >= POINT_WRITE) /* GDB wants it before the access */
        return step_back(h) < 0 ? -1 : 1;
    return r;
}

/* ---- to an event ---- */

/* A leg that ends where `pid`, a copy of its anchor that ran on, is. */
static struct leg *leg_to(struct past *h, pid_t anchor, pid_t pid)
{
    struct leg *l = add(h, anchor);
    l->by_place = event_place(recorded_of(h), pid, false, &l->place) == 0;
    l->end.addr = l->place.pc;
    return l;
}

/* A copy of the anchor at the boundary of the event, or -1. */
static pid_t copy_to_event(struct past *h, pid_t anchor, uint64_t event)
{
    const struct recorded *r = recorded_of(h);
    pid_t pid = copy_make(anchor);
    if (pid <= 0 || r->next(r->arg, pid) >= event)
        return pid;
    if (event_reach(r, pid, event, NULL, NULL) == 0)
        return event_boundary(r, pid, event);
    copy_kill(pid);
    return -1;
}

/* From a leg of the past, which then ends there: the last one that begins before the event.
 * Returns 1, 0 if there is none, or -1. */
static int go_by_leg(struct past *h, uint64_t event)
{
    const struct recorded *r = recorded_of(h);
    size_t n = h->n;
    while (n && r->next(r->arg, h->leg[n - 1]->anchor) >= event)
        n--;
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
        drop_last(h);
    leg_to(h, anchor, pid)->diverted = diverted;
    become(h, pid);
    return 1;
}

static int go_by_start(struct past *h, uint64_t event, struct err *err)
{
    pid_t anchor = start_at(h, event, err);
    if (anchor <= 0)
        return -1;
    pid_t pid = copy_to_event(h, anchor, event);
    if (pid <= 0) {
        copy_kill(anchor);
        return err_set(err, "%s", not_there);
    }
    past_begin(h);
    leg_to(h, anchor, pid);
    become(h, pid);
    return 0;
}

static int go_forward(struct past *h, struct thread *th, uint64_t event, struct err *err)
{
    pid_t anchor = copy_present(th);
    pid_t pid = anchor > 0 ? copy_to_event(h, anchor, event) : -1;
    if (pid <= 0) {
        copy_kill(anchor);
        return err_set(err, "%s", not_there);
    }
    leg_to(h, anchor, pid)->diverted = h->touched;
    become(h, pid);
    return 0;
}

int ptrace_target_goto(struct target *base, uint64_t event, struct err *err)
{
    struct ptrace_target *t = ptrace_target_of(base);
    const struct recorded *r = &t->options.recorded;
    struct past *h = t->past;
    if (!t->processes || !h || !r->start)
        return err_set(err, "there is no recording to move in");
    struct thread *th = t->processes->threads;
    if (!can_follow(h, th))
        return err_set(err, "cannot move: %s", h->why);
    int went;
    search_begin(h, "going to an event");
    if (r->next(r->arg, th->tid) < event)
        went = go_forward(h, th, event, err) < 0 ? -1 : 1;
    else if ((went = go_by_leg(h, event)) < 0)
        err_set(err, "%s", lost);
    else if (!went)
        went = go_by_start(h, event, err);
    if (reverse_wait_end() && went < 0)
        err_set(err, "interrupted");
    t->moved |= went >= 0;
    return went < 0 ? -1 : 0;
}

/* ---- copies that the caller keeps ---- */

bool ptrace_target_diverted(struct target *base)
{
    const struct past *h = ptrace_target_of(base)->past;
    return h && h->diverted;
}

pid_t ptrace_target_copy(struct target *base, struct err *err)
{
    struct ptrace_target *t = ptrace_target_of(base);
    if (!t->processes || !t->past)
        return err_set(err, "there is no process that runs again as it ran");
    if (!can_follow(t->past, t->processes->threads))
        return err_set(err, "%s", t->past->why);
    pid_t pid = copy_present(t->processes->threads);
    return pid > 0 ? pid : err_set(err, "the process cannot be copied");
}

int ptrace_target_return(struct target *base, pid_t kept, struct err *err)
{
    struct ptrace_target *t = ptrace_target_of(base);
    struct past *h = t->past;
    pid_t pid = t->processes && h ? copy_make(kept) : -1;
    if (pid <= 0)
        return err_set(err, "%s", t->processes ? "the process cannot be copied"
                                               : "the program has ended; type: run");
    past_begin(h);
    become(h, pid);
    t->moved = true;
    return 0;
}

/* ---- for GDB ---- */

/* Where the process has not run yet: a leg of no length, so that what is before can be reached. */
static void begin_here(struct past *h, struct thread *th)
{
    pid_t anchor = h->rooted && can_follow(h, th) ? copy_present(th) : -1;
    if (anchor > 0) {
        struct leg *l = add(h, anchor);
        set_end(l, &(struct mark){.addr = l->start, .n = 1});
    }
}

/* Says so where there is no past. Returns false if there is one. */
static bool refuse(struct past *h)
{
    const struct process *p = h->target->processes;
    err_set(&h->begin, "nothing is known of what was before");
    if (!h->n)
        begin_here(h, p->threads);
    if (p->threads->next)
        pend(h, TRAP_OTHER, 0, HISTORY_BEGIN, several_threads);
    else if (!h->n)
        pend(h, TRAP_OTHER, 0, HISTORY_BEGIN, h->why[0] ? h->why : NULL);
    else
        return false;
    return true;
}

int target_reverse_step(struct target *base, struct ptid thread)
{
    struct ptrace_target *t = ptrace_target_of(base);
    (void)thread; /* there is one */
    if (!t->processes || !t->past)
        return -1;
    if (refuse(t->past))
        return 0;
    search_begin(t->past, "going back");
    int r = step_back(t->past);
    if (reverse_wait_end() && r < 0)
        pend_interrupted(t->past);
    else
        pend(t->past, r > 0 ? TRAP_STEP : TRAP_OTHER, 0, r > 0 ? HISTORY_INSIDE : HISTORY_BEGIN,
             r < 0 ? lost : NULL);
    return 0;
}

/* Goes to the limit, if there is one and no later stop was found. */
static bool to_limit(struct past *h, bool found)
{
    struct ptrace_target *t = h->target;
    if (!h->limit || (found && !behind_limit(h, t->processes->threads->tid)) ||
        ptrace_target_goto(&t->base, h->limit, NULL) < 0)
        return false;
    t->pending = (struct event){.kind = EVENT_STOPPED,
                                .thread = thread_shown(t->processes->threads)};
    t->has_pending = true;
    t->moved = false; /* this is its stop */
    return true;
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
    t->past->limit = hook->back ? hook->back(hook->arg, base) : 0;
    search_begin(t->past, "going back");
    int r = points.n || !t->past->limit ? continue_back(t->past, &points, &point) : 0;
    bool interrupted = reverse_wait_end() && r < 0;
    bool limited = r >= 0 && to_limit(t->past, r > 0);
    t->past->limit = 0;
    if (limited)
        hook->backed(hook->arg, base, &t->pending);
    else if (interrupted)
        pend_interrupted(t->past);
    else if (r > 0)
        pend(t->past, trap_of(point), point->addr, HISTORY_INSIDE, NULL);
    else
        pend(t->past, TRAP_OTHER, 0, HISTORY_BEGIN, r < 0 ? lost : NULL);
    return 0;
}
