/*
 * exe.c - /proc/self/exe, which to the kernel is the lower program, is the application's to it
 *
 * Programs find what lies beside them by it, and runtimes read their own symbols and lines there
 * (gfortran's backtrace of a failure). What libc itself opens does not come here.
 */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "msgcounter/stub/stub.h"

#define EXPORT __attribute__((visibility("default")))

static bool names_exe(const char *path)
{
    char own[32];
    if (!stub_active || !path || strncmp(path, "/proc/", 6))
        return false;
    if (!strcmp(path, "/proc/self/exe"))
        return true;
    snprintf(own, sizeof own, "/proc/%d/exe", getpid());
    return !strcmp(path, own);
}

/* The application where the path means it, else the path itself. */
static const char *of_application(const char *path)
{
    const char *program = (const char *)getauxval(AT_EXECFN);
    return names_exe(path) && program && *program == '/' ? program : path;
}

/* What readlink() would give; -1 if the path means something else. */
static ssize_t link_of(const char *path, char *buf, size_t cap)
{
    const char *program = of_application(path);
    if (program == path)
        return -1;
    size_t n = strlen(program) < cap ? strlen(program) : cap;
    memcpy(buf, program, n);
    return (ssize_t)n;
}

/* ---- links --- */

typedef ssize_t readlink_fn(const char *path, char *buf, size_t cap);
typedef ssize_t readlinkat_fn(int dir, const char *path, char *buf, size_t cap);

EXPORT ssize_t readlink(const char *path, char *buf, size_t cap)
{
    static void *fn;
    ssize_t n = link_of(path, buf, cap);
    return n >= 0 ? n : ((readlink_fn *)stub_next("readlink", &fn))(path, buf, cap);
}

EXPORT ssize_t readlinkat(int dir, const char *path, char *buf, size_t cap)
{
    static void *fn;
    ssize_t n = link_of(path, buf, cap);
    return n >= 0 ? n : ((readlinkat_fn *)stub_next("readlinkat", &fn))(dir, path, buf, cap);
}

/* Those of _FORTIFY_SOURCE: what does not fit ends the program, in libc. */
ssize_t __readlink_chk(const char *path, char *buf, size_t cap, size_t room);
EXPORT ssize_t __readlink_chk(const char *path, char *buf, size_t cap, size_t room)
{
    static void *fn;
    ssize_t n = cap <= room ? link_of(path, buf, cap) : -1;
    return n >= 0 ? n
                  : ((ssize_t(*)(const char *, char *, size_t, size_t))stub_next(
                        "__readlink_chk", &fn))(path, buf, cap, room);
}

EXPORT char *realpath(const char *path, char *buf)
{
    static void *fn;
    return ((char *(*)(const char *, char *))stub_next("realpath", &fn))(of_application(path), buf);
}

char *__realpath_chk(const char *path, char *buf, size_t room);
EXPORT char *__realpath_chk(const char *path, char *buf, size_t room)
{
    static void *fn;
    return ((char *(*)(const char *, char *, size_t))stub_next("__realpath_chk", &fn))(
        of_application(path), buf, room);
}

/* ---- the file --- */

typedef int open_fn(const char *path, int flags, ...);
typedef int openat_fn(int dir, const char *path, int flags, ...);
typedef FILE *fopen_fn(const char *path, const char *mode);

/* Whether they are given or not: as the kernel has them. */
#define MODE_OF(flags)                                                                             \
    ({                                                                                             \
        va_list ap_;                                                                               \
        va_start(ap_, flags);                                                                      \
        mode_t mode_ = __OPEN_NEEDS_MODE(flags) ? va_arg(ap_, mode_t) : 0;                         \
        va_end(ap_);                                                                               \
        mode_;                                                                                     \
    })

#define OPEN(name)                                                                                 \
    EXPORT int name(const char *path, int flags, ...)                                              \
    {                                                                                              \
        static void *fn;                                                                           \
        return ((open_fn *)stub_next(#name, &fn))(of_application(path), flags, MODE_OF(flags));    \
    }
#define OPENAT(name)                                                                               \
    EXPORT int name(int dir, const char *path, int flags, ...)                                     \
    {                                                                                              \
        static void *fn;                                                                           \
        return ((openat_fn *)stub_next(#name, &fn))(dir, of_application(path), flags,              \
                                                    MODE_OF(flags));                               \
    }
#define FOPEN(name)                                                                                \
    EXPORT FILE *name(const char *path, const char *mode)                                          \
    {                                                                                              \
        static void *fn;                                                                           \
        return ((fopen_fn *)stub_next(#name, &fn))(of_application(path), mode);                    \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
FOPEN(fopen)
FOPEN(fopen64)

int __open_2(const char *path, int flags);
EXPORT int __open_2(const char *path, int flags)
{
    static void *fn;
    return ((int (*)(const char *, int))stub_next("__open_2", &fn))(of_application(path), flags);
}
int __open64_2(const char *path, int flags);
EXPORT int __open64_2(const char *path, int flags)
{
    static void *fn;
    return ((int (*)(const char *, int))stub_next("__open64_2", &fn))(of_application(path), flags);
}
