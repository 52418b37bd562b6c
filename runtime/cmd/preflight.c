/*
 * preflight.c - what can be said about a launcher line before it runs
 */
#include "runtime/cmd/preflight.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/coord/program.h"

/* The file a word would run: itself if it has a slash, else the first in PATH, else in this folder
 * (Hydra looks there too). -1 if there is none. */
static int find_program(const char *word, char path[PATH_MAX])
{
    if (strchr(word, '/') || access(word, X_OK) == 0) {
        snprintf(path, PATH_MAX, "%s", word);
        return access(path, X_OK);
    }
    const char *dirs = getenv("PATH");
    while (dirs && *dirs) {
        size_t n = strcspn(dirs, ":");
        snprintf(path, PATH_MAX, "%.*s/%s", (int)n, dirs, word);
        if (n && access(path, X_OK) == 0)
            return 0;
        dirs += n + (dirs[n] == ':');
    }
    errno = ENOENT;
    return -1;
}

/* Why this program cannot come under control, or NULL. */
static const char *reason(const struct program *p)
{
    if (!p->is_x86_64)
        return "is of another architecture than x86-64";
    if (p->is_static)
        return "is statically linked: dbg3 needs a program that loads libmpich.so.12";
    if (p->mpi == PROGRAM_MPI_OTHER)
        return "is linked with another MPI library";
    if (p->is_setuid && p->mpi == PROGRAM_MPI_OURS)
        return "is setuid or setgid: the system takes LD_PRELOAD from such programs";
    return NULL;
}

int preflight(char *const *launcher, char program[PATH_MAX], struct err *err)
{
    char path[PATH_MAX], bad_path[PATH_MAX] = "";
    struct program p, bad = {0};
    program[0] = '\0';
    if (find_program(launcher[0], path) < 0)
        return err_sys(err, "cannot run %s", launcher[0]);
    for (char *const *word = launcher; *word; word++) {
        if (**word == '-' || find_program(*word, path) < 0 || program_read(path, &p, NULL) < 0 ||
            !p.is_program)
            continue;
        const char *why = reason(&p);
        if (p.mpi == PROGRAM_MPI_OURS && !why)
            return realpath(path, program) ? 0 : err_sys(err, "%s", path);
        /* a launcher may be what it likes: its children get the environment all the same */
        bool launches = word == launcher && word[1];
        if (why && !launches && !*bad_path) {
            snprintf(bad_path, sizeof bad_path, "%s", path);
            bad = p;
        }
    }
    if (!*bad_path)
        return 0;
    if (bad.mpi == PROGRAM_MPI_OTHER)
        return err_set(err, "%s %s (%s), not with MPICH's libmpich.so.12", bad_path, reason(&bad),
                       bad.mpi_name);
    return err_set(err, "%s %s", bad_path, reason(&bad));
}

/* By its name: what a launcher line has before the program. */
static bool is_launcher(const char *word)
{
    const char *slash = strrchr(word, '/'), *name = slash ? slash + 1 : word;
    return !strncmp(name, "mpi", 3) || !strcmp(name, "srun") || !strcmp(name, "env");
}

void preflight_doubt(char *const *launcher, char *buf, size_t cap)
{
    char path[PATH_MAX];
    struct program p;
    *buf = '\0';
    for (char *const *word = launcher; *word && !*buf; word++) {
        if (**word == '-' || is_launcher(*word) || (word == launcher && word[1]))
            continue;
        bool there = find_program(*word, path) == 0;
        if (!there && strchr(*word, '/') && !strchr(*word, '=') && access(*word, F_OK) < 0)
            snprintf(buf, cap, "there is no program %s", *word);
        else if (!there && strchr(*word, '/') && access(*word, F_OK) == 0)
            snprintf(buf, cap, "%s cannot be run: %s", *word, strerror(EACCES));
        else if (there && program_read(path, &p, NULL) == 0 && p.is_program &&
                 p.mpi == PROGRAM_MPI_NONE)
            snprintf(buf, cap, "%s is no MPI program: it does not load libmpich.so.12", path);
        else if (there)
            return;
    }
}

void preflight_name(char *const *launcher, const char *program, char *buf, size_t cap)
{
    const char *name = *program ? program : launcher[0];
    for (char *const *word = launcher; !*program && *word; word++)
        if (**word != '-' && strchr(*word, '/') && access(*word, X_OK) == 0)
            name = *word;
    const char *slash = strrchr(name, '/');
    snprintf(buf, cap, "%.200s", slash ? slash + 1 : name);
}

/* A program that is not the one of the checkpoint would run into the checkpoint's state: refuse. */
static int check_binary(const char *program, const char *build_id, struct err *err)
{
    char now[PROGRAM_ID_MAX];
    struct err why;
    if (!*program || !*build_id)
        return 0;
    if (program_build_id(program, now, sizeof now, &why) < 0)
        return err_set(err,
                       "the program of this session cannot be read (%s): put it back, or start "
                       "again with: dbg3 batch", why.text);
    if (!strcmp(now, build_id))
        return 0;
    return err_set(err,
                   "%s has changed since the job was run: its build-id is %s, the session's is "
                   "%s; put the old binary back, or start again with: dbg3 batch",
                   program, now, build_id);
}

int preflight_unchanged(struct session *s, struct err *err)
{
    const struct session_job *job = session_job(s);
    struct session_rank *rank;
    unsigned n;
    if (check_binary(job->program, job->build_id, err) < 0)
        return -1;
    if (session_ranks(s, 1, &rank, &n, err) < 0) /* phase 1 is the batch */
        return -1;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < n; i++)
        if (strcmp(rank[i].program, i ? rank[i - 1].program : job->program))
            rc = check_binary(rank[i].program, rank[i].build_id, err);
    free(rank);
    return rc;
}
