/*
 * ring: a token goes round; each rank adds to it. The smallest program with a long dependency.
 *
 * Usage: ring [LAPS [BYTES]] (default 500 laps, 64 bytes). Ranks: 2 or more.
 */
#include "check.h"
#include <stdint.h>

int main(int argc, char **argv)
{
    int laps = argc > 1 ? atoi(argv[1]) : 500, bytes = argc > 2 ? atoi(argv[2]) : 64;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &size);
    CHECK(size > 1 && bytes >= (int)sizeof(uint64_t));
    char *message = calloc((size_t)bytes, 1);
    CHECK(message);
    uint64_t token = 1;
    for (int lap = 0; lap < laps; lap++) {
        if (rank == 0) {
            memcpy(message, &token, sizeof(token));
            message[bytes - 1] ^= (char)lap;
            MPI_Send(message, bytes, MPI_BYTE, 1, lap % 100, MPI_COMM_WORLD);
        }
        MPI_Recv(message, bytes, MPI_BYTE, neighbour(-1), lap % 100, MPI_COMM_WORLD,
                 MPI_STATUS_IGNORE);
        memcpy(&token, message, sizeof(token));
        token = token * 6364136223846793005u + (uint64_t)rank;
        memcpy(message, &token, sizeof(token));
        if (rank != 0)
            MPI_Send(message, bytes, MPI_BYTE, neighbour(1), lap % 100, MPI_COMM_WORLD);
    }
    if (rank == 0)
        printf("token %016lx\nOK ring\n", (unsigned long)token);
    free(message);
    MPI_Finalize();
    return 0;
}
