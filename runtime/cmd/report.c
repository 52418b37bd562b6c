/*
 * report.c - how a phase ended, and what to type next
 */
#include "runtime/cmd/report.h"

#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "call_id.h"
#include "msgcounter/log/log_read.h"
#include "runtime/base/human.h"
#include "runtime/cmd/cmd.h"
#include "runtime/cmd/preflight.h"
#include "runtime/coord/counters_view.h"

#define RANKS_SHOWN 16 /* failures printed one by one */

int report_exit_code(enum session_outcome outcome)
{
    static const int codes[SESSION_NOUTCOMES] = {
        [SESSION_COMPLETED] = EXIT_DONE, [SESSION_FAILED] = EXIT_RANK_FAILED,
        [SESSION_HUNG] = EXIT_HUNG,      [SESSION_LAUNCHER] = EXIT_LAUNCHER,
        [SESSION_NO_RANK] = EXIT_NO_RANK, [SESSION_INTERRUPTED] = EXIT_INTERRUPTED,
    };
    return outcome < SESSION_NOUTCOMES ? codes[outcome] : EXIT_ERROR;
}

static const char *signal_name(int signum, char *buf, size_t cap)
{
    const char *name = sigabbrev_np(signum);
    if (name)
        snprintf(buf, cap, "SIG%s", name);
    else
        snprintf(buf, cap, "signal %d", signum);
    return buf;
}

const char *report_cause(const struct session_failure *f, char *buf, size_t cap)
{
    char name[32];
    switch (f->kind) {
    case PROTO_FAILURE_SIGNAL:
        signal_name((int)f->code, name, sizeof name);
        if (f->code == SIGSEGV || f->code == SIGBUS)
            snprintf(buf, cap, "%s at address 0x%" PRIx64, name, f->address);
        else
            snprintf(buf, cap, "%s", name);
        break;
    case PROTO_FAILURE_ABORT:
        snprintf(buf, cap, "called MPI_Abort with %" PRIu64, f->code);
        break;
    case PROTO_FAILURE_EXIT:
        snprintf(buf, cap, "ended with status %" PRIu64 " before MPI_Finalize", f->code);
        break;
    case PROTO_FAILURE_HANG:
        snprintf(buf, cap, f->call[0] ? "waiting" : "computing");
        break;
    case PROTO_FAILURE_KILLED:
        snprintf(buf, cap, "killed from outside (SIGKILL)");
        break;
    case PROTO_FAILURE_ERROR:
        snprintf(buf, cap, "stopped by dbg3");
        break;
    case PROTO_FAILURE_RESTORE:
        snprintf(buf, cap, "cannot be continued");
        break;
    }
    return buf;
}

/* What a launcher, or Ctrl-C, does to the ranks that are left is no failure of theirs. */
static bool is_consequence(const struct session_phase *phase, const struct session_failure *f)
{
    bool ended = phase->outcome == SESSION_LAUNCHER || phase->outcome == SESSION_INTERRUPTED;
    return (f->order > 1 || ended) && f->kind == PROTO_FAILURE_SIGNAL &&
           (f->code == SIGTERM || f->code == SIGKILL || f->code == SIGINT || f->code == SIGHUP);
}

static const char *status_text(int status, char *buf, size_t cap)
{
    char name[32];
    if (WIFSIGNALED(status))
        snprintf(buf, cap, "was killed by %s", signal_name(WTERMSIG(status), name, sizeof name));
    else
        snprintf(buf, cap, "returned %d", WEXITSTATUS(status));
    return buf;
}

/* As a shell has it in $?. */
static int shell_status(int status)
{
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* All that a report says, read once. */
struct facts {
    struct session_phase phase;
    struct session_failure *failure;
    struct session_rank *rank;
    struct session_epoch epoch; /* newest; number 0 if there is none */
    unsigned size; /* of the job, as far as it is known */
    unsigned nfailure, nrank, nreal; /* nreal: failures that are no consequence */
    char next[PATH_MAX + 128];
};

static void facts_free(struct facts *f)
{
    free(f->failure);
    free(f->rank);
}

/* " --session DIR" unless ./latest.dbg3 is this session. */
static void session_option(const struct session *s, char *buf, size_t cap)
{
    char *latest = realpath(SESSION_LATEST, NULL);
    buf[0] = '\0';
    if (!latest || strcmp(latest, session_dir(s)))
        snprintf(buf, cap, " --session %s", session_dir(s));
    free(latest);
}

/* The newest epoch before this one, 0 if there is none. */
static uint64_t epoch_before(struct session *s, uint64_t number)
{
    struct session_epoch *epochs;
    unsigned n;
    uint64_t before = 0;
    if (session_epochs(s, &epochs, &n, NULL) < 0)
        return 0;
    for (unsigned i = 0; i < n; i++)
        if (epochs[i].number < number)
            before = epochs[i].number;
    free(epochs);
    return before;
}

/* An image was of no use: the same from the epoch before it. */
static void choose_older(struct session *s, struct facts *f, const char *option)
{
    uint64_t before = epoch_before(s, f->phase.from_epoch);
    const char *phase = session_phase_name(f->phase.kind);
    if (before)
        snprintf(f->next, sizeof f->next, "dbg3 %s%s --epoch %" PRIu64, phase, option, before);
    else if (f->phase.kind == PROTO_PHASE_REFINE)
        snprintf(f->next, sizeof f->next, "dbg3 refine%s --from-start", option);
}

static void choose_next(struct session *s, struct facts *f)
{
    char option[PATH_MAX + 16];
    const struct session_failure *first = f->nfailure ? &f->failure[0] : NULL;
    session_option(s, option, sizeof option);
    bool stopped = f->phase.outcome == SESSION_FAILED || f->phase.outcome == SESSION_HUNG;
    bool ended =
        f->phase.outcome == SESSION_INTERRUPTED || f->phase.outcome == SESSION_LAUNCHER;
    bool killed = f->phase.outcome == SESSION_RUNNING && !session_running(s);
    if (first && first->kind == PROTO_FAILURE_RESTORE)
        choose_older(s, f, option);
    else if (f->phase.kind == PROTO_PHASE_REFINE && first && first->kind == PROTO_FAILURE_ERROR &&
             !first->event) /* nothing of it is recorded */
        snprintf(f->next, sizeof f->next, "dbg3 refine%s --every-n-msgs 10", option);
    else if (f->phase.kind == PROTO_PHASE_REFINE && stopped && first)
        snprintf(f->next, sizeof f->next, "dbg3 isolate%s --rank %u under gdb", option,
                 first->rank);
    else if (f->phase.kind == PROTO_PHASE_REFINE && f->nrank &&
             f->phase.outcome == SESSION_COMPLETED)
        snprintf(f->next, sizeof f->next, "dbg3 isolate%s --rank 0 --check", option);
    else if (stopped)
        snprintf(f->next, sizeof f->next, "dbg3 refine%s --every-n-msgs 10", option);
    else if (f->phase.kind == PROTO_PHASE_REFINE && (ended || killed))
        snprintf(f->next, sizeof f->next, "dbg3 refine%s", option);
    else if ((ended || killed) && f->epoch.number)
        snprintf(f->next, sizeof f->next, "dbg3 restart%s", option);
}

static int by_rank(const void *a, const void *b)
{
    const struct session_failure *x = a, *y = b;
    return (x->rank > y->rank) - (x->rank < y->rank);
}

static int facts_read(struct session *s, const struct session_phase *phase, struct facts *f,
                      struct err *err)
{
    *f = (struct facts){.phase = *phase};
    if (session_failures(s, phase->id, &f->failure, &f->nfailure, err) < 0 ||
        session_ranks(s, phase->id, &f->rank, &f->nrank, err) < 0) {
        facts_free(f);
        return -1;
    }
    if (phase->outcome == SESSION_HUNG && f->nfailure) /* no one was the first */
        qsort(f->failure, f->nfailure, sizeof *f->failure, by_rank);
    if (session_epoch_last(s, &f->epoch, NULL) < 0)
        f->epoch.number = 0;
    f->size = f->nrank > session_job(s)->size ? f->nrank : session_job(s)->size;
    for (unsigned i = 0; i < f->nfailure; i++)
        f->nreal += !is_consequence(&f->phase, &f->failure[i]);
    choose_next(s, f);
    return 0;
}

int report_next(struct session *s, const struct session_phase *phase, char *buf, size_t cap,
                struct err *err)
{
    struct facts f;
    if (facts_read(s, phase, &f, err) < 0)
        return -1;
    snprintf(buf, cap, "%s", f.next);
    facts_free(&f);
    return 0;
}

/* ---- for people -------------------------------------------------------------------------- */

static void print_headline(const struct facts *f, FILE *out)
{
    char text[256] = "", status[64], time[32];
    const char *phase = session_phase_name(f->phase.kind);
    enum style style = f->phase.outcome == SESSION_COMPLETED ? STYLE_GOOD : STYLE_BAD;
    unsigned size = f->size;
    switch (f->phase.outcome) {
    case SESSION_RUNNING:
        snprintf(text, sizeof text, "%s did not end in an orderly way: its dbg3 was killed", phase);
        break; /* its ranks, if they live, go on without checkpoints */
    case SESSION_COMPLETED:
        snprintf(text, sizeof text, "%s completed, %u rank%s", phase, size,
                 size == 1 ? "" : "s");
        break;
    case SESSION_FAILED:
        snprintf(text, sizeof text, "%s failed: %u of %u rank%s", phase, f->nreal, size,
                 size == 1 ? "" : "s");
        break;
    case SESSION_HUNG:
        snprintf(text, sizeof text, "%s hung, %u ranks", phase, size);
        break;
    case SESSION_LAUNCHER:
        snprintf(text, sizeof text, "%s ended: the launcher %s, no rank failed", phase,
                 status_text(f->phase.status, status, sizeof status));
        break;
    case SESSION_NO_RANK:
        snprintf(text, sizeof text, "%s: no MPI rank came under control (the launcher %s)", phase,
                 status_text(f->phase.status, status, sizeof status));
        break;
    case SESSION_INTERRUPTED:
        snprintf(text, sizeof text, "%s interrupted, %u ranks", phase, size);
        break;
    case SESSION_NOUTCOMES:
        break;
    }
    fprintf(out, "dbg3: %s%s%s", style_on(out, style), text, style_off(out));
    if (f->phase.ended > f->phase.started)
        fprintf(out, " after %s",
                human_seconds(f->phase.ended - f->phase.started, time, sizeof time));
    fputc('\n', out);
}

static const struct session_rank *rank_row(const struct facts *f, unsigned rank)
{
    for (unsigned i = 0; i < f->nrank; i++)
        if (f->rank[i].rank == rank)
            return &f->rank[i];
    return NULL;
}

/* `call`: say in which MPI call the rank is, too. */
static void print_counters(struct session *s, unsigned rank, bool call, FILE *out)
{
    char sent[32], received[32];
    const struct counters_file *c = counters_map(session_dir(s), rank, NULL);
    if (!c)
        return;
    fprintf(out, "      %" PRIu64 " messages: %" PRIu64 " sent (%s), %" PRIu64 " received (%s), %"
                 PRIu64 " collectives", counters_get(&c->messages), counters_get(&c->sent_msgs),
            human_bytes(counters_get(&c->sent_bytes), sent, sizeof sent),
            counters_get(&c->recv_msgs),
            human_bytes(counters_get(&c->recv_bytes), received, sizeof received),
            counters_get(&c->collectives));
    if (call && *counters_call(c))
        fprintf(out, "; in %s", counters_call(c));
    fputc('\n', out);
    counters_unmap(c);
}

/* A signal that was caught inside MPI: the text says in which library. */
static bool in_library(const struct session_failure *x)
{
    return x->kind == PROTO_FAILURE_SIGNAL && strncmp(x->text, "inside ", 7) == 0;
}

/* A signal's pc says where it was: not in MPI if in a file of the application's. */
static bool in_application(const struct session_failure *x, const struct session_rank *row)
{
    return x->kind == PROTO_FAILURE_SIGNAL && row && !strcmp(x->module, row->program) &&
           !in_library(x);
}

/* Itself, and not MPI for an error in another call. */
static bool called_abort(const struct session_failure *x)
{
    return x->kind == PROTO_FAILURE_ABORT && !strcmp(x->call, "MPI_Abort");
}

/* Whether the rank made its last MPI call before the recording began. */
static bool recorded_no_call(const struct session *s, unsigned rank)
{
    struct log_reader *reader = NULL;
    const struct log_record *rec;
    char dir[PATH_MAX];
    struct err err;
    bool none = true;
    session_logs(s, dir, sizeof dir);
    if (log_reader_open(&reader, dir, rank, NULL, &err) < 0)
        return false;
    while (none && log_reader_next(reader, &rec, &err) > 0)
        none = rec->call >= CALL_COUNT;
    log_reader_close(reader);
    return none;
}

/* An epoch may be made while a rank dies, in its handler of the signal, or just before. */
static void print_earlier(struct session *s, const struct facts *f, const struct session_failure *x,
                          FILE *out)
{
    char option[PATH_MAX + 16], where[64] = "--from-start";
    uint64_t before = epoch_before(s, f->phase.from_epoch);
    if (f->phase.kind != PROTO_PHASE_REFINE || !f->phase.from_epoch || !x->event ||
        x->kind != PROTO_FAILURE_SIGNAL || !recorded_no_call(s, x->rank))
        return;
    if (before)
        snprintf(where, sizeof where, "--epoch %" PRIu64, before);
    session_option(s, option, sizeof option);
    fprintf(out, "      no MPI call of it since epoch %" PRIu64 "; for more of its past: "
                 "dbg3 refine%s %s\n", f->phase.from_epoch, option, where);
}

static void print_failure(struct session *s, const struct facts *f, const struct session_failure *x,
                          FILE *out)
{
    char cause[128], name[24], who[128];
    const struct session_rank *row = rank_row(f, x->rank);
    int width = 2 + snprintf(name, sizeof name, "rank %u", x->rank);
    fprintf(out, "  %s%s%s", style_on(out, STYLE_BOLD), name, style_off(out));
    width += fprintf(out, ": %s", report_cause(x, cause, sizeof cause));
    if (x->call[0] && !called_abort(x))
        width += fprintf(out, " %s %s", in_application(x, row) ? "after" : "in", x->call);
    if (x->source[0])
        width += fprintf(out, ", %s", x->source);
    else if (x->pc)
        width += fprintf(out, ", pc 0x%" PRIx64, x->pc);
    if (row && snprintf(who, sizeof who, "(pid %d on %s)", row->pid, row->host) > 0)
        fprintf(out, "%s%s", width + 1 + (int)strlen(who) > CMD_COLUMNS ? "\n      " : " ", who);
    fputc('\n', out);
    if (x->text[0] && (x->kind != PROTO_FAILURE_SIGNAL || in_library(x)) &&
        x->kind != PROTO_FAILURE_HANG && x->kind != PROTO_FAILURE_ABORT)
        fprintf(out, "      %s\n", x->text);
    if (x->kind != PROTO_FAILURE_RESTORE)
        print_counters(s, x->rank, !x->call[0], out);
    if (x->event)
        fprintf(out, "      after event %" PRIu64 ", the last of its recording\n", x->event - 1);
    print_earlier(s, f, x, out);
    if (x->image[0])
        fprintf(out, "      whole state: gdb %s %s\n", row ? row->program : "PROGRAM", x->image);
}

static void print_failures(struct session *s, const struct facts *f, FILE *out)
{
    unsigned *rest = calloc(f->nrank + 1, sizeof *rest), nrest = 0, shown = 0;
    char ranks[64];
    for (unsigned i = 0; i < f->nfailure; i++)
        if (!is_consequence(&f->phase, &f->failure[i]) && shown++ < RANKS_SHOWN)
            print_failure(s, f, &f->failure[i], out);
    if (shown > RANKS_SHOWN)
        fprintf(out, "  ... and %u more; see: dbg3 status --json\n", shown - RANKS_SHOWN);
    for (unsigned r = 0; rest && r < f->nrank; r++) {
        bool failed = f->rank[r].finalized;
        for (unsigned i = 0; i < f->nfailure; i++)
            failed |=
                f->failure[i].rank == f->rank[r].rank && !is_consequence(&f->phase, &f->failure[i]);
        if (!failed)
            rest[nrest++] = f->rank[r].rank;
    }
    if (nrest && f->phase.outcome == SESSION_FAILED)
        fprintf(out, "  rank%s %s: ended by the launcher\n", nrest == 1 ? "" : "s",
                human_ranks(rest, nrest, ranks, sizeof ranks));
    free(rest);
}

static void print_epoch(const struct facts *f, FILE *out)
{
    char age[32];
    if (f->phase.kind == PROTO_PHASE_REFINE)
        return;
    if (!f->epoch.number) {
        if (f->phase.outcome != SESSION_COMPLETED && f->phase.outcome != SESSION_NO_RANK &&
            f->phase.kind != PROTO_PHASE_RESTART)
            fprintf(out, "  no epoch was complete: refine begins at the start of the program\n");
        return;
    }
    fprintf(out, "  last complete epoch: %" PRIu64, f->epoch.number);
    if (f->phase.ended > f->epoch.committed)
        fprintf(out, ", %s before the end",
                human_seconds(f->phase.ended - f->epoch.committed, age, sizeof age));
    fputc('\n', out);
}

static void print_doubt(char *const *launcher, FILE *out)
{
    char doubt[PATH_MAX + 64];
    preflight_doubt(launcher, doubt, sizeof doubt);
    if (*doubt)
        fprintf(out, "  likely: %s\n", doubt);
    else
        fprintf(out, "  likely: the program is not linked with MPICH's libmpich.so.12, it is "
                     "static\n  or setuid, it ended before MPI_Init, or the launcher does not "
                     "pass\n  LD_PRELOAD and DBG3_* on\n");
}

int report_print(struct session *s, const struct session_phase *phase, FILE *out, struct err *err)
{
    struct facts f;
    if (facts_read(s, phase, &f, err) < 0)
        return -1;
    print_headline(&f, out);
    if (phase->outcome == SESSION_NO_RANK && phase->kind != PROTO_PHASE_BATCH)
        fprintf(out, "  the launcher, or the ranks, said above why they could not start\n");
    else if (phase->outcome == SESSION_NO_RANK)
        print_doubt(session_job(s)->launcher, out);
    print_failures(s, &f, out);
    print_epoch(&f, out);
    if (f.next[0])
        fprintf(out, "next: %s%s%s\n", style_on(out, STYLE_BOLD), f.next, style_off(out));
    facts_free(&f);
    return 0;
}

/* ---- for programs ------------------------------------------------------------------------ */

static const char *kind_name(enum proto_failure kind)
{
    static const char *const names[] = {"signal", "abort", "exit", "hang", "killed", "error",
                                        "restore"};
    return kind <= PROTO_FAILURE_RESTORE ? names[kind] : "?";
}

static json_t *failure_json(const struct session_phase *phase, const struct session_failure *x)
{
    char cause[128];
    return json_pack("{s:i, s:s, s:I, s:s, s:b, s:s, s:s, s:s, s:I, s:I, s:I, s:s, s:I, s:s}",
                     "rank", (int)x->rank, "kind", kind_name(x->kind), "code", (json_int_t)x->code,
                     "cause", report_cause(x, cause, sizeof cause), "consequence",
                     is_consequence(phase, x), "call", x->call, "source", x->source, "text",
                     x->text, "event", (json_int_t)x->event, "pc", (json_int_t)x->pc, "address",
                     (json_int_t)x->address, "module", x->module, "module_offset",
                     (json_int_t)x->module_offset, "image", x->image);
}

json_t *report_json(struct session *s, const struct session_phase *phase, struct err *err)
{
    struct facts f;
    if (facts_read(s, phase, &f, err) < 0)
        return NULL;
    json_t *failures = json_array();
    for (unsigned i = 0; i < f.nfailure; i++)
        json_array_append_new(failures, failure_json(phase, &f.failure[i]));
    json_t *report = json_pack(
        "{s:s, s:s, s:s, s:f, s:f, s:I, s:i, s:i, s:i, s:I, s:o, s:s}", "session", session_dir(s),
        "phase", session_phase_name(phase->kind), "outcome", session_outcome_name(phase->outcome),
        "started", phase->started, "ended", phase->ended, "from_epoch",
        (json_int_t)phase->from_epoch, "ranks", (int)f.nrank, "launcher_status",
        shell_status(phase->status), "exit_code", report_exit_code(phase->outcome), "last_epoch",
        (json_int_t)f.epoch.number, "failures", failures, "next", f.next);
    facts_free(&f);
    if (!report)
        err_set(err, "out of memory");
    return report;
}
