/*
 * op.c - user-defined reduction operations
 *
 * In record mode each call of a user function is an event before the event of the MPI call that it
 * happened in: the function may have effects of its own, so replay runs it again on copies of the
 * recorded operands. Its fields: the operation's id, the number of elements, their type and both
 * operands.
 */
#include "msgcounter/stub/op.h"

#include <string.h>

#include "msgcounter/stub/datatype.h"
#include "msgcounter/stub/record.h"

typedef void cxx_call(const void *, void *, int, MPI_Datatype, MPI_User_function *);

struct op {
    struct object head;
    void (*fn)(void);
    cxx_call *cxx;
    int commute;
    int slot;
    bool large; /* made by the twin with MPI_Count */
};

static struct op *slots[OP_MAX];
static struct stub_lock lock; /* of the slots */

/* ----------------------------------------------------------------------------- calling one */

static void op_call(struct op *o, void *in, void *inout, int64_t count, MPI_Datatype type)
{
    int n = (int)count;
    MPI_Count large = count;
    if (o->cxx)
        o->cxx(in, inout, n, type, (MPI_User_function *)o->fn);
    else if (o->large)
        ((MPI_User_function_c *)o->fn)(in, inout, &large, &type);
    else
        ((MPI_User_function *)o->fn)(in, inout, &n, &type);
}

static void op_record(const struct op *o, const void *in, const void *inout, int64_t count,
                      MPI_Datatype type)
{
    int64_t bytes = count * datatype_size(type);
    record_callback_begin((enum call)o->head.made,
                          3 * LOG_FIELD_ROOM(8) + 2 * LOG_FIELD_ROOM((uint64_t)bytes));
    log_put_i32(&record_writer, 0, LOG_ROLE_HANDLE, o->head.id);
    log_put_u64(&record_writer, 1, LOG_ROLE_VALUE, (uint64_t)count);
    log_put_i32(&record_writer, 2, LOG_ROLE_HANDLE, type);
    datatype_pack(type, count, in, log_reserve(&record_writer, 0, LOG_ROLE_DATA, (uint64_t)bytes),
                  bytes);
    datatype_pack(type, count, inout,
                  log_reserve(&record_writer, 1, LOG_ROLE_DATA, (uint64_t)bytes), bytes);
    record_end(0);
}

/* Runs in the upper half. */
static void op_up(struct op *o, void *in, void *inout, int64_t count, int real_type)
{
    MPI_Datatype type =
        (MPI_Datatype)handle_virtual(HANDLE_DATATYPE, (uint64_t)(uint32_t)real_type);
    if (recording())
        op_record(o, in, inout, count, type);
    op_call(o, in, inout, count, type);
}

void op_replay(const struct log_record *rec)
{
    MPI_Op id = (MPI_Op)log_field_int(replay_field(rec, 0, LOG_ROLE_HANDLE));
    int64_t count = log_field_int(replay_field(rec, 1, LOG_ROLE_VALUE));
    MPI_Datatype type = (MPI_Datatype)log_field_int(replay_field(rec, 2, LOG_ROLE_HANDLE));
    struct op *o = (struct op *)handle_object(HANDLE_OP, id);
    struct datatype *t = datatype_of(type);
    if (!o || !t)
        stub_stop(125, "dbg3: event %lu is a callback of an unknown operation",
                  (unsigned long)rec->event);
    struct layout_bounds b = layout_bounds(t->layout);
    size_t room = (size_t)((count > 0 ? count - 1 : 0) * t->extent + b.true_ub - b.true_lb);
    /* Both operands stand where their type says: behind the true lower bound. */
    unsigned char *mem = stub_alloc(2 * (room + 16));
    unsigned char *operand[2] = {mem - b.true_lb, mem + room + 16 - b.true_lb};
    for (uint8_t i = 0; i < 2; i++) {
        const struct log_field *f = replay_field(rec, i, LOG_ROLE_DATA);
        layout_unpack(t->layout, count, operand[i], log_field_value(f), log_field_length(f));
    }
    struct call_where outer = call_where; /* the callback may call MPI */
    uint64_t site = stub_thread.call_site;
    op_call(o, operand[0], operand[1], count, type);
    call_where = outer;
    stub_thread.call_site = site;
    stub_free(mem);
}

/* ----------------------------------------------------------------------------- thunks */

/* Called by the lower half, on the lower FS: no TLS, nothing but the crossing up. */
static void thunk(int slot, void *in, void *inout, int64_t count, int *type)
{
    gate_up((void *)op_up, (uint64_t)slots[slot], (uint64_t)in, (uint64_t)inout, (uint64_t)count,
            (uint64_t)*type, 0);
}

#define THUNK(n)                                                                                   \
    static void thunk_##n(void *in, void *inout, int *count, MPI_Datatype *type)                   \
    {                                                                                              \
        thunk(0##n, in, inout, *count, type);                                                      \
    }                                                                                              \
    static void large_##n(void *in, void *inout, MPI_Count *count, MPI_Datatype *type)             \
    {                                                                                              \
        thunk(0##n, in, inout, *count, type);                                                      \
    }
#define NAME(n)    {thunk_##n, large_##n},
/* Octal digits: 000 to 777 are OP_MAX numbers. */
#define EIGHT(X, n)      X(n##0) X(n##1) X(n##2) X(n##3) X(n##4) X(n##5) X(n##6) X(n##7)
#define SIXTY_FOUR(X, n) EIGHT(X, n##0) EIGHT(X, n##1) EIGHT(X, n##2) EIGHT(X, n##3)               \
    EIGHT(X, n##4) EIGHT(X, n##5) EIGHT(X, n##6) EIGHT(X, n##7)
#define ALL(X)           SIXTY_FOUR(X, 0) SIXTY_FOUR(X, 1) SIXTY_FOUR(X, 2) SIXTY_FOUR(X, 3)       \
    SIXTY_FOUR(X, 4) SIXTY_FOUR(X, 5) SIXTY_FOUR(X, 6) SIXTY_FOUR(X, 7)

ALL(THUNK)

static const struct {
    MPI_User_function *fn;
    MPI_User_function_c *large;
} thunks[OP_MAX] = {ALL(NAME)};

/* ----------------------------------------------------------------------------- by hand */

static int create_real(struct op *o)
{
    int real = MPI_OP_NULL;
    int rc = mpi_cross(o->large ? CALL_MPI_Op_create_c : CALL_MPI_Op_create,
                       o->large ? (uint64_t)thunks[o->slot].large : (uint64_t)thunks[o->slot].fn,
                       (uint64_t)o->commute, (uint64_t)&real);
    handle_set_real(&o->head, (uint64_t)(uint32_t)real);
    return rc;
}

/* OP_MAX: none is free. */
static int take_slot(struct op *o)
{
    int slot = 0;
    stub_lock(&lock);
    while (slot < OP_MAX && slots[slot])
        slot++;
    if (slot < OP_MAX)
        slots[slot] = o;
    stub_unlock(&lock);
    return slot;
}

int hand_op_create(enum call call, const uint64_t *v)
{
    struct op *o = stub_alloc(sizeof *o);
    int slot = take_slot(o);
    if (slot == OP_MAX)
        stub_stop(125, "%s: dbg3 keeps at most %d user operations", call_table[call].name, OP_MAX);
    o->head.kind = HANDLE_OP;
    o->head.made = call;
    o->fn = (void (*)(void))v[0];
    o->commute = (int)v[1];
    o->slot = slot;
    o->large = (call_table[call].flags & CALL_LARGE) != 0;
    *(MPI_Op *)v[2] = call_hand_out(call, 2, &o->head);
    return replaying() ? MPI_SUCCESS : error_return(call, v, create_real(o));
}

void op_destroy(struct object *object)
{
    struct op *o = (struct op *)object;
    stub_lock(&lock);
    slots[o->slot] = NULL;
    stub_unlock(&lock);
}

void op_set_cxx(MPI_Op id, void (*call)(void))
{
    struct op *o = (struct op *)handle_object(HANDLE_OP, id);
    if (o)
        o->cxx = (cxx_call *)call;
}

int op_rebuild(void)
{
    int rc = 0;
    for (int i = 0; i < OP_MAX && !rc; i++)
        if (slots[i])
            rc = create_real(slots[i]);
    return rc;
}
