/*
 * win_shared.h - windows of memory that several ranks share
 *
 *     lower half   | part of rank 0 | part of rank 1 | part of rank 2 |   MPI's own mapping
 *                   |                                                |
 *     upper half       the same pages once more: what the application gets to see
 *
 * One-sided operations use the lower mapping, loads and stores the upper one. An image holds what
 * the rank sees, all parts. At a restart each rank puts its own part into the new memory, which
 * takes the place of the old at the same addresses. In isolation the memory is private; what other
 * ranks did to it comes from the log (win_watch.h).
 */
#ifndef DBG3_STUB_WIN_SHARED_H
#define DBG3_STUB_WIN_SHARED_H

#include "msgcounter/stub/win.h"

/* What MPI_Win_shared_query tells. */
struct win_part {
    MPI_Aint size, disp_unit;
    unsigned char *base;
};

/* A shared window of one rank is memory of its own. */
void win_shared_alone(struct win *w);

/* After a restart: makes the real window, in *real, and puts its memory in place. Collective over
 * the window. Returns 0 or MPI's code. [crosses] */
int win_shared_again(struct win *w, uint64_t info, uint64_t comm, int *real);

#endif
