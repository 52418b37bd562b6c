/*
 * log_dump.c - print a payload log: a table for people, JSON lines for programs
 */
#include "msgcounter/log/log_dump.h"

#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#define TABLE_BYTES 8  /* first bytes that the table shows */
#define JSON_BYTES  32 /* and JSON */

static const char *call_name(const struct log_dump_opts *opts, uint16_t call, char buf[16])
{
    const char *name = opts->name_of ? opts->name_of(opts->arg, call) : NULL;
    if (name)
        return name;
    snprintf(buf, 16, "call-%u", call);
    return buf;
}

static void hex(char *buf, const void *bytes, uint64_t n, uint64_t max)
{
    const unsigned char *p = bytes;
    *buf = '\0';
    for (uint64_t i = 0; i < n && i < max; i++)
        snprintf(buf + 2 * i, 3, "%02x", p[i]);
}

/* Copies a field's struct if the field has its size; the check word does not promise that. */
static bool field_get(const struct log_field *f, void *value, size_t size)
{
    if (log_field_length(f) != size)
        return false;
    memcpy(value, log_field_value(f), size);
    return true;
}

/* -------------------------------------------------------------------------------------- table */

/* What the table shows of a record. */
struct row {
    bool has_peer, has_comm, has_bytes;
    int32_t peer, tag;
    uint32_t comm;
    uint64_t bytes;
    char data[2 + 2 * TABLE_BYTES];
};

static void row_add(struct row *row, const struct log_field *f)
{
    struct log_envelope env;
    struct log_status st;
    struct log_digest dig;
    switch (f->role) {
    case LOG_ROLE_ENVELOPE:
        if (!field_get(f, &env, sizeof env))
            break;
        row->has_comm = true;
        row->comm = env.comm;
        if (!row->has_peer) {
            row->has_peer = true;
            row->peer = env.peer;
            row->tag = env.tag;
        }
        break;
    case LOG_ROLE_STATUS: /* tells what a wildcard in the envelope matched */
        if (!field_get(f, &st, sizeof st))
            break;
        row->has_peer = true;
        row->peer = st.source;
        row->tag = st.tag;
        break;
    case LOG_ROLE_DIGEST:
        if (!field_get(f, &dig, sizeof dig))
            break;
        row->bytes += dig.bytes;
        row->has_bytes = true;
        snprintf(row->data, sizeof row->data, "=%016" PRIx64, dig.digest);
        break;
    case LOG_ROLE_DATA:
        row->bytes += log_field_length(f);
        row->has_bytes = true;
        if (!row->data[0])
            hex(row->data, log_field_value(f), log_field_length(f), TABLE_BYTES);
        break;
    default:
        break;
    }
}

static void print_row(FILE *out, const struct log_record *rec, const char *name)
{
    struct row row = {0};
    for (const struct log_field *f = NULL; (f = log_field_next(rec, f));)
        row_add(&row, f);
    name += strncmp(name, "MPI_", 4) ? 0 : 4; /* the longest names fit without it */
    fprintf(out, "%9" PRIu64 " %-19.19s", rec->event, name);
    if (row.has_peer)
        fprintf(out, " %5" PRId32 " %6" PRId32, row.peer, row.tag);
    else
        fprintf(out, " %5s %6s", "-", "-");
    if (row.has_comm)
        fprintf(out, " %8" PRIx32, row.comm);
    else
        fprintf(out, " %8s", "-");
    if (row.has_bytes)
        fprintf(out, " %10" PRIu64 "%s%s\n", row.bytes, row.data[0] ? " " : "", row.data);
    else
        fprintf(out, " %10s\n", "-");
}

/* --------------------------------------------------------------------------------------- JSON */

static json_t *json_hex(const struct log_field *f)
{
    char buf[2 * JSON_BYTES + 1];
    hex(buf, log_field_value(f), log_field_length(f), JSON_BYTES);
    return json_string(buf);
}

static json_t *json_digest(const struct log_field *f)
{
    struct log_digest d;
    if (!field_get(f, &d, sizeof d))
        return json_null();
    char buf[20];
    snprintf(buf, sizeof buf, "%016" PRIx64, d.digest);
    return json_pack("{s:s, s:I}", "xxh3", buf, "bytes", (json_int_t)d.bytes);
}

static json_t *json_envelope(const struct log_field *f)
{
    struct log_envelope e;
    if (!field_get(f, &e, sizeof e))
        return json_null();
    return json_pack("{s:i, s:i, s:I}", "peer", e.peer, "tag", e.tag, "comm", (json_int_t)e.comm);
}

static json_t *json_status(const struct log_field *f)
{
    struct log_status s;
    if (!field_get(f, &s, sizeof s))
        return json_null();
    return json_pack("{s:i, s:i, s:i, s:b, s:I}", "source", s.source, "tag", s.tag, "error",
                     s.error, "cancelled", s.cancelled != 0, "count", (json_int_t)s.count);
}

static json_t *json_number(const struct log_field *f)
{
    uint64_t n = log_field_length(f);
    return n == 4 || n == 8 ? json_integer(log_field_int(f)) : json_hex(f);
}

static json_t *json_text(const struct log_field *f)
{
    json_t *s = json_stringn(log_field_value(f), log_field_length(f));
    return s ? s : json_hex(f); /* not UTF-8 */
}

static json_t *json_time(const struct log_field *f)
{
    double seconds;
    int64_t t[2];
    if (field_get(f, &seconds, sizeof seconds)) {
        json_t *real = json_real(seconds);
        return real ? real : json_null(); /* JSON has no NaN */
    }
    if (field_get(f, t, sizeof t))
        return json_pack("{s:I, s:I}", "s", (json_int_t)t[0], "ns", (json_int_t)t[1]);
    return json_null();
}

static const struct {
    const char *name;
    json_t *(*value)(const struct log_field *f);
} roles[LOG_ROLE_END] = {
    [LOG_ROLE_VALUE] = {"value", json_number},   [LOG_ROLE_DATA] = {"data", json_hex},
    [LOG_ROLE_DIGEST] = {"digest", json_digest}, [LOG_ROLE_ENVELOPE] = {"envelope", json_envelope},
    [LOG_ROLE_STATUS] = {"status", json_status}, [LOG_ROLE_REQUEST] = {"request", json_number},
    [LOG_ROLE_HANDLE] = {"handle", json_number}, [LOG_ROLE_TEXT] = {"text", json_text},
    [LOG_ROLE_TIME] = {"time", json_time},       [LOG_ROLE_RETCODE] = {"retcode", json_number},
};

static bool role_known(unsigned role)
{
    return role < LOG_ROLE_END && roles[role].name;
}

const char *log_role_name(unsigned role)
{
    return role_known(role) ? roles[role].name : "?";
}

static json_t *json_field(const struct log_field *f)
{
    json_t *o = json_object();
    if (f->param != LOG_PARAM_NONE)
        json_object_set_new(o, "param", json_integer(f->param));
    json_object_set_new(o, "role", json_string(log_role_name(f->role)));
    json_object_set_new(o, "bytes", json_integer((json_int_t)log_field_length(f)));
    json_object_set_new(o, "value", role_known(f->role) ? roles[f->role].value(f) : json_hex(f));
    return o;
}

static void print_json(FILE *out, const struct log_record *rec, struct log_position at,
                       const char *name)
{
    json_t *fields = json_array();
    for (const struct log_field *f = NULL; (f = log_field_next(rec, f));)
        json_array_append_new(fields, json_field(f));
    json_t *o =
        json_pack("{s:I, s:s, s:i, s:I, s:I, s:I, s:o}", "event", (json_int_t)rec->event, "call",
                  name, "flags", rec->flags, "thread", (json_int_t)rec->thread, "segment",
                  (json_int_t)at.segment, "offset", (json_int_t)at.offset, "fields", fields);
    json_dumpf(o, out, JSON_COMPACT | JSON_PRESERVE_ORDER);
    fputc('\n', out);
    json_decref(o);
}

int log_dump(struct log_reader *r, FILE *out, const struct log_dump_opts *opts, struct err *err)
{
    if (!opts->json)
        fprintf(out, "%9s %-19s %5s %6s %8s %10s %s\n", "event", "call", "peer", "tag", "comm",
                "bytes", "=digest or data");
    const struct log_record *rec;
    int rc;
    while ((rc = log_reader_next(r, &rec, err)) > 0) {
        if (opts->to && rec->event >= opts->to)
            return 0;
        if (rec->event < opts->from)
            continue;
        char buf[16];
        const char *name = call_name(opts, rec->call, buf);
        if (opts->json) {
            struct log_position at = log_reader_position(r);
            at.offset -= log_record_size(rec);
            print_json(out, rec, at, name);
        } else {
            print_row(out, rec, name);
        }
    }
    return rc;
}
