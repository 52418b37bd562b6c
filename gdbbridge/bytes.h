/*
 * bytes.h - growable byte string: what packets, documents and answers are put together in
 *
 * The data is always followed by a NUL that is not counted. Running out of memory aborts: a stub
 * that cannot answer has nothing better to do.
 */
#ifndef DBG3_GDBBRIDGE_BYTES_H
#define DBG3_GDBBRIDGE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
    char *data; /* NULL while empty and never written to */
    size_t size, room;
};

void bytes_free(struct bytes *b);
void bytes_clear(struct bytes *b); /* keeps the memory */

void bytes_add(struct bytes *b, const void *data, size_t size);
void bytes_text(struct bytes *b, const char *text);
void bytes_printf(struct bytes *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* As text in XML: escaped, and without control characters. */
void bytes_xml(struct bytes *b, const char *text);

/* Two lower-case hex digits a byte. */
void bytes_hex(struct bytes *b, const void *data, size_t size);

/* Escaped as RSP wants binary data: # $ } * become } and the byte xor 0x20. Takes as much of the
 * data as fits into `room` bytes of output; returns the number of input bytes taken. */
size_t bytes_binary(struct bytes *b, const void *data, size_t size, size_t room);

/* Decodes 2n hex digits into n bytes. Returns n, or -1 if a character is no digit, the number of
 * digits is odd or the result is longer than room. */
long hex_decode(void *out, size_t room, const char *hex, size_t digits);

/* Value of a hex digit, or -1. */
int hex_digit(char c);

#endif
