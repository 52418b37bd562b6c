/*
 * image_dump.c - what an image says, for people and as JSON
 *
 * The description is built once, as a JSON value; the text is a rendering of it. So the two cannot
 * differ.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>

#include <jansson.h>

#include "runtime/image/image_chain.h"

static const char *const kind_names[] = {
    [IMAGE_FULL] = "full", [IMAGE_INCREMENTAL] = "incremental", [IMAGE_FAILURE] = "failure"};
static const char *const file_kind_names[] = {[IMAGE_FILE_PATH] = "file",
                                              [IMAGE_FILE_PIPE] = "pipe",
                                              [IMAGE_FILE_SOCKET] = "socket",
                                              [IMAGE_FILE_TTY] = "tty",
                                              [IMAGE_FILE_OTHER] = "other"};
static const char *const content_names[] = {
    [IMAGE_PIECE_IMAGE] = "image", [IMAGE_PIECE_ZERO] = "zero", [IMAGE_PIECE_FILE] = "file"};
static const struct {
    uint32_t flag;
    const char *name;
} region_flags[] = {
    {IMAGE_REGION_SHARED, "shared"},       {IMAGE_REGION_FILE, "file"},
    {IMAGE_REGION_STACK, "stack"},         {IMAGE_REGION_HEAP, "heap"},
    {IMAGE_REGION_NORESERVE, "noreserve"}, {IMAGE_REGION_GROWSDOWN, "growsdown"},
};

/* ---- values ---- */

/* Addresses and masks: JSON numbers are doubles for many readers. */
static json_t *hex(uint64_t v)
{
    char text[24];
    snprintf(text, sizeof text, "0x%" PRIx64, v);
    return json_string(text);
}

static json_t *hex_bytes(const uint8_t *p, size_t n)
{
    char text[2 * IMAGE_BUILD_ID_MAX + 1] = "";
    for (size_t i = 0; i < n; i++)
        snprintf(text + 2 * i, 3, "%02x", p[i]);
    return json_string(text);
}

/* Paths and arguments may be no UTF-8: such bytes become '?'. */
static json_t *text(const char *s)
{
    if (!s)
        return json_null();
    json_t *value = json_string(s);
    if (value)
        return value;
    char copy[4096];
    size_t n = strnlen(s, sizeof copy - 1);
    for (size_t i = 0; i < n; i++)
        copy[i] = (signed char)s[i] < 0 ? '?' : s[i];
    copy[n] = '\0';
    return json_string(copy);
}

static json_t *number(uint64_t v)
{
    return json_integer((json_int_t)v);
}

static json_t *octal(uint64_t v)
{
    char digits[32];
    snprintf(digits, sizeof digits, "%04" PRIo64, v);
    return json_string(digits);
}

static json_t *id(const struct image_id *v)
{
    char digits[33];
    image_id_text(v, digits);
    return json_string(digits);
}

/* ---- parts ---- */

static json_t *describe_file_header(const struct image_link *l)
{
    const struct image_state *s = &l->state;
    uint64_t bytes[3] = {0}; /* by enum image_extent_kind */
    for (size_t i = 0; i < l->extents.count; i++)
        bytes[l->extents.list[i].kind] += l->extents.list[i].end - l->extents.list[i].start;
    json_t *o = json_object();
    json_object_set_new(o, "path", text(l->path));
    json_object_set_new(o, "kind", json_string(kind_names[s->kind]));
    json_object_set_new(o, "id", id(&s->id));
    if (s->kind == IMAGE_INCREMENTAL) {
        json_object_set_new(o, "parent", text(s->parent));
        json_object_set_new(o, "parent_id", id(&s->parent_id));
    }
    json_object_set_new(o, "file_bytes", number(l->header.file_size));
    json_object_set_new(o, "segments", number(l->header.nphdrs));
    json_object_set_new(o, "page_bytes", number(bytes[IMAGE_EXTENT_DATA]));
    json_object_set_new(o, "zero_bytes", number(bytes[IMAGE_EXTENT_ZERO]));
    json_object_set_new(o, "referenced_bytes", number(bytes[IMAGE_EXTENT_FILE]));
    return o;
}

static json_t *describe_chain(const struct image *image)
{
    json_t *list = json_array();
    for (size_t k = 0; k < image->length; k++)
        json_array_append_new(list, describe_file_header(image->chain[k]));
    return list;
}

static json_t *describe_process(const struct image_meta *m)
{
    json_t *o = json_object(), *argv = json_array();
    json_object_set_new(o, "rank", json_integer(m->rank));
    json_object_set_new(o, "size", json_integer(m->size));
    json_object_set_new(o, "epoch", number(m->epoch));
    json_object_set_new(o, "checkpoint", number(m->checkpoint));
    json_object_set_new(o, "event", number(m->position.event));
    json_object_set_new(o, "log_segment", number(m->position.segment));
    json_object_set_new(o, "log_offset", number(m->position.offset));
    json_object_set_new(o, "time_ns", number(m->time_ns));
    json_object_set_new(o, "program", text(m->program));
    json_object_set_new(o, "build_id", hex_bytes(m->build_id, m->build_id_len));
    for (size_t i = 0; i < m->argc; i++)
        json_array_append_new(argv, text(m->argv[i]));
    json_object_set_new(o, "argv", argv);
    json_object_set_new(o, "hostname", text(m->hostname));
    json_object_set_new(o, "cwd", text(m->cwd));
    json_object_set_new(o, "pid", json_integer(m->pid));
    json_object_set_new(o, "umask", octal(m->umask));
    json_object_set_new(o, "brk_start", hex(m->brk_start));
    json_object_set_new(o, "brk", hex(m->brk));
    json_object_set_new(o, "entry", hex(m->entry));
    json_object_set_new(o, "root", hex(m->root));
    json_object_set_new(o, "xcr0", hex(m->xcr0));
    json_object_set_new(o, "auxv_bytes", number(m->auxv_size));
    return o;
}

static json_t *describe_threads(const struct image_state *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->nthreads; i++) {
        const struct image_thread *t = &s->threads[i];
        json_t *o = json_object();
        json_object_set_new(o, "tid", json_integer(t->tid));
        json_object_set_new(o, "name", text(t->name));
        json_object_set_new(o, "signal", json_integer(t->signo));
        json_object_set_new(o, "pc", hex(t->regs.rip));
        json_object_set_new(o, "sp", hex(t->regs.rsp));
        json_object_set_new(o, "fs_base", hex(t->regs.fs_base));
        json_object_set_new(o, "sigmask", hex(t->sigmask));
        json_object_set_new(o, "pending", hex(t->pending));
        json_object_set_new(o, "resume_sp", hex(t->resume_sp));
        json_object_set_new(o, "xsave_bytes", number(t->xsave_size));
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *describe_signals(const struct image_meta *m)
{
    json_t *list = json_array();
    for (size_t i = 0; i < IMAGE_NSIG; i++) {
        const struct image_sigaction *a = &m->sigactions[i];
        if (a->handler == 0)
            continue;
        json_t *o = json_object();
        json_object_set_new(o, "signal", number(i + 1));
        json_object_set_new(o, "handler",
                            a->handler == 1 ? json_string("ignore") : hex(a->handler));
        json_object_set_new(o, "flags", hex(a->flags));
        json_object_set_new(o, "mask", hex(a->mask));
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *describe_files(const struct image_state *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->nfiles; i++) {
        const struct image_file *f = &s->files[i];
        json_t *o = json_object();
        json_object_set_new(o, "fd", json_integer(f->fd));
        json_object_set_new(o, "kind", json_string(file_kind_names[f->kind]));
        json_object_set_new(o, "path", text(f->path));
        json_object_set_new(o, "flags", hex(f->flags));
        json_object_set_new(o, "cloexec", json_boolean(f->cloexec));
        json_object_set_new(o, "offset", number(f->offset));
        json_object_set_new(o, "size", number(f->size));
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *describe_blobs(const struct image_state *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->nblobs; i++) {
        json_t *o = json_object();
        json_object_set_new(o, "name", text(s->blobs[i].name));
        json_object_set_new(o, "bytes", number(s->blobs[i].size));
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *describe_region(const struct image_region *r)
{
    char prot[] = "----";
    json_t *o = json_object(), *flags = json_array();
    prot[0] = r->prot & PROT_READ ? 'r' : '-';
    prot[1] = r->prot & PROT_WRITE ? 'w' : '-';
    prot[2] = r->prot & PROT_EXEC ? 'x' : '-';
    prot[3] = r->flags & IMAGE_REGION_SHARED ? 's' : 'p';
    for (size_t i = 0; i < sizeof region_flags / sizeof *region_flags; i++) {
        if (r->flags & region_flags[i].flag)
            json_array_append_new(flags, json_string(region_flags[i].name));
    }
    json_object_set_new(o, "start", hex(r->start));
    json_object_set_new(o, "end", hex(r->end));
    json_object_set_new(o, "prot", json_string(prot));
    json_object_set_new(o, "flags", flags);
    json_object_set_new(o, "path", text(r->path));
    json_object_set_new(o, "offset", number(r->offset));
    json_object_set_new(o, "build_id", hex_bytes(r->build_id, r->build_id_len));
    return o;
}

static json_t *describe_piece(const struct image_piece *p)
{
    json_t *o = json_object();
    json_object_set_new(o, "start", hex(p->start));
    json_object_set_new(o, "bytes", number(p->end - p->start));
    json_object_set_new(o, "content", json_string(content_names[p->kind]));
    if (p->kind == IMAGE_PIECE_IMAGE)
        json_object_set_new(o, "image", number(p->depth));
    if (p->kind != IMAGE_PIECE_ZERO)
        json_object_set_new(o, "offset", number(p->offset));
    return o;
}

/* Regions, each with its pieces. */
static json_t *describe_memory(const struct image *image)
{
    json_t *list = json_array();
    const struct image_state *s = image_state(image);
    size_t p = 0;
    for (size_t i = 0; i < s->nregions; i++) {
        json_t *o = describe_region(&s->regions[i]), *pieces = json_array();
        for (; p < image->pieces.count && image->pieces.list[p].region == &s->regions[i]; p++)
            json_array_append_new(pieces, describe_piece(&image->pieces.list[p]));
        json_object_set_new(o, "pieces", pieces);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *describe(const struct image *image)
{
    const struct image_state *s = image_state(image);
    json_t *o = json_object();
    json_object_set_new(o, "version", number(IMAGE_VERSION));
    json_object_set_new(o, "chain", describe_chain(image));
    json_object_set_new(o, "process", describe_process(&s->meta));
    json_object_set_new(o, "threads", describe_threads(s));
    json_object_set_new(o, "signals", describe_signals(&s->meta));
    json_object_set_new(o, "descriptors", describe_files(s));
    json_object_set_new(o, "blobs", describe_blobs(s));
    json_object_set_new(o, "memory", describe_memory(image));
    return o;
}

/* ---- text ---- */

static void print_scalar(FILE *out, const json_t *v)
{
    if (json_is_string(v))
        fputs(json_string_value(v), out);
    else if (json_is_integer(v))
        fprintf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    else if (json_is_boolean(v))
        fputs(json_is_true(v) ? "yes" : "no", out);
    else
        fputc('-', out);
}

/* "[a b c]" of plain values. */
static void print_list(FILE *out, const json_t *list)
{
    size_t i;
    json_t *v;
    fputc('[', out);
    json_array_foreach(list, i, v)
    {
        if (i)
            fputc(' ', out);
        print_scalar(out, v);
    }
    fputc(']', out);
}

static bool is_table(const json_t *v)
{
    return json_is_array(v) && json_is_object(json_array_get(v, 0));
}

/* "key value  key value ..." on one line; tables inside it on lines of their own below. */
static void print_record(FILE *out, json_t *record, int indent)
{
    const char *key;
    json_t *v;
    fprintf(out, "%*s", indent, "");
    const char *gap = "";
    json_object_foreach(record, key, v)
    {
        if (is_table(v))
            continue;
        fprintf(out, "%s%s ", gap, key);
        if (json_is_array(v))
            print_list(out, v);
        else
            print_scalar(out, v);
        gap = "  ";
    }
    fputc('\n', out);
    json_object_foreach(record, key, v)
    {
        size_t i;
        json_t *inner;
        if (is_table(v))
            json_array_foreach(v, i, inner) print_record(out, inner, indent + 2);
    }
}

static void print_text(FILE *out, json_t *o)
{
    const char *key;
    json_t *v, *row;
    size_t i;
    json_object_foreach(o, key, v)
    {
        if (json_is_object(v)) {
            const char *name;
            json_t *field;
            fprintf(out, "%s\n", key);
            json_object_foreach(v, name, field)
            {
                fprintf(out, "  %-12s ", name);
                if (json_is_array(field))
                    print_list(out, field);
                else
                    print_scalar(out, field);
                fputc('\n', out);
            }
        } else if (json_is_array(v)) {
            fprintf(out, "%s (%zu)\n", key, json_array_size(v));
            json_array_foreach(v, i, row) print_record(out, row, 2);
        } else {
            fprintf(out, "%s ", key);
            print_scalar(out, v);
            fputc('\n', out);
        }
    }
}

int image_dump(const struct image *image, FILE *out, bool json, struct err *err)
{
    json_t *o = describe(image);
    if (!o)
        return image_err_code(err, ENOMEM, "out of memory");
    if (json) {
        json_dumpf(o, out, JSON_INDENT(2));
        fputc('\n', out);
    } else {
        print_text(out, o);
    }
    json_decref(o);
    return fflush(out) || ferror(out) ? err_sys(err, "cannot write the description") : 0;
}
