/*
 * count.c - what this rank has sent, received and completed
 */
#include "msgcounter/stub/count.h"

#include <string.h>

/* Before MPI_Init there are no peers; totals have a place to go. */
static struct counters_file nobody;

struct count count = {.file = &nobody, .due = UINT64_MAX};

static uint64_t next_multiple(uint64_t n, uint64_t every)
{
    return every ? n - n % every + every : UINT64_MAX;
}

static void set_due(void)
{
    uint64_t n = counters_get(&count.file->messages);
    uint64_t from = n < GATE->fine_from ? GATE->fine_from - 1 : n;
    uint64_t fine = next_multiple(from, GATE->mode == GATE_RECORD ? GATE->settings.fine_every : 0);
    uint64_t epoch = next_multiple(n, GATE->settings.epoch_every);
    count.due = fine < epoch ? fine : epoch;
}

void count_due(void)
{
    uint64_t n = counters_get(&count.file->messages);
    if (GATE->mode == GATE_RECORD && GATE->settings.fine_every &&
        n % GATE->settings.fine_every == 0 && n >= GATE->fine_from)
        __atomic_or_fetch(&GATE->word, GATE_WORD_FINE, __ATOMIC_RELAXED);
    if (GATE->settings.epoch_every && n % GATE->settings.epoch_every == 0 && GATE->want_epoch)
        GATE->want_epoch();
    set_due();
}

/* The file that the lower half has mapped for this rank, if it is one for us. */
static struct counters_file *mapped_file(void)
{
    struct counters_file *f = GATE->counters;
    return f && GATE->counters_size >= counters_bytes((uint64_t)count.nranks) ? f : NULL;
}

static void use_file(void)
{
    struct counters_file *f = mapped_file();
    count.file = f ? f : count.own;
    set_due();
}

void count_start(int rank, int size)
{
    if (count.nranks)
        return;
    count.nranks = size;
    count.sent = stub_alloc((size_t)size * sizeof *count.sent);
    count.taken = stub_alloc((size_t)size * sizeof *count.taken);
    count.own = stub_alloc(counters_bytes((uint64_t)size));
    count.own->rank = (uint64_t)rank;
    count.own->size = (uint64_t)size;
    use_file();
}

/* Messages and bytes of a rank's file: what continues after a restart. Identity and position are
 * the new process's own. */
static void copy_counts(struct counters_file *to, const struct counters_file *from)
{
    to->calls = from->calls;
    memcpy(&to->messages, &from->messages,
           offsetof(struct counters_file, reserved1) - offsetof(struct counters_file, messages));
    memcpy(to->peer, from->peer, (size_t)count.nranks * sizeof *to->peer);
}

void count_before_save(void)
{
    if (count.nranks && count.file != count.own)
        copy_counts(count.own, count.file);
}

void count_after_save(int restored)
{
    if (!count.nranks)
        return;
    use_file();
    if (restored && count.file != count.own) {
        copy_counts(count.file, count.own);
        set_due();
    }
}

const uint64_t *count_sent(int *nranks)
{
    *nranks = count.nranks;
    return count.sent;
}
