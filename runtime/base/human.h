/*
 * human.h - sizes and durations as people read them
 */
#ifndef DBG3_BASE_HUMAN_H
#define DBG3_BASE_HUMAN_H

#include <stddef.h>
#include <stdint.h>

/* "1.2 MB", "317 kB", in buf. */
const char *human_bytes(uint64_t bytes, char *buf, size_t cap);
/* "1 h 02 min", "12.3 s", "45 ms" */
const char *human_seconds(double seconds, char *buf, size_t cap);

#endif
