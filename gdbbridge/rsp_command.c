/*
 * rsp_command.c - typed commands
 */
#include "gdbbridge/rsp_command.h"

#include <string.h>

#include "gdbbridge/bytes.h"

int rsp_parse_number(const char **text, const char *end, uint64_t *number)
{
    const char *p = *text;
    uint64_t n = 0;
    int digits = 0;
    for (; p < end && hex_digit(*p) >= 0; p++, digits++)
        n = n << 4 | (uint64_t)hex_digit(*p);
    if (!digits || digits > 16)
        return -1;
    *number = n;
    *text = p;
    return 0;
}

/* One half of a thread id. */
static int parse_id(const char **text, const char *end, pid_t *id)
{
    uint64_t n;
    if (end - *text >= 2 && (*text)[0] == '-' && (*text)[1] == '1') {
        *text += 2;
        *id = -1;
        return 0;
    }
    if (rsp_parse_number(text, end, &n) || n > INT32_MAX)
        return -1;
    *id = (pid_t)n;
    return 0;
}

int rsp_parse_thread(const char **text, const char *end, struct ptid *thread)
{
    const char *p = *text;
    struct ptid t = {0, -1};
    if (p < end && *p == 'p') {
        p++;
        if (parse_id(&p, end, &t.pid))
            return -1;
        if (p < end && *p == '.') {
            p++;
            if (parse_id(&p, end, &t.tid))
                return -1;
        }
    } else if (parse_id(&p, end, &t.tid)) {
        return -1;
    }
    *thread = t;
    *text = p;
    return 0;
}

/* Parses one parameter of the given type at *text. `stop` is the literal that follows it, or 0. */
static int parse_param(char type, char stop, const char **text, const char *end,
                       struct rsp_param *p)
{
    const char *start = *text, *found;
    p->present = true;
    switch (type) {
    case 'x':
        return rsp_parse_number(text, end, &p->number);
    case 't':
        return rsp_parse_thread(text, end, &p->thread);
    default: /* w or b */
        found = type == 'w' && stop ? memchr(start, stop, (size_t)(end - start)) : NULL;
        p->text = start;
        p->size = (size_t)((found ? found : end) - start);
        *text = start + p->size;
        return 0;
    }
}

static int parse_params(const char *schema, const char *text, const char *end, struct rsp_param *p)
{
    memset(p, 0, RSP_PARAMS_MAX * sizeof *p);
    for (; *schema; schema++) {
        if (*schema == '|') {
            if (text == end)
                return 0;
        } else if (strchr("xtwb", *schema)) {
            char stop = schema[1] == '|' ? schema[2] : schema[1];
            if (parse_param(*schema, stop, &text, end, p++))
                return -1;
        } else if (text == end || *text++ != *schema) {
            return -1;
        }
    }
    return text == end ? 0 : -1;
}

static bool name_matches(const char *name, const char *packet, size_t size)
{
    size_t n = strlen(name);
    if (size < n || memcmp(name, packet, n))
        return false;
    return size == n || !strchr("qQv", name[0]) || strchr(":;,?", name[n - 1]) ||
           strchr(":;,?", packet[n]);
}

enum rsp_parse rsp_command_parse(const struct rsp_command *table, size_t rows,
                                 const struct session *s, const char *packet, size_t size,
                                 const struct rsp_command **command, struct rsp_param *p)
{
    const struct rsp_command *best = NULL;
    for (const struct rsp_command *c = table; c < table + rows; c++)
        if (name_matches(c->name, packet, size) && (!c->offered || c->offered(s)) &&
            (!best || strlen(c->name) > strlen(best->name)))
            best = c;
    if (!best)
        return RSP_UNKNOWN;
    *command = best;
    return parse_params(best->schema, packet + strlen(best->name), packet + size, p)
               ? RSP_MALFORMED
               : RSP_PARSED;
}
