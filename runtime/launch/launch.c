/*
 * launch.c - the preload by which ranks come under control
 *
 * The dbg3 command runs the user's launcher line as it is, with this library in LD_PRELOAD. In each
 * program that starts it asks one question: is libmpich.so.12 (or libmpi.so.12) among the libraries
 * that ld.so has loaded? If so, it executes the lower program in place of the application, which
 * loads the application into its upper half. If not, it does nothing: launchers, shells and other
 * children are left alone. But it asks again whenever such a program loads more (interpreters do,
 * that of Python for mpi4py): as soon as MPI is among that, the program begins once more, as it
 * began, and is a rank from its start.
 *
 * The constructor runs before any other (DF_1_INITFIRST), so before libc is initialised: it uses
 * system calls and its own arguments only, no libc at all.
 */
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>

#include "runtime/half/loading.h"
#include "runtime/half/sys.h"
#include "runtime/launch/env.h"

#define ENV_MAX     8192
#define TEXT_MAX    16384
#define PATH_BYTES  4096
#define STACK_FINITE (8ul << 20)

/* Settings that UCX needs in a lower half: it must neither hook the memory calls of libc nor take
 * over the application's SIGSEGV. Added where the user has not set them. */
static const char *const lower_env[] = {
    "UCX_MEM_EVENTS=n",
    "UCX_MEM_MMAP_HOOK_MODE=none",
    "UCX_ERROR_SIGNALS=",
    "UCX_WARN_UNUSED_ENV_VARS=n",
};

static size_t length(const char *s)
{
    size_t n = 0;
    while (s[n])
        n++;
    return n;
}

static bool same(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (a[i] != b[i] || !a[i])
            return a[i] == b[i] && i + 1 == n;
    return true;
}

/* The value of NAME in an environment, or NULL. `name` may be followed by '=' and more. */
static const char *env_get(char **envp, const char *name)
{
    size_t n = 0;
    while (name[n] && name[n] != '=')
        n++;
    for (; *envp; envp++)
        if (same(*envp, name, n) && (*envp)[n] == '=')
            return *envp + n + 1;
    return NULL;
}

/* A growing text for new environment entries. */
struct text {
    char buf[TEXT_MAX];
    size_t n;
    bool overflow;
};

static char *text_start(struct text *t)
{
    return t->buf + t->n;
}

static void text_add(struct text *t, const char *s)
{
    for (; *s; s++) {
        if (t->n + 2 > TEXT_MAX) {
            t->overflow = true;
            return;
        }
        t->buf[t->n++] = *s;
    }
}

static void text_end(struct text *t)
{
    if (t->n < TEXT_MAX)
        t->buf[t->n++] = '\0';
}

static void text_add_number(struct text *t, uint64_t v)
{
    char digits[24];
    size_t i = sizeof digits - 1;
    digits[i] = '\0';
    do
        digits[--i] = (char)('0' + v % 10);
    while (v /= 10);
    text_add(t, digits + i);
}

/* Adds LD_PRELOAD's value without this library. */
static void add_user_preload(struct text *t, const char *value)
{
    bool first = true;
    while (value && *value) {
        size_t n = 0, slash = 0;
        while (value[n] && value[n] != ':' && value[n] != ' ') {
            if (value[n] == '/')
                slash = n + 1;
            n++;
        }
        bool ours = n - slash == sizeof LAUNCH_PRELOAD_NAME - 1 &&
                    same(value + slash, LAUNCH_PRELOAD_NAME, n - slash);
        if (n > 0 && !ours) {
            if (!first)
                text_add(t, ":");
            first = false;
            for (size_t i = 0; i < n; i++) {
                char c[2] = {value[i], '\0'};
                text_add(t, c);
            }
        }
        value += n + (value[n] != '\0');
    }
}

static void complain(const char *a, const char *b)
{
    sys_call(SYS_write, 2, "dbg3: ", 6, 0, 0, 0);
    sys_call(SYS_write, 2, a, length(a), 0, 0, 0);
    sys_call(SYS_write, 2, b, length(b), 0, 0, 0);
    sys_call(SYS_write, 2, "\n", 1, 0, 0, 0);
}

/* The kernel lays out the address space by the stack limit: unlimited turns it upside down. */
static void lower_stack_limit(struct text *t)
{
    struct rlimit rl;
    if (sys_call(SYS_prlimit64, 0, RLIMIT_STACK, 0, &rl, 0, 0) < 0)
        return;
    text_add(t, ENV_STACK "=");
    if (rl.rlim_cur == RLIM_INFINITY) {
        text_add(t, "unlimited");
        rl.rlim_cur = STACK_FINITE;
        sys_call(SYS_prlimit64, 0, RLIMIT_STACK, &rl, 0, 0, 0);
    } else {
        text_add_number(t, rl.rlim_cur);
    }
    text_end(t);
}

/* Builds the rank's environment in `out` (of ENV_MAX entries). Returns false if it does not fit. */
static bool build_env(char **envp, char **out, struct text *t)
{
    size_t n = 0;
    char path[PATH_BYTES];
    long len = sys_call(SYS_readlink, "/proc/self/exe", path, sizeof path - 1, 0, 0, 0);
    if (len <= 0)
        return false;
    path[len] = '\0';
    for (char **e = envp; *e; e++) {
        if (n + 16 > ENV_MAX)
            return false;
        if (!same(*e, "LD_PRELOAD=", 11))
            out[n++] = *e;
    }
    out[n++] = text_start(t);
    text_add(t, ENV_EXE "=");
    text_add(t, path);
    text_end(t);
    out[n++] = text_start(t);
    text_add(t, ENV_USER_PRELOAD "=");
    add_user_preload(t, env_get(envp, "LD_PRELOAD"));
    text_end(t);
    out[n++] = text_start(t);
    lower_stack_limit(t);
    out[n++] = text_start(t);
    text_add(t, ENV_UNSET "=");
    for (size_t i = 0; i < sizeof lower_env / sizeof lower_env[0]; i++) {
        if (env_get(envp, lower_env[i]))
            continue;
        for (const char *p = lower_env[i]; *p != '='; p++) {
            char c[2] = {*p, '\0'};
            text_add(t, c);
        }
        text_add(t, ":");
    }
    text_end(t);
    for (size_t i = 0; i < sizeof lower_env / sizeof lower_env[0]; i++)
        if (!env_get(envp, lower_env[i]))
            out[n++] = (char *)lower_env[i];
    out[n] = NULL;
    return !t->overflow;
}

static void become_rank(char **argv, char **envp)
{
    static struct text text, lower;
    static char *env[ENV_MAX];
    text_add(&lower, env_get(envp, ENV_RUNTIME));
    text_add(&lower, "/dbg3-lower");
    text_end(&lower);
    long r = -1;
    if (build_env(envp, env, &text))
        r = sys_call(SYS_execve, lower.buf, argv, env, 0, 0, 0);
    complain("cannot start ", r == -1 ? "a rank: its environment is too large" : lower.buf);
    sys_call(SYS_exit_group, 127, 0, 0, 0, 0, 0);
}

/* ---- programs that load MPI as they run ---- */

#define SIGNALS 64

/* What a program is given that it may have changed since. */
static struct start {
    char **argv, *envp[ENV_MAX]; /* setenv() changes the array of the start, too */
    char directory[PATH_BYTES]; /* empty: it has no path */
    uint64_t blocked, ignored;  /* signals, from bit 0 */
} start;

struct action { /* the kernel's struct sigaction */
    uintptr_t handler;
    uint64_t flags;
    void *restorer;
    uint64_t mask;
};

static void note_start(char **argv, char **envp)
{
    start.argv = argv;
    for (size_t n = 0; n + 1 < ENV_MAX && envp[n]; n++)
        start.envp[n] = envp[n];
    if (sys_call(SYS_getcwd, start.directory, PATH_BYTES, 0, 0, 0, 0) < 0)
        start.directory[0] = '\0';
    sys_call(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &start.blocked, sizeof start.blocked, 0, 0);
    for (int s = 1; s <= SIGNALS; s++) {
        struct action a = {0};
        sys_call(SYS_rt_sigaction, s, NULL, &a, sizeof a.mask, 0, 0);
        start.ignored |= (uint64_t)(a.handler == (uintptr_t)SIG_IGN) << (s - 1);
    }
}

static void as_started(void)
{
    for (int s = 1; s <= SIGNALS; s++) {
        bool ignored = start.ignored >> (s - 1) & 1;
        struct action a = {.handler = (uintptr_t)(ignored ? SIG_IGN : SIG_DFL)};
        sys_call(SYS_rt_sigaction, s, &a, NULL, sizeof a.mask, 0, 0);
    }
    sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &start.blocked, NULL, sizeof start.blocked, 0, 0);
    if (start.directory[0])
        sys_call(SYS_chdir, start.directory, 0, 0, 0, 0, 0);
}

static void loaded(void)
{
    if (_r_debug.r_state != RT_CONSISTENT || !loading_mpi(_r_debug.r_map, NULL))
        return;
    as_started();
    become_rank(start.argv, start.envp);
}

__attribute__((constructor)) static void launch(int argc, char **argv, char **envp)
{
    if (!env_get(envp, ENV_RUNTIME))
        return;
    if (loading_mpi(_r_debug.r_map, NULL))
        become_rank(argv, envp);
    note_start(argv, envp);
    on_loading(loaded);
}
