/*
 * messages.c - dbg3 messages: the recording of a rank
 */
#include <limits.h>
#include <stdlib.h>

#include "call_id.h"
#include "msgcounter/log/log_dump.h"
#include "msgcounter/log/order_dump.h"
#include "msgcounter/log/order_file.h"
#include "msgcounter/log/system_table.h"
#include "runtime/cmd/cmd.h"
#include "runtime/cmd/recorded.h"

struct messages {
    struct common common;
    long rank;
    bool order;
    uint64_t epoch; /* with --order */
    uint64_t from, to;
};

static const struct argp_option options[] = {
    {"rank", 'r', "R", 0, "rank in MPI_COMM_WORLD (required)", 1},
    {"from", 'f', "N", 0, "begin at event N", 1},
    {"to", 't', "N", 0, "end before event N", 1},
    {"order", 'o', NULL, 0,
     "list what chance decided in batch instead (sources of wildcard receives, completed requests, "
     "answers of tests), from the start of the program or --epoch on; N counts outcomes then", 1},
    {"epoch", 'e', "N", 0, "with --order: begin at epoch N", 1},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct messages *m = state->input;
    switch (key) {
    case 'r':
        m->rank = (long)cmd_number(state, "rank", arg);
        return 0;
    case 'f':
        m->from = cmd_number(state, "from", arg);
        return 0;
    case 't':
        m->to = cmd_number(state, "to", arg);
        return 0;
    case 'o':
        m->order = true;
        return 0;
    case 'e':
        m->epoch = cmd_number(state, "epoch", arg);
        return 0;
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &m->common;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected word: %s", arg);
        return 0;
    case ARGP_KEY_END:
        if (m->rank < 0)
            argp_error(state, "which rank? --rank R");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0}, {0}};
const struct argp messages_argp = {options,
                                   parse,
                                   "--rank R",
                                   "List the recorded MPI calls of a rank with their "
                                   "outcomes.\vThe recording is made by dbg3 refine; "
                                   "after a crash it is readable up to its last whole record.",
                                   children,
                                   NULL,
                                   NULL};

static const char *name_of(void *arg, uint16_t call)
{
    return call & SYSTEM_CALL ? system_name(call & ~SYSTEM_CALL) : call_id_name(call);
}

static int print_recording(struct session *s, const struct messages *m, struct err *err)
{
    struct log_reader *reader = NULL;
    char dir[PATH_MAX];
    struct log_dump_opts opts = {
        .json = m->common.json, .from = m->from, .to = m->to, .name_of = name_of};
    session_logs(s, dir, sizeof dir);
    if (log_reader_open(&reader, dir, (uint32_t)m->rank, NULL, err) < 0) {
        struct recorded recorded;
        recorded_rank(s, m->rank, &recorded, err); /* may know better why */
        return -1;
    }
    int rc = log_dump(reader, stdout, &opts, err);
    log_reader_close(reader);
    return rc;
}

static int print_order(const struct session *s, const struct messages *m, struct err *err)
{
    struct order_chain chain;
    struct order_dump_opts opts = {.json = m->common.json, .from = m->from, .to = m->to};
    if (order_chain_open(&chain, session_dir(s), m->epoch, (uint32_t)m->rank, err) < 0)
        return -1;
    int rc = chain.n ? order_dump(chain.maps, chain.n, stdout, &opts, err)
                     : err_set(err, "no order log of rank %ld begins there; see: dbg3 list",
                               m->rank);
    order_chain_close(&chain);
    return rc;
}

int cmd_messages(int argc, char **argv)
{
    struct err err = {0};
    struct messages m = {.rank = -1};
    cmd_parse(&messages_argp, argc, argv, 0, &m);
    struct session *s = session_open(m.common.session, &err);
    int rc = !s ? -1 : m.order ? print_order(s, &m, &err) : print_recording(s, &m, &err);
    session_close(s);
    return rc < 0 ? cmd_fail(EXIT_ERROR, &err) : EXIT_DONE;
}
