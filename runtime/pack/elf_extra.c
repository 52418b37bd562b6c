/*
 * elf_extra.c - separate debug files and sources of an ELF file
 */
#include "runtime/pack/elf_extra.h"

#include <dwarf.h>
#include <elfutils/libdwelf.h>
#include <elfutils/libdwfl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* "usr/lib/debug/.build-id/ab/cdef.debug" */
static void place_of_id(const uint8_t *id, size_t len, char *place, size_t cap)
{
    int n = snprintf(place, cap, "usr/lib/debug/.build-id/");
    for (size_t i = 0; i < len && (size_t)n + 16 < cap; i++)
        n += snprintf(place + n, cap - (size_t)n, "%02x%s", id[i], i == 0 ? "/" : "");
    snprintf(place + n, cap - (size_t)n, ".debug");
}

/* Without a build-id GDB finds a debug file by its name, in .debug beside the file. */
static void place_beside(const char *path, const char *debug, char *place, size_t cap)
{
    const char *slash = strrchr(path, '/'), *name = strrchr(debug, '/');
    snprintf(place, cap, "%.*s/.debug/%s", (int)(slash - path) - 1, path + 1,
             name ? name + 1 : debug);
}

static void find_debug_file(Dwfl_Module *module, const char *path,
                            const struct elf_extra_found *found)
{
    const char *debug = NULL;
    const unsigned char *id;
    GElf_Addr vaddr;
    char place[PATH_MAX];
    dwfl_module_info(module, NULL, NULL, NULL, NULL, NULL, NULL, &debug);
    if (!debug || !strcmp(debug, path))
        return;
    int n = dwfl_module_build_id(module, &id, &vaddr);
    if (n > 1)
        place_of_id(id, (size_t)n, place, sizeof place);
    else
        place_beside(path, debug, place, sizeof place);
    found->debug(found->arg, debug, place);
}

/* What several debug files have in common may stand in one more file (dwz). */
static void find_shared_debug(Dwfl_Module *module, Dwarf *dwarf,
                              const struct elf_extra_found *found)
{
    const char *name, *debug = NULL, *main_file = NULL;
    const void *id;
    char path[PATH_MAX], place[PATH_MAX];
    ssize_t n = dwelf_dwarf_gnu_debugaltlink(dwarf, &name, &id);
    if (n <= 1)
        return;
    dwfl_module_info(module, NULL, NULL, NULL, NULL, NULL, &main_file, &debug);
    const char *beside = debug ? debug : main_file ? main_file : "";
    const char *slash = strrchr(beside, '/');
    snprintf(path, sizeof path, "%.*s%s", *name == '/' || !slash ? 0 : (int)(slash + 1 - beside),
             beside, name);
    place_of_id(id, (size_t)n, place, sizeof place);
    if (access(path, R_OK) == 0)
        found->debug(found->arg, path, place);
}

static void find_sources(Dwarf *dwarf, const struct elf_extra_found *found)
{
    Dwarf_CU *cu = NULL;
    Dwarf_Die unit;
    while (dwarf_get_units(dwarf, cu, &cu, NULL, NULL, &unit, NULL) == 0) {
        Dwarf_Attribute attr;
        Dwarf_Files *files;
        size_t n = 0;
        const char *folder = dwarf_formstring(dwarf_attr(&unit, DW_AT_comp_dir, &attr));
        if (dwarf_getsrcfiles(&unit, &files, &n) != 0)
            continue;
        for (size_t i = 0; i < n; i++) {
            const char *name = dwarf_filesrc(files, i, NULL, NULL);
            char path[PATH_MAX];
            if (!name || (*name != '/' && (!folder || *folder != '/')))
                continue;
            snprintf(path, sizeof path, "%s%s%s", *name == '/' ? "" : folder,
                     *name == '/' ? "" : "/", name);
            found->source(found->arg, path);
        }
    }
}

void elf_extra_find(const char *path, const struct elf_extra_found *found)
{
    static const Dwfl_Callbacks callbacks = {
        .find_elf = dwfl_build_id_find_elf,
        .find_debuginfo = dwfl_standard_find_debuginfo,
        .section_address = dwfl_offline_section_address,
    };
    Dwarf_Addr bias;
    unsetenv("DEBUGINFOD_URLS"); /* libdw would ask there */
    Dwfl *dwfl = dwfl_begin(&callbacks);
    Dwfl_Module *module = dwfl ? dwfl_report_offline(dwfl, "", path, -1) : NULL;
    if (module && dwfl_report_end(dwfl, NULL, NULL) == 0) {
        Dwarf *dwarf = dwfl_module_getdwarf(module, &bias);
        if (dwarf) {
            find_debug_file(module, path, found);
            find_shared_debug(module, dwarf, found);
        }
        if (dwarf && found->source)
            find_sources(dwarf, found);
    }
    if (dwfl)
        dwfl_end(dwfl);
}
