/*
 * match.c - messages that were received before the application asked for them
 */
#include "msgcounter/stub/match.h"

static struct match_list *list_of(const struct match_queue *q, uint64_t comm)
{
    uint64_t h = comm * 0x9e3779b97f4a7c15u;
    return (struct match_list *)&q->bucket[h >> 58];
}

static int fits(const struct match_message *m, uint64_t comm, int source, int tag)
{
    return m->comm == comm && (source == MATCH_ANY_SOURCE || source == m->source) &&
           (tag == MATCH_ANY_TAG || tag == m->tag);
}

struct match_message *match_new(struct match_queue *q, int64_t bytes)
{
    struct match_message *m = q->alloc(sizeof *m + (size_t)bytes);
    m->next = NULL;
    m->bytes = bytes;
    return m;
}

void match_free(struct match_queue *q, struct match_message *m)
{
    if (m)
        q->free(m);
}

void match_add(struct match_queue *q, struct match_message *m)
{
    struct match_list *l = list_of(q, m->comm);
    if (!l->end)
        l->end = &l->first;
    m->next = NULL;
    *l->end = m;
    l->end = &m->next;
    q->count++;
}

/* The link that points to the first message that fits; it points to NULL if none does. */
static struct match_message **link_to(const struct match_queue *q, uint64_t comm, int source,
                                      int tag)
{
    struct match_message **p = &list_of(q, comm)->first;
    while (*p && !fits(*p, comm, source, tag))
        p = &(*p)->next;
    return p;
}

struct match_message *match_find(const struct match_queue *q, uint64_t comm, int source, int tag)
{
    return q->count ? *link_to(q, comm, source, tag) : NULL;
}

struct match_message *match_take(struct match_queue *q, uint64_t comm, int source, int tag)
{
    struct match_message **p, *m;
    if (!q->count)
        return NULL;
    p = link_to(q, comm, source, tag);
    m = *p;
    if (!m)
        return NULL;
    *p = m->next;
    if (!m->next)
        list_of(q, comm)->end = p;
    m->next = NULL;
    q->count--;
    return m;
}
