/*
 * rebuild.h - giving the rank's objects to a new MPI library after a restart
 */
#ifndef DBG3_STUB_REBUILD_H
#define DBG3_STUB_REBUILD_H

/* gate_stub.rebuild: error classes, info, communicators in order of creation, groups, datatypes,
 * operations, then what is pending (request.h). */
int rebuild_all(void);

/* gate_stub.unable */
const char *rebuild_unable(void);

/* comm.c: all communicators of this rank. Every rank makes its communicators in the same
 * relative order, which is what keeps MPI_Comm_create_group from deadlock. Returns 0 or an MPI
 * error code. [crosses] */
int comm_rebuild(void);

/* group.c */
int group_rebuild(void);

#endif
