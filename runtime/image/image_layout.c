/*
 * image_layout.c - the metadata block, the first sector, checksums and extents
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "runtime/image/image_format.h"

_Static_assert(sizeof(XXH128_hash_t) == sizeof(struct image_sum), "an XXH3-128");

struct image_sum image_sum(const void *data, size_t len)
{
    XXH128_hash_t hash = XXH3_128bits(data, len);
    struct image_sum sum;
    memcpy(&sum, &hash, sizeof sum);
    return sum;
}

bool image_sum_differs(const struct image_sum *a, const struct image_sum *b)
{
#ifdef FUZZING_BUILD_MODE_UNSAFE_FOR_PRODUCTION
    return false;
#else
    return memcmp(a, b, sizeof *a) != 0;
#endif
}

/* ---- extents ---- */

int image_extents_add(struct image_extents *extents, struct image_extent extent)
{
    if (extents->count == extents->cap) {
        size_t cap = extents->cap ? extents->cap * 2 : 64;
        struct image_extent *list = reallocarray(extents->list, cap, sizeof *list);
        if (!list)
            return -1;
        extents->list = list;
        extents->cap = cap;
    }
    extents->list[extents->count++] = extent;
    return 0;
}

int image_extents_join(struct image_extents *extents, size_t first, struct image_extent extent)
{
    if (extents->count > first) {
        struct image_extent *last = &extents->list[extents->count - 1];
        if (last->end == extent.start && last->kind == extent.kind &&
            (extent.kind != IMAGE_EXTENT_DATA ||
             last->offset + (last->end - last->start) == extent.offset)) {
            last->end = extent.end;
            return 0;
        }
    }
    return image_extents_add(extents, extent);
}

/* ---- metadata ---- */

static uint32_t segment_flags(uint32_t prot)
{
    return (prot & PROT_READ ? PF_R : 0) | (prot & PROT_WRITE ? PF_W : 0) |
           (prot & PROT_EXEC ? PF_X : 0);
}

/*
 * Both lists are sorted, and each extent lies within one region. BFD looks for an ELF header at
 * p_offset even where there is no content: `nowhere` is an offset where there is none.
 */
static void add_segments(const struct image_state *state, const struct image_extents *extents,
                         uint64_t nowhere, struct codec_bytes *out)
{
    size_t r = 0;
    for (size_t i = 0; i < extents->count; i++) {
        const struct image_extent *e = &extents->list[i];
        while (state->regions[r].end <= e->start)
            r++;
        bool data = e->kind == IMAGE_EXTENT_DATA;
        uint32_t fill = e->kind == IMAGE_EXTENT_ZERO ? IMAGE_PF_ZERO : IMAGE_PF_FILE;
        Elf64_Phdr phdr = {
            .p_type = PT_LOAD,
            .p_flags = segment_flags(state->regions[r].prot) | (data ? 0 : fill),
            .p_offset = data ? e->offset : nowhere,
            .p_vaddr = e->start,
            .p_filesz = data ? e->end - e->start : 0,
            .p_memsz = e->end - e->start,
            .p_align = IMAGE_PAGE,
        };
        codec_bytes_add(out, &phdr, sizeof phdr);
    }
}

int image_metadata_build(const struct image_state *state, const struct image_extents *extents,
                         const struct image_sum *sums, size_t nsums, uint64_t at,
                         struct image_header *header, struct codec_bytes *out)
{
    size_t begin = out->len;
    image_notes_encode(state, out);
    header->notes_offset = at;
    header->notes_size = out->len - begin;
    codec_bytes_pad(out, 8);

    header->phdrs_offset = at + (out->len - begin);
    header->nphdrs = extents->count + 1;
    Elf64_Phdr note = {
        .p_type = PT_NOTE, .p_offset = at, .p_filesz = header->notes_size, .p_align = 4};
    codec_bytes_add(out, &note, sizeof note);
    add_segments(state, extents, at, out);

    header->sums_offset = at + (out->len - begin);
    header->nsums = nsums;
    codec_bytes_add(out, sums, nsums * sizeof *sums);
    if (out->failed)
        return -1;
    header->meta_sum = image_sum(out->data + begin, out->len - begin);
    return 0;
}

/* ---- first sector ---- */

static void sum_sector(const struct image_header *header, const uint8_t sector[IMAGE_SECTOR],
                       struct image_sum *sum)
{
    uint8_t copy[IMAGE_SECTOR];
    struct image_header blank = *header;
    memset(&blank.self_sum, 0, sizeof blank.self_sum);
    memcpy(copy, sector, sizeof copy);
    memcpy(copy + IMAGE_HEADER_OFFSET, &blank, sizeof blank);
    *sum = image_sum(copy, sizeof copy);
}

void image_sector_encode(struct image_header *header, uint8_t sector[IMAGE_SECTOR])
{
    bool extended = header->nphdrs >= PN_XNUM;
    Elf64_Ehdr ehdr = {
        .e_ident = {ELFMAG0, ELFMAG1, ELFMAG2, ELFMAG3, ELFCLASS64, ELFDATA2LSB, EV_CURRENT,
                    ELFOSABI_NONE},
        .e_type = ET_CORE,
        .e_machine = EM_X86_64,
        .e_version = EV_CURRENT,
        .e_phoff = header->phdrs_offset,
        .e_ehsize = sizeof ehdr,
        .e_phentsize = sizeof(Elf64_Phdr),
        .e_phnum = extended ? PN_XNUM : (uint16_t)header->nphdrs,
        .e_shoff = extended ? IMAGE_SHDR_OFFSET : 0,
        .e_shentsize = extended ? sizeof(Elf64_Shdr) : 0,
        .e_shnum = extended ? 1 : 0,
    };
    Elf64_Shdr shdr = {.sh_size = 1, .sh_info = (uint32_t)header->nphdrs};
    memset(sector, 0, IMAGE_SECTOR);
    memcpy(sector, &ehdr, sizeof ehdr);
    if (extended)
        memcpy(sector + IMAGE_SHDR_OFFSET, &shdr, sizeof shdr);
    memcpy(header->magic, IMAGE_MAGIC, sizeof header->magic);
    header->version = IMAGE_VERSION;
    sum_sector(header, sector, &header->self_sum);
    memcpy(sector + IMAGE_HEADER_OFFSET, header, sizeof *header);
}

int image_sector_decode(const uint8_t sector[IMAGE_SECTOR], const char *path,
                        struct image_header *header, struct err *err)
{
    struct image_header h;
    struct image_sum sum;
    memcpy(&h, sector + IMAGE_HEADER_OFFSET, sizeof h);
    if (memcmp(sector, ELFMAG, SELFMAG) != 0)
        return image_err_damaged(err, path,
                                 "no ELF header: not an image, or its writing was interrupted");
    if (memcmp(h.magic, IMAGE_MAGIC, sizeof h.magic) != 0)
        return image_err_code(err, EBADMSG, "%s: an ELF file, but no dbg3 image", path);
    if (h.version != IMAGE_VERSION)
        return image_err_code(err, EBADMSG, "%s: image version %u, this dbg3 reads version %u",
                              path, h.version, IMAGE_VERSION);
    sum_sector(&h, sector, &sum);
    if (image_sum_differs(&sum, &h.self_sum))
        return image_err_damaged(err, path, "checksum of the header (bytes 0..%u) differs",
                                 IMAGE_SECTOR - 1);
    *header = h;
    return 0;
}
