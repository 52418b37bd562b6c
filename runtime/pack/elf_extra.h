/*
 * elf_extra.h - what belongs to an ELF file and is not in it: debug information, sources (libdw)
 */
#ifndef DBG3_PACK_ELF_EXTRA_H
#define DBG3_PACK_ELF_EXTRA_H

#include <stdbool.h>

struct elf_extra_found {
    /* A separate debug file, and the place where GDB looks for it, relative to the root. */
    void (*debug)(void *arg, const char *path, const char *place);
    /* A source file that the debug information names; NULL: not wanted. It may not exist. */
    void (*source)(void *arg, const char *path);
    void *arg;
};

/* Calls back for everything that is found here; nothing is asked of the network. */
void elf_extra_find(const char *path, const struct elf_extra_found *found);

#endif
