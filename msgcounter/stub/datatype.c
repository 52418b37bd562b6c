/*
 * datatype.c - datatypes: objects, and inquiries that the stub answers
 *
 * A new datatype is described by what MPI_Type_get_envelope and _get_contents say of it, whatever
 * constructor made it; from that come its layout, its note for replay and its rebuilding. Bounds
 * are taken from MPI as well: alignment rules of structs are the library's.
 *
 *     struct type_note | ints | addresses | counts | type ids      all int64_t
 */
#include "msgcounter/stub/datatype.h"

#include <string.h>

#include "msgcounter/stub/attr.h"
#include "msgcounter/stub/call.h"
#include "msgcounter/stub/datatype_impl.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/request.h"
#include "msgcounter/stub/stub.h"

struct type_note {
    int64_t combiner, nints, nadds, ncounts, ntypes;
    int64_t size, lb, extent;
};

struct datatype datatype_list = {.next = &datatype_list, .prev = &datatype_list};
static struct stub_lock lock;

/* ----------------------------------------------------------------------------- predefined types */

static struct datatype *basics[256], *pairs[8];

static void set_layout(struct datatype *t, struct layout *l)
{
    struct layout_bounds b = layout_bounds(l);
    t->layout = l;
    t->size = b.size;
    t->lb = b.lb;
    t->extent = b.ub - b.lb;
}

static struct layout *basic_layout(int64_t size)
{
    struct layout *l = NULL;
    int64_t align = size & -size;
    if (size == 0 ? layout_struct(&l, &stub_layout_alloc, 0, NULL, NULL, NULL)
                  : layout_basic(&l, &stub_layout_alloc, size, align > 16 ? 16 : align, 0))
        stub_stop(125, "dbg3: no layout for a basic type of %ld bytes", (long)size);
    return l;
}

/* { value; int }: MPI_FLOAT_INT and its like (mpi.h: layout of the MAXLOC types). */
static struct layout *pair_layout(MPI_Datatype d)
{
    static const struct {
        MPI_Datatype pair;
        int64_t size, offset;
    } table[] = {{MPI_FLOAT_INT, 4, 4},
                 {MPI_DOUBLE_INT, 8, 8},
                 {MPI_LONG_INT, 8, 8},
                 {MPI_SHORT_INT, 2, 4},
                 {MPI_LONG_DOUBLE_INT, 16, 16}};
    struct layout *l = NULL, *parts[2];
    unsigned i = 0;
    while (i < 4 && table[i].pair != d)
        i++;
    const int64_t ones[2] = {1, 1}, disps[2] = {0, table[i].offset};
    parts[0] = basic_layout(table[i].size);
    parts[1] = basic_layout(4);
    if (layout_struct(&l, &stub_layout_alloc, 2, ones, disps, parts))
        stub_stop(125, "dbg3: no layout for a pair type");
    layout_free(parts[0]);
    layout_free(parts[1]);
    return l;
}

static struct datatype *predefined(MPI_Datatype d)
{
    bool pair = datatype_is_pair(d);
    struct datatype **at = pair ? &pairs[d & 7] : &basics[d & 0xff];
    if (*at)
        return *at;
    struct datatype *t = stub_alloc(sizeof *t);
    t->head = (struct object){.real = (uint64_t)(uint32_t)d,
                              .id = d,
                              .refs = 1,
                              .kind = HANDLE_DATATYPE,
                              .predefined = true};
    set_layout(t, pair ? pair_layout(d) : basic_layout(d >> 8 & 0xff));
    t->committed = true;
    t->contiguous = !pair;
    t->combiner = MPI_COMBINER_NAMED;
    *at = t;
    return t;
}

struct datatype *datatype_of(MPI_Datatype d)
{
    if ((d & 0xfc000000) == 0x4c000000 || datatype_is_pair(d))
        return predefined(d);
    return (struct datatype *)handle_object(HANDLE_DATATYPE, d);
}

/* ----------------------------------------------------------------------------- asking MPI */

/* From a handle that MPI_Type_get_contents returned: its object. Drops the reference that MPI
 * added. */
static struct datatype *child_of(int real)
{
    struct datatype *t = datatype_of(real);
    if (t)
        return t;
    t = (struct datatype *)handle_find_real(HANDLE_DATATYPE, (uint64_t)(uint32_t)real);
    int copy = real;
    mpi_cross(CALL_MPI_Type_free, (uint64_t)&copy);
    return t;
}

static struct type_note *ask(int real, uint64_t *bytes)
{
    MPI_Count nints = 0, nadds = 0, ncounts = 0, ntypes = 0;
    struct type_note n = {0};
    int combiner = 0;
    mpi_cross(CALL_MPI_Type_get_envelope_c, (uint64_t)real, (uint64_t)&nints, (uint64_t)&nadds,
              (uint64_t)&ncounts, (uint64_t)&ntypes, (uint64_t)&combiner);
    mpi_cross(CALL_MPI_Type_size_x, (uint64_t)real, (uint64_t)&n.size);
    mpi_cross(CALL_MPI_Type_get_extent_x, (uint64_t)real, (uint64_t)&n.lb, (uint64_t)&n.extent);
    n.combiner = combiner;
    n.nints = nints;
    n.nadds = nadds;
    n.ncounts = ncounts;
    n.ntypes = ntypes;
    *bytes = sizeof n + (size_t)(nints + nadds + ncounts + ntypes) * sizeof(int64_t);
    struct type_note *note = stub_alloc(*bytes);
    *note = n;
    if (!(nints + nadds + ncounts + ntypes) || combiner == MPI_COMBINER_NAMED)
        return note;

    int64_t *p = (int64_t *)(note + 1), *types = p + nints + nadds + ncounts;
    int *ints = stub_alloc((size_t)nints * sizeof(int));
    int *reals = stub_alloc((size_t)ntypes * sizeof(int));
    mpi_cross(CALL_MPI_Type_get_contents_c, (uint64_t)real, nints, nadds, ncounts, ntypes,
              (uint64_t)ints, (uint64_t)(p + nints), (uint64_t)(p + nints + nadds),
              (uint64_t)reals);
    for (int64_t i = 0; i < nints; i++)
        p[i] = ints[i];
    for (int64_t i = 0; i < ntypes; i++) {
        struct datatype *child = child_of(reals[i]);
        types[i] = child ? child->head.id : MPI_DATATYPE_NULL;
    }
    stub_free(ints);
    stub_free(reals);
    return note;
}

/* ----------------------------------------------------------------------------- objects */

static void from_note(struct datatype *t, const struct type_note *n)
{
    const int64_t *p = (const int64_t *)(n + 1);
    t->combiner = (int)n->combiner;
    t->nints = (int)n->nints;
    t->nadds = (int)n->nadds;
    t->ncounts = (int)n->ncounts;
    t->ntypes = (int)n->ntypes;
    t->ints = stub_alloc((size_t)n->nints * sizeof(int));
    for (int64_t i = 0; i < n->nints; i++)
        t->ints[i] = (int)p[i];
    p += n->nints;
    t->adds = stub_memdup(p, (size_t)n->nadds * sizeof(int64_t));
    p += n->nadds;
    t->counts = stub_memdup(p, (size_t)n->ncounts * sizeof(int64_t));
    p += n->ncounts;
    t->types = stub_alloc((size_t)n->ntypes * sizeof *t->types);
    for (int64_t i = 0; i < n->ntypes; i++) {
        t->types[i] = datatype_of((MPI_Datatype)p[i]);
        if (t->types[i])
            object_get(&t->types[i]->head);
    }
}

static bool is_contiguous(const struct datatype *t)
{
    return (t->combiner == MPI_COMBINER_CONTIGUOUS || t->combiner == MPI_COMBINER_DUP) &&
           t->types[0] && t->types[0]->contiguous && t->lb == 0 && t->extent == t->size;
}

/* The layout of the constructor, with the bounds that MPI gives the type. */
static void make_layout(struct datatype *t, const struct type_note *n)
{
    struct layout *l = datatype_build_layout(t, n->size, true);
    if (l && layout_bounds(l).size != n->size) {
        layout_free(l);
        l = datatype_build_layout(t, n->size, false);
    }
    if (!l)
        stub_stop(125, "%s: dbg3 cannot describe this datatype (combiner %d)",
                  call_table[t->head.made].name, t->combiner);
    struct layout_bounds b = layout_bounds(l);
    if (b.size != n->size)
        stub_stop(125, "%s: dbg3 finds a size of %ld bytes where MPI says %ld (combiner %d)",
                  call_table[t->head.made].name, (long)b.size, (long)n->size, t->combiner);
    if (b.lb != n->lb || b.ub != n->lb + n->extent) {
        struct layout *resized;
        if (layout_resized(&resized, n->lb, n->extent, l))
            stub_stop(125, "dbg3: cannot resize a datatype's layout");
        layout_free(l);
        l = resized;
    }
    set_layout(t, l);
    t->contiguous = is_contiguous(t);
}

struct object *datatype_make(struct made *m)
{
    struct datatype *t = stub_alloc(sizeof *t);
    t->head.made = m->call;
    if (!m->replay)
        m->note = ask((int)m->real, &m->note_bytes);
    from_note(t, m->note);
    make_layout(t, m->note);
    if (call_table[m->call].before == before_type_dup)
        attr_take_copies(&t->attrs);
    if (call_table[m->call].flags & CALL_EXISTING)
        t->committed = true; /* parametrised Fortran types */
    else if (t->combiner == MPI_COMBINER_DUP && t->types[0])
        t->committed = t->types[0]->committed;
    stub_lock(&lock);
    t->prev = datatype_list.prev;
    t->next = &datatype_list;
    t->prev->next = t->next->prev = t;
    stub_unlock(&lock);
    return &t->head;
}

void datatype_destroy(struct object *o)
{
    struct datatype *t = (struct datatype *)o;
    if (t->head.real && !replaying() && !stub_gate.finalized) {
        int real = (int)t->head.real;
        mpi_cross(CALL_MPI_Type_free, (uint64_t)&real);
    }
    stub_lock(&lock);
    t->next->prev = t->prev;
    t->prev->next = t->next;
    stub_unlock(&lock);
    for (int i = 0; i < t->ntypes; i++)
        if (t->types[i])
            object_put(&t->types[i]->head);
    layout_free(t->layout);
    stub_free(t->ints);
    stub_free(t->adds);
    stub_free(t->counts);
    stub_free(t->types);
    stub_free(t->name);
}

int64_t datatype_pack(MPI_Datatype d, int64_t count, const void *buf, void *out, int64_t room)
{
    struct datatype *t = datatype_of(d);
    if (!t)
        return 0;
    if (t->contiguous && count * t->size <= room) {
        memcpy(out, buf, (size_t)(count * t->size));
        return count * t->size;
    }
    return layout_pack(t->layout, count, buf, out, (size_t)room);
}

int64_t datatype_unpack(MPI_Datatype d, int64_t count, void *buf, const void *in, int64_t bytes)
{
    struct datatype *t = datatype_of(d);
    if (!t)
        return 0;
    if (t->contiguous && bytes <= count * t->size) {
        memcpy(buf, in, (size_t)bytes);
        return bytes;
    }
    return layout_unpack(t->layout, count, buf, in, (size_t)bytes);
}

uint64_t datatype_digest(MPI_Datatype d, int64_t count, const void *buf)
{
    struct datatype *t = datatype_of(d);
    return t && count > 0 ? layout_digest(t->layout, count, buf) : 0;
}

/* ----------------------------------------------------------------------------- by hand */

int before_type_dup(enum call call, const uint64_t *v)
{
    struct datatype *t = datatype_of((MPI_Datatype)v[0]);
    return t ? attr_copy_all((int)v[0], &t->attrs) : 0;
}

int before_type_free(enum call call, const uint64_t *v)
{
    MPI_Datatype *id = (MPI_Datatype *)v[0];
    struct datatype *t = datatype_of(*id);
    return t && !t->head.predefined && t->head.handles == 1 ? attr_delete_all(*id, &t->attrs) : 0;
}

/* The lower half's type lives until nothing needs it: further handles, which MPI_Type_get_contents
 * hands out, and persistent requests, each of whose starts names it. */
int hand_type_free(enum call call, const uint64_t *v)
{
    MPI_Datatype *id = (MPI_Datatype *)v[0];
    struct datatype *t = datatype_of(*id);
    if (!t || t->head.predefined)
        return call_generic(call, v);
    int rc = before_type_free(call, v);
    if (rc)
        return error_return(call, v, rc);
    handle_free(&t->head);
    *id = MPI_DATATYPE_NULL;
    return MPI_SUCCESS;
}

void after_type_commit(enum call call, const uint64_t *v)
{
    struct datatype *t = datatype_of(*(MPI_Datatype *)v[0]);
    if (t)
        t->committed = true;
}

void after_type_set_name(enum call call, const uint64_t *v)
{
    struct datatype *t = datatype_of((MPI_Datatype)v[0]);
    if (t)
        object_keep_text(&t->name, (const char *)v[1]);
}

/* Stores a number as the int or MPI_Count that parameter i points to; MPI_UNDEFINED if it does not
 * fit. */
static void put_count(enum call call, const uint64_t *v, int i, int64_t n)
{
    if (call_table[call].params[i].size == sizeof(MPI_Count))
        *(MPI_Count *)v[i] = n;
    else
        *(int *)v[i] = n > INT32_MAX ? MPI_UNDEFINED : (int)n;
}

int hand_type_size(enum call call, const uint64_t *v)
{
    int64_t size = datatype_size((MPI_Datatype)v[0]);
    if (size < 0)
        return error_bad_object(call, v);
    put_count(call, v, 1, size);
    return MPI_SUCCESS;
}

int hand_get_count(enum call call, const uint64_t *v)
{
    int64_t size = datatype_size((MPI_Datatype)v[1]);
    int64_t bytes = status_bytes((const MPI_Status *)v[0]);
    if (size < 0)
        return error_return(call, v, MPI_ERR_TYPE);
    /* A type of no bytes: 0 elements of an empty message, undefined otherwise (MPI 4.0 §3.2.5). */
    int64_t n = size ? (bytes % size ? MPI_UNDEFINED : bytes / size) : bytes ? MPI_UNDEFINED : 0;
    put_count(call, v, 2, n);
    return MPI_SUCCESS;
}

int hand_status_set_elements(enum call call, const uint64_t *v)
{
    int64_t size = datatype_size((MPI_Datatype)v[1]);
    int64_t count = (int64_t)v[2];
    if (size < 0)
        return error_return(call, v, MPI_ERR_TYPE);
    status_set_bytes((MPI_Status *)v[0], count * size);
    return MPI_SUCCESS;
}

/* Small calls tell of large-count types what is an int; they have no way to tell the rest. */
int hand_type_get_envelope(enum call call, const uint64_t *v)
{
    struct datatype *t = datatype_of((MPI_Datatype)v[0]);
    if (!t)
        return error_return(call, v, MPI_ERR_TYPE);
    bool large = (call_table[call].flags & CALL_LARGE) != 0;
    if (!large && t->ncounts)
        return error_return(call, v, MPI_ERR_TYPE);
    put_count(call, v, 1, t->nints);
    put_count(call, v, 2, t->nadds);
    if (large)
        put_count(call, v, 3, t->ncounts);
    put_count(call, v, large ? 4 : 3, t->ntypes);
    *(int *)v[large ? 5 : 4] = t->combiner;
    return MPI_SUCCESS;
}

int hand_type_get_contents(enum call call, const uint64_t *v)
{
    struct datatype *t = datatype_of((MPI_Datatype)v[0]);
    bool large = (call_table[call].flags & CALL_LARGE) != 0;
    if (!t || t->combiner == MPI_COMBINER_NAMED || (t->ncounts && !large))
        return error_return(call, v, MPI_ERR_TYPE);
    const uint64_t *max = v + 1, *out = v + (large ? 5 : 4);
    if ((int64_t)max[0] < t->nints || (int64_t)max[1] < t->nadds ||
        (int64_t)max[large ? 3 : 2] < t->ntypes || (large && (int64_t)max[2] < t->ncounts))
        return error_return(call, v, MPI_ERR_ARG);
    memcpy((void *)out[0], t->ints, (size_t)t->nints * sizeof(int));
    memcpy((void *)out[1], t->adds, (size_t)t->nadds * sizeof(int64_t));
    if (large)
        memcpy((void *)out[2], t->counts, (size_t)t->ncounts * sizeof(int64_t));
    const unsigned param = large ? 8 : 6;
    MPI_Datatype *types = (MPI_Datatype *)v[param];
    for (int i = 0; i < t->ntypes; i++) {
        struct datatype *child = t->types[i];
        types[i] = !child ? MPI_DATATYPE_NULL : child->head.id;
        /* The application must free the handles of derived types that it gets here. */
        if (child && !child->head.predefined)
            types[i] = datatype_hand_out(call, param, child);
    }
    return MPI_SUCCESS;
}
