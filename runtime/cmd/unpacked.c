/*
 * unpacked.c - unpacks a bundle for one command, and cleans up behind it
 */
#include "runtime/cmd/unpacked.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/base/human.h"
#include "runtime/cmd/cmd.h"
#include "runtime/coord/coord.h"
#include "runtime/pack/bundle.h"

#define BAR_WIDTH 24

void unpacked_progress(void *arg, uint64_t done, uint64_t all)
{
    static int shown = -1;
    char line[128], bar[BAR_WIDTH + 1], bytes[16];
    int percent = all ? (int)((double)done * 100 / (double)all) : 100;
    if (percent == shown)
        return;
    shown = percent;
    memset(bar, '.', BAR_WIDTH);
    memset(bar, '=', (size_t)(percent * BAR_WIDTH / 100));
    bar[BAR_WIDTH] = '\0';
    snprintf(line, sizeof line, "%s [%s] %3d%% of %s", (const char *)arg, bar, percent,
             human_bytes(all, bytes, sizeof bytes));
    progress_notify(NULL, COORD_PROGRESS, line);
}

static const char *removed; /* the temporary folder */
static volatile pid_t child;

static void pass_on(int sig)
{
    if (child > 1)
        kill(child, sig);
}

/* In the parent: the terminal's signals are the child's. */
__attribute__((noreturn)) static void wait_and_remove(void)
{
    int status;
    signal(SIGINT, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    struct sigaction a = {.sa_handler = pass_on};
    sigaction(SIGTERM, &a, NULL);
    sigaction(SIGHUP, &a, NULL);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    bundle_remove(removed);
    exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

static int unpack(const char *file, const char *dir, struct err *err)
{
    const struct bundle_progress progress = {unpacked_progress, "unpacking"};
    int rc = bundle_unpack(file, dir, &progress, err);
    progress_clear();
    if (rc < 0)
        bundle_remove(dir);
    return rc;
}

static int unpack_and_keep(const char *file, const char *keep, char dir[PATH_MAX], struct err *err)
{
    if (mkdir(keep, 0700) < 0)
        return err_sys(err, "cannot make the folder %s", keep);
    if (!realpath(keep, dir))
        return err_sys(err, "%s", keep);
    return unpack(file, dir, err);
}

static int unpack_for_now(const char *file, char dir[PATH_MAX], struct err *err)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, PATH_MAX, "%.4000s/dbg3-bundle-XXXXXX", tmp && *tmp == '/' ? tmp : "/tmp");
    if (!mkdtemp(dir))
        return err_sys(err, "cannot make a folder %s", dir);
    if (unpack(file, dir, err) < 0)
        return -1;
    removed = dir;
    fflush(NULL);
    child = fork();
    if (child < 0) {
        bundle_remove(dir);
        return err_sys(err, "fork");
    }
    if (child > 0)
        wait_and_remove();
    return 0;
}

int unpacked_open(const char *path, const char *keep, char dir[PATH_MAX], struct err *err)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return err_sys(err, "cannot open %s", path);
    if (!S_ISDIR(st.st_mode))
        return keep ? unpack_and_keep(path, keep, dir, err) : unpack_for_now(path, dir, err);
    return realpath(path, dir) ? 0 : err_sys(err, "%s", path);
}
