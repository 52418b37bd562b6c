/*
 * status.c - dbg3 status: what the job does, from its counters files, or how it ended
 */
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "runtime/base/human.h"
#include "runtime/cmd/cmd.h"
#include "runtime/cmd/report.h"
#include "runtime/coord/coord.h"
#include "runtime/coord/counters_view.h"

#define TABLE_RANKS 24 /* more are summarised */
#define PEERS_SHOWN 16

struct status {
    struct common common;
    long rank; /* -1: all */
    struct session *session;
    struct session_phase phase; /* the newest */
    bool running;
    const struct counters_file **file; /* by rank; NULL where there is none */
    unsigned size;
};

static const struct argp_option options[] = {
    {"rank", 'r', "R", 0, "details of one rank, with its peers", 1}, {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct status *st = state->input;
    switch (key) {
    case 'r':
        st->rank = (long)cmd_number(state, "rank", arg);
        return 0;
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &st->common;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected word: %s", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0}, {0}};
const struct argp status_argp = {options,
                                 parse,
                                 NULL,
                                 "Show what each rank of the running job does, or how the last "
                                 "phase ended.\vReads shared memory "
                                 "and the catalog; the ranks do not notice.",
                                 children,
                                 NULL,
                                 NULL};

/* ---- facts ------------------------------------------------------------------------------- */

static int read_phase(struct status *st, struct err *err)
{
    struct session_phase *phases;
    unsigned n;
    if (session_phases(st->session, &phases, &n, err) < 0)
        return -1;
    if (n)
        st->phase = phases[n - 1];
    free(phases);
    st->running = n && st->phase.outcome == SESSION_RUNNING && session_running(st->session);
    return n ? 0 : err_set(err, "%s has run nothing yet", session_dir(st->session));
}

static int read_counters(struct status *st, struct err *err)
{
    st->size = session_phase_size(st->session, st->phase.id);
    st->file = calloc(st->size + 1, sizeof(const struct counters_file *));
    if (!st->file)
        return err_sys(err, "counters");
    for (unsigned r = 0; r < st->size; r++)
        st->file[r] = counters_map(session_dir(st->session), r, NULL);
    if (st->rank >= 0 && (st->rank >= (long)st->size || !st->file[st->rank]))
        return st->size ? err_set(err, "no counters of rank %ld; ranks are 0 to %u", st->rank,
                                  st->size - 1)
                        : err_set(err, "no rank has come under control yet");
    return 0;
}

/* "MPI_Recv for 3", "computing"; of a job that has ended "was computing". Where that does not fit
 * into `cap`, "was" goes first, then the end of the name. */
static const char *activity(const struct status *st, const struct counters_file *c, char *buf,
                            size_t cap)
{
    char peer[24] = "";
    const char *call = counters_call(c);
    uint64_t state = counters_get(&c->state), wanted = counters_get(&c->peer_wanted);
    bool over = !st->running && state != COUNTERS_FINALIZED && state != COUNTERS_DEAD;
    bool inside = state == COUNTERS_IN_CALL || state == COUNTERS_WAITING ||
                  state == COUNTERS_COLLECTIVE;
    const char *name = inside && *call ? call : counters_state_name(state);
    const char *was = over ? "was " : "";
    if (state == COUNTERS_WAITING && wanted)
        snprintf(peer, sizeof peer, " for %u", (unsigned)(wanted - 1));
    if (strlen(was) + strlen(name) + strlen(peer) >= cap)
        was = "";
    snprintf(buf, cap, "%s%.*s%s", was, (int)(cap - 1 - strlen(was) - strlen(peer)), name, peer);
    return buf;
}

/* ---- for people -------------------------------------------------------------------------- */

static void print_head(struct status *st)
{
    char age[32];
    printf("%ssession%s  %s\n", style_on(stdout, STYLE_BOLD), style_off(stdout),
           session_dir(st->session));
    if (*session_job(st->session)->program)
        printf("%sprogram%s  %s\n", style_on(stdout, STYLE_BOLD), style_off(stdout),
               session_job(st->session)->program);
    if (!st->running)
        return;
    human_seconds((double)time(NULL) - st->phase.started, age, sizeof age);
    printf("%sphase%s    %s, running for %s (dbg3 pid %d)\n", style_on(stdout, STYLE_BOLD),
           style_off(stdout), session_phase_name(st->phase.kind), age, st->phase.pid);
    char *answer = coord_ask(session_dir(st->session), "status", NULL);
    json_t *json = answer ? json_loads(answer, 0, NULL) : NULL;
    if (!json)
        printf("%sepochs%s   dbg3 (pid %d) does not answer; is it stopped?\n",
               style_on(stdout, STYLE_BOLD), style_off(stdout), st->phase.pid);
    else
        printf("%sepochs%s   %d complete, %d given up in this phase; %s\n",
               style_on(stdout, STYLE_BOLD), style_off(stdout),
               (int)json_integer_value(json_object_get(json, "epochs")),
               (int)json_integer_value(json_object_get(json, "cancelled")),
               json_string_value(json_object_get(json, "epoch")));
    json_decref(json);
    free(answer);
}

static void print_row(const struct status *st, unsigned r)
{
    char what[22], sent[16], received[16]; /* 80 columns in all */
    const struct counters_file *c = st->file[r];
    if (!c) {
        printf("%5u  -\n", r);
        return;
    }
    printf("%5u %9" PRIu64 " %8" PRIu64 " %7s %8" PRIu64 " %7s %7" PRIu64 "  %s\n", r,
           counters_get(&c->messages), counters_get(&c->sent_msgs),
           human_bytes(counters_get(&c->sent_bytes), sent, sizeof sent),
           counters_get(&c->recv_msgs),
           human_bytes(counters_get(&c->recv_bytes), received, sizeof received),
           counters_get(&c->collectives), activity(st, c, what, sizeof what));
}

#define TABLE_HEAD " rank  messages     sent   bytes received   bytes   colls  state\n"

static void print_table(const struct status *st)
{
    printf(TABLE_HEAD);
    for (unsigned r = 0; r < st->size; r++)
        print_row(st, r);
}

/* Many ranks: how many are in each state, and the slowest and fastest of them. */
static void print_summary(const struct status *st)
{
    unsigned *ranks = calloc(st->size + 1, sizeof *ranks), slowest = 0, fastest = 0, n = 0;
    uint64_t sum = 0;
    char text[60];
    for (unsigned state = 0; ranks && state < COUNTERS_NSTATES; state++) {
        unsigned count = 0;
        for (unsigned r = 0; r < st->size; r++)
            if (st->file[r] && counters_get(&st->file[r]->state) == state)
                ranks[count++] = r;
        if (count)
            printf("%6u %-11s %s\n", count, counters_state_name(state),
                   human_ranks(ranks, count, text, sizeof text));
    }
    free(ranks);
    for (unsigned r = 0; r < st->size; r++) {
        if (!st->file[r])
            continue;
        uint64_t m = counters_get(&st->file[r]->messages);
        if (n == 0 || m < counters_get(&st->file[slowest]->messages))
            slowest = r;
        if (n == 0 || m > counters_get(&st->file[fastest]->messages))
            fastest = r;
        sum += m;
        n++;
    }
    if (n == 0)
        return;
    printf("%6u ranks, %" PRIu64 " messages; fewest, most:\n" TABLE_HEAD, n, sum);
    print_row(st, slowest);
    print_row(st, fastest);
}

static void print_peers(const struct status *st)
{
    char what[80], sent[16], received[16];
    const struct counters_file *c = st->file[st->rank];
    unsigned shown = 0;
    printf("rank %ld, pid %" PRIu64 ": %s\n", st->rank, counters_get(&c->pid),
           activity(st, c, what, sizeof what));
    printf(TABLE_HEAD);
    print_row(st, (unsigned)st->rank);
    printf("\n peer       sent   bytes   received   bytes\n");
    for (uint64_t p = 0; p < counters_get(&c->size); p++) {
        const struct counters_peer *peer = &c->peer[p];
        if (!counters_get(&peer->sent_msgs) && !counters_get(&peer->recv_msgs))
            continue;
        if (shown++ == PEERS_SHOWN) {
            printf("  ... more; see: dbg3 status --rank %ld --json\n", st->rank);
            break;
        }
        printf("%5" PRIu64 " %10" PRIu64 " %7s %10" PRIu64 " %7s\n", p,
               counters_get(&peer->sent_msgs),
               human_bytes(counters_get(&peer->sent_bytes), sent, sizeof sent),
               counters_get(&peer->recv_msgs),
               human_bytes(counters_get(&peer->recv_bytes), received, sizeof received));
    }
}

static int print_text(struct status *st, struct err *err)
{
    print_head(st);
    if (st->rank >= 0) {
        print_peers(st);
        return 0;
    }
    if (st->running && st->size > TABLE_RANKS)
        print_summary(st);
    else if (st->size && st->size <= TABLE_RANKS)
        print_table(st);
    return st->running ? 0 : report_print(st->session, &st->phase, stdout, err);
}

/* ---- for programs ------------------------------------------------------------------------ */

static json_int_t number(const uint64_t *field)
{
    return (json_int_t)counters_get(field);
}

static json_t *rank_json(const struct status *st, unsigned r, bool peers)
{
    const struct counters_file *c = st->file[r];
    json_t *o = json_pack(
        "{s:i, s:I, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "rank", (int)r,
        "pid", number(&c->pid), "state", counters_state_name(counters_get(&c->state)), "call",
        counters_call(c), "call_pc",
        number(&c->call_pc), "messages", number(&c->messages), "sent_msgs", number(&c->sent_msgs),
        "sent_bytes", number(&c->sent_bytes), "recv_msgs", number(&c->recv_msgs), "recv_bytes",
        number(&c->recv_bytes), "collectives", number(&c->collectives), "epoch", number(&c->epoch),
        "fine", number(&c->fine), "event", number(&c->event));
    if (!peers)
        return o;
    json_t *list = json_array();
    for (uint64_t p = 0; p < counters_get(&c->size); p++)
        json_array_append_new(
            list, json_pack("{s:i, s:I, s:I, s:I, s:I}", "rank", (int)p, "sent_msgs",
                            number(&c->peer[p].sent_msgs), "sent_bytes",
                            number(&c->peer[p].sent_bytes), "recv_msgs",
                            number(&c->peer[p].recv_msgs), "recv_bytes",
                            number(&c->peer[p].recv_bytes)));
    json_object_set_new(o, "peers", list);
    return o;
}

static int print_json(struct status *st, struct err *err)
{
    json_t *o = report_json(st->session, &st->phase, err);
    if (!o)
        return -1;
    json_t *ranks = json_array();
    for (unsigned r = 0; r < st->size; r++)
        if (st->file[r] && (st->rank < 0 || st->rank == (long)r))
            json_array_append_new(ranks, rank_json(st, r, st->rank >= 0));
    json_object_set_new(o, "running", json_boolean(st->running));
    json_object_set_new(o, "counters", ranks);
    json_dumpf(o, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(o);
    return 0;
}

int cmd_status(int argc, char **argv)
{
    struct err err = {0};
    struct status st = {.rank = -1};
    cmd_parse(&status_argp, argc, argv, 0, &st);
    st.session = session_open(st.common.session, &err);
    int rc = st.session && read_phase(&st, &err) == 0 && read_counters(&st, &err) == 0
                 ? (st.common.json ? print_json(&st, &err) : print_text(&st, &err))
                 : -1;
    for (unsigned r = 0; st.file && r < st.size; r++)
        counters_unmap(st.file[r]);
    free(st.file);
    session_close(st.session);
    return rc < 0 ? cmd_fail(EXIT_ERROR, &err) : EXIT_DONE;
}
