/*
 * fortran.h - what libmpichfort and libmpichcxx ask of libmpich besides the MPI functions
 *
 * Both libraries live in the upper half and call the stub. They convert sentinels themselves, by
 * comparing with data symbols of libmpich that fortran.c defines; attribute values and callbacks
 * come with a language.
 */
#ifndef DBG3_STUB_FORTRAN_H
#define DBG3_STUB_FORTRAN_H

#include <mpi.h>
#include <stdint.h>

#include "msgcounter/stub/call.h"

/* How an attribute was set: MPIR_Attr_type of MPICH 4.0 (mpir_attr_generic.h). */
enum attr_type { ATTR_PTR = 0, ATTR_AINT = 1, ATTR_INT = 3 };

/* MPII_Attr_copy_proxy and MPII_Attr_delete_proxy of MPICH 4.0: call a callback of another
 * language. */
typedef int attr_copy_proxy(void (*user)(void), int handle, int keyval, void *extra, int type,
                            void *value, void **copy, int *flag);
typedef int attr_delete_proxy(void (*user)(void), int handle, int keyval, int type, void *value,
                              void *extra);

/* attr.c */
void attr_set_proxy(int keyval, attr_copy_proxy *copy, attr_delete_proxy *delete);
int attr_get(enum call call, const uint64_t *v, int type);
int attr_set(enum call call, const uint64_t *v, int type);

#endif
