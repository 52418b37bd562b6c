/*
 * procfs.c - what /proc tells of processes and threads (proc(5))
 */
#include "gdbbridge/procfs.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "gdbbridge/bytes.h"

ssize_t procfs_numbers(const char *folder, int *numbers, size_t max)
{
    size_t n = 0;
    DIR *dir = opendir(folder);
    if (!dir)
        return -1;
    for (struct dirent *d; (d = readdir(dir));) {
        if (!isdigit((unsigned char)d->d_name[0]))
            continue;
        if (n < max)
            numbers[n] = atoi(d->d_name);
        n++;
    }
    closedir(dir);
    return (ssize_t)n;
}

ssize_t procfs_tasks(pid_t pid, pid_t *tids, size_t max)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    return procfs_numbers(path, tids, max);
}

ssize_t procfs_peek(pid_t pid, uint64_t addr, void *to, size_t size)
{
    struct iovec here = {to, size}, there = {(void *)addr, size};
    return process_vm_readv(pid, &here, 1, &there, 1, 0);
}

int procfs_memory(pid_t pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    return open(path, O_RDWR | O_CLOEXEC);
}

int procfs_read(const char *path, struct bytes *out)
{
    char part[16384];
    ssize_t n;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    while ((n = read(fd, part, sizeof part)) > 0)
        bytes_add(out, part, (size_t)n);
    int saved = errno;
    close(fd);
    errno = saved;
    return n < 0 ? -1 : 0;
}

void procfs_task_name(pid_t pid, pid_t tid, char *name, size_t size)
{
    char path[64];
    struct bytes text = {0};
    snprintf(path, sizeof path, "/proc/%d/task/%d/comm", (int)pid, (int)tid);
    name[0] = '\0';
    if (!procfs_read(path, &text) && text.size) {
        text.data[strcspn(text.data, "\n")] = '\0';
        snprintf(name, size, "%s", text.data);
    }
    bytes_free(&text);
}

/* Field of stat, counted from 3 (the state), which is the first behind the ')' of the name. */
static int task_field(pid_t pid, pid_t tid, int field, char *value, size_t size)
{
    char path[64];
    struct bytes text = {0};
    int found = -1;
    snprintf(path, sizeof path, "/proc/%d/task/%d/stat", (int)pid, (int)tid);
    char *p = procfs_read(path, &text) || !text.size ? NULL : strrchr(text.data, ')');
    for (p = p ? p + 1 : NULL; p && *p == ' '; field--) {
        size_t n = strcspn(++p, " \n");
        if (field == 3 && n < size) {
            memcpy(value, p, n);
            value[n] = '\0';
            found = 0;
            break;
        }
        p += n;
    }
    bytes_free(&text);
    return found;
}

int procfs_task_core(pid_t pid, pid_t tid)
{
    char value[32];
    return task_field(pid, tid, 39, value, sizeof value) ? -1 : atoi(value);
}

int procfs_task_count(pid_t pid)
{
    char value[32];
    return task_field(pid, pid, 20, value, sizeof value) ? -1 : atoi(value);
}

int procfs_exe(pid_t pid, char *path, size_t size)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/exe", (int)pid);
    ssize_t n = readlink(link, path, size - 1);
    if (n < 0)
        return -1;
    path[n] = '\0';
    return 0;
}

pid_t procfs_maps_pid(const char *path)
{
    int pid, tid, end = 0;
    char name[8];
    if (sscanf(path, "/proc/%d/task/%d/%7[a-z]%n", &pid, &tid, name, &end) == 3 ||
        sscanf(path, "/proc/%d/%7[a-z]%n", &pid, name, &end) == 2)
        if (!path[end] && (!strcmp(name, "maps") || !strcmp(name, "smaps")))
            return pid;
    return -1;
}

void procfs_hide_maps(const char *text, size_t size, uint64_t limit, struct bytes *out)
{
    const char *end = text + size;
    bool hidden = false;
    while (text < end) {
        const char *next = memchr(text, '\n', (size_t)(end - text));
        next = next ? next + 1 : end;
        unsigned long long low, high;
        /* smaps' lines about a mapping follow the mapping's own line and begin with a capital */
        if (sscanf(text, "%llx-%llx ", &low, &high) == 2)
            hidden = low >= limit;
        if (!hidden)
            bytes_add(out, text, (size_t)(next - text));
        text = next;
    }
}

bool procfs_task_pending(pid_t pid, pid_t tid, int signal)
{
    static const char *const sets[] = {"\nSigPnd:", "\nShdPnd:", "\nSigBlk:"};
    unsigned long long set[3] = {0};
    struct bytes text = {0};
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/status", (int)pid, (int)tid);
    if (!procfs_read(path, &text))
        for (int i = 0; i < 3; i++) {
            const char *line = strstr(text.data, sets[i]);
            if (line)
                set[i] = strtoull(line + strlen(sets[i]), NULL, 16);
        }
    bytes_free(&text);
    unsigned long long asked = signal ? 1ull << (signal - 1) : ~0ull;
    return ((set[0] | set[1]) & ~set[2] & asked) != 0;
}
