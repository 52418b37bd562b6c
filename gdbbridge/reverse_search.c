/*
 * reverse_search.c - back to the last stop
 */
#include <unistd.h>

#include "gdbbridge/procfs.h"
#include "gdbbridge/reverse_private.h"
#include "gdbbridge/reverse_wait.h"

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
    uint64_t value = 0;
    int memory = procfs_memory(pid);
    if (memory < 0)
        return 0;
    if (pread(memory, &value, p->size, (off_t)p->addr) != (ssize_t)p->size)
        value = 0;
    close(memory);
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
                        .mark = {.addr = p->addr,
                                 .size = data ? p->size : 0,
                                 .n = copy_run_hits(run, stop),
                                 .written = p->kind == POINT_WRITE,
                                 .thread = stop->thread},
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
    struct mark end = f->mark, count = {.addr = f->pc, .thread = f->mark.thread};
    struct user_regs_struct regs;
    bool data = f->mark.size;
    if (copy_run_to(pid, &f->mark, data ? &count : NULL, data ? &count.n : NULL) < 0 ||
        copy_registers(crowd_tid(pid, end.thread), &regs) || regs.rip != f->pc)
        return -1;
    if (data)
        end = (struct mark){.addr = f->pc,
                            .n = count.n + !(regs.eflags & COPY_COUNTED_FLAG),
                            .thread = end.thread};
    leg_set_end(l, &end);
    event_place(past_recorded(h), pid, end.thread, false, &l->place);
    return 0;
}

/* Finds the last stop in a leg. Returns a copy of the process there, with *point, and the leg's end
 * is there; 0 if there is none, or -1. */
static pid_t search(struct past *h, struct leg *l, const struct copy_points *points,
                    const struct copy_point **point)
{
    struct found f = {.point = NULL};
    past_search_in(h, l->anchor);
    pid_t pid = leg_copy(l);
    int r = pid > 0 ? run_stops(h, l, pid, points, &f) : -1;
    copy_kill(pid);
    if (r < 0 || !f.point)
        return r;
    *point = f.point;
    pid = leg_copy(l);
    if (pid > 0 && run_to_found(h, l, pid, &f) == 0)
        return pid;
    copy_kill(pid);
    return -1;
}

/* To the beginning of the first leg, for want of a stop. */
static int to_beginning(struct past *h)
{
    struct leg *l = h->leg[0];
    pid_t pid = leg_copy(l);
    if (pid <= 0)
        return -1;
    past_keep_legs(h, 1);
    leg_set_end(l, &(struct mark){.addr = l->start, .n = 1});
    past_become(h, pid, 0);
    return 0;
}

bool past_behind_limit(const struct past *h, pid_t pid)
{
    const struct recorded *r = past_recorded(h);
    return h->limit && r->next(r->arg, pid) < h->limit;
}

/* Looks through what was before the past, checkpoint by checkpoint; while nothing is found the
 * strides grow, as making the process costs more than letting it run over a few events. */
static int continue_before(struct past *h, const struct copy_points *points,
                           const struct copy_point **point)
{
    struct leg *l;
    for (uint64_t events = 1; (l = past_leg_before(h, events)); events *= 2) {
        pid_t pid = leg_measure(h, l) < 0 ? -1 : search(h, l, points, point);
        if (pid < 0 || past_put_first(h, l) < 0) {
            copy_kill(pid);
            leg_free(l);
            return -1;
        }
        if (pid > 0) {
            past_keep_legs(h, 1);
            past_become(h, pid, l->end.thread);
            return 1;
        }
        if (past_behind_limit(h, l->anchor))
            return 0;
    }
    return to_beginning(h);
}

/* Returns 1 with *point, 0 at the beginning, or -1. */
int past_continue_back(struct past *h, const struct copy_points *points,
                         const struct copy_point **point)
{
    int r = 0;
    past_split_at_event(h);
    for (size_t i = h->n; i > 0 && !r; i--) {
        struct leg *l = h->leg[i - 1];
        if (leg_measure(h, l) < 0)
            return -1;
        pid_t pid = leg_is_empty(l) ? 0 : search(h, l, points, point);
        if (pid < 0)
            return -1;
        if (!pid && past_behind_limit(h, l->anchor))
            return 0;
        if (!pid)
            continue;
        past_keep_legs(h, i);
        past_become(h, pid, l->end.thread);
        r = 1;
    }
    if (!r && h->n)
        r = continue_before(h, points, point);
    if (r > 0 && (*point)->kind >= POINT_WRITE) /* GDB wants it before the access */
        return past_step_back(h, h->thread) < 0 ? -1 : 1;
    return r;
}

/* ---- who wrote last ---- */

/* A copy of the process when it had just written to these bytes for the last time in a leg; 0: it
 * has not; or -1. */
static pid_t write_in_leg(struct past *h, struct leg *l, struct mark what)
{
    past_search_in(h, l->anchor);
    if (leg_measure(h, l) < 0)
        return -1;
    pid_t pid = leg_is_empty(l) ? 0 : copy_make(l->anchor);
    if (pid <= 0)
        return pid;
    int r = copy_run_to(pid, &l->end, &what, &what.n);
    copy_kill(pid);
    if (r < 0 || !what.n)
        return r;
    pid = copy_make(l->anchor);
    if (pid > 0 && copy_run_to(pid, &what, NULL, NULL) == 0)
        return pid;
    copy_kill(pid);
    return -1;
}

/* The same for the whole past, and for what was before it. */
static pid_t find_write(struct past *h, const struct mark *what)
{
    pid_t pid = 0;
    struct leg *l;
    past_split_at_event(h);
    for (size_t i = h->n; i > 0 && !pid; i--)
        pid = write_in_leg(h, h->leg[i - 1], *what);
    for (uint64_t events = 1; !pid && (l = past_leg_before(h, events)); events *= 2) {
        pid = write_in_leg(h, l, *what);
        if (pid < 0 || past_put_first(h, l) < 0) {
            copy_kill(pid);
            leg_free(l);
            return -1;
        }
    }
    return pid;
}

int ptrace_target_last_write(struct target *base, uint64_t addr, unsigned size,
                             struct last_write *found, struct err *err)
{
    struct ptrace_target *t = ptrace_target_of(base);
    const struct recorded *r = &t->options.recorded;
    struct past *h = t->past;
    struct thread *th = t->processes ? t->processes->threads : NULL;
    struct user_regs_struct regs;
    if (!th || !h || !r->start)
        return err_set(err, "there is no recording to look in");
    if (th->process->threads->next)
        return err_set(err, "the program has several threads");
    if (!past_can_follow(h, th))
        return err_set(err, "%s", h->why);
    err_set(&h->begin, "nothing is known of what was before");
    past_begin_here(h, th);
    past_search_begin(h, "looking for who wrote it");
    pid_t pid = find_write(h, &(struct mark){.addr = addr, .size = size, .written = true});
    if (reverse_wait_end() && pid < 0)
        return err_set(err, "interrupted");
    if (pid < 0 || (pid > 0 && copy_registers(pid, &regs)))
        return err_set(err, LOST);
    if (pid > 0)
        *found = (struct last_write){r->next(r->arg, pid), regs.rip,
                                     r->in_call && r->in_call(r->arg, pid),
                                     r->arriving ? r->arriving(r->arg, pid) : 0};
    else
        *err = h->begin;
    copy_kill(pid);
    return pid > 0;
}
