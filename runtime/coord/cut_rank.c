/*
 * cut_rank.c - a rank's half of the coordinated cut
 */
#include "runtime/coord/cut_rank.h"

#include <stdlib.h>
#include <string.h>

/* A rank has few communicators, and looks for the one it used last: newest first. */
static int find(const struct cut_rank *r, uint64_t gid)
{
    for (unsigned i = r->ncomm; i-- > 0;)
        if (r->comm[i].gid == gid)
            return (int)i;
    return -1;
}

void cut_rank_clear(struct cut_rank *r)
{
    free(r->comm);
    free(r->extra);
    memset(r, 0, sizeof *r);
}

int cut_rank_comm_add(struct cut_rank *r, uint64_t gid, uint64_t nmembers)
{
    if (r->ncomm == r->room) {
        unsigned room = r->room ? 2 * r->room : 8;
        struct proto_comm *comm = reallocarray(r->comm, room, sizeof *comm);
        if (!comm)
            return -1;
        r->comm = comm;
        struct cut_rank_extra *extra = reallocarray(r->extra, room, sizeof *extra);
        if (!extra)
            return -1;
        r->extra = extra;
        r->room = room;
    }
    r->comm[r->ncomm] = (struct proto_comm){.gid = gid, .nmembers = nmembers};
    r->extra[r->ncomm] = (struct cut_rank_extra){0};
    r->ncomm++;
    return 0;
}

void cut_rank_intent(struct cut_rank *r, uint64_t epoch, struct proto_msg *ack)
{
    r->stage = CUT_RANK_ASKED;
    r->epoch = epoch;
    r->behind = 0;
    for (unsigned i = 0; i < r->ncomm; i++)
        r->extra[i].target = r->comm[i].entered;
    *ack = (struct proto_msg){
        .type = PROTO_ACK, .epoch = epoch, .u.comms = {r->ncomm, r->comm}};
}

static void raise_to(struct cut_rank *r, uint64_t gid, uint64_t target)
{
    int i = find(r, gid);
    if (i < 0 || target <= r->extra[i].target)
        return;
    r->behind += r->extra[i].target <= r->comm[i].entered;
    r->extra[i].target = target;
}

void cut_rank_arm(struct cut_rank *r, const struct proto_msg *arm)
{
    if (r->stage != CUT_RANK_ASKED || arm->epoch != r->epoch)
        return;
    r->stage = CUT_RANK_ARMED;
    for (uint64_t i = 0; i < arm->u.comms.count; i++)
        raise_to(r, arm->u.comms.comm[i].gid, arm->u.comms.comm[i].entered);
}

void cut_rank_raise(struct cut_rank *r, const struct proto_msg *raise)
{
    if (r->stage == CUT_RANK_ARMED && raise->epoch == r->epoch)
        raise_to(r, raise->u.coll.gid, raise->u.coll.entered);
}

bool cut_rank_may_enter(const struct cut_rank *r)
{
    return r->stage != CUT_RANK_ARMED || r->behind > 0;
}

bool cut_rank_reports(const struct cut_rank *r)
{
    return r->stage != CUT_RANK_FREE;
}

uint64_t cut_rank_count(struct cut_rank *r, uint64_t gid)
{
    int i = find(r, gid);
    if (i < 0)
        return 0;
    r->comm[i].inside++;
    return cut_rank_set(r, gid, r->comm[i].entered + 1);
}

uint64_t cut_rank_set(struct cut_rank *r, uint64_t gid, uint64_t entered)
{
    int i = find(r, gid);
    if (i < 0)
        return 0;
    struct proto_comm *c = &r->comm[i];
    struct cut_rank_extra *x = &r->extra[i];
    if (entered <= c->entered)
        return c->entered;
    r->behind -= r->stage != CUT_RANK_FREE && c->entered < x->target && entered >= x->target;
    c->entered = entered;
    if (entered > x->target)
        x->target = entered;
    return entered;
}

bool cut_rank_done(struct cut_rank *r, uint64_t gid)
{
    int i = find(r, gid);
    if (i < 0 || r->comm[i].inside == 0)
        return false;
    r->comm[i].inside--;
    return true;
}

uint64_t cut_rank_entered(const struct cut_rank *r, uint64_t gid)
{
    int i = find(r, gid);
    return i < 0 ? 0 : r->comm[i].entered;
}

void cut_rank_reset(struct cut_rank *r)
{
    r->stage = CUT_RANK_FREE;
    r->behind = 0;
}
