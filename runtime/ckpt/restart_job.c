/*
 * restart_job.c - restart of a whole job: one rank's part
 *
 * MPI is started first, because only it knows which rank this process is; then the rank's image is
 * mapped, and the stub gives communicators, datatypes and requests to the new MPI.
 */
#include "runtime/ckpt/restart.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/ckpt/agent.h"
#include "runtime/ckpt/files.h"
#include "runtime/ckpt/save.h"
#include "runtime/half/gate.h"
#include "runtime/half/lower_mpi.h"
#include "runtime/half/own_fd.h"

#define VERIFY_FIRST (16 << 20) /* bytes: about 6 ms */

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

struct verify {
    char *path;
    struct err err;
    int rc;
};

/* A thread of the lower half that takes only what the ranks leave of the cores. Its descriptors are
 * its own: the rank runs already, and may be saved. */
static void *check_image(void *arg)
{
    struct verify *v = arg;
    sched_setscheduler(0, SCHED_IDLE, &(struct sched_param){0});
    own_fd_unshare();
    v->rc = image_verify(v->path, &v->err);
    return NULL;
}

static void *verify_thread(void *path)
{
    struct verify v = {.path = path};
    pthread_t checker;
    if (pthread_create(&checker, NULL, check_image, &v) == 0)
        pthread_join(checker, NULL);
    if (v.rc < 0)
        agent_refuse(save_identity.rank, save_identity.size, &v.err);
    free(path);
    return NULL;
}

/*
 * Small images are verified before they are used. Of a large one this would cost more than all the
 * rest of the restart: the rank starts, and is ended with a clear line if a checksum turns out
 * wrong.
 */
static bool verify_later(const struct image *image)
{
    struct stat st;
    return fstat(image_chain_fd(image, 0), &st) == 0 && st.st_size > VERIFY_FIRST;
}

static void verify_now(const struct image *image)
{
    struct err err;
    const struct image_meta *meta = &image_state(image)->meta;
    if (image_verify(image_chain_path(image, 0), &err) < 0)
        agent_refuse(meta->rank, meta->size, &err);
}

/* Everything that the rank needs for its first step is done. */
static void start_verifying(const struct image *image)
{
    pthread_t thread;
    char *path = strdup(image_chain_path(image, 0));
    if (path && pthread_create(&thread, NULL, verify_thread, path) == 0) {
        pthread_detach(thread);
        return;
    }
    free(path);
    verify_now(image);
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
    if (!verify_later(image))
        verify_now(image);
    if (restart_memory(image, &err) < 0 || restart_threads(state, &err) < 0)
        agent_refuse(rank, nranks, &err);
    lower_mpi_barrier(); /* nobody writes to a file that another rank has yet to cut back */
    if (agent_restarted(state, &err) < 0)
        agent_refuse(rank, nranks, &err);
    if (restart_on_upper_fs(state, GATE->stub->rebuild) < 0) {
        err_set(&err, "the new MPI library refuses what the rank had of the old one");
        agent_refuse(rank, nranks, &err);
    }
    restart_after_save(state);
    agent_running();
    if (verify_later(image))
        start_verifying(image);
    restart_go(state);
}
