/*
 * archive_format.h - a tar header (POSIX.1-1988, with GNU's long names and large sizes); private
 */
#ifndef DBG3_PACK_ARCHIVE_FORMAT_H
#define DBG3_PACK_ARCHIVE_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TAR_BLOCK     512u
#define TAR_SUMS      "SUMS"
#define TAR_SUM_CHARS 32u /* hexadecimal digits of XXH3-128 */
#define TAR_LONG      "././@LongLink"

struct tar_header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8];
    char type;
    char link[100];
    char magic[8]; /* GNU: "ustar  " */
    char uname[32], gname[32], major[8], minor[8];
    char prefix[155], unused[12];
};
_Static_assert(sizeof(struct tar_header) == TAR_BLOCK, "the header is a block");

enum tar_type {
    TAR_FILE = '0',
    TAR_LINK = '1',
    TAR_LONG_LINK = 'K', /* content: the link of the next member */
    TAR_LONG_NAME = 'L', /* content: its name */
};

/* Padding behind content of this size. */
static inline size_t tar_padding(uint64_t size)
{
    return (size_t)(-size & (TAR_BLOCK - 1));
}

/* The sum of the header's bytes, its own field taken as blanks. */
static inline unsigned tar_sum(const struct tar_header *h)
{
    const uint8_t *bytes = (const uint8_t *)h;
    unsigned sum = 8 * ' ';
    for (size_t i = 0; i < sizeof *h; i++)
        sum += i >= offsetof(struct tar_header, sum) && i < offsetof(struct tar_header, type)
                   ? 0
                   : bytes[i];
    return sum;
}

/* Relative, no empty part, no "..": it stays in the folder that it is unpacked to. */
bool archive_name_is_safe(const char *name);

#endif
