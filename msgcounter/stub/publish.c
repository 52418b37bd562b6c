/*
 * publish.c - names that the rank has published
 */
#include "msgcounter/stub/publish.h"

#include <string.h>

#include "msgcounter/stub/call.h"

static struct published {
    struct published *next;
    char *service, *port;
} *names;

static char *copy_text(const char *s)
{
    return stub_memdup(s, strlen(s) + 1);
}

/* service_name, info, port_name */
void after_publish_name(enum call call, const uint64_t *v)
{
    struct published *n = stub_alloc(sizeof *n);
    *n = (struct published){names, copy_text((const char *)v[0]), copy_text((const char *)v[2])};
    names = n;
}

void after_unpublish_name(enum call call, const uint64_t *v)
{
    for (struct published **p = &names; *p; p = &(*p)->next) {
        struct published *n = *p;
        if (strcmp(n->service, (const char *)v[0]))
            continue;
        *p = n->next;
        stub_free(n->service);
        stub_free(n->port);
        stub_free(n);
        return;
    }
}

int publish_rebuild(void)
{
    int rc = 0;
    for (const struct published *n = names; n && !rc; n = n->next)
        rc = mpi_cross(CALL_MPI_Publish_name, (uint64_t)n->service, MPI_INFO_NULL,
                       (uint64_t)n->port);
    return rc;
}
