/*
 * storm.c - epochs at random calls, for tests
 */
#include "msgcounter/stub/storm.h"

#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>

#include "msgcounter/stub/stub.h"
#include "runtime/half/sys.h"

/* An epoch that cannot begin (an object forbids it, the job ends) is waited for no longer. */
#define BEGIN_NS 100000000
#define TURN_NS  50000

static struct {
    uint64_t seed; /* of the settings these were made from: another one starts anew */
    uint64_t random, mean;
    int64_t left; /* calls until the next one */
} storm;

/* xorshift64* (Vigna 2016): no libc, whose state belongs to the application. */
static uint64_t next_random(void)
{
    storm.random ^= storm.random >> 12;
    storm.random ^= storm.random << 25;
    storm.random ^= storm.random >> 27;
    return storm.random * 0x2545f4914f6cdd1dull;
}

static void choose(void)
{
    int64_t left = (int64_t)(1 + next_random() % (2 * storm.mean));
    storm.mean += storm.mean / 4 + 1;
    __atomic_store_n(&storm.left, left, __ATOMIC_RELAXED);
}

static void start(void)
{
    storm.seed = GATE->settings.storm_seed;
    storm.random = (storm.seed + 1) * 0x9e3779b97f4a7c15ull;
    storm.mean = GATE->settings.storm_calls;
    choose();
}

static void await_intent(void)
{
    const struct timespec turn = {.tv_nsec = TURN_NS};
    for (int waited = 0; waited < BEGIN_NS; waited += TURN_NS) {
        if (GATE->word & (GATE_WORD_INTENT | GATE_WORD_PARK))
            return;
        sys_call(SYS_nanosleep, (long)&turn, 0, 0, 0, 0, 0);
    }
}

void storm_call(void)
{
    if (storm.mean == 0 || storm.seed != GATE->settings.storm_seed)
        start();
    if (__atomic_sub_fetch(&storm.left, 1, __ATOMIC_RELAXED) != 0)
        return;
    choose();
    GATE->want_epoch();
    await_intent();
}
