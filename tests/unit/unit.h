/*
 * unit.h - what the Check programs of this folder share: main, goldens, a fuzzer's corpus, a folder
 *
 * Each is linked with unit.o, and is started at the root of the source tree.
 */
#ifndef DBG3_TESTS_UNIT_H
#define DBG3_TESTS_UNIT_H

#include <stddef.h>
#include <stdint.h>

#include <check.h>

/* What a fuzzer of tests/fuzz defines; always 0. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Runs and frees `suite`. Returns the exit status of the program. */
int unit_run(Suite *suite);

/*
 * A path in the source tree, wherever the test has gone since its start. Valid until the next but
 * three.
 */
const char *unit_source(const char *path);

/* A whole file, with a NUL behind it, for free(). Fails the test if it cannot be read. */
char *unit_read(const char *path, size_t *size);

/* Fails the test if `text` is not what tests/golden/`name` says; GOLDEN_UPDATE=1 writes it anew. */
void unit_golden(const char *name, const char *text);

/* Gives each file of tests/fuzz/corpus/`thing` to `fuzzer`; fails the test below `least` files. */
void unit_corpus(const char *thing, unsigned least, int (*fuzzer)(const uint8_t *, size_t));

/* Fixtures: a new folder below /tmp, entered; left, and removed with all that it holds. */
void scratch_enter(void);
void scratch_leave(void);
const char *scratch_folder(void);

/* CPU time of this process in seconds: the machine may be busy. */
double unit_cpu_seconds(void);

#endif
