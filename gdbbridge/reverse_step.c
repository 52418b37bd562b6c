/*
 * reverse_step.c - one instruction back
 *
 * What stands before an instruction cannot be told from memory. So the last leg is made short, by
 * guesses that are likely to be just behind, and stepped through once; that trace then serves the
 * steps back that follow.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "gdbbridge/procfs.h"
#include "gdbbridge/reverse_private.h"

#define STATION_EVERY 64      /* instructions: 1 ms of single steps */
#define SEARCH_MAX    4000000 /* instructions that are stepped through to find the one before */
#define WAITS         "this thread waits in a call: go back in the one that ran"
#define LONGEST       15      /* bytes of an instruction */

/* Steps through the last leg from its anchor to its end, and writes down the way. */
static int trace_last(struct past *h)
{
    struct leg *l = past_last(h);
    pid_t pid = leg_copy(l);
    uint64_t start = leg_start(l, l->end.thread), last_pc = start, seen = start == l->end.addr;
    struct trace *tr = trace_create(start);
    while (pid > 0 && seen < l->end.n) {
        uint64_t pc = trace_steps(tr) < SEARCH_MAX ? copy_step(pid, l->end.thread) : 0;
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

#define CALLS_MAX 8

/* Instructions that may be the call which returns to the word on top of the stack, where a function
 * begins: what ends there and looks like one. Returns how many. */
static size_t calls_before(pid_t pid, uint64_t sp, uint64_t call[CALLS_MAX])
{
    uint64_t back;
    uint8_t code[CALLS_MAX]; /* before that place */
    size_t n = 0;
    if (procfs_peek(pid, sp, &back, sizeof back) != sizeof back ||
        procfs_peek(pid, back - sizeof code, code, sizeof code) != sizeof code)
        return 0;
    for (unsigned length = 2; length < sizeof code; length++) {
        const uint8_t *at = code + sizeof code - length;
        bool direct = length == 5 && at[0] == 0xe8;
        bool prefixed = length > 2 && (at[0] & 0xf0) == 0x40; /* REX */
        bool indirect = at[prefixed] == 0xff && (at[prefixed + 1] >> 3 & 7) == 2;
        if (direct || indirect)
            call[n++] = back - length;
    }
    return n;
}

/*
 * Ends the history with a short traced leg. Its start is the latest of some places that are likely
 * to be just behind us: this instruction's last execution; the last use of the words about the top
 * of the stack, by a call, by a return, or by a callee that restored its registers; the
 * instructions that lie before this one in memory; and where a function begins, its call, of
 * `calls` places.
 */
static int refine(struct past *h, uint64_t sp, const uint64_t *call, size_t calls)
{
    struct leg *l = past_last(h);
    uint64_t pc = l->end.addr;
    const struct mark likely[] = {{.addr = pc},
                                  {.addr = sp, .size = 8},
                                  {.addr = sp - 8, .size = 8},
                                  {.addr = sp - 16, .size = 8},
                                  {.addr = sp - 24, .size = 8},
                                  {.addr = sp - 64, .size = 8}};
    /* A thread that waits for others goes about it in its stub, as often as it takes. */
    bool several = crowd_of(l->anchor);
    for (size_t i = 0; i < sizeof likely / sizeof likely[0]; i++)
        if (past_split_at_last(h, likely[i]) < 0 && !several)
            return -1;
    for (uint64_t back = 1; back <= LONGEST; back++)
        if (past_split_at_last(h, (struct mark){.addr = pc - back}) < 0 && !several)
            return -1;
    for (size_t i = 0; i < calls; i++)
        if (past_split_at_last(h, (struct mark){.addr = call[i]}) < 0 && !several)
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
        if (!copy_step(pid, l->end.thread)) {
            copy_kill(pid);
            return -1;
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
    uint64_t blocked = 0;
    pid_t tid = crowd_tid(pid, thread);
    if (tid <= 0 || copy_registers(tid, &regs))
        return false;
    uint64_t pc = regs.rip;
    copy_restart_call(&regs);
    return regs.rip != pc || copy_at_call(tid, pc) ||
           ptrace(PTRACE_GETSIGMASK, tid, sizeof blocked, &blocked) ||
           blocked & 1ull << (SIGTRAP - 1);
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
    struct user_regs_struct regs;
    uint64_t call[CALLS_MAX];
    if (l->trace)
        return 0;
    pid_t there = copy_at_end(l);
    int r = there > 0 ? copy_registers(crowd_tid(there, l->end.thread), &regs) : -1;
    size_t calls = r < 0 ? 0 : calls_before(there, regs.rsp, call);
    copy_kill(there);
    return r < 0 ? -1 : refine(h, regs.rsp, call, calls);
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
