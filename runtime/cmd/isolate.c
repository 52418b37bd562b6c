/*
 * isolate.c - dbg3 isolate: one recorded rank alone
 */
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "gdbbridge/isolated.h"
#include "replay/isolate.h"
#include "runtime/cmd/cmd.h"
#include "runtime/cmd/preflight.h"
#include "runtime/cmd/runtime_files.h"

struct isolate {
    struct common common;
    struct isolate_options options;
    long rank;
    uint64_t from_epoch; /* 0: not given */
    char image[PATH_MAX + 32];
    unsigned words; /* of "under gdb" seen so far */
};

enum { KEY_CHECK = 0x100, KEY_FROM_EPOCH, KEY_IMAGE };

static const struct argp_option options[] = {
    {"rank", 'r', "R", 0, "rank in MPI_COMM_WORLD (required)", 1},
    {"at", 'a', "N", 0, "begin at fine checkpoint N (default: the last; with --check: the first)",
     1},
    {"from-epoch", KEY_FROM_EPOCH, "N", 0,
     "begin at epoch N, the one that the recording began at", 1},
    {"image", KEY_IMAGE, "FILE", 0, "begin at this image of the rank", 1},
    {"check", KEY_CHECK, NULL, 0,
     "no GDB: replay to the end of the recording, compare every send, and say so", 1},
    {"listen", 'l', "ADDR", 0,
     "serve a GDB elsewhere: [HOST:]PORT or a path; - is standard input and output", 1},
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
        } else {
            argp_error(state, "unexpected word: %s (GDB's own options follow \"under gdb\")", arg);
        }
        return 0;
    case ARGP_KEY_END:
        if (a->rank < 0)
            argp_error(state, "which rank? --rank R");
        if (a->words == 1)
            argp_error(state, "under what? \"under gdb\"");
        if (a->options.check && (a->options.listen || a->words))
            argp_error(state, "--check runs without GDB");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0}, {0}};
const struct argp isolate_argp = {options,
                                  parse,
                                  "--rank R [under gdb [GDB-OPTION...]]",
                                  "Run one recorded rank alone: no launcher, no MPI library, no "
                                  "peers; its calls are answered from "
                                  "the recording.\v"
                                  "\"under gdb\" is the default. What follows it goes to GDB:\n"
                                  "  dbg3 isolate --rank 2 under gdb -batch -ex continue -ex bt\n"
                                  "then the exit code is GDB's. Its commands for moving by "
                                  "messages: dbg3 help gdb.",
                                  children,
                                  NULL,
                                  NULL};

/* The signal by which the rank died in the recording, 0 if it did not. */
static int recorded_signal(struct session *s, uint64_t recording, unsigned rank)
{
    struct session_failure *failures;
    unsigned n;
    int signal = 0;
    if (session_failures(s, recording, &failures, &n, NULL) < 0)
        return 0;
    for (unsigned i = 0; i < n; i++)
        if (failures[i].rank == rank && failures[i].kind == PROTO_FAILURE_SIGNAL)
            signal = (int)failures[i].code;
    free(failures);
    return signal;
}

/* The rank's image in the epoch of --from-epoch. A log is of what came after one epoch only. */
static int choose_image(struct isolate *a, struct session *s, const struct session_phase *recording,
                        struct err *err)
{
    struct session_image *image;
    char folder[PATH_MAX];
    unsigned n;
    if (a->from_epoch != recording->from_epoch)
        return recording->from_epoch
                   ? err_set(err, "the recording began at epoch %lu, not %lu",
                             (unsigned long)recording->from_epoch, (unsigned long)a->from_epoch)
                   : err_set(err, "the recording began at the start of the program, at no epoch");
    if (session_images(s, a->from_epoch, &image, &n, err) < 0)
        return -1;
    session_epoch_folder(s, a->from_epoch, folder, sizeof folder);
    for (unsigned i = 0; i < n; i++)
        if (image[i].rank == a->options.rank)
            snprintf(a->image, sizeof a->image, "%.*s/%s", PATH_MAX - 64, folder, image[i].file);
    free(image);
    a->options.from = a->image;
    return *a->image ? 0
                     : err_set(err, "epoch %lu has no image of rank %u",
                               (unsigned long)a->from_epoch, a->options.rank);
}

/* Fills in what the session knows. */
static int prepare(struct isolate *a, struct session *s, const char *runtime, struct err *err)
{
    struct session_phase recording = {0};
    if (session_recording(s, &recording, err) < 0 || preflight_unchanged(s, err) < 0)
        return -1;
    unsigned size = session_job(s)->size;
    if (a->rank >= (long)size)
        return err_set(err, "there is no rank %ld; the job's are 0 to %u", a->rank, size - 1);
    a->options.session = session_dir(s);
    a->options.runtime = runtime;
    a->options.rank = (unsigned)a->rank;
    a->options.json = a->common.json;
    a->options.recorded_from = recording.from_epoch;
    a->options.expect_signal = recorded_signal(s, recording.id, a->options.rank);
    /* One that failed before its first call has no fine checkpoint: it begins where all began. */
    if (!a->options.from && !a->options.at && !a->from_epoch && recording.from_epoch &&
        isolate_image(&a->options, a->image, sizeof a->image, NULL) < 0)
        a->from_epoch = recording.from_epoch;
    return a->from_epoch ? choose_image(a, s, &recording, err) : 0;
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

int cmd_isolate(int argc, char **argv)
{
    struct err err = {0};
    struct isolate a = {.rank = -1};
    struct isolate_result result;
    struct runtime_files files;
    cmd_parse(&isolate_argp, argc, argv, ARGP_IN_ORDER, &a);
    struct session *s = session_open(a.common.session, &err);
    int rc = -1;
    if (s && runtime_files_find(&files, &err) == 0 && prepare(&a, s, files.dir, &err) == 0)
        rc = a.options.listen ? isolated_serve(&a.options, &err)
                              : isolate_run(&a.options, &result, &err);
    session_close(s);
    if (rc < 0)
        return cmd_fail(EXIT_ERROR, &err);
    return a.options.check ? report_check(&a, &result) : EXIT_DONE;
}
