/*
 * stub.h - what the stub's files share about the stub as a whole
 */
#ifndef DBG3_STUB_STUB_H
#define DBG3_STUB_STUB_H

#include "msgcounter/stub/thread.h"

/* The functions and facts the lower half sees (runtime/half/gate.h). Filled by stub.c from the
 * other files' functions; its address is the root that images carry. */
extern struct gate_stub stub_gate;

/* Sets the present thread's entry into the stub for tests and callbacks. See thread.c. */
void stub_thread_init(void);

/* First use of this thread in this process: gives it a lower FS and, once, its ordinal. */
void stub_thread_attach(void);

/* libc's function, where one of the stub has taken its place. *known keeps it for the next time. */
void *stub_next(const char *name, void **known);

/* Three texts as one, cut off at `size`. No libc. [any FS] */
static inline void stub_join(char *to, unsigned size, const char *a, const char *b, const char *c)
{
    const char *texts[] = {a, b, c};
    unsigned n = 0;
    for (int i = 0; i < 3; i++)
        for (const char *p = texts[i]; *p && n + 1 < size; p++)
            to[n++] = *p;
    to[n] = 0;
}

#endif
