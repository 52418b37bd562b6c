/*
 * runtime_files.c - where the files are that a phase needs beside the dbg3 command
 */
#include "runtime/cmd/runtime_files.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "runtime/launch/env.h"

static const char *const for_launch[] = {LAUNCH_PRELOAD_NAME, "dbg3-lower", "lib/libmpich.so.12",
                                         NULL};
static const char *const for_isolation[] = {"dbg3-replay", "dbg3-gdb.py", NULL};

int runtime_files_find(struct runtime_files *files, bool launch, struct err *err)
{
    char exe[PATH_MAX - 64], path[PATH_MAX + 32];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n < 0)
        return err_sys(err, "/proc/self/exe");
    exe[n] = '\0';
    *strrchr(exe, '/') = '\0';
    const char *const *needed = launch ? for_launch : for_isolation;
    snprintf(path, sizeof path, "%s/%s", exe, needed[0]);
    snprintf(files->dir, sizeof files->dir, access(path, F_OK) == 0 ? "%s" : "%s/../lib/dbg3", exe);
    for (size_t i = 0; needed[i]; i++) {
        snprintf(path, sizeof path, "%s/%s", files->dir, needed[i]);
        if (access(path, R_OK) < 0)
            return err_sys(err, "dbg3 is not whole: %s", path);
    }
    if (launch && strpbrk(files->dir, " :"))
        return err_set(err, "%s: LD_PRELOAD cannot name a folder with a space or a colon; install "
                            "dbg3 elsewhere", files->dir);
    snprintf(files->preload, sizeof files->preload, "%.*s/" LAUNCH_PRELOAD_NAME, PATH_MAX - 32,
             files->dir);
    return 0;
}
