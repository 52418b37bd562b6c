/*
 * out.c - what the commands print, and how they read numbers
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "runtime/cmd/cmd.h"
#include "runtime/coord/coord.h"

int cmd_fail(int code, const struct err *err)
{
    progress_clear();
    fprintf(stderr, "%sdbg3:%s %s\n", style_on(stderr, STYLE_BAD), style_off(stderr), err->text);
    return code;
}

/* ---- style ------------------------------------------------------------------------------- */

static bool stream_styled(FILE *stream)
{
    const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
    return isatty(fileno(stream)) && !(no && *no) && term && strcmp(term, "dumb");
}

const char *style_on(FILE *stream, enum style style)
{
    static const char *const on[] = {"", "\033[1m", "\033[1;31m", "\033[32m", "\033[2m"};
    return stream_styled(stream) ? on[style] : "";
}

const char *style_off(FILE *stream)
{
    return stream_styled(stream) ? "\033[0m" : "";
}

/* ---- progress ---------------------------------------------------------------------------- */

static bool progress_shown;

void progress_clear(void)
{
    if (progress_shown)
        fputs("\r\033[K", stderr);
    progress_shown = false;
}

void progress_notify(void *arg, int kind, const char *line)
{
    struct winsize size = {.ws_col = CMD_COLUMNS};
    bool terminal = isatty(STDERR_FILENO);
    progress_clear();
    if (kind != COORD_NOTE && !terminal)
        return;
    if (kind != COORD_PROGRESS) {
        fprintf(stderr, "dbg3: %s\n", line);
        return;
    }
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col < 20)
        size.ws_col = CMD_COLUMNS;
    /* The cursor waits in front of it: what the job prints there meanwhile comes over the line. */
    fprintf(stderr, "dbg3: %.*s\r", size.ws_col - 8, line);
    fflush(stderr);
    progress_shown = true;
}

/* ---- numbers for people ------------------------------------------------------------------ */

const char *human_ranks(const unsigned *rank, unsigned n, char *buf, size_t cap)
{
    size_t used = 0;
    buf[0] = '\0';
    for (unsigned i = 0; i < n;) {
        char range[32];
        unsigned j = i;
        while (j + 1 < n && rank[j + 1] == rank[j] + 1)
            j++;
        int len = i == j ? snprintf(range, sizeof range, "%s%u", i ? "," : "", rank[i])
                         : snprintf(range, sizeof range, "%s%u%c%u", i ? "," : "", rank[i],
                                    j == i + 1 ? ',' : '-', rank[j]);
        if (used + (size_t)len + 5 > cap) {
            snprintf(buf + used, cap - used, ",...");
            break;
        }
        memcpy(buf + used, range, (size_t)len + 1);
        used += (size_t)len;
        i = j + 1;
    }
    return buf;
}

/* ---- numbers from people ----------------------------------------------------------------- */

int duration_parse(const char *text, uint64_t *ms)
{
    static const struct {
        const char *suffix;
        double ms;
    } units[] = {{"ms", 1}, {"s", 1e3}, {"", 1e3}, {"m", 60e3}, {"min", 60e3}, {"h", 3600e3},
                 {"d", 86400e3}};
    char *end;
    if (!isdigit((unsigned char)*text) && *text != '.')
        return -1;
    double value = strtod(text, &end);
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(end, units[i].suffix))
            continue;
        double total = value * units[i].ms;
        if (!isfinite(total) || total < 1 || total > 1e15)
            return -1;
        *ms = (uint64_t)(total + 0.5);
        return 0;
    }
    return -1;
}

uint64_t cmd_duration(const struct argp_state *state, const char *option, const char *text)
{
    uint64_t ms = 0;
    if (duration_parse(text, &ms) < 0)
        argp_error(state, "--%s: '%s' is no time; write 30s, 10m, 1h", option, text);
    return ms;
}

uint64_t cmd_number(const struct argp_state *state, const char *option, const char *text)
{
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno || value > INT64_MAX)
        argp_error(state, "--%s: '%s' is no number", option, text);
    return value;
}
