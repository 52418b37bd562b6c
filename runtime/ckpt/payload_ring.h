/*
 * payload_ring.h - segment files of a rank's payload log that are written to again and again
 *
 * A new page of a file costs several times the copy to it: the kernel finds and maps it, and writes
 * it to the disk later on; in a virtual machine the host has to find it, too. So segments share
 * a few files, ring-0 and so on, whose pages and mappings stay. A full one (of a very large record:
 * as soon as it is written) waits a little for being trimmed; else it is copied, past the page
 * cache, to a file that takes the segment's name, by a thread of its own. Under that name there are
 * the same bytes at any moment, whenever the rank is killed.
 *
 * Where that cannot be (very large records, a file system without direct I/O, links or locks, a
 * disk slower than the log) a segment keeps the file that it was written to.
 */
#ifndef DBG3_CKPT_PAYLOAD_RING_H
#define DBG3_CKPT_PAYLOAD_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "msgcounter/log/log_file.h"

/* Starts the thread. Before, and if that fails, payload_ring_rotate is log_file_rotate. */
void payload_ring_start(void);

/* A log_file_rotate, of one log. *warm: all pages are there, and copying to the mapping is the
 * fastest way to fill it. */
int payload_ring_rotate(struct log_writer *w, uint32_t segment, uint64_t min_size,
                        struct log_map *map, bool *warm);

/* The present segment, which is mapped there, takes no more and is not touched again: it need not
 * wait for payload_ring_rotate. */
void payload_ring_full(struct log_map map);

/* As log_trim, which would not see that a segment is about to get its copy. Any thread. */
int payload_ring_trim(const char *dir, uint32_t rank, uint32_t keep_from, struct err *err);

/* Nanoseconds of processor time that the thread has taken so far. */
uint64_t payload_ring_spent_ns(void);

#endif
