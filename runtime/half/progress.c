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

/* Turns without progress before the processor is offered; each is a look at memory, some 50 ns.
 * Where each rank has a core of its own other programs may still want it: then rarely enough that
 * the system call does not count. */
#define IDLE_SHARED 20
#define IDLE_ALONE  500

unsigned ucp_worker_progress(void *worker);

unsigned ucp_worker_progress(void *worker)
{
    static __typeof__(ucp_worker_progress) *real;
    static __thread unsigned idle;
    if (__builtin_expect(!real, 0))
        real = (__typeof__(real))dlsym(RTLD_NEXT, "ucp_worker_progress");
    if (__builtin_expect(!worker, 0))
        return 0; /* a session of mpi://self: MPICH polls a network that it has not opened */
    unsigned events = real(worker);
    if (events) {
        idle = 0;
    } else if (++idle >= (GATE->settings.oversubscribed ? IDLE_SHARED : IDLE_ALONE)) {
        sched_yield();
        idle = 0;
    }
    return events;
}
