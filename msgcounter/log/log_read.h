/*
 * log_read.h - read a rank's payload log from its folder, with errors for people
 *
 * For ordinary processes (`dbg3 messages`, tests, analyses). The segments are mapped read-only as
 * they are at the time of opening; records are borrowed from the mapping until log_reader_close.
 *
 * A log is readable up to its last whole record, whatever happened to it: log_reader_next first
 * hands out every record before the damage, then says file, offset, event and what to do.
 */
#ifndef DBG3_MSGCOUNTER_LOG_READ_H
#define DBG3_MSGCOUNTER_LOG_READ_H

#include "msgcounter/log/log.h"
#include "runtime/base/err.h"

struct log_reader;

/*
 * Opens the log of a rank in `dir` (the folder of the rank folders). `session` is the id it must
 * have, or NULL if any will do. Fails if there is no segment, if the first one has a bad header or
 * is another rank's or session's; trouble in later segments is told when reading gets there.
 */
int log_reader_open(struct log_reader **out, const char *dir, uint32_t rank, const uint8_t *session,
                    struct err *err);

void log_reader_close(struct log_reader *r);

/* The next record: 1 and *rec, 0 at the end of the recording, -1 at damage (again at each call). */
int log_reader_next(struct log_reader *r, const struct log_record **rec, struct err *err);

/* Goes to a place that a writer noted, or that log_reader_position gave. */
int log_reader_seek(struct log_reader *r, struct log_position at, struct err *err);

/* Place of the record that log_reader_next gives next. */
struct log_position log_reader_position(const struct log_reader *r);

/* What a rank's log holds. Older segments go when no kept checkpoint needs them. */
struct log_size {
    uint64_t first_event; /* of the oldest record */
    uint64_t events;
    uint64_t bytes; /* written, not allocated: up to the end of the last record */
};

/* The sizes, from the headers of the segments and the records of the last one, unchecked: what is
 * damaged, reading tells. Cheap for a log of any length. Fails as log_reader_open does. */
int log_size_of(const char *dir, uint32_t rank, struct log_size *out, struct err *err);

/* Whose log it is; until log_reader_close. */
const struct log_owner *log_reader_owner(const struct log_reader *r);

#endif
