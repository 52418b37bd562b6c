/*
 * isolate_serve.h - an isolated rank behind GDB's remote protocol
 */
#ifndef DBG3_REPLAY_ISOLATE_SERVE_H
#define DBG3_REPLAY_ISOLATE_SERVE_H

#include <stddef.h>

#include "replay/isolate.h"

/* Runs dbg3-replay on `image` under ptrace and serves it at options->listen ("-": standard input
 * and output). Returns when GDB has gone: 0, or -1 with *err. */
int isolate_serve(const struct isolate_options *options, const char *image, struct err *err);

/* The image that the options mean. */
int isolate_image(const struct isolate_options *options, char *path, size_t cap, struct err *err);

#endif
