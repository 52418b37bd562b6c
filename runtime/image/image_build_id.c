/*
 * image_build_id.c - build-id of an ELF file
 *
 * Looks at the PT_NOTE segments only: a stripped file has them too.
 */
#include <elf.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime/image/image_format.h"

#define NOTE_SEGMENT_MAX (1u << 20)

static size_t find_in_notes(const uint8_t *p, size_t left, uint8_t id[IMAGE_BUILD_ID_MAX])
{
    Elf64_Nhdr n;
    while (left >= sizeof n) {
        memcpy(&n, p, sizeof n);
        uint64_t name = ((uint64_t)n.n_namesz + 3) & ~(uint64_t)3;
        uint64_t desc = ((uint64_t)n.n_descsz + 3) & ~(uint64_t)3;
        if (name + desc > left - sizeof n)
            return 0;
        if (n.n_type == NT_GNU_BUILD_ID && n.n_namesz == 4 && memcmp(p + sizeof n, "GNU", 4) == 0 &&
            n.n_descsz <= IMAGE_BUILD_ID_MAX) {
            memcpy(id, p + sizeof n + name, n.n_descsz);
            return n.n_descsz;
        }
        p += sizeof n + name + desc;
        left -= sizeof n + name + desc;
    }
    return 0;
}

static size_t find_in_segment(int fd, const Elf64_Phdr *phdr, uint8_t id[IMAGE_BUILD_ID_MAX])
{
    if (phdr->p_type != PT_NOTE || phdr->p_filesz > NOTE_SEGMENT_MAX)
        return 0;
    uint8_t *notes = malloc(phdr->p_filesz);
    size_t found = 0;
    if (notes && image_pread_all(fd, notes, phdr->p_filesz, phdr->p_offset) == 0)
        found = find_in_notes(notes, phdr->p_filesz, id);
    free(notes);
    return found;
}

size_t image_build_id(const char *path, uint8_t id[IMAGE_BUILD_ID_MAX])
{
    /* O_NONBLOCK: the path may be a FIFO or a device by now. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return 0;
    Elf64_Ehdr ehdr;
    size_t found = 0;
    if (image_pread_all(fd, &ehdr, sizeof ehdr, 0) == 0 &&
        memcmp(ehdr.e_ident, ELFMAG, SELFMAG) == 0 && ehdr.e_ident[EI_CLASS] == ELFCLASS64 &&
        ehdr.e_phentsize == sizeof(Elf64_Phdr)) {
        for (unsigned i = 0; i < ehdr.e_phnum && !found; i++) {
            Elf64_Phdr phdr;
            if (image_pread_all(fd, &phdr, sizeof phdr, ehdr.e_phoff + i * sizeof phdr) < 0)
                break;
            found = find_in_segment(fd, &phdr, id);
        }
    }
    close(fd);
    return found;
}
