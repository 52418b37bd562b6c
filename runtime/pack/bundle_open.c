/*
 * bundle_open.c - a bundle on the machine where it is opened
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "runtime/base/human.h"
#include "runtime/image/image_format.h"
#include "runtime/pack/archive.h"
#include "runtime/pack/bundle.h"

#define COPY_BYTES   65536u /* what is all zeros becomes a hole */
#define MANIFEST_MAX (1u << 20)

#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif

struct unpacking {
    const char *file;
    int dir;
    const char *dir_name;
    struct archive_reader *reader;
    const struct bundle_progress *progress;
    uint64_t all; /* content bytes that the manifest promises */
    char buf[COPY_BYTES];
};

/* ---- members ---- */

/* Makes the folders of a member. Nothing that is unpacked is a symbolic link: no name leads out. */
static int make_folders(struct unpacking *u, const char *name, struct err *err)
{
    char path[ARCHIVE_NAME_MAX];
    for (const char *slash = name; (slash = strchr(slash, '/')); slash++) {
        snprintf(path, sizeof path, "%.*s", (int)(slash - name), name);
        if (mkdirat(u->dir, path, 0700) < 0 && errno != EEXIST)
            return err_sys(err, "cannot make %s/%s", u->dir_name, path);
    }
    return 0;
}

static bool all_zero(const char *p, size_t n)
{
    return n == 0 || (p[0] == 0 && !memcmp(p, p + 1, n - 1));
}

static int unpack_content(struct unpacking *u, int fd, const struct archive_member *m,
                          struct err *err)
{
    uint64_t at = 0;
    ssize_t n;
    while ((n = archive_read(u->reader, u->buf, sizeof u->buf, err)) > 0) {
        if (!all_zero(u->buf, (size_t)n) && image_pwrite_all(fd, u->buf, (size_t)n, at) < 0)
            return err_sys(err, "cannot write %s/%s", u->dir_name, m->name);
        at += (uint64_t)n;
        if (u->progress && u->progress->fn)
            u->progress->fn(u->progress->arg, archive_reader_bytes(u->reader), u->all);
    }
    /* GDB tells of a source that is newer than its program. */
    const struct timespec times[2] = {{.tv_sec = m->mtime}, {.tv_sec = m->mtime}};
    if (n == 0 && (ftruncate(fd, (off_t)m->size) < 0 || futimens(fd, times) < 0))
        return err_sys(err, "cannot write %s/%s", u->dir_name, m->name);
    return n < 0 ? -1 : 0;
}

static int unpack_file(struct unpacking *u, const struct archive_member *m, struct err *err)
{
    int fd = openat(u->dir, m->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW,
                    m->executable ? 0700 : 0600);
    if (fd < 0)
        return err_sys(err, "cannot make %s/%s", u->dir_name, m->name);
    int rc = unpack_content(u, fd, m, err);
    if (close(fd) < 0 && rc == 0)
        rc = err_sys(err, "cannot write %s/%s", u->dir_name, m->name);
    return rc;
}

static int unpack_member(struct unpacking *u, const struct archive_member *m, struct err *err)
{
    if (make_folders(u, m->name, err) < 0)
        return -1;
    if (!*m->link)
        return unpack_file(u, m, err);
    return linkat(u->dir, m->link, u->dir, m->name, 0) < 0
               ? err_sys(err, "cannot make %s/%s", u->dir_name, m->name)
               : 0;
}

/* ---- the manifest ---- */

static int read_manifest(const char *dir, const char *name, struct bundle_facts *facts,
                         struct err *err)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/" BUNDLE_MANIFEST, dir);
    FILE *f = fopen(path, "re");
    char *text = malloc(MANIFEST_MAX);
    size_t n = f && text ? fread(text, 1, MANIFEST_MAX, f) : 0;
    int rc = !f ? err_sys(err, "%s is no bundle of dbg3 pack: %s", name, path)
                : bundle_manifest_read(text, n, name, facts, err);
    if (f)
        fclose(f);
    free(text);
    return rc;
}

static int check_space(const struct unpacking *u, struct err *err)
{
    struct statvfs v;
    char need[16], have[16];
    if (fstatvfs(u->dir, &v) < 0 || (uint64_t)v.f_bavail * v.f_frsize >= u->all)
        return 0;
    return err_set(err, "%s needs %s in %s, which has %s: give another folder with --unpack",
                   u->file, human_bytes(u->all, need, sizeof need), u->dir_name,
                   human_bytes((uint64_t)v.f_bavail * v.f_frsize, have, sizeof have));
}

/* The first member says whether this is a bundle that we read, and what it will take. */
static int unpack_manifest(struct unpacking *u, struct err *err)
{
    struct archive_member m;
    struct bundle_facts facts;
    int rc = archive_next(u->reader, &m, err);
    if (rc < 0)
        return -1;
    if (rc == 0 || strcmp(m.name, BUNDLE_MANIFEST) || *m.link)
        return err_set(err, "%s is no bundle of dbg3 pack", u->file);
    if (unpack_file(u, &m, err) < 0 || read_manifest(u->dir_name, u->file, &facts, err) < 0)
        return -1;
    u->all = facts.bytes;
    bundle_facts_clear(&facts);
    return check_space(u, err);
}

/* ---- all ---- */

static int unpack_members(struct unpacking *u, struct err *err)
{
    struct archive_member m;
    int rc = unpack_manifest(u, err);
    while (rc == 0 && (rc = archive_next(u->reader, &m, err)) > 0)
        rc = unpack_member(u, &m, err);
    return rc;
}

int bundle_unpack(const char *file, const char *dir, const struct bundle_progress *progress,
                  struct err *err)
{
    struct unpacking *u = calloc(1, sizeof *u);
    if (!u)
        return err_sys(err, "%s", file);
    *u = (struct unpacking){.file = file, .dir_name = dir, .progress = progress};
    int rc = -1, fd = open(file, O_RDONLY | O_CLOEXEC);
    u->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || u->dir < 0)
        err_sys(err, "cannot open %s", fd < 0 ? file : dir);
    else if ((u->reader = archive_reader_create(fd, file, err)))
        rc = unpack_members(u, err);
    archive_reader_destroy(u->reader);
    if (fd >= 0)
        close(fd);
    if (u->dir >= 0)
        close(u->dir);
    free(u);
    return rc;
}

int bundle_open(const char *dir, struct bundle_facts *facts, struct err *err)
{
    *facts = (struct bundle_facts){.dbg3 = NULL};
    return read_manifest(dir, dir, facts, err);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
    return remove(path);
}

void bundle_remove(const char *dir)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- this machine ---- */

static int check_processor(const struct bundle_facts *f, struct err *err)
{
    char *here = features_here(), *cpu = features_processor();
    char *missing = features_missing(f->features, here);
    int rc = 0;
    if (*missing)
        rc = err_set(err,
                     "this processor (%.100s) lacks %.300s, which the rank's had (%.100s) and its "
                     "program or libraries may use: open the bundle on one that has it, or try "
                     "all the same with --any-cpu",
                     cpu, missing, f->cpu);
    free(missing);
    free(cpu);
    free(here);
    return rc;
}

int bundle_check_machine(const struct bundle_facts *f, unsigned gate, unsigned calls, bool any_cpu,
                         struct err *err)
{
    if (f->gate != gate || f->calls != calls)
        return err_set(err,
                       "the rank was recorded by another build of dbg3 (%.40s): open the bundle "
                       "with that one, or record and pack with this one",
                       f->dbg3);
    if (prctl(PR_SET_SYSCALL_USER_DISPATCH, 0, 0, 0, 0) < 0)
        return err_sys(err, "this kernel lacks syscall user dispatch (Linux 5.11 has it; the rank "
                            "ran on %.60s)",
                       f->kernel);
    return any_cpu ? 0 : check_processor(f, err);
}
