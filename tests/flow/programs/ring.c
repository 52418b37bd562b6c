/*
 * ring: a token goes round; each rank adds to it. The smallest program with a long dependency.
 *
 * Usage: ring [LAPS [BYTES]] (default 500 laps, 64 bytes). Ranks: 2 or more. LAPS may be a file
 * (see check.h); then the token, which depends on the number of laps, is checked and not printed.
 */
#include "check.h"
#include <stdint.h>

static uint64_t pass(uint64_t token, int by)
{
    return token * 6364136223846793005u + (uint64_t)by;
}

/* What the token is after so many laps. */
static uint64_t expected(long laps)
{
    uint64_t token = 1;

    for (long lap = 0; lap < laps; lap++)
        for (int i = 1; i <= size; i++)
            token = pass(token, i % size);
    return token;
}

int main(int argc, char **argv)
{
    const char *laps = argc > 1 ? argv[1] : "500";
    int bytes = argc > 2 ? atoi(argv[2]) : 64;
    long lap;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(size > 1 && bytes >= (int)sizeof(uint64_t));
    char *message = calloc((size_t)bytes, 1);
    CHECK(message);
    uint64_t token = 1;
    memcpy(message, &token, sizeof(token));
    for (lap = 0; check_more(laps, lap); lap++) {
        int tag = (int)(lap % 100);

        if (rank == 0)
            MPI_Send(message, bytes, MPI_BYTE, 1, tag, MPI_COMM_WORLD);
        MPI_Recv(message, bytes, MPI_BYTE, neighbour(-1), tag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        memcpy(&token, message, sizeof(token));
        token = pass(token, rank);
        memcpy(message, &token, sizeof(token));
        message[bytes - 1] ^= (char)(bytes > 8 ? lap : 0);
        if (rank != 0)
            MPI_Send(message, bytes, MPI_BYTE, neighbour(1), tag, MPI_COMM_WORLD);
    }
    if (rank == 0) {
        CHECK(token == expected(lap));
        if (check_counted(laps))
            printf("token %016lx\n", (unsigned long)token);
        printf("OK ring\n");
    }
    free(message);
    MPI_Finalize();
    return 0;
}
