/*
 * reverse_event.c - running a copy to where it has taken a number of recorded events
 */
#include "gdbbridge/reverse_event.h"

#include <string.h>

#include "gdbbridge/procfs.h"
#include "gdbbridge/reverse_crowd.h"

#define RED_ZONE 128 /* System V ABI for x86-64: below the stack pointer */

static size_t read_stack(pid_t pid, uint64_t sp, uint8_t *to)
{
    ssize_t n = procfs_peek(pid, sp - RED_ZONE, to, PLACE_STACK);
    return n > 0 ? (size_t)n : 0;
}

int event_place(const struct recorded *r, pid_t pid, uint64_t thread, bool exact,
                struct place *place)
{
    struct user_regs_struct regs;
    pid_t tid = crowd_tid(pid, thread);
    if (tid <= 0 || copy_registers(tid, &regs))
        return -1;
    *place = (struct place){.event = r->next ? r->next(r->arg, pid) : 0,
                            .thread = thread,
                            .several = crowd_of(pid) != NULL,
                            .pc = regs.rip,
                            .sp = regs.rsp,
                            .exact = exact,
                            .regs = regs};
    if (exact)
        place->nstack = read_stack(pid, regs.rsp, place->stack);
    return 0;
}

/* Flags are left out: the kernel lends some of them to the debugger. */
bool event_at_place(pid_t pid, const struct place *place)
{
    struct user_regs_struct now;
    uint8_t stack[PLACE_STACK];
    pid_t tid = crowd_tid(pid, place->thread);
    if (tid <= 0 || copy_registers(tid, &now) || now.rip != place->pc || now.rsp != place->sp)
        return false;
    if (!place->exact)
        return true;
    if (place->regs.rcx == place->pc + 2) { /* at a system call that is made again */
        now.rcx = place->regs.rcx;
        now.r11 = place->regs.r11;
    }
    now.eflags = place->regs.eflags;
    now.orig_rax = place->regs.orig_rax;
    return !memcmp(&now, &place->regs, sizeof now) &&
           read_stack(pid, now.rsp, stack) == place->nstack &&
           !memcmp(stack, place->stack, place->nstack);
}

/* Where a write and the instruction behind it are told of at once, that one has been counted. */
static bool has_counted(pid_t tid)
{
    struct user_regs_struct now;
    return tid > 0 && !copy_registers(tid, &now) && now.eflags & COPY_COUNTED_FLAG;
}

/* How many writes to the word there are at least until `event` is next. */
static struct mark until(const struct recorded *r, pid_t pid, uint64_t event)
{
    uint64_t next = r->next(r->arg, pid);
    return (struct mark){.addr = r->word(r->arg, pid),
                         .size = sizeof(uint64_t),
                         .n = next < event ? event - next : 0,
                         .written = true,
                         .until = event};
}

/* Several threads take the events: the word is looked at whenever one of them has written it. */
static int reach_in_crowd(const struct recorded *r, pid_t pid, uint64_t event,
                          const struct mark *count, uint64_t *counted)
{
    struct copy_points word = {.point = {{POINT_WRITE, r->word(r->arg, pid), 8, 0, NULL}}, .n = 1};
    struct copy_run run;
    struct copy_stop stop;
    if (copy_run_begin(&run, pid, NULL, &word, count) < 0)
        return -1;
    do
        copy_run_on(&run, &stop);
    while (stop.end == COPY_POINT && r->next(r->arg, stop.tid) < event); /* others run */
    if (counted)
        *counted += copy_run_count(&run);
    copy_run_end(&run);
    return r->next(r->arg, pid) == event ? 0 : -1;
}

int event_reach(const struct recorded *r, pid_t pid, uint64_t event, const struct mark *count,
                uint64_t *counted)
{
    if (crowd_of(pid))
        return reach_in_crowd(r, pid, event, count, counted);
    struct mark mark = until(r, pid, event);
    uint64_t n = 0;
    if (!mark.addr || (mark.n && copy_run_to(pid, &mark, count, &n) < 0))
        return -1;
    if (counted)
        *counted += n;
    return r->next(r->arg, pid) == event ? 0 : -1;
}

pid_t event_boundary(const struct recorded *r, pid_t pid, uint64_t event)
{
    struct mark taken = {.addr = r->word(r->arg, pid), .size = 8, .n = 1, .written = true};
    struct copy_points site = {.point = {{POINT_HW, r->site(r->arg, pid), 0, 0, NULL}}, .n = 1};
    struct copy_run run;
    struct copy_stop stop = {.end = COPY_GONE};
    if (!site.point[0].addr)
        return pid;
    pid_t ahead = copy_make(pid);
    if (ahead > 0 && copy_run_begin(&run, ahead, &taken, &site, NULL) == 0) {
        copy_run_on(&run, &stop);
        copy_run_end(&run);
    }
    bool back = stop.end == COPY_POINT && r->next(r->arg, ahead) == event;
    copy_kill(back ? pid : ahead);
    return back ? ahead : pid;
}

/* Runs a copy to where the place's thread takes the event before, and stands in its call: stops on
 * the way there, in a loop that asks for a message, say, would take long. */
static int count_to_event(const struct recorded *r, pid_t pid, const struct place *place,
                          uint64_t *n)
{
    const struct mark count = {.addr = place->pc, .thread = place->thread};
    const struct mark taken = {.addr = r->word(r->arg, pid),
                               .size = sizeof(uint64_t),
                               .n = 1,
                               .written = true,
                               .thread = NO_THREAD,
                               .until = place->event};
    return r->next(r->arg, pid) >= place->event ? 0 : copy_run_to(pid, &taken, &count, n);
}

/*
 * The same where there are several threads. The others may take events while this one is on its way
 * to the place, but it does not come there before all events have been taken that it waited for: so
 * the place is where it comes by first when they have.
 */
static int mark_in_crowd(const struct recorded *r, pid_t pid, const struct place *place,
                         struct mark *mark)
{
    struct copy_points at = {.point = {{POINT_HW, place->pc, 0, 0, NULL}}, .n = 1};
    struct copy_run run;
    struct copy_stop stop;
    uint64_t n = 0;
    bool there;
    if ((place->own && count_to_event(r, pid, place, &n) < 0) ||
        copy_run_begin(&run, pid, NULL, &at, NULL) < 0)
        return -1;
    do {
        copy_run_on(&run, &stop);
        n += stop.thread == place->thread;
        there = stop.end == COPY_POINT && stop.thread == place->thread &&
                r->next(r->arg, pid) >= place->event && event_at_place(pid, place);
    } while (stop.end == COPY_POINT && !there);
    copy_run_end(&run);
    *mark = (struct mark){.addr = place->pc, .n = n, .thread = place->thread};
    return there ? 0 : -1;
}

/* Which thread has taken the event before this one, and where that goes on. 0 or -1. */
static int reach_taker(const struct recorded *r, pid_t pid, uint64_t event, uint64_t *thread,
                       uint64_t *site)
{
    struct copy_points word = {.point = {{POINT_WRITE, r->word(r->arg, pid), 8, 0, NULL}}, .n = 1};
    struct copy_run run;
    struct copy_stop stop;
    uint64_t behind = 0;
    bool took;
    if (copy_run_begin(&run, pid, NULL, &word, NULL) < 0)
        return -1;
    do {
        copy_run_on(&run, &stop);
        took = stop.end == COPY_POINT && r->last(r->arg, stop.tid, &behind, site) &&
               behind == event;
    } while (stop.end == COPY_POINT && !took);
    copy_run_end(&run);
    *thread = stop.thread;
    return took ? 0 : -1;
}

int event_return(const struct recorded *r, pid_t pid, uint64_t event, struct place *place)
{
    struct copy_points at = {.point = {{POINT_HW, 0, 0, 0, NULL}}, .n = 1};
    struct copy_run run;
    struct copy_stop stop;
    uint64_t thread;
    if (reach_taker(r, pid, event, &thread, &at.point[0].addr) < 0 ||
        copy_run_begin(&run, pid, NULL, &at, NULL) < 0)
        return -1;
    do
        copy_run_on(&run, &stop);
    while (stop.end == COPY_POINT && stop.thread != thread);
    copy_run_end(&run);
    if (stop.end != COPY_POINT || event_place(r, pid, thread, false, place) < 0)
        return -1;
    place->several = place->own = true;
    place->event = event; /* others may have taken more by now, or not yet */
    return 0;
}

int event_mark(const struct recorded *r, pid_t pid, const struct place *place, struct mark *mark)
{
    struct copy_points at = {.point = {{POINT_HW, place->pc, 0, 0, NULL}}, .n = 1};
    struct mark count = {.addr = place->pc, .thread = place->thread};
    struct copy_run run;
    struct copy_stop stop;
    uint64_t n = 0;
    bool behind = r->next && r->next(r->arg, pid) < place->event;
    if ((crowd_of(pid) || place->several) && r->next)
        return mark_in_crowd(r, pid, place, mark);
    if (behind && event_reach(r, pid, place->event, &count, &n) < 0)
        return -1;
    if (event_at_place(pid, place)) {
        bool counted = behind && has_counted(crowd_tid(pid, place->thread));
        *mark = (struct mark){.addr = place->pc, .n = n + !counted, .thread = place->thread};
        return 0;
    }
    /* not further than the next event: what it writes then would be seen */
    struct mark next = {.size = sizeof(uint64_t), .written = true};
    next.addr = place->event ? r->word(r->arg, pid) : 0;
    next.n = next.addr ? 1 : 0;
    if (copy_run_begin(&run, pid, &next, &at, NULL) < 0)
        return -1;
    do {
        copy_run_on(&run, &stop);
        n += stop.thread == place->thread;
    } while (stop.end == COPY_POINT && !event_at_place(pid, place));
    copy_run_end(&run);
    *mark = (struct mark){.addr = place->pc, .n = n, .thread = place->thread};
    return stop.end == COPY_POINT ? 0 : -1;
}
