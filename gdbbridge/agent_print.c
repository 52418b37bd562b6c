/*
 * agent_print.c - printf for the byte code's values
 */
#include "gdbbridge/agent_print.h"

#include <stdbool.h>
#include <string.h>

#include "gdbbridge/agent.h"
#include "gdbbridge/bytes.h"

#define WIDTH_MAX  4096
#define STRING_MAX 65536

/* One conversion: "%-08.3lx". */
struct spec {
    char flags[8];
    unsigned width, precision;
    bool has_precision;
    unsigned bytes; /* of the value */
    char what;
};

struct text {
    const char *at, *end;
};

static char look(const struct text *t)
{
    return t->at < t->end ? *t->at : 0;
}

/* ---- escapes ---- */

static char octal(struct text *t)
{
    unsigned value = 0;
    for (int i = 0; i < 3 && look(t) >= '0' && look(t) <= '7'; i++)
        value = value * 8 + (unsigned)(*t->at++ - '0');
    return (char)value;
}

/* What is behind a backslash. Returns 0, or -1: nothing that is known. */
static int escape(struct text *t, char *c)
{
    static const char names[] = "abefnrtv\\\"'", values[] = "\a\b\033\f\n\r\t\v\\\"'";
    const char *name = look(t) ? strchr(names, look(t)) : NULL;
    if (look(t) >= '0' && look(t) <= '7') {
        *c = octal(t);
    } else if (name) {
        *c = values[name - names];
        t->at++;
    } else {
        return -1;
    }
    return 0;
}

/* ---- conversions ---- */

/* Returns -1 if it is too large. */
static int number(struct text *t, unsigned *n)
{
    for (*n = 0; look(t) >= '0' && look(t) <= '9'; t->at++)
        if ((*n = *n * 10 + (unsigned)(*t->at - '0')) > WIDTH_MAX)
            return -1;
    return 0;
}

static unsigned value_bytes(struct text *t)
{
    unsigned bytes = 4;
    while (look(t) == 'h') {
        bytes /= 2;
        t->at++;
    }
    for (; look(t) && strchr("lzjt", look(t)); t->at++)
        bytes = 8;
    return bytes;
}

/* What is behind a percent sign. */
static int parse(struct text *t, struct spec *s)
{
    size_t n = 0;
    *s = (struct spec){0};
    for (; look(t) && strchr("-+ #0", look(t)); t->at++)
        if (!strchr(s->flags, look(t)))
            s->flags[n++] = *t->at;
    if (number(t, &s->width))
        return -1;
    s->has_precision = look(t) == '.';
    if (s->has_precision) {
        t->at++;
        if (number(t, &s->precision))
            return -1;
    }
    s->bytes = value_bytes(t);
    s->what = look(t);
    if (!s->bytes || !s->what || !strchr("diouxXcsp", s->what) ||
        (s->bytes != 4 && strchr("csp", s->what)))
        return -1; /* wide characters among them */
    t->at++;
    return 0;
}

/* The program's string as bytes. Returns -1 if it is not there or does not end. */
static int fetch_string(const struct agent_world *world, uint64_t addr, const struct spec *s,
                        struct bytes *out)
{
    size_t most = s->has_precision ? s->precision : STRING_MAX;
    char c;
    for (size_t i = 0; i < most; i++) {
        if (world->memory(world->arg, addr + i, &c, 1) < 0)
            return -1;
        if (!c)
            return 0;
        bytes_add(out, &c, 1);
    }
    return s->has_precision ? 0 : -1;
}

static void pad(struct bytes *out, const struct spec *s, const char *data, size_t size)
{
    bool left = strchr(s->flags, '-');
    if (left)
        bytes_add(out, data, size);
    for (size_t i = size; i < s->width; i++)
        bytes_add(out, " ", 1);
    if (!left)
        bytes_add(out, data, size);
}

static int print_string(const struct agent_world *world, const struct spec *s, uint64_t addr)
{
    struct bytes string = {0};
    int r = 0;
    if (addr)
        r = fetch_string(world, addr, s, &string);
    else
        bytes_text(&string, "(null)");
    if (r == 0)
        pad(world->printed, s, string.data ? string.data : "", string.size);
    bytes_free(&string);
    return r;
}

/* A narrow value as C would see it. */
static long long narrow(const struct spec *s, uint64_t value)
{
    bool sign = s->what == 'd' || s->what == 'i';
    switch (s->bytes) {
    case 1: return sign ? (long long)(int8_t)value : (uint8_t)value;
    case 2: return sign ? (long long)(int16_t)value : (uint16_t)value;
    case 4: return sign ? (long long)(int32_t)value : (uint32_t)value;
    default: return (long long)value;
    }
}

static void print_integer(struct bytes *out, const struct spec *s, uint64_t value)
{
    char format[40], *p = format, c = (char)value;
    bool pointer = s->what == 'p';
    if (s->what == 'c') {
        pad(out, s, &c, 1);
        return;
    }
    *p++ = '%';
    p = stpcpy(p, s->flags);
    if (pointer && !strchr(s->flags, '#'))
        *p++ = '#';
    p = stpcpy(p, s->has_precision ? "*.*ll" : "*ll");
    *p++ = pointer ? 'x' : s->what;
    *p = 0;
    long long n = pointer ? (long long)value : narrow(s, value);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* put together from what has been checked */
    if (s->has_precision)
        bytes_printf(out, format, (int)s->width, (int)s->precision, n);
    else
        bytes_printf(out, format, (int)s->width, n);
#pragma GCC diagnostic pop
}

/* What is behind a percent sign takes the next of the values, unless it is another one. */
static int convert(const struct agent_world *world, struct text *t, const uint64_t *values,
                   size_t n, size_t *used)
{
    struct spec s;
    if (look(t) == '%') {
        bytes_add(world->printed, t->at++, 1);
        return 0;
    }
    if (parse(t, &s) || *used == n)
        return -1;
    uint64_t value = values[(*used)++];
    if (s.what == 's')
        return print_string(world, &s, value);
    print_integer(world->printed, &s, value);
    return 0;
}

int agent_print(const struct agent_world *world, const char *format, size_t size,
                const uint64_t *values, size_t n)
{
    struct text t = {format, format + size};
    size_t used = 0;
    while (look(&t)) {
        char c = *t.at++;
        if (c == '%') {
            if (convert(world, &t, values, n, &used))
                return -1;
            continue;
        }
        if (c == '\\' && escape(&t, &c))
            return -1;
        bytes_add(world->printed, &c, 1);
    }
    return used == n ? 0 : -1;
}
