/*
 * signals.h - GDB's own signal numbers, which are the protocol's, and the host's
 */
#ifndef DBG3_GDBBRIDGE_SIGNALS_H
#define DBG3_GDBBRIDGE_SIGNALS_H

#include <stdbool.h>

#define GDB_SIGNAL_UNKNOWN 143

/* Protocol number of a Linux signal (GDB_SIGNAL_UNKNOWN if it has none) and back (-1 if Linux
 * has no such signal). 0 is 0. */
int signal_to_gdb(int signo);
int signal_from_gdb(int number);

/* The C library's own (pthread_cancel, setuid), which no debugger asks for. */
bool signal_is_of_libc(int signo);

#endif
