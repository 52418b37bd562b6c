/*
 * lower_main.c - the lower program with the real MPI library (dbg3-lower)
 *
 * Started by the launch preload in place of the application, with the application's arguments.
 * Batch and refine from the start: loads the application and jumps into it. Restart and refine from
 * an epoch: starts MPI, maps the rank's image and continues it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "runtime/ckpt/agent.h"
#include "runtime/ckpt/fatal.h"
#include "runtime/ckpt/park.h"
#include "runtime/ckpt/restart.h"
#include "runtime/half/gate.h"
#include "runtime/half/half.h"
#include "runtime/half/lower_mpi.h"
#include "runtime/half/threads.h"

extern char **environ;

static void start_app(const struct half_env *env, char **argv)
{
    struct err err;
    struct load load;
    struct rlimit rl;
    char **envp = half_env_for_app(env, environ, &err);
    if (!envp || load_app(&load, env->exe, argv, envp, env->stack_size, &err) < 0)
        half_die(&err);
    if (getrlimit(RLIMIT_STACK, &rl) == 0) {
        rl.rlim_cur = env->stack_limit;
        setrlimit(RLIMIT_STACK, &rl);
    }
    if (load_tell_kernel(&load.mm, &err) < 0)
        half_die(&err);
    agent_app_loaded(&load);
    half_name(env->exe);
    half_enter(&load);
}

int main(int argc, char **argv)
{
    static struct half_env env;
    struct err err;
    if (half_env_read(&env, environ, &err) < 0)
        half_die(&err);
    bool refine = env.phase && strcmp(env.phase, "refine") == 0;
    if (half_prepare(refine ? GATE_RECORD : GATE_LIVE, lower_mpi_ncalls, &err) < 0)
        half_die(&err);
    lower_mpi_install(&env);
    agent_init(&env);
    fatal_install();
    if (threads_start(agent_run, &err) < 0 || park_install(&err) < 0)
        half_die(&err);
    if (env.epoch)
        restart_run(&env);
    start_app(&env, argv);
}
