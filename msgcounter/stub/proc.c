/*
 * proc.c - the process in /proc as the application knows it
 *
 * /proc/self/exe, to the kernel the lower program, is the application's: programs find what lies
 * beside them by it, and runtimes read their own symbols and lines there (gfortran's backtrace of a
 * failure). The process and its threads have the numbers that they had before a restart (pid.h).
 * What libc itself opens does not come here.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "msgcounter/stub/pid.h"
#include "msgcounter/stub/stub.h"

#define NAME_BYTES 256 /* of a path in /proc; longer ones are left alone */

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

/* A part of a path with its head, in which the kernel has another number by now. */
static int put_part(char *to, size_t room, const char *head, const char *part)
{
    if (isdigit((unsigned char)*part))
        return snprintf(to, room, "%s%d", head, pid_then(atoi(part)));
    return snprintf(to, room, "%s%.*s", head, (int)strcspn(part, "/"), part);
}

/* With the kernel's numbers in /proc/NUMBER and /proc/.../task/NUMBER. */
static const char *numbered(const char *path, char buf[NAME_BYTES])
{
    static const char proc[] = "/proc/", task[] = "/task/";
    if (!stub_active || !path || strncmp(path, proc, sizeof proc - 1))
        return path;
    const char *rest = path + sizeof proc - 1;
    int n = put_part(buf, NAME_BYTES, proc, rest);
    rest += strcspn(rest, "/");
    if (n < NAME_BYTES && strncmp(rest, task, sizeof task - 1) == 0) {
        rest += sizeof task - 1;
        n += put_part(buf + n, NAME_BYTES - (size_t)n, task, rest);
        rest += strcspn(rest, "/");
    }
    if (n < NAME_BYTES)
        n += snprintf(buf + n, NAME_BYTES - (size_t)n, "%s", rest);
    return n < NAME_BYTES ? buf : path;
}

/* The application's file if the path means it, else NULL. */
static const char *program_of(const char *path)
{
    const char *program = names_exe(path) ? (const char *)getauxval(AT_EXECFN) : NULL;
    return program && *program == '/' ? program : NULL;
}

/* The application where the path means it, else the path with the kernel's numbers. */
static const char *of_application(const char *path, char buf[NAME_BYTES])
{
    const char *program = program_of(path);
    return program ? program : numbered(path, buf);
}

/* What readlink() gives for the application; -1 if the path means something else. */
static ssize_t link_of(const char *path, char *buf, size_t cap)
{
    const char *program = program_of(path);
    if (!program)
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
    char name[NAME_BYTES];
    ssize_t n = link_of(path, buf, cap);
    return n >= 0 ? n
                  : ((readlink_fn *)stub_next("readlink", &fn))(numbered(path, name), buf, cap);
}

EXPORT ssize_t readlinkat(int dir, const char *path, char *buf, size_t cap)
{
    static void *fn;
    char name[NAME_BYTES];
    ssize_t n = link_of(path, buf, cap);
    return n >= 0 ? n
                  : ((readlinkat_fn *)stub_next("readlinkat", &fn))(dir, numbered(path, name), buf,
                                                                    cap);
}

/* Those of _FORTIFY_SOURCE: what does not fit ends the program, in libc. */
ssize_t __readlink_chk(const char *path, char *buf, size_t cap, size_t room);
EXPORT ssize_t __readlink_chk(const char *path, char *buf, size_t cap, size_t room)
{
    static void *fn;
    char name[NAME_BYTES];
    ssize_t n = cap <= room ? link_of(path, buf, cap) : -1;
    return n >= 0 ? n
                  : ((ssize_t(*)(const char *, char *, size_t, size_t))stub_next(
                        "__readlink_chk", &fn))(numbered(path, name), buf, cap, room);
}

EXPORT char *realpath(const char *path, char *buf)
{
    static void *fn;
    char name[NAME_BYTES];
    return ((char *(*)(const char *, char *))stub_next("realpath", &fn))(
        of_application(path, name), buf);
}

char *__realpath_chk(const char *path, char *buf, size_t room);
EXPORT char *__realpath_chk(const char *path, char *buf, size_t room)
{
    static void *fn;
    char name[NAME_BYTES];
    return ((char *(*)(const char *, char *, size_t))stub_next("__realpath_chk", &fn))(
        of_application(path, name), buf, room);
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
        char own[NAME_BYTES];                                                                      \
        return ((open_fn *)stub_next(#name, &fn))(of_application(path, own), flags,                \
                                                  MODE_OF(flags));                                 \
    }
#define OPENAT(name)                                                                               \
    EXPORT int name(int dir, const char *path, int flags, ...)                                     \
    {                                                                                              \
        static void *fn;                                                                           \
        char own[NAME_BYTES];                                                                      \
        return ((openat_fn *)stub_next(#name, &fn))(dir, of_application(path, own), flags,         \
                                                    MODE_OF(flags));                               \
    }
#define OPEN_2(name)                                                                               \
    int name(const char *path, int flags);                                                         \
    EXPORT int name(const char *path, int flags)                                                   \
    {                                                                                              \
        static void *fn;                                                                           \
        char own[NAME_BYTES];                                                                      \
        return ((int (*)(const char *, int))stub_next(#name, &fn))(of_application(path, own),      \
                                                                   flags);                         \
    }
#define FOPEN(name)                                                                                \
    EXPORT FILE *name(const char *path, const char *mode)                                          \
    {                                                                                              \
        static void *fn;                                                                           \
        char own[NAME_BYTES];                                                                      \
        return ((fopen_fn *)stub_next(#name, &fn))(of_application(path, own), mode);               \
    }

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)
OPEN_2(__open_2)
OPEN_2(__open64_2)
FOPEN(fopen)
FOPEN(fopen64)

EXPORT DIR *opendir(const char *path)
{
    static void *fn;
    char own[NAME_BYTES];
    return ((DIR * (*)(const char *)) stub_next("opendir", &fn))(numbered(path, own));
}
