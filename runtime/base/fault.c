/*
 * fault.c - named points at which a test may strike a process
 */
#include "runtime/base/fault.h"

#include <ctype.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RANK        "rank"
#define COORDINATOR "coordinator"
#define X(symbol, name, whose, what) {name, whose, what},
const struct fault_row fault_rows[] = {{NULL, NULL, NULL}, FAULT_POINTS(X) {NULL, NULL, NULL}};
#undef X

enum fault_point fault_armed;

struct fault {
    enum fault_point point;
    long rank, nth;
    int signal;
};

static struct fault armed;

/* ":NUMBER" at *at, if there is one. False if something else follows. */
static bool parse_number(const char **at, long *number)
{
    char *end;
    if (**at != ':' || !isdigit((unsigned char)(*at)[1]))
        return **at == '\0' || **at == ':';
    *number = strtol(*at + 1, &end, 10);
    *at = end;
    return true;
}

static int parse(const char *value, struct fault *f, struct err *err)
{
    size_t n = strcspn(value, ":");
    const char *at = value + n;
    *f = (struct fault){.point = 1, .nth = 1, .signal = SIGKILL};
    while (fault_rows[f->point].name && (strncmp(fault_rows[f->point].name, value, n) != 0 ||
                                         fault_rows[f->point].name[n] != '\0'))
        f->point++;
    if (!fault_rows[f->point].name)
        return err_set(err, FAULT_ENV ": there is no point '%.*s'; see: dbg3 help faults", (int)n,
                       value);
    if (!parse_number(&at, &f->rank) || !parse_number(&at, &f->nth) || f->nth < 1 ||
        (*at && strcmp(at, ":stop") != 0))
        return err_set(err, FAULT_ENV ": '%s' is not POINT[:RANK[:NTH[:stop]]]", value);
    if (*at)
        f->signal = SIGSTOP;
    return 0;
}

int fault_check(const char *value, struct err *err)
{
    struct fault f;
    return parse(value, &f, err);
}

void fault_arm(int rank)
{
    struct fault f;
    const char *value = getenv(FAULT_ENV);
    if (!value || parse(value, &f, NULL) < 0)
        return;
    bool coordinator = strcmp(fault_rows[f.point].whose, COORDINATOR) == 0;
    if (coordinator ? rank >= 0 : rank != f.rank)
        return;
    armed = f;
    fault_armed = f.point;
}

void fault_strike(void)
{
    if (--armed.nth > 0)
        return;
    fault_armed = FAULT_NONE;
    kill(getpid(), armed.signal);
}
