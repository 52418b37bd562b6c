/*
 * census.c - what of a kind every rank has, at a restart
 */
#include "msgcounter/stub/census.h"

#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/call.h"

int census_take(struct census *all, const uint64_t *mine, int n)
{
    all->size = comm_world.size;
    all->counts = stub_alloc(2 * (size_t)all->size * sizeof(int));
    all->starts = all->counts + all->size;
    int rc = mpi_cross(CALL_MPI_Allgather, (uint64_t)&n, 1, (uint64_t)MPI_INT,
                       (uint64_t)all->counts, 1, (uint64_t)MPI_INT, MPI_COMM_WORLD);
    int total = 0;
    for (int r = 0; r < all->size; r++) {
        all->starts[r] = total;
        total += all->counts[r];
    }
    all->keys = stub_alloc((size_t)total * sizeof *all->keys);
    return rc ? rc
              : mpi_cross(CALL_MPI_Allgatherv, (uint64_t)mine, (uint64_t)n, (uint64_t)MPI_UINT64_T,
                          (uint64_t)all->keys, (uint64_t)all->counts, (uint64_t)all->starts,
                          (uint64_t)MPI_UINT64_T, MPI_COMM_WORLD);
}

bool census_has(const struct census *all, int rank, uint64_t key)
{
    const uint64_t *k = all->keys + all->starts[rank];
    int low = 0, high = all->counts[rank];
    while (low < high) {
        int mid = (low + high) / 2;
        if (k[mid] < key)
            low = mid + 1;
        else
            high = mid;
    }
    return low < all->counts[rank] && k[low] == key;
}

bool census_whole(const struct census *all, uint64_t key, const struct comm *c)
{
    for (int i = 0; i < c->size; i++)
        if (!census_has(all, c->members ? c->members[i] : i, key))
            return false;
    for (int i = 0; i < c->remote_size; i++)
        if (!census_has(all, c->remote[i], key))
            return false;
    return true;
}

void census_free(struct census *all)
{
    stub_free(all->counts);
    stub_free(all->keys);
}
