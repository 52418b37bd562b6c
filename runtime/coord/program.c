/*
 * program.c - what an ELF program says about itself
 */
#include "runtime/coord/program.h"

#include <dwarf.h>
#include <elfutils/libdwelf.h>
#include <elfutils/libdwfl.h>
#include <fcntl.h>
#include <gelf.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* sonames by which programs ask for the MPICH whose place our stub takes. */
static const char *const our_mpi[] = {"libmpich.so.12", "libmpi.so.12", "libmpichfort.so.12",
                                      "libmpichcxx.so.12", "libmpifort.so.12", "libmpicxx.so.12"};

static enum program_mpi mpi_of(const char *soname)
{
    for (size_t i = 0; i < sizeof our_mpi / sizeof our_mpi[0]; i++)
        if (!strcmp(soname, our_mpi[i]))
            return PROGRAM_MPI_OURS;
    bool other = !strncmp(soname, "libmpi.so", 9) || !strncmp(soname, "libmpich.so", 11) ||
                 !strncmp(soname, "libmpi_", 7) || !strncmp(soname, "libmpichfort.so", 15);
    return other ? PROGRAM_MPI_OTHER : PROGRAM_MPI_NONE;
}

static void read_needed(Elf *elf, struct program *program)
{
    for (Elf_Scn *scn = NULL; (scn = elf_nextscn(elf, scn));) {
        GElf_Shdr shdr;
        GElf_Dyn dyn;
        if (!gelf_getshdr(scn, &shdr) || shdr.sh_type != SHT_DYNAMIC)
            continue;
        Elf_Data *data = elf_getdata(scn, NULL);
        for (int i = 0; data && gelf_getdyn(data, i, &dyn) && dyn.d_tag != DT_NULL; i++) {
            if (dyn.d_tag == DT_FLAGS_1 && (dyn.d_un.d_val & DF_1_PIE))
                program->is_program = true;
            const char *name = dyn.d_tag == DT_NEEDED
                                   ? elf_strptr(elf, shdr.sh_link, (size_t)dyn.d_un.d_val)
                                   : NULL;
            enum program_mpi mpi = name ? mpi_of(name) : PROGRAM_MPI_NONE;
            if (mpi != PROGRAM_MPI_NONE && program->mpi != PROGRAM_MPI_OTHER) {
                program->mpi = mpi;
                snprintf(program->mpi_name, sizeof program->mpi_name, "%s", name);
            }
        }
    }
}

static void read_headers(Elf *elf, struct program *program)
{
    GElf_Ehdr ehdr;
    GElf_Phdr phdr;
    size_t n = 0;
    bool interpreter = false;
    if (!gelf_getehdr(elf, &ehdr))
        return;
    program->is_elf = true;
    program->is_x86_64 = ehdr.e_machine == EM_X86_64 && ehdr.e_ident[EI_CLASS] == ELFCLASS64;
    elf_getphdrnum(elf, &n);
    for (size_t i = 0; i < n; i++)
        if (gelf_getphdr(elf, (int)i, &phdr) && phdr.p_type == PT_INTERP)
            interpreter = true;
    program->is_program = ehdr.e_type == ET_EXEC || (ehdr.e_type == ET_DYN && interpreter);
    read_needed(elf, program);
    program->is_static = program->is_program && !interpreter;
}

int program_read(const char *path, struct program *program, struct err *err)
{
    struct stat st;
    *program = (struct program){0};
    elf_version(EV_CURRENT);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0) {
        err_sys(err, "%s", path);
        if (fd >= 0)
            close(fd);
        return -1;
    }
    Elf *elf = S_ISREG(st.st_mode) ? elf_begin(fd, ELF_C_READ_MMAP, NULL) : NULL;
    if (elf && elf_kind(elf) == ELF_K_ELF)
        read_headers(elf, program);
    program->is_setuid = program->is_program && (st.st_mode & (S_ISUID | S_ISGID));
    elf_end(elf);
    close(fd);
    return 0;
}

static int hash_file(int fd, const char *path, char *buf, size_t cap, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_sys(err, "%s", path);
    void *map = st.st_size ? mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    if (map == MAP_FAILED)
        return err_sys(err, "%s", path);
    snprintf(buf, cap, "xxh3:%016" PRIx64, (uint64_t)XXH3_64bits(map, (size_t)st.st_size));
    if (map)
        munmap(map, (size_t)st.st_size);
    return 0;
}

int program_build_id(const char *path, char *buf, size_t cap, struct err *err)
{
    elf_version(EV_CURRENT);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "%s", path);
    Elf *elf = elf_begin(fd, ELF_C_READ_MMAP, NULL);
    const void *id = NULL;
    ssize_t n = elf ? dwelf_elf_gnu_build_id(elf, &id) : -1;
    int rc = 0;
    if (n > 0)
        for (ssize_t i = 0; i < n && (size_t)(2 * i + 2) < cap; i++)
            snprintf(buf + 2 * i, cap - (size_t)(2 * i), "%02x", ((const uint8_t *)id)[i]);
    else
        rc = hash_file(fd, path, buf, cap, err);
    elf_end(elf);
    close(fd);
    return rc;
}

/* The link-time address of a byte of the file, by its PT_LOAD; 0 if it is in none. */
static uint64_t address_of(Elf *elf, uint64_t offset)
{
    GElf_Phdr phdr;
    size_t n = 0;
    elf_getphdrnum(elf, &n);
    for (size_t i = 0; i < n; i++)
        if (gelf_getphdr(elf, (int)i, &phdr) && phdr.p_type == PT_LOAD &&
            offset >= phdr.p_offset && offset - phdr.p_offset < phdr.p_filesz)
            return offset - phdr.p_offset + phdr.p_vaddr;
    return 0;
}

/*
 * The innermost function at an address, inlined ones included, into `function`; the symbol's name
 * where there is no debug information, "" where there is neither.
 */
static void name_function(Dwfl_Module *module, uint64_t address, char *function, size_t cap)
{
    Dwarf_Addr bias;
    Dwarf_Die *unit = dwfl_module_addrdie(module, address, &bias), *scopes = NULL;
    int n = unit ? dwarf_getscopes(unit, address - bias, &scopes) : 0;
    const char *name = NULL;
    for (int i = 0; i < n && !name; i++)
        if (dwarf_tag(&scopes[i]) == DW_TAG_inlined_subroutine ||
            dwarf_tag(&scopes[i]) == DW_TAG_subprogram)
            name = dwarf_diename(&scopes[i]);
    if (!name)
        name = dwfl_module_addrname(module, address);
    free(scopes);
    /* Procedures of Fortran's modules, in which libdw finds no address: as GDB calls them. */
    const char *mod = name && !strncmp(name, "__", 2) ? strstr(name + 2, "_MOD_") : NULL;
    if (mod && mod > name + 2)
        snprintf(function, cap, "%.*s::%s", (int)(mod - name - 2), name + 2, mod + 5);
    else
        snprintf(function, cap, "%s", name ? name : "");
}

/* "file.c:12", or "". */
static void name_line(Dwfl_Module *module, uint64_t address, char *where, size_t cap)
{
    int number = 0;
    Dwfl_Line *line = dwfl_module_getsrc(module, address);
    const char *file = line ? dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL) : NULL;
    const char *slash = file ? strrchr(file, '/') : NULL;
    where[0] = '\0';
    if (file)
        snprintf(where, cap, "%s:%d", slash ? slash + 1 : file, number);
}

/* "file.c:12 in function" */
static void describe(Dwfl_Module *module, uint64_t address, char *buf, size_t cap)
{
    char where[256], function[256];
    name_line(module, address, where, sizeof where);
    name_function(module, address, function, sizeof function);
    snprintf(buf, cap, "%s%s%s%s", where, *where && *function ? " " : "", *function ? "in " : "",
             function);
}

static char *debuginfo_path;
static const Dwfl_Callbacks callbacks = {
    .find_elf = dwfl_build_id_find_elf,
    .find_debuginfo = dwfl_standard_find_debuginfo,
    .debuginfo_path = &debuginfo_path,
    .section_address = dwfl_offline_section_address,
};

void program_source(const char *path, uint64_t offset, bool is_return, char *buf, size_t cap)
{
    buf[0] = '\0';
    if (is_return && offset)
        offset--;
    Dwfl *dwfl = *path ? dwfl_begin(&callbacks) : NULL;
    Dwfl_Module *module = dwfl ? dwfl_report_offline(dwfl, "", path, -1) : NULL;
    GElf_Addr bias;
    Elf *elf = module ? dwfl_module_getelf(module, &bias) : NULL;
    uint64_t address = elf ? address_of(elf, offset) : 0;
    if (address)
        describe(module, address + bias, buf, cap);
    dwfl_end(dwfl);
}

/* ---- frames of an image ------------------------------------------------------------------ */

struct frame_search {
    Dwfl *dwfl;
    const char *program;
    char *buf;
    size_t cap;
};

/* libc, libstdc++ and their like; MPI, in whose place our stub is. */
static bool is_system(const char *file)
{
    const char *slash = strrchr(file, '/'), *name = slash ? slash + 1 : file;
    return !slash || !strncmp(file, "/lib", 4) || !strncmp(file, "/usr/lib", 8) ||
           !strncmp(name, "libmpi", 6);
}

static int look_at_frame(Dwfl_Frame *frame, void *arg)
{
    struct frame_search *s = arg;
    const char *file = NULL;
    Dwarf_Addr pc;
    bool exact; /* else a return address */
    if (!dwfl_frame_pc(frame, &pc, &exact))
        return DWARF_CB_ABORT;
    Dwfl_Module *module = dwfl_addrmodule(s->dwfl, pc -= !exact);
    if (module)
        dwfl_module_info(module, NULL, NULL, NULL, NULL, NULL, &file, NULL);
    if (!file || (strcmp(file, s->program) && is_system(file)))
        return DWARF_CB_OK;
    describe(module, pc, s->buf, s->cap);
    return DWARF_CB_ABORT;
}

static int look_at_thread(Dwfl_Thread *thread, void *arg)
{
    dwfl_thread_getframes(thread, look_at_frame, arg);
    return DWARF_CB_ABORT; /* the first is the one that failed */
}

void program_frame_source(const char *image, const char *program, char *buf, size_t cap)
{
    int fd = open(image, O_RDONLY | O_CLOEXEC);
    buf[0] = '\0';
    elf_version(EV_CURRENT);
    Elf *core = fd >= 0 ? elf_begin(fd, ELF_C_READ_MMAP, NULL) : NULL;
    Dwfl *dwfl = core ? dwfl_begin(&callbacks) : NULL;
    if (dwfl && dwfl_core_file_report(dwfl, core, *program ? program : NULL) > 0 &&
        dwfl_report_end(dwfl, NULL, NULL) == 0 && dwfl_core_file_attach(dwfl, core) > 0)
        dwfl_getthreads(dwfl, look_at_thread, &(struct frame_search){dwfl, program, buf, cap});
    dwfl_end(dwfl);
    elf_end(core);
    if (fd >= 0)
        close(fd);
}
