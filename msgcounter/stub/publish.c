/*
 * publish.c - names that the rank has published
 */
#include "msgcounter/stub/publish.h"

#include <string.h>

#include "msgcounter/stub/call.h"
#include "msgcounter/stub/handle.h"

static struct published {
    struct published *next;
    char *service, *port;
} *names;

/* service_name, info, port_name */
void after_publish_name(enum call call, const uint64_t *v)
{
    struct published *n = stub_alloc(sizeof *n);
    stub_lock(&object_lock);
    *n = (struct published){.next = names,
                            .service = stub_strdup((const char *)v[0]),
                            .port = stub_strdup((const char *)v[2])};
    names = n;
    stub_unlock(&object_lock);
}

void after_unpublish_name(enum call call, const uint64_t *v)
{
    stub_lock(&object_lock);
    for (struct published **p = &names; *p; p = &(*p)->next) {
        struct published *n = *p;
        if (strcmp(n->service, (const char *)v[0]))
            continue;
        *p = n->next;
        stub_free(n->service);
        stub_free(n->port);
        stub_free(n);
        break;
    }
    stub_unlock(&object_lock);
}

int publish_rebuild(void)
{
    int rc = 0;
    for (const struct published *n = names; n && !rc; n = n->next)
        rc = mpi_cross(CALL_MPI_Publish_name, (uint64_t)n->service, MPI_INFO_NULL,
                       (uint64_t)n->port);
    return rc;
}
