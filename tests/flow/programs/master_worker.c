/*
 * master_worker: the master keeps two receives a worker posted and completes them in whatever order
 * they come (Waitany, then Testsome); workers are found by MPI_ANY_SOURCE. Who does which task
 * differs from run to run; the sum of all results does not.
 *
 * Usage: master_worker [TASKS] (default 4000). Ranks: 2 or more. TASKS may be a file: tasks are
 * given out until it is there, and the sum, which depends on their number, is not printed.
 */
#include "check.h"
#include <stdint.h>

enum { TAG_HELLO = 1, TAG_TASK, TAG_RESULT, POSTED = 2, MAX_WORKERS = 64 };

struct result {
    int64_t task;
    uint64_t value;
};

static uint64_t solve(int64_t task)
{
    uint64_t x = (uint64_t)task * 2654435761u + 1;

    for (int64_t i = 0; i < 20000 + task % 7 * 5000; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return x;
}

struct master {
    const char *until; /* a file, or NULL */
    int64_t tasks, next, done;
    uint64_t sum;
    int requests;
    MPI_Request reqs[POSTED * MAX_WORKERS];
    struct result results[POSTED * MAX_WORKERS];
};

/* Hands out the next task and posts the receive for its result in `slot`; no task: leaves it null.
 */
static void hand_out(struct master *m, int slot, int worker)
{
    if (m->until && m->next < m->tasks && access(m->until, F_OK) == 0)
        m->tasks = m->next;
    if (m->next == m->tasks)
        return;
    MPI_Irecv(&m->results[slot], sizeof(struct result), MPI_BYTE, worker, TAG_RESULT,
              MPI_COMM_WORLD, &m->reqs[slot]);
    MPI_Send(&m->next, 1, MPI_INT64_T, worker, TAG_TASK, MPI_COMM_WORLD);
    m->next++;
}

static void take(struct master *m, int slot, const MPI_Status *status)
{
    struct result result = m->results[slot];

    CHECK(result.task >= 0 && result.task < m->tasks);
    if (result.task % 16 == 0)
        CHECK(result.value == solve(result.task));
    m->sum += result.value * (uint64_t)(result.task + 1);
    m->done++;
    hand_out(m, slot, status->MPI_SOURCE);
}

static void greet(struct master *m)
{
    for (int i = 0; i < m->requests; i++) {
        MPI_Status status;
        int slot;

        MPI_Recv(&slot, 1, MPI_INT, MPI_ANY_SOURCE, TAG_HELLO, MPI_COMM_WORLD, &status);
        hand_out(m, (status.MPI_SOURCE - 1) * POSTED + slot, status.MPI_SOURCE);
    }
}

static void collect_some(struct master *m)
{
    MPI_Status statuses[POSTED * MAX_WORKERS];
    int slots[POSTED * MAX_WORKERS], n;

    MPI_Testsome(m->requests, m->reqs, &n, slots, statuses);
    for (int i = 0; n != MPI_UNDEFINED && i < n; i++)
        take(m, slots[i], &statuses[i]);
}

static void master(const char *tasks)
{
    static struct master m;
    int64_t stop = -1;

    m.until = check_counted(tasks) ? NULL : tasks;
    m.tasks = m.until ? INT64_MAX : atol(tasks);
    m.requests = POSTED * (size - 1);
    for (int i = 0; i < m.requests; i++)
        m.reqs[i] = MPI_REQUEST_NULL;
    greet(&m);
    while (m.done < m.tasks) {
        MPI_Status status;
        int slot;

        MPI_Waitany(m.requests, m.reqs, &slot, &status);
        CHECK(slot != MPI_UNDEFINED);
        take(&m, slot, &status);
        collect_some(&m);
    }
    CHECK(m.done == m.next);
    for (int worker = 1; worker < size; worker++)
        MPI_Send(&stop, 1, MPI_INT64_T, worker, TAG_TASK, MPI_COMM_WORLD);
    if (!m.until)
        printf("%ld tasks, sum %016lx\n", (long)m.tasks, (unsigned long)m.sum);
    printf("OK master_worker\n");
}

static void worker(void)
{
    for (int slot = 0; slot < POSTED; slot++)
        MPI_Send(&slot, 1, MPI_INT, 0, TAG_HELLO, MPI_COMM_WORLD);
    for (;;) {
        struct result result;

        MPI_Recv(&result.task, 1, MPI_INT64_T, 0, TAG_TASK, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        if (result.task < 0)
            return;
        result.value = solve(result.task);
        MPI_Send(&result, sizeof(result), MPI_BYTE, 0, TAG_RESULT, MPI_COMM_WORLD);
    }
}

int main(int argc, char **argv)
{
    const char *tasks = argc > 1 ? argv[1] : "4000";

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(size > 1 && size <= MAX_WORKERS);
    if (rank == 0)
        master(tasks);
    else
        worker();
    MPI_Finalize();
    return 0;
}
