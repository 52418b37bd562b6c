/*
 * grequest.h - generalized requests
 *
 * They live wholly in the upper half: MPI has no part in them but to call the application's
 * functions, and the stub does that. So a restart has nothing to make again. In a recording their
 * start (for its id) and their completion (for its place among the events of other threads) are
 * events; the functions run again in replay.
 *
 * Those of MPICH's extension have a function more, which is called whenever the request is tested
 * or waited for, and may complete it. How often is up to chance, so that each time is an event.
 */
#ifndef DBG3_STUB_GREQUEST_H
#define DBG3_STUB_GREQUEST_H

#include "msgcounter/stub/request.h"

/* One that is complete is about to be delivered: asks the application for its status. */
void grequest_query(struct request *r);

/* Calls the poll functions of those that are pending, as often as there is reason to: once, or in a
 * replay as often as was recorded. False: there are none. */
bool grequest_poll(int n, struct request *const *req);

/* The application gets rid of it: its last function is called, whose error it returns. Does not end
 * the request. */
int grequest_free(struct request *r);

/* MPI_Cancel and MPI_Request_free. Return MPI's code. */
int grequest_cancel(struct request *r);
int grequest_request_free(struct request *r);

/* Its functions are Fortran's, with an error code as one more argument. */
void grequest_set_fortran(MPI_Request id);

/* What a wait does between two looks when only the application can complete something. Meets safe
 * points; *turn counts from 0. */
void grequest_pause(unsigned *turn);

#endif
