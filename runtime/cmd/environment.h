/*
 * environment.h - the launcher's environment, and what of it the catalog keeps
 *
 * Pure functions on NULL-terminated lists of "NAME=value".
 */
#ifndef DBG3_CMD_ENVIRONMENT_H
#define DBG3_CMD_ENVIRONMENT_H

#include <stdbool.h>

struct environment {
    char **entry; /* NULL-terminated, owned */
    unsigned n, room;
};

void environment_clear(struct environment *env);

/* A copy of a list; a later entry of the same name wins. */
void environment_copy(struct environment *env, char *const *list);

const char *environment_get(const struct environment *env, const char *name);
void environment_set(struct environment *env, const char *name, const char *value);
void environment_unset(struct environment *env, const char *name);

/* Puts `value` in front of a list variable (LD_PRELOAD), separated by ':', unless it is in it. */
void environment_prepend(struct environment *env, const char *name, const char *value);

/* True if what the job does may depend on it (paths, MPI, OpenMP, locale, allocator settings): the
 * catalog keeps these and no others, as an environment may hold secrets. */
bool environment_relevant(const char *entry);

/* Adds those of `recorded` whose names are not set. */
void environment_default(struct environment *env, char *const *recorded);

/* Copies of the relevant entries of a list. */
void environment_select(struct environment *env, char *const *list);

#endif
