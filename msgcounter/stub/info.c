/*
 * info.c - info objects: their keys, kept so that a restart can make them again
 */
#include "msgcounter/stub/info.h"

#include <string.h>

#include "msgcounter/stub/record.h"

struct info {
    struct object head;
    int nkeys;
    struct pair {
        char *key, *value;
    } *pairs; /* in MPI's order: that of setting */
};

/* [object_lock, if others know `o`] */
static void set(struct info *o, const char *key, const char *value)
{
    for (int i = 0; i < o->nkeys; i++) {
        if (!strcmp(o->pairs[i].key, key)) {
            stub_free(o->pairs[i].value);
            o->pairs[i].value = stub_strdup(value);
            return;
        }
    }
    o->pairs = stub_realloc(o->pairs, (size_t)(o->nkeys + 1) * sizeof *o->pairs);
    o->pairs[o->nkeys++] = (struct pair){stub_strdup(key), stub_strdup(value)};
}

const char *info_value(const struct object *info, const char *key)
{
    const struct info *o = (const struct info *)info;
    for (int i = 0; o && i < o->nkeys; i++)
        if (!strcmp(o->pairs[i].key, key))
            return o->pairs[i].value;
    return NULL;
}

/* Copies what the lower half has put in a new object (MPI_Comm_get_info, MPI_Info_dup). */
static void ask(struct info *o, int real)
{
    char *key = stub_alloc(MPI_MAX_INFO_KEY + 1), *value = stub_alloc(MPI_MAX_INFO_VAL + 1);
    int n = 0, flag;
    mpi_cross(CALL_MPI_Info_get_nkeys, (uint64_t)real, (uint64_t)&n);
    for (int i = 0; i < n; i++) {
        mpi_cross(CALL_MPI_Info_get_nthkey, (uint64_t)real, (uint64_t)i, (uint64_t)key);
        mpi_cross(CALL_MPI_Info_get, (uint64_t)real, (uint64_t)key, MPI_MAX_INFO_VAL,
                  (uint64_t)value, (uint64_t)&flag);
        if (flag)
            set(o, key, value);
    }
    stub_free(key);
    stub_free(value);
}

/* Replay has no use for the keys (MPI's answers are recorded), so there is no note. */
struct object *info_make(struct made *m)
{
    struct info *o = stub_alloc(sizeof *o);
    if (!m->replay)
        ask(o, (int)m->real);
    return &o->head;
}

void info_destroy(struct object *object)
{
    struct info *o = (struct info *)object;
    for (int i = 0; i < o->nkeys; i++) {
        stub_free(o->pairs[i].key);
        stub_free(o->pairs[i].value);
    }
    stub_free(o->pairs);
}

void after_info_set(enum call call, const uint64_t *v)
{
    struct info *o = (struct info *)handle_object(HANDLE_INFO, (int)v[0]);
    if (!o)
        return;
    stub_lock(&object_lock);
    set(o, (const char *)v[1], (const char *)v[2]);
    stub_unlock(&object_lock);
}

void after_info_delete(enum call call, const uint64_t *v)
{
    struct info *o = (struct info *)handle_object(HANDLE_INFO, (int)v[0]);
    stub_lock(&object_lock);
    for (int i = 0; o && i < o->nkeys; i++) {
        if (strcmp(o->pairs[i].key, (const char *)v[1]))
            continue;
        stub_free(o->pairs[i].key);
        stub_free(o->pairs[i].value);
        memmove(&o->pairs[i], &o->pairs[i + 1], (size_t)(o->nkeys - i - 1) * sizeof *o->pairs);
        o->nkeys--;
        break;
    }
    stub_unlock(&object_lock);
}

/* With a length of 0 MPI only tells the length that is needed: value may point nowhere. */
int hand_info_get_string(enum call call, const uint64_t *v)
{
    char nothing[1];
    int *length = (int *)v[2];
    const uint64_t w[] = {v[0], v[1], v[2], length && *length == 0 ? (uint64_t)nothing : v[3],
                          v[4]};
    nothing[0] = 0;
    return call_generic(call, w);
}

int info_make_real(const struct object *object, int *real)
{
    const struct info *o = (const struct info *)object;
    int rc = mpi_cross(CALL_MPI_Info_create, (uint64_t)real);
    for (int i = 0; i < o->nkeys && !rc; i++)
        rc = mpi_cross(CALL_MPI_Info_set, (uint64_t)*real, (uint64_t)o->pairs[i].key,
                       (uint64_t)o->pairs[i].value);
    return rc;
}

int info_rebuild(struct object *object)
{
    int real = MPI_INFO_NULL;
    int rc = info_make_real(object, &real);
    handle_set_real(object, (uint64_t)(uint32_t)real);
    return rc;
}

void info_add(struct object **hints, const struct object *from)
{
    const struct info *o = (const struct info *)from;
    if (!o || !o->nkeys)
        return;
    stub_lock(&object_lock);
    if (!*hints)
        *hints = stub_alloc(sizeof(struct info));
    for (int i = 0; i < o->nkeys; i++)
        set((struct info *)*hints, o->pairs[i].key, o->pairs[i].value);
    stub_unlock(&object_lock);
}

void info_drop(struct object **hints)
{
    if (*hints)
        info_destroy(*hints);
    stub_free(*hints);
    *hints = NULL;
}
