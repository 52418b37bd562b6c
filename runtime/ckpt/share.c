/*
 * share.c - shared mappings of files, restored as such
 */
#include "runtime/ckpt/share.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PAGE 4096

/* Anonymous shared memory in /proc/self/maps: a file of the kernel's own (mm/shmem.c). */
#define NAMELESS "/dev/zero (deleted)"

/* The file that a region was mapped from; -1: it cannot be mapped again. */
static int open_file(const struct image_region *r)
{
    struct stat st;
    int fd = open(r->path, (r->prot & PROT_WRITE ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY);
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
        (uint64_t)st.st_size + PAGE > r->offset + (r->end - r->start))
        return fd;
    close(fd);
    return -1;
}

/* Pages that are the same are left alone: a file may be large, and others read it. */
static void copy_differences(uint8_t *to, const uint8_t *from, size_t bytes)
{
    for (size_t at = 0; at < bytes; at += PAGE)
        if (memcmp(to + at, from + at, PAGE))
            memcpy(to + at, from + at, PAGE);
}

/* What the file lacks of what the rank saw goes into it by another mapping. */
static int share_file(const struct image_region *r, int fd, void *at, size_t bytes)
{
    bool writes = r->prot & PROT_WRITE;
    void *twin = writes ? mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                               (off_t)r->offset)
                        : NULL;
    if (twin == MAP_FAILED)
        return -1;
    if (writes) {
        copy_differences(twin, at, bytes);
        munmap(twin, bytes);
    }
    return mmap(at, bytes, (int)r->prot, MAP_SHARED | MAP_FIXED, fd, (off_t)r->offset) == at ? 0
                                                                                            : -1;
}

static int share_nameless(const struct image_region *r, void *at, size_t bytes)
{
    void *copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return -1;
    memcpy(copy, at, bytes);
    void *shared = mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED,
                        -1, 0);
    if (shared == at)
        copy_differences(at, copy, bytes);
    munmap(copy, bytes);
    return shared == at ? mprotect(at, bytes, (int)r->prot) : -1;
}

static int share(const struct image_region *r, int fd, struct err *err)
{
    size_t bytes = r->end - r->start;
    void *at = (void *)r->start;
    if (mprotect(at, bytes, (int)r->prot | PROT_READ) < 0 ||
        (fd < 0 ? share_nameless(r, at, bytes) : share_file(r, fd, at, bytes)) < 0)
        return err_sys(err, "cannot map %s again", r->path);
    return 0;
}

int share_restore(const struct image_state *state, struct err *err)
{
    for (size_t i = 0; i < state->nregions; i++) {
        const struct image_region *r = &state->regions[i];
        if (!(r->flags & IMAGE_REGION_SHARED) || !r->path || r->path[0] != '/')
            continue;
        bool nameless = !strcmp(r->path, NAMELESS);
        int fd = nameless || strstr(r->path, " (deleted)") ? -1 : open_file(r);
        int rc = fd >= 0 || nameless ? share(r, fd, err) : 0;
        if (fd >= 0)
            close(fd);
        if (rc < 0)
            return -1;
    }
    return 0;
}
