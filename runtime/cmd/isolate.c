/*
 * isolate.c - dbg3 isolate: one recorded rank alone
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "gdbbridge/isolated.h"
#include "replay/isolate.h"
#include "runtime/cmd/cmd.h"
#include "runtime/cmd/runtime_files.h"

struct isolate {
    struct common common;
    struct isolate_options options;
    long rank;
    unsigned words; /* of "under gdb" seen so far */
};

enum { KEY_CHECK = 0x100 };

static const struct argp_option options[] = {
    {"rank", 'r', "R", 0, "rank in MPI_COMM_WORLD (required)", 1},
    {"at", 'a', "N", 0, "begin at fine checkpoint N (default: the last; with --check: the first)",
     1},
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
                                  "then the exit code is GDB's.",
                                  children,
                                  NULL,
                                  NULL};

/* The signal by which the rank died in the recording, 0 if it did not. */
static int recorded_signal(struct session *s, unsigned rank)
{
    struct session_phase *phases;
    struct session_failure *failures;
    unsigned nphases, n;
    int signal = 0;
    uint64_t recording = 0;
    if (session_phases(s, &phases, &nphases, NULL) < 0)
        return 0;
    for (unsigned i = 0; i < nphases; i++)
        if (phases[i].kind == PROTO_PHASE_REFINE)
            recording = phases[i].id;
    free(phases);
    if (!recording || session_failures(s, recording, &failures, &n, NULL) < 0)
        return 0;
    for (unsigned i = 0; i < n; i++)
        if (failures[i].rank == rank && failures[i].kind == PROTO_FAILURE_SIGNAL)
            signal = (int)failures[i].code;
    free(failures);
    return signal;
}

static int report_check(const struct isolate *a, const struct isolate_result *r)
{
    if (a->common.json) {
        json_t *o = json_pack("{s:i, s:b, s:I, s:i, s:i, s:s}", "rank", (int)a->rank, "same",
                              r->reached_end, "checkpoint", (json_int_t)r->checkpoint, "signal",
                              r->signal, "status", r->status, "text", r->text);
        json_dumpf(o, stdout, 0);
        putchar('\n');
        json_decref(o);
    } else {
        printf("%srank %ld from checkpoint %lu: %s%s%s\n",
               style_on(stdout, r->reached_end ? STYLE_GOOD : STYLE_BAD), a->rank,
               (unsigned long)r->checkpoint, r->reached_end ? "the same as recorded; " : "",
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
    if (!s || runtime_files_find(&files, &err) < 0) {
        session_close(s);
        return cmd_fail(EXIT_ERROR, &err);
    }
    a.options.session = session_dir(s);
    a.options.runtime = files.dir;
    a.options.rank = (unsigned)a.rank;
    a.options.json = a.common.json;
    a.options.expect_signal = recorded_signal(s, a.options.rank);
    int rc = a.options.listen ? isolated_serve(&a.options, &err)
                              : isolate_run(&a.options, &result, &err);
    session_close(s);
    if (rc < 0)
        return cmd_fail(EXIT_ERROR, &err);
    return a.options.check ? report_check(&a, &result) : EXIT_DONE;
}
