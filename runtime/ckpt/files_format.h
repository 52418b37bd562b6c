/*
 * files_format.h - the blob of open descriptors; private to files.c and files_restore.c
 *
 * Records one after the other, each a multiple of 8 bytes: struct file_record, the path with its
 * NUL, then content. In order of their numbers; all epolls come last when they are restored.
 */
#ifndef DBG3_CKPT_FILES_FORMAT_H
#define DBG3_CKPT_FILES_FORMAT_H

#include <stdint.h>

enum file_kind {
    FILE_PATH,    /* file, folder or device with a name; value[0]: its content follows, and
                     value[1] is its mode */
    FILE_CONTENT, /* file without a name: deleted, memfd; its content follows */
    FILE_PIPE,    /* both ends are the rank's; `mate` is the other one */
    FILE_PAIR,    /* socketpair(), the same */
    FILE_SOCKET,  /* neither bound nor connected */
    FILE_EVENT,   /* value[0]: count, value[1]: EFD_SEMAPHORE */
    FILE_TIMER,   /* value[0..3]: it_interval, it_value; value[4]: clock, value[5]: expirations */
    FILE_SIGNAL,  /* value[0]: mask */
    FILE_POLL,    /* content: struct file_watch each */
    FILE_SAME,    /* the same open file as descriptor `mate`, by dup() */
    FILE_LOST,    /* cannot be restored */
    FILE_KINDS
};

struct file_watch {
    int32_t fd;
    uint32_t events;
    uint64_t data;
};

struct file_record {
    uint32_t bytes; /* of the record, with path, content and padding */
    uint32_t kind;
    int32_t fd, mate;
    uint32_t flags; /* F_GETFL */
    uint32_t cloexec;
    uint64_t offset, size;
    uint64_t value[6];
    uint32_t path_bytes, content_bytes;
};
_Static_assert(sizeof(struct file_record) == 96, "part of images");

static inline const char *file_path(const struct file_record *r)
{
    return (const char *)(r + 1);
}

static inline const void *file_content(const struct file_record *r)
{
    return (const char *)(r + 1) + r->path_bytes;
}

#endif
