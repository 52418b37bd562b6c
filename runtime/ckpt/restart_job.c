/*
 * restart_job.c - restart of a whole job: one rank's part
 *
 * MPI is started first, because only it knows which rank this process is; then the rank's image is
 * mapped, and the stub gives communicators, datatypes and requests to the new MPI.
 */
#include "runtime/ckpt/restart.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/ckpt/agent.h"
#include "runtime/ckpt/files.h"
#include "runtime/ckpt/save.h"
#include "runtime/half/gate.h"
#include "runtime/half/lower_mpi.h"
#include "runtime/half/own_fd.h"

#define VERIFY_FIRST (64 << 20) /* bytes: about 25 ms */

static void image_name(char *buf, size_t cap, const char *folder, int rank)
{
    snprintf(buf, cap, "%s/rank-%d.img", folder, rank);
}

/* What a launcher says of a process before MPI is started, `otherwise` if it says nothing. */
static int guess(const char *const names[3], int otherwise)
{
    for (size_t i = 0; i < 3; i++)
        if (getenv(names[i]))
            return atoi(getenv(names[i]));
    return otherwise;
}

static int rank_guess(void)
{
    static const char *const names[] = {"PMI_RANK", "PMIX_RANK", "SLURM_PROCID"};
    return guess(names, 0);
}

static int size_guess(void)
{
    static const char *const names[] = {"PMI_SIZE", "PMIX_SIZE", "SLURM_NTASKS"};
    return guess(names, 0);
}

/* ---- checksums ---- */

/* A thread of the lower half, at the lowest priority. */
static void *verify_thread(void *path)
{
    struct err err;
    setpriority(PRIO_PROCESS, (id_t)gettid(), 19);
    own_fd_unshare();
    if (image_verify(path, &err) < 0)
        agent_refuse(save_identity.rank, save_identity.size, &err);
    free(path);
    return NULL;
}

/*
 * Small images are verified before they are used. Of a large one this would cost more than all the
 * rest of the restart: the rank starts, and is ended with a clear line if a checksum turns out
 * wrong.
 */
static void verify(const struct image *image, const char *path)
{
    struct stat st;
    struct err err;
    pthread_t thread;
    char *copy = strdup(path);
    bool later = fstat(image_chain_fd(image, 0), &st) == 0 && st.st_size > VERIFY_FIRST && copy &&
                 pthread_create(&thread, NULL, verify_thread, copy) == 0;
    if (later) {
        pthread_detach(thread);
        return;
    }
    free(copy);
    if (image_verify(path, &err) < 0)
        agent_refuse(image_state(image)->meta.rank, image_state(image)->meta.size, &err);
}

void restart_run(const struct half_env *env)
{
    struct err err;
    char path[4096];
    size_t size;
    int nranks;
    image_name(path, sizeof path, env->epoch, rank_guess());
    own_fd_reserve();
    struct image *image = image_open(path, &err);
    if (!image)
        agent_refuse(rank_guess(), size_guess(), &err);
    const struct save_blob *blob = image_blob_find(image_state(image), SAVE_BLOB, &size);
    own_fd_unreserve();
    files_occupy(image_state(image));
    int rank = lower_mpi_init(blob ? (int)blob->mpi_level : 0, &nranks);
    if (rank != image_state(image)->meta.rank) {
        image_close(image);
        image_name(path, sizeof path, env->epoch, rank);
        own_fd_reserve();
        image = image_open(path, &err);
        own_fd_unreserve();
        if (!image)
            agent_refuse(rank, nranks, &err);
    }
    const struct image_state *state = image_state(image);
    if (state->meta.size != nranks) {
        err_set(&err, "%s is of a job of %d ranks, this one has %d; give the launcher -n %d", path,
                state->meta.size, nranks, state->meta.size);
        agent_refuse(rank, nranks, &err);
    }
    verify(image, path);
    if (restart_memory(image, &err) < 0 || restart_threads(state, &err) < 0)
        agent_refuse(rank, nranks, &err);
    lower_mpi_barrier(); /* nobody writes to a file that another rank has yet to cut back */
    if (agent_restarted(state, &err) < 0)
        agent_refuse(rank, nranks, &err);
    if (restart_on_upper_fs(state, GATE->stub->rebuild) < 0)
        _exit(HALF_EXIT);
    restart_after_save(state);
    agent_running();
    restart_go(state);
}
