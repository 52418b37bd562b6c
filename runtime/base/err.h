/*
 * err.h - an error that a person will read
 *
 * A function that can fail for a reason worth telling takes `struct err *err` as its last parameter
 * and returns err_set(err, ...), which is -1. The function that first decides that something is an
 * error writes the text, once; callers may put context in front with err_prefix().
 *
 * Texts are lower case, name the file, rank or call concerned and, where there is one, the next
 * thing to type. `err` may be NULL when the caller does not want the text.
 */
#ifndef DBG3_BASE_ERR_H
#define DBG3_BASE_ERR_H

#define ERR_TEXT_MAX 1024

struct err {
    int code;                /* errno value, 0 if none applies */
    char text[ERR_TEXT_MAX]; /* NUL-terminated, no newline */
};

/* Sets the text. Returns -1. errno is kept. */
int err_set(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Sets the text followed by ": " and the description of errno; stores errno in code. Returns -1. */
int err_sys(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Puts "<prefix>: " in front of the present text. Returns -1. */
int err_prefix(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
