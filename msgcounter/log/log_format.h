/*
 * log_format.h - the bytes of a payload log
 *
 * A rank's log is a folder of segments, <dir>/rank-<R>/<number, 8 digits>.dlog. Each file has its
 * final size from the start and is written through a shared mapping:
 *
 *     +-----------------+--------+--------+-----+--------+-----------------+
 *     | segment header  | record | record | ... | record | rest            |
 *     +-----------------+--------+--------+-----+--------+-----------------+
 *
 *     record:  log_record (24 bytes) | field | field | ...      8-aligned
 *     field:   log_field   (8 bytes) | value, padded to 8 with zeros
 *
 * Invariants:
 *  - Numbers are little endian. Everything starts at a multiple of 8.
 *  - Event numbers are dense: each record's is one more than the last, across segments; a segment's
 *    header names its first. A gap is damage, whatever the check words say.
 *  - A record's `head` is stored last, in one piece with release semantics, after the head of its
 *    successor was cleared: a reader that loads it with acquire sees whole records, then a zero.
 *  - The rest begins with 8 bytes of zeros, unless it is shorter. Behind them: zeros, or what an
 *    earlier segment of this log had there, whose event numbers are smaller.
 *  - A record never crosses segments. One that does not fit starts the next segment.
 *  - Any change of this file bumps LOG_VERSION.
 */
#ifndef DBG3_MSGCOUNTER_LOG_FORMAT_H
#define DBG3_MSGCOUNTER_LOG_FORMAT_H

#include <stdint.h>

#define LOG_MAGIC        "DBG3DLOG" /* 8 bytes, no NUL */
#define LOG_VERSION      1u
#define LOG_BYTE_ORDER   0x01020304u
#define LOG_SESSION_LEN  16
#define LOG_SEGMENT_SIZE (4u << 20) /* default; a larger record gets a segment of its own size */
#define LOG_RECORD_MAX   (8 * (uint64_t)UINT32_MAX) /* bytes of the largest record */

struct log_segment {
    char magic[8];
    uint32_t version;
    uint32_t byte_order; /* LOG_BYTE_ORDER as the writer stores it */
    uint32_t rank;       /* in MPI_COMM_WORLD */
    uint32_t world_size;
    uint32_t segment; /* number, from 0 */
    uint32_t reserved;
    uint64_t first_event; /* event number of the first record of this segment */
    uint64_t size;        /* bytes of the whole segment */
    uint8_t session[LOG_SESSION_LEN];
    uint64_t check; /* xxh3-64 of the bytes before */
};
_Static_assert(sizeof(struct log_segment) == 72, "segment header");

struct log_record {
    union {
        struct {
            uint32_t words; /* size of the whole record in units of 8 bytes */
            uint32_t check; /* low half of the xxh3-64 of all that follows, to the record's end */
        };
        uint64_t head; /* both; 0: no record here yet */
    };
    uint64_t event; /* number of the event, dense from 0 at the start of recording */
    uint16_t call;  /* row of the call table, or a system call (system_table.h) */
    uint16_t flags;
    uint32_t thread; /* ordinal of the calling thread in its rank */
};
_Static_assert(sizeof(struct log_record) == 24, "record header");

struct log_field {
    uint8_t param;        /* index of the parameter in the call's prototype, or LOG_PARAM_NONE */
    uint8_t role;         /* enum log_role */
    uint16_t length_high; /* bits 32..47 of the length */
    uint32_t length;      /* bytes of the value without padding */
};
_Static_assert(sizeof(struct log_field) == 8, "field header");

#define LOG_PARAM_NONE 0xff

/* What a field's bytes are. Several fields may have the same parameter and role: an array's. */
enum log_role {
    LOG_ROLE_VALUE = 1, /* scalar out, or an array of them: as in memory */
    LOG_ROLE_DATA,      /* output buffer, packed in type-map order */
    LOG_ROLE_DIGEST,    /* of what was sent: struct log_digest */
    LOG_ROLE_ENVELOPE,  /* struct log_envelope: context for people, and checked for sends */
    LOG_ROLE_STATUS,    /* struct log_status */
    LOG_ROLE_REQUEST,   /* virtual request id, 4 or 8 bytes */
    LOG_ROLE_HANDLE,    /* virtual handle, 4 or 8 bytes */
    LOG_ROLE_TEXT,      /* characters without NUL */
    LOG_ROLE_TIME,      /* clock reading: 8 bytes (double, seconds) or 16 (int64 s, int64 ns) */
    LOG_ROLE_RETCODE,   /* int32: what the call returned */
    LOG_ROLE_END        /* one more than the last */
};

struct log_digest {
    uint64_t digest; /* xxh3-64 of the packed bytes */
    uint64_t bytes;
};

struct log_envelope {
    int32_t peer; /* rank in comm, or the MPI library's negative constant */
    int32_t tag;
    uint32_t comm; /* global id of the communicator */
    uint32_t reserved;
};

struct log_status {
    int32_t source;
    int32_t tag;
    int32_t error;
    int32_t cancelled;
    int64_t count; /* bytes received */
};
_Static_assert(sizeof(struct log_digest) == 16 && sizeof(struct log_envelope) == 16 &&
                   sizeof(struct log_status) == 24,
               "field values");

/* A place between two records. `event` is the number that the record at that place has or will
 * have. */
struct log_position {
    uint32_t segment;
    uint32_t reserved;
    uint64_t offset; /* from the start of the segment file */
    uint64_t event;
};

/* Where the first record of a segment stands. */
#define LOG_FIRST_OFFSET sizeof(struct log_segment)

/* Bytes that a field with a value of n bytes takes in a record. */
#define LOG_FIELD_ROOM(n) (sizeof(struct log_field) + (((uint64_t)(n) + 7) & ~UINT64_C(7)))

#endif
