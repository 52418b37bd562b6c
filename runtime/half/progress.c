/*
 * progress.c - gives the processor away while MPI waits for a peer that needs it
 *
 * MPICH waits by polling: a collective in which ranks outnumber cores spends the time slices of
 * those that wait, until the kernel takes the core from them (ten ranks on two cores: a tenfold run
 * time). Point-to-point waits are loops of ours (p2p_loops.c); collectives, windows, files and
 * MPI_Finalize wait inside MPI. All of them come through UCX's progress function in every turn, and
 * libmpich.so binds it by name: the program's definition comes first.
 */
#include <dlfcn.h>
#include <sched.h>

#include "runtime/half/gate.h"

/* Turns without progress before the processor is offered; each is a look at memory, some 50 ns. */
#define IDLE_TURNS 20

unsigned ucp_worker_progress(void *worker);

unsigned ucp_worker_progress(void *worker)
{
    static __typeof__(ucp_worker_progress) *real;
    static __thread unsigned idle;
    if (__builtin_expect(!real, 0))
        real = (__typeof__(real))dlsym(RTLD_NEXT, "ucp_worker_progress");
    unsigned events = real(worker);
    if (events || !GATE->settings.oversubscribed) {
        idle = 0;
    } else if (++idle == IDLE_TURNS) {
        sched_yield();
        idle = 0;
    }
    return events;
}
