/*
 * cmd.h - the dbg3 command: its subcommands, and what they share
 *
 * main.c holds the one table of commands, tables.c those of exit codes and settings; usage, help,
 * man page and shell completion come from these and from each command's argp.
 */
#ifndef DBG3_CMD_CMD_H
#define DBG3_CMD_CMD_H

#include <argp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "runtime/base/err.h"
#include "runtime/coord/session.h"

#define DBG3_VERSION "0.1"

#define CMD_COLUMNS 80 /* of what is no terminal, and of one that does not tell */

/* Exit codes; tables.c explains them. */
enum exit_code {
    EXIT_DONE = 0,
    EXIT_ERROR = 1,
    EXIT_USAGE = 2,
    EXIT_RANK_FAILED = 3,
    EXIT_HUNG = 4,
    EXIT_LAUNCHER = 5,
    EXIT_NO_RANK = 6,
    EXIT_INTERRUPTED = 130,
};

struct command {
    const char *name;
    const char *help;        /* one line, lower case, no full stop */
    const struct argp *argp; /* NULL: takes what it likes */
    int (*run)(int argc, char **argv); /* argv[0] is "dbg3 <name>"; returns an exit code */
};

struct exit_row {
    int code;
    const char *meaning;
};

struct setting_row {
    const char *name, *fallback, *help; /* environment variables a user may set */
};

/* Each ends with a row of NULL name or meaning. */
extern const struct command commands[];
extern const struct exit_row exit_rows[];
extern const struct setting_row setting_rows[];

const struct command *command_find(const char *name);

/* The commands. */
int cmd_batch(int argc, char **argv);
int cmd_restart(int argc, char **argv);
int cmd_refine(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_list(int argc, char **argv);
int cmd_checkpoint(int argc, char **argv);
int cmd_isolate(int argc, char **argv);
int cmd_pack(int argc, char **argv);
int cmd_messages(int argc, char **argv);
int cmd_image(int argc, char **argv);
int cmd_core(int argc, char **argv);
int cmd_help(int argc, char **argv);

extern const struct argp batch_argp, restart_argp, refine_argp, status_argp, list_argp,
    checkpoint_argp, isolate_argp, pack_argp, messages_argp, image_argp, core_argp, help_argp;

/* ---- options that several commands have -------------------------------------------------- */

struct common {
    const char *session; /* NULL: ./latest.dbg3 */
    bool json;
};

/* argp children: --session, and --session with --json. Their input is a struct common *. */
extern const struct argp common_session_argp, common_argp;

/* Parses with usage errors exiting with EXIT_USAGE. */
void cmd_parse(const struct argp *argp, int argc, char **argv, unsigned flags, void *input);

/* Numbers on the command line; on nonsense they end the program through argp_error(). */
uint64_t cmd_number(const struct argp_state *state, const char *option, const char *text);
uint64_t cmd_duration(const struct argp_state *state, const char *option, const char *text);

/* "30s", "1h", "1.5m", "500ms", "20" (seconds) -> milliseconds, at least 1. -1 on nonsense. */
int duration_parse(const char *text, uint64_t *ms);

/* ---- output ------------------------------------------------------------------------------ */

/* Prints "dbg3: <text>" on standard error; returns code. */
int cmd_fail(int code, const struct err *err);

enum style { STYLE_PLAIN, STYLE_BOLD, STYLE_BAD, STYLE_GOOD, STYLE_DIM };

/* Escape sequence that starts a style on this stream, "" if it is no terminal or NO_COLOR is
 * set. */
const char *style_on(FILE *stream, enum style style);
const char *style_off(FILE *stream);

/* "0-3,7,9-10" of a sorted list of ranks; ends with ",..." where it does not fit. */
const char *human_ranks(const unsigned *rank, unsigned n, char *buf, size_t cap);

/* The coordinator's notices on standard error: progress overwrites itself on a terminal. */
void progress_notify(void *arg, int kind, const char *line);
/* Wipes a progress line that is still there. */
void progress_clear(void);

#endif
