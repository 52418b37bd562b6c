/*
 * order_file.h - segment files of an order log, with a libc
 *
 * For the lower half, which maps a segment for the stub to write to or a chain of them to follow,
 * and for the commands that print them.
 */
#ifndef DBG3_MSGCOUNTER_ORDER_FILE_H
#define DBG3_MSGCOUNTER_ORDER_FILE_H

#include "msgcounter/log/order.h"
#include "runtime/base/err.h"

/* Bytes that a segment may take at most; what chance decides after that is not kept. */
#define ORDER_SEGMENT_MAX (256u << 20)

/* The folder in `session` of the segments that begin at an epoch (0: at the start). */
int order_folder(char *buf, size_t size, const char *session, uint64_t epoch);

/* A new segment of a rank, in the place of an older one, mapped for writing; its address never
 * changes. NULL with err set. */
struct order_segment *order_file_create(const char *session, uint64_t epoch, uint32_t rank,
                                        uint32_t world_size, struct err *err);

/* Makes room for `bytes` more. Returns 0, -ENOSPC, or -EFBIG after ORDER_SEGMENT_MAX. */
int order_file_grow(const char *session, struct order_segment *s, uint64_t bytes);

/* Says that the next segment begins at `next`, and unmaps this one. NULL is fine. */
void order_file_finish(struct order_segment *s, uint64_t next);

/* What a rank's chain from an epoch on consists of. */
struct order_chain {
    struct order_map *maps;
    uint32_t n; /* 0: there is none */
};

/* Maps the chain, read-only. It ends where the next file is missing. Returns 0, or -1 with err set
 * if a segment is damaged. */
int order_chain_open(struct order_chain *chain, const char *session, uint64_t epoch, uint32_t rank,
                     struct err *err);
void order_chain_close(struct order_chain *chain);

/* What all ranks have kept from an epoch to the next. */
struct order_size {
    uint64_t bytes;
    uint64_t outcomes; /* as `dbg3 messages --order` numbers them: nos in a row are one */
};

struct order_size order_size_of(const char *session, uint64_t epoch);

#endif
