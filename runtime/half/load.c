/*
 * load.c - loads the application into the upper half as execve(2) would
 *
 * Mappings are made with raw system calls: libc's are steered into the lower half's arena, these
 * must go where the kernel puts them, below the split.
 */
#include "runtime/half/load.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/half/gate.h"
#include "runtime/half/sys.h"

#define PAGE          4096ul
#define STACK_GAP     (1ul << 20) /* the kernel's: stack_guard_gap */
#define PIE_BASE      0x555555554000ul /* where Linux puts PIE programs without ASLR */
#define PIE_RANDOM    0xffffffful      /* pages: 28 bits, as the kernel */
#define BRK_RANDOM    0x1fffful        /* pages: up to 512 MiB behind the program's data */
#define PHDR_MAX      64
#define AUXV_MAX      64

struct elf {
    const char *path;
    int fd;
    Elf64_Ehdr eh;
    Elf64_Phdr ph[PHDR_MAX];
    uint64_t min, max; /* span of its PT_LOADs, page-aligned, before relocation */
    uint64_t base;     /* added to p_vaddr */
    char interp[512];
};

extern const char upper_vdso_start[], upper_vdso_end[];

static uint64_t page_down(uint64_t n)
{
    return n & ~(PAGE - 1);
}

static uint64_t page_up(uint64_t n)
{
    return page_down(n + PAGE - 1);
}

static bool aslr_on(void)
{
    return !(personality(0xffffffff) & ADDR_NO_RANDOMIZE);
}

static uint64_t random_pages(uint64_t mask)
{
    uint64_t r = 0;
    if (!aslr_on() || getrandom(&r, sizeof r, 0) != sizeof r)
        return 0;
    return (r & mask) * PAGE;
}

static int elf_open(struct elf *e, const char *path, struct err *err)
{
    memset(e, 0, sizeof *e);
    e->path = path;
    e->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (e->fd < 0)
        return err_sys(err, "cannot open %s", path);
    if (pread(e->fd, &e->eh, sizeof e->eh, 0) != sizeof e->eh ||
        memcmp(e->eh.e_ident, ELFMAG, SELFMAG) != 0)
        return err_set(err, "%s: not an ELF program", path);
    if (e->eh.e_ident[EI_CLASS] != ELFCLASS64 || e->eh.e_machine != EM_X86_64)
        return err_set(err, "%s: not an x86-64 program", path);
    size_t size = e->eh.e_phnum * sizeof e->ph[0];
    if (e->eh.e_phnum > PHDR_MAX || e->eh.e_phentsize != sizeof e->ph[0] ||
        pread(e->fd, e->ph, size, (off_t)e->eh.e_phoff) != (ssize_t)size)
        return err_set(err, "%s: damaged program headers", path);
    e->min = UINT64_MAX;
    for (int i = 0; i < e->eh.e_phnum; i++) {
        const Elf64_Phdr *ph = &e->ph[i];
        if (ph->p_type == PT_INTERP) {
            if (ph->p_filesz >= sizeof e->interp ||
                pread(e->fd, e->interp, ph->p_filesz, (off_t)ph->p_offset) != (ssize_t)ph->p_filesz)
                return err_set(err, "%s: damaged PT_INTERP", path);
        }
        if (ph->p_type != PT_LOAD)
            continue;
        e->min = ph->p_vaddr < e->min ? page_down(ph->p_vaddr) : e->min;
        e->max = ph->p_vaddr + ph->p_memsz > e->max ? page_up(ph->p_vaddr + ph->p_memsz) : e->max;
    }
    if (e->max == 0)
        return err_set(err, "%s: nothing to load", path);
    return 0;
}

/* One PT_LOAD: file pages, then the zeroed tail of the last one (ld.so relies on it), then bss. */
static int map_segment(const struct elf *e, const Elf64_Phdr *ph, struct err *err)
{
    int prot = (ph->p_flags & PF_R ? PROT_READ : 0) | (ph->p_flags & PF_W ? PROT_WRITE : 0) |
               (ph->p_flags & PF_X ? PROT_EXEC : 0);
    uint64_t start = e->base + page_down(ph->p_vaddr), shift = ph->p_vaddr & (PAGE - 1);
    uint64_t file_end = e->base + ph->p_vaddr + ph->p_filesz;
    uint64_t end = page_up(e->base + ph->p_vaddr + ph->p_memsz);
    if (ph->p_filesz > 0 &&
        sys_failed((long)sys_mmap((void *)start, ph->p_filesz + shift, prot,
                                  MAP_PRIVATE | MAP_FIXED, e->fd, ph->p_offset - shift)))
        return err_set(err, "%s: cannot map %#lx", e->path, start);
    uint64_t zero_from = ph->p_filesz > 0 ? page_up(file_end) : start;
    if (end > zero_from &&
        sys_failed((long)sys_mmap((void *)zero_from, end - zero_from, prot,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)))
        return err_set(err, "%s: cannot map %#lx", e->path, zero_from);
    if (ph->p_memsz > ph->p_filesz && ph->p_filesz > 0 && (prot & PROT_WRITE))
        memset((void *)file_end, 0, page_up(file_end) - file_end);
    return 0;
}

static int elf_map(struct elf *e, uint64_t pie_base, struct err *err)
{
    uint64_t size = e->max - e->min;
    if (e->eh.e_type == ET_DYN) {
        void *at = sys_mmap((void *)pie_base, size, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE |
                                (pie_base ? MAP_FIXED_NOREPLACE : 0), -1, 0);
        if (sys_failed((long)at))
            return err_set(err, "%s: no room at %#lx", e->path, pie_base);
        e->base = (uint64_t)at - e->min;
    } else if (e->max > GATE_ADDR) {
        return err_set(err, "%s: linked for %#lx, above the split", e->path, e->max);
    }
    for (int i = 0; i < e->eh.e_phnum; i++)
        if (e->ph[i].p_type == PT_LOAD && map_segment(e, &e->ph[i], err) < 0)
            return -1;
    return 0;
}

static uint64_t phdr_address(const struct elf *e)
{
    for (int i = 0; i < e->eh.e_phnum; i++) {
        const Elf64_Phdr *ph = &e->ph[i];
        if (ph->p_type == PT_LOAD && e->eh.e_phoff >= ph->p_offset &&
            e->eh.e_phoff < ph->p_offset + ph->p_filesz)
            return e->base + ph->p_vaddr + (e->eh.e_phoff - ph->p_offset);
    }
    return 0;
}

static void fill_mm(struct load_mm *mm, const struct elf *app)
{
    mm->start_code = UINT64_MAX;
    for (int i = 0; i < app->eh.e_phnum; i++) {
        const Elf64_Phdr *ph = &app->ph[i];
        if (ph->p_type != PT_LOAD)
            continue;
        uint64_t start = app->base + ph->p_vaddr, end = start + ph->p_filesz;
        if (start < mm->start_code)
            mm->start_code = start;
        if (ph->p_flags & PF_X && end > mm->end_code)
            mm->end_code = end;
        if (start > mm->start_data)
            mm->start_data = start;
        if (end > mm->end_data)
            mm->end_data = end;
    }
    mm->start_brk = mm->brk = app->base + app->max + random_pages(BRK_RANDOM);
}

/* ---- the initial stack ---- */

struct stack {
    uint8_t *sp;
};

static uint64_t stack_push(struct stack *s, const void *data, size_t n)
{
    s->sp -= n;
    memcpy(s->sp, data, n);
    return (uint64_t)s->sp;
}

static size_t count_strings(char **v)
{
    size_t n = 0;
    while (v[n])
        n++;
    return n;
}

/* Pushes the strings so that they lie in order and without gaps, as the kernel lays them; fills
 * `where`. */
static void push_strings(struct stack *s, char **v, size_t n, uint64_t *where)
{
    for (size_t i = n; i-- > 0;)
        where[i] = stack_push(s, v[i], strlen(v[i]) + 1);
}

static size_t build_auxv(Elf64_auxv_t *out, const struct elf *app, const struct elf *interp,
                         uint64_t vdso, uint64_t execfn, uint64_t platform, uint64_t random)
{
    static const uint64_t copied[] = {AT_HWCAP,  AT_PAGESZ, AT_CLKTCK, AT_FLAGS, AT_UID,  AT_EUID,
                                      AT_GID,    AT_EGID,   AT_SECURE, AT_HWCAP2, AT_MINSIGSTKSZ};
    size_t n = 0;
#define AUX(type, value) out[n++] = (Elf64_auxv_t){(type), {(value)}}
    AUX(AT_SYSINFO_EHDR, vdso);
    for (size_t i = 0; i < sizeof copied / sizeof copied[0]; i++) {
        errno = 0;
        uint64_t value = getauxval(copied[i]);
        if (value || errno == 0)
            AUX(copied[i], value);
    }
    AUX(AT_PHDR, phdr_address(app));
    AUX(AT_PHENT, sizeof(Elf64_Phdr));
    AUX(AT_PHNUM, app->eh.e_phnum);
    AUX(AT_BASE, interp->base);
    AUX(AT_ENTRY, app->base + app->eh.e_entry);
    AUX(AT_RANDOM, random);
    AUX(AT_EXECFN, execfn);
    AUX(AT_PLATFORM, platform);
    AUX(AT_NULL, 0);
#undef AUX
    return n;
}

static int build_stack(struct load *load, const struct elf *app, const struct elf *interp,
                       char **argv, char **envp, uint64_t size, struct err *err)
{
    /* What runs out of it meets the gap, as below the kernel's own, and not another mapping. */
    void *low = sys_mmap(NULL, STACK_GAP + size, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
    if (sys_failed((long)low) || sys_call(SYS_mprotect, (uint8_t *)low + STACK_GAP, size,
                                          PROT_READ | PROT_WRITE, 0, 0, 0) < 0)
        return err_set(err, "no room for a stack of %lu MiB", size >> 20);
    struct stack s = {(uint8_t *)low + STACK_GAP + size};
    size_t argc = count_strings(argv), nenv = count_strings(envp);
    uint64_t *where = calloc(argc + nenv + 1, sizeof *where);
    if (!where)
        return err_sys(err, "no memory");
    stack_push(&s, "\0\0\0\0\0\0\0", 8);
    uint64_t execfn = stack_push(&s, app->path, strlen(app->path) + 1);
    load->mm.env_end = (uint64_t)s.sp;
    push_strings(&s, envp, nenv, where + argc);
    load->mm.env_start = load->mm.arg_end = (uint64_t)s.sp;
    push_strings(&s, argv, argc, where);
    load->mm.arg_start = (uint64_t)s.sp;
    uint64_t platform = stack_push(&s, "x86_64", 7);
    uint8_t random[16];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return err_sys(err, "no random bytes");
    s.sp = (uint8_t *)((uint64_t)s.sp & ~15ul);
    uint64_t random_at = stack_push(&s, random, sizeof random);
    Elf64_auxv_t auxv[AUXV_MAX];
    size_t naux = build_auxv(auxv, app, interp, load->vdso, execfn, platform, random_at);
    size_t words = 1 + argc + 1 + nenv + 1 + 2 * naux;
    if (words & 1)
        s.sp -= 8;
    load->mm.auxv_size = naux * sizeof auxv[0];
    load->mm.auxv = stack_push(&s, auxv, load->mm.auxv_size);
    static const uint64_t null = 0;
    uint64_t argc_word = argc;
    stack_push(&s, &null, 8);
    stack_push(&s, where + argc, nenv * 8);
    stack_push(&s, &null, 8);
    stack_push(&s, where, argc * 8);
    load->stack = load->mm.start_stack = stack_push(&s, &argc_word, 8);
    free(where);
    return 0;
}

uint64_t load_vdso(void)
{
    size_t size = page_up((size_t)(upper_vdso_end - upper_vdso_start));
    void *at = sys_mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sys_failed((long)at))
        return 0;
    memcpy(at, upper_vdso_start, (size_t)(upper_vdso_end - upper_vdso_start));
    sys_call(SYS_mprotect, at, size, PROT_READ | PROT_EXEC, 0, 0, 0);
    return (uint64_t)at;
}

int load_app(struct load *load, const char *exe, char **argv, char **envp, uint64_t stack_size,
             struct err *err)
{
    struct elf app, interp;
    memset(load, 0, sizeof *load);
    struct stat st;
    if (elf_open(&app, exe, err) < 0)
        return -1;
    if (fstat(app.fd, &st) == 0 && (st.st_mode & (S_ISUID | S_ISGID)))
        return err_set(err, "%s: setuid and setgid programs cannot be checkpointed", exe);
    if (!app.interp[0])
        return err_set(err, "%s: statically linked; dbg3 needs a dynamically linked program", exe);
    if (elf_map(&app, app.eh.e_type == ET_DYN ? PIE_BASE + random_pages(PIE_RANDOM) : 0, err) < 0)
        return -1;
    if (elf_open(&interp, app.interp, err) < 0 || elf_map(&interp, 0, err) < 0)
        return -1;
    load->vdso = load_vdso();
    fill_mm(&load->mm, &app);
    if (build_stack(load, &app, &interp, argv, envp, stack_size, err) < 0)
        return -1;
    load->app_base = app.base;
    load->app_entry = app.base + app.eh.e_entry;
    load->entry = interp.base + interp.eh.e_entry;
    close(app.fd);
    close(interp.fd);
    return 0;
}

int load_tell_kernel(const struct load_mm *mm, struct err *err)
{
    struct prctl_mm_map map = {
        .start_code = mm->start_code, .end_code = mm->end_code, .start_data = mm->start_data,
        .end_data = mm->end_data, .start_brk = mm->start_brk, .brk = mm->brk,
        .start_stack = mm->start_stack, .arg_start = mm->arg_start, .arg_end = mm->arg_end,
        .env_start = mm->env_start, .env_end = mm->env_end, .auxv = (void *)mm->auxv,
        .auxv_size = (uint32_t)mm->auxv_size, .exe_fd = (uint32_t)-1,
    };
    long r = sys_call(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0, 0);
    if (r < 0) {
        errno = (int)-r;
        return err_sys(err, "the kernel refuses to move brk (PR_SET_MM_MAP)");
    }
    return 0;
}

/* ---- the kernel's vdso ---- */

void *load_kernel_vdso(const char *name)
{
    const uint8_t *base = (const uint8_t *)getauxval(AT_SYSINFO_EHDR);
    if (!base)
        return NULL;
    const Elf64_Ehdr *eh = (const Elf64_Ehdr *)base;
    const Elf64_Phdr *ph = (const Elf64_Phdr *)(base + eh->e_phoff);
    uint64_t bias = (uint64_t)base;
    const Elf64_Dyn *dyn = NULL;
    for (int i = 0; i < eh->e_phnum; i++) {
        if (ph[i].p_type == PT_LOAD)
            bias = (uint64_t)base + ph[i].p_offset - ph[i].p_vaddr;
        if (ph[i].p_type == PT_DYNAMIC)
            dyn = (const Elf64_Dyn *)(base + ph[i].p_offset);
    }
    const Elf64_Sym *sym = NULL;
    const char *str = NULL;
    for (; dyn && dyn->d_tag != DT_NULL; dyn++) {
        if (dyn->d_tag == DT_SYMTAB)
            sym = (const Elf64_Sym *)(bias + dyn->d_un.d_ptr);
        if (dyn->d_tag == DT_STRTAB)
            str = (const char *)(bias + dyn->d_un.d_ptr);
    }
    /* The symbol table ends where the string table begins, in every vdso that Linux builds. */
    for (; sym && str && (const char *)sym < str; sym++)
        if (sym->st_shndx != SHN_UNDEF && strcmp(str + sym->st_name, name) == 0)
            return (void *)(bias + sym->st_value);
    return NULL;
}
