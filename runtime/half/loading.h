/*
 * loading.h - the libraries of a process, and to be told when it loads more
 *
 * ld.so calls r_brk of struct r_debug, a function that does nothing, whenever its list of libraries
 * has changed: debuggers stop there. on_loading() has it jump to a hook. Without libc, for the
 * constructor that runs before libc's.
 *
 * Sources: <link.h>; System V gABI, dynamic section; glibc elf/dl-debug.c, elf/dl-open.c (called
 * with new libraries mapped, before any of their code runs).
 */
#ifndef DBG3_HALF_LOADING_H
#define DBG3_HALF_LOADING_H

#include <link.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>

#include "runtime/half/sys.h"

/* An entry of a library's dynamic section, NULL: it has none. */
static inline const ElfW(Dyn) *loading_entry(const struct link_map *lib, int64_t tag)
{
    const ElfW(Dyn) *d = lib->l_ld;
    while (d && d->d_tag != DT_NULL && d->d_tag != tag)
        d++;
    return d && d->d_tag == tag ? d : NULL;
}

/* One that is an address, 0: it has none. ld.so has made it absolute, mostly. */
static inline uint64_t loading_address(const struct link_map *lib, int64_t tag)
{
    const ElfW(Dyn) *d = loading_entry(lib, tag);
    return !d ? 0 : d->d_un.d_ptr < lib->l_addr ? d->d_un.d_ptr + lib->l_addr : d->d_un.d_ptr;
}

/* Is that the MPI whose place the stub takes, by its DT_SONAME? */
static inline bool loading_is_mpi(const struct link_map *lib)
{
    static const char *const names[] = {"libmpich.so.12", "libmpi.so.12"};
    const char *strings = (const char *)loading_address(lib, DT_STRTAB);
    const ElfW(Dyn) *entry = loading_entry(lib, DT_SONAME);
    const char *soname = strings && entry ? strings + entry->d_un.d_val : NULL;
    bool is = false;
    for (size_t i = 0; soname && i < sizeof names / sizeof names[0]; i++) {
        size_t n = 0;
        while (soname[n] && soname[n] == names[i][n])
            n++;
        is |= soname[n] == names[i][n];
    }
    return is;
}

/* The first one that is loaded, but for `ours`, from `lib` on; NULL: there is none. */
static inline const struct link_map *loading_mpi(const struct link_map *lib,
                                                 const struct link_map *ours)
{
    while (lib && (lib == ours || !loading_is_mpi(lib)))
        lib = lib->l_next;
    return lib;
}

/*
 * From now on `hook` is called in place of r_brk, on the stack of the thread that loads or unloads,
 * which holds ld.so's lock; _r_debug.r_state tells which it is (RT_CONSISTENT: it has). False where
 * this ld.so, or what protects its code, does not allow it.
 */
static inline bool on_loading(void (*hook)(void))
{
    static const uint8_t endbr[] = {0xf3, 0x0f, 0x1e, 0xfa};
    enum { RET = 0xc3, JMP = 0xe9, JMP_SIZE = 5, PAGE = 4096 };
    uint8_t *at = (uint8_t *)_r_debug.r_brk;
    size_t i = 0;
    if (!at)
        return false;
    while (i < sizeof endbr && at[i] == endbr[i])
        i++;
    at += i == sizeof endbr ? i : 0;
    /* the rest, to the next function, is padding */
    if (*at != RET || ((uintptr_t)at & 15) + JMP_SIZE > 16)
        return false;
    int64_t distance = (int64_t)((uintptr_t)hook - (uintptr_t)(at + JMP_SIZE));
    uint8_t *page = (uint8_t *)((uintptr_t)at & -(uintptr_t)PAGE);
    if (distance != (int32_t)distance ||
        sys_call(SYS_mprotect, page, PAGE, PROT_READ | PROT_WRITE, 0, 0, 0) < 0)
        return false;
    for (size_t b = 0; b < sizeof(int32_t); b++)
        at[1 + b] = (uint8_t)((uint64_t)distance >> 8 * b);
    at[0] = JMP;
    sys_call(SYS_mprotect, page, PAGE, PROT_READ | PROT_EXEC, 0, 0, 0);
    return true;
}

#endif
