/*
 * list.c - dbg3 list: phases, epochs, fine checkpoints; dbg3 checkpoint: one more epoch
 */
#include <limits.h>
#include <glob.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "msgcounter/log/log_read.h"
#include "msgcounter/log/order_file.h"
#include "runtime/base/human.h"
#include "runtime/cmd/cmd.h"
#include "runtime/coord/coord.h"
#include "runtime/image/image.h"

static error_t parse(int key, char *arg, struct argp_state *state)
{
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = state->input;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected word: %s", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0}, {0}};
const struct argp list_argp = {
    NULL, parse, NULL,
    "List the phases of a session, its complete epochs, and the fine checkpoints of its recording.",
    children, NULL, NULL};
const struct argp checkpoint_argp = {
    NULL, parse, NULL,
    "Ask the running job for an epoch now, from another terminal. Returns when it is complete.",
    children, NULL, NULL};

/* ---- list -------------------------------------------------------------------------------- */

struct lists {
    struct session_phase *phase;
    struct session_epoch *epoch;
    struct session_fine *fine;
    unsigned nphase, nepoch, nfine, nrank;
};

static const char *clock_text(double when, char *buf, size_t cap)
{
    time_t t = (time_t)when;
    struct tm tm;
    localtime_r(&t, &tm);
    strftime(buf, cap, "%Y-%m-%d %H:%M:%S", &tm);
    return buf;
}

/* Does the rank say what it cost? It may have ended before it could. */
static bool is_told(const struct proto_fine *f)
{
    return f->bytes != 0;
}

static void print_fine(const struct lists *l)
{
    char bytes[16], us[32];
    printf("\n rank  fine checkpoints     newest   at event   bytes   pause\n");
    for (unsigned i = 0; i < l->nfine;) {
        unsigned first = i;
        while (i < l->nfine && l->fine[i].rank == l->fine[first].rank)
            i++;
        const struct proto_fine *newest = &l->fine[i - 1].fine;
        bool told = is_told(newest);
        printf("%5u %17u %10" PRIu64 " %10" PRIu64 " %7s %7s\n", l->fine[first].rank, i - first,
               newest->number, newest->event,
               told ? human_bytes(newest->bytes, bytes, sizeof bytes) : "-",
               told ? human_seconds((double)newest->us * 1e-6, us, sizeof us) : "-");
    }
}

/* The payload log of a rank, if there is one. */
static bool log_of(const struct session *s, unsigned rank, struct log_size *size)
{
    char dir[PATH_MAX];
    session_logs(s, dir, sizeof dir);
    return log_size_of(dir, rank, size, NULL) == 0;
}

static void print_logs(const struct session *s, unsigned nrank)
{
    char bytes[16];
    struct log_size size;
    const char *title = "\n rank   recorded events   payload log   bytes an event\n";
    for (unsigned rank = 0; rank < nrank; rank++) {
        if (!log_of(s, rank, &size))
            continue;
        printf("%s%5u %17" PRIu64 " %13s %16.0f\n", title, rank, size.events,
               human_bytes(size.bytes, bytes, sizeof bytes),
               size.events ? (double)size.bytes / (double)size.events : 0);
        title = "";
    }
}

static json_t *logs_json(const struct session *s, unsigned nrank)
{
    json_t *logs = json_array();
    struct log_size size;
    for (unsigned rank = 0; rank < nrank; rank++)
        if (log_of(s, rank, &size))
            json_array_append_new(
                logs, json_pack("{s:i, s:I, s:I, s:I}", "rank", (int)rank, "first_event",
                                (json_int_t)size.first_event, "events", (json_int_t)size.events,
                                "bytes", (json_int_t)size.bytes));
    return logs;
}

static void print_text(const struct session *s, const struct lists *l)
{
    char when[32], took[32], bytes[16], pause[32], order[16];
    printf("session %s\n\nphase  kind     started              took         outcome\n",
           session_dir(s));
    for (unsigned i = 0; i < l->nphase; i++) {
        const struct session_phase *p = &l->phase[i];
        bool now = p->outcome == SESSION_RUNNING && session_running(s);
        double took_s = p->ended ? p->ended - p->started : 0;
        printf("%5" PRIu64 "  %-8s %s  %-11s  %s", p->id, session_phase_name(p->kind),
               clock_text(p->started, when, sizeof when),
               p->ended ? human_seconds(took_s, took, sizeof took) : "-",
               p->outcome == SESSION_RUNNING && !now ? "killed"
                                                     : session_outcome_name(p->outcome));
        if (p->from_epoch)
            printf(", from epoch %" PRIu64, p->from_epoch);
        putchar('\n');
    }
    if (l->nepoch)
        printf("\nepoch  phase  complete             images   bytes    pause   order\n");
    for (unsigned i = 0; i < l->nepoch; i++) {
        const struct session_epoch *e = &l->epoch[i];
        printf("%5" PRIu64 "  %5" PRIu64 "  %s  %6u %7s %8s %7s\n", e->number, e->phase,
               clock_text(e->committed, when, sizeof when), e->nimages,
               human_bytes(e->bytes, bytes, sizeof bytes),
               human_seconds((double)e->us_pause_max * 1e-6, pause, sizeof pause),
               human_bytes(order_size_of(session_dir(s), e->number).bytes, order, sizeof order));
    }
    print_logs(s, l->nrank);
    if (l->nfine)
        print_fine(l);
}

static void print_json(const struct session *s, const struct lists *l)
{
    json_t *phases = json_array(), *epochs = json_array(), *fine = json_array();
    for (unsigned i = 0; i < l->nphase; i++) {
        const struct session_phase *p = &l->phase[i];
        json_array_append_new(
            phases, json_pack("{s:I, s:s, s:s, s:f, s:f, s:I}", "id", (json_int_t)p->id, "kind",
                              session_phase_name(p->kind), "outcome",
                              session_outcome_name(p->outcome), "started", p->started, "ended",
                              p->ended, "from_epoch", (json_int_t)p->from_epoch));
    }
    for (unsigned i = 0; i < l->nepoch; i++) {
        const struct session_epoch *e = &l->epoch[i];
        struct order_size order = order_size_of(session_dir(s), e->number);
        json_array_append_new(
            epochs, json_pack("{s:I, s:I, s:f, s:i, s:I, s:I, s:I, s:I, s:I}", "number",
                              (json_int_t)e->number, "phase", (json_int_t)e->phase, "committed",
                              e->committed, "images", (int)e->nimages, "bytes",
                              (json_int_t)e->bytes, "us_pause", (json_int_t)e->us_pause_max,
                              "us_total", (json_int_t)e->us_total, "order_bytes",
                              (json_int_t)order.bytes, "order_outcomes",
                              (json_int_t)order.outcomes));
    }
    for (unsigned i = 0; i < l->nfine; i++) {
        const struct proto_fine *f = &l->fine[i].fine;
        json_array_append_new(
            fine, json_pack("{s:i, s:I, s:I, s:o, s:o}", "rank", (int)l->fine[i].rank, "number",
                            (json_int_t)f->number, "event", (json_int_t)f->event, "bytes",
                            is_told(f) ? json_integer((json_int_t)f->bytes) : json_null(), "us",
                            is_told(f) ? json_integer((json_int_t)f->us) : json_null()));
    }
    struct order_size start = order_size_of(session_dir(s), 0);
    json_t *o = json_pack("{s:s, s:o, s:I, s:I, s:o, s:o, s:o}", "session", session_dir(s),
                          "phases", phases, "order_bytes_start", (json_int_t)start.bytes,
                          "order_outcomes_start", (json_int_t)start.outcomes, "epochs", epochs,
                          "logs", logs_json(s, l->nrank), "fine", fine);
    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
}

static const struct proto_fine *in_catalog(const struct lists *l, unsigned rank, uint64_t number)
{
    for (unsigned i = 0; i < l->nfine; i++)
        if (l->fine[i].rank == rank && l->fine[i].fine.number == number)
            return &l->fine[i].fine;
    return NULL;
}

static int by_rank_and_number(const void *a, const void *b)
{
    const struct session_fine *x = a, *y = b;
    if (x->rank != y->rank)
        return x->rank < y->rank ? -1 : 1;
    return (x->fine.number > y->fine.number) - (x->fine.number < y->fine.number);
}

/* One checkpoint of a rank, from the catalog or, if it was not told of, from its image. */
static void describe_fine(const struct lists *l, const char *folder, unsigned rank, uint64_t number,
                          struct session_fine *out)
{
    char path[PATH_MAX];
    const struct proto_fine *told = in_catalog(l, rank, number);
    *out = (struct session_fine){.rank = rank, .fine = {.number = number}};
    if (told)
        out->fine = *told;
    if (told || image_window_path(folder, number, path, sizeof path, NULL) < 0)
        return;
    struct image *image = image_open(path, NULL);
    if (image)
        out->fine.event = image_state(image)->meta.position.event;
    image_close(image);
}

/* Appends the checkpoints that a rank keeps. 0, or -1: no memory. */
static int add_fines(const struct lists *l, const char *folder, struct session_fine **list,
                     unsigned *n)
{
    struct image_window w;
    unsigned rank = (unsigned)strtoul(strrchr(folder, '-') + 1, NULL, 10);
    if (image_window_read(folder, &w, NULL) < 0)
        return 0;
    struct session_fine *more = reallocarray(*list, *n + w.newest - w.oldest + 1, sizeof *more);
    if (!more)
        return -1;
    *list = more;
    for (uint64_t number = w.oldest; number <= w.newest; number++)
        describe_fine(l, folder, rank, number, &more[(*n)++]);
    return 0;
}

/*
 * The catalog remembers every fine checkpoint that was told of, and none that a killed rank had no
 * time to tell of. Listed are those that are there.
 */
static int find_existing(const struct session *s, struct lists *l)
{
    char pattern[PATH_MAX];
    glob_t g;
    struct session_fine *found = calloc(1, sizeof *found);
    unsigned n = 0;
    int rc = found ? 0 : -1;
    snprintf(pattern, sizeof pattern, "%s/fine/rank-*", session_dir(s));
    if (glob(pattern, 0, NULL, &g) != 0)
        g.gl_pathc = 0;
    for (size_t i = 0; rc == 0 && i < g.gl_pathc; i++)
        rc = add_fines(l, g.gl_pathv[i], &found, &n);
    if (g.gl_pathc)
        globfree(&g);
    if (rc < 0) {
        free(found);
        return -1;
    }
    qsort(found, n, sizeof *found, by_rank_and_number);
    free(l->fine);
    l->fine = found;
    l->nfine = n;
    return 0;
}

int cmd_list(int argc, char **argv)
{
    struct err err = {0};
    struct common common = {0};
    struct lists l = {0};
    cmd_parse(&list_argp, argc, argv, 0, &common);
    struct session *s = session_open(common.session, &err);
    int rc = s && session_phases(s, &l.phase, &l.nphase, &err) == 0 &&
                     session_epochs(s, &l.epoch, &l.nepoch, &err) == 0 &&
                     session_fines(s, -1, &l.fine, &l.nfine, &err) == 0
                 ? 0
                 : -1;
    for (unsigned i = 0; rc == 0 && i < l.nphase; i++) {
        unsigned n = session_phase_size(s, l.phase[i].id);
        l.nrank = n > l.nrank ? n : l.nrank;
    }
    if (rc == 0)
        rc = find_existing(s, &l);
    if (rc == 0 && common.json)
        print_json(s, &l);
    else if (rc == 0)
        print_text(s, &l);
    free(l.phase);
    free(l.epoch);
    free(l.fine);
    session_close(s);
    return rc < 0 ? cmd_fail(EXIT_ERROR, &err) : EXIT_DONE;
}

/* ---- checkpoint -------------------------------------------------------------------------- */

static int print_checkpoint(const char *answer, bool json, struct err *err)
{
    char bytes[16], pause[32];
    json_t *o = json_loads(answer, 0, NULL);
    bool ok = json_is_true(json_object_get(o, "ok"));
    if (json)
        puts(answer);
    else if (ok)
        printf("epoch %d complete: %d images, %s, ranks paused for %s\n",
               (int)json_integer_value(json_object_get(o, "epoch")),
               (int)json_integer_value(json_object_get(o, "ranks")),
               human_bytes((uint64_t)json_integer_value(json_object_get(o, "bytes")), bytes,
                           sizeof bytes),
               human_seconds((double)json_integer_value(json_object_get(o, "us_pause")) * 1e-6,
                             pause, sizeof pause));
    if (!ok)
        err_set(err, "%s", json_string_value(json_object_get(o, "error")) ?: "no checkpoint");
    json_decref(o);
    return ok ? 0 : -1;
}

int cmd_checkpoint(int argc, char **argv)
{
    struct err err = {0};
    struct common common = {0};
    cmd_parse(&checkpoint_argp, argc, argv, 0, &common);
    struct session *s = session_open(common.session, &err);
    char *answer = s ? coord_ask(session_dir(s), "checkpoint", &err) : NULL;
    int rc = answer ? print_checkpoint(answer, common.json, &err) : -1;
    free(answer);
    session_close(s);
    return rc < 0 ? cmd_fail(EXIT_ERROR, &err) : EXIT_DONE;
}
