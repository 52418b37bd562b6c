/*
 * buffers.c - message buffers of a call, as its row describes them
 */
#include "msgcounter/stub/buffers.h"

#include "msgcounter/stub/call_param.h"
#include "msgcounter/stub/datatype.h"
#include "msgcounter/stub/record.h"

/* A part of a buffer. */
struct block {
    unsigned char *at;
    int64_t count;
    MPI_Datatype type;
};

struct buffers buffers_of(const struct call_info *info, const uint64_t *v)
{
    const struct comm *c = info->comm < 0 ? NULL : comm_of((MPI_Comm)v[info->comm]);
    return (struct buffers){.info = info, .v = v, .comm = c};
}

static int64_t element(const struct buffers *b, int param, int64_t k)
{
    const void *a = (const void *)b->v[param];
    return b->info->params[param].size == 8 ? ((const int64_t *)a)[k] : ((const int *)a)[k];
}

static int64_t extent_of(MPI_Datatype type)
{
    const struct datatype *t = datatype_of(type);
    return t ? t->extent : 0;
}

/* Whom a rank exchanges blocks with: over an intercommunicator it is the other group. */
static int64_t members(const struct comm *c)
{
    return c->remote_size ? c->remote_size : c->size;
}

int64_t buffers_vector(const struct buffers *b, unsigned i)
{
    const struct param_info *p = &b->info->params[i];
    if (p->kind != PARAM_BUFFER || !b->comm)
        return 0;
    if (p->span == SPAN_SUM || p->span == SPAN_MINE)
        return b->comm->size;
    if (p->span != SPAN_V && p->span != SPAN_W)
        return 0;
    if (!(b->info->flags & CALL_NEIGHBORS))
        return members(b->comm);
    return p->dir == DIR_IN ? b->comm->topo.outdegree : b->comm->topo.indegree;
}

static int64_t blocks(const struct buffers *b, unsigned i)
{
    const struct param_info *p = &b->info->params[i];
    if (p->span == SPAN_V || p->span == SPAN_W)
        return buffers_vector(b, i);
    return p->span == SPAN_SIZE && b->omits & 1u << i ? 2 : 1;
}

/*
 * Reduce_scatter in place: the output stands where the input stood, and MPI leaves what it likes in
 * the rest (MPICH: sums, where it adds piece by piece). A program may look there, so all of it is
 * what the call has written.
 */
static const struct param_info *description(const struct buffers *s, unsigned i)
{
    const struct param_info *p = &s->info->params[i];
    bool in_place = i > 0 && p->dir == DIR_OUT && s->v[i - 1] == (uint64_t)MPI_IN_PLACE &&
                    p[-1].kind == PARAM_BUFFER;
    return in_place && (p[-1].span == SPAN_SUM || p[-1].span == SPAN_LOCAL) ? p - 1 : p;
}

static struct block whole_block(const struct buffers *s, unsigned i, int64_t k)
{
    const uint64_t *v = s->v;
    const struct param_info *p = description(s, i);
    const struct comm *c = s->comm;
    struct block b = {(unsigned char *)v[i], 0, MPI_DATATYPE_NULL};
    if (p->span != SPAN_W && p->type >= 0)
        b.type = (MPI_Datatype)v[p->type];
    switch ((enum buffer_span)p->span) {
    case SPAN_ONE:
        b.count = (int64_t)v[p->count];
        break;
    case SPAN_SIZE:
        b.count = (int64_t)v[p->count] * members(c);
        break;
    case SPAN_LOCAL:
        b.count = (int64_t)v[p->count] * c->size;
        break;
    case SPAN_IN_NEIGHBORS:
        b.count = (int64_t)v[p->count] * c->topo.indegree;
        break;
    case SPAN_OUT_NEIGHBORS:
        b.count = (int64_t)v[p->count] * c->topo.outdegree;
        break;
    case SPAN_SUM:
        for (int r = 0; r < c->size; r++)
            b.count += element(s, p->count, r);
        break;
    case SPAN_MINE:
        b.count = element(s, p->count, c->rank);
        break;
    case SPAN_V:
        b.count = element(s, p->count, k);
        b.at += element(s, p->displs, k) * extent_of(b.type);
        break;
    case SPAN_W:
        b.type = ((const MPI_Datatype *)v[p->type])[k];
        b.count = element(s, p->count, k);
        b.at += element(s, p->displs, k);
        break;
    case SPAN_PACKED:
    case SPAN_OPAQUE:
        break;
    }
    return b;
}

/* Of as many blocks as there are members, `n` from the first on. */
static struct block some_blocks(const struct buffers *s, unsigned i, int64_t first, int64_t n)
{
    struct block b = whole_block(s, i, 0);
    int64_t count = (int64_t)s->v[s->info->params[i].count];
    b.at += first * count * extent_of(b.type);
    b.count = n * count;
    return b;
}

static struct block block(const struct buffers *s, unsigned i, int64_t k)
{
    if (!(s->omits & 1u << i))
        return whole_block(s, i, k);
    int64_t rank = s->comm->rank;
    if (s->info->params[i].span == SPAN_SIZE)
        return k == 0 ? some_blocks(s, i, 0, rank)
                      : some_blocks(s, i, rank + 1, members(s->comm) - rank - 1);
    struct block b = whole_block(s, i, k);
    if (s->info->params[i].span == SPAN_ONE || k == rank)
        b.count = 0;
    return b;
}

/* Of a rooted collective over an intercommunicator: the root, its idle group, or the others. */
static bool used_between_groups(const struct buffers *b, const struct param_info *p, int dir)
{
    int root = (int)b->v[b->info->root];
    if (root == MPI_PROC_NULL)
        return false;
    if (p->dir == DIR_INOUT)
        return dir == (root == MPI_ROOT ? DIR_IN : DIR_OUT);
    return p->dir == dir && (root == MPI_ROOT) == (p->where == WHERE_ROOT);
}

bool buffers_used(const struct buffers *b, unsigned i, int dir)
{
    const struct param_info *p = &b->info->params[i];
    if (p->kind != PARAM_BUFFER || p->span == SPAN_OPAQUE || b->v[i] == (uint64_t)MPI_IN_PLACE)
        return false;
    if (b->info->comm >= 0 && !b->comm)
        return false; /* MPI refuses the call */
    if (b->info->root >= 0 && b->comm && b->comm->remote_size)
        return used_between_groups(b, p, dir);
    bool root = b->info->root < 0 || (b->comm && (int)b->v[b->info->root] == b->comm->rank);
    if (p->dir == DIR_INOUT) /* a broadcast's */
        return dir == (root ? DIR_IN : DIR_OUT);
    if (p->where != WHERE_ALL && root != (p->where == WHERE_ROOT))
        return false;
    return p->dir == dir;
}

uint64_t buffers_bytes(const struct buffers *s, unsigned i)
{
    uint64_t bytes = 0;
    for (int64_t k = 0, n = blocks(s, i); k < n; k++) {
        struct block b = block(s, i, k);
        int64_t size = b.count > 0 ? datatype_size(b.type) : 0;
        bytes += size > 0 ? (uint64_t)(b.count * size) : 0;
    }
    return bytes;
}

uint64_t buffers_digest(const struct buffers *s, unsigned i)
{
    uint64_t digest = 0;
    for (int64_t k = 0, n = blocks(s, i); k < n; k++) {
        struct block b = block(s, i, k);
        if (b.count > 0)
            digest = digest * 0x9e3779b97f4a7c15u + datatype_digest(b.type, b.count, b.at);
    }
    return digest;
}

void buffers_pack(const struct buffers *s, unsigned i, unsigned char *to)
{
    for (int64_t k = 0, n = blocks(s, i); k < n; k++) {
        struct block b = block(s, i, k);
        const struct datatype *t = b.count > 0 ? datatype_of(b.type) : NULL;
        if (!t)
            continue;
        record_pack(t->layout, b.at, to, (uint64_t)(b.count * t->size));
        to += b.count * t->size;
    }
}

void buffers_unpack(const struct buffers *s, unsigned i, const unsigned char *from, uint64_t left)
{
    for (int64_t k = 0, n = blocks(s, i); k < n; k++) {
        struct block b = block(s, i, k);
        int64_t bytes = b.count > 0 ? b.count * datatype_size(b.type) : 0;
        if ((uint64_t)bytes > left)
            bytes = (int64_t)left;
        if (bytes)
            datatype_unpack(b.type, b.count, b.at, from, bytes);
        from += bytes;
        left -= (uint64_t)bytes;
    }
}

static const void *own_piece(const struct buffers *s, unsigned i, uint64_t *bytes)
{
    int rank = s->comm->rank;
    struct block b = s->info->params[i].span == SPAN_SIZE ? some_blocks(s, i, rank, 1)
                                                          : whole_block(s, i, rank);
    const struct datatype *t = b.count > 0 ? datatype_of(b.type) : NULL;
    *bytes = t ? (uint64_t)(b.count * t->size) : 0;
    return t ? layout_piece(t->layout, b.count, b.at) : NULL;
}

struct buffers_own buffers_own(const struct buffers *b)
{
    struct buffers_own own = {0};
    uint64_t sent = 0, received = 0;
    if (!(b->info->flags & CALL_OWN) || !b->comm || b->comm->remote_size)
        return own;
    for (unsigned i = 0; i < b->info->nparams; i++)
        if (buffers_used(b, i, DIR_IN)) {
            own.from = own_piece(b, i, &sent);
            own.apart = b->info->params[i].span == SPAN_ONE ? 0 : 1u << i;
        } else if (buffers_used(b, i, DIR_OUT)) {
            own.to = (void *)own_piece(b, i, &received);
            own.param = i;
        }
    if (own.from && own.to && sent == received)
        own.bytes = sent;
    return own;
}
