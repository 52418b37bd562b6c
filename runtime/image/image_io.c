/*
 * image_io.c - whole reads and writes, names and ids
 */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "runtime/image/image_format.h"

int image_pread_all(int fd, void *buf, size_t len, uint64_t offset)
{
    char *p = buf;
    while (len) {
        ssize_t n = pread(fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n == 0)
            errno = EBADMSG;
        if (n <= 0)
            return -1;
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int image_pwrite_all(int fd, const void *buf, size_t len, uint64_t offset)
{
    const char *p = buf;
    while (len) {
        ssize_t n = pwrite(fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

char *image_path_beside(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    if (name[0] == '/' || !slash)
        return strdup(name);
    size_t dir = (size_t)(slash - path) + 1;
    char *joined = malloc(dir + strlen(name) + 1);
    if (joined) {
        memcpy(joined, path, dir);
        strcpy(joined + dir, name);
    }
    return joined;
}

int image_sync_folder(const char *path)
{
    char *copy = strdup(path);
    if (!copy)
        return -1;
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(copy);
    if (fd < 0)
        return -1;
    int rc = fsync(fd);
    int saved = errno;
    close(fd);
    errno = saved;
    return rc;
}

double image_now_ms(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

bool image_id_equal(const struct image_id *a, const struct image_id *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

bool image_id_is_zero(const struct image_id *id)
{
    static const struct image_id zero;
    return image_id_equal(id, &zero);
}

int image_id_make(struct image_id *id, struct err *err)
{
    if (getrandom(id, sizeof *id, 0) != (ssize_t)sizeof *id)
        return err_sys(err, "cannot make an image id");
    return 0;
}

void image_id_text(const struct image_id *id, char text[33])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof id->bytes; i++) {
        text[2 * i] = digits[id->bytes[i] >> 4];
        text[2 * i + 1] = digits[id->bytes[i] & 15];
    }
    text[32] = '\0';
}

int image_err_code(struct err *err, int code, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(err, "%s", text);
    if (err)
        err->code = code;
    errno = code;
    return -1;
}

int image_err_damaged(struct err *err, const char *path, const char *fmt, ...)
{
    char text[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return image_err_code(err, EBADMSG, "%s: damaged image: %s", path, text);
}
