/*
 * rebuild.h - giving the rank's objects to a new MPI library after a restart
 */
#ifndef DBG3_STUB_REBUILD_H
#define DBG3_STUB_REBUILD_H

/* gate_stub.rebuild: error classes, info, communicators, groups, datatypes,
 * operations, then what is pending (request.h). */
int rebuild_all(void);

/* gate_stub.unable */
const char *rebuild_unable(void);

/* comm.c: all communicators of this rank. Collective over the job. Returns 0 or an MPI error code.
   [crosses] */
int comm_rebuild(void);

/* group.c */
int group_rebuild(void);

#endif
