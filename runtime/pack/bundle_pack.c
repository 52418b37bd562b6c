/*
 * bundle_pack.c - finds what a rank needs, and writes it
 *
 * First the list of members, so that the manifest can say how many bytes there are; then the
 * members. The images are held open (image.h) until they are written.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "msgcounter/log/log_file.h"
#include "runtime/image/image.h"
#include "runtime/pack/archive.h"
#include "runtime/pack/bundle.h"
#include "runtime/pack/elf_extra.h"
#include "runtime/pack/loaded.h"

struct member {
    char *name;
    char *path; /* of the file */
    char *link; /* or the earlier member; neither: an empty file */
};

struct packing {
    const struct bundle_pack_options *options;
    struct image *image; /* the newest: its chain has all that is kept */
    struct member *member;
    size_t n, cap;
    void *by_name; /* tsearch() tree of names */
    uint64_t bytes;
    struct bundle_packed *packed;
    struct bundle_facts facts; /* strings of its own only where `own` says so */
};

/* ---- the list of members ---- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* True if it is new. */
static bool add(struct packing *p, const char *name, const char *path, const char *link)
{
    struct stat st;
    if (tfind(name, &p->by_name, compare_names))
        return false;
    if (p->n == p->cap) {
        p->cap = p->cap ? 2 * p->cap : 64;
        p->member = reallocarray(p->member, p->cap, sizeof *p->member);
        if (!p->member)
            abort();
    }
    struct member *m = &p->member[p->n++];
    *m = (struct member){strdup(name), path ? strdup(path) : NULL, link ? strdup(link) : NULL};
    if (!m->name || !tsearch(m->name, &p->by_name, compare_names))
        abort();
    if (path && stat(path, &st) == 0)
        p->bytes += (uint64_t)st.st_size;
    return true;
}

/* A file of the session, named relative to it. */
static void add_session_file(struct packing *p, const char *path)
{
    add(p, path + strlen(p->options->session) + 1, path, NULL);
}

/* As below `folder` in the bundle, an absolute path. */
static bool add_absolute(struct packing *p, const char *folder, const char *path)
{
    char name[PATH_MAX + 64];
    snprintf(name, sizeof name, "%s%s", folder, path);
    return add(p, name, path, NULL);
}

static bool is_file(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, R_OK) == 0;
}

/* ---- images and logs ---- */

static int open_image(struct packing *p, struct err *err)
{
    const struct bundle_facts *f = &p->options->facts;
    char folder[PATH_MAX], path[PATH_MAX];
    struct image_window w = {0};
    snprintf(folder, sizeof folder, "%s/fine/rank-%u", p->options->session, f->rank);
    if (*f->image)
        snprintf(path, sizeof path, "%s/%s", p->options->session, f->image);
    else if (image_window_read(folder, &w, err) < 0 ||
             image_window_path(folder, w.newest, path, sizeof path, err) < 0)
        return -1;
    p->facts.oldest = w.oldest;
    p->facts.newest = w.newest;
    p->image = image_open(path, err);
    return p->image ? image_verify(path, err) : -1;
}

static void add_images(struct packing *p)
{
    for (size_t k = 0; k < image_chain_length(p->image); k++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, "%s", image_chain_path(p->image, k));
        char *at = strrchr(path, '@'); /* an increment of a segment: the segment */
        if (at && !is_file(path))
            *at = '\0';
        add_session_file(p, path);
        p->packed->images++;
    }
}

static int add_logs(struct packing *p, struct err *err)
{
    char logs[PATH_MAX], path[PATH_MAX];
    uint32_t *numbers;
    size_t n;
    snprintf(logs, sizeof logs, "%.*s/logs", PATH_MAX - 64, p->options->session);
    if (log_file_list(logs, p->options->facts.rank, &numbers, &n, err) < 0)
        return -1;
    for (size_t i = 0; i < n; i++) {
        log_file_path(path, sizeof path, logs, p->options->facts.rank, numbers[i]);
        add_session_file(p, path);
    }
    free(numbers);
    return 0;
}

/* ---- files that the rank has mapped ---- */

/* Takes "." and ".." out of an absolute path, by its letters alone. */
static void simplify(const char *path, char *out, size_t cap)
{
    size_t n = 0;
    for (size_t len; *path; path += len) {
        path += strspn(path, "/");
        len = strcspn(path, "/");
        if (len == 2 && !memcmp(path, "..", 2)) {
            while (n && out[--n] != '/')
                ;
        } else if (len && !(len == 1 && *path == '.') && n + len + 2 < cap) {
            out[n++] = '/';
            memcpy(out + n, path, len);
            n += len;
        }
    }
    out[n] = '\0';
}

static void add_debug(void *arg, const char *path, const char *place)
{
    struct packing *p = arg;
    char name[PATH_MAX + 64];
    snprintf(name, sizeof name, BUNDLE_ROOT "/%s", place);
    if (is_file(path) && add(p, name, path, NULL))
        p->packed->debug_files++;
}

/* GDB opens a name with ".." as it stands: the folders before must exist. */
static void add_folders_before(struct packing *p, const char *path)
{
    char before[PATH_MAX], simple[PATH_MAX], name[PATH_MAX + 64];
    for (const char *up = path; (up = strstr(up, "/../")); up += 3) {
        snprintf(before, sizeof before, "%.*s", (int)(up - path), path);
        simplify(before, simple, sizeof simple);
        snprintf(name, sizeof name, BUNDLE_SOURCE "%s/.folder", simple);
        add(p, name, NULL, NULL);
    }
}

static void add_source(void *arg, const char *path)
{
    struct packing *p = arg;
    char simple[PATH_MAX], name[PATH_MAX + 64];
    simplify(path, simple, sizeof simple);
    snprintf(name, sizeof name, BUNDLE_SOURCE "%s", simple);
    if (!is_file(path) || !add(p, name, path, NULL))
        return;
    p->packed->sources++;
    add_folders_before(p, path);
}

static int changed(const struct image_region *r, struct err *err)
{
    return err_set(err,
                   "%s is not the file any more that the rank has mapped; put it back, or record "
                   "again: dbg3 refine",
                   r->path);
}

/* The file that a region was mapped from; what no page comes from may be missing. */
static int add_mapped(struct packing *p, const struct image_region *r, struct err *err)
{
    uint8_t id[IMAGE_BUILD_ID_MAX];
    bool needed = r->fill == IMAGE_FILL_FILE;
    if (!(r->flags & IMAGE_REGION_FILE) || !r->path || r->path[0] != '/' ||
        (!needed && !r->build_id_len))
        return 0;
    bool same = is_file(r->path) &&
                (!r->build_id_len || (image_build_id(r->path, id) == r->build_id_len &&
                                      !memcmp(id, r->build_id, r->build_id_len)));
    if (!same)
        return needed ? changed(r, err) : 0;
    if (!add_absolute(p, BUNDLE_ROOT, r->path) || !r->build_id_len)
        return 0;
    p->packed->libraries++;
    elf_extra_find(r->path, &(struct elf_extra_found){
                                add_debug, p->options->sources ? add_source : NULL, p});
    return 0;
}

static int add_all_mapped(struct packing *p, struct err *err)
{
    for (size_t k = 0; k < image_chain_length(p->image); k++) {
        const struct image_state *state = image_chain_state(p->image, k);
        for (size_t i = 0; i < state->nregions; i++)
            if (add_mapped(p, &state->regions[i], err) < 0)
                return -1;
    }
    return 0;
}

/* GDB looks for a library by the name that the program opened it by. */
static void add_name(void *arg, const char *path)
{
    struct packing *p = arg;
    char real[PATH_MAX], simple[PATH_MAX], name[PATH_MAX + 64], target[PATH_MAX + 64];
    simplify(path, simple, sizeof simple);
    if (!realpath(path, real) || !strcmp(real, simple))
        return;
    snprintf(name, sizeof name, BUNDLE_ROOT "%s", simple);
    snprintf(target, sizeof target, BUNDLE_ROOT "%s", real);
    if (tfind(target, &p->by_name, compare_names))
        add(p, name, NULL, target);
}

static int collect(struct packing *p, struct err *err)
{
    if (open_image(p, err) < 0)
        return -1;
    add_images(p);
    if (add_logs(p, err) < 0 || add_all_mapped(p, err) < 0)
        return -1;
    loaded_names(p->image, add_name, p);
    return 0;
}

/* ---- writing ---- */

static void hex(const uint8_t *bytes, size_t n, char *text)
{
    for (size_t i = 0; i < n; i++) {
        *text++ = "0123456789abcdef"[bytes[i] >> 4];
        *text++ = "0123456789abcdef"[bytes[i] & 15];
    }
    *text = '\0';
}

static char *manifest(struct packing *p)
{
    const struct image_meta *meta = &image_state(p->image)->meta;
    struct bundle_facts *f = &p->facts;
    char id[2 * IMAGE_BUILD_ID_MAX + 1];
    struct utsname u;
    uname(&u);
    hex(meta->build_id, meta->build_id_len, id);
    f->program = (char *)meta->program;
    f->build_id = id;
    f->host = (char *)(meta->hostname ? meta->hostname : "");
    f->kernel = u.release;
    f->cpu = features_processor();
    f->features = features_here();
    f->bytes = p->bytes;
    char *text = bundle_manifest_write(f);
    free(f->cpu);
    free(f->features);
    return text;
}

static void progress(void *arg, uint64_t bytes)
{
    const struct packing *p = arg;
    const struct bundle_progress *progress = &p->options->progress;
    if (progress->fn)
        progress->fn(progress->arg, bytes < p->bytes ? bytes : p->bytes, p->bytes);
}

static int write_members(struct packing *p, struct archive_writer *w, struct err *err)
{
    char *text = manifest(p);
    if (!text)
        return err_set(err, "a path is no UTF-8: the manifest cannot hold it");
    int rc = archive_add_bytes(w, BUNDLE_MANIFEST, text, strlen(text), err);
    free(text);
    archive_writer_progress(w, progress, p);
    for (size_t i = 0; rc == 0 && i < p->n; i++) {
        const struct member *m = &p->member[i];
        rc = m->path   ? archive_add_file(w, m->name, m->path, err)
             : m->link ? archive_add_link(w, m->name, m->link, err)
                       : archive_add_bytes(w, m->name, "", 0, err);
    }
    return rc < 0 ? -1 : archive_finish(w, &p->packed->bytes, err);
}

static void keep_name(void *name)
{
}

static void clear(struct packing *p)
{
    tdestroy(p->by_name, keep_name); /* the names are the members' */
    for (size_t i = 0; i < p->n; i++) {
        free(p->member[i].name);
        free(p->member[i].path);
        free(p->member[i].link);
    }
    free(p->member);
    image_close(p->image);
}

int bundle_pack(const struct bundle_pack_options *options, int fd, const char *name,
                struct bundle_packed *packed, struct err *err)
{
    struct packing p = {.options = options, .packed = packed, .facts = options->facts};
    *packed = (struct bundle_packed){.bytes = 0};
    int rc = collect(&p, err);
    struct archive_writer *w = rc == 0 ? archive_writer_create(fd, name, err) : NULL;
    rc = w ? write_members(&p, w, err) : -1;
    packed->content = p.bytes;
    archive_writer_destroy(w);
    clear(&p);
    return rc;
}
