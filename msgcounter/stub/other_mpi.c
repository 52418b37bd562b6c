/*
 * other_mpi.c - the MPI library itself, where a program loads it beside the stub
 *
 * ld.so takes the stub for libmpich.so.12 wherever that is wanted by its name. What is loaded by a
 * path (Python's ctypes, Julia) is another library for it. As soon as that is mapped, and before
 * anybody looks for a function in it, the addresses in its table of symbols become those of the
 * stub's: it is never called.
 *
 * Sources: System V gABI, symbol table; glibc elf/dl-lookup.c, the GNU hash table.
 */
#include "msgcounter/stub/other_mpi.h"

#include <dlfcn.h>

#include "msgcounter/stub/stub.h"
#include "runtime/half/loading.h"

#define PAGE 4096ul

static const struct link_map *stub_map;
static void *stub_handle;

/* The symbols that a library defines end its table: [*first, the number returned). */
static uint32_t defined_symbols(const struct link_map *lib, uint32_t *first)
{
    const uint32_t *hash = (const uint32_t *)loading_address(lib, DT_GNU_HASH);
    if (!hash)
        return *first = 0;
    uint32_t nbuckets = hash[0], last = 0;
    const uint32_t *bucket = hash + 4 + hash[2] * (sizeof(ElfW(Addr)) / sizeof *hash);
    const uint32_t *chain = bucket + nbuckets;
    *first = hash[1];
    for (uint32_t i = 0; i < nbuckets; i++)
        last = bucket[i] > last ? bucket[i] : last;
    while (last >= *first && !(chain[last - *first] & 1))
        last++;
    return last < *first ? *first : last + 1;
}

/* The stub's function or object for a symbol, NULL: it has none. */
static void *ours_for(const ElfW(Sym) *s, const char *strings)
{
    return s->st_shndx != SHN_UNDEF && ELF64_ST_TYPE(s->st_info) != STT_TLS
               ? dlsym(stub_handle, strings + s->st_name)
               : NULL;
}

static void redirect(const struct link_map *lib)
{
    ElfW(Sym) *symbols = (ElfW(Sym) *)loading_address(lib, DT_SYMTAB);
    const char *strings = (const char *)loading_address(lib, DT_STRTAB);
    uint32_t first, n = defined_symbols(lib, &first);
    void *ours = NULL;
    const ElfW(Sym) *any = &symbols[first];
    while (any < &symbols[n] && !(ours = ours_for(any, strings)))
        any++;
    if (ours && any->st_value + lib->l_addr == (uint64_t)ours)
        return; /* it has been loaded before */
    uint64_t begin = (uint64_t)&symbols[first] & -PAGE;
    uint64_t size = (((uint64_t)&symbols[n] + PAGE - 1) & -PAGE) - begin;
    if (!n || sys_call(SYS_mprotect, begin, size, PROT_READ | PROT_WRITE, 0, 0, 0) < 0)
        stub_stop(125, "dbg3: this program loads %s by its path, and dbg3 cannot take its place: "
                       "let it load libmpich.so.12", lib->l_name);
    for (ElfW(Sym) *s = &symbols[first]; s < &symbols[n]; s++)
        if ((ours = ours_for(s, strings)))
            s->st_value = (uint64_t)ours - lib->l_addr;
    sys_call(SYS_mprotect, begin, size, PROT_READ, 0, 0, 0);
}

static void loaded(void)
{
    if (_r_debug.r_state != RT_CONSISTENT)
        return;
    const struct link_map *lib = _r_debug.r_map;
    for (; (lib = loading_mpi(lib, stub_map)); lib = lib->l_next)
        redirect(lib);
}

void other_mpi_init(void)
{
    Dl_info info;
    if (!dladdr1((const void *)other_mpi_init, &info, (void **)&stub_map, RTLD_DL_LINKMAP) ||
        !(stub_handle = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD)))
        return;
    const struct link_map *other = loading_mpi(_r_debug.r_map, stub_map);
    if (other)
        stub_stop(125, "dbg3: this program is linked with %s by its path: link it with -lmpich, so "
                       "that it wants libmpich.so.12", other->l_name);
    on_loading(loaded);
}
