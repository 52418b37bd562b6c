/*
 * program.h - what an ELF program says about itself (libelf), and where a pc is in it (libdw)
 */
#ifndef DBG3_COORD_PROGRAM_H
#define DBG3_COORD_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/base/err.h"

#define PROGRAM_ID_MAX 96

enum program_mpi {
    /* nothing of MPI among its direct needs (a library of its own may need it) */
    PROGRAM_MPI_NONE,
    PROGRAM_MPI_OURS,  /* libmpich.so.12 or libmpi.so.12, or MPICH's Fortran or C++ library */
    PROGRAM_MPI_OTHER, /* another MPI library, named in `mpi` */
};

struct program {
    bool is_elf;     /* if not, nothing below is set */
    bool is_program; /* ET_EXEC, or ET_DYN with an interpreter or marked as PIE */
    bool is_x86_64;
    bool is_static; /* no interpreter */
    bool is_setuid; /* or setgid, or has file capabilities' effect of dropping LD_PRELOAD */
    enum program_mpi mpi;
    char mpi_name[64];
};

/* Reads a file. -1 only if it cannot be read; a file that is no ELF is described as such. */
int program_read(const char *path, struct program *program, struct err *err);

/* The build-id in hex, or "xxh3:" and a hash of the whole file if it has none. */
int program_build_id(const char *path, char *buf, size_t cap, struct err *err);

/*
 * "file.c:12 in function" for the byte at `offset` of the file, as far as symbols and debug
 * information say; "" if they say nothing. `is_return` for a return address: looks at the call.
 */
void program_source(const char *path, uint64_t offset, bool is_return, char *buf, size_t cap);

/* The same for the innermost frame, of the thread of which an image says that it failed, that is
 * neither in a library of the system nor in MPI: abort() is called by somebody. */
void program_frame_source(const char *image, const char *program, char *buf, size_t cap);

#endif
