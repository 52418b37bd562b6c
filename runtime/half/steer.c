/*
 * steer.c - keeps the lower half's memory above the split
 *
 * steer_syscall() and what it calls run in the middle of libc and ld.so: raw system calls only, and
 * no vector registers (compiled with -mgeneral-regs-only), because a system call site does not
 * expect any to change.
 */
#include "runtime/half/steer.h"

#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>

#include "runtime/half/arena.h"
#include "runtime/half/gate.h"
#include "runtime/half/maps.h"
#include "runtime/half/sys.h"

#define PAGE        4096ul
#define ALIGN_HUGE  0x200000ul
/* 16 GiB of address space behind the lower program, for its heap. */
#define BRK_RESERVE 0x400000000ul
#define ATTACH_MAX  256
#define SITE_BYTES  7 /* mov $imm32,%eax; syscall */
#define ISLAND_STEP 40

static bool steering; /* false until steer_install(): constructors of libraries run before */
static struct arena arena;
static volatile char arena_lock;
static uint64_t brk_start, brk_now, brk_limit;
static struct attach {
    uint64_t addr, size;
} attached[ATTACH_MAX]; /* shared memory segments: shmdt does not say how long they are */

static void lock(void)
{
    while (__atomic_test_and_set(&arena_lock, __ATOMIC_ACQUIRE))
        sys_call(SYS_sched_yield, 0, 0, 0, 0, 0, 0);
}

static void unlock(void)
{
    __atomic_clear(&arena_lock, __ATOMIC_RELEASE);
}

static uint64_t page_up(uint64_t n)
{
    return (n + PAGE - 1) & ~(PAGE - 1);
}

static bool in_arena(uint64_t addr)
{
    return addr >= LOWER_ARENA_ADDR && addr < LOWER_ARENA_END;
}

static uint64_t take(uint64_t size)
{
    lock();
    uint64_t at = arena_take(&arena, size, size >= ALIGN_HUGE ? ALIGN_HUGE : PAGE);
    unlock();
    return at;
}

/* Turns a range into fence and, in the arena, into free room. */
static void release(uint64_t addr, uint64_t size)
{
    sys_mmap((void *)addr, size, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (!in_arena(addr))
        return;
    lock();
    arena_give(&arena, addr, size);
    unlock();
}

static long steer_mmap(const long *a)
{
    uint64_t size = page_up((uint64_t)a[1]);
    if ((a[3] & (MAP_FIXED | MAP_FIXED_NOREPLACE)) || size == 0)
        return sys_call(SYS_mmap, a[0], a[1], a[2], a[3], a[4], a[5]);
    uint64_t at = take(size);
    if (!at)
        return -ENOMEM;
    long got = sys_call(SYS_mmap, at, a[1], a[2], (a[3] & ~MAP_32BIT) | MAP_FIXED, a[4], a[5]);
    if (sys_failed(got))
        release(at, size);
    return got;
}

static long steer_munmap(const long *a)
{
    uint64_t addr = (uint64_t)a[0];
    if (addr < GATE_ADDR || (addr & (PAGE - 1)) || a[1] == 0)
        return sys_call(SYS_munmap, a[0], a[1], 0, 0, 0, 0);
    release(addr, page_up((uint64_t)a[1]));
    return 0;
}

static long steer_mremap(const long *a)
{
    uint64_t old = (uint64_t)a[0], old_size = page_up((uint64_t)a[1]);
    uint64_t size = page_up((uint64_t)a[2]);
    if ((a[3] & MREMAP_FIXED) || old_size == 0)
        return sys_call(SYS_mremap, a[0], a[1], a[2], a[3], a[4], 0);
    if (size <= old_size) {
        if (size < old_size)
            release(old + size, old_size - size);
        return (long)old;
    }
    if (!(a[3] & MREMAP_MAYMOVE))
        return -ENOMEM;
    uint64_t at = take(size);
    if (!at)
        return -ENOMEM;
    long got = sys_call(SYS_mremap, old, old_size, size, MREMAP_MAYMOVE | MREMAP_FIXED, at, 0);
    release(sys_failed(got) ? at : old, sys_failed(got) ? size : old_size);
    return got;
}

static long steer_shmat(const long *a)
{
    struct shmid_ds ds;
    long r = sys_call(SYS_shmctl, a[0], IPC_STAT, &ds, 0, 0, 0);
    if (r < 0)
        return r;
    if (a[1])
        return sys_call(SYS_shmat, a[0], a[1], a[2], 0, 0, 0);
    uint64_t size = page_up(ds.shm_segsz), at = take(size);
    if (!at)
        return -ENOMEM;
    long got = sys_call(SYS_shmat, a[0], at, a[2] | SHM_REMAP, 0, 0, 0);
    if (sys_failed(got)) {
        release(at, size);
        return got;
    }
    lock();
    for (int i = 0; i < ATTACH_MAX; i++)
        if (!attached[i].size) {
            attached[i] = (struct attach){at, size};
            break;
        }
    unlock();
    return got;
}

static long steer_shmdt(const long *a)
{
    long r = sys_call(SYS_shmdt, a[0], 0, 0, 0, 0, 0);
    for (int i = 0; r == 0 && i < ATTACH_MAX; i++)
        if (attached[i].size && attached[i].addr == (uint64_t)a[0]) {
            uint64_t size = attached[i].size;
            attached[i].size = 0;
            release((uint64_t)a[0], size);
        }
    return r;
}

/* The kernel's brk belongs to the application (PR_SET_MM): the lower half's heap grows here. */
static long steer_brk(const long *a)
{
    uint64_t want = (uint64_t)a[0], from = page_up(brk_now), to = page_up(want);
    if (want < brk_start || want > brk_limit)
        return (long)brk_now;
    if (to > from && sys_failed(sys_call(SYS_mmap, from, to - from, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0)))
        return (long)brk_now;
    if (to < from)
        release(to, from - to);
    brk_now = want;
    return (long)brk_now;
}

static const struct steered {
    int nr;
    long (*fn)(const long *args);
    bool in_ld_so; /* must be found there as well as in libc */
} steered[] = {
    {SYS_mmap, steer_mmap, true},     {SYS_munmap, steer_munmap, true},
    {SYS_mremap, steer_mremap, false}, {SYS_shmat, steer_shmat, false},
    {SYS_shmdt, steer_shmdt, false},  {SYS_brk, steer_brk, true},
};
#define NSTEERED (sizeof steered / sizeof steered[0])

static const struct steered *find_steered(long nr)
{
    for (unsigned i = 0; i < NSTEERED; i++)
        if (steered[i].nr == nr)
            return &steered[i];
    return NULL;
}

long steer_syscall(int nr, const long *args);

/* Called by steer_entry.S. */
long steer_syscall(int nr, const long *args)
{
    const struct steered *s = find_steered(nr);
    return s ? s->fn(args) : -ENOSYS;
}

/*
 * Takes the place of libc's for everything in the lower half: UCX makes its memory calls through
 * it. Declared in unistd.h.
 */
long syscall(long nr, ...)
{
    long a[6];
    va_list ap;
    va_start(ap, nr);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(ap, long);
    va_end(ap);
    const struct steered *s = steering ? find_steered(nr) : NULL;
    long r = s ? s->fn(a) : sys_call(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
    if (sys_failed(r)) {
        errno = (int)-r;
        return -1;
    }
    return r;
}

/* ---- patching ---- */

extern const char steer_entry[];

struct patcher {
    struct err *err;
    uint8_t *island, *island_end; /* trampolines, within 2 GiB of the code being patched */
    int objects;
};

/* Writes the trampoline of one site:
 *     lea -128(%rsp),%rsp; movabs $back,%r11; push %r11; mov $nr,%eax; movabs $steer_entry,%r11;
 *     jmp *%r11 */
static uint8_t *island_write(uint8_t *p, int nr, uint64_t back)
{
    uint64_t entry = (uint64_t)steer_entry;
    static const uint8_t head[] = {0x48, 0x8d, 0x64, 0x24, 0x80, 0x49, 0xbb};
    memcpy(p, head, 7);
    memcpy(p + 7, &back, 8);
    memcpy(p + 15, "\x41\x53\xb8", 3);
    memcpy(p + 18, &nr, 4);
    memcpy(p + 22, "\x49\xbb", 2);
    memcpy(p + 24, &entry, 8);
    memcpy(p + 32, "\x41\xff\xe3", 3);
    return p + ISLAND_STEP;
}

/* Patches the sites of steered system calls in one executable segment: mov $nr,%eax; syscall.
 * Notes which calls were found. */
static void patch_sites(struct patcher *pt, uint8_t *text, size_t size, bool found[NSTEERED])
{
    /* One pass, and a fast one: every rank's start waits for it. */
    const uint8_t *end = text + size;
    for (uint8_t *at = text; (at = memmem(at, (size_t)(end - at), "\x0f\x05", 2)); at += 2) {
        uint8_t *p = at + 2 - SITE_BYTES;
        if (p < text || p[0] != 0xb8 || p[2] || p[3] || p[4])
            continue;
        const struct steered *s = find_steered(p[1]);
        if (!s || pt->island + ISLAND_STEP > pt->island_end)
            continue;
        int32_t rel = (int32_t)(pt->island - (p + 5));
        pt->island = island_write(pt->island, s->nr, (uint64_t)(p + SITE_BYTES));
        p[0] = 0xe9;
        memcpy(p + 1, &rel, 4);
        p[5] = 0x66;
        p[6] = 0x90;
        found[s - steered] = true;
    }
}

static int patch_object(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct patcher *pt = arg;
    const char *base = strrchr(info->dlpi_name, '/');
    base = base ? base + 1 : info->dlpi_name;
    bool is_ld = strncmp(base, "ld-linux", 8) == 0;
    if (!is_ld && strcmp(base, "libc.so.6") != 0)
        return 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *ph = &info->dlpi_phdr[i];
        if (ph->p_type != PT_LOAD || !(ph->p_flags & PF_X))
            continue;
        uint8_t *text = (uint8_t *)info->dlpi_addr + ph->p_vaddr;
        uint8_t *start = (uint8_t *)((uint64_t)text & ~(PAGE - 1));
        size_t span = page_up((size_t)(text + ph->p_memsz - start));
        /* The island: one page as near as the kernel gives it; these objects are neighbours. */
        uint8_t *isl = sys_mmap(start - 0x10000000ul, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
                                MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        int64_t away = isl - start;
        if (sys_failed((long)isl) || (uint64_t)isl < GATE_ADDR || away > INT32_MAX / 2 ||
            away < INT32_MIN / 2)
            return err_set(pt->err, "no memory near %s to steer its memory calls", base);
        pt->island = isl;
        pt->island_end = isl + PAGE;
        if (sys_call(SYS_mprotect, start, span, PROT_READ | PROT_WRITE | PROT_EXEC, 0, 0, 0) < 0)
            return err_set(pt->err, "cannot make the text of %s writable", base);
        bool found[NSTEERED] = {false};
        patch_sites(pt, text, ph->p_memsz, found);
        for (unsigned k = 0; k < NSTEERED; k++)
            if (!found[k] && (!is_ld || steered[k].in_ld_so))
                return err_set(pt->err, "%s: system call %d has no known form; this libc is not "
                               "supported", info->dlpi_name, steered[k].nr);
        sys_call(SYS_mprotect, start, span, PROT_READ | PROT_EXEC, 0, 0, 0);
        sys_call(SYS_mprotect, isl, PAGE, PROT_READ | PROT_EXEC, 0, 0, 0);
        pt->objects++;
    }
    return 0;
}

int steer_install(struct err *err)
{
    struct patcher pt = {.err = err};
    brk_start = brk_now = (uint64_t)sys_call(SYS_brk, 0, 0, 0, 0, 0, 0);
    if (brk_start < LOWER_TEXT_ADDR || brk_start > LOWER_ARENA_ADDR)
        return err_set(err, "the heap of the lower half lies at %#lx, below the split", brk_start);
    brk_limit = brk_start + BRK_RESERVE;
    arena_init(&arena, LOWER_ARENA_ADDR, LOWER_ARENA_END);
    void *fence =
        sys_mmap((void *)LOWER_ARENA_ADDR, LOWER_ARENA_END - LOWER_ARENA_ADDR, PROT_NONE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (sys_failed((long)fence))
        return err_set(err, "cannot reserve %lu GiB of address space (ulimit -v must be unlimited)",
                       (LOWER_ARENA_END - LOWER_ARENA_ADDR) >> 30);
    if (dl_iterate_phdr(patch_object, &pt) != 0)
        return -1;
    if (pt.objects != 2)
        return err_set(err, "expected libc.so.6 and ld-linux, found %d of them", pt.objects);
    steering = true;
    return 0;
}

int steer_fence(struct err *err)
{
    /* Only up to the stack: the kernel searches for room below its mmap base, which is below it. */
    struct maps maps;
    if (maps_read(&maps, err) < 0)
        return -1;
    uint64_t at = GATE_ADDR;
    for (size_t i = 0; i < maps.n; i++) {
        const struct maps_entry *m = &maps.entry[i];
        if (m->end <= GATE_ADDR)
            continue;
        if (strcmp(m->path, "[stack]") == 0)
            break;
        if (m->start > at && sys_failed((long)sys_mmap(
                                 (void *)at, m->start - at, PROT_NONE,
                                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0)))
            return err_set(err, "cannot fence %#lx-%#lx", at, m->start);
        at = m->end;
    }
    maps_free(&maps);
    return 0;
}
