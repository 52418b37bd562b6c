/*
 * half.c - start of a lower program
 */
#include "runtime/half/half.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "runtime/half/gate.h"
#include "runtime/half/own_fd.h"
#include "runtime/half/steer.h"
#include "runtime/half/sys.h"
#include "runtime/half/threads.h"
#include "runtime/launch/env.h"

#define HWCAP2_FSGSBASE_BIT 2
#define STACK_DEFAULT   (8ul << 20)
#define STACK_UNLIMITED (64ul << 30) /* address space only; pages come as they are touched */
#define STACK_SMALLEST  (256ul << 10)

/* ---- environment ---- */

static uint64_t number(const char *text, uint64_t otherwise)
{
    char *end;
    uint64_t v = text ? strtoull(text, &end, 10) : 0;
    return text && *text && *end == '\0' ? v : otherwise;
}

static void read_stack(struct half_env *env)
{
    const char *text = getenv(ENV_STACK);
    struct rlimit rl;
    env->stack_limit = RLIM_INFINITY;
    if (text && strcmp(text, "unlimited") != 0)
        env->stack_limit = number(text, STACK_DEFAULT);
    else if (!text && getrlimit(RLIMIT_STACK, &rl) == 0)
        env->stack_limit = rl.rlim_cur;
    env->stack_size = env->stack_limit;
    if (env->stack_limit == RLIM_INFINITY || env->stack_size > STACK_UNLIMITED)
        env->stack_size = STACK_UNLIMITED;
    if (env->stack_size < STACK_SMALLEST)
        env->stack_size = STACK_SMALLEST;
    env->stack_size &= ~4095ul;
}

int half_env_read(struct half_env *env, char **envp, struct err *err)
{
    memset(env, 0, sizeof *env);
    env->exe = getenv(ENV_EXE);
    env->runtime = getenv(ENV_RUNTIME);
    if (!env->exe || !env->runtime)
        return err_set(err, "this program is started by dbg3, not by hand");
    env->session = getenv(ENV_SESSION);
    env->phase = getenv(ENV_PHASE);
    env->spawned = getenv("PMI_SPAWNED"); /* MPICH's process managers set it */
    env->epoch = env->spawned ? NULL : getenv(ENV_EPOCH);
    env->coord = getenv(ENV_COORD);
    env->token = getenv(ENV_TOKEN);
    env->every_n_msgs = number(getenv(ENV_EVERY_N_MSGS), 0);
    env->keep = number(getenv(ENV_KEEP), 8);
    env->overhead = number(getenv(ENV_OVERHEAD), 0);
    env->order_wait_ms = number(getenv(ENV_ORDER_WAIT), 0);
    env->storm = getenv(ENV_STORM);
    read_stack(env);
    return 0;
}

/* True if the entry "NAME=value" has a name in the list "A:B:". */
static bool named_in(const char *entry, const char *list)
{
    size_t n = strcspn(entry, "=");
    for (const char *p = list; p && *p;) {
        size_t len = strcspn(p, ":");
        if (len == n && memcmp(p, entry, n) == 0)
            return true;
        p += len + (p[len] == ':');
    }
    return false;
}

static bool hidden_from_app(const char *entry, const char *unset)
{
    if (strncmp(entry, ENV_PREFIX, sizeof ENV_PREFIX - 1) == 0)
        return strncmp(entry, ENV_LOG "=", sizeof ENV_LOG) != 0;
    return strncmp(entry, "LD_PRELOAD=", 11) == 0 || named_in(entry, unset);
}

/*
 * The directories of the application's RUNPATH that contain $ORIGIN, expanded. ld.so takes $ORIGIN
 * of the main program from /proc/self/exe, which is the lower program, so they must be given to it
 * in LD_LIBRARY_PATH. Returns a malloc'ed list joined by ':', "" if there is nothing to expand.
 */
static char *expand_origin(const char *exe)
{
    char *result = calloc(1, 1);
    int fd = open(exe, O_RDONLY | O_CLOEXEC);
    off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
    const uint8_t *file =
        size > 0 ? mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0) : MAP_FAILED;
    if (fd >= 0)
        close(fd);
    if (file == MAP_FAILED)
        return result;
    const Elf64_Ehdr *eh = (const Elf64_Ehdr *)file;
    const Elf64_Phdr *ph = (const Elf64_Phdr *)(file + eh->e_phoff);
    const Elf64_Dyn *dyn = NULL, *path = NULL, *strtab = NULL;
    for (int i = 0; i < eh->e_phnum; i++)
        if (ph[i].p_type == PT_DYNAMIC)
            dyn = (const Elf64_Dyn *)(file + ph[i].p_offset);
    for (; dyn && dyn->d_tag != DT_NULL; dyn++) {
        if (dyn->d_tag == DT_RUNPATH || (dyn->d_tag == DT_RPATH && !path))
            path = dyn;
        if (dyn->d_tag == DT_STRTAB)
            strtab = dyn;
    }
    uint64_t at = strtab ? strtab->d_un.d_ptr : 0;
    for (int i = 0; path && strtab && i < eh->e_phnum; i++)
        if (ph[i].p_type == PT_LOAD && at >= ph[i].p_vaddr && at < ph[i].p_vaddr + ph[i].p_filesz) {
            const char *text = (const char *)file + ph[i].p_offset + (at - ph[i].p_vaddr) +
                               path->d_un.d_val;
            char dir[4096], *out = NULL;
            snprintf(dir, sizeof dir, "%s", exe);
            *strrchr(dir, '/') = '\0';
            size_t len = 0;
            FILE *f = open_memstream(&out, &len);
            while (f && *text) {
                const char *brace = strncmp(text, "${ORIGIN}", 9) == 0 ? text + 9
                                    : strncmp(text, "$ORIGIN", 7) == 0 ? text + 7
                                                                      : NULL;
                if (brace)
                    fputs(dir, f);
                else
                    fputc(*text, f);
                text = brace ? brace : text + 1;
            }
            if (f && fclose(f) == 0 && strncmp(out, dir, strlen(dir)) == 0) {
                free(result);
                result = out;
            }
        }
    munmap((void *)file, (size_t)size);
    return result;
}

char **half_env_for_app(const struct half_env *env, char **envp, struct err *err)
{
    const char *unset = getenv(ENV_UNSET), *user = getenv(ENV_USER_PRELOAD);
    size_t n = 0, out = 0;
    while (envp[n])
        n++;
    char **result = calloc(n + 3, sizeof *result);
    char *origin = expand_origin(env->exe);
    const char *user_path = getenv("LD_LIBRARY_PATH");
    if (!result || !origin)
        goto fail;
    for (size_t i = 0; i < n; i++) {
        bool path = strncmp(envp[i], "LD_LIBRARY_PATH=", 16) == 0;
        if (!hidden_from_app(envp[i], unset) && !(path && *origin))
            result[out++] = envp[i];
    }
    if (*origin && asprintf(&result[out++], "LD_LIBRARY_PATH=%s%s%s", origin, user_path ? ":" : "",
                            user_path ? user_path : "") < 0)
        goto fail;
    if (asprintf(&result[out++], "LD_PRELOAD=%s/lib/libmpich.so.12:%s/lib/libmpi.so.12%s%s",
                 env->runtime, env->runtime, user && *user ? ":" : "", user ? user : "") < 0)
        goto fail;
    GATE->user_preload = user && *user ? user : NULL;
    GATE->user_library_path = user_path;
    GATE->exe_path = env->exe;
    free(origin);
    return result;
fail:
    free(origin);
    free(result);
    err_sys(err, "no memory for the application's environment");
    return NULL;
}

/* ---- preparation ---- */

static int check_machine(struct err *err)
{
    if (!(getauxval(AT_HWCAP2) & HWCAP2_FSGSBASE_BIT))
        return err_set(err,
                       "this machine lacks FSGSBASE (it needs Linux 5.9 or later and an x86-64 "
                       "processor with that feature)");
    if ((uint64_t)&errno < GATE_ADDR)
        return err_set(err,
                       "the address space is laid out from below (ulimit -s unlimited, or setarch "
                       "-L): set a finite stack limit");
    return 0;
}

/* GATE->signal_return. */
extern const char half_signal_return[];
__asm__(".text\n.globl half_signal_return\n.hidden half_signal_return\n"
        "half_signal_return:\n\tmov $15, %eax\n\tsyscall\n\tud2\n");

int half_prepare(uint32_t mode, uint32_t ncalls, struct err *err)
{
    own_fd_start();
    if (check_machine(err) < 0)
        return -1;
    void *at = sys_mmap((void *)GATE_ADDR, GATE_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (sys_failed((long)at))
        return err_set(err, "cannot map the gate at %#lx", GATE_ADDR);
    GATE->version = GATE_VERSION;
    GATE->size = sizeof(struct gate);
    GATE->ncalls = ncalls;
    GATE->mode = mode;
    GATE->generation = 1;
    GATE->main_tid = (uint64_t)getpid();
    GATE->tls_upper_fs = (int64_t)((uint64_t)&threads_upper_fs - fs_base());
    GATE->thread_attach = threads_attach;
    GATE->thread_detach = threads_detach;
    GATE->signal_return = half_signal_return;
    half_vdso();
    if (steer_install(err) < 0 || steer_fence(err) < 0)
        return -1;
    GATE->magic = GATE_MAGIC;
    return 0;
}

void half_vdso(void)
{
    static const char *const names[GATE_VDSO_COUNT] = {
        [GATE_VDSO_CLOCK_GETTIME] = "__vdso_clock_gettime",
        [GATE_VDSO_GETTIMEOFDAY] = "__vdso_gettimeofday",
        [GATE_VDSO_TIME] = "__vdso_time",
        [GATE_VDSO_GETCPU] = "__vdso_getcpu",
        [GATE_VDSO_CLOCK_GETRES] = "__vdso_clock_getres",
    };
    for (int i = 0; i < GATE_VDSO_COUNT; i++)
        GATE->kernel_vdso[i] = GATE->vdso[i] = load_kernel_vdso(names[i]);
}

void half_vdso_of_stub(void)
{
    for (int i = 0; i < GATE_VDSO_COUNT; i++)
        GATE->vdso[i] =
            GATE->mode == GATE_LIVE ? GATE->stub->vdso_live[i] : GATE->stub->vdso[i];
}

void half_name(const char *program)
{
    const char *slash = strrchr(program, '/');
    prctl(PR_SET_NAME, slash ? slash + 1 : program, 0, 0, 0);
}

void half_enter(const struct load *load)
{
    __asm__ volatile("mov %0, %%rsp\n\t"
                     "xor %%ebp, %%ebp\n\t"
                     "xor %%edx, %%edx\n\t" /* no function for atexit (System V ABI 3.4.1) */
                     "jmp *%1"
                     :
                     : "r"(load->stack), "r"(load->entry)
                     : "rdx", "memory");
    __builtin_unreachable();
}

void half_die(const struct err *err)
{
    fprintf(stderr, "dbg3: %s\n", err->text);
    fflush(NULL);
    _exit(HALF_EXIT);
}
