/*
 * isolate.c - dbg3 isolate: one recorded rank alone
 */
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "call_id.h"
#include "gdbbridge/isolated.h"
#include "replay/isolate.h"
#include "runtime/cmd/cmd.h"
#include "runtime/cmd/preflight.h"
#include "runtime/cmd/recorded.h"
#include "runtime/cmd/runtime_files.h"
#include "runtime/cmd/unpacked.h"
#include "runtime/half/gate.h"
#include "runtime/pack/bundle.h"

struct isolate {
    struct common common;
    struct isolate_options options;
    long rank;
    uint64_t from_epoch; /* 0: not given */
    char image[PATH_MAX];
    const char *bundle, *unpack; /* FILE, and --unpack */
    char dir[PATH_MAX];          /* of the bundle */
    unsigned words; /* of "under gdb" seen so far */
};

enum { KEY_CHECK = 0x100, KEY_FROM_EPOCH, KEY_IMAGE, KEY_UNPACK, KEY_ANY_CPU, KEY_WAIT };

static const struct argp_option options[] = {
    {"rank", 'r', "R", 0, "rank in MPI_COMM_WORLD (required)", 1},
    {"at", 'a', "N", 0, "begin at fine checkpoint N (default: the last; with --check: the first)",
     1},
    {"from-epoch", KEY_FROM_EPOCH, "N", 0,
     "begin at epoch N, the one that the recording began at", 1},
    {"image", KEY_IMAGE, "FILE", 0, "begin at this image of the rank", 1},
    {"check", KEY_CHECK, NULL, 0,
     "no GDB: replay to the end of the recording, compare every send, and say so", 1},
    {"wait", KEY_WAIT, NULL, 0,
     "no GDB: leave the rank stopped for any debugger that attaches (gdb -p), which can run it "
     "forward only; ends with it", 1},
    {"listen", 'l', "ADDR", 0,
     "serve a GDB elsewhere: [HOST:]PORT or a path; - is standard input and output", 1},
    {"unpack", KEY_UNPACK, "DIR", 0,
     "unpack the bundle to DIR and keep it there (default: a temporary folder); DIR then does for "
     "FILE", 2},
    {"any-cpu", KEY_ANY_CPU, NULL, 0,
     "open the bundle although this processor lacks features of the other one", 2},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct isolate *a = state->input;
    switch (key) {
    case 'r':
        a->rank = (long)cmd_number(state, "rank", arg);
        return 0;
    case 'a':
        a->options.at = cmd_number(state, "at", arg);
        return 0;
    case KEY_FROM_EPOCH:
        if ((a->from_epoch = cmd_number(state, "from-epoch", arg)) == 0)
            argp_error(state, "--from-epoch: epochs are numbered from 1; see: dbg3 list");
        return 0;
    case KEY_IMAGE:
        a->options.from = arg;
        return 0;
    case KEY_CHECK:
        a->options.check = true;
        return 0;
    case KEY_UNPACK:
        a->unpack = arg;
        return 0;
    case KEY_ANY_CPU:
        a->options.any_cpu = true;
        return 0;
    case KEY_WAIT:
        a->options.wait = true;
        return 0;
    case 'l':
        a->options.listen = arg;
        return 0;
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &a->common;
        return 0;
    case ARGP_KEY_ARG:
        if (a->words == 0 && !strcmp(arg, "under")) {
            a->words = 1;
        } else if (a->words == 1 && !strcmp(arg, "gdb")) {
            a->words = 2;
            a->options.gdb_args = &state->argv[state->next];
            state->next = state->argc;
        } else if (a->words == 0 && !strcmp(arg, "gdb") && access(arg, F_OK) < 0) {
            argp_error(state, "GDB's own options follow \"under gdb\"");
        } else if (a->words == 0 && !a->bundle) {
            a->bundle = arg;
        } else {
            argp_error(state, "unexpected word: %s (GDB's own options follow \"under gdb\")", arg);
        }
        return 0;
    case ARGP_KEY_END:
        if (a->rank < 0 && !a->bundle)
            argp_error(state, "which rank? --rank R, or a file of dbg3 pack");
        if (a->bundle && access(a->bundle, F_OK) < 0 && !a->bundle[strspn(a->bundle, "0123456789")])
            argp_error(state, "which rank? --rank %s", a->bundle);
        if (a->bundle && (a->rank >= 0 || a->common.session || a->from_epoch || a->options.from))
            argp_error(state, "%s is one rank, alone: no --rank, --session, --from-epoch, --image",
                       a->bundle);
        if (!a->bundle && (a->unpack || a->options.any_cpu))
            argp_error(state, "--unpack and --any-cpu are for files of dbg3 pack");
        if (a->words == 1)
            argp_error(state, "under what? \"under gdb\"");
        if ((a->options.check || a->options.wait) && (a->options.listen || a->words))
            argp_error(state, "--%s runs without GDB", a->options.check ? "check" : "wait");
        if (a->options.check && a->options.wait)
            argp_error(state, "--check runs the rank to its end; nothing is left to wait");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0}, {0}};
const struct argp isolate_argp = {options,
                                  parse,
                                  "{--rank R | FILE} [under gdb [GDB-OPTION...]]",
                                  "Run one recorded rank alone: no launcher, no MPI library, no "
                                  "peers; its calls are answered from "
                                  "the recording. FILE is one that dbg3 pack has made, on this "
                                  "machine or another.\v"
                                  "\"under gdb\" is the default. What follows it goes to GDB:\n"
                                  "  dbg3 isolate --rank 2 under gdb -batch -ex continue -ex bt\n"
                                  "then the exit code is GDB's. Its commands for moving by "
                                  "messages: dbg3 help gdb.",
                                  children,
                                  NULL,
                                  NULL};

/* The rank's image in the epoch of --from-epoch. A log is of what came after one epoch only. */
static int choose_image(struct isolate *a, struct session *s, const struct recorded *r,
                        struct err *err)
{
    if (a->from_epoch != r->from_epoch)
        return r->from_epoch
                   ? err_set(err, "the recording began at epoch %lu, not %lu",
                             (unsigned long)r->from_epoch, (unsigned long)a->from_epoch)
                   : err_set(err, "the recording began at the start of the program, at no epoch");
    a->options.from = a->image;
    return recorded_epoch_image(s, r, a->image, err);
}

/* Fills in what the session knows. */
static int prepare(struct isolate *a, struct session *s, struct err *err)
{
    struct recorded r;
    if (recorded_rank(s, a->rank, &r, err) < 0 || preflight_unchanged(s, err) < 0)
        return -1;
    a->options.session = session_dir(s);
    a->options.rank = r.rank;
    a->options.recorded_from = r.from_epoch;
    a->options.expect_signal = r.signal;
    /* One that failed before its first call has no fine checkpoint: it begins where all began. */
    if (!a->options.from && !a->options.at && !a->from_epoch && !r.has_fine)
        a->from_epoch = r.from_epoch;
    return a->from_epoch ? choose_image(a, s, &r, err) : 0;
}

/* Fills in what the manifest says. */
static int prepare_bundle(struct isolate *a, struct err *err)
{
    struct bundle_facts f;
    if (unpacked_open(a->bundle, a->unpack, a->dir, err) < 0 || bundle_open(a->dir, &f, err) < 0)
        return -1;
    int rc = bundle_check_machine(&f, GATE_VERSION, CALL_COUNT, a->options.any_cpu, err);
    a->rank = (long)f.rank;
    a->options.session = a->dir;
    a->options.bundle = true;
    a->options.rank = f.rank;
    a->options.recorded_from = f.recorded_from;
    a->options.expect_signal = f.signal;
    if (*f.image) {
        snprintf(a->image, sizeof a->image, "%.*s/%s", PATH_MAX / 2, a->dir, f.image);
        a->options.from = a->image;
        a->from_epoch = f.recorded_from;
    }
    bundle_facts_clear(&f);
    return rc;
}

static int report_check(const struct isolate *a, const struct isolate_result *r)
{
    if (a->common.json) {
        json_t *o = json_pack("{s:i, s:b, s:I, s:I, s:i, s:i, s:s}", "rank", (int)a->rank, "same",
                              r->reached_end, "epoch", (json_int_t)a->from_epoch, "checkpoint",
                              (json_int_t)r->checkpoint, "signal", r->signal, "status", r->status,
                              "text", r->text);
        json_dumpf(o, stdout, 0);
        putchar('\n');
        json_decref(o);
    } else {
        printf("%srank %ld from %s %lu: %s%s%s\n",
               style_on(stdout, r->reached_end ? STYLE_GOOD : STYLE_BAD), a->rank,
               a->from_epoch ? "epoch" : "checkpoint",
               (unsigned long)(a->from_epoch ? a->from_epoch : r->checkpoint),
               r->reached_end ? "the same as recorded; " : "",
               r->text, style_off(stdout));
    }
    return r->reached_end ? EXIT_DONE : EXIT_ERROR;
}

/* 0; 1: a signal has ended it while it waited for GDB; or -1. */
static int isolate(struct isolate *a, struct isolate_result *result, struct err *err)
{
    struct runtime_files files;
    struct session *s = NULL;
    int rc = runtime_files_find(&files, false, err);
    a->options.runtime = files.dir;
    a->options.json = a->common.json;
    if (rc == 0 && a->bundle)
        rc = prepare_bundle(a, err);
    else if (rc == 0)
        rc = (s = session_open(a->common.session, err)) ? prepare(a, s, err) : -1;
    if (rc == 0)
        rc = a->options.listen ? isolated_serve(&a->options, err)
             : a->options.wait ? isolated_wait(&a->options, err)
                               : isolate_run(&a->options, result, err);
    session_close(s);
    return rc;
}

int cmd_isolate(int argc, char **argv)
{
    struct err err = {0};
    struct isolate a = {.rank = -1};
    struct isolate_result result;
    cmd_parse(&isolate_argp, argc, argv, ARGP_IN_ORDER, &a);
    int rc = isolate(&a, &result, &err);
    if (rc)
        return rc < 0 ? cmd_fail(EXIT_ERROR, &err) : EXIT_INTERRUPTED;
    return a.options.check ? report_check(&a, &result) : EXIT_DONE;
}
