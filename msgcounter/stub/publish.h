/*
 * publish.h - names that the rank has published (MPI 4.0 §11.9.4)
 */
#ifndef DBG3_STUB_PUBLISH_H
#define DBG3_STUB_PUBLISH_H

/* After a restart: publishes them again, for the new job's name server knows none. Returns 0 or
 * MPI's code. [crosses] */
int publish_rebuild(void);

#endif
