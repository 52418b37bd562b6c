/*
 * phase.c - batch, restart, refine: one launcher line, run under control
 */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "msgcounter/log/log_file.h"
#include "runtime/base/fault.h"
#include "runtime/cmd/cmd.h"
#include "runtime/cmd/environment.h"
#include "runtime/cmd/preflight.h"
#include "runtime/cmd/report.h"
#include "runtime/cmd/runtime_files.h"
#include "runtime/coord/coord.h"
#include "runtime/coord/program.h"
#include "runtime/launch/env.h"

#define KEEP_FINE  8
#define EVERY_FINE 10
/* Percent, where the user does not say how often: with the recording, refine is to take no more
 * than a tenth, and a rank that pauses holds up its peers (NPB CG.B: 5 took 1.12, 2 1.06). */
#define OVERHEAD   3
#define ORDER_WAIT 30000 /* ms */

extern char **environ;

/* What the command line of any of the three says. */
struct phase {
    struct common common;
    enum proto_phase kind;
    uint64_t every_ms, hang_after_ms, every_n_msgs;
    unsigned keep_epochs, keep, overhead;
    uint64_t epoch; /* --epoch; 0: newest */
    uint64_t order_wait_ms; /* 0: --free */
    bool from_start;
    bool quiet;
    char **launcher; /* NULL: the recorded one */

    struct session *session;
    struct runtime_files files;
    struct environment env;
    char cwd[PATH_MAX], program[PATH_MAX], folder[PATH_MAX]; /* folder: of the epoch, "" start */
};

/* ---- command lines ----------------------------------------------------------------------- */

enum {
    KEY_EVERY = 'e',
    KEY_EVERY_N = 'n',
    KEY_HANG = 'H',
    KEY_KEEP_EPOCHS = 'k',
    KEY_KEEP = 'K',
    KEY_OVERHEAD = 'o',
    KEY_EPOCH = 'E',
    KEY_START = 'S',
    KEY_QUIET = 'q',
    KEY_FREE = 'F',
    KEY_ORDER_WAIT = 'W',
};

#define OPTION_EVERY                                                                               \
    {"every", KEY_EVERY, "TIME", 0, "make an epoch every TIME (30s, 10m, 1h)", 1}
#define OPTION_EVERY_N_EPOCH                                                                       \
    {"every-n-msgs", KEY_EVERY_N, "N", 0, "make an epoch when a rank's message count passes a "    \
                                          "multiple of N", 1}
#define OPTION_HANG                                                                                \
    {"hang-after", KEY_HANG, "TIME", 0, "end the job, and say where each rank is, when no rank's " \
                                        "counters moved for TIME", 1}
#define OPTION_KEEP_EPOCHS                                                                         \
    {"keep-epochs", KEY_KEEP_EPOCHS, "N", 0, "keep the newest N epochs (default: all)", 1}
#define OPTION_EPOCH                                                                               \
    {"epoch", KEY_EPOCH, "N", 0, "begin at epoch N (default: the newest complete one)", 1}
#define OPTION_QUIET {"quiet", KEY_QUIET, NULL, 0, "say nothing while it runs", 1}

static const struct argp_option batch_options[] = {
    OPTION_EVERY, OPTION_EVERY_N_EPOCH, OPTION_HANG, OPTION_KEEP_EPOCHS, OPTION_QUIET, {0}};
static const struct argp_option restart_options[] = {
    OPTION_EPOCH, OPTION_EVERY,       OPTION_EVERY_N_EPOCH,
    OPTION_HANG,  OPTION_KEEP_EPOCHS, OPTION_QUIET,
    {0}};
static const struct argp_option refine_options[] = {
    {"every-n-msgs", KEY_EVERY_N, "N", 0,
     "make a fine checkpoint of a rank after every N of its messages (default: 10, with an "
     "overhead of 3 percent)", 1},
    {"overhead", KEY_OVERHEAD, "PERCENT", 0,
     "leave fine checkpoints out while they and the payload log have taken more than PERCENT of "
     "the rank's processor time (default with --every-n-msgs: any)", 1},
    {"keep", KEY_KEEP, "K", 0, "keep the last K fine checkpoints of each rank (default: 8)", 1},
    OPTION_EPOCH,
    {"from-start", KEY_START, NULL, 0, "begin at the program's start, not at an epoch", 1},
    {"free", KEY_FREE, NULL, 0, "let chance decide again what it decided in batch", 1},
    {"order-wait", KEY_ORDER_WAIT, "TIME", 0,
     "when the whole job has stood still for TIME, a rank that waits for what it had in batch "
     "gives up the order of batch (default: 30s)", 1},
    OPTION_HANG,
    OPTION_QUIET,
    {0}};

static error_t parse_phase(int key, char *arg, struct argp_state *state)
{
    struct phase *p = state->input;
    switch (key) {
    case KEY_EVERY:
        p->every_ms = cmd_duration(state, "every", arg);
        return 0;
    case KEY_EVERY_N:
        if ((p->every_n_msgs = cmd_number(state, "every-n-msgs", arg)) == 0)
            argp_error(state, "--every-n-msgs: must be 1 or more");
        return 0;
    case KEY_HANG:
        p->hang_after_ms = cmd_duration(state, "hang-after", arg);
        return 0;
    case KEY_KEEP_EPOCHS:
        if ((p->keep_epochs = (unsigned)cmd_number(state, "keep-epochs", arg)) == 0)
            argp_error(state, "--keep-epochs: must be 1 or more");
        return 0;
    case KEY_KEEP:
        if ((p->keep = (unsigned)cmd_number(state, "keep", arg)) == 0)
            argp_error(state, "--keep: must be 1 or more");
        return 0;
    case KEY_OVERHEAD:
        if ((p->overhead = (unsigned)cmd_number(state, "overhead", arg)) == 0)
            argp_error(state, "--overhead: must be 1 or more");
        return 0;
    case KEY_EPOCH:
        if ((p->epoch = cmd_number(state, "epoch", arg)) == 0)
            argp_error(state, "--epoch: epochs are numbered from 1; see: dbg3 list");
        return 0;
    case KEY_START:
        p->from_start = true;
        return 0;
    case KEY_QUIET:
        p->quiet = true;
        return 0;
    case KEY_FREE:
        p->order_wait_ms = 0;
        return 0;
    case KEY_ORDER_WAIT:
        if ((p->order_wait_ms = cmd_duration(state, "order-wait", arg)) == 0)
            argp_error(state, "--order-wait: must be more than 0");
        return 0;
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &p->common;
        return 0;
    case ARGP_KEY_END:
        if (p->from_start && p->epoch)
            argp_error(state, "--from-start or --epoch %" PRIu64 "? Both are where to begin",
                       p->epoch);
        return 0;
    case ARGP_KEY_ARGS: /* all that is left: the launcher line */
        p->launcher = state->argv + state->next;
        return 0;
    case ARGP_KEY_NO_ARGS:
        if (p->kind == PROTO_PHASE_BATCH)
            argp_error(state, "what is to be run? dbg3 batch -- mpiexec -n 4 ./app");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0}, {0}};

const struct argp batch_argp = {batch_options,
                                parse_phase,
                                "[--] LAUNCHER...",
                                "Run an MPI job under control: counters, epochs (coordinated "
                                "checkpoints of all ranks), failure "
                                "images.\vThe launcher line is run as it is; its MPI ranks come "
                                "under control by themselves. The "
                                "session folder is PROGRAM.dbg3, and ./latest.dbg3 points at it.",
                                children,
                                NULL,
                                NULL};
const struct argp restart_argp = {restart_options,
                                  parse_phase,
                                  "[-- LAUNCHER...]",
                                  "Continue the job of a session from an epoch.\vWithout LAUNCHER "
                                  "the recorded launcher line runs "
                                  "again.",
                                  children,
                                  NULL,
                                  NULL};
const struct argp refine_argp = {
    refine_options, parse_phase, "[-- LAUNCHER...]",
    "Re-run the job from its newest epoch, recording every message of every rank.\vWhat chance "
    "decided (who matched MPI_ANY_SOURCE, which request completed first) comes out as it did. The "
    "recording replaces the one before. Without LAUNCHER the recorded launcher line runs again.",
    children, NULL, NULL};

/* ---- preparation ------------------------------------------------------------------------- */

/* A torn image is found now rather than by a rank among hundreds. */
static int check_images(struct phase *p, uint64_t epoch, struct err *err)
{
    struct session_image *image;
    unsigned n;
    if (session_images(p->session, epoch, &image, &n, err) < 0)
        return -1;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < n; i++) {
        char path[PATH_MAX + 80];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", p->folder, image[i].file);
        if (stat(path, &st) < 0)
            rc = err_sys(err, "image of rank %u in epoch %" PRIu64 ": %s", image[i].rank, epoch,
                         path);
        else if ((uint64_t)st.st_size != image[i].bytes)
            rc = err_set(err, "%s is truncated: %lld of %" PRIu64 " bytes; try another epoch, see: "
                              "dbg3 list", path, (long long)st.st_size, image[i].bytes);
    }
    free(image);
    return rc;
}

/* Restart and refine: which epoch to begin at. */
static int choose_epoch(struct phase *p, struct err *err)
{
    struct session_epoch epoch;
    if (p->from_start)
        return 0;
    if ((p->epoch ? session_epoch_find(p->session, p->epoch, &epoch, err)
                  : session_epoch_last(p->session, &epoch, err)) < 0) {
        if (p->kind == PROTO_PHASE_REFINE && !p->epoch) {
            fprintf(stderr, "dbg3: no complete epoch: recording from the start of the program\n");
            return 0;
        }
        return p->epoch ? -1
                        : err_set(err,
                                  "%s has no complete epoch to restart from; run it again with: "
                                  "dbg3 batch",
                                  session_dir(p->session));
    }
    p->epoch = epoch.number;
    session_epoch_folder(p->session, epoch.number, p->folder, sizeof p->folder);
    return check_images(p, epoch.number, err);
}

static int open_batch(struct phase *p, struct err *err)
{
    char name[256], build_id[PROGRAM_ID_MAX] = "";
    struct environment kept;
    if (preflight(p->launcher, p->program, err) < 0)
        return -1;
    if (*p->program && program_build_id(p->program, build_id, sizeof build_id, err) < 0)
        return -1;
    preflight_name(p->launcher, p->program, name, sizeof name);
    environment_select(&kept, environ);
    struct session_job job = {.program = p->program, .build_id = build_id, .cwd = p->cwd,
                              .launcher = p->launcher, .environment = kept.entry};
    p->session = session_create(p->common.session, name, &job, err);
    environment_clear(&kept);
    return p->session ? 0 : -1;
}

static int open_again(struct phase *p, struct err *err)
{
    p->session = session_open_locked(p->common.session, err);
    if (!p->session)
        return -1;
    const struct session_job *job = session_job(p->session);
    if (!p->launcher) {
        p->launcher = job->launcher;
        snprintf(p->cwd, sizeof p->cwd, "%s", job->cwd);
    }
    if (!p->launcher || !p->launcher[0])
        return err_set(err, "%s records no launcher line; give one after --",
                       session_dir(p->session));
    return preflight_unchanged(p->session, err) < 0 || choose_epoch(p, err) < 0 ? -1 : 0;
}

static void set_number(struct environment *env, const char *name, uint64_t value)
{
    char text[32];
    snprintf(text, sizeof text, "%" PRIu64, value);
    environment_set(env, name, text);
}

/* Tests: epochs at random calls (msgcounter/stub/storm.h). The seed is printed, to be reused. */
static void set_storm(struct environment *env)
{
    const char *storm = environment_get(env, ENV_STORM);
    char text[64];
    uint32_t seed = 0;
    if (!storm)
        return;
    if (!strchr(storm, ':')) {
        getentropy(&seed, sizeof seed);
        snprintf(text, sizeof text, "%.20s:%" PRIu32, storm, seed);
        environment_set(env, ENV_STORM, text);
    }
    fprintf(stderr, "dbg3: epochs at random calls: %s=%s\n", ENV_STORM,
            environment_get(env, ENV_STORM));
}

static void make_environment(struct phase *p)
{
    struct environment *env = &p->env;
    static const char *const ours[] = {ENV_EPOCH, ENV_EVERY_N_MSGS, ENV_KEEP, ENV_OVERHEAD,
                                       ENV_ORDER_WAIT, ENV_COORD, ENV_TOKEN};
    environment_copy(env, environ);
    if (p->kind != PROTO_PHASE_BATCH)
        environment_default(env, session_job(p->session)->environment);
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        environment_unset(env, ours[i]);
    if (p->kind != PROTO_PHASE_REFINE)
        set_storm(env);
    environment_prepend(env, "LD_PRELOAD", p->files.preload);
    environment_set(env, ENV_RUNTIME, p->files.dir);
    environment_set(env, ENV_SESSION, session_dir(p->session));
    environment_set(env, ENV_PHASE, session_phase_name(p->kind));
    if (*p->folder)
        environment_set(env, ENV_EPOCH, p->folder);
    if (p->every_n_msgs)
        set_number(env, ENV_EVERY_N_MSGS, p->every_n_msgs);
    if (p->kind == PROTO_PHASE_REFINE) {
        set_number(env, ENV_KEEP, p->keep);
        if (p->overhead)
            set_number(env, ENV_OVERHEAD, p->overhead);
        set_number(env, ENV_ORDER_WAIT, p->order_wait_ms);
    }
}

/* ---- the phase --------------------------------------------------------------------------- */

static void phase_notify(void *arg, enum coord_notice kind, const char *line)
{
    const struct phase *p = arg;
    if (!p->quiet)
        progress_notify(NULL, kind, line);
}

/* What the ranks left in the folders of their logs that is no log. */
static void tidy_logs(const struct session *s)
{
    char logs[PATH_MAX];
    session_logs(s, logs, sizeof logs);
    log_tidy(logs);
}

static int run_launcher(struct phase *p, uint64_t id, struct coord_result *result, struct err *err)
{
    struct coord_settings settings = {
        .session = p->session,
        .phase = p->kind,
        .phase_id = id,
        .every_ms = p->every_ms,
        .every_n_msgs = p->every_n_msgs,
        .hang_after_ms = p->hang_after_ms,
        .keep_epochs = p->keep_epochs,
        .keep_fine = p->keep,
        .launcher = p->launcher,
        .environment = p->env.entry,
        .cwd = p->cwd,
        .notify = phase_notify,
        .notify_arg = p,
    };
    bool refine = p->kind == PROTO_PHASE_REFINE;
    if (refine && session_recording_begin(p->session, err) < 0)
        return -1;
    int rc = coord_run(&settings, result, err);
    progress_clear();
    if (refine && (rc < 0 || !result->recording))
        session_recording_failed(p->session);
    if (refine)
        tidy_logs(p->session);
    if (rc < 0)
        session_phase_end(p->session, id, SESSION_NO_RANK, 0, NULL);
    if (rc < 0 || result->outcome == SESSION_NO_RANK)
        session_latest_back(p->session);
    return rc;
}

static int report(struct phase *p, uint64_t id, struct err *err)
{
    struct session_phase *phases;
    unsigned n;
    if (session_phases(p->session, &phases, &n, err) < 0)
        return -1;
    int rc =
        err_set(err, "%s: phase %" PRIu64 " is not in the catalog", session_dir(p->session), id);
    for (unsigned i = 0; i < n; i++) {
        if (phases[i].id != id)
            continue;
        rc = report_print(p->session, &phases[i], stderr, err);
        json_t *json = p->common.json && rc == 0 ? report_json(p->session, &phases[i], err) : NULL;
        if (json) {
            json_dumpf(json, stdout, JSON_INDENT(2));
            putchar('\n');
            json_decref(json);
        }
    }
    free(phases);
    return rc;
}

static int phase_run(struct phase *p)
{
    struct err err = {0};
    struct coord_result result = {0};
    uint64_t id;
    int code = EXIT_ERROR;
    if (!getcwd(p->cwd, sizeof p->cwd)) {
        err_sys(&err, "the current folder");
        return cmd_fail(EXIT_ERROR, &err);
    }
    if (runtime_files_find(&p->files, true, &err) < 0)
        return cmd_fail(EXIT_ERROR, &err);
    if (getenv(FAULT_ENV) && fault_check(getenv(FAULT_ENV), &err) < 0)
        return cmd_fail(EXIT_USAGE, &err);
    if ((p->kind == PROTO_PHASE_BATCH ? open_batch(p, &err) : open_again(p, &err)) == 0) {
        make_environment(p);
        if (session_phase_begin(p->session, p->kind, p->epoch, p->launcher, &id, &err) == 0 &&
            run_launcher(p, id, &result, &err) == 0 && report(p, id, &err) == 0)
            code = report_exit_code(result.outcome);
    }
    if (code == EXIT_ERROR)
        cmd_fail(EXIT_ERROR, &err);
    environment_clear(&p->env);
    session_close(p->session);
    return code;
}

int cmd_batch(int argc, char **argv)
{
    struct phase p = {.kind = PROTO_PHASE_BATCH};
    cmd_parse(&batch_argp, argc, argv, ARGP_IN_ORDER, &p);
    return phase_run(&p);
}

int cmd_restart(int argc, char **argv)
{
    struct phase p = {.kind = PROTO_PHASE_RESTART};
    cmd_parse(&restart_argp, argc, argv, ARGP_IN_ORDER, &p);
    return phase_run(&p);
}

int cmd_refine(int argc, char **argv)
{
    struct phase p = {.kind = PROTO_PHASE_REFINE, .keep = KEEP_FINE, .order_wait_ms = ORDER_WAIT};
    cmd_parse(&refine_argp, argc, argv, ARGP_IN_ORDER, &p);
    if (!p.every_n_msgs && !p.overhead)
        p.overhead = OVERHEAD;
    if (!p.every_n_msgs)
        p.every_n_msgs = EVERY_FINE;
    return phase_run(&p);
}
