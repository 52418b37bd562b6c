/*
 * attr.c - attributes of communicators, datatypes and windows
 */
#include "msgcounter/stub/attr.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "msgcounter/stub/call.h"
#include "msgcounter/stub/comm.h"
#include "msgcounter/stub/datatype.h"
#include "msgcounter/stub/fortran.h"
#include "msgcounter/stub/win.h"

/* As in MPICH, a keyval that was freed lives on, with its id, while attributes have it: each
 * counts as a handle. */
struct keyval {
    struct object head;
    bool freed;
    uint8_t of; /* enum handle_kind: what it may be an attribute of */
    void (*copy)(void), (*delete)(void);
    void *extra;
    attr_copy_proxy *copy_proxy; /* other languages' way to call them; NULL: C */
    attr_delete_proxy *delete_proxy;
};

/* Lists are under object_lock; callbacks run without it. */
struct attr {
    struct attr *next; /* the list's head is the newest: deletion is in reverse order of setting */
    struct keyval *keyval;
    intptr_t value;
    int type; /* enum attr_type */
};

struct attr_predefined attr_predefined;

static struct keyval *keyval_of(int id)
{
    return (struct keyval *)handle_object(HANDLE_KEYVAL, id);
}

/* NULL, too, if it is one of another kind of object. */
static struct keyval *keyval_for(enum handle_kind of, int id)
{
    struct keyval *k = keyval_of(id);
    return k && k->of == of ? k : NULL;
}

/* MPICH looks at it before it looks at the object: MPI_COMM_WORLD's handler decides. */
static int bad_keyval(enum call call)
{
    return error_return_comm(call, NULL, MPI_ERR_KEYVAL);
}

static enum handle_kind object_of_keyval(enum call call)
{
    switch (call) {
    case CALL_MPI_Type_create_keyval:
    case CALL_MPI_Type_free_keyval:
        return HANDLE_DATATYPE;
    case CALL_MPI_Win_create_keyval:
    case CALL_MPI_Win_free_keyval:
        return HANDLE_WIN;
    default:
        return HANDLE_COMM;
    }
}

/* ----------------------------------------------------------------------------- callbacks */

typedef int copy_fn(int, int, void *, void *, void *, int *);
typedef int delete_fn(int, int, void *, void *);

static int call_copy(int handle, const struct attr *a, void **value, int *flag)
{
    struct keyval *k = a->keyval;
    void *in = (void *)a->value;
    *flag = 0;
    if (!k->copy)
        return MPI_SUCCESS;
    if (k->copy_proxy)
        return k->copy_proxy(k->copy, handle, k->head.id, k->extra, a->type, in, value, flag);
    /* An attribute that Fortran set is an integer: C gets its address. */
    return ((copy_fn *)k->copy)(handle, k->head.id, k->extra, a->type ? (void *)&a->value : in,
                                value, flag);
}

static int call_delete(int handle, struct attr *a)
{
    struct keyval *k = a->keyval;
    if (!k->delete)
        return MPI_SUCCESS;
    if (k->delete_proxy)
        return k->delete_proxy(k->delete, handle, k->head.id, a->type, (void *)a->value, k->extra);
    return ((delete_fn *)k->delete)(handle, k->head.id,
                                    a->type ? (void *)&a->value : (void *)a->value, k->extra);
}

/* The copies between attr_copy_all and attr_take_copies; the stub is on one thread in between. */
static __thread struct attr *copies __attribute__((tls_model("initial-exec")));

static struct attr *attr_new(struct keyval *k, intptr_t value, int type)
{
    struct attr *a = stub_alloc(sizeof *a);
    *a = (struct attr){.keyval = k, .value = value, .type = type};
    handle_again(&k->head, 0);
    return a;
}

static void attr_drop(struct attr *a)
{
    handle_free(&a->keyval->head);
    stub_free(a);
}

/* The list as it is now: others may change it while callbacks run. */
static struct attr *snapshot(struct attr *const *list)
{
    struct attr *first = NULL, **end = &first;
    stub_lock(&object_lock);
    for (const struct attr *a = *list; a; a = a->next, end = &(*end)->next)
        *end = attr_new(a->keyval, a->value, a->type);
    stub_unlock(&object_lock);
    return first;
}

static void drop_list(struct attr **list)
{
    for (struct attr *a; (a = *list);) {
        *list = a->next;
        attr_drop(a);
    }
}

int attr_copy_all(int handle, struct attr *const *list)
{
    struct attr *all = snapshot(list), **end = &copies;
    int rc = MPI_SUCCESS;
    copies = NULL;
    for (const struct attr *from = all; from && !rc; from = from->next) {
        void *value = NULL;
        int flag;
        rc = call_copy(handle, from, &value, &flag);
        if (!rc && flag) {
            *end = attr_new(from->keyval, (intptr_t)value, from->type);
            end = &(*end)->next;
        }
    }
    drop_list(&all);
    return rc;
}

void attr_take_copies(struct attr **list)
{
    *list = copies;
    copies = NULL;
}

int attr_delete_all(int handle, struct attr **list)
{
    int rc = MPI_SUCCESS;
    while (*list) {
        struct attr *a = *list;
        int r = call_delete(handle, a);
        rc = r ? r : rc;
        *list = a->next;
        attr_drop(a);
    }
    return rc;
}

/* ----------------------------------------------------------------------------- keyvals */

int hand_keyval_create(enum call call, const uint64_t *v)
{
    struct keyval *k = stub_alloc(sizeof *k);
    k->head.kind = HANDLE_KEYVAL;
    k->head.made = call;
    k->of = (uint8_t)object_of_keyval(call);
    k->copy = (void (*)(void))v[0];
    k->delete = (void (*)(void))v[1];
    k->extra = (void *)v[3];
    *(int *)v[2] = call_hand_out(call, 2, &k->head);
    return MPI_SUCCESS;
}

int hand_keyval_free(enum call call, const uint64_t *v)
{
    struct keyval *k = v[0] ? keyval_for(object_of_keyval(call), *(int *)v[0]) : NULL;
    if (!k)
        return bad_keyval(call);
    if (!k->freed) {
        k->freed = true;
        handle_free(&k->head);
    }
    *(int *)v[0] = MPI_KEYVAL_INVALID;
    return MPI_SUCCESS;
}

void attr_set_proxy(int keyval, attr_copy_proxy *copy, attr_delete_proxy *delete)
{
    struct keyval *k = keyval_of(keyval);
    if (k) {
        k->copy_proxy = copy;
        k->delete_proxy = delete;
    }
}

/* ----------------------------------------------------------------------------- get, set, delete */

/* The attribute list of the object in the first parameter, whose type the row knows. */
static struct attr **list_of(enum call call, const uint64_t *v)
{
    const struct call_info *info = &call_table[call];
    struct comm *c;
    struct datatype *t;
    struct win *w;
    switch (info->params[0].handle) {
    case HANDLE_COMM:
        return (c = comm_of((MPI_Comm)v[0])) ? &c->attrs : NULL;
    case HANDLE_DATATYPE:
        return (t = datatype_of((MPI_Datatype)v[0])) ? &t->attrs : NULL;
    case HANDLE_WIN:
        return (w = win_of((MPI_Win)v[0])) ? &w->attrs : NULL;
    default:
        return NULL;
    }
}

/* [object_lock] */
static struct attr **find(struct attr **list, int keyval)
{
    while (*list && (*list)->keyval->head.id != keyval)
        list = &(*list)->next;
    return list;
}

/* NULL: there is none. */
static struct attr *get(struct attr **list, int keyval)
{
    stub_lock(&object_lock);
    struct attr *a = *find(list, keyval);
    stub_unlock(&object_lock);
    return a;
}

/* Takes it off the list if it is the one. */
static bool unlink_attr(struct attr **list, const struct attr *a)
{
    stub_lock(&object_lock);
    while (*list && *list != a)
        list = &(*list)->next;
    bool there = *list;
    if (there)
        *list = a->next;
    stub_unlock(&object_lock);
    return there;
}

static void put(struct attr **list, struct keyval *k, intptr_t value, int type)
{
    struct attr *made = attr_new(k, value, type);
    stub_lock(&object_lock);
    struct attr *a = *find(list, k->head.id);
    if (a) {
        a->value = value;
        a->type = type;
    } else {
        made->next = *list;
        *list = made;
    }
    stub_unlock(&object_lock);
    if (a)
        attr_drop(made);
}

static bool keyval_is_builtin(int keyval)
{
    return (unsigned)keyval >> 30 == 1;
}

static int predefined_index(int keyval)
{
    return ((keyval & 0xf) - 1) >> 1;
}

/* Predefined attributes: C gets the address of a copy, Fortran (and its keyvals) the value. */
static int get_predefined(int keyval, void *out, int *flag, int type)
{
    static int copy[8];
    int i = predefined_index(keyval);
    *flag = attr_predefined.set[i];
    copy[i] = attr_predefined.value[i];
    if (*flag && type == ATTR_PTR)
        *(int **)out = &copy[i];
    else if (*flag)
        *(intptr_t *)out = copy[i];
    return MPI_SUCCESS;
}

int attr_get(enum call call, const uint64_t *v, int type)
{
    struct attr **list = list_of(call, v), *a;
    int keyval = (int)v[1], *flag = (int *)v[3];
    if (!list)
        return error_bad_object(call, v);
    if (keyval_is_builtin(keyval) && call_table[call].params[0].handle == HANDLE_COMM)
        return get_predefined(keyval, (void *)v[2], flag, type);
    if (keyval_is_builtin(keyval) && call_table[call].params[0].handle == HANDLE_WIN)
        return win_get_predefined((MPI_Win)v[0], keyval, (void *)v[2], flag, type);
    if (!keyval_for(call_table[call].params[0].handle, keyval))
        return bad_keyval(call);
    a = get(list, keyval);
    *flag = a != NULL;
    if (a)
        *(intptr_t *)v[2] = type == ATTR_PTR && a->type ? (intptr_t)&a->value : a->value;
    return MPI_SUCCESS;
}

int attr_set(enum call call, const uint64_t *v, int type)
{
    struct attr **list = list_of(call, v), *a;
    struct keyval *k = keyval_for(call_table[call].params[0].handle, (int)v[1]);
    if (!list)
        return error_bad_object(call, v);
    if (!k)
        return bad_keyval(call);
    a = get(list, (int)v[1]);
    int rc = a ? call_delete((int)v[0], a) : MPI_SUCCESS;
    if (rc)
        return error_return(call, v, rc);
    put(list, k, (intptr_t)v[2], type); /* the callback may have changed the list */
    return MPI_SUCCESS;
}

int hand_attr_get(enum call call, const uint64_t *v)
{
    return attr_get(call, v, ATTR_PTR);
}

int hand_attr_set(enum call call, const uint64_t *v)
{
    return attr_set(call, v, ATTR_PTR);
}

int hand_attr_delete(enum call call, const uint64_t *v)
{
    struct attr **list = list_of(call, v), *a;
    if (!list)
        return error_bad_object(call, v);
    if (!keyval_for(call_table[call].params[0].handle, (int)v[1]))
        return bad_keyval(call);
    a = get(list, (int)v[1]);
    if (!a)
        return MPI_SUCCESS;
    int rc = call_delete((int)v[0], a);
    if (rc)
        return error_return(call, v, rc);
    if (unlink_attr(list, a))
        attr_drop(a);
    return MPI_SUCCESS;
}

/* MPICH asks its process manager for MPI_UNIVERSE_SIZE. A process that none has started makes
 * itself one for that, by an option of mpiexec that Hydra does not know, and waits for it for
 * ever. */
static bool has_manager(void)
{
    return getenv("PMI_FD") || getenv("PMI_PORT") || getenv("PMI_RANK") || getenv("PMIX_RANK");
}

void attr_class_added(int class)
{
    int *last = &attr_predefined.value[predefined_index(MPI_LASTUSEDCODE)];
    stub_lock(&object_lock);
    if (class > *last)
        *last = class;
    stub_unlock(&object_lock);
}

void attr_ask_predefined(void)
{
    for (int i = 0; i < 7; i++) {
        int *value = NULL, flag = 0;
        if (MPI_TAG_UB + 2 * i == MPI_UNIVERSE_SIZE && !has_manager())
            continue;
        mpi_cross(CALL_MPI_Comm_get_attr, MPI_COMM_WORLD, MPI_TAG_UB + 2 * i, (uint64_t)&value,
                  (uint64_t)&flag);
        attr_predefined.set[i] = flag;
        attr_predefined.value[i] = flag ? *value : 0;
    }
}
