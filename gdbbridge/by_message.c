/*
 * by_message.c - where an isolated rank is among its events, and how it comes to others
 */
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>

#include "gdbbridge/by_message_private.h"
#include "gdbbridge/bytes.h"
#include "msgcounter/stub/thread.h"

#define NT_PRSTATUS 1
#define THREADS_MAX 1024 /* that are looked at */
#define OTHERS_MAX    64 /* the same, for messages that they come back with late */
#define OTHERS_EVENTS 256

/* ---- the rank's memory ---- */

static int peek(struct by_message *b, pid_t pid, uint64_t addr, void *to, size_t size)
{
    return b->target->ops->read_memory(b->target, pid, addr, to, size) == (ssize_t)size ? 0 : -1;
}

static int peek_gate(struct by_message *b, pid_t pid, size_t offset, uint64_t *word)
{
    return peek(b, pid, GATE_ADDR + offset, word, sizeof *word);
}

/* A field of the stub's table. */
static int peek_stub(struct by_message *b, pid_t pid, size_t offset, uint64_t *word)
{
    uint64_t stub;
    return peek_gate(b, pid, offsetof(struct gate, stub), &stub) ||
                   peek(b, pid, stub + offset, word, sizeof *word)
               ? -1
               : 0;
}

void by_message_write_gate(struct by_message *b, pid_t pid, size_t offset, uint64_t word)
{
    b->target->ops->write_memory(b->target, pid, GATE_ADDR + offset, &word, sizeof word);
}

static void arm(struct by_message *b, pid_t pid, uint64_t stop_at)
{
    by_message_write_gate(b, pid, offsetof(struct gate, replay_stop_at), stop_at);
    b->armed = stop_at != 0;
}

/* What the stub keeps for a thread. */
static int peek_thread(struct by_message *b, struct ptid thread, struct stub_thread *state)
{
    struct thread_info info;
    uint64_t offset;
    return b->target->ops->thread_info(b->target, thread, &info) || !info.handle ||
                   peek_stub(b, thread.pid, offsetof(struct gate_stub, tls_thread), &offset) ||
                   peek(b, thread.pid, info.handle + offset, state, sizeof *state)
               ? -1
               : 0;
}

/* The event that a thread takes next, or that of another which it skips. 0, or -1: none so far. */
static int next_of(struct by_message *b, struct ptid thread, uint64_t *next)
{
    struct stub_thread state;
    if (peek_thread(b, thread, &state) || !state.cursor_valid)
        return -1;
    *next = state.cursor.at.event;
    return 0;
}

static bool take_turns(struct by_message *b, pid_t pid)
{
    uint64_t at;
    uint8_t on;
    return peek_stub(b, pid, offsetof(struct gate_stub, turns), &at) == 0 &&
           peek(b, pid, at, &on, sizeof on) == 0 && on;
}

/* The event that is next for all of them. */
static int peek_event(struct by_message *b, pid_t pid, uint64_t *next)
{
    uint64_t at;
    return peek_stub(b, pid, offsetof(struct gate_stub, event), &at) ||
                   peek(b, pid, at, next, sizeof *next)
               ? -1
               : 0;
}

int by_message_next_event(struct by_message *b, uint64_t *next, struct err *err)
{
    struct ptid thread[THREADS_MAX];
    size_t n = b->target->ops->threads(b->target, thread, THREADS_MAX);
    uint64_t last = 0, one;
    if (!n)
        return err_set(err, "the rank has ended; type: run");
    for (size_t i = 0; i < n && i < THREADS_MAX; i++)
        if (next_of(b, thread[i], &one) == 0 && one > last)
            last = one;
    if (take_turns(b, thread[0].pid) && peek_event(b, thread[0].pid, &one) == 0 && one > last)
        last = one; /* taken by one that has ended */
    if (!last && peek_gate(b, thread[0].pid, offsetof(struct gate, log_start_event), &last))
        return err_set(err, "cannot tell at which event the rank begins");
    *next = last;
    return 0;
}

int by_message_thread(struct by_message *b, struct ptid *thread, struct err *err)
{
    return b->target->ops->threads(b->target, thread, 1)
               ? 0
               : err_set(err, "the rank has ended; type: run");
}

struct recording *by_message_recording(struct by_message *b, unsigned rank, struct err *err)
{
    char logs[4096];
    if (rank >= b->nrecordings) {
        b->recording = realloc(b->recording, (rank + 1) * sizeof *b->recording);
        if (!b->recording)
            abort();
        for (; b->nrecordings <= rank; b->nrecordings++)
            b->recording[b->nrecordings] = NULL;
    }
    snprintf(logs, sizeof logs, "%s/logs", b->options.session);
    if (!b->recording[rank])
        b->recording[rank] = recording_open(logs, rank, err);
    return b->recording[rank];
}

struct recording *by_message_own(struct by_message *b, struct err *err)
{
    return by_message_recording(b, b->options.rank, err);
}

/* ---- where it is ---- */

uint64_t by_message_last_call(struct by_message *b, uint64_t next)
{
    const struct recording *r = by_message_own(b, NULL);
    uint64_t event = next - 1;
    const struct recorded_event *last = r ? recording_event(r, event) : NULL, *e = last;
    while (event && e && (e->no_call || e->thread != last->thread))
        e = recording_event(r, --event);
    return event;
}

uint64_t by_message_here(struct by_message *b)
{
    if (b->here != NO_EVENT || b->looked)
        return b->here;
    b->looked = true;
    uint64_t next = ptrace_target_boundary(b->target);
    if (next)
        b->here = by_message_last_call(b, next);
    return b->here;
}

static void leave_here(struct by_message *b)
{
    b->here = NO_EVENT;
    b->looked = false;
}

/* ---- running ---- */

/* The first event from `next` on that something waits for, or NO_EVENT. */
static uint64_t wanted(struct by_message *b, uint64_t next)
{
    uint64_t event = b->goal >= next ? b->goal : NO_EVENT;
    for (size_t i = 0; i < BREAKS_MAX && !b->begun_again; i++) {
        struct recording *r = b->breaks[i].number ? by_message_own(b, NULL) : NULL;
        uint64_t hit = r ? recording_next(r, next, &b->breaks[i].filter) : NO_EVENT;
        event = hit < event ? hit : event;
    }
    return event;
}

void by_message_tell(struct by_message *b, const char *why, char *text, size_t size)
{
    struct recording *r = by_message_own(b, NULL);
    struct bytes out = {0};
    uint64_t next;
    bytes_text(&out, "dbg3: ");
    bytes_text(&out, why);
    if (r && b->here != NO_EVENT)
        by_message_describe(r, b->here, &out);
    else if (by_message_next_event(b, &next, NULL) == 0)
        bytes_printf(&out, "before event %" PRIu64, next);
    snprintf(text, size, "%.*s\n", (int)out.size, out.data);
    bytes_free(&out);
}

/* The rank is at its goal, behind or, failing that, where it was. */
static void tell_moved(struct by_message *b, int moved, uint64_t goal, const struct err *err,
                       struct event *stop)
{
    *stop = (struct event){.kind = EVENT_STOPPED, .thread = ptrace_target_thread(b->target)};
    if (moved < 0) {
        snprintf(stop->console, sizeof stop->console, "dbg3: cannot go back: %.400s\n", err->text);
        return;
    }
    b->here = goal;
    by_message_tell(b, "", stop->console, sizeof stop->console);
}

/*
 * Where threads do not take turns, or one is in the midst of something: the process is made anew,
 * and runs on. Returns 1 if it is there already, 0 if it is to run, or -1 with *err.
 */
static int begin_again(struct by_message *b, struct target *t, uint64_t goal, struct err *err)
{
    uint64_t next = 0;
    if (ptrace_target_begin_again(t, goal, err) < 0 &&
        ptrace_target_begin_again(t, goal + 1, err) < 0)
        return -1;
    by_message_not_diverted(b);
    b->armed = false;
    b->begun_again = true;
    by_message_next_event(b, &next, NULL);
    return next > goal;
}

/* Back, where the goal lies there. */
static bool on_move(void *arg, struct target *t, struct event *stop)
{
    struct by_message *b = arg;
    struct err err;
    uint64_t next;
    if (!t->ops->threads(t, NULL, 0))
        return false;
    if (by_message_to_kept(b, t, stop))
        return true;
    uint64_t goal = b->goal;
    bool anew = b->anew;
    b->anew = false;
    if (goal == NO_EVENT || by_message_next_event(b, &next, NULL) < 0 || (goal >= next && !anew))
        return false;
    anew |= t->ops->threads(t, NULL, 0) > 1 && (b->at_end || !ptrace_target_can_goto(t));
    b->at_end = false;
    int moved = anew ? begin_again(b, t, goal, &err) : ptrace_target_goto(t, goal + 1, &err);
    if (moved == 0 && b->begun_again)
        return false;
    b->goal = NO_EVENT;
    tell_moved(b, moved, goal, &err, stop);
    return true;
}

/* Has the event a message that fits, or (no filter) that a breakpoint wants? */
static bool fits(const struct by_message *b, const struct recording *r, uint64_t event,
                 const struct message_filter *f)
{
    bool any = f && recording_fits(r, event, f);
    for (size_t i = 0; !f && i < BREAKS_MAX; i++)
        any |= b->breaks[i].number && recording_fits(r, event, &b->breaks[i].filter);
    return any;
}

static void forget_return(struct by_message *b, struct coming *c)
{
    if (c->handle)
        b->target->ops->remove_point(b->target, c->pid, POINT_HW, c->site, 1);
    c->handle = 0;
}

/* A thread has other numbers for GDB than for the kernel, once it has gone back. */
static uint64_t handle_of(struct by_message *b, struct ptid thread)
{
    struct thread_info info;
    return b->target->ops->thread_info(b->target, thread, &info) ? 0 : info.handle;
}

/* That of a thread; 0: a free one. */
static struct coming *find_coming(struct by_message *b, uint64_t handle)
{
    for (size_t i = 0; i < COMING_MAX; i++)
        if (b->coming[i].handle == handle)
            return &b->coming[i];
    return NULL;
}

/* Tells when the thread, which has taken the event, comes back from its call. 0 or -1. */
static int await_return(struct by_message *b, struct ptid thread, uint64_t site, uint64_t event)
{
    uint64_t handle = handle_of(b, thread);
    struct coming *c = find_coming(b, handle);
    if (c)
        forget_return(b, c); /* it has come back since */
    c = c ? c : find_coming(b, 0);
    if (!c || !handle || !site ||
        b->target->ops->insert_point(b->target, thread.pid, POINT_HW, site, 1))
        return -1;
    *c = (struct coming){handle, thread.pid, site, event};
    return 0;
}

/*
 * Of threads that take turns: have those that wait for theirs taken wanted events, and not come
 * back with them? Calls `look` for each that may have: it may have come back, and wait in something
 * else by now.
 */
static void each_waiting(struct by_message *b,
                         void (*look)(struct by_message *b, struct ptid thread,
                                      const struct stub_thread *state, uint64_t event, void *arg),
                         void *arg)
{
    struct ptid thread[THREADS_MAX];
    struct stub_thread state;
    size_t n = b->target->ops->threads(b->target, thread, THREADS_MAX);
    if (n < 2 || !take_turns(b, thread[0].pid))
        return;
    for (size_t i = 0; i < n && i < THREADS_MAX; i++)
        if (peek_thread(b, thread[i], &state) == 0 && state.cursor_valid && !state.has_turn)
            look(b, thread[i], &state, by_message_last_call(b, state.cursor.at.event), arg);
}

static void await_wanted(struct by_message *b, struct ptid thread, const struct stub_thread *state,
                         uint64_t event, void *arg)
{
    const struct recording *r = arg;
    if (fits(b, r, event, NULL))
        await_return(b, thread, state->call_site, event);
}

/* Before the first thread runs: nothing can be said of threads that do. */
static void before_start(struct by_message *b)
{
    const struct recording *r = by_message_own(b, NULL);
    leave_here(b);
    b->running = by_message_next_event(b, &b->next_then, NULL) == 0;
    if (b->running && r && !b->begun_again)
        each_waiting(b, await_wanted, (void *)r);
}

static void on_start(void *arg, struct target *t, struct ptid thread, bool stepping)
{
    struct by_message *b = arg;
    if (!b->running)
        before_start(b);
    if (stepping || !b->running || b->armed)
        return;
    uint64_t event = wanted(b, b->next_then);
    if (event != NO_EVENT)
        arm(b, thread.pid, event + 1);
}

static void stop_returning(struct by_message *b)
{
    for (size_t i = 0; i < COMING_MAX; i++)
        forget_return(b, &b->coming[i]);
}

/* A step leaves the goal: GDB makes one before it continues from a breakpoint. */
static void on_stopped(void *arg, struct target *t, const struct event *stop)
{
    struct by_message *b = arg;
    stop_returning(b);
    if (b->armed)
        arm(b, stop->thread.pid, 0);
    b->begun_again = b->running = false;
    b->at_end = stop->history == HISTORY_END;
    if (stop->kind != EVENT_STOPPED || stop->trap != TRAP_STEP)
        b->goal = NO_EVENT;
}

/* The last such event before this one. */
static uint64_t last_before(const struct by_message *b, const struct recording *r, uint64_t before,
                            const struct message_filter *f)
{
    uint64_t last = f ? recording_previous(r, before, f) : NO_EVENT;
    for (size_t i = 0; !f && i < BREAKS_MAX; i++) {
        uint64_t hit = b->breaks[i].number ? recording_previous(r, before, &b->breaks[i].filter)
                                           : NO_EVENT;
        if (hit != NO_EVENT && (last == NO_EVENT || hit > last))
            last = hit;
    }
    return last;
}

/* Other threads took their last event before that one, but may have come back with it later. */
static uint64_t later_of_others(struct by_message *b, const struct recording *r, uint64_t event,
                                const struct message_filter *f)
{
    uint32_t seen[OTHERS_MAX] = {recording_event(r, event)->thread};
    uint64_t later = event, other = event;
    size_t n = 1, i;
    while (other-- > 0 && n < OTHERS_MAX && event - other < OTHERS_EVENTS) {
        const struct recorded_event *e = recording_event(r, other);
        for (i = 0; e && i < n && seen[i] != e->thread; i++)
            ;
        if (!e || i < n || (e->no_call && !strncmp(e->call, "MPI_", 4)))
            continue;
        seen[n++] = e->thread; /* at a system call it has come back from what was before */
        if (!e->no_call && fits(b, r, other, f) && ptrace_target_is_behind(b->target, other + 1) &&
            ptrace_target_is_later(b->target, other + 1, later + 1))
            later = other;
    }
    return later;
}

uint64_t by_message_previous(struct by_message *b, const struct recording *r, uint64_t next,
                             const struct message_filter *f)
{
    struct ptid thread = {0, 0};
    by_message_thread(b, &thread, NULL);
    bool turns = take_turns(b, thread.pid) && !b->at_end;
    uint64_t here = turns || b->at_end ? NO_EVENT : by_message_here(b);
    uint64_t event = last_before(b, r, here != NO_EVENT ? here : next, f);
    while (turns && event != NO_EVENT && !ptrace_target_is_behind(b->target, event + 1))
        event = last_before(b, r, event, f);
    return turns && event != NO_EVENT ? later_of_others(b, r, event, f) : event;
}

/* The first one, of those that threads have still to come back with, that fits. */
struct first {
    const struct recording *recording;
    const struct message_filter *filter;
    uint64_t event;
};

static void look_ahead(struct by_message *b, struct ptid thread, const struct stub_thread *state,
                       uint64_t event, void *arg)
{
    struct first *f = arg;
    if (event < f->event && recording_fits(f->recording, event, f->filter) &&
        !ptrace_target_is_behind(b->target, event + 1))
        f->event = event;
}

uint64_t by_message_following(struct by_message *b, const struct recording *r, uint64_t next,
                              const struct message_filter *filter)
{
    struct first f = {r, filter, recording_next(r, next, filter)};
    each_waiting(b, look_ahead, &f);
    return f.event;
}

/* The last message before here that one of the breakpoints wants. */
static uint64_t on_back(void *arg, struct target *t, bool stepping)
{
    struct by_message *b = arg;
    struct recording *r = by_message_own(b, NULL);
    uint64_t next, last = NO_EVENT;
    if (!stepping && r && by_message_next_event(b, &next, NULL) == 0)
        last = by_message_previous(b, r, next, NULL);
    leave_here(b);
    b->at_end = false;
    b->goal = NO_EVENT;
    b->hit_back = last;
    return last == NO_EVENT ? 0 : last + 1;
}

static void hits(const struct by_message *b, const struct recording *r, struct bytes *out);

static void on_backed(void *arg, struct target *t, struct event *stop)
{
    struct by_message *b = arg;
    struct bytes text = {0};
    b->here = b->hit_back;
    hits(b, by_message_own(b, NULL), &text);
    by_message_tell(b, text.data, stop->console, sizeof stop->console);
    bytes_free(&text);
}

static void on_diverts(void *arg, struct target *t, struct ptid thread)
{
    by_message_diverts(arg, thread);
}

struct run_hook by_message_run_hook(struct by_message *b)
{
    return (struct run_hook){on_move, on_start, on_stopped, on_back, on_backed, on_diverts, b};
}

void by_message_serve(struct by_message *b, struct target *t)
{
    b->target = t;
}

void by_message_restarted(struct by_message *b)
{
    b->armed = b->running = b->anew = b->begun_again = false;
    memset(b->coming, 0, sizeof b->coming);
    b->goal = NO_EVENT;
    by_message_not_diverted(b);
    b->here = b->options.first_event ? b->options.first_event - 1 : NO_EVENT;
}

/* ---- stops ---- */

static int registers(struct ptid thread, struct user_regs_struct *regs)
{
    struct iovec io = {regs, sizeof *regs};
    return ptrace(PTRACE_GETREGSET, thread.tid, NT_PRSTATUS, &io) < 0 ? -1 : 0;
}

/* Is the event one that the rank goes to, or that a breakpoint wants? */
static bool is_wanted(struct by_message *b, uint64_t event)
{
    const struct recording *r = by_message_own(b, NULL);
    return (b->goal != NO_EVENT && event >= b->goal) ||
           (!b->begun_again && r && fits(b, r, event, NULL));
}

/*
 * The call of GATE->stop returns, and the thread runs on to where its MPI call does. Others may
 * come back before it with events that they take meanwhile.
 */
static enum stop_verdict begin_return(struct by_message *b, struct stop *s,
                                      struct user_regs_struct *regs)
{
    struct iovec io = {regs, sizeof *regs};
    struct stub_thread state = {.call_site = 0};
    if (peek(b, s->thread.pid, regs->rsp, &regs->rip, sizeof regs->rip))
        return STOP_DEFAULT;
    regs->rsp += 8;
    ptrace(PTRACE_SETREGSET, s->thread.tid, NT_PRSTATUS, &io);
    peek_thread(b, s->thread, &state);
    uint64_t behind = state.cursor.at.event, next = wanted(b, behind);
    arm(b, s->thread.pid, next == NO_EVENT ? 0 : next + 1);
    if (!is_wanted(b, by_message_last_call(b, behind)))
        return STOP_RESUME;
    if (await_return(b, s->thread, state.call_site, NO_EVENT) < 0) {
        snprintf(s->text, sizeof s->text, "dbg3: inside of the MPI call: no debug register is free "
                                          "to go on to its return\n");
        s->signal = 0;
        return STOP_REPORT;
    }
    return STOP_RESUME;
}

/* "break-msg 1, " for each that is hit here. */
static void hits(const struct by_message *b, const struct recording *r, struct bytes *out)
{
    for (size_t i = 0; i < BREAKS_MAX; i++)
        if (b->breaks[i].number && recording_fits(r, b->here, &b->breaks[i].filter))
            bytes_printf(out, "break-msg %u, ", b->breaks[i].number);
    bytes_add(out, "", 1);
}

/* The call has returned: the rank is at the event. */
static enum stop_verdict arrived(struct by_message *b, struct stop *s, struct coming *c)
{
    struct recording *r = by_message_own(b, NULL);
    struct bytes text = {0};
    uint64_t next = b->next_then;
    next_of(b, s->thread, &next);
    uint64_t event = by_message_last_call(b, next);
    if (c->event != NO_EVENT && c->event != event) { /* it had come back with that one before */
        forget_return(b, c);
        return STOP_RESUME;
    }
    b->here = event;
    stop_returning(b);
    ptrace_target_ends_here(b->target);
    if (r)
        hits(b, r, &text);
    by_message_tell(b, text.size ? text.data : "", s->text, sizeof s->text);
    bytes_free(&text);
    s->signal = 0;
    return STOP_REPORT;
}

/* The debug register of a thread that is coming has stopped one, that or another. */
static bool comes(const struct by_message *b, const struct stop *s)
{
    bool comes = false;
    for (size_t i = 0; i < COMING_MAX; i++)
        comes |= b->coming[i].handle && b->coming[i].site == s->pc;
    return comes && s->info.si_code == TRAP_HWBKPT;
}

enum stop_verdict by_message_look(struct by_message *b, struct stop *s)
{
    struct user_regs_struct regs;
    uint64_t entry;
    if (s->info.si_signo != SIGTRAP || registers(s->thread, &regs))
        return STOP_DEFAULT;
    if (comes(b, s)) {
        struct coming *c = find_coming(b, handle_of(b, s->thread));
        return c && c->site == s->pc ? arrived(b, s, c) : STOP_RESUME;
    }
    if (s->pc < GATE_ADDR || (int)regs.rdi != GATE_STOP_EVENT ||
        peek_gate(b, s->thread.pid, offsetof(struct gate, stop), &entry) || s->pc != entry)
        return STOP_DEFAULT;
    return begin_return(b, s, &regs);
}

void by_message_diverged(struct by_message *b, const char *text)
{
    if (ptrace_target_diverted(b->target) && !b->difference[0])
        snprintf(b->difference, sizeof b->difference, "%s", text);
}
