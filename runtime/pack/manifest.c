/*
 * manifest.c - a bundle's manifest, written and read
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/pack/archive_format.h"
#include "runtime/pack/bundle.h"

#define FORMAT "dbg3 bundle"

void bundle_facts_clear(struct bundle_facts *f)
{
    char **const strings[] = {&f->dbg3, &f->program, &f->build_id, &f->image,
                              &f->host, &f->kernel,  &f->cpu,      &f->features};
    for (size_t i = 0; i < sizeof strings / sizeof strings[0]; i++)
        free(*strings[i]);
    *f = (struct bundle_facts){.dbg3 = NULL};
}

char *bundle_manifest_write(const struct bundle_facts *f)
{
    json_t *o = json_pack(
        "{s:s, s:i, s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:I, s:I, s:I, s:i, s:s, s:s, s:s, "
        "s:s, s:I}",
        "format", FORMAT, "version", BUNDLE_VERSION, "dbg3", f->dbg3, "gate", (json_int_t)f->gate,
        "calls", (json_int_t)f->calls, "rank", (json_int_t)f->rank, "size", (json_int_t)f->size,
        "program", f->program, "build_id", f->build_id, "image", f->image, "oldest",
        (json_int_t)f->oldest, "newest", (json_int_t)f->newest, "recorded_from",
        (json_int_t)f->recorded_from, "signal", f->signal, "host", f->host, "kernel", f->kernel,
        "cpu", f->cpu, "features", f->features, "bytes", (json_int_t)f->bytes);
    char *text = o ? json_dumps(o, JSON_INDENT(1)) : NULL;
    json_decref(o);
    return text;
}

static int damaged(struct err *err, const char *name, const char *what)
{
    err_set(err, "%s is damaged (manifest: %.200s): copy it again, or make it anew with dbg3 pack",
            name, what);
    return -1;
}

/* A string: a copy; anything else: NULL. */
static char *get_text(const json_t *o, const char *key)
{
    const char *value = json_string_value(json_object_get(o, key));
    return value ? strdup(value) : NULL;
}

/* A number of at least 0 and at most `max`, else UINT64_MAX. */
static uint64_t get_number(const json_t *o, const char *key, uint64_t max)
{
    const json_t *value = json_object_get(o, key);
    json_int_t n = json_integer_value(value);
    return json_is_integer(value) && n >= 0 && (uint64_t)n <= max ? (uint64_t)n : UINT64_MAX;
}

static int read_facts(const json_t *o, const char *name, struct bundle_facts *f, struct err *err)
{
    const struct {
        const char *key;
        char **to;
    } texts[] = {{"dbg3", &f->dbg3},   {"program", &f->program},   {"build_id", &f->build_id},
                 {"image", &f->image}, {"host", &f->host},         {"kernel", &f->kernel},
                 {"cpu", &f->cpu},     {"features", &f->features}};
    uint64_t gate, calls, rank, size, signal;
    const struct {
        const char *key;
        uint64_t *to, max;
    } numbers[] = {{"gate", &gate, UINT32_MAX},        {"calls", &calls, UINT32_MAX},
                   {"rank", &rank, INT32_MAX - 1},     {"size", &size, INT32_MAX},
                   {"signal", &signal, 64},            {"oldest", &f->oldest, INT64_MAX},
                   {"newest", &f->newest, INT64_MAX},  {"bytes", &f->bytes, INT64_MAX},
                   {"recorded_from", &f->recorded_from, INT64_MAX}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (!(*texts[i].to = get_text(o, texts[i].key)))
            return damaged(err, name, texts[i].key);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        if ((*numbers[i].to = get_number(o, numbers[i].key, numbers[i].max)) == UINT64_MAX)
            return damaged(err, name, numbers[i].key);
    f->gate = (unsigned)gate;
    f->calls = (unsigned)calls;
    f->rank = (unsigned)rank;
    f->size = (unsigned)size;
    f->signal = (int)signal;
    if (f->program[0] != '/' || !archive_name_is_safe(f->program + 1))
        return damaged(err, name, "program");
    if (*f->image && !archive_name_is_safe(f->image))
        return damaged(err, name, "image");
    return 0;
}

static int check_version(const json_t *o, const char *name, struct err *err)
{
    const char *format = json_string_value(json_object_get(o, "format"));
    const char *dbg3 = json_string_value(json_object_get(o, "dbg3"));
    uint64_t version = get_number(o, "version", INT32_MAX);
    if (!format || strcmp(format, FORMAT))
        return err_set(err, "%s is no bundle of dbg3 pack", name);
    if (version != BUNDLE_VERSION)
        return err_set(err,
                       "%s is a bundle of version %ld, and this dbg3 reads version %d: open it "
                       "with the dbg3 that packed it (%.40s), or pack it again with this one",
                       name, (long)version, BUNDLE_VERSION, dbg3 ? dbg3 : "unknown");
    return 0;
}

int bundle_manifest_read(const char *text, size_t size, const char *name,
                         struct bundle_facts *facts, struct err *err)
{
    json_error_t why;
    json_t *o = json_loadb(text, size, JSON_REJECT_DUPLICATES, &why);
    *facts = (struct bundle_facts){.dbg3 = NULL};
    int rc = o ? check_version(o, name, err) : damaged(err, name, why.text);
    if (rc == 0)
        rc = read_facts(o, name, facts, err);
    if (rc < 0)
        bundle_facts_clear(facts);
    json_decref(o);
    return rc;
}
