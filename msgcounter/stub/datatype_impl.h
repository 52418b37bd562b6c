/*
 * datatype_impl.h - between datatype.c and datatype_build.c
 */
#ifndef DBG3_STUB_DATATYPE_IMPL_H
#define DBG3_STUB_DATATYPE_IMPL_H

#include "msgcounter/stub/call.h"
#include "msgcounter/stub/datatype.h"

/* All made types, a ring through this element. */
extern struct datatype datatype_list;

/* The layout of a type from its combiner and arguments; `size` is that of types without parts
 * (Fortran's parametrised ones). Not `float16`: MPIX_C_FLOAT16 has no bytes in a type that is made
 * of it, as an MPICH for compilers without such numbers has it. NULL if the combiner is unknown or
 * the arguments are bad. */
struct layout *datatype_build_layout(const struct datatype *t, int64_t size, bool float16);

/* Gives the application a handle of a type that MPI_Type_get_contents returns (call_hand_out).
 * [crosses] */
int datatype_hand_out(enum call call, unsigned param, struct datatype *t);

#endif
