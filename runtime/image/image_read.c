/*
 * image_read.c - opens and checks image files and their chains
 *
 * Everything read here may be wrong: sizes are checked before they are used, and after the checks
 * the rest of the library relies on them (extents sorted, within one region each, within the file).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/image/image_chain.h"

#define CHAIN_MAX 16384

/* ---- one file ---- */

static int check_bounds(const struct image_link *l, struct err *err)
{
    const struct image_header *h = &l->header;
    uint64_t size = h->file_size;
    bool ok = h->kind >= IMAGE_FULL && h->kind <= IMAGE_FAILURE && size >= IMAGE_DATA_OFFSET &&
              size <= INT64_MAX && h->nphdrs >= 1 && h->nphdrs <= IMAGE_SEGMENTS_MAX &&
              h->notes_offset >= IMAGE_DATA_OFFSET && h->notes_offset <= size &&
              h->notes_size <= size - h->notes_offset && h->phdrs_offset <= size &&
              h->nphdrs * sizeof(Elf64_Phdr) <= size - h->phdrs_offset && h->sums_offset <= size &&
              h->nsums <= (size - h->sums_offset) / sizeof(struct image_sum) &&
              h->phdrs_offset == ((h->notes_offset + h->notes_size + 7) & ~(uint64_t)7) &&
              h->sums_offset == h->phdrs_offset + h->nphdrs * sizeof(Elf64_Phdr);
    return ok ? 0 : image_err_damaged(err, l->path, "the header's offsets do not fit");
}

static int read_header(struct image_link *l, struct err *err)
{
    uint8_t sector[IMAGE_SECTOR];
    struct stat st;
    if (fstat(l->fd, &st) < 0)
        return err_sys(err, "cannot stat %s", l->path);
    if (!S_ISREG(st.st_mode))
        return image_err_code(err, EBADMSG, "%s: no regular file", l->path);
    if (st.st_size < (off_t)(l->at + sizeof sector))
        return image_err_damaged(err, l->path, "truncated: %lld bytes", (long long)st.st_size);
    if (image_pread_all(l->fd, sector, sizeof sector, l->at) < 0)
        return err_sys(err, "cannot read %s", l->path);
    if (image_sector_decode(sector, l->path, &l->header, err) < 0 || check_bounds(l, err) < 0)
        return -1;
    if ((uint64_t)st.st_size - l->at < l->header.file_size)
        return image_err_damaged(err, l->path, "truncated: %llu of %llu bytes",
                                 (unsigned long long)st.st_size - l->at,
                                 (unsigned long long)l->header.file_size);
    return 0;
}

/* Index of the region that holds all of the extent, from *r on. -1: none. */
static int extent_region(const struct image_state *state, size_t *r, const struct image_extent *e)
{
    while (*r < state->nregions && state->regions[*r].end <= e->start)
        ++*r;
    return *r < state->nregions && state->regions[*r].start <= e->start &&
                   e->end <= state->regions[*r].end
               ? 0
               : -1;
}

/* One PT_LOAD as an extent. -1 if its fields contradict each other. */
static int decode_segment(const struct image_header *h, const Elf64_Phdr *p, struct image_extent *e)
{
    if (p->p_type != PT_LOAD || p->p_vaddr % IMAGE_PAGE || p->p_memsz % IMAGE_PAGE ||
        p->p_memsz == 0 || p->p_vaddr > UINT64_MAX - p->p_memsz)
        return -1;
    *e = (struct image_extent){.start = p->p_vaddr, .end = p->p_vaddr + p->p_memsz};
    uint32_t fill = p->p_flags & (IMAGE_PF_ZERO | IMAGE_PF_FILE);
    if (p->p_filesz) {
        e->kind = IMAGE_EXTENT_DATA;
        e->offset = p->p_offset;
        bool fits = p->p_filesz == p->p_memsz && fill == 0 && p->p_offset % IMAGE_PAGE == 0 &&
                    p->p_offset >= IMAGE_DATA_OFFSET && p->p_offset <= h->file_size &&
                    p->p_filesz <= h->file_size - p->p_offset;
        return fits ? 0 : -1;
    }
    e->kind = fill == IMAGE_PF_FILE ? IMAGE_EXTENT_FILE : IMAGE_EXTENT_ZERO;
    return fill == IMAGE_PF_FILE || fill == IMAGE_PF_ZERO ? 0 : -1;
}

static int decode_segments(struct image_link *l, const uint8_t *phdrs, struct err *err)
{
    size_t region = 0;
    uint64_t end = 0;
    for (uint64_t i = 0; i < l->header.nphdrs; i++) {
        Elf64_Phdr p;
        struct image_extent e;
        memcpy(&p, phdrs + i * sizeof p, sizeof p);
        if (i == 0 && p.p_type == PT_NOTE)
            continue;
        if (decode_segment(&l->header, &p, &e) < 0 || e.start < end ||
            extent_region(&l->state, &region, &e) < 0 ||
            (e.kind == IMAGE_EXTENT_FILE && l->state.regions[region].fill != IMAGE_FILL_FILE))
            return image_err_damaged(err, l->path, "program header %llu is not valid",
                                     (unsigned long long)i);
        if (image_extents_add(&l->extents, e) < 0)
            return image_err_code(err, ENOMEM, "%s: out of memory", l->path);
        end = e.end;
    }
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    const struct image_extent *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Extents with content in order of file offset, malloc'ed; NULL with ENOMEM in err. */
static struct image_extent *extents_by_offset(const struct image_extents *extents, size_t *count,
                                              struct err *err)
{
    struct image_extent *list = calloc(extents->count + 1, sizeof *list);
    if (!list) {
        image_err_code(err, ENOMEM, "out of memory");
        return NULL;
    }
    size_t n = 0;
    for (size_t i = 0; i < extents->count; i++) {
        if (extents->list[i].kind == IMAGE_EXTENT_DATA)
            list[n++] = extents->list[i];
    }
    qsort(list, n, sizeof *list, by_offset);
    *count = n;
    return list;
}

/* Data must not overlap, and each of its chunks must have a checksum. */
static int check_data(const struct image_link *l, struct err *err)
{
    size_t n;
    struct image_extent *list = extents_by_offset(&l->extents, &n, err);
    if (!list)
        return -1;
    uint64_t end = IMAGE_DATA_OFFSET;
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        ok = list[i].offset >= end;
        end = list[i].offset + (list[i].end - list[i].start);
    }
    free(list);
    if (!ok)
        return image_err_damaged(err, l->path, "segments overlap in the file");
    if ((end - IMAGE_DATA_OFFSET + IMAGE_CHUNK - 1) / IMAGE_CHUNK > l->header.nsums)
        return image_err_damaged(err, l->path, "the checksum table is too short");
    return 0;
}

static int check_state(const struct image_link *l, struct err *err)
{
    bool incremental = l->state.kind == IMAGE_INCREMENTAL;
    if (incremental != (l->state.parent != NULL) ||
        incremental == image_id_is_zero(&l->state.parent_id))
        return image_err_damaged(err, l->path, "its kind and its parent contradict each other");
    return 0;
}

static int read_metadata(struct image_link *l, struct err *err)
{
    const struct image_header *h = &l->header;
    size_t size = h->sums_offset + h->nsums * sizeof *l->sums - h->notes_offset;
    l->notes = malloc(size + 1);
    if (!l->notes)
        return image_err_code(err, ENOMEM, "%s: out of memory", l->path);
    if (image_pread_all(l->fd, l->notes, size, l->at + h->notes_offset) < 0)
        return err_sys(err, "cannot read %s", l->path);
    struct image_sum sum = image_sum(l->notes, size);
    if (image_sum_differs(&sum, &h->meta_sum))
        return image_err_damaged(err, l->path, "checksum of the notes (bytes %llu..%llu) differs",
                                 (unsigned long long)h->notes_offset,
                                 (unsigned long long)h->notes_offset + size - 1);
    l->sums = codec_alloc(&l->arena, h->nsums, sizeof *l->sums);
    if (!l->sums)
        return image_err_code(err, ENOMEM, "%s: out of memory", l->path);
    memcpy(l->sums, l->notes + (h->sums_offset - h->notes_offset), h->nsums * sizeof *l->sums);
    if (image_notes_decode(l->notes, h->notes_size, l->path, &l->arena, &l->state, err) < 0)
        return -1;
    l->state.kind = h->kind;
    l->state.id = h->id;
    l->state.parent_id = h->parent_id;
    l->state.oldest = h->oldest;
    if (check_state(l, err) < 0 ||
        decode_segments(l, l->notes + (h->phdrs_offset - h->notes_offset), err) < 0)
        return -1;
    return check_data(l, err);
}

static struct image_link *link_create(const char *path, uint64_t at, struct err *err)
{
    struct image_link *l = calloc(1, sizeof *l);
    if (!l || !(l->path = strdup(path))) {
        free(l);
        image_err_code(err, ENOMEM, "%s: out of memory", path);
        return NULL;
    }
    l->fd = l->uncached_fd = -1;
    l->at = at;
    return l;
}

/* A shared lock says that the file is in use. A file system without locks (some NFS) is no reason
 * to refuse. */
static int open_locked(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_sys(err, "cannot open %s", path);
    if (flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
        close(fd);
        return image_err_code(err, EBUSY, "%s: in use by another process", path);
    }
    return fd;
}

static struct image_link *image_link_open(const char *path, struct err *err)
{
    struct image_link *l = link_create(path, 0, err);
    if (!l)
        return NULL;
    l->fd = open_locked(path, err);
    l->owns_fd = true;
    if (l->fd >= 0 && read_header(l, err) == 0 && read_metadata(l, err) == 0)
        return l;
    image_link_close(l);
    return NULL;
}

void image_link_close(struct image_link *l)
{
    if (!l)
        return;
    int saved = errno;
    if (l->owns_fd && l->fd >= 0)
        close(l->fd);
    if (l->uncached_fd >= 0)
        close(l->uncached_fd);
    codec_release(&l->arena);
    free(l->extents.list);
    free(l->notes);
    free(l->path);
    free(l);
    errno = saved;
}

/* ---- checksums of the pages ---- */

/* Index of the first extent, in file order, that ends after offset. */
static size_t extent_after(const struct image_extent *list, size_t n, uint64_t offset)
{
    size_t low = 0;
    while (low < n) {
        size_t mid = low + (n - low) / 2;
        if (list[mid].offset + (list[mid].end - list[mid].start) <= offset)
            low = mid + 1;
        else
            n = mid;
    }
    return low;
}

/* XXH3-128 of chunk i of the image: of the data pages in it. `buffer` has IMAGE_CHUNK bytes. 0, or
 * -1 with errno. */
static int chunk_sum(const struct image_link *l, const struct image_extent *list, size_t count,
                     size_t i, uint8_t *buffer, struct image_sum *sum)
{
    uint64_t begin = IMAGE_DATA_OFFSET + (uint64_t)i * IMAGE_CHUNK, end = begin + IMAGE_CHUNK;
    size_t len = 0;
    for (size_t e = extent_after(list, count, begin); e < count && list[e].offset < end; e++) {
        uint64_t from = list[e].offset > begin ? list[e].offset : begin;
        uint64_t to = list[e].offset + (list[e].end - list[e].start);
        to = to < end ? to : end;
        if (image_pread_all(l->fd, buffer + len, to - from, l->at + from) < 0)
            return -1;
        len += to - from;
    }
    *sum = image_sum(buffer, len);
    return 0;
}

static int damaged_chunk(const struct image_link *l, const struct image_extent *list, size_t n,
                         size_t chunk, struct err *err)
{
    uint64_t begin = IMAGE_DATA_OFFSET + (uint64_t)chunk * IMAGE_CHUNK, end = begin + IMAGE_CHUNK;
    end = end < l->header.file_size ? end : l->header.file_size;
    size_t e = extent_after(list, n, begin);
    uint64_t memory = list[e].start + (begin > list[e].offset ? begin - list[e].offset : 0);
    return image_err_damaged(
        err, l->path, "checksum of bytes %llu..%llu differs (memory from %#llx on)",
        (unsigned long long)begin, (unsigned long long)end - 1, (unsigned long long)memory);
}

static int link_verify(const struct image_link *l, struct err *err)
{
    size_t n, chunk = 0;
    uint8_t *buffer = malloc(IMAGE_CHUNK);
    struct image_extent *list = extents_by_offset(&l->extents, &n, err);
    if (!list || !buffer) {
        free(list);
        free(buffer);
        return image_err_code(err, ENOMEM, "%s: out of memory", l->path);
    }
    int rc = 0;
    for (size_t e = 0; e < n && rc == 0; e++) {
        uint64_t last = list[e].offset + (list[e].end - list[e].start) - 1;
        uint64_t first_chunk = (list[e].offset - IMAGE_DATA_OFFSET) / IMAGE_CHUNK;
        chunk = chunk > first_chunk ? chunk : first_chunk;
        for (; rc == 0 && chunk <= (last - IMAGE_DATA_OFFSET) / IMAGE_CHUNK; chunk++) {
            struct image_sum sum;
            if (chunk_sum(l, list, n, chunk, buffer, &sum) < 0)
                rc = err_sys(err, "cannot read %s", l->path);
            else if (image_sum_differs(&sum, &l->sums[chunk]))
                rc = damaged_chunk(l, list, n, chunk, err);
        }
    }
    free(list);
    free(buffer);
    return rc;
}

int image_verify(const char *path, struct err *err)
{
    struct image *image = image_open(path, err);
    int rc = image ? 0 : -1;
    for (size_t k = 0; rc == 0 && k < image->length; k++)
        rc = link_verify(image->chain[k], err);
    image_close(image);
    return rc;
}

/* ---- chains ---- */

static int chain_append(struct image *image, struct image_link *link, struct err *err)
{
    struct image_link **chain = reallocarray(image->chain, image->length + 1, sizeof *chain);
    if (!chain) {
        image_err_code(err, ENOMEM, "%s: out of memory", link->path);
        image_link_close(link);
        return -1;
    }
    image->chain = chain;
    image->chain[image->length++] = link;
    return 0;
}

static int open_file(struct image *image, const char *path, struct err *err)
{
    struct image_link *link = image_link_open(path, err);
    return link ? chain_append(image, link, err) : -1;
}

/* One increment of a segment whose file is open. */
static int open_increment(struct image *image, const struct image_name *name, int fd, bool owns_fd,
                          const struct image_increment *inc, struct err *err)
{
    char *path;
    if (asprintf(&path, "%.*s@%llu", (int)name->file_len, name->path,
                 (unsigned long long)inc->number) < 0)
        return image_err_code(err, ENOMEM, "%s: out of memory", name->path);
    struct image_link *link = link_create(path, inc->at, err);
    free(path);
    if (!link) {
        if (owns_fd)
            close(fd);
        return -1;
    }
    link->fd = fd;
    link->owns_fd = owns_fd;
    if (read_header(link, err) == 0 && read_metadata(link, err) == 0)
        return chain_append(image, link, err);
    image_link_close(link);
    return -1;
}

/* Index of the increment that the name means, -1 with *err if it is not there. */
static ssize_t find_increment(const struct image_name *name, const struct image_increment *list,
                              size_t n, struct err *err)
{
    for (size_t i = n; i-- > 0;)
        if (name->number == 0 || list[i].number == name->number)
            return (ssize_t)i;
    if (n == 0)
        return image_err_code(err, ENOENT, "%s: no whole increment in it", name->path);
    return image_err_code(err, ENOENT, "%s: no such increment: the whole ones are %llu to %llu",
                          name->path, (unsigned long long)list[0].number,
                          (unsigned long long)list[n - 1].number);
}

/* The increment and all before it in the segment. */
static int open_segment(struct image *image, const struct image_name *name, struct err *err)
{
    struct image_increment *list;
    size_t n;
    char *file = strndup(name->path, name->file_len);
    int fd = file ? open_locked(file, err) : image_err_code(err, ENOMEM, "out of memory");
    int rc = fd < 0 ? -1 : image_segment_scan(fd, file, &list, &n, err);
    free(file);
    if (rc < 0) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    ssize_t i = find_increment(name, list, n, err);
    if (i < 0) {
        close(fd);
        rc = -1;
    }
    for (bool first = true; rc == 0 && i >= 0; i--, first = false)
        rc = open_increment(image, name, fd, first, &list[i], err);
    free(list);
    return rc;
}

static int open_path(struct image *image, const char *path, struct err *err)
{
    struct image_name name;
    return image_name_parse(path, &name) ? open_segment(image, &name, err)
                                         : open_file(image, path, err);
}

/* Opens the parent under its name or, where that is of a segment, as the image that it was merged
 * into since. */
static int open_parent(struct image *image, struct err *err)
{
    struct image_link *child = image->chain[image->length - 1];
    size_t index = image->length;
    char *path = image_path_beside(child->path, child->state.parent);
    char *merged = path ? image_name_merged(path) : NULL;
    int rc;
    if (merged && access(merged, F_OK) == 0)
        rc = open_file(image, merged, err);
    else
        rc = path ? open_path(image, path, err)
                  : image_err_code(err, ENOMEM, "%s: out of memory", child->path);
    free(path);
    free(merged);
    if (rc < 0)
        return err_prefix(err, "parent of %s", child->path);
    const struct image_link *parent = image->chain[index];
    if (image_id_equal(&parent->header.id, &child->header.parent_id))
        return 0;
    char want[33], have[33];
    image_id_text(&child->header.parent_id, want);
    image_id_text(&parent->header.id, have);
    return image_err_code(err, ESTALE, "%s: its parent %s is another image (id %s, wanted %s)",
                          child->path, parent->path, have, want);
}

struct image *image_open(const char *path, struct err *err)
{
    struct image *image = calloc(1, sizeof *image);
    if (!image) {
        image_err_code(err, ENOMEM, "%s: out of memory", path);
        return NULL;
    }
    image->file_fd = -1;
    if (open_path(image, path, err) < 0)
        goto fail;
    while (image->chain[image->length - 1]->state.kind == IMAGE_INCREMENTAL) {
        if (image->length >= CHAIN_MAX) {
            image_err_damaged(err, path, "the chain of its parents does not end");
            goto fail;
        }
        if (open_parent(image, err) < 0)
            goto fail;
    }
    if (image_resolve(image, err) < 0)
        goto fail;
    return image;
fail:
    image_close(image);
    return NULL;
}

void image_close(struct image *image)
{
    if (!image)
        return;
    int saved = errno;
    for (size_t k = 0; k < image->length; k++)
        image_link_close(image->chain[k]);
    free(image->chain);
    free(image->pieces.list);
    free(image->steps.list);
    free(image->mapped);
    free(image->file_path);
    free(image->root);
    if (image->file_fd >= 0)
        close(image->file_fd);
    free(image);
    errno = saved;
}

const struct image_state *image_state(const struct image *image)
{
    return &image->chain[0]->state;
}

size_t image_chain_length(const struct image *image)
{
    return image->length;
}

const char *image_chain_path(const struct image *image, size_t k)
{
    return image->chain[k]->path;
}

int image_chain_fd(const struct image *image, size_t k)
{
    return image->chain[k]->fd;
}

const struct image_state *image_chain_state(const struct image *image, size_t k)
{
    return &image->chain[k]->state;
}
