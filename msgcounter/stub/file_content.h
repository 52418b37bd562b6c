/*
 * file_content.h - what is in files that are open when an epoch is made
 *
 * A restarted job writes its files once more, and its end may have removed them. Of a file of up to
 * 1 MiB the first rank of its communicator keeps the bytes in its image. A restart puts them back
 * where the file was open for writing, or is gone: then with its permissions. As descriptors have
 * it (runtime/ckpt/files.h); larger files are those of the file system.
 */
#ifndef DBG3_STUB_FILE_CONTENT_H
#define DBG3_STUB_FILE_CONTENT_H

#include <stdbool.h>
#include <stdint.h>

struct file_content {
    bool kept;
    uint32_t mode; /* of stat(2) */
    uint64_t bytes;
    unsigned char *data; /* from stub_alloc */
};

/* Both take a name as MPI_File_open has it. */

/* In place of what was kept before; nothing is kept of a file that is too large or that cannot be
 * read. [parked] */
void file_content_keep(struct file_content *c, const char *name);
void file_content_drop(struct file_content *c);

/* Nothing to do if nothing was kept, or if the file is there and nobody writes it. What cannot be
 * written is left to MPI_File_open to complain about. */
void file_content_restore(const struct file_content *c, const char *name, bool written);

#endif
