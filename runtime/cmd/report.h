/*
 * report.h - how a phase ended, and what to type next
 *
 * Made from the catalog and the counters files alone, so that `dbg3 status` can say it again at any
 * time after.
 */
#ifndef DBG3_CMD_REPORT_H
#define DBG3_CMD_REPORT_H

#include <jansson.h>
#include <stdio.h>

#include "runtime/base/err.h"
#include "runtime/coord/session.h"

/* Prints the report of a phase. */
int report_print(struct session *s, const struct session_phase *phase, FILE *out, struct err *err);

/* The same facts; a new reference. */
json_t *report_json(struct session *s, const struct session_phase *phase, struct err *err);

/* Exit code for an outcome (cmd.h). */
int report_exit_code(enum session_outcome outcome);

/* "SIGSEGV at address 0x10", "MPI_Abort with 7", "killed from outside", ... */
const char *report_cause(const struct session_failure *f, char *buf, size_t cap);

/*
 * The command to type after this phase, "" if there is none: refine after a failure, isolate after
 * a refine that met one, restart after an interruption.
 */
int report_next(struct session *s, const struct session_phase *phase, char *buf, size_t cap,
                struct err *err);

#endif
