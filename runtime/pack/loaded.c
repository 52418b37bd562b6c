/*
 * loaded.c - the dynamic linker's list in an image: program headers, DT_DEBUG, r_debug, link_map
 */
#include "runtime/pack/loaded.h"

#include <elf.h>
#include <link.h>
#include <stddef.h>
#include <string.h>

#define NAMES_MAX 16384 /* a list that is longer goes in a circle */
#define PARTS_MAX 256   /* program headers, dynamic entries */

static uint64_t auxv(const struct image_state *state, uint64_t type)
{
    Elf64_auxv_t a;
    for (size_t at = 0; at + sizeof a <= state->meta.auxv_size; at += sizeof a) {
        memcpy(&a, state->meta.auxv + at, sizeof a);
        if (a.a_type == type)
            return a.a_un.a_val;
    }
    return 0;
}

/* Address of the program's dynamic section, 0 if it has none. */
static uint64_t dynamic_section(struct image *image)
{
    const struct image_state *state = image_state(image);
    uint64_t at = auxv(state, AT_PHDR), n = auxv(state, AT_PHNUM), bias = 0, dynamic = 0;
    for (uint64_t i = 0; i < n && i < PARTS_MAX; i++) {
        Elf64_Phdr p;
        if (image_read(image, at + i * sizeof p, &p, sizeof p, NULL) < 0)
            return 0;
        if (p.p_type == PT_PHDR)
            bias = at - p.p_vaddr;
        if (p.p_type == PT_DYNAMIC)
            dynamic = p.p_vaddr;
    }
    return dynamic ? bias + dynamic : 0;
}

static uint64_t debug_structure(struct image *image)
{
    uint64_t at = dynamic_section(image);
    for (size_t i = 0; at && i < PARTS_MAX; i++) {
        Elf64_Dyn d;
        if (image_read(image, at + i * sizeof d, &d, sizeof d, NULL) < 0 || d.d_tag == DT_NULL)
            return 0;
        if (d.d_tag == DT_DEBUG)
            return d.d_un.d_ptr;
    }
    return 0;
}

/* A string, which may end just before memory does. */
static int read_text(struct image *image, uint64_t at, char *text, size_t cap)
{
    for (size_t i = 0; i < cap; i++) {
        if (image_read(image, at + i, &text[i], 1, NULL) < 0)
            return -1;
        if (!text[i])
            return 0;
    }
    return -1;
}

void loaded_names(struct image *image, void (*name)(void *arg, const char *path), void *arg)
{
    uint64_t debug = debug_structure(image), at = 0;
    char text[4096];
    if (!debug || image_read(image, debug + offsetof(struct r_debug, r_map), &at, sizeof at, NULL))
        return;
    for (size_t i = 0; at && i < NAMES_MAX; i++) {
        struct link_map map;
        if (image_read(image, at, &map, sizeof map, NULL) < 0)
            return;
        if (read_text(image, (uint64_t)(uintptr_t)map.l_name, text, sizeof text) == 0 &&
            text[0] == '/')
            name(arg, text);
        at = (uint64_t)(uintptr_t)map.l_next;
    }
}
