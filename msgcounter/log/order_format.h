/*
 * order_format.h - the bytes of an order log: what chance has decided in a rank
 *
 * The log of a rank is a chain of segments. One begins at the start of the program and one at each
 * epoch, beside the rank's image, so that an epoch and what came after it live and die together:
 *
 *     <session>/start/rank-R.order                 next: epoch 3
 *     <session>/epochs/0003/rank-R.order           next: epoch 4
 *     <session>/epochs/0004/rank-R.order           next: 0, the end
 *
 *     +----------------------+---------+---------+-----+---------+----------------+
 *     | header (128 bytes)   | outcome | outcome | ... | outcome | not used yet   |
 *     +----------------------+---------+---------+-----+---------+----------------+
 *                                                                ^ header.at
 *
 * It is written through a shared mapping, bytes first, then `at`: whatever kills the rank, the file
 * holds whole outcomes. Only what chance decides is an outcome; an event whose answer follows from
 * the program and from earlier outcomes takes no byte.
 *
 * An outcome is one byte or more; the first tells which kind it is:
 *
 *     00000001 t          what follows is of thread t, a number; the segment begins with thread 0's
 *     00000010 n n n n    NO: 32 bits, little endian, of one of several threads, which counts it
 *                         in place while others append; what goes beyond a first digit
 *     00001000            YES: Test, Testall, Iprobe, ... said that it has happened
 *     0001nnnn            SOME: n + 1 of a set have completed; differences of their indices less
 *                         1 follow (the first to -1). 14: a number follows in place of n; 15: all
 *                         that are active
 *     0010iiii            INDEX: i of a set has completed
 *     0011iiii iiiiiiii   INDEX: of the next 3840, high bits first; 00111111: a number follows
 *     01dddddd            NO: a digit of how many times in a row the answer was that nothing has
 *                         happened, least first, 6 bits each
 *     10ssssss            SOURCE: of a wildcard receive or probe, on a communicator of at most 62
 *     11ssssss ssssssss   SOURCE: at most 16382 members, high bits first
 *     00001001 s s s s    SOURCE: more, 32 bits, little endian
 *
 * (numbers, of up to 32 bits: 7 bits a byte, least first, the high bit set in all but the last)
 *
 * A SOURCE stands where the receive was posted and is filled in when it is matched: 0 not matched
 * (yet), all ones matched by none (it was cancelled or lost), else the source + 1. A segment begins
 * with `carried` SOURCEs: of the receives that were pending at its epoch, in the order in which
 * they were posted. The same ones are left 0 in the segment before.
 *
 * Numbers of the header are little endian. Any change of this file bumps ORDER_VERSION.
 */
#ifndef DBG3_MSGCOUNTER_ORDER_FORMAT_H
#define DBG3_MSGCOUNTER_ORDER_FORMAT_H

#include <stdint.h>

#define ORDER_MAGIC      "DBG3ORDR" /* 8 bytes, no NUL */
#define ORDER_VERSION    1u
#define ORDER_BYTE_ORDER 0x01020304u

struct order_segment {
    char magic[8];
    uint32_t version;
    uint32_t byte_order; /* ORDER_BYTE_ORDER as the writer stores it */
    uint32_t rank;       /* in MPI_COMM_WORLD */
    uint32_t world_size;
    uint64_t epoch;   /* that the segment begins at; 0: the start of the program */
    uint64_t next;    /* epoch that it ends at; 0: none */
    uint32_t carried; /* SOURCEs at the beginning that belong to receives posted earlier */
    uint32_t full;    /* 1: there was no room for more: outcomes are missing behind the last */
    uint64_t reserved[2];

    /* The writer's line. */
    uint64_t at;   /* where the next outcome goes, from the start of the segment */
    uint64_t room; /* bytes that the file has */
    uint64_t no;   /* where the NO stands that may still grow; 0: none does */
    uint32_t thread; /* of the last outcome */
    uint32_t reserved_line[9];
};
_Static_assert(sizeof(struct order_segment) == 128, "segment header");

#define ORDER_THREAD      0x01
#define ORDER_NO_WIDE     0x02
#define ORDER_YES         0x08
#define ORDER_SOURCE_WIDE 0x09
#define ORDER_SOME        0x10
#define ORDER_INDEX       0x20
#define ORDER_INDEX_HIGH  0x30
#define ORDER_NO          0x40
#define ORDER_SOURCE      0x80
#define ORDER_SOURCE_TWO  0xc0

#define ORDER_SOME_MORE  14
#define ORDER_SOME_ALL   15
#define ORDER_INDEX_ONE  16                         /* indices of one byte */
#define ORDER_INDEX_TWO  (ORDER_INDEX_ONE + 15 * 256) /* of one or two */
#define ORDER_INDEX_MORE 0x3f
#define ORDER_DIGIT_BITS 6

/* Values of a SOURCE beside source + 1, as readers see them. */
#define ORDER_UNMATCHED 0u
#define ORDER_NOBODY    UINT32_MAX

#endif
