/*
 * procfs.h - what /proc tells of processes and threads
 */
#ifndef DBG3_GDBBRIDGE_PROCFS_H
#define DBG3_GDBBRIDGE_PROCFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bytes;

/* The entries of a folder that are numbers: processes, descriptors. As procfs_tasks. */
ssize_t procfs_numbers(const char *folder, int *numbers, size_t max);

/* Thread ids of a process. Fills at most max, returns how many there are, or -1. */
ssize_t procfs_tasks(pid_t pid, pid_t *tids, size_t max);

/* How many threads the kernel counts, or -1: procfs_tasks leaves some out while others end. */
int procfs_task_count(pid_t pid);

/* Thread name ("" if unknown) and the processor the thread last ran on (-1 if unknown). */
void procfs_task_name(pid_t pid, pid_t tid, char *name, size_t size);
int procfs_task_core(pid_t pid, pid_t tid);

/* Path of the running program. Returns 0 or -1 with errno set. */
int procfs_exe(pid_t pid, char *path, size_t size);

/* The memory of a traced process, to be read and written at its addresses, whatever the mappings
 * permit. Returns a descriptor, or -1 with errno set. */
int procfs_memory(pid_t pid);

/* Bytes of a process's memory as far as it may read them itself, by one call. Returns how many, or
 * -1 with errno set. */
ssize_t procfs_peek(pid_t pid, uint64_t addr, void *to, size_t size);

/* Whole file into `out`. Returns 0 or -1 with errno set. */
int procfs_read(const char *path, struct bytes *out);

/* If path is /proc/PID/maps or smaps (or of one of its tasks), returns PID, else -1. */
pid_t procfs_maps_pid(const char *path);

/* Text of a maps or smaps file without the mappings at and above `limit`. Pure. */
void procfs_hide_maps(const char *text, size_t size, uint64_t limit, struct bytes *out);

/* Has the thread a signal (0: any) that it does not block and has not been given yet? */
bool procfs_task_pending(pid_t pid, pid_t tid, int signal);

#endif
