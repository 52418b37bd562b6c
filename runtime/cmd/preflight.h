/*
 * preflight.h - what can be said about a launcher line before it runs
 */
#ifndef DBG3_CMD_PREFLIGHT_H
#define DBG3_CMD_PREFLIGHT_H

#include <limits.h>
#include <stddef.h>

#include "runtime/base/err.h"
#include "runtime/coord/session.h"

/*
 * Looks for the MPI program among the words of a launcher line. Fails with one line if a word is
 * plainly a program that cannot be brought under control (static, setuid, another architecture,
 * another MPI library) and no word is one that can. `program` gets its absolute path, or "" if no
 * word names one (a script may start it): that is no error.
 */
int preflight(char *const *launcher, char program[PATH_MAX], struct err *err);

/* Name for the session folder: of the program, else of the last word that is a file, else of the
 * launcher. */
void preflight_name(char *const *launcher, const char *program, char *buf, size_t cap);

/* Fails, naming the file, if a program of the job is not the one (build-id) that the batch ran. */
int preflight_unchanged(struct session *s, struct err *err);

/* What is likely wrong with a line of which no rank has come under control; "" if its files do not
 * say. */
void preflight_doubt(char *const *launcher, char *buf, size_t cap);

#endif
