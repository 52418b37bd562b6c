/*
 * tool.h - the tool information interface (MPI_T)
 *
 * Its handles are pointers of the lower half, and pass through. They cannot be made again after a
 * restart, so there is no epoch while it is in use. Recorded are its answers as they came, also
 * the values of variables, whose length only the variable knows.
 */
#ifndef DBG3_STUB_TOOL_H
#define DBG3_STUB_TOOL_H

#include <stdbool.h>

/* Between MPI_T_init_thread and the last MPI_T_finalize. */
bool tool_in_use(void);

#endif
