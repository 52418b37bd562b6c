/*
 * ptrace_pass.c - breakpoints that do not stop a thread: it goes on past them
 *
 * A breakpoint in memory is taken out while the thread executes the instruction under it. Where the
 * process has other threads, which would run past it meanwhile, these stand still: the pass is then
 * due until all statuses have been seen.
 *
 *     int3 -> pass_wanted? -> no other thread: steps over it at once
 *                          -> others: pass_due; wait_reap() -> pass_all_due(): stops the others,
 *                             steps over it, starts them again
 *
 * A thread whose pass is due is at the breakpoint: whoever runs it sees it stop there once more.
 */
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gdbbridge/bytes.h"
#include "gdbbridge/journal.h"
#include "gdbbridge/ptrace_private.h"
#include "gdbbridge/script.h"

/* Lets a thread go on that GDB wants to run, if it stands still. */
static void start(struct thread *th)
{
    if (th->state == THREAD_STOPPED && th->resumed && !th->has_event && !th->pass_due)
        thread_start(th, th->deliver);
}

static const struct agent_script *script_at(const struct thread *th, enum trap trap, uint64_t addr)
{
    return point_script(th->process, trap == TRAP_SW_BREAK ? POINT_SW : POINT_HW, addr);
}

/*
 * Of a thread that GDB has stepped and lets run now, GDB hears everything: it may be on its way to
 * a breakpoint of GDB's own, behind a function's prologue, say. If there is one of the user's at
 * that address GDB only sends the script of that.
 */
bool pass_wanted(struct thread *th, enum trap trap, uint64_t addr)
{
    /* A step that has come to a hardware breakpoint is over; from one in memory it goes on. */
    if (trap != TRAP_SW_BREAK && (trap != TRAP_HW_BREAK || th->stepping))
        return false;
    if ((th->walked && !th->stepping) || (th->stepping && point_permanent(th->process, addr)))
        return false;
    bool recorded_call = journal_has(th->tid) && journal_at_call(th->tid);
    return !recorded_call && !script_stops(script_at(th, trap, addr), th->tid);
}

static void execute(struct thread *th, enum trap trap, struct bytes *printed)
{
    script_execute(script_at(th, trap, thread_pc(th)), th->tid, printed);
}

/* It goes where what the program prints goes. */
static void show(const struct ptrace_target *t, struct bytes *printed)
{
    const char *p = printed->data, *end = p + printed->size;
    while (p < end) {
        ssize_t n = write(t->options.stdio[1], p, (size_t)(end - p));
        if (n <= 0)
            break; /* nobody reads it */
        p += n;
    }
    bytes_free(printed);
}

void pass_arrived(struct thread *th)
{
    struct bytes printed = {0};
    execute(th, TRAP_SW_BREAK, &printed);
    execute(th, TRAP_HW_BREAK, &printed);
    show(th->process->owner, &printed);
}

/* It may take for ever. */
bool pass_at_call(struct thread *th)
{
    static const uint8_t syscall[2] = {0x0f, 0x05};
    uint8_t code[2] = {0};
    struct process *p = th->process;
    return target_read_memory(&p->owner->base, p->shown, thread_pc(th), code, sizeof code) == 2 &&
           !memcmp(code, syscall, sizeof code);
}

/* Lets the thread execute one instruction, or enter a call. Returns 0 and the wait status, or -1:
 * it has been killed. */
static int execute_one(struct thread *th, bool call, int *status)
{
    debug_apply(th);
    thread_forget_registers(th);
    th->state = THREAD_RUNNING;
    do { /* a stop that we have asked for comes first */
        if (ptrace(call ? PTRACE_SYSCALL : PTRACE_SINGLESTEP, th->tid, NULL, 0) ||
            wait_for(th->tid, status, 0) < 0)
            return -1;
        th->interrupting &= *status >> 8 != (SIGTRAP | PTRACE_EVENT_STOP << 8);
    } while (*status >> 8 == (SIGTRAP | PTRACE_EVENT_STOP << 8));
    return 0;
}

/*
 * Executes the instruction under the breakpoint; what stops the thread then is handled as ever. Of
 * a system call only the beginning: if nothing else has stopped it, the thread then stands still in
 * there, as if it had not been started.
 */
static void step_over(struct thread *th)
{
    struct process *p = th->process;
    struct ptrace_target *t = p->owner;
    struct bytes printed = {0};
    bool call = pass_at_call(th), suspended = p->points_suspended;
    int status;
    th->pass_due = false;
    th->passing = !th->stepping && !call; /* else it is what GDB asked for */
    execute(th, TRAP_SW_BREAK, &printed);
    points_lift(p);
    int r = execute_one(th, call, &status);
    if (!suspended)
        points_put_back(p);
    bool entered = call && r == 0 && status >> 8 == SYSCALL_TRAP;
    if (entered || (r == 0 && status >> 8 == SIGTRAP))
        show(t, &printed);
    bytes_free(&printed); /* a signal came first: it will meet the breakpoint once more */
    if (entered && !p->catching)
        th->state = THREAD_STOPPED;
    else if (r == 0)
        wait_handle(t, th->tid, status);
}

/* Passes a breakpoint that nothing need be taken out for: in a register, where the kernel sees to
 * it, or on an int3 of the program's own, which does nothing else. */
static void leave_behind(struct thread *th, enum trap trap)
{
    const struct user_regs_struct *user = thread_user(th);
    struct bytes printed = {0};
    execute(th, trap, &printed);
    show(th->process->owner, &printed);
    if (trap == TRAP_SW_BREAK && user) {
        struct user_regs_struct behind = *user;
        behind.rip++;
        thread_set_user(th, &behind);
    }
    wait_go_on(th, 0);
}

void pass(struct thread *th, enum trap trap)
{
    struct process *p = th->process;
    pid_t tid = th->tid;
    if (trap == TRAP_HW_BREAK || point_permanent(p, thread_pc(th))) {
        leave_behind(th, trap);
        return;
    }
    if (p->threads->next || wait_is_stopping(p)) {
        th->pass_due = true;
        return;
    }
    step_over(th);
    th = thread_find(p->owner, tid);
    if (th)
        start(th);
}

static struct thread *next_due(const struct process *p)
{
    for (struct thread *th = p->threads; th; th = th->next)
        if (th->pass_due)
            return th;
    return NULL;
}

static void pass_due(struct process *p)
{
    struct ptrace_target *t = p->owner;
    struct thread *th;
    wait_stop_all(t, p);
    t->stopping = true; /* who has passed waits for the others */
    while ((th = next_due(p)))
        step_over(th);
    t->stopping = false;
    for (th = p->threads; th; th = th->next)
        start(th);
}

void pass_all_due(struct ptrace_target *t)
{
    for (struct process *p = t->processes; p; p = p->next)
        if (next_due(p) && t->running && !t->interrupt && (t->non_stop || !wait_has_news(t)))
            pass_due(p);
}
