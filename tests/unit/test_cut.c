/*
 * test_cut.c - the coordinated cut against simulated ranks, over thousands of random schedules
 *
 * One schedule: a random program on 2 to 6 ranks, epochs asked for at random moments, messages of
 * both directions delayed at random (in order for each rank), ticks in between. Everything follows
 * from the seed, which a failure prints; CUT_SEED=n runs that one, CUT_SCHEDULES=n so many.
 */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/coord/cut.h"
#include "tests/unit/cut_sim.h"
#include "tests/unit/unit.h"

#define RANKS_MAX 6
#define STEPS_MAX 400000
#define TICK_MS   50

/* Frames on their way, in order: the codec is part of what is tested. */
struct queue {
    struct frame {
        struct frame *next;
        size_t size;
        uint64_t bytes[];
    } *first, **last;
    unsigned n;
};

struct world {
    unsigned nranks;
    struct sim *sim;
    struct cut *cut;
    struct queue up[RANKS_MAX], down[RANKS_MAX];
    uint64_t seed, now_ms, epoch;
    bool over; /* a rank has finalized: no epochs any more */
    unsigned started, committed, cancelled, releases;
    char error[512];
};

static void queue_put(struct world *w, struct queue *q, const struct proto_msg *msg)
{
    struct err err;
    size_t size = proto_size(msg);
    struct frame *f = malloc(sizeof *f + size);
    if (proto_encode(msg, f->bytes, size, &err) != (ssize_t)size)
        snprintf(w->error, sizeof w->error, "encode: %.400s", err.text);
    f->size = size;
    f->next = NULL;
    if (!q->first)
        q->last = &q->first;
    *q->last = f;
    q->last = &f->next;
    q->n++;
}

static struct frame *queue_take(struct world *w, struct queue *q, struct proto_msg *msg)
{
    struct err err;
    struct frame *f = q->first;
    q->first = f->next;
    q->n--;
    if (proto_decode(f->bytes, f->size, msg, &err) != (ssize_t)f->size)
        snprintf(w->error, sizeof w->error, "decode: %.400s", err.text);
    return f;
}

static void from_rank(void *arg, unsigned rank, const struct proto_msg *msg)
{
    struct world *w = arg;
    queue_put(w, &w->up[rank], msg);
}

static void from_coord(void *arg, unsigned rank, const struct proto_msg *msg)
{
    struct world *w = arg;
    queue_put(w, &w->down[rank], msg);
}

/* What the coordinator does when the machine has come to an end. */
static void settle(struct world *w)
{
    if (w->epoch == 0 || (cut_phase(w->cut) != CUT_IDLE && cut_phase(w->cut) != CUT_WRITTEN))
        return;
    if (cut_phase(w->cut) == CUT_WRITTEN) {
        cut_resume(w->cut, true);
        w->committed++;
    } else {
        w->cancelled++;
    }
    w->releases += cut_releases(w->cut);
    w->epoch = 0;
}

static void deliver_up(struct world *w, unsigned rank)
{
    struct proto_msg msg;
    struct frame *f = queue_take(w, &w->up[rank], &msg);
    if (msg.type == PROTO_FINALIZED) {
        w->over = true;
        cut_cancel(w->cut, "rank %u has finalized", rank);
    }
    cut_receive(w->cut, rank, &msg, w->now_ms);
    free(f);
    settle(w);
}

static void deliver_down(struct world *w, unsigned rank)
{
    struct proto_msg msg;
    struct frame *f = queue_take(w, &w->down[rank], &msg);
    sim_control(w->sim, rank, &msg);
    free(f);
}

static void tick(struct world *w)
{
    w->now_ms += TICK_MS;
    cut_tick(w->cut, w->now_ms);
    settle(w);
}

static void want_epoch(struct world *w)
{
    if (w->epoch || w->over)
        return;
    w->epoch = ++w->started;
    cut_start(w->cut, w->epoch, "/epochs/1", w->now_ms, NULL);
}

/* One random thing. False if nothing at all could happen but time. */
static bool happen(struct world *w)
{
    unsigned r = (unsigned)(sim_random(&w->seed) % w->nranks);
    for (unsigned i = 0; i < w->nranks; i++, r = (r + 1) % w->nranks) {
        unsigned first = (unsigned)(sim_random(&w->seed) % 3);
        for (unsigned k = 0; k < 3; k++) {
            switch ((first + k) % 3) {
            case 0:
                if (sim_step(w->sim, r))
                    return true;
                break;
            case 1:
                if (w->up[r].n) {
                    deliver_up(w, r);
                    return true;
                }
                break;
            case 2:
                if (w->down[r].n) {
                    deliver_down(w, r);
                    return true;
                }
                break;
            }
        }
    }
    return false;
}

static void world_run(struct world *w, unsigned percent_epoch)
{
    unsigned idle = 0;
    for (unsigned step = 0; step < STEPS_MAX && !w->error[0]; step++) {
        if (sim_random(&w->seed) % 1000 < percent_epoch)
            want_epoch(w);
        if (sim_random(&w->seed) % 40 == 0)
            tick(w);
        if (happen(w)) {
            idle = 0;
        } else if (sim_done(w->sim) && cut_phase(w->cut) == CUT_IDLE) {
            return;
        } else {
            tick(w);
            idle++;
        }
        if (sim_violation(w->sim))
            snprintf(w->error, sizeof w->error, "%s", sim_violation(w->sim));
        if (idle * TICK_MS > 2 * cut_limits_default.gather_ms) {
            char ranks[300], cut[100];
            sim_describe(w->sim, ranks, sizeof ranks);
            cut_describe(w->cut, cut, sizeof cut);
            snprintf(w->error, sizeof w->error, "deadlock: %s; %s", cut, ranks);
        }
    }
    if (!w->error[0] && !sim_done(w->sim))
        snprintf(w->error, sizeof w->error, "not done after %d steps", STEPS_MAX);
}

/* Runs the schedule of a seed; adds its counts to *sum. */
static void schedule(uint64_t seed, unsigned percent_p2p, struct world *sum)
{
    struct world *w = calloc(1, sizeof *w);
    w->seed = seed;
    w->nranks = 2 + (unsigned)(sim_random(&w->seed) % (RANKS_MAX - 1));
    struct sim_options options = {.nranks = w->nranks,
                                  .nops = 10 + (unsigned)(sim_random(&w->seed) % 60),
                                  .percent_p2p = percent_p2p,
                                  .seed = sim_random(&w->seed)};
    w->sim = sim_create(&options, from_rank, w);
    w->cut = cut_create(w->nranks, NULL, from_coord, w);
    world_run(w, 2 + (unsigned)(sim_random(&w->seed) % 40));
    ck_assert_msg(!w->error[0], "CUT_SEED=%" PRIu64 " (%u %% point-to-point): %s; cut: %s", seed,
                  percent_p2p, w->error, cut_reason(w->cut));
    sum->started += w->started;
    sum->committed += w->committed;
    sum->cancelled += w->cancelled;
    sum->releases += w->releases;
    for (unsigned r = 0; r < w->nranks; r++)
        for (struct queue *q = &w->up[r]; q; q = q == &w->up[r] ? &w->down[r] : NULL)
            while (q->first) {
                struct proto_msg msg;
                free(queue_take(w, q, &msg));
            }
    cut_destroy(w->cut);
    sim_destroy(w->sim);
    free(w);
}

static unsigned schedules(unsigned otherwise)
{
    const char *n = getenv("CUT_SCHEDULES");
    return n ? (unsigned)strtoul(n, NULL, 10) : otherwise;
}

static struct world run_many(unsigned percent_p2p, unsigned n)
{
    struct world sum = {0};
    const char *one = getenv("CUT_SEED");
    if (one)
        schedule(strtoull(one, NULL, 10), percent_p2p, &sum);
    else
        for (unsigned i = 0; i < n; i++)
            schedule(percent_p2p * 1000000 + i, percent_p2p, &sum);
    fprintf(stderr, "%u %% p2p: %u epochs wanted, %u complete, %u given up, %u releases\n",
            percent_p2p, sum.started, sum.committed, sum.cancelled, sum.releases);
    return sum;
}

START_TEST(collectives_only)
{
    struct world sum = run_many(0, schedules(4000));
    ck_assert_uint_gt(sum.started, 100);
    ck_assert_uint_gt(sum.committed, sum.started * 6 / 10);
}
END_TEST

START_TEST(mixed)
{
    struct world sum = run_many(40, schedules(6000));
    ck_assert_uint_gt(sum.started, 100);
    ck_assert_uint_gt(sum.committed, sum.started / 2);
    ck_assert_uint_gt(sum.releases, 0);
}
END_TEST

START_TEST(mostly_point_to_point)
{
    struct world sum = run_many(80, schedules(4000));
    ck_assert_uint_gt(sum.started, 100);
    ck_assert_uint_gt(sum.committed, sum.started / 2);
}
END_TEST

/* ---- single rules ------------------------------------------------------------------------ */

struct sent {
    unsigned rank;
    enum proto_type type;
    uint64_t gid, entered;
    char text[200];
};

static struct sent sent[64];
static unsigned nsent;

static void collect(void *arg, unsigned rank, const struct proto_msg *msg)
{
    struct sent *s = &sent[nsent++ % 64];
    *s = (struct sent){.rank = rank, .type = msg->type};
    if (msg->type == PROTO_RAISE) {
        s->gid = msg->u.coll.gid;
        s->entered = msg->u.coll.entered;
    }
    if (msg->type == PROTO_CANCEL)
        snprintf(s->text, sizeof s->text, "%s", msg->u.text);
}

static void ack(struct cut *cut, unsigned rank, uint64_t epoch, uint64_t entered, uint64_t inside)
{
    struct proto_comm c = {.gid = 0, .nmembers = 2, .entered = entered, .inside = inside};
    cut_receive(cut, rank,
                &(struct proto_msg){.type = PROTO_ACK, .epoch = epoch, .u.comms = {1, &c}}, 0);
}

static void simple(struct cut *cut, unsigned rank, enum proto_type type, uint64_t epoch)
{
    cut_receive(cut, rank, &(struct proto_msg){.type = type, .epoch = epoch, .u.text = "x"}, 0);
}

static struct cut *two_ranks(void)
{
    nsent = 0;
    struct cut *cut = cut_create(2, NULL, collect, NULL);
    ck_assert_int_eq(cut_start(cut, 5, "/e", 0, NULL), 0);
    ck_assert_uint_eq(nsent, 2);
    return cut;
}

START_TEST(even_ranks_stop_at_once)
{
    struct cut *cut = two_ranks();
    ack(cut, 0, 5, 7, 0);
    ck_assert_int_eq(cut_phase(cut), CUT_ACKING);
    ack(cut, 1, 5, 7, 0);
    ck_assert_int_eq(cut_phase(cut), CUT_ARMING);
    simple(cut, 0, PROTO_ARMED, 5);
    simple(cut, 0, PROTO_ARMED, 5); /* twice is once */
    ck_assert_int_eq(cut_phase(cut), CUT_ARMING);
    simple(cut, 1, PROTO_ARMED, 5);
    ck_assert_int_eq(cut_phase(cut), CUT_STOPPING);
    cut_destroy(cut);
}
END_TEST

START_TEST(waits_for_the_one_behind_and_for_those_inside)
{
    struct cut *cut = two_ranks();
    ack(cut, 0, 5, 8, 1);
    ack(cut, 1, 5, 7, 0);
    simple(cut, 0, PROTO_ARMED, 5);
    simple(cut, 1, PROTO_ARMED, 5);
    ck_assert_int_eq(cut_phase(cut), CUT_GATHERING);
    cut_receive(cut, 1, &(struct proto_msg){.type = PROTO_ENTER, .epoch = 5, .u.coll = {0, 0, 8}},
                0);
    ck_assert_int_eq(cut_phase(cut), CUT_GATHERING);
    cut_receive(cut, 1, &(struct proto_msg){.type = PROTO_LEAVE, .epoch = 5, .u.coll = {0, 0, 8}},
                0);
    ck_assert_int_eq(cut_phase(cut), CUT_GATHERING);
    cut_receive(cut, 0, &(struct proto_msg){.type = PROTO_LEAVE, .epoch = 5, .u.coll = {0, 0, 8}},
                0);
    ck_assert_int_eq(cut_phase(cut), CUT_STOPPING);
    cut_destroy(cut);
}
END_TEST

START_TEST(other_epochs_are_ignored)
{
    struct cut *cut = two_ranks();
    ack(cut, 0, 4, 7, 0);
    ack(cut, 1, 6, 7, 0);
    ck_assert_uint_eq(cut_answers(cut), 0);
    cut_destroy(cut);
}
END_TEST

START_TEST(a_release_raises_the_oldest_hold)
{
    struct cut *cut = two_ranks();
    struct proto_msg hold = {.type = PROTO_HOLD, .epoch = 5, .u.coll = {0, 0, 8}};
    struct proto_msg waits = {.type = PROTO_STATE, .epoch = 5, .u.state = {PROTO_STATE_WAITING, 0}};
    ack(cut, 0, 5, 8, 0);
    ack(cut, 1, 5, 7, 0);
    simple(cut, 0, PROTO_ARMED, 5);
    simple(cut, 1, PROTO_ARMED, 5);
    cut_receive(cut, 0, &hold, 0);
    nsent = 0;
    cut_tick(cut, 1000); /* rank 1 computes: nothing is released however long it takes */
    ck_assert_uint_eq(nsent, 0);
    cut_receive(cut, 1, &waits, 1000);
    cut_tick(cut, 1000 + cut_limits_default.stall_ms);
    ck_assert_uint_eq(nsent, 2);
    ck_assert_int_eq(sent[0].type, PROTO_RAISE);
    ck_assert_uint_eq(sent[0].entered, 9);
    ck_assert_uint_eq(cut_releases(cut), 1);
    cut_destroy(cut);
}
END_TEST

START_TEST(ends_are_told_to_all)
{
    static const struct {
        enum proto_type type;
        const char *reason;
    } ends[] = {{PROTO_UNABLE, "rank 1: x"}, {PROTO_FAILED, "rank 1: x"}};
    for (size_t i = 0; i < 2; i++) {
        struct cut *cut = two_ranks();
        simple(cut, 1, ends[i].type, 5);
        ck_assert_int_eq(cut_phase(cut), CUT_IDLE);
        ck_assert_str_eq(cut_reason(cut), ends[i].reason);
        ck_assert_uint_eq(nsent, 4);
        ck_assert_int_eq(sent[3].type, PROTO_CANCEL);
        ck_assert_str_eq(sent[3].text, ends[i].reason);
        ck_assert_int_eq(cut_start(cut, 6, "/e", 0, NULL), 0);
        cut_destroy(cut);
    }
}
END_TEST

START_TEST(a_silent_rank_is_named)
{
    struct cut *cut = two_ranks();
    ack(cut, 0, 5, 8, 0);
    cut_tick(cut, cut_limits_default.gather_ms);
    ck_assert_int_eq(cut_phase(cut), CUT_IDLE);
    ck_assert_ptr_nonnull(strstr(cut_reason(cut), "waiting for rank 1"));
    cut_destroy(cut);
}
END_TEST

START_TEST(nonsense_cancels)
{
    struct proto_comm wrong[] = {{.gid = 0, .nmembers = 4}, {.gid = 0, .nmembers = 3}};
    for (size_t i = 0; i < 2; i++) {
        struct cut *cut = two_ranks();
        cut_receive(cut, 0,
                    &(struct proto_msg){.type = PROTO_ACK, .epoch = 5, .u.comms = {1, &wrong[i]}},
                    0);
        ck_assert_int_eq(cut_phase(cut), CUT_IDLE);
        cut_destroy(cut);
    }
    struct cut *cut = two_ranks();
    ack(cut, 0, 5, 8, 0);
    cut_receive(cut, 0, &(struct proto_msg){.type = PROTO_LEAVE, .epoch = 5}, 0);
    ck_assert_int_eq(cut_phase(cut), CUT_IDLE);
    cut_destroy(cut);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cut");
    TCase *rules = tcase_create("rules");
    tcase_add_test(rules, even_ranks_stop_at_once);
    tcase_add_test(rules, waits_for_the_one_behind_and_for_those_inside);
    tcase_add_test(rules, other_epochs_are_ignored);
    tcase_add_test(rules, a_release_raises_the_oldest_hold);
    tcase_add_test(rules, ends_are_told_to_all);
    tcase_add_test(rules, a_silent_rank_is_named);
    tcase_add_test(rules, nonsense_cancels);
    suite_add_tcase(suite, rules);
    TCase *random = tcase_create("schedules");
    tcase_set_timeout(random, 120);
    tcase_add_test(random, collectives_only);
    tcase_add_test(random, mixed);
    tcase_add_test(random, mostly_point_to_point);
    suite_add_tcase(suite, random);
    return unit_run(suite);
}
