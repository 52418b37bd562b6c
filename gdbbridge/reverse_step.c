/*
 * reverse_step.c - one instruction back
 *
 * What stands before an instruction cannot be told from memory. So the last leg is made short, by
 * guesses that are likely to be just behind, and stepped through once; that trace then serves the
 * steps back that follow.
 *
 * Where threads take turns guesses cost more, and traces are as long as they may be. Such a trace
 * is of instructions only that the thread executes alone, in one turn of its own:
 *
 *     ...--loop--loop--[system call]--loop--loop--loop--present
 *                                    |<----- trace ---->|
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "gdbbridge/dispatch.h"
#include "gdbbridge/procfs.h"
#include "gdbbridge/reverse_private.h"

#define STATION_EVERY 64      /* instructions: 1 ms of single steps */
#define STATION_ALONE 128     /* the same where copies take longer */
#define STATION_NEAR  16      /* the same, of those that steps back are made from */
#define SEARCH_MAX    4000000 /* instructions that are stepped through to find the one before */
#define ALONE_MAX     512     /* of a thread alone: no slower than the guesses that they spare */
#define LOOP_MAX      1024    /* the same of some turns of a loop, which are known to be no more */
#define TURNS_MAX     8192    /* the same of the last turns of a loop that is alone */
#define CALLS_IN_WAY  8       /* that the thread makes on the way of such a trace */
#define BELOW         64      /* words below the stack that are looked at */
#define RETURNS_MAX   3       /* of them */
#define WAITS         "this thread waits in a call: go back in the one that ran"
#define LONGEST       15      /* bytes of an instruction */

/* What follows the anchor, step by step. */
struct tracing {
    struct leg *leg;
    struct trace *trace;
    pid_t pid;
    uint64_t last_pc, seen; /* of the end's instruction: how often */
};

static void tracing_begin(struct tracing *g, struct leg *l)
{
    uint64_t start = leg_start(l, l->end.thread);
    *g = (struct tracing){.leg = l,
                          .trace = trace_create(start),
                          .pid = leg_copy(l),
                          .last_pc = start,
                          .seen = start == l->end.addr};
}

/* Leaves a copy of what is at this step of a traced leg. */
static void leg_station(struct leg *l, pid_t pid, size_t step)
{
    if (l->nstations == STATIONS_MAX) {
        copy_kill(l->station[0].pid);
        memmove(l->station, l->station + 1, (STATIONS_MAX - 1) * sizeof l->station[0]);
        l->nstations--;
    }
    pid_t station = copy_make(pid);
    if (station > 0)
        l->station[l->nstations++] = (struct station){step, station};
}

/* It is at pc now, after one step more. */
static void tracing_add(struct tracing *g, uint64_t pc, size_t every)
{
    struct leg *l = g->leg;
    g->seen += pc == l->end.addr && pc != g->last_pc;
    g->last_pc = pc;
    trace_add(g->trace, pc);
    if (trace_steps(g->trace) % every == 0)
        leg_station(l, g->pid, trace_steps(g->trace));
}

/* The leg is a traced one then if that has come to its end. */
static bool tracing_end(struct tracing *g, bool there)
{
    copy_kill(g->pid);
    if (there) {
        g->leg->trace = g->trace;
        return true;
    }
    trace_destroy(g->trace);
    leg_drop_stations(g->leg, 0);
    return false;
}

/* Steps through the last leg from its anchor to its end, and writes down the way. Returns 0, or -1,
 * also if it takes more steps than `most`. */
static int trace_last(struct past *h, size_t most)
{
    struct leg *l = past_last(h);
    struct tracing g;
    uint64_t pc = 1;
    tracing_begin(&g, l);
    while (g.pid > 0 && g.seen < l->end.n && pc) {
        pc = trace_steps(g.trace) < most ? copy_step(g.pid, l->end.thread) : 0;
        if (pc)
            tracing_add(&g, pc, STATION_EVERY);
    }
    bool there = g.pid > 0 && pc;
    /* What is executed in handlers of the stub is counted in the mark, and not here. Of SIGTRAP
     * nobody can tell: a step's takes the place of one that somebody has sent. */
    if (there && l->end.sent && l->end.sent != SIGTRAP)
        there = procfs_task_pending(g.pid, crowd_tid(g.pid, l->end.thread), l->end.sent);
    return tracing_end(&g, there) ? 0 : -1;
}

/* Has the thread in that copy the registers that it has at the leg's end? */
static bool has_registers(pid_t pid, uint64_t thread, const struct user_regs_struct *end)
{
    struct user_regs_struct regs;
    pid_t tid = crowd_tid(pid, thread);
    if (tid <= 0 || copy_registers(tid, &regs))
        return false;
    regs.eflags = end->eflags; /* the kernel lends some of them to the debugger */
    regs.orig_rax = end->orig_rax;
    return !memcmp(&regs, end, sizeof regs);
}

/*
 * The same where the thread takes no more than `most` steps, and takes them alone, and comes to
 * where it has the registers `at`. Returns false if not; *behind is then where a call ends that it
 * makes on the way, or 0.
 */
static bool trace_alone(struct past *h, const struct user_regs_struct *at, size_t most,
                        uint64_t *behind)
{
    struct leg *l = past_last(h);
    struct tracing g;
    uint64_t pc = 1;
    *behind = 0;
    tracing_begin(&g, l);
    while (g.pid > 0 && g.seen < l->end.n && pc && trace_steps(g.trace) < most)
        if ((pc = copy_step_alone(g.pid, l->end.thread, behind)))
            tracing_add(&g, pc, STATION_ALONE);
    bool there = g.pid > 0 && g.seen == l->end.n && pc;
    return tracing_end(&g, there && has_registers(g.pid, l->end.thread, at));
}

/* Splits the last leg at a place that is likely to be near its end. */
static bool cut(struct past *h, int (*split)(struct past *h, struct mark at), struct mark at)
{
    if (!at.addr || split(h, at) <= 0)
        return false;
    past_last(h)->near = true;
    return true;
}

/* The same, from behind the last of the calls that are in the way. */
static bool trace_turn(struct past *h, const struct user_regs_struct *at, size_t most)
{
    uint64_t behind;
    for (int calls = 0; calls < CALLS_IN_WAY; calls++) {
        if (trace_alone(h, at, most, &behind))
            return true;
        past_last(h)->near = false;
        if (!behind || !cut(h, past_split_at_last, (struct mark){.addr = behind}))
            return false;
    }
    return false;
}

#define CALLS_MAX   8
#define CALL_POINTS 3 /* of them that are looked for */

/* Instructions that may be the call, of a function or of the system, which returns to `back`: what
 * ends there and looks like one. Returns how many. */
static size_t calls_before(pid_t pid, uint64_t back, uint64_t call[CALLS_MAX])
{
    uint8_t code[CALLS_MAX]; /* before that place */
    size_t n = 0;
    if (procfs_peek(pid, back - sizeof code, code, sizeof code) != sizeof code)
        return 0;
    for (unsigned length = 2; length < sizeof code; length++) {
        const uint8_t *at = code + sizeof code - length;
        bool system = length == 2 && at[0] == 0x0f && at[1] == 0x05;
        bool direct = length == 5 && at[0] == 0xe8;
        bool prefixed = length > 2 && (at[0] & 0xf0) == 0x40; /* REX */
        bool indirect = at[prefixed] == 0xff && (at[prefixed + 1] >> 3 & 7) == 2;
        if (system || direct || indirect)
            call[n++] = back - length;
    }
    return n;
}

/* Where a leg ends, and what that tells of the way there. */
struct end {
    struct user_regs_struct regs;
    bool alone;               /* the instruction before is none that the process handles itself */
    uint64_t call[CALLS_MAX]; /* where a function begins: that may have called it */
    size_t calls;
    uint64_t back; /* to there it returns then */
    uint64_t site; /* where the thread's last call that took an event returned to; 0: not known */
    uint64_t returned[RETURNS_MAX]; /* to where the last calls are likely to have returned */
    size_t nreturned;
};

/* What calls leave below the stack, where they have returned. */
static void find_returned(struct end *e, pid_t pid)
{
    uint64_t below[BELOW], call[CALLS_MAX];
    if (procfs_peek(pid, e->regs.rsp - sizeof below, below, sizeof below) != sizeof below)
        return;
    for (size_t i = BELOW; i-- > 0 && e->nreturned < RETURNS_MAX;)
        if (below[i] != e->regs.rip && calls_before(pid, below[i], call))
            e->returned[e->nreturned++] = below[i];
}

/* Where a thread's last call that took an event returned to, or 0. */
static uint64_t site_of(const struct past *h, pid_t tid)
{
    const struct recorded *r = past_recorded(h);
    uint64_t event, site;
    return r->last && r->last(r->arg, tid, &event, &site) ? site : 0;
}

static void look_around(const struct past *h, struct end *e, pid_t pid, pid_t tid)
{
    uint64_t back;
    if (procfs_peek(pid, e->regs.rsp, &back, sizeof back) == sizeof back &&
        (e->calls = calls_before(pid, back, e->call)))
        e->back = back;
    if (!crowd_of(pid))
        return;
    e->alone = !copy_at_call(tid, e->regs.rip - 2);
    e->site = site_of(h, tid);
    find_returned(e, pid);
}

/* Words about the top of the stack that are likely to have been used just before: by a call, by a
 * return, or by a callee that restored its registers. */
static const int near_top[] = {0, -8, -16, -24, -64};
enum { NEAR_TOP = sizeof near_top / sizeof near_top[0] };

static struct mark word_near_top(const struct end *e, size_t i)
{
    return (struct mark){.addr = e->regs.rsp + (uint64_t)(int64_t)near_top[i], .size = 8};
}

/*
 * The end's instruction has run many times in the last leg: it is in a loop, and to count to there
 * takes long. So anchors are left some thousands of turns before it, and less, which are near for
 * the steps to come. Returns whether the last turns have been traced.
 */
static bool refine_loop(struct past *h)
{
    static const uint64_t turns[] = {1 << 18, 1 << 12, 1 << 6};
    bool loop = false;
    for (size_t i = 0; i < sizeof turns / sizeof turns[0]; i++) {
        const struct mark *end = &past_last(h)->end;
        struct mark at = {.addr = end->addr, .n = end->n > turns[i] ? end->n - turns[i] : 0};
        loop |= past_split_at(h, at) > 0;
    }
    return loop && trace_last(h, TURNS_MAX) == 0;
}

/*
 * Ends the history with a short traced leg. Its start is the latest of some places that are likely
 * to be just behind us: this instruction's last execution; the last use of the words about the top
 * of the stack; the instructions that lie before this one in memory; and where a function begins,
 * its call.
 */
static int refine(struct past *h, const struct end *e)
{
    struct leg *l = past_last(h);
    uint64_t pc = l->end.addr;
    /* A thread that waits for others goes about it in its stub, as often as it takes. */
    bool several = crowd_of(l->anchor);
    if (!several && refine_loop(h))
        return 0;
    if (past_split_at_last(h, (struct mark){.addr = pc}) < 0 && !several)
        return -1;
    for (size_t i = 0; i < NEAR_TOP; i++)
        if (past_split_at_last(h, word_near_top(e, i)) < 0 && !several)
            return -1;
    for (uint64_t back = 1; back <= LONGEST; back++)
        if (past_split_at_last(h, (struct mark){.addr = pc - back}) < 0 && !several)
            return -1;
    for (size_t i = 0; i < e->calls; i++)
        if (past_split_at_last(h, (struct mark){.addr = e->call[i]}) < 0 && !several)
            return -1;
    return trace_last(h, SEARCH_MAX);
}

/* Of a loop whose last turn has been traced: some more of them. */
static bool trace_loop(struct past *h, const struct end *e)
{
    struct leg *l = past_last(h);
    uint64_t turns = h->loop_steps ? LOOP_MAX / h->loop_steps : 0;
    if (h->loop_pc != l->end.addr || l->end.n == 1 || !turns)
        return false;
    turns = turns < l->end.n - 1 ? turns : l->end.n - 1;
    cut(h, past_split_at, (struct mark){.addr = l->end.addr, .n = l->end.n - turns});
    if (trace_turn(h, &e->regs, 2 * LOOP_MAX))
        return true;
    h->loop_pc = 0;
    return false;
}

/*
 * The same where threads take turns: the last of places that are further behind. The legs that are
 * cut off on the way to it serve later steps.
 */
static bool refine_alone(struct past *h, const struct end *e)
{
    uint64_t pc = past_last(h)->end.addr;
    if (past_last(h)->near && trace_turn(h, &e->regs, ALONE_MAX))
        return true;
    if (trace_loop(h, e))
        return true;
    bool shorter = cut(h, past_split_at_last, (struct mark){.addr = e->site});
    bool around = cut(h, past_split_at_last, (struct mark){.addr = pc});
    bool later = cut(h, past_split_at_last, (struct mark){.addr = e->back});
    for (size_t i = 0; i < e->nreturned; i++)
        later |= cut(h, past_split_at_last, (struct mark){.addr = e->returned[i]});
    if ((shorter || around || later) && trace_turn(h, &e->regs, ALONE_MAX)) {
        h->loop_pc = around && !later ? pc : 0;
        h->loop_steps = trace_steps(past_last(h)->trace);
        return true;
    }
    shorter = false;
    for (size_t i = 0; i < NEAR_TOP; i++)
        shorter |= cut(h, past_split_at_last, word_near_top(e, i));
    return shorter && trace_turn(h, &e->regs, ALONE_MAX);
}

/* A copy of the traced leg as it is after `step` instructions. One that took many from the last
 * station leaves another one shortly before, as the next one will be wanted there. */
static pid_t copy_at(struct leg *l, size_t step)
{
    struct station from = {0, l->anchor};
    for (size_t i = 0; i < l->nstations; i++)
        if (l->station[i].step <= step && l->station[i].step >= from.step)
            from = l->station[i];
    pid_t pid = copy_make(from.pid);
    for (size_t at = from.step; pid > 0 && at < step; at++) {
        if (at + STATION_NEAR == step && at > from.step + STATION_NEAR)
            leg_station(l, pid, at);
        if (!copy_step(pid, l->end.thread)) {
            copy_kill(pid);
            return -1;
        }
    }
    return pid;
}

/* A copy of a leg at its end, or -1. */
static pid_t copy_at_end(const struct leg *l)
{
    pid_t pid = leg_copy(l);
    if (pid > 0 && copy_run_to(pid, &l->end, NULL, NULL) == 0)
        return pid;
    copy_kill(pid);
    return -1;
}

/* Does a thread of a stopped process wait in a system call? How often it has looked at what it
 * waits for, and what it does with signals blocked, is no place that can be found again. */
static bool waits(pid_t pid, uint64_t thread)
{
    struct user_regs_struct regs;
    pid_t tid = crowd_tid(pid, thread);
    if (tid <= 0 || copy_registers(tid, &regs))
        return false;
    uint64_t pc = regs.rip;
    copy_restart_call(&regs);
    return regs.rip != pc || copy_at_call(tid, pc) || dispatch_inside(tid);
}

/*
 * The last leg ends with a stop of another thread. Ends it where this one has come to its present
 * place; others are further back then. Legs in which it does not move are given up. Returns 1; 0:
 * it has not moved in any; or -1.
 */
static int end_with(struct past *h, uint64_t thread)
{
    struct leg *l;
    for (; (l = past_last(h)); past_drop_last(h)) {
        struct user_regs_struct regs;
        struct mark at = {.thread = thread};
        if (leg_measure(h, l) < 0)
            return -1;
        if (leg_is_empty(l))
            continue;
        pid_t pid = copy_at_end(l);
        bool there = pid > 0 && !copy_registers(crowd_tid(pid, thread), &regs);
        if (there && waits(pid, thread)) {
            copy_kill(pid);
            snprintf(h->why, sizeof h->why, WAITS);
            return -1;
        }
        copy_kill(pid);
        if (pid <= 0)
            return -1;
        at.addr = there ? regs.rip : 0;
        pid = leg_copy(l);
        int r = pid > 0 ? copy_run_to(pid, &l->end, &at, &at.n) : -1;
        copy_kill(pid);
        if (r < 0)
            return -1;
        at.n++; /* the one that it is at has not run */
        if (!there || (at.n == 1 && at.addr == leg_start(l, thread)))
            continue;
        leg_set_end(l, &at);
        return 1;
    }
    return 0;
}

/* The last leg ends with a stop of the thread: makes it a traced one, if it is none. */
static int trace_end(struct past *h)
{
    struct leg *l = past_last(h);
    struct end e = {.calls = 0};
    if (l->trace)
        return 0;
    pid_t there = copy_at_end(l);
    pid_t tid = there > 0 ? crowd_tid(there, l->end.thread) : 0;
    int r = tid > 0 ? copy_registers(tid, &e.regs) : -1;
    if (r == 0)
        look_around(h, &e, there, tid);
    copy_kill(there);
    return r < 0 ? -1 : e.alone && refine_alone(h, &e) ? 0 : refine(h, &e);
}

int past_step_back(struct past *h, uint64_t thread)
{
    for (;;) {
        past_split_at_event(h);
        struct leg *l = past_last(h);
        if (!l || leg_measure(h, l) < 0)
            return l ? -1 : 0;
        if (leg_is_empty(l)) {
            struct leg *before = h->n == 1 ? past_leg_before(h, 1) : NULL;
            if (h->n == 1 && !before)
                return 0;
            past_drop_last(h);
            if (before)
                past_put_first(h, before);
            continue;
        }
        if (l->end.thread != thread) {
            int r = end_with(h, thread);
            if (r <= 0)
                return r;
            continue;
        }
        if (trace_end(h) < 0)
            return -1;
        l = past_last(h);
        size_t step = trace_steps(l->trace) - 1;
        pid_t pid = copy_at(l, step);
        if (pid <= 0)
            return -1;
        trace_cut(l->trace, step);
        leg_drop_stations(l, step);
        past_become(h, pid, thread);
        return 1;
    }
}

int past_call_back(struct past *h, uint64_t thread, uint64_t back)
{
    uint64_t call[CALLS_MAX];
    struct copy_points points = {.n = 0};
    const struct copy_point *point;
    size_t n = h->n ? calls_before(past_last(h)->anchor, back, call) : 0;
    /* In registers: what looks like a call may be the midst of another instruction. */
    for (size_t i = 0; i < n && i < CALL_POINTS; i++)
        points.point[points.n++] = (struct copy_point){.kind = POINT_HW, .addr = call[i]};
    if (!points.n)
        return past_step_back(h, thread);
    int r;
    do
        r = past_continue_back(h, &points, &point);
    while (r > 0 && h->thread != thread);
    return r;
}
