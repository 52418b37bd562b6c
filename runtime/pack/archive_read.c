/*
 * archive_read.c - reads an archive from a stream, believing nothing
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include "runtime/pack/archive.h"
#include "runtime/pack/archive_format.h"

#define SUMS_MAX (64u << 20)

struct archive_reader {
    int fd;
    char *name;
    ZSTD_DCtx *zstd;
    uint8_t *in;
    size_t in_cap;
    ZSTD_inBuffer input;
    uint64_t input_at; /* bytes of the file before input.src */
    bool at_frame_end, input_ended;
    bool failed, ended;

    char member[ARCHIVE_NAME_MAX]; /* for error texts */
    uint64_t left, padding;        /* of the present member's content, and behind it */
    bool is_file;
    XXH3_state_t *sum;
    char *sums; /* what SUMS must say */
    size_t sums_size;
    FILE *sums_file;
    uint64_t content;
};

/* ---- errors ---- */

__attribute__((format(printf, 3, 4))) static int
damaged(struct archive_reader *r, struct err *err, const char *fmt, ...)
{
    char why[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    r->failed = true;
    err_set(err, "%s is damaged near byte %" PRIu64 "%s%.200s (%s): copy it again, or make it anew "
                 "with dbg3 pack",
            r->name, r->input_at + r->input.pos, *r->member ? ", in " : "", r->member, why);
    if (err)
        err->code = EBADMSG;
    return -1;
}

static int cut(struct archive_reader *r, struct err *err)
{
    r->failed = true;
    err_set(err, "%s is not whole: it ends after %" PRIu64 " bytes%s%.200s. Copy it again, or make "
                 "it anew with dbg3 pack",
            r->name, r->input_at + r->input.pos, *r->member ? ", in " : "", r->member);
    if (err)
        err->code = EBADMSG;
    return -1;
}

static int foreign(struct archive_reader *r, struct err *err)
{
    r->failed = true;
    err_set(err, "%s is no bundle of dbg3 pack", r->name);
    if (err)
        err->code = EBADMSG;
    return -1;
}

/* ---- bytes ---- */

/* At least one more byte of the file, unless it ends. */
static int fill(struct archive_reader *r, struct err *err)
{
    if (r->input.pos < r->input.size || r->input_ended)
        return 0;
    ssize_t n;
    while ((n = read(r->fd, r->in, r->in_cap)) < 0 && errno == EINTR)
        ;
    if (n < 0) {
        r->failed = true;
        return err_sys(err, "cannot read %s", r->name);
    }
    r->input_at += r->input.size;
    r->input = (ZSTD_inBuffer){r->in, (size_t)n, 0};
    r->input_ended = n == 0;
    return 0;
}

/* Decompresses up to `size` bytes; fewer only where the archive ends between frames. -1 with *err.
 */
static ssize_t get(struct archive_reader *r, void *buf, size_t size, struct err *err)
{
    ZSTD_outBuffer out = {buf, size, 0};
    while (out.pos < size) {
        if (fill(r, err) < 0)
            return -1;
        if (r->input_ended && r->at_frame_end)
            break;
        size_t before = out.pos, had = r->input.pos;
        size_t hint = ZSTD_decompressStream(r->zstd, &out, &r->input);
        if (ZSTD_isError(hint))
            return damaged(r, err, "%s", ZSTD_getErrorName(hint));
        r->at_frame_end = hint == 0;
        if (r->input_ended && hint && out.pos == before && r->input.pos == had)
            return cut(r, err);
    }
    return (ssize_t)out.pos;
}

static int get_all(struct archive_reader *r, void *buf, size_t size, struct err *err)
{
    ssize_t n = get(r, buf, size, err);
    return n < 0 ? -1 : (size_t)n < size ? cut(r, err) : 0;
}

struct archive_reader *archive_reader_create(int fd, const char *name, struct err *err)
{
    struct archive_reader *r = calloc(1, sizeof *r);
    if (!r)
        return err_sys(err, "%s", name), NULL;
    r->fd = fd;
    r->name = strdup(name);
    r->zstd = ZSTD_createDCtx();
    r->in_cap = ZSTD_DStreamInSize();
    r->in = malloc(r->in_cap);
    r->sum = XXH3_createState();
    r->sums_file = open_memstream(&r->sums, &r->sums_size);
    r->at_frame_end = true;
    if (!r->name || !r->zstd || !r->in || !r->sum || !r->sums_file) {
        archive_reader_destroy(r);
        return err_set(err, "%s: no memory", name), NULL;
    }
    static const uint8_t magic[] = {0x28, 0xb5, 0x2f, 0xfd}; /* zstd_compression_format.md */
    if (fill(r, err) < 0 || ((r->input.size < sizeof magic || memcmp(r->in, magic, sizeof magic)) &&
                             foreign(r, err) < 0)) {
        archive_reader_destroy(r);
        return NULL;
    }
    return r;
}

void archive_reader_destroy(struct archive_reader *r)
{
    if (!r)
        return;
    ZSTD_freeDCtx(r->zstd);
    XXH3_freeState(r->sum);
    if (r->sums_file)
        fclose(r->sums_file);
    free(r->sums);
    free(r->in);
    free(r->name);
    free(r);
}

/* ---- headers ---- */

bool archive_name_is_safe(const char *name)
{
    size_t part;
    if (!*name)
        return false;
    for (;; name += part + 1) {
        part = strcspn(name, "/");
        if (part == 0 || (part == 1 && name[0] == '.') || (part == 2 && !memcmp(name, "..", 2)))
            return false;
        if (!name[part])
            return true;
    }
}

/* -1: no number. */
static int get_number(const char *field, size_t size, uint64_t *number)
{
    uint64_t n = 0;
    if (field[0] & 0x80) {
        for (size_t i = size - 8; i < size; i++)
            n = n << 8 | (uint8_t)field[i];
        *number = n;
        return n > INT64_MAX ? -1 : 0;
    }
    size_t i = 0;
    for (; i < size && field[i] >= '0' && field[i] <= '7'; i++)
        n = n << 3 | (uint64_t)(field[i] - '0');
    *number = n;
    return i == 0 || (i < size && field[i] && field[i] != ' ') ? -1 : 0;
}

static int check_header(struct archive_reader *r, const struct tar_header *h, uint64_t *size,
                        uint64_t *mtime, uint64_t *mode, struct err *err)
{
    uint64_t sum;
    if (memcmp(h->magic, "ustar", 5))
        return r->content || *r->member ? damaged(r, err, "no tar header") : foreign(r, err);
    if (get_number(h->sum, sizeof h->sum, &sum) < 0 || sum != tar_sum(h))
        return damaged(r, err, "a tar header has another checksum");
    if (get_number(h->size, sizeof h->size, size) < 0 ||
        get_number(h->mtime, sizeof h->mtime, mtime) < 0 ||
        get_number(h->mode, sizeof h->mode, mode) < 0)
        return damaged(r, err, "a tar header has a wrong number");
    return 0;
}

static int skip(struct archive_reader *r, uint64_t size, struct err *err)
{
    char rest[TAR_BLOCK];
    for (size_t n; size; size -= n) {
        n = size < sizeof rest ? (size_t)size : sizeof rest;
        if (get_all(r, rest, n, err) < 0)
            return -1;
    }
    return 0;
}

/* The content of a member that holds the next one's name. */
static int get_long(struct archive_reader *r, uint64_t size, char *name, struct err *err)
{
    if (size == 0 || size > ARCHIVE_NAME_MAX)
        return damaged(r, err, "a name of %" PRIu64 " bytes", size);
    if (get_all(r, name, (size_t)size, err) < 0)
        return -1;
    name[size - 1] = '\0';
    return skip(r, tar_padding(size), err);
}

static void copy_field(char *to, const char *field, size_t size)
{
    size_t n = strnlen(field, size);
    memcpy(to, field, n);
    to[n] = '\0';
}

/* ---- sums ---- */

static void end_member(struct archive_reader *r)
{
    if (!r->is_file)
        return;
    XXH128_hash_t sum = XXH3_128bits_digest(r->sum);
    fprintf(r->sums_file, "%016" PRIx64 "%016" PRIx64 "  %s\n", (uint64_t)sum.high64,
            (uint64_t)sum.low64, r->member);
    r->is_file = false;
}

/* In SUMS, the last member. */
static int check_sums(struct archive_reader *r, uint64_t size, struct err *err)
{
    char zeros[2 * TAR_BLOCK];
    fflush(r->sums_file);
    if (size != r->sums_size || size > SUMS_MAX)
        return damaged(r, err, "the list of sums is of other members");
    char *text = malloc((size_t)size + 1);
    int rc = text ? get_all(r, text, (size_t)size, err) : damaged(r, err, "no memory");
#ifndef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    if (rc == 0 && memcmp(text, r->sums, (size_t)size))
        rc = damaged(r, err, "a member has another checksum");
#endif
    free(text);
    if (rc < 0 || skip(r, tar_padding(size), err) < 0 ||
        get_all(r, zeros, sizeof zeros, err) < 0)
        return -1;
    /* zstd tells of the last frame's checksum only when it is asked for more. */
    ssize_t more = get(r, zeros, 1, err);
    return more > 0 ? damaged(r, err, "there is more behind its end") : more < 0 ? -1 : 0;
}

/* ---- members ---- */

/* Reads headers up to that of a file or a link. 1, 0 behind SUMS, -1. */
static int next_header(struct archive_reader *r, struct archive_member *m, struct err *err)
{
    struct tar_header h;
    uint64_t size, mtime, mode;
    *m = (struct archive_member){.size = 0};
    for (;;) {
        if (get_all(r, &h, sizeof h, err) < 0 ||
            check_header(r, &h, &size, &mtime, &mode, err) < 0)
            return -1;
        if (h.type != TAR_LONG_NAME && h.type != TAR_LONG_LINK)
            break;
        if (get_long(r, size, h.type == TAR_LONG_NAME ? m->name : m->link, err) < 0)
            return -1;
    }
    if (!*m->name)
        copy_field(m->name, h.name, sizeof h.name);
    if (!*m->link && h.type == TAR_LINK)
        copy_field(m->link, h.link, sizeof h.link);
    if (h.type == TAR_FILE && !strcmp(m->name, TAR_SUMS))
        return check_sums(r, size, err);
    if (!archive_name_is_safe(m->name) || (h.type == TAR_LINK && !archive_name_is_safe(m->link)))
        return damaged(r, err, "a member has a name that leads elsewhere");
    if ((h.type != TAR_FILE && h.type != TAR_LINK) || (h.type == TAR_LINK && size) ||
        (h.type == TAR_FILE && *m->link))
        return damaged(r, err, "a member is neither file nor link");
    m->size = size;
    m->mtime = (int64_t)mtime;
    m->executable = mode & 0100;
    return 1;
}

int archive_next(struct archive_reader *r, struct archive_member *m, struct err *err)
{
    char rest[4096];
    ssize_t n = 0;
    if (r->failed || r->ended)
        return r->failed ? err_set(err, "%s cannot be read", r->name) : 0;
    while (r->left && (n = archive_read(r, rest, sizeof rest, err)) > 0)
        ;
    if (n < 0 || skip(r, r->padding, err) < 0)
        return -1;
    end_member(r);
    r->padding = 0;
    int rc = next_header(r, m, err);
    if (rc <= 0) {
        r->ended = rc == 0;
        return rc;
    }
    strcpy(r->member, m->name);
    r->left = m->size;
    r->padding = tar_padding(m->size);
    r->is_file = !*m->link;
    XXH3_128bits_reset(r->sum);
    return 1;
}

ssize_t archive_read(struct archive_reader *r, void *buf, size_t size, struct err *err)
{
    if (size > r->left)
        size = (size_t)r->left;
    if (size == 0)
        return 0;
    if (r->failed || get_all(r, buf, size, err) < 0)
        return -1;
    XXH3_128bits_update(r->sum, buf, size);
    r->left -= size;
    r->content += size;
    return (ssize_t)size;
}

uint64_t archive_reader_bytes(const struct archive_reader *r)
{
    return r->content;
}
