/*
 * environment.c - the launcher's environment, and what of it the catalog keeps
 */
#include "runtime/cmd/environment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void environment_clear(struct environment *env)
{
    for (unsigned i = 0; i < env->n; i++)
        free(env->entry[i]);
    free(env->entry);
    *env = (struct environment){0};
}

static size_t name_length(const char *entry)
{
    return strcspn(entry, "=");
}

static char **find(const struct environment *env, const char *name, size_t n)
{
    for (unsigned i = 0; i < env->n; i++)
        if (name_length(env->entry[i]) == n && !strncmp(env->entry[i], name, n))
            return &env->entry[i];
    return NULL;
}

/* Takes ownership of an entry. Out of memory ends the program: nothing has been started yet. */
static void put(struct environment *env, char *entry)
{
    if (!entry)
        abort();
    char **old = find(env, entry, name_length(entry));
    if (old) {
        free(*old);
        *old = entry;
        return;
    }
    if (env->n + 1 >= env->room) {
        env->room = env->room ? 2 * env->room : 64;
        env->entry = reallocarray(env->entry, env->room, sizeof *env->entry);
        if (!env->entry)
            abort();
    }
    env->entry[env->n++] = entry;
    env->entry[env->n] = NULL;
}

void environment_copy(struct environment *env, char *const *list)
{
    *env = (struct environment){0};
    for (; list && *list; list++)
        put(env, strdup(*list));
}

const char *environment_get(const struct environment *env, const char *name)
{
    char **entry = find(env, name, strlen(name));
    return entry ? *entry + strlen(name) + 1 : NULL;
}

void environment_set(struct environment *env, const char *name, const char *value)
{
    char *entry;
    put(env, asprintf(&entry, "%s=%s", name, value) < 0 ? NULL : entry);
}

void environment_unset(struct environment *env, const char *name)
{
    char **entry = find(env, name, strlen(name));
    if (!entry)
        return;
    free(*entry);
    *entry = env->entry[--env->n];
    env->entry[env->n] = NULL;
}

/* Is `item` one of the items of a list separated by ':' or ' '? */
static bool list_has(const char *list, const char *item)
{
    size_t n = strlen(item);
    while (*list) {
        size_t len = strcspn(list, ": ");
        if (len == n && !strncmp(list, item, n))
            return true;
        list += len + (list[len] != '\0');
    }
    return false;
}

void environment_prepend(struct environment *env, const char *name, const char *value)
{
    const char *old = environment_get(env, name);
    char *joined;
    if (old && list_has(old, value))
        return;
    if (!old || !*old) {
        environment_set(env, name, value);
        return;
    }
    if (asprintf(&joined, "%s:%s", value, old) < 0)
        abort();
    environment_set(env, name, joined);
    free(joined);
}

bool environment_relevant(const char *entry)
{
    static const char *const prefixes[] = {
        "PATH=",   "LD_",    "LANG=", "LC_",       "TZ=",       "OMP_",
        "GOMP_",   "KMP_",   "MKL_",  "OPENBLAS_", "MPI",       "PMI_",
        "UCX_",    "HYDRA_", "FI_",   "I_MPI_",    "GFORTRAN_", "GLIBC_TUNABLES=",
        "MALLOC_", "SLURM_",
    };
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (!strncmp(entry, prefixes[i], strlen(prefixes[i])))
            return true;
    return false;
}

void environment_default(struct environment *env, char *const *recorded)
{
    for (; recorded && *recorded; recorded++)
        if (strchr(*recorded, '=') && !find(env, *recorded, name_length(*recorded)))
            put(env, strdup(*recorded));
}

void environment_select(struct environment *env, char *const *list)
{
    *env = (struct environment){0};
    for (; list && *list; list++)
        if (environment_relevant(*list))
            put(env, strdup(*list));
}
