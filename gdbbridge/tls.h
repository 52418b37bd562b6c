/*
 * tls.h - where a thread has a thread-local variable (glibc, x86-64)
 *
 * What libthread_db's td_thr_tls_get_addr does, without libthread_db: that one refuses threads
 * whose descriptor holds another thread id than the kernel's, as in a pid namespace. The layout of
 * glibc's private structures is read from the _thread_db_* descriptors that libc.so.6 carries for
 * debuggers (glibc nptl_db/structs.def), so it is right for the C library of the process, whichever
 * that is.
 */
#ifndef DBG3_GDBBRIDGE_TLS_H
#define DBG3_GDBBRIDGE_TLS_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

/* The memory of the process. `read` returns 0 if all of it could be read, else -1. */
struct tls_memory {
    int (*read)(void *arg, uint64_t addr, void *to, size_t size);
    void *arg;
};

/* fs_base: the thread's. link_map: of the module, 0 for a statically linked program. offset: in the
 * module's TLS block. Fails if the thread has no such block yet (glibc allocates those of
 * dlopened modules at their first use). */
int tls_address(const struct tls_memory *m, uint64_t fs_base, uint64_t link_map, uint64_t offset,
                uint64_t *addr, struct err *err);

#endif
