/*
 * order: everything that MPI leaves to chance between ranks of one thread. Rank 0 receives from all
 * others in every way that lets chance choose (MPI_ANY_SOURCE, sets of requests, tests and probes)
 * and prints what it chose: sources, indices, how often a test found nothing. Two runs print
 * different lines; a run that dbg3 refine makes again prints those of the run before.
 *
 * The others send at moments of chance, each its own numbered sequence, which rank 0 checks.
 *
 * Usage: order [ROUNDS [CASE]]. Ranks: 2 to 8.
 */
#include "check.h"
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum { EACH = 6, RANKS_MAX = 8, ALL_MAX = EACH * (RANKS_MAX - 1), TAG = 10, TAG_SPREAD = 3 };

static int due[RANKS_MAX]; /* number of the next message of each rank in this case */

/* ---- senders ---- */

/* Chance: another in each process of each run. */
static uint64_t chance(void)
{
    static uint64_t x;
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    x = (x ^ (uint64_t)now.tv_nsec) * 6364136223846793005u + (uint64_t)rank;
    return x >> 40;
}

static void dawdle(void)
{
    volatile unsigned work = 0;

    for (uint64_t n = chance() % 20000; work < n; work++)
        ;
}

static int tag_of(int number)
{
    return TAG + number % TAG_SPREAD;
}

static void send_all(void)
{
    for (int number = 0; number < EACH; number++) {
        dawdle();
        MPI_Send(&number, 1, MPI_INT, 0, tag_of(number), MPI_COMM_WORLD);
    }
    MPI_Barrier(MPI_COMM_WORLD); /* what is sent next is not for this case */
}

/* ---- what rank 0 notes ---- */

static void begin(const char *name, int round)
{
    printf("%d %s:", round, name);
    memset(due, 0, sizeof(due));
}

static void end(void)
{
    for (int r = 1; r < size; r++)
        CHECK(due[r] == EACH);
    printf("\n");
    fflush(stdout);
    MPI_Barrier(MPI_COMM_WORLD);
}

/* A message has come: it is the next one of its source. */
static void came(int number, const MPI_Status *status)
{
    int count;

    MPI_Get_count(status, MPI_INT, &count);
    CHECK(count == 1 && status->MPI_SOURCE > 0 && status->MPI_SOURCE < size);
    CHECK(number == due[status->MPI_SOURCE]);
    CHECK(status->MPI_TAG == tag_of(number));
    due[status->MPI_SOURCE]++;
    printf(" %d", status->MPI_SOURCE);
}

static int all(void)
{
    return EACH * (size - 1);
}

/* ---- one receive from any source ---- */

static void take_recv(void)
{
    MPI_Status status;
    int number;

    MPI_Recv(&number, 1, MPI_INT, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &status);
    came(number, &status);
}

static void take_irecv(void)
{
    MPI_Request request;
    MPI_Status status;
    int number;

    MPI_Irecv(&number, 1, MPI_INT, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &request);
    MPI_Wait(&request, &status);
    came(number, &status);
}

static void take_sendrecv(void)
{
    MPI_Status status;
    int number;

    MPI_Sendrecv(NULL, 0, MPI_INT, MPI_PROC_NULL, 0, &number, 1, MPI_INT, MPI_ANY_SOURCE,
                 MPI_ANY_TAG, MPI_COMM_WORLD, &status);
    came(number, &status);
}

static void take_test(void)
{
    MPI_Request request;
    MPI_Status status;
    int number, flag = 0, asked = 0;

    MPI_Irecv(&number, 1, MPI_INT, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &request);
    for (; !flag; asked++)
        MPI_Test(&request, &flag, &status);
    printf(" %dx", asked);
    came(number, &status);
}

static void take_get_status(void)
{
    MPI_Request request;
    MPI_Status status;
    int number, flag = 0, asked = 0;

    MPI_Irecv(&number, 1, MPI_INT, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &request);
    for (; !flag; asked++)
        MPI_Request_get_status(request, &flag, &status);
    printf(" %dx", asked);
    MPI_Wait(&request, &status);
    came(number, &status);
}

static void take_probe(void)
{
    MPI_Status status;
    int number;

    MPI_Probe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &status);
    MPI_Recv(&number, 1, MPI_INT, status.MPI_SOURCE, status.MPI_TAG, MPI_COMM_WORLD, &status);
    came(number, &status);
}

static void take_iprobe(void)
{
    MPI_Status status;
    int number, flag = 0, asked = 0;

    for (; !flag; asked++)
        MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &flag, &status);
    printf(" %dx", asked);
    MPI_Recv(&number, 1, MPI_INT, status.MPI_SOURCE, status.MPI_TAG, MPI_COMM_WORLD, &status);
    came(number, &status);
}

static void take_mprobe(void)
{
    MPI_Message message;
    MPI_Status status;
    int number;

    MPI_Mprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &message, &status);
    MPI_Mrecv(&number, 1, MPI_INT, &message, &status);
    came(number, &status);
}

static void take_improbe(void)
{
    MPI_Message message;
    MPI_Request request;
    MPI_Status status;
    int number, flag = 0, asked = 0;

    for (; !flag; asked++)
        MPI_Improbe(MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD, &flag, &message, &status);
    printf(" %dx", asked);
    MPI_Imrecv(&number, 1, MPI_INT, &message, &request);
    MPI_Wait(&request, &status);
    came(number, &status);
}

/* Asks a named rank after the other: where the message is found is what chance decides. */
static void take_from_each(void)
{
    MPI_Status status;
    int number, flag = 0, asked = 0, source = 0;

    for (; !flag; asked++) {
        source = 1 + source % (size - 1);
        MPI_Iprobe(source, MPI_ANY_TAG, MPI_COMM_WORLD, &flag, &status);
    }
    printf(" %dx", asked);
    MPI_Recv(&number, 1, MPI_INT, source, MPI_ANY_TAG, MPI_COMM_WORLD, &status);
    came(number, &status);
}

static void one_by_one(const char *name, int round, void (*take)(void))
{
    if (rank > 0) {
        send_all();
        return;
    }
    begin(name, round);
    for (int i = 0; i < all(); i++)
        take();
    end();
}

/* ---- sets of receives ---- */

struct set {
    int n, number[ALL_MAX], source[ALL_MAX];
    MPI_Request request[ALL_MAX];
    int pending;
};

/* A receive for each message: from anybody, or each from its source. */
static void post(struct set *set, bool any)
{
    set->n = set->pending = all();
    for (int i = 0; i < set->n; i++) {
        set->source[i] = any ? MPI_ANY_SOURCE : 1 + i % (size - 1);
        MPI_Irecv(&set->number[i], 1, MPI_INT, set->source[i], MPI_ANY_TAG, MPI_COMM_WORLD,
                  &set->request[i]);
    }
}

/* Element i has completed. Those of one source, or of all, do so in any order among others. */
static void completed(struct set *set, int i, const MPI_Status *status)
{
    CHECK(i >= 0 && i < set->n && set->request[i] == MPI_REQUEST_NULL);
    CHECK(set->source[i] == MPI_ANY_SOURCE || set->source[i] == status->MPI_SOURCE);
    CHECK(status->MPI_TAG == tag_of(set->number[i]));
    due[status->MPI_SOURCE]++;
    set->pending--;
    printf(" %d/%d.%d", i, status->MPI_SOURCE, set->number[i]);
}

static void complete_waitany(struct set *set)
{
    MPI_Status status;
    int i;

    MPI_Waitany(set->n, set->request, &i, &status);
    completed(set, i, &status);
}

static void complete_testany(struct set *set)
{
    MPI_Status status;
    int i, flag = 0, asked = 0;

    for (; !flag; asked++)
        MPI_Testany(set->n, set->request, &i, &flag, &status);
    printf(" %dx", asked);
    completed(set, i, &status);
}

static void complete_waitsome(struct set *set)
{
    MPI_Status status[ALL_MAX];
    int done[ALL_MAX], n;

    MPI_Waitsome(set->n, set->request, &n, done, status);
    CHECK(n > 0 && n <= set->pending);
    printf(" some");
    for (int k = 0; k < n; k++)
        completed(set, done[k], &status[k]);
}

static void complete_testsome(struct set *set)
{
    MPI_Status status[ALL_MAX];
    int done[ALL_MAX], n = 0, asked = 0;

    for (; n == 0; asked++)
        MPI_Testsome(set->n, set->request, &n, done, status);
    CHECK(n > 0 && n <= set->pending);
    printf(" %dx some", asked);
    for (int k = 0; k < n; k++)
        completed(set, done[k], &status[k]);
}

static void complete_testall(struct set *set)
{
    MPI_Status status[ALL_MAX];
    int flag = 0, asked = 0;

    for (; !flag; asked++)
        MPI_Testall(set->n, set->request, &flag, status);
    printf(" %dx", asked);
    for (int i = 0; i < set->n; i++)
        completed(set, i, &status[i]);
}

static void complete_waitall(struct set *set)
{
    MPI_Status status[ALL_MAX];

    MPI_Waitall(set->n, set->request, status);
    for (int i = 0; i < set->n; i++)
        completed(set, i, &status[i]);
}

static void in_sets(const char *name, int round, void (*complete)(struct set *set))
{
    for (int any = 0; any < 2; any++) {
        struct set set;

        if (rank > 0) {
            send_all();
            continue;
        }
        begin(name, round);
        post(&set, any);
        while (set.pending > 0)
            complete(&set);
        end();
    }
}

/* ---- persistent receives from anybody, several active ---- */

static void persistent(int round)
{
    enum { ACTIVE = 3 };
    MPI_Request request[ACTIVE];
    MPI_Status status;
    int number[ACTIVE], i;

    if (rank > 0) {
        send_all();
        return;
    }
    begin("persistent", round);
    for (i = 0; i < ACTIVE; i++)
        MPI_Recv_init(&number[i], 1, MPI_INT, MPI_ANY_SOURCE, MPI_ANY_TAG, MPI_COMM_WORLD,
                      &request[i]);
    MPI_Startall(ACTIVE, request);
    for (int started = ACTIVE, done = 0; done < all(); done++) {
        MPI_Waitany(ACTIVE, request, &i, &status);
        CHECK(status.MPI_TAG == tag_of(number[i]));
        due[status.MPI_SOURCE]++;
        printf(" %d/%d", i, status.MPI_SOURCE);
        if (started++ < all())
            MPI_Start(&request[i]);
    }
    for (i = 0; i < ACTIVE; i++)
        MPI_Request_free(&request[i]);
    end();
}

/* ---- the table ---- */

#define ONE(name)                                                                                  \
    static void run_##name(int round)                                                              \
    {                                                                                              \
        one_by_one(#name, round, take_##name);                                                     \
    }
#define SET(name)                                                                                  \
    static void run_##name(int round)                                                              \
    {                                                                                              \
        in_sets(#name, round, complete_##name);                                                    \
    }

ONE(recv)
ONE(irecv)
ONE(sendrecv)
ONE(test)
ONE(get_status)
ONE(probe)
ONE(iprobe)
ONE(mprobe)
ONE(improbe)
ONE(from_each)
SET(waitany)
SET(testany)
SET(waitsome)
SET(testsome)
SET(testall)
SET(waitall)

static const struct check_case cases[] = {
    {"recv", run_recv},           {"irecv", run_irecv},         {"sendrecv", run_sendrecv},
    {"test", run_test},           {"get_status", run_get_status}, {"probe", run_probe},
    {"iprobe", run_iprobe},       {"mprobe", run_mprobe},       {"improbe", run_improbe},
    {"from_each", run_from_each}, {"waitany", run_waitany},     {"testany", run_testany},
    {"waitsome", run_waitsome},   {"testsome", run_testsome},   {"testall", run_testall},
    {"waitall", run_waitall},     {"persistent", persistent},   {NULL, NULL},
};

int main(int argc, char **argv)
{
    return check_main(argc, argv, "order", cases, 4);
}
