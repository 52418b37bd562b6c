/*
 * archive_write.c - writes an archive, a zstd frame for each member
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>
#include <xxhash.h>
#include <zstd.h>

#include "runtime/pack/archive.h"
#include "runtime/pack/archive_format.h"

#define COPY_BYTES (256u << 10)
#define LEVEL      1 /* memory of numerical programs hardly gets smaller by more effort */

struct archive_writer {
    int fd;
    char *name;
    ZSTD_CCtx *zstd;
    XXH3_state_t *sum;
    uint8_t *in, *out;
    size_t out_cap;
    char *sums; /* text of SUMS */
    size_t sums_size;
    FILE *sums_file;
    uint64_t content, written;
    void (*progress)(void *arg, uint64_t bytes);
    void *progress_arg;
};

struct archive_writer *archive_writer_create(int fd, const char *name, struct err *err)
{
    struct archive_writer *w = calloc(1, sizeof *w);
    if (!w)
        return err_sys(err, "%s", name), NULL;
    w->fd = fd;
    w->name = strdup(name);
    w->zstd = ZSTD_createCCtx();
    w->sum = XXH3_createState();
    w->in = malloc(COPY_BYTES);
    w->out_cap = ZSTD_CStreamOutSize();
    w->out = malloc(w->out_cap);
    w->sums_file = open_memstream(&w->sums, &w->sums_size);
    if (!w->name || !w->zstd || !w->sum || !w->in || !w->out || !w->sums_file) {
        archive_writer_destroy(w);
        return err_set(err, "%s: no memory", name), NULL;
    }
    ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, LEVEL);
    ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_checksumFlag, 1);
    ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_nbWorkers, get_nprocs()); /* fails where it has none */
    return w;
}

void archive_writer_destroy(struct archive_writer *w)
{
    if (!w)
        return;
    ZSTD_freeCCtx(w->zstd);
    XXH3_freeState(w->sum);
    if (w->sums_file)
        fclose(w->sums_file);
    free(w->sums);
    free(w->in);
    free(w->out);
    free(w->name);
    free(w);
}

void archive_writer_progress(struct archive_writer *w, void (*progress)(void *arg, uint64_t bytes),
                             void *arg)
{
    w->progress = progress;
    w->progress_arg = arg;
}

/* ---- bytes ---- */

static int put_out(struct archive_writer *w, const uint8_t *p, size_t len, struct err *err)
{
    w->written += len;
    while (len) {
        ssize_t n = write(w->fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "cannot write %s", w->name);
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

static int put(struct archive_writer *w, const void *data, size_t size, ZSTD_EndDirective end,
               struct err *err)
{
    ZSTD_inBuffer in = {data, size, 0};
    for (;;) {
        ZSTD_outBuffer out = {w->out, w->out_cap, 0};
        size_t left = ZSTD_compressStream2(w->zstd, &out, &in, end);
        if (ZSTD_isError(left))
            return err_set(err, "%s: %s", w->name, ZSTD_getErrorName(left));
        if (put_out(w, w->out, out.pos, err) < 0)
            return -1;
        if (end == ZSTD_e_continue ? in.pos == in.size : left == 0)
            return 0;
    }
}

/* Octal digits; a size that has too many is written as a number of 11 bytes, as GNU tar does. */
static void put_number(char *field, size_t size, uint64_t number)
{
    if (number >> 3 * (size - 1) == 0) {
        char text[32];
        snprintf(text, sizeof text, "%0*" PRIo64, (int)size - 1, number);
        memcpy(field, text, size);
        return;
    }
    memset(field, 0, size);
    field[0] = (char)0x80;
    for (size_t i = size - 1; i > size - 9; i--, number >>= 8)
        field[i] = (char)(number & 0xff);
}

static int put_header(struct archive_writer *w, const struct archive_member *m, enum tar_type type,
                      struct err *err)
{
    struct tar_header h = {.type = (char)type, .magic = "ustar  "};
    memcpy(h.name, m->name, strnlen(m->name, sizeof h.name));
    memcpy(h.link, m->link, strnlen(m->link, sizeof h.link));
    put_number(h.mode, sizeof h.mode, m->executable ? 0700 : 0600);
    put_number(h.uid, sizeof h.uid, 0);
    put_number(h.gid, sizeof h.gid, 0);
    put_number(h.size, sizeof h.size, m->size);
    put_number(h.mtime, sizeof h.mtime, m->mtime > 0 ? (uint64_t)m->mtime : 0);
    snprintf(h.sum, sizeof h.sum, "%06o", tar_sum(&h));
    h.sum[7] = ' ';
    return put(w, &h, sizeof h, ZSTD_e_continue, err);
}

static int put_padding(struct archive_writer *w, uint64_t size, struct err *err)
{
    static const char zeros[TAR_BLOCK];
    return put(w, zeros, tar_padding(size), ZSTD_e_continue, err);
}

/* What does not fit into the header stands in a member before it. */
static int put_long(struct archive_writer *w, const char *text, enum tar_type type,
                    struct err *err)
{
    struct archive_member m = {.name = TAR_LONG, .size = strlen(text) + 1};
    if (strlen(text) < sizeof((struct tar_header *)NULL)->name)
        return 0;
    return put_header(w, &m, type, err) < 0 ||
                   put(w, text, m.size, ZSTD_e_continue, err) < 0 ||
                   put_padding(w, m.size, err) < 0
               ? -1
               : 0;
}

static int begin(struct archive_writer *w, const struct archive_member *m, struct err *err)
{
    if (!archive_name_is_safe(m->name) || strchr(m->name, '\n'))
        return err_set(err, "%s: no name for a member: %s", w->name, m->name);
    XXH3_128bits_reset(w->sum);
    return put_long(w, m->link, TAR_LONG_LINK, err) < 0 ||
                   put_long(w, m->name, TAR_LONG_NAME, err) < 0
               ? -1
               : put_header(w, m, *m->link ? TAR_LINK : TAR_FILE, err);
}

static int put_content(struct archive_writer *w, const void *data, size_t size, struct err *err)
{
    XXH3_128bits_update(w->sum, data, size);
    w->content += size;
    if (w->progress)
        w->progress(w->progress_arg, w->content);
    return put(w, data, size, ZSTD_e_continue, err);
}

static int end(struct archive_writer *w, const struct archive_member *m, struct err *err)
{
    XXH128_hash_t sum = XXH3_128bits_digest(w->sum);
    if (!*m->link)
        fprintf(w->sums_file, "%016" PRIx64 "%016" PRIx64 "  %s\n", (uint64_t)sum.high64,
                (uint64_t)sum.low64, m->name);
    return put_padding(w, m->size, err) < 0 ? -1 : put(w, NULL, 0, ZSTD_e_end, err);
}

/* ---- members ---- */

static int set_name(char *field, const char *name, struct err *err)
{
    if (strlen(name) >= ARCHIVE_NAME_MAX)
        return err_set(err, "the name is too long: %.200s...", name);
    strcpy(field, name);
    return 0;
}

static int copy_content(struct archive_writer *w, int fd, const char *path, uint64_t size,
                        struct err *err)
{
    while (size) {
        ssize_t n = read(fd, w->in, size < COPY_BYTES ? size : COPY_BYTES);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_sys(err, "cannot read %s", path);
        if (n == 0)
            return err_set(err, "%s got shorter while it was packed", path);
        if (put_content(w, w->in, (size_t)n, err) < 0)
            return -1;
        size -= (uint64_t)n;
    }
    return 0;
}

int archive_add_file(struct archive_writer *w, const char *member, const char *path,
                     struct err *err)
{
    struct archive_member m = {.size = 0};
    struct stat st;
    if (set_name(m.name, member, err) < 0)
        return -1;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_sys(err, "cannot read %s", path);
    int rc = fstat(fd, &st) < 0 ? err_sys(err, "cannot read %s", path)
             : !S_ISREG(st.st_mode) ? err_set(err, "%s is no file", path)
                                    : 0;
    if (rc == 0) {
        m.size = (uint64_t)st.st_size;
        m.mtime = st.st_mtime;
        m.executable = st.st_mode & S_IXUSR;
        rc = begin(w, &m, err) < 0 || copy_content(w, fd, path, m.size, err) < 0 ? -1
                                                                                 : end(w, &m, err);
    }
    close(fd);
    return rc;
}

int archive_add_bytes(struct archive_writer *w, const char *member, const void *data, size_t size,
                      struct err *err)
{
    struct archive_member m = {.size = size};
    return set_name(m.name, member, err) < 0 || begin(w, &m, err) < 0 ||
                   put_content(w, data, size, err) < 0
               ? -1
               : end(w, &m, err);
}

int archive_add_link(struct archive_writer *w, const char *member, const char *earlier,
                     struct err *err)
{
    struct archive_member m = {.size = 0};
    return set_name(m.name, member, err) < 0 || set_name(m.link, earlier, err) < 0 ||
                   begin(w, &m, err) < 0
               ? -1
               : end(w, &m, err);
}

int archive_finish(struct archive_writer *w, uint64_t *bytes, struct err *err)
{
    static const char zeros[2 * TAR_BLOCK];
    if (fflush(w->sums_file) != 0)
        return err_sys(err, "%s", w->name);
    struct archive_member m = {.name = TAR_SUMS, .size = w->sums_size};
    if (begin(w, &m, err) < 0 || put(w, w->sums, w->sums_size, ZSTD_e_continue, err) < 0 ||
        put_padding(w, m.size, err) < 0 || put(w, zeros, sizeof zeros, ZSTD_e_end, err) < 0)
        return -1;
    *bytes = w->written;
    return 0;
}
