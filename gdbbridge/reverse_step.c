/*
 * reverse_step.c - one instruction back
 *
 * What stands before an instruction cannot be told from memory. So the last leg is made short, by
 * guesses that are likely to be just behind, and stepped through once; that trace then serves the
 * steps back that follow.
 */
#include <string.h>

#include "gdbbridge/reverse_private.h"

#define STATION_EVERY 64      /* instructions: 1 ms of single steps */
#define SEARCH_MAX    4000000 /* instructions that are stepped through to find the one before */
#define LONGEST       15      /* bytes of an instruction */

/* Steps through the last leg from its anchor to its end, and writes down the way. */
static int trace_last(struct past *h)
{
    struct leg *l = past_last(h);
    pid_t pid = leg_copy(l);
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
    struct leg *l = past_last(h);
    uint64_t pc = l->end.addr;
    const struct mark likely[] = {{.addr = pc},
                                  {.addr = sp, .size = 8},
                                  {.addr = sp - 8, .size = 8},
                                  {.addr = sp - 16, .size = 8},
                                  {.addr = sp - 24, .size = 8},
                                  {.addr = sp - 64, .size = 8}};
    for (size_t i = 0; i < sizeof likely / sizeof likely[0]; i++)
        if (past_split_at_last(h, likely[i]) < 0)
            return -1;
    for (uint64_t back = 1; back <= LONGEST; back++)
        if (past_split_at_last(h, (struct mark){.addr = pc - back}) < 0)
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

int past_step_back(struct past *h)
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
        if (!l->trace) {
            struct user_regs_struct regs;
            pid_t there = leg_copy(l);
            int r = there > 0 ? copy_run_to(there, &l->end, NULL, NULL) : -1;
            if (r == 0)
                r = copy_registers(there, &regs);
            copy_kill(there);
            if (r < 0 || refine(h, regs.rsp) < 0)
                return -1;
            l = past_last(h);
        }
        size_t step = trace_steps(l->trace) - 1;
        pid_t pid = copy_at(l, step);
        if (pid <= 0)
            return -1;
        trace_cut(l->trace, step);
        leg_drop_stations(l, step);
        past_become(h, pid);
        return 1;
    }
}
