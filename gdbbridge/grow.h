/*
 * grow.h - arrays that grow
 */
#ifndef DBG3_GDBBRIDGE_GROW_H
#define DBG3_GDBBRIDGE_GROW_H

#include <stdlib.h>

/* Room for one more element behind the n that there are. Returns the array, which may have moved;
 * the caller's. Ends the program without memory. */
static inline void *grow(void *array, size_t n, size_t *room, size_t size)
{
    if (n < *room)
        return array;
    *room = *room ? 2 * *room : 64;
    array = realloc(array, *room * size);
    if (!array)
        abort();
    return array;
}

#endif
