/*
 * reverse_trace.c - the program counters of a row of single steps
 */
#include "gdbbridge/reverse_trace.h"

#include <stdbool.h>
#include <stdlib.h>

struct trace {
    uint64_t *pc; /* [0] is the start, [i] where step i led */
    size_t steps, room;
};

struct trace *trace_create(uint64_t start)
{
    struct trace *t = calloc(1, sizeof *t);
    if (!t || !(t->pc = malloc(64 * sizeof *t->pc)))
        abort();
    t->room = 64;
    t->pc[0] = start;
    return t;
}

void trace_destroy(struct trace *t)
{
    if (!t)
        return;
    free(t->pc);
    free(t);
}

void trace_add(struct trace *t, uint64_t pc)
{
    if (t->steps + 1 == t->room) {
        t->room *= 2;
        t->pc = realloc(t->pc, t->room * sizeof *t->pc);
        if (!t->pc)
            abort();
    }
    t->pc[++t->steps] = pc;
}

size_t trace_steps(const struct trace *t)
{
    return t->steps;
}

uint64_t trace_pc(const struct trace *t)
{
    return t->pc[t->steps];
}

/* Is step i the first at its instruction, not a further round of a repeated one? */
static bool begins(const struct trace *t, size_t i)
{
    return i == 0 || t->pc[i] != t->pc[i - 1];
}

uint64_t trace_count(const struct trace *t)
{
    uint64_t n = 0;
    for (size_t i = 0; i <= t->steps; i++)
        n += t->pc[i] == t->pc[t->steps] && begins(t, i);
    return n;
}

int trace_find(const struct trace *t, uint64_t pc, uint64_t n, size_t *step)
{
    for (size_t i = 0; i <= t->steps; i++)
        if (t->pc[i] == pc && begins(t, i) && --n == 0) {
            *step = i;
            return 0;
        }
    return -1;
}

void trace_cut(struct trace *t, size_t steps)
{
    if (steps < t->steps)
        t->steps = steps;
}
