/*
 * cut.c - the coordinator's half of the coordinated cut, as a pure state machine
 */
#include "runtime/coord/cut.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct cut_limits cut_limits_default = {
    .stall_ms = 50, /* ranks say every 20 ms at most what they do */
    .releases_max = 64,
    .gather_ms = 60 * 1000,
    .stop_ms = 60 * 1000,
    .write_ms = 30 * 60 * 1000,
};

/* A communicator of at least two members, known from ACK and COMM. */
struct comm {
    uint64_t gid;
    uint64_t nmembers; /* 0: those known */
    uint64_t target; /* T */
    unsigned level;  /* members with E = T */
    unsigned known, room;
    struct member {
        unsigned rank;
        uint64_t entered; /* E */
    } *member; /* by rank, ascending */
};

struct rank_state {
    bool answered; /* in this phase */
    uint64_t inside; /* threads in a blocking collective */
    uint64_t state, progress;
    uint64_t *sent; /* STOPPED */
};

struct hold {
    unsigned rank;
    uint64_t gid, entered;
};

struct cut {
    unsigned size;
    struct cut_limits limits;
    cut_send_fn *send;
    void *arg;

    enum cut_phase phase;
    uint64_t epoch;
    char folder[PROTO_TEXT_MAX + 1];
    char reason[ERR_TEXT_MAX];

    struct rank_state *rank;
    unsigned answers;
    uint64_t inside;     /* sum over the ranks */
    unsigned uneven;     /* communicators not level for all their members */
    struct comm *comm;   /* by gid, ascending */
    unsigned ncomm, comm_room;
    struct hold *hold;   /* oldest first */
    unsigned nhold, hold_room;

    unsigned releases;
    uint64_t started_ms, phase_ms, moved_ms; /* cut, phase, last sign of progress */
};

static const char *const phase_names[] = {"idle",     "asking",   "arming",  "gathering",
                                          "stopping", "draining", "writing", "written"};

/* ---- small things ------------------------------------------------------------------------ */

/* Grows an array to hold n + 1 elements. Out of memory ends the process: the job itself goes on. */
static void *room_for(void *array, unsigned n, unsigned *room, size_t size)
{
    if (n < *room)
        return array;
    *room = *room ? 2 * *room : 8;
    array = reallocarray(array, *room, size);
    if (!array)
        abort();
    return array;
}

static void send_to(struct cut *cut, unsigned rank, struct proto_msg msg)
{
    msg.epoch = cut->epoch;
    cut->send(cut->arg, rank, &msg);
}

static void send_all(struct cut *cut, struct proto_msg msg)
{
    for (unsigned r = 0; r < cut->size; r++)
        send_to(cut, r, msg);
}

static void enter_phase(struct cut *cut, enum cut_phase phase, uint64_t now_ms)
{
    cut->phase = phase;
    cut->answers = 0;
    cut->phase_ms = cut->moved_ms = now_ms;
    for (unsigned r = 0; r < cut->size; r++)
        cut->rank[r].answered = false;
}

/* Forgets the communicators, holds and reports of the last cut. */
static void forget(struct cut *cut)
{
    for (unsigned c = 0; c < cut->ncomm; c++)
        free(cut->comm[c].member);
    for (unsigned r = 0; r < cut->size; r++) {
        free(cut->rank[r].sent);
        cut->rank[r] = (struct rank_state){.state = PROTO_STATE_COMPUTING};
    }
    cut->ncomm = cut->nhold = cut->uneven = 0;
    cut->inside = 0;
}

/* ---- communicators ----------------------------------------------------------------------- */

static struct comm *comm_find(struct cut *cut, uint64_t gid, bool add)
{
    unsigned lo = 0, hi = cut->ncomm;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (cut->comm[mid].gid < gid)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < cut->ncomm && cut->comm[lo].gid == gid)
        return &cut->comm[lo];
    if (!add)
        return NULL;
    cut->comm = room_for(cut->comm, cut->ncomm, &cut->comm_room, sizeof *cut->comm);
    memmove(&cut->comm[lo + 1], &cut->comm[lo], (cut->ncomm++ - lo) * sizeof *cut->comm);
    cut->comm[lo] = (struct comm){.gid = gid};
    cut->uneven++;
    return &cut->comm[lo];
}

static struct member *member_find(struct comm *c, unsigned rank, bool add)
{
    unsigned lo = 0, hi = c->known;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (c->member[mid].rank < rank)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo < c->known && c->member[lo].rank == rank)
        return &c->member[lo];
    if (!add)
        return NULL;
    c->member = room_for(c->member, c->known, &c->room, sizeof *c->member);
    memmove(&c->member[lo + 1], &c->member[lo], (c->known++ - lo) * sizeof *c->member);
    c->member[lo] = (struct member){.rank = rank};
    return &c->member[lo];
}

/* True if every member is known and has entered what all must enter. */
static bool comm_even(const struct comm *c)
{
    return c->known && c->level == (c->nmembers ? c->nmembers : c->known);
}

/* Sets a communicator's counts after something in it changed; keeps cut->uneven. */
static void comm_recount(struct cut *cut, struct comm *c, bool was_even, unsigned level)
{
    c->level = level;
    cut->uneven += (unsigned)was_even;
    cut->uneven -= (unsigned)comm_even(c);
}

static void comm_raise(struct cut *cut, struct comm *c, uint64_t target)
{
    unsigned level = 0;
    bool was_even = comm_even(c);
    c->target = target;
    for (unsigned m = 0; m < c->known; m++)
        level += c->member[m].entered == target;
    comm_recount(cut, c, was_even, level);
}

static bool armed(const struct cut *cut)
{
    return cut->phase == CUT_ARMING || cut->phase == CUT_GATHERING;
}

static void tell_target(struct cut *cut, const struct comm *c, int except)
{
    if (!armed(cut))
        return;
    for (unsigned m = 0; m < c->known; m++)
        if ((int)c->member[m].rank != except)
            send_to(cut, c->member[m].rank,
                    (struct proto_msg){.type = PROTO_RAISE, .u.coll = {c->gid, 0, c->target}});
}

/* A rank says it has entered `entered` collectives on this communicator. */
static void comm_entered(struct cut *cut, struct comm *c, unsigned rank, uint64_t entered)
{
    bool was_even = comm_even(c);
    unsigned known = c->known;
    struct member *m = member_find(c, rank, true);
    if (entered < m->entered) {
        cut_cancel(cut, "rank %u counts backwards on communicator 0x%" PRIx64, rank, c->gid);
        return;
    }
    unsigned level = c->level - (known == c->known && m->entered == c->target);
    m->entered = entered;
    comm_recount(cut, c, was_even, level + (entered == c->target));
    if (entered > c->target) {
        comm_raise(cut, c, entered);
        tell_target(cut, c, (int)rank);
    } else if (known != c->known && c->target > entered && armed(cut)) {
        /* a member that did not know the communicator when the others were told */
        send_to(cut, rank,
                (struct proto_msg){.type = PROTO_RAISE, .u.coll = {c->gid, 0, c->target}});
    }
}

/* ---- ACK and ARM ------------------------------------------------------------------------- */

static bool answer(struct cut *cut, unsigned rank)
{
    if (cut->rank[rank].answered)
        return false;
    cut->rank[rank].answered = true;
    cut->answers++;
    return true;
}

static void comm_known(struct cut *cut, unsigned rank, const struct proto_comm *pc)
{
    if (pc->nmembers > cut->size) {
        cut_cancel(cut, "rank %u says communicator 0x%" PRIx64 " has %" PRIu64 " members", rank,
                   pc->gid, pc->nmembers);
        return;
    }
    struct comm *c = comm_find(cut, pc->gid, true);
    if (c->known == 0) {
        c->nmembers = pc->nmembers;
    } else if (c->nmembers != pc->nmembers) {
        cut_cancel(cut, "rank %u says communicator 0x%" PRIx64 " has %" PRIu64 " members, others "
                        "say %" PRIu64, rank, pc->gid, pc->nmembers, c->nmembers);
        return;
    }
    comm_entered(cut, c, rank, pc->entered);
}

/* Sends each rank the targets of its own communicators. */
static void send_arm(struct cut *cut)
{
    struct proto_comm *list = calloc(cut->ncomm + 1, sizeof *list);
    if (!list)
        abort();
    for (unsigned r = 0; r < cut->size; r++) {
        uint64_t n = 0;
        for (unsigned c = 0; c < cut->ncomm; c++)
            if (member_find(&cut->comm[c], r, false))
                list[n++] = (struct proto_comm){.gid = cut->comm[c].gid,
                                                .entered = cut->comm[c].target};
        send_to(cut, r, (struct proto_msg){.type = PROTO_ARM, .u.comms = {n, list}});
    }
    free(list);
}

static void on_ack(struct cut *cut, unsigned rank, const struct proto_msg *msg, uint64_t now_ms)
{
    if (cut->phase != CUT_ACKING || !answer(cut, rank))
        return;
    for (uint64_t i = 0; i < msg->u.comms.count && cut->phase == CUT_ACKING; i++) {
        comm_known(cut, rank, &msg->u.comms.comm[i]);
        cut->rank[rank].inside += msg->u.comms.comm[i].inside;
        cut->inside += msg->u.comms.comm[i].inside;
    }
    if (cut->phase == CUT_ACKING && cut->answers == cut->size) {
        enter_phase(cut, CUT_ARMING, now_ms);
        send_arm(cut);
    }
}

static void on_armed(struct cut *cut, unsigned rank, const struct proto_msg *msg, uint64_t now_ms)
{
    if (cut->phase == CUT_ARMING && answer(cut, rank) && cut->answers == cut->size)
        enter_phase(cut, CUT_GATHERING, now_ms);
}

/* ---- reports ----------------------------------------------------------------------------- */

static bool reporting(const struct cut *cut, unsigned rank)
{
    return armed(cut) || (cut->phase == CUT_ACKING && cut->rank[rank].answered);
}

/* The rank no longer holds before this communicator (or never did). */
static void hold_end(struct cut *cut, unsigned rank, uint64_t gid)
{
    for (unsigned i = 0; i < cut->nhold; i++)
        if (cut->hold[i].rank == rank && cut->hold[i].gid == gid) {
            memmove(&cut->hold[i], &cut->hold[i + 1],
                    (--cut->nhold - i) * sizeof *cut->hold);
            return;
        }
}

static void on_enter(struct cut *cut, unsigned rank, const struct proto_msg *msg, uint64_t now_ms)
{
    if (!reporting(cut, rank))
        return;
    struct comm *c = comm_find(cut, msg->u.coll.gid, false);
    if (!c) {
        cut_cancel(cut, "rank %u entered a collective on a communicator it never named (0x%" PRIx64
                        ")", rank, msg->u.coll.gid);
        return;
    }
    hold_end(cut, rank, c->gid);
    cut->rank[rank].inside++;
    cut->inside++;
    comm_entered(cut, c, rank, msg->u.coll.entered);
}

static void on_leave(struct cut *cut, unsigned rank, const struct proto_msg *msg, uint64_t now_ms)
{
    if (!reporting(cut, rank))
        return;
    if (cut->rank[rank].inside == 0) {
        cut_cancel(cut, "rank %u left a collective that it had not entered", rank);
        return;
    }
    cut->rank[rank].inside--;
    cut->inside--;
}

static void on_comm(struct cut *cut, unsigned rank, const struct proto_msg *msg, uint64_t now_ms)
{
    if (reporting(cut, rank))
        comm_known(cut, rank,
                   &(struct proto_comm){.gid = msg->u.coll.gid,
                                        .nmembers = msg->u.coll.nmembers,
                                        .entered = msg->u.coll.entered});
}

static void on_hold(struct cut *cut, unsigned rank, const struct proto_msg *msg, uint64_t now_ms)
{
    if (!armed(cut))
        return;
    hold_end(cut, rank, msg->u.coll.gid);
    cut->hold = room_for(cut->hold, cut->nhold, &cut->hold_room, sizeof *cut->hold);
    cut->hold[cut->nhold++] = (struct hold){rank, msg->u.coll.gid, msg->u.coll.entered};
}

static void on_state(struct cut *cut, unsigned rank, const struct proto_msg *msg, uint64_t now_ms)
{
    cut->rank[rank].state = msg->u.state.state;
    cut->rank[rank].progress = msg->u.state.progress;
}

/* ---- stop, drain, write ------------------------------------------------------------------ */

static void send_drain(struct cut *cut)
{
    uint64_t *expected = calloc(cut->size, sizeof *expected);
    if (!expected)
        abort();
    for (unsigned to = 0; to < cut->size; to++) {
        for (unsigned from = 0; from < cut->size; from++)
            expected[from] = cut->rank[from].sent[to];
        send_to(cut, to,
                (struct proto_msg){.type = PROTO_DRAIN, .u.peers = {cut->size, expected}});
    }
    free(expected);
}

static void on_stopped(struct cut *cut, unsigned rank, const struct proto_msg *msg, uint64_t now_ms)
{
    if (cut->phase != CUT_STOPPING || !answer(cut, rank))
        return;
    if (msg->u.peers.count != cut->size) {
        cut_cancel(cut, "rank %u counts %" PRIu64 " peers in a world of %u", rank,
                   msg->u.peers.count, cut->size);
        return;
    }
    cut->rank[rank].sent = malloc(cut->size * sizeof(uint64_t));
    if (!cut->rank[rank].sent)
        abort();
    memcpy(cut->rank[rank].sent, msg->u.peers.messages, cut->size * sizeof(uint64_t));
    if (cut->answers == cut->size) {
        enter_phase(cut, CUT_DRAINING, now_ms);
        send_drain(cut);
    }
}

static void on_drained(struct cut *cut, unsigned rank, const struct proto_msg *msg, uint64_t now_ms)
{
    if (cut->phase != CUT_DRAINING || !answer(cut, rank) || cut->answers < cut->size)
        return;
    enter_phase(cut, CUT_WRITING, now_ms);
    send_all(cut, (struct proto_msg){.type = PROTO_WRITE, .u.folder = cut->folder});
}

static void on_written(struct cut *cut, unsigned rank, const struct proto_msg *msg, uint64_t now_ms)
{
    if (cut->phase == CUT_WRITING && answer(cut, rank) && cut->answers == cut->size)
        enter_phase(cut, CUT_WRITTEN, now_ms);
}

static void on_unable(struct cut *cut, unsigned rank, const struct proto_msg *msg, uint64_t now_ms)
{
    cut_cancel(cut, "rank %u: %s", rank, msg->u.text);
}

/* ---- the machine ------------------------------------------------------------------------- */

typedef void receive_fn(struct cut *cut, unsigned rank, const struct proto_msg *msg,
                        uint64_t now_ms);

static receive_fn *const receivers[] = {
    [PROTO_ACK] = on_ack,         [PROTO_ENTER] = on_enter,     [PROTO_LEAVE] = on_leave,
    [PROTO_HOLD] = on_hold,       [PROTO_COMM] = on_comm,       [PROTO_ARMED] = on_armed,
    [PROTO_STATE] = on_state,     [PROTO_STOPPED] = on_stopped, [PROTO_DRAINED] = on_drained,
    [PROTO_WRITTEN] = on_written, [PROTO_FAILED] = on_unable,   [PROTO_UNABLE] = on_unable,
};

/* Everything that can make the cut complete has been looked at: is it? */
static void stop_if_cut(struct cut *cut, uint64_t now_ms)
{
    if (cut->phase != CUT_GATHERING || cut->uneven || cut->inside)
        return;
    enter_phase(cut, CUT_STOPPING, now_ms);
    send_all(cut, (struct proto_msg){.type = PROTO_STOP});
}

void cut_receive(struct cut *cut, unsigned rank, const struct proto_msg *msg, uint64_t now_ms)
{
    bool known = msg->type < sizeof receivers / sizeof receivers[0] && receivers[msg->type];
    if (!known || rank >= cut->size || cut->phase == CUT_IDLE || msg->epoch != cut->epoch)
        return;
    if (msg->type != PROTO_STATE || msg->u.state.progress != cut->rank[rank].progress)
        cut->moved_ms = now_ms;
    receivers[msg->type](cut, rank, msg, now_ms);
    stop_if_cut(cut, now_ms);
}

/* True if no rank can be expected to get on without another's hold being lifted. */
static bool all_wait(const struct cut *cut)
{
    for (unsigned r = 0; r < cut->size; r++) {
        bool holds = false;
        for (unsigned i = 0; i < cut->nhold; i++)
            holds |= cut->hold[i].rank == r;
        if (!holds && !cut->rank[r].inside && cut->rank[r].state == PROTO_STATE_COMPUTING)
            return false;
    }
    return true;
}

/* Rule 7: let the collective of the oldest hold happen. */
static void release(struct cut *cut, uint64_t now_ms)
{
    if (cut->releases >= cut->limits.releases_max) {
        char what[256];
        cut_cancel(cut, "no cut after %u releases: %s", cut->releases,
                   cut_describe(cut, what, sizeof what));
        return;
    }
    struct hold oldest = cut->hold[0];
    struct comm *c = comm_find(cut, oldest.gid, false);
    hold_end(cut, oldest.rank, oldest.gid);
    cut->releases++;
    cut->moved_ms = now_ms;
    if (!c) {
        cut_cancel(cut, "rank %u holds before a communicator it never named (0x%" PRIx64 ")",
                   oldest.rank, oldest.gid);
        return;
    }
    /* A hold that some RAISE has lifted already has E < T: tell its target again, no more. */
    if (c->target <= oldest.entered)
        comm_raise(cut, c, oldest.entered + 1);
    tell_target(cut, c, -1);
}

/* First rank for which `want` differs from answered, or size. */
static unsigned first_unanswered(const struct cut *cut)
{
    unsigned r = 0;
    while (r < cut->size && cut->rank[r].answered)
        r++;
    return r;
}

const char *cut_describe(const struct cut *cut, char *buf, size_t cap)
{
    const struct comm *c = cut->comm;
    switch (cut->phase) {
    case CUT_IDLE:
        snprintf(buf, cap, "no epoch under way");
        break;
    case CUT_GATHERING:
        while (c < cut->comm + cut->ncomm && comm_even(c))
            c++;
        for (unsigned m = 0; c < cut->comm + cut->ncomm && m < c->known; m++)
            if (c->member[m].entered < c->target) {
                snprintf(buf, cap,
                         "waiting for rank %u to enter collective %" PRIu64 " of communicator 0x%"
                         PRIx64 " (it has entered %" PRIu64 "%s)", c->member[m].rank, c->target,
                         c->gid, c->member[m].entered,
                         cut->rank[c->member[m].rank].state == PROTO_STATE_COMPUTING
                             ? ", and computes" : "");
                return buf;
            }
        if (c < cut->comm + cut->ncomm)
            snprintf(buf, cap,
                     "waiting for the other members of communicator 0x%" PRIx64 ", which %u of %"
                     PRIu64 " have made", c->gid, c->known, c->nmembers);
        else
            snprintf(buf, cap, "waiting for %" PRIu64 " collectives to complete", cut->inside);
        break;
    case CUT_WRITTEN:
        snprintf(buf, cap, "all %u images are written", cut->size);
        break;
    default:
        snprintf(buf, cap, "%s: %u of %u ranks, waiting for rank %u", phase_names[cut->phase],
                 cut->answers, cut->size, first_unanswered(cut));
    }
    return buf;
}

void cut_tick(struct cut *cut, uint64_t now_ms)
{
    uint64_t limit = 0, since = cut->started_ms;
    switch (cut->phase) {
    case CUT_IDLE:
    case CUT_WRITTEN:
        return;
    case CUT_ACKING:
    case CUT_ARMING:
    case CUT_GATHERING:
        limit = cut->limits.gather_ms;
        break;
    case CUT_STOPPING:
    case CUT_DRAINING:
        limit = cut->limits.stop_ms;
        since = cut->phase_ms;
        break;
    case CUT_WRITING:
        limit = cut->limits.write_ms;
        since = cut->moved_ms;
        break;
    }
    if (now_ms - since >= limit) {
        char what[256];
        cut_cancel(cut, "not done after %" PRIu64 " s: %s", limit / 1000,
                   cut_describe(cut, what, sizeof what));
    } else if (cut->phase == CUT_GATHERING && cut->nhold &&
               now_ms - cut->moved_ms >= cut->limits.stall_ms && all_wait(cut)) {
        release(cut, now_ms);
    }
}

/* ---- life -------------------------------------------------------------------------------- */

struct cut *cut_create(unsigned size, const struct cut_limits *limits, cut_send_fn *send, void *arg)
{
    struct cut *cut = calloc(1, sizeof *cut);
    if (!cut || !(cut->rank = calloc(size ? size : 1, sizeof *cut->rank))) {
        free(cut);
        return NULL;
    }
    cut->size = size;
    cut->limits = limits ? *limits : cut_limits_default;
    cut->send = send;
    cut->arg = arg;
    return cut;
}

void cut_destroy(struct cut *cut)
{
    if (!cut)
        return;
    forget(cut);
    free(cut->comm);
    free(cut->hold);
    free(cut->rank);
    free(cut);
}

int cut_start(struct cut *cut, uint64_t epoch, const char *folder, uint64_t now_ms, struct err *err)
{
    if (cut->phase != CUT_IDLE)
        return err_set(err, "epoch %" PRIu64 " is under way", cut->epoch);
    if (strlen(folder) > PROTO_TEXT_MAX)
        return err_set(err, "%.40s...: path is too long", folder);
    forget(cut);
    cut->epoch = epoch;
    strcpy(cut->folder, folder);
    cut->reason[0] = '\0';
    cut->releases = 0;
    cut->started_ms = now_ms;
    enter_phase(cut, CUT_ACKING, now_ms);
    send_all(cut, (struct proto_msg){.type = PROTO_INTENT});
    return 0;
}

void cut_cancel(struct cut *cut, const char *fmt, ...)
{
    if (cut->phase == CUT_IDLE)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(cut->reason, sizeof cut->reason, fmt, ap);
    va_end(ap);
    cut->phase = CUT_IDLE;
    send_all(cut, (struct proto_msg){.type = PROTO_CANCEL, .u.text = cut->reason});
}

void cut_resume(struct cut *cut, bool committed)
{
    assert(cut->phase == CUT_WRITTEN);
    cut->phase = CUT_IDLE;
    send_all(cut, (struct proto_msg){.type = PROTO_RESUME, .u.committed = committed});
}

enum cut_phase cut_phase(const struct cut *cut)
{
    return cut->phase;
}

const char *cut_phase_name(enum cut_phase phase)
{
    return phase_names[phase];
}

uint64_t cut_epoch(const struct cut *cut)
{
    return cut->epoch;
}

unsigned cut_answers(const struct cut *cut)
{
    return cut->answers;
}

unsigned cut_releases(const struct cut *cut)
{
    return cut->releases;
}

const char *cut_reason(const struct cut *cut)
{
    return cut->reason;
}
