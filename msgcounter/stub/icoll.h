/*
 * icoll.h - non-blocking and persistent collectives
 *
 * A non-blocking collective is entered like any other (coll.h) and completed like any request.
 * What it has written is recorded when it is delivered. A cut falls where all members have started
 * it, so a drain completes it: none is ever in an image.
 *
 * A persistent one keeps its persistent request in the lower half, because MPI lets the members
 * start several in different orders (MPI 4.0 §6.13): a start is a collective of the request
 * itself, not of its communicator. A restart makes the requests again that all members still have.
 */
#ifndef DBG3_STUB_ICOLL_H
#define DBG3_STUB_ICOLL_H

#include "msgcounter/stub/request.h"

/* What a request keeps of its call until it ends. Datatypes and operations of the application stay
 * alive, also by their handles. */
struct icoll;

/* The call has made r. `arrays` (CALL_PARAMS_MAX from stub_alloc, or NULL) are what the lower half
 * got in place of the application's; they are the request's from now on. */
void icoll_attach(struct request *r, enum call call, const uint64_t *v, void *const *arrays);

/* With the request. NULL is fine. */
void icoll_destroy(struct icoll *ic);

/* What this rank has received, packed: at the request's completion. */
uint64_t icoll_bytes(const struct request *r);
void icoll_pack(const struct request *r, void *to);
void icoll_unpack(const struct request *r, const void *from, uint64_t bytes);

/* Starts a persistent one: live, or from the event `call`. Returns MPI's code. [crosses] */
int icoll_start(enum call call, struct request *r);

/* After a restart: makes the persistent ones again. Collective over the job. Returns 0 or MPI's
 * code. [crosses] */
int icoll_rebuild(void);

#endif
