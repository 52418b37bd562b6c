/*
 * help.c - dbg3 help: topics made from the tables; also the source of the man page and completion
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "call_limits.h" /* generated from the table of MPI calls */
#include "gdbbridge/by_message.h"
#include "runtime/base/fault.h"
#include "runtime/cmd/cmd.h"

struct topic {
    const char *name, *help;
    void (*print)(void);
};

/* Text behind `column` characters that are printed already, in lines of 79 columns. */
static void print_wrapped(const char *text, int column)
{
    int at = column;
    for (const char *word = text; *word;) {
        int n = (int)strcspn(word, " ");
        if (at > column && at + 1 + n > 79)
            at = printf("\n%*s", column, "") - 1;
        else if (at > column)
            at += printf(" ");
        at += printf("%.*s", n, word);
        word += n + (int)strspn(word + n, " ");
    }
    putchar('\n');
}

static void print_settings(void)
{
    for (const struct setting_row *s = setting_rows; s->name; s++) {
        printf("%-10s (default: %s)\n           ", s->name, s->fallback);
        print_wrapped(s->help, 11);
    }
}

static void print_exit_codes(void)
{
    for (const struct exit_row *e = exit_rows; e->meaning; e++)
        print_wrapped(e->meaning, printf("%3d  ", e->code));
}

static void print_faults(void)
{
    printf("For tests: " FAULT_ENV "=POINT[:RANK[:NTH[:stop]]] kills (or stops) a process of\n"
           "the job the NTH time that it is at POINT. RANK is whose (default: 0); the\n"
           "coordinator is dbg3.\n\n");
    for (const struct fault_row *f = &fault_rows[1]; f->name; f++)
        print_wrapped(f->what, printf("%-16s %-12s ", f->name, f->whose));
}

static void print_gdb(void)
{
    printf("GDB, where \"dbg3 isolate\" starts it, has these commands beside its own (there:\n"
           "help dbg3). Without Python they are: monitor COMMAND, and continue where that\n"
           "says so.\n\n");
    for (const struct monitor_command *c = by_message_help(); c->name; c++)
        printf("dbg3 %s%s%s\n", c->name, *c->help == '\n' ? "" : " ", c->help);
    printf("\nN, FIRST, LAST are events: calls of the rank, numbered as in \"dbg3 messages\".\n"
           "FILTER is any of --send --recv --coll --from P --to P --tag T --comm C.\n");
}

/* Names in lines of 78 columns. */
static void print_name(const char *name, int *column)
{
    if (*column + 1 + (int)strlen(name) > 78 || !*column)
        *column = printf("%s  ", *column ? "\n" : "");
    *column += printf(" %s", name);
}

static void print_calls(void)
{
    static const struct {
        const char *name, *what;
        bool unable;
    } limits[] = {
#define ROW(name, what, unable) {name, what, unable},
        CALL_LIMITS(ROW)
#undef ROW
    };
    const size_t n = sizeof limits / sizeof *limits;
    int column = 0;

    printf("Every other MPI call works in each phase. batch makes all calls; refine stops at\n"
           "one that it cannot record, with a line that names it:\n");
    for (size_t i = 0; i < n; i++) {
        if (!*limits[i].what)
            continue;
        if (i == 0 || strcmp(limits[i].what, limits[i - 1].what)) {
            printf("%s\n%s\n", column ? "\n" : "", limits[i].what);
            column = 0;
        }
        print_name(limits[i].name, &column);
    }
    printf("\n\nNo epoch is made while there is something that one of these has made:\n");
    column = 0;
    for (size_t i = 0; i < n; i++)
        if (limits[i].unable)
            print_name(limits[i].name, &column);
    printf("\n");
}

/* ---- the man page ------------------------------------------------------------------------ */

/* Text for troff: no line may begin with a control character, and - is a minus in options. */
static void roff_text(const char *s)
{
    for (bool start = true; *s; start = *s == '\n', s++) {
        if (start && (*s == '.' || *s == '\''))
            fputs("\\&", stdout);
        if (*s == '\\')
            fputs("\\e", stdout);
        else if (*s == '-')
            fputs("\\-", stdout);
        else
            putchar(*s);
    }
}

static void roff_options(const struct argp *argp)
{
    for (const struct argp_option *o = argp->options; o && (o->name || o->key); o++) {
        if (!o->name || (o->flags & OPTION_HIDDEN))
            continue;
        printf(".TP\n");
        if (isascii(o->key) && isgraph(o->key))
            printf("\\fB\\-%c\\fR, ", o->key);
        printf("\\fB\\-\\-");
        roff_text(o->name);
        printf("\\fR");
        if (o->arg)
            printf("=\\fI%s\\fR", o->arg);
        putchar('\n');
        roff_text(o->doc ? o->doc : "");
        putchar('\n');
    }
    for (const struct argp_child *c = argp->children; c && c->argp; c++)
        roff_options(c->argp);
}

static void roff_command(const struct command *c)
{
    printf(".SS dbg3 %s", c->name);
    if (c->argp && c->argp->args_doc) {
        putchar(' ');
        roff_text(c->argp->args_doc);
    }
    putchar('\n');
    const char *doc = c->argp && c->argp->doc ? c->argp->doc : c->help;
    const char *more = strchr(doc, '\v');
    char *first = strndup(doc, more ? (size_t)(more - doc) : strlen(doc));
    roff_text(first ? first : "");
    putchar('\n');
    free(first);
    if (more) {
        printf(".PP\n");
        roff_text(more + 1);
        putchar('\n');
    }
    if (c->argp)
        roff_options(c->argp);
}

/* The parts of dbg3.1.in that the tables know. */
static void print_man_commands(void)
{
    for (const struct command *c = commands; c->name; c++)
        roff_command(c);
}

static void print_man_exit(void)
{
    for (const struct exit_row *e = exit_rows; e->meaning; e++) {
        printf(".TP\n.B %d\n", e->code);
        roff_text(e->meaning);
        putchar('\n');
    }
}

static void print_man_settings(void)
{
    for (const struct setting_row *s = setting_rows; s->name; s++) {
        printf(".TP\n.B %s\n", s->name);
        roff_text(s->help);
        printf(" (default: %s)\n", s->fallback);
    }
}

/* ---- completion -------------------------------------------------------------------------- */

static void print_long_options(const struct argp *argp)
{
    for (const struct argp_option *o = argp->options; o && (o->name || o->key); o++)
        if (o->name && !(o->flags & OPTION_HIDDEN))
            printf(" --%s", o->name);
    for (const struct argp_child *c = argp->children; c && c->argp; c++)
        print_long_options(c->argp);
}

static void print_help_words(void);

static void print_completion(void)
{
    printf("# bash completion for dbg3\n"
           "_dbg3()\n{\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=\n"
           "    if [ \"$prev\" = --session ]; then\n"
           "        COMPREPLY=($(compgen -d -- \"$cur\"))\n        return\n    fi\n"
           "    if [ \"$prev\" = under ]; then\n        COMPREPLY=(gdb)\n        return\n    fi\n"
           "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n        words=\"");
    for (const struct command *c = commands; c->name; c++)
        printf("%s%s", c == commands ? "" : " ", c->name);
    printf(" --help --version\"\n    else\n        case ${COMP_WORDS[1]} in\n");
    for (const struct command *c = commands; c->name; c++) {
        if (!c->argp)
            continue;
        printf("        %s) words=\"", c->name);
        print_long_options(c->argp);
        if (c->run == cmd_isolate)
            printf(" under");
        if (c->run == cmd_help)
            print_help_words();
        printf(" --help\" ;;\n");
    }
    printf("        esac\n    fi\n"
           "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
           "}\n"
           "complete -o default -F _dbg3 dbg3\n");
}

/* ---- help -------------------------------------------------------------------------------- */

static void print_man_gdb(void)
{
    printf("Where\n.B dbg3 isolate\nstarts GDB, GDB has these commands beside its own. An event "
           "is a call of the rank,\nnumbered as by\n.BR \"dbg3 messages\" .\n"
           "FILTER is any of \\-\\-send, \\-\\-recv, \\-\\-coll, \\-\\-from P, "
           "\\-\\-to P, \\-\\-tag T, \\-\\-comm C.\n"
           "Without Python they are\n.BI monitor \" COMMAND\"\nand, for moves,\n.BR continue .\n");
    for (const struct monitor_command *c = by_message_help(); c->name; c++) {
        printf(".TP\n.B dbg3 ");
        roff_text(c->name);
        for (const char *line = c->help; line; line = strchr(line, '\n')) {
            line += strspn(line, "\n "); /* usage stands behind the name, text below */
            printf("%s%.*s", line == c->help ? " " : "\n", (int)strcspn(line, "\n"), line);
        }
        putchar('\n');
    }
}

static const struct topic topics[] = {
    {"settings", "environment variables that dbg3 reads", print_settings},
    {"exit-codes", "what the exit code says", print_exit_codes},
    {"calls", "MPI calls that cannot be recorded or saved yet, and why", print_calls},
    {"gdb", "commands in GDB: moving an isolated rank by its messages", print_gdb},
    {"faults", "points of a checkpoint at which tests kill a process", print_faults},
    {"man-commands", NULL, print_man_commands},
    {"man-gdb", NULL, print_man_gdb},
    {"man-exit", NULL, print_man_exit},
    {"man-settings", NULL, print_man_settings},
    {"completion", "completion for bash, to be sourced", print_completion},
};

#define TOPICS (sizeof topics / sizeof topics[0])

/* What `dbg3 help` may be followed by. */
static void print_help_words(void)
{
    for (const struct command *c = commands; c->name; c++)
        printf(" %s", c->name);
    for (size_t i = 0; i < TOPICS; i++)
        if (topics[i].help)
            printf(" %s", topics[i].name);
}

static error_t parse(int key, char *arg, struct argp_state *state)
{
    if (key != ARGP_KEY_ARG || state->arg_num)
        return ARGP_ERR_UNKNOWN;
    *(const char **)state->input = arg;
    return 0;
}

const struct argp help_argp = {
    NULL, parse, "[COMMAND | TOPIC]",
    "Explain a command or a topic.\vTopics: settings, exit-codes, calls, gdb, faults, completion.",
    NULL, NULL, NULL};

static int overview(void)
{
    for (const struct command *c = commands; c->name; c++)
        printf("  %-12s %s\n", c->name, c->help);
    putchar('\n');
    for (size_t i = 0; i < TOPICS; i++)
        if (topics[i].help)
            printf("  %-12s %s\n", topics[i].name, topics[i].help);
    return EXIT_DONE;
}

int cmd_help(int argc, char **argv)
{
    const char *word = NULL;
    cmd_parse(&help_argp, argc, argv, 0, &word);
    if (!word)
        return overview();
    for (size_t i = 0; i < TOPICS; i++)
        if (!strcmp(topics[i].name, word)) {
            topics[i].print();
            return EXIT_DONE;
        }
    const struct command *c = command_find(word);
    if (c && c->argp) {
        char name[64];
        snprintf(name, sizeof name, "dbg3 %s", c->name);
        argp_help(c->argp, stdout, ARGP_HELP_STD_HELP & ~ARGP_HELP_EXIT_OK, name);
        return EXIT_DONE;
    }
    if (c) {
        printf("dbg3 %s: %s\n", c->name, c->help);
        return EXIT_DONE;
    }
    struct err err;
    err_set(&err, "no help on '%s'; see: dbg3 help", word);
    return cmd_fail(EXIT_USAGE, &err);
}
