/*
 * payload.c - where a rank's payload log goes: the files of its segments
 *
 * Records are made in a shared mapping, so that they outlive the rank. What is large is written to
 * a file that is new past the mapping (log_write in log.h says why); the kernel keeps both the
 * same.
 */
#include "runtime/ckpt/payload.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include "msgcounter/log/log_file.h"
#include "runtime/base/fault.h"
#include "runtime/ckpt/agent.h"
#include "runtime/ckpt/payload_ring.h"
#include "runtime/ckpt/save.h"
#include "runtime/half/gate.h"
#include "runtime/half/own_fd.h"
#include "runtime/half/sys.h"

#define LARGE (1u << 20) /* a segment that is made for so large a record is mostly data */
#define PAGES (2u << 20) /* written at a time: at least a huge page */
#define ZEROS 65536u

static struct {
    char folder[PATH_MAX];
    struct log_file file;
    struct log_writer writer; /* only its owner and arg are used: they name the files */
    struct log_map map;       /* of the present segment */
    bool warm;                /* which has all its pages */
    uint32_t segment;
    int fd; /* of its file; 0: not needed so far */
    uint64_t spent_ns;
} payload;

/* A fault in a mapped file reads ahead (as many MiB as the disk is set to), which helps who goes on
 * with the next page; not who writes those pages past the mapping in a moment. */
static void read_ahead_no_more(void)
{
    madvise(payload.map.base, payload.map.size, MADV_RANDOM);
}

/* Once: another thread reads the name. */
static void name_files(void)
{
    const char *session = agent_session();
    snprintf(payload.folder, sizeof payload.folder, "%s/logs", session ? session : "/tmp");
    payload.file.dir = payload.folder;
    payload.writer.owner.rank = (uint32_t)save_identity.rank;
    payload.writer.arg = &payload.file;
}

static int open_segment(void)
{
    char path[PATH_MAX];
    if (log_file_path(path, sizeof path, payload.folder, payload.writer.owner.rank,
                      payload.segment) >= (int)sizeof path)
        return -ENAMETOOLONG;
    payload.fd = own_fd_take(open(path, O_WRONLY | O_CLOEXEC));
    return payload.fd < 0 ? -errno : 0;
}

static void close_segment(void)
{
    if (payload.fd > 0)
        own_fd_close(payload.fd);
    payload.fd = 0;
}

/* Gives the segment all its pages: by large writes, for which the kernel takes large pages where
 * the file system has them. To fault them in one after the other takes five times as long. */
static bool fill(void)
{
    static const char zeros[ZEROS];
    struct iovec piece[PAGES / ZEROS];
    for (size_t i = 0; i < PAGES / ZEROS; i++)
        piece[i] = (struct iovec){(void *)zeros, ZEROS};
    if (open_segment() < 0)
        return false;
    uint64_t at = 0;
    while (at + PAGES <= payload.map.size &&
           pwritev(payload.fd, piece, PAGES / ZEROS, (off_t)at) == (ssize_t)PAGES)
        at += PAGES;
    close_segment();
    return at + PAGES > payload.map.size;
}

static int log_segment(uint64_t min_bytes, uint64_t first_event, void **base, uint64_t *bytes,
                       uint64_t *segment)
{
    if (!payload.writer.arg)
        name_files();
    int r = payload_ring_rotate(&payload.writer, (uint32_t)*segment, min_bytes, &payload.map,
                                &payload.warm);
    if (r < 0) {
        fprintf(stderr, "dbg3: rank %d: cannot extend the log in %s: %s\n", save_identity.rank,
                payload.folder, strerror(-r));
        return r;
    }
    fault_point(FAULT_LOG_ROTATED);
    bool written_past = payload.fd > 0;
    close_segment();
    payload.segment = (uint32_t)*segment;
    if (!payload.warm && payload.segment > 0 && min_bytes < LARGE) /* the first may stay small */
        payload.warm = fill();
    if (!payload.warm && (min_bytes >= LARGE || written_past)) /* as the segment before */
        read_ahead_no_more();
    *base = payload.map.base;
    *bytes = payload.map.size;
    return 0;
}

static int write_all(const char *p, uint64_t offset, uint64_t bytes)
{
    int rc = 0;
    if (payload.fd <= 0 && (rc = open_segment()) == 0)
        read_ahead_no_more();
    while (rc == 0 && bytes) {
        ssize_t n = pwrite(payload.fd, p, bytes, (off_t)offset);
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        p += n;
        offset += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return rc;
}

static int log_write_past(uint64_t offset, const void *from, uint64_t bytes)
{
    uint64_t began = sys_thread_cpu_ns();
    int rc = 0;
    if (payload.warm)
        memcpy(payload.map.base + offset, from, bytes);
    else
        rc = write_all(from, offset, bytes);
    __atomic_fetch_add(&payload.spent_ns, sys_thread_cpu_ns() - began, __ATOMIC_RELAXED);
    return rc;
}

static void segment_full(void)
{
    payload_ring_full(payload.map);
}

uint64_t payload_spent_us(void)
{
    return (payload.spent_ns + payload_ring_spent_ns()) / 1000;
}

void payload_init(void)
{
    GATE->log_segment = log_segment;
    GATE->log_write = log_write_past;
    GATE->log_full = segment_full;
}
