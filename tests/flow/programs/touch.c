/*
 * touch: each rank touches MIB MiB (random bits: nothing to compress or to drop), then sends 8-byte
 * messages round the ring and dirties PAGES pages between them; for measurements of images.
 *
 * Usage: touch [MIB [MESSAGES [PAGES [MICROSECONDS [REPORT]]]]]: defaults 64, 1000, 10, no pause
 * between messages, no report. REPORT n: rank 0 prints a line every n messages, which shows when a
 * restarted job is alive. Prints a checksum of the memory. Any number of ranks.
 */
#include "check.h"
#include <stdint.h>
#include <time.h>

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void pause_us(long us)
{
    struct timespec t = {us / 1000000, us % 1000000 * 1000};

    if (us > 0)
        nanosleep(&t, NULL);
}

int main(int argc, char **argv)
{
    size_t mib = argc > 1 ? (size_t)atol(argv[1]) : 64;
    long messages = argc > 2 ? atol(argv[2]) : 1000, pages = argc > 3 ? atol(argv[3]) : 10;
    long us = argc > 4 ? atol(argv[4]) : 0, report = argc > 5 ? atol(argv[5]) : 0;
    size_t words = mib << 17, page_words = 4096 / sizeof(uint64_t);
    uint64_t state, sum = 0, all;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    uint64_t *memory = malloc(words * sizeof(*memory) + 1);
    CHECK(memory);
    state = 0x9e3779b97f4a7c15u + (uint64_t)rank;
    for (size_t i = 0; i < words; i++)
        memory[i] = next_random(&state);
    MPI_Barrier(MPI_COMM_WORLD);
    if (rank == 0) {
        printf("touched %zu MiB\n", mib);
        fflush(stdout);
    }
    for (long m = 0; m < messages; m++) {
        uint64_t coming;

        MPI_Sendrecv(&state, 1, MPI_UINT64_T, neighbour(1), 1, &coming, 1, MPI_UINT64_T,
                     neighbour(-1), 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        state = coming | 1;
        for (long p = 0; p < pages && words > 0; p++)
            memory[next_random(&state) % (words / page_words) * page_words] += coming;
        pause_us(us);
        if (rank == 0 && report > 0 && (m + 1) % report == 0) {
            printf("message %ld\n", m + 1);
            fflush(stdout);
        }
    }
    for (size_t i = 0; i < words; i++)
        sum = sum * 31 + memory[i];
    MPI_Reduce(&sum, &all, 1, MPI_UINT64_T, MPI_BXOR, 0, MPI_COMM_WORLD);
    if (rank == 0)
        printf("checksum %016lx\nOK touch\n", (unsigned long)all);
    free(memory);
    MPI_Finalize();
    return 0;
}
