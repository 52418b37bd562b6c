/*
 * order_dump.c - print an order log: a table for people, JSON lines for programs
 */
#include "msgcounter/log/order_dump.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>

static const char *const kinds[ORDER_NKINDS] = {
    [ORDER_KIND_YES] = "yes",   [ORDER_KIND_INDEX] = "index",   [ORDER_KIND_SOME] = "some",
    [ORDER_KIND_NO] = "no",     [ORDER_KIND_SOURCE] = "source",
};

/* The indices of a SOME, malloc'ed. */
static int *indices_of(const struct order_outcome *o)
{
    int *indices = calloc(o->value + 1, sizeof *indices);
    if (!indices)
        abort();
    order_some_indices(o, indices, o->value);
    return indices;
}

static void print_some(FILE *out, const struct order_outcome *o)
{
    int *indices = indices_of(o);
    for (uint64_t i = 0; i < o->value; i++)
        fprintf(out, " %d", indices[i]);
    if (o->value == 0)
        fputs(" all", out);
    free(indices);
}

static void print_row(FILE *out, const struct order_outcome *o, const struct order_cursor *c)
{
    fprintf(out, "%9" PRIu64 " %6" PRIu64 " %6u %5u %s", c->outcome - 1,
            c->maps[c->map].segment->epoch, o->thread, o->bytes, kinds[o->kind]);
    switch (o->kind) {
    case ORDER_KIND_INDEX:
        fprintf(out, " %" PRIu64, o->value);
        break;
    case ORDER_KIND_NO:
        fprintf(out, ", %" PRIu64 " times", o->value);
        break;
    case ORDER_KIND_SOME:
        print_some(out, o);
        break;
    case ORDER_KIND_SOURCE:
        if (o->value == ORDER_UNMATCHED || o->value == ORDER_NOBODY)
            fprintf(out, " %s", o->value ? "nobody" : "unknown");
        else
            fprintf(out, " %" PRIu64, o->value - 1);
        break;
    default:
        break;
    }
    fputc('\n', out);
}

static json_t *json_value(const struct order_outcome *o)
{
    switch (o->kind) {
    case ORDER_KIND_INDEX:
    case ORDER_KIND_NO:
        return json_integer((json_int_t)o->value);
    case ORDER_KIND_SOME: {
        if (o->value == 0)
            return json_string("all");
        json_t *list = json_array();
        int *indices = indices_of(o);
        for (uint64_t i = 0; i < o->value; i++)
            json_array_append_new(list, json_integer(indices[i]));
        free(indices);
        return list;
    }
    case ORDER_KIND_SOURCE:
        return o->value == ORDER_UNMATCHED ? json_null()
               : o->value == ORDER_NOBODY  ? json_string("nobody")
                                           : json_integer((json_int_t)o->value - 1);
    default:
        return json_true();
    }
}

static void print_json(FILE *out, const struct order_outcome *o, const struct order_cursor *c)
{
    json_t *line = json_pack("{s:I, s:I, s:I, s:i, s:s, s:o}", "outcome",
                             (json_int_t)c->outcome - 1, "epoch",
                             (json_int_t)c->maps[c->map].segment->epoch, "thread",
                             (json_int_t)o->thread, "bytes", (int)o->bytes, "kind",
                             kinds[o->kind], "value", json_value(o));
    json_dumpf(line, out, JSON_COMPACT | JSON_PRESERVE_ORDER);
    fputc('\n', out);
    json_decref(line);
}

int order_dump(const struct order_map *maps, uint32_t nmaps, FILE *out,
               const struct order_dump_opts *opts, struct err *err)
{
    struct order_cursor c;
    struct order_outcome o;
    enum order_next next;
    order_cursor_init(&c, maps, nmaps);
    if (!opts->json)
        fprintf(out, "%9s %6s %6s %5s what chance decided\n", "outcome", "epoch", "thread",
                "bytes");
    while ((next = order_cursor_next(&c, &o)) == ORDER_NEXT_OUTCOME) {
        uint64_t number = c.outcome - 1;
        if (opts->to && number >= opts->to)
            return 0;
        if (number < opts->from)
            continue;
        if (opts->json)
            print_json(out, &o, &c);
        else
            print_row(out, &o, &c);
    }
    return next == ORDER_NEXT_END ? 0
                                  : err_set(err, "outcome %" PRIu64 " of the order log is damaged",
                                            c.outcome);
}
