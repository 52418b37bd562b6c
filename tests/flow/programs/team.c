/*
 * team: threads that a debugger goes back among. In each step a rank passes a number on round the
 * ring; two visitors, threads that the main thread makes and waits for, each put their name on a
 * board; then the foreman, a thread that lives as long as the rank does, adds up what the board
 * points at. In the last step the second visitor of rank 1 takes that away, and the foreman, woken
 * later, fails: the culprit has ended by then.
 *
 * Usage: team [STEPS [WORK]]: defaults 40, 200 additions a thread and step. At least two ranks.
 */
#include "check.h"
#include <pthread.h>
#include <stdint.h>

enum { VISITORS = 2 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    long step;      /* that the foreman is to look at; 0: none */
    long last;      /* who put a name on the board */
    long visits;
    uint64_t *sum;
    bool leave;
} board = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static uint64_t total;
static long steps = 40, work = 200, now;

static __attribute__((noinline)) uint64_t add(uint64_t sum, uint64_t more)
{
    for (unsigned bit = 0; bit < 4; bit++)
        sum ^= more << bit;
    return sum + more;
}

static __attribute__((noinline)) uint64_t add_up(uint64_t from)
{
    uint64_t sum = from;
    for (long i = 0; i < work; i++)
        sum = add(sum, (uint64_t)i ^ from);
    return sum;
}

static __attribute__((noinline)) void sign(long who)
{
    board.last = who;
    board.visits++;
    if (rank == 1 && now == steps && who == VISITORS)
        board.sum = NULL; /* the culprit */
}

static void *visit(void *arg)
{
    long who = *(long *)arg;

    add_up((uint64_t)who);
    pthread_mutex_lock(&board.lock);
    sign(who);
    pthread_mutex_unlock(&board.lock);
    return NULL;
}

static __attribute__((noinline)) void inspect(long step)
{
    *board.sum += add_up((uint64_t)(step + board.last));
}

static void *foreman(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&board.lock);
    while (!board.leave) {
        if (board.step) {
            inspect(board.step);
            board.step = 0;
            pthread_cond_broadcast(&board.changed);
        }
        pthread_cond_wait(&board.changed, &board.lock);
    }
    pthread_mutex_unlock(&board.lock);
    return NULL;
}

static void have_inspected(long step)
{
    pthread_mutex_lock(&board.lock);
    board.step = step;
    pthread_cond_broadcast(&board.changed);
    while (board.step)
        pthread_cond_wait(&board.changed, &board.lock);
    pthread_mutex_unlock(&board.lock);
}

static void have_visitors(void)
{
    static long names[VISITORS];
    pthread_t visitor[VISITORS];

    for (long i = 0; i < VISITORS; i++) {
        names[i] = i + 1;
        CHECK(pthread_create(&visitor[i], NULL, visit, &names[i]) == 0);
    }
    for (long i = 0; i < VISITORS; i++)
        CHECK(pthread_join(visitor[i], NULL) == 0);
}

int main(int argc, char **argv)
{
    pthread_t chief;
    int level;

    if (argc > 1)
        steps = atol(argv[1]);
    if (argc > 2)
        work = atol(argv[2]);
    MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    board.sum = &total;
    CHECK(pthread_create(&chief, NULL, foreman, NULL) == 0);
    for (now = 1; now <= steps; now++) {
        uint64_t coming = 0, going = total;

        MPI_Sendrecv(&going, 1, MPI_UINT64_T, neighbour(1), 1, &coming, 1, MPI_UINT64_T,
                     neighbour(-1), 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        have_visitors();
        have_inspected(now);
        total += coming;
    }
    pthread_mutex_lock(&board.lock);
    board.leave = true;
    pthread_cond_broadcast(&board.changed);
    pthread_mutex_unlock(&board.lock);
    CHECK(pthread_join(chief, NULL) == 0);
    MPI_Finalize();
    return 0;
}
