/*
 * osdata.h - what `info os` in GDB shows of this machine: its processes, sockets, shared memory ...
 */
#ifndef DBG3_GDBBRIDGE_OSDATA_H
#define DBG3_GDBBRIDGE_OSDATA_H

struct bytes;

/* The table of a type as GDB's document (gdb-osdata.dtd); "": the table of types. Puts nothing into
 * `out` if there is no such type. */
void osdata(const char *type, struct bytes *out);

#endif
