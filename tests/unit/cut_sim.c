/*
 * cut_sim.c - simulated ranks that run random MPI programs and take part in cuts
 */
#include "tests/unit/cut_sim.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/coord/cut_rank.h"

#define RANKS_MAX 64
#define COMMS_MAX 24

enum op_kind {
    OP_COMPUTE,
    OP_BARRIER,  /* nobody leaves before all have entered */
    OP_BCAST,    /* the root leaves at once */
    OP_REDUCE,   /* all but the root leave at once */
    OP_ISTART,   /* non-blocking barrier: started ... */
    OP_IWAIT,    /* ... and waited for */
    OP_SEND,     /* eager */
    OP_SSEND,    /* rendezvous: done when the receiver has it */
    OP_RECV,
    OP_SPLIT,    /* barrier on comm, then `made` exists */
    OP_FREE,     /* collective, but nobody waits */
    OP_FINALIZE, /* barrier on the world */
};

struct op {
    enum op_kind kind;
    unsigned comm; /* index; for OP_SPLIT of the parent */
    unsigned made;
    unsigned from, to; /* point-to-point; from is the root */
    uint64_t nth;      /* OP_IWAIT: which collective of comm */
    unsigned steps;    /* OP_COMPUTE */
};

/* What the ranks count of the communicators that have the same members. */
struct group {
    const struct comm *first; /* one of them */
    struct word {
        uint64_t gid, count[RANKS_MAX];
    } made, freed;
};

struct comm {
    uint64_t gid;
    bool member[RANKS_MAX];
    unsigned n;
    uint64_t planned;            /* collectives put into the program so far */
    struct group *group;
    bool exists[RANKS_MAX];      /* for this rank, now */
    uint64_t entered[RANKS_MAX]; /* E, kept apart from cut_rank's */
};

struct rank {
    struct cut_rank cut;
    unsigned pc, done_steps;
    enum { AT_START, AT_HOLD, AT_INSIDE } at;
    bool parked, draining, finalized;
    uint64_t sent[RANKS_MAX], received[RANKS_MAX]; /* by peer; received: off the network */
    uint64_t queued[RANKS_MAX];                    /* drained, not yet asked for */
    uint64_t expected[RANKS_MAX];
    uint64_t progress;
    enum proto_state told; /* last STATE */
};

struct sim {
    struct sim_options options;
    sim_send_fn *send;
    void *arg;
    struct op *op;
    unsigned nops;
    struct comm comm[COMMS_MAX];
    unsigned ncomm;
    struct group group[COMMS_MAX];
    unsigned ngroups;
    struct rank rank[RANKS_MAX];
    bool stay;
    char violation[256];
};

uint64_t sim_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void violated(struct sim *sim, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void violated(struct sim *sim, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    if (!sim->violation[0])
        vsnprintf(sim->violation, sizeof sim->violation, fmt, ap);
    va_end(ap);
}

/* ---- programs ---------------------------------------------------------------------------- */

static unsigned below(uint64_t *seed, unsigned n)
{
    return (unsigned)(sim_random(seed) % n);
}

static struct group *group_of(struct sim *sim, const struct comm *c)
{
    unsigned i = 0;
    while (i < sim->ngroups && memcmp(sim->group[i].first->member, c->member, sizeof c->member))
        i++;
    if (i == sim->ngroups)
        sim->group[sim->ngroups++] = (struct group){
            .first = c, .made.gid = 0x2000 + 2 * i, .freed.gid = 0x2001 + 2 * i};
    return &sim->group[i];
}

/* A random subset of `of` (a communicator's index) with two members or more. */
static unsigned comm_make(struct sim *sim, unsigned of, uint64_t *seed)
{
    struct comm *c = &sim->comm[sim->ncomm];
    const struct comm *parent = &sim->comm[of];
    *c = (struct comm){.gid = 0x1000 + sim->ncomm};
    if (sim->ncomm > 1 && below(seed, 3) == 0) {
        const struct comm *same = &sim->comm[sim->ncomm - 1];
        memcpy(c->member, same->member, sizeof c->member);
        c->n = same->n;
    }
    while (c->n < 2)
        for (unsigned r = 0; r < sim->options.nranks; r++)
            if (parent->member[r] && !c->member[r] && below(seed, 2)) {
                c->member[r] = true;
                c->n++;
            }
    c->group = group_of(sim, c);
    return sim->ncomm++;
}

static unsigned member_random(const struct sim *sim, const struct comm *c, uint64_t *seed)
{
    unsigned r;
    do
        r = below(seed, sim->options.nranks);
    while (!c->member[r]);
    return r;
}

static void op_add(struct sim *sim, struct op op)
{
    sim->op[sim->nops++] = op;
}

static void collective_add(struct sim *sim, const bool *freed, uint64_t *seed)
{
    static const enum op_kind kinds[] = {OP_BARRIER, OP_BARRIER, OP_BCAST, OP_REDUCE, OP_ISTART};
    unsigned c;
    do
        c = below(seed, sim->ncomm);
    while (freed[c]);
    struct op op = {.kind = kinds[below(seed, 5)], .comm = c,
                    .from = member_random(sim, &sim->comm[c], seed)};
    op.nth = ++sim->comm[c].planned;
    op_add(sim, op);
}

/* Random operations, each non-blocking start waited for some operations later. */
static void program_make(struct sim *sim, uint64_t *seed)
{
    bool freed[COMMS_MAX] = {false};
    struct op open[4];
    unsigned nopen = 0;
    for (unsigned i = 0; i < sim->options.nops; i++) {
        unsigned dice = below(seed, 100), n = sim->options.nranks;
        if (dice < sim->options.percent_p2p) {
            unsigned from = below(seed, n), to = (from + 1 + below(seed, n - 1)) % n;
            op_add(sim, (struct op){.kind = below(seed, 3) ? OP_SEND : OP_SSEND, .from = from,
                                    .to = to});
            op_add(sim, (struct op){.kind = OP_RECV, .from = from, .to = to});
        } else if (dice > 96 && sim->ncomm < COMMS_MAX) {
            sim->comm[0].planned++;
            unsigned made = comm_make(sim, 0, seed);
            op_add(sim, (struct op){.kind = OP_SPLIT, .comm = 0, .made = made});
        } else if (dice > 94 && sim->ncomm > 1) {
            unsigned c = 1 + below(seed, sim->ncomm - 1);
            if (!freed[c] && nopen == 0) {
                sim->comm[c].planned++;
                op_add(sim, (struct op){.kind = OP_FREE, .comm = c});
                freed[c] = true;
            }
        } else if (dice > 80) {
            op_add(sim, (struct op){.kind = OP_COMPUTE, .steps = below(seed, 6)});
        } else {
            collective_add(sim, freed, seed);
            if (sim->op[sim->nops - 1].kind == OP_ISTART)
                open[nopen++] = sim->op[sim->nops - 1];
        }
        while (nopen == 4 || (nopen && (below(seed, 3) == 0 || i + 1 == sim->options.nops))) {
            open[--nopen].kind = OP_IWAIT;
            op_add(sim, open[nopen]);
        }
    }
    op_add(sim, (struct op){.kind = OP_FINALIZE});
}

static bool takes_part(const struct sim *sim, const struct op *op, unsigned rank)
{
    switch (op->kind) {
    case OP_COMPUTE:
        return true;
    case OP_SEND:
    case OP_SSEND:
        return op->from == rank;
    case OP_RECV:
        return op->to == rank;
    default:
        return sim->comm[op->comm].member[rank];
    }
}

/* ---- running ----------------------------------------------------------------------------- */

static void tell(struct sim *sim, unsigned rank, struct proto_msg msg)
{
    msg.epoch = sim->rank[rank].cut.epoch;
    sim->send(sim->arg, rank, &msg);
}

static void report(struct sim *sim, unsigned rank, enum proto_type type, const struct comm *c,
                   uint64_t entered)
{
    if (cut_rank_reports(&sim->rank[rank].cut))
        tell(sim, rank, (struct proto_msg){.type = type, .u.coll = {c->gid, 0, entered}});
}

static void list(struct sim *sim, unsigned rank, uint64_t gid, uint64_t nmembers, uint64_t entered)
{
    struct cut_rank *cut = &sim->rank[rank].cut;
    if (cut_rank_comm_add(cut, gid, nmembers) < 0)
        abort();
    cut_rank_set(cut, gid, entered);
}

static void list_group(struct sim *sim, unsigned rank, const struct group *g)
{
    list(sim, rank, g->made.gid, g->first->n, g->made.count[rank]);
    list(sim, rank, g->freed.gid, g->first->n, g->freed.count[rank]);
}

/* As the agent does at each intent: what is freed is not listed any more. */
static void list_all(struct sim *sim, unsigned rank)
{
    struct cut_rank *cut = &sim->rank[rank].cut;
    cut_rank_clear(cut);
    for (unsigned i = 0; i < sim->ncomm; i++) {
        const struct comm *c = &sim->comm[i];
        if (!c->exists[rank])
            continue;
        list(sim, rank, c->gid, 0, c->entered[rank]);
        const struct rank *r = &sim->rank[rank];
        if (r->at == AT_INSIDE && sim->op[r->pc].kind != OP_SSEND &&
            sim->op[r->pc].kind != OP_SEND && sim->op[r->pc].comm == i)
            cut->comm[cut->ncomm - 1].inside = 1;
    }
    for (unsigned i = 0; i < sim->ngroups; i++)
        if (sim->group[i].made.count[rank])
            list_group(sim, rank, &sim->group[i]);
}

static void count(struct sim *sim, unsigned rank, const struct group *g, struct word *w, uint64_t n)
{
    w->count[rank] += n;
    cut_rank_set(&sim->rank[rank].cut, w->gid, w->count[rank]);
    if (cut_rank_reports(&sim->rank[rank].cut))
        tell(sim, rank, (struct proto_msg){.type = PROTO_COMM,
                                           .u.coll = {w->gid, g->first->n, w->count[rank]}});
}

static void comm_appears(struct sim *sim, unsigned rank, unsigned index)
{
    struct comm *c = &sim->comm[index];
    c->exists[rank] = true;
    list(sim, rank, c->gid, 0, 0);
    if (!index)
        return;
    report(sim, rank, PROTO_COMM, c, 0);
    if (!c->group->made.count[rank]) {
        list_group(sim, rank, c->group);
        count(sim, rank, c->group, &c->group->freed, 0);
    }
    count(sim, rank, c->group, &c->group->made, 1);
}

static void next(struct rank *r)
{
    r->pc++;
    r->at = AT_START;
    r->done_steps = 0;
    r->progress++;
}

/* Has every member entered the nth collective? */
static bool all_entered(const struct sim *sim, const struct comm *c, uint64_t nth)
{
    for (unsigned r = 0; r < sim->options.nranks; r++)
        if (c->member[r] && c->entered[r] < nth)
            return false;
    return true;
}

static bool may_leave(const struct sim *sim, const struct op *op, unsigned rank)
{
    const struct comm *c = &sim->comm[op->comm];
    uint64_t nth = c->entered[rank];
    switch (op->kind) {
    case OP_BCAST:
        return rank == op->from || c->entered[op->from] >= nth;
    case OP_REDUCE:
        return rank != op->from || all_entered(sim, c, nth);
    case OP_ISTART:
    case OP_FREE:
        return true;
    default:
        return all_entered(sim, c, nth);
    }
}

static bool collective_enter(struct sim *sim, unsigned rank, const struct op *op)
{
    struct rank *r = &sim->rank[rank];
    struct comm *c = &sim->comm[op->comm];
    if (!cut_rank_may_enter(&r->cut)) {
        if (r->at == AT_HOLD)
            return false;
        r->at = AT_HOLD;
        report(sim, rank, PROTO_HOLD, c, c->entered[rank]);
        return true;
    }
    uint64_t e = cut_rank_count(&r->cut, c->gid);
    if (e != ++c->entered[rank])
        violated(sim, "rank %u counts %" PRIu64 " collectives, entered %" PRIu64, rank, e,
                 c->entered[rank]);
    report(sim, rank, PROTO_ENTER, c, e);
    r->at = AT_INSIDE;
    return true;
}

static bool collective_leave(struct sim *sim, unsigned rank, const struct op *op)
{
    struct rank *r = &sim->rank[rank];
    struct comm *c = &sim->comm[op->comm];
    if (!may_leave(sim, op, rank))
        return false;
    if (op->kind == OP_SPLIT && sim->comm[op->made].member[rank])
        comm_appears(sim, rank, op->made);
    if (op->kind == OP_FREE) {
        c->exists[rank] = false;
        count(sim, rank, c->group, &c->group->freed, c->entered[rank]);
    }
    if (cut_rank_done(&r->cut, c->gid))
        report(sim, rank, PROTO_LEAVE, c, c->entered[rank]);
    next(r);
    if (op->kind == OP_FINALIZE) {
        r->finalized = true;
        sim->send(sim->arg, rank, &(struct proto_msg){.type = PROTO_FINALIZED});
    }
    return true;
}

/* Takes a message off the network. */
static bool arrive(struct sim *sim, unsigned rank, unsigned from)
{
    struct rank *r = &sim->rank[rank];
    if (r->received[from] == sim->rank[from].sent[rank])
        return false;
    r->received[from]++;
    return true;
}

static bool step_p2p(struct sim *sim, unsigned rank, const struct op *op)
{
    struct rank *r = &sim->rank[rank];
    if (op->kind == OP_RECV) {
        if (r->queued[op->from])
            r->queued[op->from]--;
        else if (!arrive(sim, rank, op->from))
            return false;
        next(r);
        return true;
    }
    if (r->at == AT_START) {
        r->sent[op->to]++;
        r->at = AT_INSIDE;
        return true;
    }
    if (op->kind == OP_SSEND && sim->rank[op->to].received[rank] < r->sent[op->to])
        return false;
    next(r);
    return true;
}

/* Between STOP and WRITE: take what the peers say they have sent. */
static bool step_drain(struct sim *sim, unsigned rank)
{
    struct rank *r = &sim->rank[rank];
    bool all = true;
    for (unsigned p = 0; p < sim->options.nranks; p++) {
        if (r->received[p] < r->expected[p] && arrive(sim, rank, p)) {
            r->queued[p]++;
            return true;
        }
        if (r->received[p] > r->expected[p])
            violated(sim, "rank %u has received more of %u than was sent", rank, p);
        all &= r->received[p] == r->expected[p];
    }
    if (!all)
        return false;
    r->draining = false;
    tell(sim, rank, (struct proto_msg){.type = PROTO_DRAINED});
    return true;
}

static bool step(struct sim *sim, unsigned rank)
{
    struct rank *r = &sim->rank[rank];
    if (r->parked)
        return r->draining && step_drain(sim, rank);
    while (r->pc < sim->nops && !takes_part(sim, &sim->op[r->pc], rank))
        r->pc++;
    if (r->pc == sim->nops)
        return false;
    const struct op *op = &sim->op[r->pc];
    if (op->kind == OP_FINALIZE && sim->stay)
        return true;
    switch (op->kind) {
    case OP_COMPUTE:
        if (r->done_steps++ >= op->steps)
            next(r);
        return true;
    case OP_IWAIT:
        if (!all_entered(sim, &sim->comm[op->comm], op->nth))
            return false;
        next(r);
        return true;
    case OP_SEND:
    case OP_SSEND:
    case OP_RECV:
        return step_p2p(sim, rank, op);
    default:
        return r->at == AT_INSIDE ? collective_leave(sim, rank, op)
                                  : collective_enter(sim, rank, op);
    }
}

static bool in_collective(const struct sim *sim, const struct rank *r)
{
    if (r->pc >= sim->nops || r->at != AT_INSIDE)
        return false;
    enum op_kind kind = sim->op[r->pc].kind;
    return kind != OP_SEND && kind != OP_SSEND;
}

bool sim_step(struct sim *sim, unsigned rank)
{
    struct rank *r = &sim->rank[rank];
    bool moved = step(sim, rank);
    enum proto_state state = in_collective(sim, r) ? PROTO_STATE_INSIDE
                             : moved               ? PROTO_STATE_COMPUTING
                                                   : PROTO_STATE_WAITING;
    if (cut_rank_reports(&r->cut) && !r->parked && state != r->told) {
        r->told = state;
        tell(sim, rank, (struct proto_msg){.type = PROTO_STATE, .u.state = {state, r->progress}});
        return true;
    }
    return moved;
}

/* ---- the agent --------------------------------------------------------------------------- */

/* What the images would hold, looked at when the first rank is told to write. */
static void check_cut(struct sim *sim)
{
    unsigned n = sim->options.nranks;
    for (unsigned r = 0; r < n; r++) {
        if (!sim->rank[r].parked || sim->rank[r].draining)
            violated(sim, "WRITE while rank %u is not parked or has not drained", r);
        for (unsigned p = 0; p < n; p++)
            if (sim->rank[r].received[p] != sim->rank[p].sent[r])
                violated(sim, "WRITE while a message from %u to %u is on its way", p, r);
    }
    for (unsigned i = 0; i < sim->ncomm; i++) {
        const struct comm *c = &sim->comm[i];
        int first = -1;
        for (unsigned r = 0; r < n; r++) {
            if (!c->member[r])
                continue;
            first = first < 0 ? (int)r : first;
            if (c->entered[r] != c->entered[first])
                violated(sim, "communicator %u: rank %u has entered %" PRIu64 ", rank %d %" PRIu64,
                         i, r, c->entered[r], first, c->entered[first]);
            if (c->exists[r] != c->exists[first])
                violated(sim, "communicator %u exists for rank %u or %d only", i, r, first);
        }
    }
}

static void park(struct sim *sim, unsigned rank)
{
    struct rank *r = &sim->rank[rank];
    if (in_collective(sim, r))
        violated(sim, "STOP while rank %u is inside a collective", rank);
    r->parked = true;
    tell(sim, rank, (struct proto_msg){.type = PROTO_STOPPED,
                                       .u.peers = {sim->options.nranks, r->sent}});
}

void sim_control(struct sim *sim, unsigned rank, const struct proto_msg *msg)
{
    struct rank *r = &sim->rank[rank];
    struct proto_msg ack;
    char file[32];
    if (msg->type != PROTO_INTENT && msg->epoch != r->cut.epoch)
        return;
    switch (msg->type) {
    case PROTO_INTENT:
        list_all(sim, rank);
        cut_rank_intent(&r->cut, msg->epoch, &ack);
        r->told = PROTO_STATE_COMPUTING;
        sim->send(sim->arg, rank, &ack);
        break;
    case PROTO_ARM:
        cut_rank_arm(&r->cut, msg);
        tell(sim, rank, (struct proto_msg){.type = PROTO_ARMED});
        break;
    case PROTO_RAISE:
        cut_rank_raise(&r->cut, msg);
        break;
    case PROTO_STOP:
        park(sim, rank);
        break;
    case PROTO_DRAIN:
        memcpy(r->expected, msg->u.peers.messages, msg->u.peers.count * sizeof(uint64_t));
        r->draining = true;
        break;
    case PROTO_WRITE:
        check_cut(sim);
        snprintf(file, sizeof file, "rank-%u.img", rank);
        tell(sim, rank, (struct proto_msg){.type = PROTO_WRITTEN,
                                           .u.written = {file, 100 + rank, 10, 20, 7 * rank}});
        break;
    case PROTO_RESUME:
    case PROTO_CANCEL:
        cut_rank_reset(&r->cut);
        r->parked = r->draining = false;
        break;
    default:
        break;
    }
}

/* ---- life -------------------------------------------------------------------------------- */

struct sim *sim_create(const struct sim_options *options, sim_send_fn *send, void *arg)
{
    struct sim *sim = calloc(1, sizeof *sim);
    uint64_t seed = options->seed;
    if (!sim || options->nranks > RANKS_MAX || options->nranks < 2)
        abort();
    sim->options = *options;
    sim->send = send;
    sim->arg = arg;
    sim->op = calloc(8 * (size_t)options->nops + 8, sizeof *sim->op);
    if (!sim->op)
        abort();
    sim->ncomm = 1;
    sim->comm[0].n = options->nranks;
    for (unsigned r = 0; r < options->nranks; r++)
        sim->comm[0].member[r] = true;
    for (unsigned i = below(&seed, 4); i > 0; i--)
        comm_make(sim, 0, &seed);
    for (unsigned i = 0; i < sim->ncomm; i++)
        for (unsigned r = 0; r < options->nranks; r++)
            if (sim->comm[i].member[r])
                comm_appears(sim, r, i);
    program_make(sim, &seed);
    return sim;
}

void sim_destroy(struct sim *sim)
{
    if (!sim)
        return;
    for (unsigned r = 0; r < sim->options.nranks; r++)
        cut_rank_clear(&sim->rank[r].cut);
    free(sim->op);
    free(sim);
}

void sim_stay(struct sim *sim, bool stay)
{
    sim->stay = stay;
}

bool sim_finalized(const struct sim *sim, unsigned rank)
{
    return sim->rank[rank].finalized;
}

bool sim_done(const struct sim *sim)
{
    for (unsigned r = 0; r < sim->options.nranks; r++)
        if (!sim->rank[r].finalized)
            return false;
    return true;
}

uint64_t sim_progress(const struct sim *sim, unsigned rank)
{
    return sim->rank[rank].progress;
}

const char *sim_violation(const struct sim *sim)
{
    return sim->violation[0] ? sim->violation : NULL;
}

void sim_describe(const struct sim *sim, char *buf, size_t cap)
{
    size_t n = 0;
    buf[0] = '\0';
    for (unsigned r = 0; r < sim->options.nranks && n < cap; r++) {
        const struct rank *rank = &sim->rank[r];
        const struct op *op = rank->pc < sim->nops ? &sim->op[rank->pc] : NULL;
        n += (size_t)snprintf(buf + n, cap - n,
                              "rank %u: op %u kind %d comm %u at %d parked %d stage %d behind %u; ",
                              r, rank->pc, op ? (int)op->kind : -1, op ? op->comm : 0, rank->at,
                              rank->parked, rank->cut.stage, rank->cut.behind);
    }
}
