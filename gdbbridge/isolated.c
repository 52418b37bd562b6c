/*
 * isolated.c - an isolated rank behind GDB's remote protocol
 *
 * The rank is a child (dbg3-replay) that maps its image, clones its threads and stops itself. From
 * there each thread is stepped over the border, so that GDB never sees the lower half; what the
 * replay has to say (divergence, end of recording) arrives as a breakpoint at the address in
 * GATE->stop.
 */
#include "gdbbridge/isolated.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gdbbridge/by_message.h"
#include "gdbbridge/bytes.h"
#include "gdbbridge/gdbserver.h"
#include "gdbbridge/procfs.h"
#include "gdbbridge/ptrace_target.h"
#include "gdbbridge/registers.h"
#include "msgcounter/log/log_format.h"
#include "msgcounter/stub/thread.h"
#include "replay/replay_stop.h"
#include "runtime/coord/counters.h"
#include "runtime/half/gate.h"
#include "runtime/image/image.h"

#define PATH_BYTES   4096
#define THREADS_MAX  1024
#define RETURN_MS    2000
#define TURN_MS      200  /* it may have to wait for a thread that is not let run */
#define SHOWN_EVENTS (1ul << 30) /* whose output is remembered: a sparse file of 128 MiB */
#define STOP_DIVERGED 3 /* GATE->stop's code where the rank does something else than recorded */
#define BORDER_STEPS 1000000 /* far more than it takes to leave the lower half */
#define TRACE_OPTIONS (PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL)

struct isolated {
    const struct isolate_options *options;
    char image_path[PATH_BYTES];
    struct image *image; /* open for the auxiliary vector and the program's name */
    pid_t pid;
    pid_t thread[THREADS_MAX];
    size_t nthreads;
    struct by_message *by_message;
    int shown; /* memory: struct replay_shown; -1: none, everything shows each time */
    char end[512]; /* what is to be said where a thread goes to before a call (gate.h) */
};

/* ---- making the process ---- */

static int fail(struct isolated *is, struct err *err, const char *what)
{
    if (is->pid > 1) {
        kill(is->pid, SIGKILL);
        waitpid(is->pid, NULL, 0);
    }
    is->pid = 0;
    return err_sys(err, "%s", what);
}

/* What the rank prints shows once, from this event on; forgets what has shown. */
static void show_from(struct isolated *is, uint64_t event)
{
    struct replay_shown head = {event, SHOWN_EVENTS};
    if (is->shown < 0)
        is->shown = memfd_create("dbg3-shown", MFD_CLOEXEC);
    if (is->shown >= 0 && (ftruncate(is->shown, 0) < 0 ||
                           ftruncate(is->shown, sizeof head + SHOWN_EVENTS / 8) < 0 ||
                           pwrite(is->shown, &head, sizeof head, 0) != sizeof head)) {
        close(is->shown);
        is->shown = -1;
    }
}

/* The child waits for the tracer, then becomes dbg3-replay. */
static pid_t fork_replay(const struct isolated *is, const char *image, int go)
{
    char program[PATH_BYTES], logs[PATH_BYTES], byte;
    snprintf(program, sizeof program, "%s/dbg3-replay", is->options->runtime);
    snprintf(logs, sizeof logs, "%s/logs", is->options->session);
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    if (read(go, &byte, 1) != 1)
        _exit(126);
    dup2(STDERR_FILENO, STDOUT_FILENO); /* standard output may be GDB's end of the protocol */
    setenv(REPLAY_TRACED, is->options->wait ? REPLAY_WAITS : "1", 1);
    if (is->options->wait)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (is->shown >= 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", dup(is->shown));
        setenv(REPLAY_SHOWN_FD, number, 1);
    }
    execl(program, program, image, logs, (char *)NULL);
    _exit(127);
}

static bool event_stop(int status, int event)
{
    return status >> 8 == (SIGTRAP | event << 8);
}

/* Runs the child until it stops itself. Returns 0, or -1 with *err: it ended before (and said
 * why). */
static int run_to_own_stop(struct isolated *is, struct err *err)
{
    for (;;) {
        int status;
        pid_t tid = waitpid(-1, &status, __WALL);
        if (tid < 0 && errno == EINTR)
            continue;
        if (tid < 0)
            return fail(is, err, "cannot wait for the isolated rank");
        if (tid == is->pid && (WIFEXITED(status) || WIFSIGNALED(status))) {
            is->pid = 0;
            return err_set(err, "rank %u could not be restored from %s", is->options->rank,
                           is->image_path);
        }
        if (!WIFSTOPPED(status))
            continue;
        if (tid == is->pid && WSTOPSIG(status) == SIGSTOP && status >> 16 == 0)
            return 0;
        if (event_stop(status, PTRACE_EVENT_CLONE)) {
            unsigned long child = 0;
            ptrace(PTRACE_GETEVENTMSG, tid, NULL, &child);
            if (is->nthreads < THREADS_MAX)
                is->thread[is->nthreads++] = (pid_t)child;
        }
        bool ours = status >> 16 != 0 || WSTOPSIG(status) == SIGSTOP;
        if (ptrace(PTRACE_CONT, tid, NULL, ours ? 0 : (long)WSTOPSIG(status)) < 0 && errno != ESRCH)
            return fail(is, err, "cannot continue the isolated rank");
    }
}

/* A signal that has come while a thread is stepped comes again when it runs: one that somebody has
 * sent is sent again, others are what an instruction causes, which a system call is behind. */
static void put_back(const struct isolated *is, pid_t tid)
{
    struct user_regs_struct regs;
    siginfo_t info;
    if (ptrace(PTRACE_GETSIGINFO, tid, NULL, &info) || info.si_signo == SIGTRAP)
        return;
    if (info.si_code <= 0) {
        syscall(SYS_rt_tgsigqueueinfo, is->pid, tid, info.si_signo, &info);
    } else if (info.si_signo == SIGSYS && !ptrace(PTRACE_GETREGS, tid, NULL, &regs)) {
        regs.rip -= 2;
        ptrace(PTRACE_SETREGS, tid, NULL, &regs);
    }
}

/* Steps one stopped thread until it is in the application's half, and (own_tls) where it has its
 * thread-local data, by which it is known. */
static int step_over_border(struct isolated *is, pid_t tid, bool own_tls, struct err *err)
{
    for (int i = 0; i < BORDER_STEPS; i++) {
        struct user_regs_struct regs;
        int status;
        if (ptrace(PTRACE_GETREGS, tid, NULL, &regs) < 0)
            return fail(is, err, "cannot read the isolated rank's registers");
        if (regs.rip < GATE_ADDR && (!own_tls || regs.fs_base < GATE_ADDR))
            return 0;
        if (ptrace(PTRACE_SINGLESTEP, tid, NULL, 0) < 0)
            return fail(is, err, "cannot step the isolated rank");
        while (waitpid(tid, &status, __WALL) < 0 && errno == EINTR)
            ;
        if (!WIFSTOPPED(status))
            return fail(is, err, "the isolated rank ended while it was restored");
        put_back(is, tid);
    }
    return fail(is, err, "the isolated rank does not reach the application");
}

/* Stops a thread that waits for the main thread to go on. */
static int stop_thread(struct isolated *is, pid_t tid, struct err *err)
{
    int status;
    if (ptrace(PTRACE_INTERRUPT, tid, NULL, 0) < 0)
        return fail(is, err, "cannot stop a thread of the isolated rank");
    while (waitpid(tid, &status, __WALL) < 0 && errno == EINTR)
        ;
    return WIFSTOPPED(status) ? 0 : fail(is, err, "the isolated rank ended while it was restored");
}

/* ---- to where the application is ---- */

/* Waits for a stop of the thread. Returns its status, -1 if there was none in time. */
static int wait_briefly(pid_t tid, int most_ms)
{
    for (int ms = 0; ms < most_ms; ms++) {
        int status;
        pid_t r = waitpid(tid, &status, __WALL | WNOHANG);
        if (r == tid)
            return status;
        if (r < 0 && errno != EINTR)
            return -1;
        usleep(1000);
    }
    return -1;
}

/* What a stop on the way back has changed is undone: the thread is where it was, to stop there
 * again. */
static void step_back(pid_t tid, int status)
{
    struct user_regs_struct regs;
    if (status >> 8 != SIGTRAP || ptrace(PTRACE_GETREGS, tid, NULL, &regs) < 0)
        return;
    regs.rip--;
    ptrace(PTRACE_SETREGS, tid, NULL, &regs);
}

/* ---- what the stub shows to debuggers */

static uint64_t peek(pid_t pid, uint64_t addr)
{
    errno = 0;
    long word = ptrace(PTRACE_PEEKDATA, pid, addr, NULL);
    return errno ? 0 : (uint64_t)word;
}

/* A word of it; 0: it does not show that. */
static uint64_t shown_by_stub(pid_t pid, size_t offset)
{
    uint64_t stub = peek(pid, GATE_ADDR + offsetof(struct gate, stub));
    return stub ? peek(pid, stub + offset) : 0;
}

/* Also while it runs. */
static pid_t thread_in_turn(void *arg, pid_t pid)
{
    struct gate_stub stub;
    uint64_t at, turn, tid;
    uint8_t on;
    (void)arg;
    if (procfs_peek(pid, GATE_ADDR + offsetof(struct gate, stub), &at, sizeof at) != sizeof at ||
        procfs_peek(pid, at, &stub, sizeof stub) != sizeof stub ||
        procfs_peek(pid, (uint64_t)stub.turns, &on, sizeof on) != sizeof on || !on ||
        procfs_peek(pid, (uint64_t)stub.turn, &turn, sizeof turn) != sizeof turn ||
        procfs_peek(pid, (uint64_t)stub.turn_tid, &tid, sizeof tid) != sizeof tid)
        return -1;
    return turn % 4 == GATE_TURN_TAKEN ? (pid_t)tid : 0;
}

/*
 * A fine checkpoint is taken at the end of an MPI call, inside the stub. The main thread runs on to
 * where that call returns, so that the first thing GDB shows is the application. Whatever stops it
 * before (the end of the recording, a turn of another thread) is left for GDB to find.
 */
static int return_to_application(struct isolated *is, struct err *err)
{
    uint64_t site = 0;
    pid_t in_turn = is->nthreads ? thread_in_turn(is, is->pid) : 0;
    if (in_turn > 0 && in_turn != is->pid)
        return 0; /* it would wait for that one */
    long at = GATE_ADDR + offsetof(struct gate, replay_returns_to);
    site = (uint64_t)ptrace(PTRACE_PEEKDATA, is->pid, at, NULL);
    if (site == 0 || site >= GATE_ADDR)
        return 0;
    errno = 0;
    long code = ptrace(PTRACE_PEEKTEXT, is->pid, site, NULL);
    if (errno || ptrace(PTRACE_POKETEXT, is->pid, site, (code & ~0xffl) | 0xcc) < 0)
        return 0;
    if (ptrace(PTRACE_CONT, is->pid, NULL, 0) < 0)
        return fail(is, err, "cannot continue the isolated rank");
    int status = wait_briefly(is->pid, is->nthreads ? TURN_MS : RETURN_MS);
    if (status < 0 && ptrace(PTRACE_INTERRUPT, is->pid, NULL, 0) == 0)
        while (waitpid(is->pid, &status, __WALL) < 0 && errno == EINTR)
            ;
    if (!WIFSTOPPED(status))
        return fail(is, err, "the isolated rank ended before it came back to the application");
    ptrace(PTRACE_POKETEXT, is->pid, site, code);
    step_back(is->pid, status);
    return 0;
}

static uint64_t first_event(const struct isolated *is)
{
    return image_state(is->image)->meta.position.event;
}

/* Makes the rank from an image. */
static int make(struct isolated *is, const char *image, struct err *err)
{
    int go[2];
    if (pipe(go) < 0)
        return err_sys(err, "pipe");
    is->nthreads = 0;
    is->pid = fork_replay(is, image, go[0]);
    close(go[0]);
    int seized = is->pid > 1 ? (int)ptrace(PTRACE_SEIZE, is->pid, NULL, TRACE_OPTIONS) : -1;
    if (seized < 0 || write(go[1], "g", 1) != 1) {
        close(go[1]);
        return fail(is, err, "cannot trace the isolated rank");
    }
    close(go[1]);
    if (run_to_own_stop(is, err) < 0)
        return -1;
    for (size_t i = 0; i < is->nthreads; i++)
        if (stop_thread(is, is->thread[i], err) < 0)
            return -1;
    if (step_over_border(is, is->pid, false, err) < 0)
        return -1;
    for (size_t i = 0; i < is->nthreads; i++)
        if (step_over_border(is, is->thread[i], true, err) < 0)
            return -1;
    return return_to_application(is, err);
}

static void describe(const struct isolated *is, struct adopted *a)
{
    const struct image_meta *meta = &image_state(is->image)->meta;
    *a = (struct adopted){.pid = is->pid, .exec_file = meta->program, .auxv = meta->auxv,
                          .auxv_size = meta->auxv_size, .hide_from = GATE_ADDR};
}

static int make_again(void *arg, struct adopted *out, struct err *err)
{
    struct isolated *is = arg;
    show_from(is, first_event(is));
    if (make(is, is->image_path, err) < 0)
        return -1;
    describe(is, out);
    by_message_restarted(is->by_message);
    return 0;
}

/* ---- where in the recording ---- */

/* The stub_thread of a thread. */
static uint64_t stub_thread_of(pid_t tid)
{
    struct user_regs_struct regs;
    uint64_t stub = peek(tid, GATE_ADDR + offsetof(struct gate, stub));
    if (!stub || ptrace(PTRACE_GETREGS, tid, NULL, &regs) < 0)
        return 0;
    return regs.fs_base + peek(tid, stub + offsetof(struct gate_stub, tls_thread));
}

static uint64_t event_word(void *arg, pid_t pid)
{
    (void)arg;
    return shown_by_stub(pid, offsetof(struct gate_stub, event));
}

static uint64_t next_event(void *arg, pid_t pid)
{
    uint64_t at = event_word(arg, pid), event = at ? peek(pid, at) : 0;
    return event ? event : peek(pid, GATE_ADDR + offsetof(struct gate, log_start_event));
}

static bool in_call(void *arg, pid_t pid)
{
    uint64_t thread = stub_thread_of(pid);
    (void)arg;
    return thread && (uint32_t)peek(pid, thread + offsetof(struct stub_thread, inside));
}

static unsigned arriving(void *arg, pid_t pid)
{
    uint64_t thread = stub_thread_of(pid);
    (void)arg;
    return thread ? (unsigned)peek(pid, thread + offsetof(struct stub_thread, arrived)) : 0;
}

static uint64_t call_site(void *arg, pid_t pid)
{
    uint64_t counters = peek(pid, GATE_ADDR + offsetof(struct gate, counters));
    (void)arg;
    return counters ? peek(pid, counters + offsetof(struct counters_file, call_pc)) : 0;
}

/* The same of the MPI call that a thread is in; 0: it is in none. */
static uint64_t present_call(pid_t tid)
{
    uint64_t counters = peek(tid, GATE_ADDR + offsetof(struct gate, counters));
    uint64_t thread = stub_thread_of(tid), site = call_site(NULL, tid);
    bool in_mpi = counters && peek(tid, counters + offsetof(struct counters_file, call));
    bool own = thread && peek(tid, thread + offsetof(struct stub_thread, call_site)) == site;
    return in_mpi && own ? site : 0;
}

static bool last_of(void *arg, pid_t tid, uint64_t *behind, uint64_t *site)
{
    uint64_t thread = stub_thread_of(tid);
    (void)arg;
    if (!thread || !(uint32_t)peek(tid, thread + offsetof(struct stub_thread, cursor_valid)))
        return false;
    *behind = peek(tid, thread + offsetof(struct stub_thread, cursor.at.event));
    *site = peek(tid, thread + offsetof(struct stub_thread, call_site));
    return *site && *site < GATE_ADDR;
}

/* The event that is next in a fine checkpoint. 0, or -1 with *err. */
static int event_of(const char *path, uint64_t *event, struct err *err)
{
    struct image *image = image_open(path, err);
    if (!image)
        return -1;
    *event = image_state(image)->meta.position.event;
    image_close(image);
    return 0;
}

/* The last fine checkpoint that is not behind an event. 0, or -1 with *err. */
static int find_checkpoint(const struct isolated *is, uint64_t event, char *path, size_t cap,
                           struct err *err)
{
    char folder[PATH_BYTES];
    struct image_window w;
    uint64_t at;
    snprintf(folder, sizeof folder, "%s/fine/rank-%u", is->options->session, is->options->rank);
    if (image_window_read(folder, &w, err) < 0)
        return -1;
    uint64_t low = w.oldest, high = w.newest + 1; /* low fits if any does, high does not */
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        if (image_window_path(folder, middle, path, cap, err) < 0 ||
            event_of(path, &at, err) < 0)
            return -1;
        if (at <= event)
            low = middle;
        else
            high = middle;
    }
    if (image_window_path(folder, low, path, cap, err) < 0 || event_of(path, &at, err) < 0)
        return -1;
    return at <= event ? 0
                       : err_set(err, "the oldest fine checkpoint that is kept is at event %lu",
                                 (unsigned long)at);
}

static int start_at(void *arg, uint64_t event, struct adopted *out, struct err *err)
{
    struct isolated *is = arg;
    char path[PATH_BYTES];
    if (find_checkpoint(is, event, path, sizeof path, err) < 0 || make(is, path, err) < 0)
        return -1;
    describe(is, out);
    return 0;
}

/* ---- what the replay has to say ---- */

static bool read_word(struct stop *s, uint64_t addr, uint64_t *word)
{
    return s->target->ops->read_memory(s->target, s->thread.pid, addr, word, sizeof *word) ==
           (ssize_t)sizeof *word;
}

/* Where the system call goes on that waits while a handler of the application is about to run for
 * this signal; 0: the thread is in none. */
static uint64_t call_that_waits(pid_t tid)
{
    uint64_t thread = stub_thread_of(tid);
    bool in_handler =
        thread && !(uint8_t)peek(tid, thread + offsetof(struct stub_thread, dispatch));
    return in_handler ? peek(tid, thread + offsetof(struct stub_thread, call_behind)) : 0;
}

/* A thread has come to before the call that the recording has no event of. */
static enum stop_verdict stand_before_call(struct isolated *is, struct stop *s,
                                           struct user_regs_struct *regs)
{
    uint64_t thread = stub_thread_of(s->thread.tid);
    regs->rip = peek(s->thread.tid, thread + offsetof(struct stub_thread, before_call));
    ptrace(PTRACE_SETREGS, s->thread.tid, NULL, regs);
    memcpy(s->text, is->end, sizeof s->text);
    s->signal = 0;
    s->history = HISTORY_END;
    ptrace_target_ends_here(s->target);
    return STOP_REPORT;
}

/*
 * The stub calls GATE->stop(code, text), whose first instruction is int3. GDB is shown the caller,
 * as if the call had just returned: its frames are the application's own. Going on calls it again.
 * Where the recording ends in a handler of the stub, which signals are blocked in, the thread goes
 * to the place that the handler is of first.
 */
static enum stop_verdict on_stop(void *arg, struct stop *s)
{
    struct isolated *is = arg;
    enum stop_verdict verdict = by_message_look(is->by_message, s);
    if (verdict != STOP_DEFAULT)
        return verdict;
    uint64_t entry;
    struct user_regs_struct regs;
    if (s->info.si_signo != SIGTRAP)
        s->call_site = call_that_waits(s->thread.tid);
    if (s->info.si_signo != SIGTRAP || ptrace(PTRACE_GETREGS, s->thread.tid, NULL, &regs))
        return STOP_DEFAULT;
    if (s->pc == shown_by_stub(s->thread.tid, offsetof(struct gate_stub, before_call)))
        return stand_before_call(is, s, &regs);
    if (s->pc < GATE_ADDR || !read_word(s, GATE_ADDR + offsetof(struct gate, stop), &entry) ||
        s->pc != entry)
        return STOP_DEFAULT;
    uint64_t back, thread = stub_thread_of(s->thread.tid);
    if (!read_word(s, regs.rsp, &back))
        return STOP_DEFAULT;
    char text[sizeof s->text - 16] = "";
    ssize_t n =
        s->target->ops->read_memory(s->target, s->thread.pid, regs.rsi, text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    snprintf(s->text, sizeof s->text, "dbg3: %s\n", text);
    if ((int)regs.rdi == STOP_DIVERGED)
        by_message_diverged(is->by_message, text);
    bool ends = (int)regs.rdi == REPLAY_STOP_END;
    bool answering = peek(s->thread.tid, thread + offsetof(struct stub_thread, answering)) != 0;
    regs.rip = back;
    regs.rsp += 8;
    regs.rax = ends && answering;
    ptrace(PTRACE_SETREGS, s->thread.tid, NULL, &regs);
    if (regs.rax) {
        memcpy(is->end, s->text, sizeof is->end);
        return STOP_RESUME;
    }
    s->signal = 0;
    s->call_site = present_call(s->thread.tid);
    s->history = ends ? HISTORY_END : HISTORY_INSIDE;
    return STOP_REPORT;
}

/* ---- the session ---- */

static int serve(struct isolated *is, struct err *err)
{
    const char *listen = is->options->listen;
    bool pipe_mode = strcmp(listen, "-") == 0;
    struct ptrace_options options = {.restart = make_again, .restart_arg = is,
                                     .hook = {on_stop, is},
                                     .run_hook = by_message_run_hook(is->by_message),
                                     .monitor = by_message_commands(is->by_message),
                                     .reverse = true,
                                     .recorded = {is, next_event, event_word, call_site, in_call,
                                                  arriving, thread_in_turn, last_of, start_at},
                                     .stdio = {0, 1, 2}};
    struct gdbserver_options server = {.once = pipe_mode, .multi = true};
    struct transport tr;
    struct adopted adopted;
    struct event stop;
    gdbserver_prepare(pipe_mode);
    show_from(is, first_event(is));
    isolate_prepare_replay(is->options);
    if (make(is, is->image_path, err) < 0)
        return -1;
    if (pipe_mode)
        transport_from_fds(&tr, STDIN_FILENO, STDOUT_FILENO);
    else if (transport_listen(&tr, listen, err) < 0)
        return -1;
    else
        fprintf(stderr, "dbg3: rank %u waits for GDB on %s\n", is->options->rank, tr.name);
    describe(is, &adopted);
    struct target *t = ptrace_target_create(&options);
    by_message_serve(is->by_message, t);
    int r = ptrace_target_adopt(t, &adopted, &stop, err);
    if (r == 0)
        r = gdbserver_serve(t, &stop, &tr, &server, err);
    t->ops->destroy(t);
    transport_close(&tr);
    return r;
}

/* ---- for whoever attaches ---- */

/* All threads stop before their next instruction, and are traced no more. */
static int let_go(struct isolated *is, struct err *err)
{
    if (kill(is->pid, SIGSTOP) < 0)
        return fail(is, err, "cannot stop the isolated rank");
    for (size_t i = 0; i < is->nthreads; i++)
        ptrace(PTRACE_DETACH, is->thread[i], NULL, 0);
    return ptrace(PTRACE_DETACH, is->pid, NULL, 0) < 0
               ? fail(is, err, "cannot let go of the isolated rank")
               : 0;
}

static void say_how(const struct isolated *is)
{
    const struct isolate_options *o = is->options;
    printf("rank %u is process %d, stopped before event %lu; forward only:\n    gdb", o->rank,
           (int)is->pid, (unsigned long)first_event(is));
    if (o->bundle)
        printf(" -iex 'set sysroot %s/root'", o->session);
    printf(" -ix %s/dbg3-attach.gdb %s%s%s -p %d\n", o->runtime, o->bundle ? o->session : "",
           o->bundle ? "/root" : "", image_state(is->image)->meta.program, (int)is->pid);
    fflush(stdout);
}

int isolated_wait(const struct isolate_options *options, struct err *err)
{
    struct isolated is = {.options = options, .shown = -1};
    int status;
    if (isolate_image(options, is.image_path, sizeof is.image_path, err) < 0 ||
        !(is.image = image_open(is.image_path, err)))
        return -1;
    isolate_prepare_replay(options);
    int r = make(&is, is.image_path, err) < 0 ? -1 : let_go(&is, err);
    if (r == 0)
        say_how(&is);
    while (r == 0 && waitpid(is.pid, &status, 0) < 0 && errno == EINTR)
        ;
    image_close(is.image);
    return r;
}

int isolated_serve(const struct isolate_options *options, struct err *err)
{
    struct isolated is = {.options = options, .shown = -1};
    if (isolate_image(options, is.image_path, sizeof is.image_path, err) < 0)
        return -1;
    is.image = image_open(is.image_path, err);
    if (!is.image)
        return -1;
    is.by_message = by_message_create(&(struct by_message_options){
        .session = options->session,
        .rank = options->rank,
        .first_event = first_event(&is),
        .epoch = options->recorded_from,
        .bundle = options->bundle});
    int r = serve(&is, err);
    by_message_destroy(is.by_message);
    if (is.shown >= 0)
        close(is.shown);
    image_close(is.image);
    return r;
}
