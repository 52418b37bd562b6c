/*
 * image_segment.c - segments, and the folder of a rank's fine checkpoints
 *
 * A folder holds images NNNNNNNN.img, named by the newest checkpoint in them, and segments
 * NNNNNNNN.inc, named by the oldest. Names decide nothing but where to look: an increment knows its
 * parent by id.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/image/image_chain.h"

#define DIGITS 8

/* ---- names ---- */

bool image_name_parse(const char *path, struct image_name *name)
{
    const char *slash = strrchr(path, '/'), *at = strrchr(path, '@');
    size_t len = strlen(path), suffix = sizeof IMAGE_SEGMENT_SUFFIX - 1;
    *name = (struct image_name){path, len, 0};
    if (at && (!slash || at > slash) && isdigit((unsigned char)at[1])) {
        char *end;
        name->number = strtoull(at + 1, &end, 10);
        if (*end == '\0')
            name->file_len = (size_t)(at - path);
    }
    return name->file_len >= suffix &&
           !strncmp(path + name->file_len - suffix, IMAGE_SEGMENT_SUFFIX, suffix);
}

char *image_name_merged(const char *path)
{
    struct image_name name;
    char *merged;
    if (!image_name_parse(path, &name) || name.number == 0)
        return NULL;
    const char *slash = strrchr(path, '/');
    int folder = slash ? (int)(slash + 1 - path) : 0;
    return asprintf(&merged, "%.*s%0*llu.img", folder, path, DIGITS,
                    (unsigned long long)name.number) < 0
               ? NULL
               : merged;
}

/* ---- a segment ---- */

static int add_increment(struct image_increment **list, size_t *n, const struct image_header *h,
                         uint64_t at)
{
    struct image_increment *more = *list;
    if ((*n & (*n - 1)) == 0) /* grows at powers of two */
        more = reallocarray(*list, *n ? 2 * *n : 16, sizeof *more);
    if (!more)
        return -1;
    *list = more;
    more[(*n)++] = (struct image_increment){
        .number = h->checkpoint, .oldest = h->oldest, .at = at,
        .size = (h->file_size + IMAGE_PAGE - 1) & ~(uint64_t)(IMAGE_PAGE - 1), .id = h->id,
        .parent_id = h->parent_id};
    return 0;
}

/* The number in the name of a segment, which a file that is used again does not have inside. */
static uint64_t first_number(const char *path)
{
    const char *slash = strrchr(path, '/');
    return strtoull(slash ? slash + 1 : path, NULL, 10);
}

int image_segment_scan(int fd, const char *path, struct image_increment **list, size_t *count,
                       struct err *err)
{
    uint64_t at = 0, number = first_number(path);
    struct image_id id = {{0}};
    *list = NULL;
    *count = 0;
    for (;; number++) {
        uint8_t sector[IMAGE_SECTOR];
        struct image_header h;
        if (image_pread_all(fd, sector, sizeof sector, at) < 0) {
            if (errno == EBADMSG)
                return 0;
            free(*list);
            return err_sys(err, "cannot read %s", path);
        }
        if (image_sector_decode(sector, path, &h, NULL) < 0 || h.kind != IMAGE_INCREMENTAL ||
            h.checkpoint != number || (*count && !image_id_equal(&h.parent_id, &id)) ||
            h.file_size < IMAGE_DATA_OFFSET || h.file_size > (uint64_t)INT64_MAX - at)
            return 0;
        if (add_increment(list, count, &h, at) < 0) {
            free(*list);
            return image_err_code(err, ENOMEM, "%s: out of memory", path);
        }
        id = h.id;
        at += (*list)[*count - 1].size;
    }
}

/* ---- a folder ---- */

/* NNNNNNNN followed by the suffix. */
static bool numbered(const char *name, const char *suffix, uint64_t *number)
{
    char *end;
    *number = strtoull(name, &end, 10);
    return end - name >= DIGITS && !strcmp(end, suffix);
}

/* The highest number up to `limit` of a file with that suffix; 0: none. */
static int highest(const char *folder, const char *suffix, uint64_t limit, uint64_t *number,
                   struct err *err)
{
    DIR *d = opendir(folder);
    if (!d)
        return err_sys(err, "cannot open %s", folder);
    *number = 0;
    for (struct dirent *e; (e = readdir(d));) {
        uint64_t n;
        if (numbered(e->d_name, suffix, &n) && n <= limit && n > *number)
            *number = n;
    }
    closedir(d);
    return 0;
}

static int segment_window(const char *folder, uint64_t first, struct image_window *w,
                          struct err *err)
{
    char path[4096];
    struct image_increment *list;
    size_t n;
    snprintf(path, sizeof path, "%.4000s/%0*llu" IMAGE_SEGMENT_SUFFIX, folder, DIGITS,
             (unsigned long long)first);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "cannot open %s", path);
    int rc = image_segment_scan(fd, path, &list, &n, err);
    close(fd);
    if (rc < 0)
        return -1;
    if (n)
        *w = (struct image_window){list[n - 1].oldest, list[n - 1].number};
    free(list);
    return n > 0;
}

int image_window_read(const char *folder, struct image_window *window, struct err *err)
{
    uint64_t number, limit = UINT64_MAX;
    /* The newest segment may have been made and nothing written to it. */
    for (;; limit = number - 1) {
        if (highest(folder, IMAGE_SEGMENT_SUFFIX, limit, &number, err) < 0)
            return -1;
        int rc = number ? segment_window(folder, number, window, err) : 0;
        if (rc != 0)
            return rc < 0 ? -1 : 0;
        if (number == 0)
            break;
    }
    if (highest(folder, ".img", UINT64_MAX, &number, err) < 0)
        return -1;
    if (number == 0)
        return image_err_code(err, ENOENT, "no checkpoint in %s", folder);
    *window = (struct image_window){number, number};
    return 0;
}

int image_window_path(const char *folder, uint64_t number, char *path, size_t cap, struct err *err)
{
    uint64_t first;
    int n = snprintf(path, cap, "%s/%0*llu.img", folder, DIGITS, (unsigned long long)number);
    if (n >= 0 && (size_t)n < cap && access(path, F_OK) < 0) {
        if (highest(folder, IMAGE_SEGMENT_SUFFIX, number, &first, err) < 0)
            return -1;
        if (first == 0)
            return image_err_code(err, ENOENT, "no checkpoint %llu in %s",
                                  (unsigned long long)number, folder);
        n = snprintf(path, cap, "%s/%0*llu" IMAGE_SEGMENT_SUFFIX "@%llu", folder, DIGITS,
                     (unsigned long long)first, (unsigned long long)number);
    }
    if (n < 0 || (size_t)n >= cap)
        return image_err_code(err, ENAMETOOLONG, "%s: name too long", folder);
    return 0;
}
