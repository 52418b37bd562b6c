/*
 * tls.c - where a thread has a thread-local variable
 *
 *     fs_base -> TCB { tcb, dtv, ... }      dtv[-1] number of slots
 *                        |                  dtv[0]  generation
 *                        +----------------> dtv[n]  { block of module n, ... }
 *
 * The variant of x86-64 (II) puts the blocks of modules loaded at start below the TCB: module at
 * fs_base - l_tls_offset. Such a block is there even before the thread's dtv knows of it.
 */
#include "gdbbridge/tls.h"

#include <elf.h>
#include <link.h>
#include <stdbool.h>
#include <string.h>

#define MODULES_MAX      4096
#define NAME_MAX_COMPARE 64
#define UNALLOCATED      UINT64_MAX /* glibc TLS_DTV_UNALLOCATED */
#define NO_OFFSET        0          /* glibc NO_TLS_OFFSET, FORCED_DYNAMIC_TLS_OFFSET */
#define FORCED_DYNAMIC   UINT64_MAX

/* A module's tables for symbol lookup, in the process. */
struct symbols {
    uint64_t base, symtab, strtab, gnu_hash;
};

/* glibc's descriptor of a field: how wide, how many, where. */
struct field {
    uint32_t bits, count, offset;
};

static int get(const struct tls_memory *m, uint64_t addr, void *to, size_t size)
{
    return m->read(m->arg, addr, to, size);
}

/* ------------------------------------------------------------------ symbols of the process */

static int read_symbols(const struct tls_memory *m, const struct link_map *map, struct symbols *s)
{
    *s = (struct symbols){.base = map->l_addr};
    for (uint64_t at = (uint64_t)map->l_ld;; at += sizeof(Elf64_Dyn)) {
        Elf64_Dyn d;
        if (get(m, at, &d, sizeof d))
            return -1;
        /* ld.so has relocated these in place, except where the section is read-only (vdso) */
        uint64_t addr = d.d_un.d_ptr < map->l_addr ? d.d_un.d_ptr + map->l_addr : d.d_un.d_ptr;
        if (d.d_tag == DT_NULL)
            break;
        if (d.d_tag == DT_SYMTAB)
            s->symtab = addr;
        else if (d.d_tag == DT_STRTAB)
            s->strtab = addr;
        else if (d.d_tag == DT_GNU_HASH)
            s->gnu_hash = addr;
    }
    return s->symtab && s->strtab && s->gnu_hash ? 0 : -1;
}

static bool is_named(const struct tls_memory *m, const struct symbols *s, const Elf64_Sym *sym,
                     const char *name)
{
    char text[NAME_MAX_COMPARE];
    size_t size = strlen(name) + 1;
    return sym->st_shndx != SHN_UNDEF && size <= sizeof text &&
           !get(m, s->strtab + sym->st_name, text, size) && !memcmp(text, name, size);
}

/* Looks a name up in a GNU hash table. Returns 0 or -1. */
static int lookup(const struct tls_memory *m, const struct symbols *s, const char *name,
                  uint64_t *addr)
{
    uint32_t head[4]; /* buckets, first hashed symbol, words of the filter, shift */
    uint32_t hash = 5381, index, chain;
    for (const char *c = name; *c; c++)
        hash = hash * 33 + (unsigned char)*c;
    if (get(m, s->gnu_hash, head, sizeof head) || !head[0])
        return -1;
    uint64_t buckets = s->gnu_hash + sizeof head + 8ull * head[2];
    uint64_t chains = buckets + 4ull * head[0];
    if (get(m, buckets + 4ull * (hash % head[0]), &index, 4) || index < head[1])
        return -1;
    do {
        Elf64_Sym sym;
        if (get(m, chains + 4ull * (index - head[1]), &chain, 4))
            return -1;
        if ((chain | 1) == (hash | 1)) {
            if (get(m, s->symtab + index * sizeof sym, &sym, sizeof sym))
                return -1;
            if (is_named(m, s, &sym, name)) {
                *addr = s->base + sym.st_value;
                return 0;
            }
        }
        index++;
    } while (!(chain & 1));
    return -1;
}

/* Finds a symbol in the modules that are loaded together with `link_map`. Returns the module that
 * has it in *s. */
static int find_module(const struct tls_memory *m, uint64_t link_map, const char *name,
                       struct symbols *s, uint64_t *addr)
{
    struct link_map map;
    int left = MODULES_MAX;
    do {
        if (get(m, link_map, &map, sizeof map))
            return -1;
        if (map.l_prev)
            link_map = (uint64_t)map.l_prev;
    } while (map.l_prev && left--);
    for (; link_map && left--; link_map = (uint64_t)map.l_next) {
        if (get(m, link_map, &map, sizeof map))
            return -1;
        if (!read_symbols(m, &map, s) && !lookup(m, s, name, addr))
            return 0;
    }
    return -1;
}

/* ------------------------------------------------------------------ glibc's structures */

static int describe(const struct tls_memory *m, const struct symbols *libc, const char *name,
                    struct field *f)
{
    uint64_t addr;
    return lookup(m, libc, name, &addr) ? -1 : get(m, addr, f, sizeof *f);
}

/* Reads the field of the struct at `base`. */
static int fetch(const struct tls_memory *m, const struct symbols *libc, uint64_t base,
                 const char *name, uint64_t *value)
{
    struct field f;
    *value = 0;
    if (describe(m, libc, name, &f) || f.bits > 64)
        return -1;
    return get(m, base + f.offset, value, f.bits / 8);
}

/* The generation in which the dynamic linker gave module `id` its slot. */
static int module_generation(const struct tls_memory *m, const struct symbols *libc,
                             uint64_t link_map, uint64_t id, uint64_t *generation)
{
    struct symbols rtld;
    struct field f;
    uint64_t list, global, length, first = 0;
    uint32_t slot_bits;
    if (find_module(m, link_map, "_rtld_global", &rtld, &global) ||
        fetch(m, libc, global, "_thread_db_rtld_global__dl_tls_dtv_slotinfo_list", &list) ||
        describe(m, libc, "_thread_db_dtv_slotinfo_list_slotinfo", &f))
        return -1;
    slot_bits = f.bits;
    for (int left = MODULES_MAX; list && left--;) {
        if (fetch(m, libc, list, "_thread_db_dtv_slotinfo_list_len", &length))
            return -1;
        if (id - first < length)
            return fetch(m, libc, list + f.offset + (id - first) * (slot_bits / 8),
                         "_thread_db_dtv_slotinfo_gen", generation);
        first += length;
        if (fetch(m, libc, list, "_thread_db_dtv_slotinfo_list_next", &list))
            return -1;
    }
    return -1;
}

/* The block of module `id` according to the thread's dtv. Returns 0, or -1 if it has none. */
static int dynamic_block(const struct tls_memory *m, const struct symbols *libc, uint64_t fs_base,
                         uint64_t link_map, uint64_t id, uint64_t *block)
{
    uint64_t dtv, generation, has;
    struct field f;
    if (fetch(m, libc, fs_base, "_thread_db_pthread_dtvp", &dtv) || !dtv ||
        describe(m, libc, "_thread_db_dtv_dtv", &f) ||
        module_generation(m, libc, link_map, id, &generation) ||
        fetch(m, libc, dtv + f.offset, "_thread_db_dtv_t_counter", &has) || has < generation ||
        fetch(m, libc, dtv + f.offset + id * (f.bits / 8), "_thread_db_dtv_t_pointer_val", block))
        return -1;
    return *block == UNALLOCATED || !*block ? -1 : 0;
}

/* A statically linked program is module 1 and has no link map; the layout is that of the ABI. */
static int static_program(const struct tls_memory *m, uint64_t fs_base, uint64_t *block)
{
    uint64_t dtv;
    if (get(m, fs_base + 8, &dtv, 8) || get(m, dtv + 16, block, 8))
        return -1;
    return *block == UNALLOCATED || !*block ? -1 : 0;
}

int tls_address(const struct tls_memory *m, uint64_t fs_base, uint64_t link_map, uint64_t offset,
                uint64_t *addr, struct err *err)
{
    struct symbols libc;
    uint64_t block, id, static_offset, unused;
    if (!fs_base)
        return err_set(err, "the thread has no thread-local storage yet");
    if (!link_map) {
        if (static_program(m, fs_base, &block))
            return err_set(err, "the program has no thread-local storage yet");
        *addr = block + offset;
        return 0;
    }
    if (find_module(m, link_map, "_thread_db_link_map_l_tls_modid", &libc, &unused))
        return err_set(err, "the C library of the process does not describe itself to debuggers");
    if (fetch(m, &libc, link_map, "_thread_db_link_map_l_tls_modid", &id) || !id)
        return err_set(err, "the module has no thread-local storage");
    if (dynamic_block(m, &libc, fs_base, link_map, id, &block)) {
        if (fetch(m, &libc, link_map, "_thread_db_link_map_l_tls_offset", &static_offset) ||
            static_offset == NO_OFFSET || static_offset == FORCED_DYNAMIC)
            return err_set(err, "the thread has not used this module's thread-local storage yet");
        block = fs_base - static_offset;
    }
    *addr = block + offset;
    return 0;
}
