/*
 * log.c - diagnostic messages, off unless asked for
 */
#include "runtime/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LOG_LINE_MAX 1200

static const char *const level_names[] = {"none", "warn", "info", "debug"};

static int level_from_name(const char *s, size_t n)
{
    for (int i = 0; i < 4; i++)
        if (strlen(level_names[i]) == n && !memcmp(level_names[i], s, n))
            return i;
    return -1;
}

/* The level that DBG3_LOG gives to a module; warnings are on by default. */
static enum log_level level_of(const char *module)
{
    const char *s = getenv("DBG3_LOG");
    int level = LOG_WARN;
    size_t module_len = strlen(module);
    while (s && *s) {
        size_t n = strcspn(s, ",");
        const char *colon = memchr(s, ':', n);
        if (!colon) {
            int l = level_from_name(s, n);
            level = l >= 0 ? l : level;
        } else if ((size_t)(colon - s) == module_len && !memcmp(s, module, module_len)) {
            int l = level_from_name(colon + 1, n - module_len - 1);
            if (l >= 0)
                return (enum log_level)l;
        }
        s += n + (s[n] == ',');
    }
    return (enum log_level)level;
}

bool log_wanted(const char *module, enum log_level level)
{
    return level <= level_of(module);
}

void log_line(const char *module, const char *fmt, ...)
{
    int saved = errno;
    char line[LOG_LINE_MAX];
    int n = snprintf(line, sizeof line, "dbg3[%d] %s: ", (int)getpid(), module);
    va_list ap;
    va_start(ap, fmt);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    va_end(ap);
    size_t len = (size_t)n + (m > 0 ? (size_t)m : 0);
    if (len > sizeof line - 2)
        len = sizeof line - 2;
    line[len++] = '\n';
    if (write(STDERR_FILENO, line, len) < 0)
        saved = saved ? saved : errno;
    errno = saved;
}
