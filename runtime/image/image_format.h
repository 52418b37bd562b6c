/*
 * image_format.h - layout of an image file and of a segment; private to runtime/image
 *
 *      0  Elf64_Ehdr
 *     64  struct image_header
 *    448  Elf64_Shdr 0, when there are 65535 program headers or more (PN_XNUM)
 *    512  unused
 *   4096  data pages, then the metadata: notes, program headers, checksum table
 *
 * A segment (NNNNNNNN.inc, of fine checkpoints) is a row of such images, each an increment on the
 * one before it, at page boundaries; offsets in an image count from its own beginning.
 *
 *      0  increment NNNNNNNN .  increment NNNNNNNN + 1 .  ...  .  rubbish
 *
 * It ends where no whole image stands, or one that is not the next: another number or parent. So it
 * needs no index, a writer that is killed loses no earlier increment, and a file that is used again
 * need not be cleared.
 *
 * The program headers are the list of extents, there is no second one. PT_LOAD with p_filesz:
 * content in this file. Without: p_flags says whether the pages are zero or those of the mapped
 * file. Memory of a region that no PT_LOAD covers is the parent's in an incremental image, else the
 * region's fill.
 *
 * Checksums: XXH3-128 of each IMAGE_CHUNK bytes of file from 4096 on, over the data pages in it in
 * file order (metadata left out); one over the metadata; one over the first sector.
 *
 * The first sector is written last: a file whose writer was interrupted has no ELF header.
 */
#ifndef DBG3_IMAGE_FORMAT_H
#define DBG3_IMAGE_FORMAT_H

#include <elf.h>

#include "runtime/image/image.h"
#include "runtime/image/image_codec.h"

#define IMAGE_MAGIC         "DBG3IMG\n"
#define IMAGE_SECTOR        512u
#define IMAGE_HEADER_OFFSET 64u
#define IMAGE_SHDR_OFFSET   448u
#define IMAGE_DATA_OFFSET   4096u
#define IMAGE_CHUNK         65536u
#define IMAGE_OWNER         "DBG3"
#define IMAGE_SEGMENTS_MAX  (1u << 26)

#define IMAGE_UNCACHED_MIN (8u << 20) /* bytes of pages that are worth going past the page cache */

#define IMAGE_SEGMENT_SUFFIX ".inc"

/* In p_flags, inside PF_MASKOS; only where p_filesz is 0. */
#define IMAGE_PF_ZERO 0x00100000u
#define IMAGE_PF_FILE 0x00200000u

/* Types of our notes. */
enum image_note {
    IMAGE_NOTE_META = 1,
    IMAGE_NOTE_REGIONS = 2,
    IMAGE_NOTE_THREAD = 3, /* belongs to the NT_PRSTATUS before it */
    IMAGE_NOTE_FILES = 4,
    IMAGE_NOTE_BLOB = 5,
};

struct image_sum {
    uint8_t bytes[16];
};

struct image_header {
    char magic[8];
    uint32_t version;
    uint32_t kind; /* enum image_kind */
    struct image_id id;
    struct image_id parent_id; /* zero: no parent */
    uint64_t checkpoint;       /* as meta.checkpoint; here so that a segment can be listed */
    uint64_t oldest;           /* as image_state.oldest */
    uint64_t file_size;        /* at least; a shorter file is truncated */
    uint64_t notes_offset, notes_size;
    uint64_t phdrs_offset, nphdrs;
    uint64_t sums_offset, nsums;
    struct image_sum meta_sum; /* of notes, program headers and checksum table */
    struct image_sum self_sum; /* of the sector, with this field zero */
};
_Static_assert(sizeof(struct image_header) == 152, "the header is a file format");
_Static_assert(IMAGE_HEADER_OFFSET + sizeof(struct image_header) <= IMAGE_SHDR_OFFSET,
               "they overlap");

enum image_extent_kind { IMAGE_EXTENT_DATA, IMAGE_EXTENT_ZERO, IMAGE_EXTENT_FILE };

/* Memory whose content this file tells. */
struct image_extent {
    uint64_t start, end;
    enum image_extent_kind kind;
    uint64_t offset; /* DATA: in the image file */
};

struct image_extents {
    struct image_extent *list;
    size_t count, cap;
};

/* Appends, growing the list. 0, or -1 when out of memory. */
int image_extents_add(struct image_extents *extents, struct image_extent extent);

/* As above, but extends the last extent if it has index >= first and the new one continues it. */
int image_extents_join(struct image_extents *extents, size_t first, struct image_extent extent);

/* ---- notes (image_notes.c) ---- */

/* Appends all notes of the state. bytes->failed when out of memory. */
void image_notes_encode(const struct image_state *state, struct codec_bytes *out);

/* Fills the state from notes, which must outlive it. 0, or -1 with EBADMSG; `path` is for the text.
 */
int image_notes_decode(const uint8_t *notes, size_t size, const char *path,
                       struct codec_arena *arena, struct image_state *state, struct err *err);

/* Says what is wrong with a list of regions, or NULL. */
const char *image_regions_fault(const struct image_region *regions, size_t n);

/* ---- metadata and header (image_layout.c) ---- */

/*
 * Builds the metadata block that will stand at file offset `at` and completes the header's offsets,
 * counts and meta_sum (not its ids and sizes). 0, or -1 when out of memory.
 */
int image_metadata_build(const struct image_state *state, const struct image_extents *extents,
                         const struct image_sum *sums, size_t nsums, uint64_t at,
                         struct image_header *header, struct codec_bytes *out);

/* The first sector of the file. Sets header->self_sum. */
void image_sector_encode(struct image_header *header, uint8_t sector[IMAGE_SECTOR]);

/* Checks and decodes the first sector. 0, or -1 with EBADMSG. */
int image_sector_decode(const uint8_t sector[IMAGE_SECTOR], const char *path,
                        struct image_header *header, struct err *err);

/* XXH3-128. */
struct image_sum image_sum(const void *data, size_t len);

/* True if the two differ. Never in a fuzzer's build, which is after what lies behind the checksums.
 */
bool image_sum_differs(const struct image_sum *a, const struct image_sum *b);

bool image_id_equal(const struct image_id *a, const struct image_id *b);
bool image_id_is_zero(const struct image_id *id);
int image_id_make(struct image_id *id, struct err *err);

/* err_set() or err_sys() with a code. Return -1. */
int image_err_damaged(struct err *err, const char *path, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
int image_err_code(struct err *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- segments (image_segment.c) ---- */

/* What the first sector of an increment in a segment says. */
struct image_increment {
    uint64_t number, oldest;
    uint64_t at, size; /* bytes in the segment; size up to where the next one begins */
    struct image_id id, parent_id;
};

/* The whole increments of the segment, in order; malloc'ed. Reads only their first sectors. 0 (also
 * if there are none), or -1 with *err. */
int image_segment_scan(int fd, const char *path, struct image_increment **list, size_t *count,
                       struct err *err);

/* ---- files (image_io.c) ---- */

/* All bytes or an error. 0, or -1 with errno; reading past the end is EBADMSG. */
int image_pread_all(int fd, void *buf, size_t len, uint64_t offset);
int image_pwrite_all(int fd, const void *buf, size_t len, uint64_t offset);

/* "dir/of/path" + "/" + name, malloc'ed; name alone if path has no slash or name is absolute. */
char *image_path_beside(const char *path, const char *name);

/* fsync of the folder that holds path. 0 or -1 with errno. */
int image_sync_folder(const char *path);

/* Milliseconds of CLOCK_MONOTONIC. */
double image_now_ms(void);

#endif
