/*
 * image_fold.c - merges an image into its parent in place
 *
 * Let A be the parent and B the child. A process killed at any point, and also the disk's being
 * full, leaves files from which B can be read:
 *
 *   1. check    B whole, and the chunks of A that will change: a bad page must not get a good
 * checksum
 *   2. mark     A's header: "a fold of B has begun". From here on A is readable only below B
 *   3. copy     B's pages over A's of the same address, or into pages of the file that A does not
 * use. A's old metadata stays valid: each page that changes under it is one that B hides
 *   4. commit   new metadata in unused pages, then the header with B's id, in one sector
 *   5. rename   A to B. A reader that comes between 4 and 5 finds B's id under A's name and takes
 * it
 *
 * 1 to 3 may be repeated; after 4 only 5 is left to do.
 *
 * Used pages of the file are kept in masks of 16 bits, one a chunk: a chunk is 16 pages.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "runtime/image/image_chain.h"

#define CHUNK_PAGES (IMAGE_CHUNK / IMAGE_PAGE)
#define COPY_SIZE   (1u << 20)
_Static_assert(CHUNK_PAGES == 16, "one bit of a mask for each page of a chunk");

/* One bit for each page of the file behind the header page. */
struct page_map {
    uint16_t *masks;
    size_t chunks;
};

/* Pages of B to be copied into A. */
struct transfer {
    uint64_t from, to, size; /* file offsets */
};

/* How far the merge has come in the three sorted lists that it walks. */
struct place {
    size_t old;    /* A's extents */
    size_t region; /* A's regions */
    size_t fresh;  /* B's extents */
};

struct fold {
    struct image_link *base, *child;
    bool sync;
    struct err *err;
    struct image_extents merged;
    struct transfer *transfers;
    size_t ntransfers, transfers_cap;
    struct page_map old;     /* A's pages as its old metadata has them */
    struct page_map now;     /* after the fold */
    struct page_map written; /* copied into */
    struct page_map taken;   /* not to be given away: old, now, and both metadata blocks */
    uint64_t next_free;      /* page where the search goes on */
    uint8_t *buffer;         /* COPY_SIZE bytes */
};

static int no_memory(struct fold *f)
{
    return image_err_code(f->err, ENOMEM, "%s: out of memory", f->base->path);
}

/* ---- page maps ---- */

static int map_reserve(struct page_map *map, size_t chunks)
{
    if (chunks <= map->chunks)
        return 0;
    chunks += chunks / 4;
    uint16_t *masks = reallocarray(map->masks, chunks, sizeof *masks);
    if (!masks)
        return -1;
    memset(masks + map->chunks, 0, (chunks - map->chunks) * sizeof *masks);
    map->masks = masks;
    map->chunks = chunks;
    return 0;
}

static bool map_has(const struct page_map *map, uint64_t page)
{
    return page / CHUNK_PAGES < map->chunks &&
           (map->masks[page / CHUNK_PAGES] >> page % CHUNK_PAGES & 1);
}

static uint16_t map_mask(const struct page_map *map, size_t chunk)
{
    return chunk < map->chunks ? map->masks[chunk] : 0;
}

/* Sets the pages of file bytes [offset, offset + size). */
static int map_set(struct page_map *map, uint64_t offset, uint64_t size)
{
    uint64_t page = (offset - IMAGE_DATA_OFFSET) / IMAGE_PAGE;
    uint64_t end = (offset + size - IMAGE_DATA_OFFSET + IMAGE_PAGE - 1) / IMAGE_PAGE;
    if (map_reserve(map, end / CHUNK_PAGES + 1) < 0)
        return -1;
    for (; page < end; page++)
        map->masks[page / CHUNK_PAGES] |= (uint16_t)(1u << page % CHUNK_PAGES);
    return 0;
}

static int map_extents(struct page_map *map, const struct image_extents *extents)
{
    for (size_t i = 0; i < extents->count; i++) {
        const struct image_extent *e = &extents->list[i];
        if (e->kind == IMAGE_EXTENT_DATA && map_set(map, e->offset, e->end - e->start) < 0)
            return -1;
    }
    return 0;
}

/* Pages behind the last one that is set. */
static uint64_t map_end(const struct page_map *map)
{
    for (size_t chunk = map->chunks; chunk-- > 0;) {
        if (map->masks[chunk])
            return chunk * CHUNK_PAGES + 32 - (unsigned)__builtin_clz(map->masks[chunk]);
    }
    return 0;
}

/* Takes up to `want` free pages in a row from next_free on; returns how many. */
static uint64_t take_pages(struct fold *f, uint64_t want, uint64_t *page)
{
    while (map_has(&f->taken, f->next_free))
        f->next_free++;
    uint64_t n = 0;
    while (n < want && !map_has(&f->taken, f->next_free + n))
        n++;
    *page = f->next_free;
    f->next_free += n;
    return map_set(&f->taken, IMAGE_DATA_OFFSET + *page * IMAGE_PAGE, n * IMAGE_PAGE) < 0 ? 0 : n;
}

/* First place for `want` pages in a row. */
static uint64_t find_pages(const struct fold *f, uint64_t want)
{
    uint64_t run = 0, end = map_end(&f->taken);
    for (uint64_t page = 0; page < end; page++) {
        run = map_has(&f->taken, page) ? 0 : run + 1;
        if (run == want)
            return page + 1 - want;
    }
    return end - run;
}

/* ---- merging the extents ---- */

static int add_transfer(struct fold *f, struct transfer t)
{
    if (f->ntransfers == f->transfers_cap) {
        size_t cap = f->transfers_cap ? f->transfers_cap * 2 : 64;
        struct transfer *list = reallocarray(f->transfers, cap, sizeof *list);
        if (!list)
            return no_memory(f);
        f->transfers = list;
        f->transfers_cap = cap;
    }
    f->transfers[f->ntransfers++] = t;
    return map_set(&f->written, t.to, t.size) < 0 ? no_memory(f) : 0;
}

static int add_merged(struct fold *f, size_t first, struct image_extent e)
{
    return image_extents_join(&f->merged, first, e) < 0 ? no_memory(f) : 0;
}

/* A's first extent that ends after addr. NULL: none. */
static const struct image_extent *old_extent(const struct fold *f, struct place *place,
                                             uint64_t addr)
{
    const struct image_extents *list = &f->base->extents;
    while (place->old < list->count && list->list[place->old].end <= addr)
        place->old++;
    return place->old < list->count ? &list->list[place->old] : NULL;
}

/* B's content: over A's page of that address where it has one, else into free pages. */
static int merge_data(struct fold *f, size_t first, const struct image_extent *e,
                      struct place *place)
{
    for (uint64_t at = e->start; at < e->end;) {
        const struct image_extent *old = old_extent(f, place, at);
        uint64_t end = e->end, to;
        if (old && old->start <= at && old->kind == IMAGE_EXTENT_DATA) {
            end = old->end < end ? old->end : end;
            to = old->offset + (at - old->start);
        } else {
            uint64_t limit = old && old->start > at ? old->start : old ? old->end : end;
            uint64_t page,
                n = take_pages(f, ((limit < end ? limit : end) - at) / IMAGE_PAGE, &page);
            if (n == 0)
                return no_memory(f);
            end = at + n * IMAGE_PAGE;
            to = IMAGE_DATA_OFFSET + page * IMAGE_PAGE;
        }
        if (add_transfer(f, (struct transfer){e->offset + (at - e->start), to, end - at}) < 0 ||
            add_merged(f, first, (struct image_extent){at, end, IMAGE_EXTENT_DATA, to}) < 0)
            return -1;
        at = end;
    }
    return 0;
}

/*
 * Memory that neither image tells. Where A has a region it is still the older images'; where A has
 * none it is new, and its fill must be said, or the older images' would show through.
 */
static int merge_untold(struct fold *f, size_t first, const struct image_region *r, uint64_t start,
                        uint64_t end, struct place *place)
{
    const struct image_state *base = &f->base->state;
    enum image_extent_kind fill =
        r->fill == IMAGE_FILL_FILE ? IMAGE_EXTENT_FILE : IMAGE_EXTENT_ZERO;
    while (start < end) {
        while (place->region < base->nregions && base->regions[place->region].end <= start)
            place->region++;
        const struct image_region *old =
            place->region < base->nregions ? &base->regions[place->region] : NULL;
        uint64_t from = old && old->start < end ? old->start : end;
        if (from > start && add_merged(f, first, (struct image_extent){start, from, fill, 0}) < 0)
            return -1;
        start = from < end ? old->end : end;
    }
    return 0;
}

/* Memory that B does not tell: what A tells. */
static int merge_gap(struct fold *f, size_t first, const struct image_region *r, uint64_t start,
                     uint64_t end, struct place *place)
{
    while (start < end) {
        const struct image_extent *old = old_extent(f, place, start);
        uint64_t from = old && old->start < end ? old->start : end;
        if (from > start) {
            if (merge_untold(f, first, r, start, from, place) < 0)
                return -1;
            start = from;
            continue;
        }
        struct image_extent e = *old;
        e.start = start;
        e.end = old->end < end ? old->end : end;
        if (e.kind == IMAGE_EXTENT_DATA)
            e.offset += start - old->start;
        else if (e.kind == IMAGE_EXTENT_FILE && r->fill != IMAGE_FILL_FILE)
            e.kind = IMAGE_EXTENT_ZERO;
        if (add_merged(f, first, e) < 0)
            return -1;
        start = e.end;
    }
    return 0;
}

static int merge_region(struct fold *f, const struct image_region *r, struct place *place)
{
    size_t first = f->merged.count;
    uint64_t at = r->start;
    const struct image_extents *fresh = &f->child->extents;
    for (; place->fresh < fresh->count && fresh->list[place->fresh].start < r->end;
         place->fresh++) {
        const struct image_extent *e = &fresh->list[place->fresh];
        if (merge_gap(f, first, r, at, e->start, place) < 0)
            return -1;
        int rc = e->kind == IMAGE_EXTENT_DATA ? merge_data(f, first, e, place)
                                              : add_merged(f, first, *e);
        if (rc < 0)
            return -1;
        at = e->end;
    }
    return merge_gap(f, first, r, at, r->end, place);
}

static int merge(struct fold *f)
{
    const struct image_header *h = &f->base->header;
    uint64_t meta_size = h->sums_offset + h->nsums * sizeof(struct image_sum) - h->notes_offset;
    if (map_extents(&f->old, &f->base->extents) < 0 ||
        map_extents(&f->taken, &f->base->extents) < 0 ||
        map_set(&f->taken, h->notes_offset, meta_size) < 0)
        return no_memory(f);
    struct place place = {0};
    for (size_t i = 0; i < f->child->state.nregions; i++) {
        if (merge_region(f, &f->child->state.regions[i], &place) < 0)
            return -1;
    }
    return map_extents(&f->now, &f->merged) < 0 ? no_memory(f) : 0;
}

/* ---- checksums ---- */

static bool chunk_changes(const struct fold *f, size_t chunk)
{
    return map_mask(&f->written, chunk) || map_mask(&f->old, chunk) != map_mask(&f->now, chunk);
}

/* The chunks of A that will change have to be right before. */
static int check_base(struct fold *f)
{
    size_t n;
    struct image_extent *list = image_extents_by_offset(&f->base->extents, &n, f->err);
    if (!list)
        return -1;
    int rc = 0;
    for (size_t chunk = 0; chunk < f->base->header.nsums && rc == 0; chunk++) {
        struct image_sum sum;
        if (!chunk_changes(f, chunk) || !map_mask(&f->old, chunk))
            continue;
        uint64_t at = IMAGE_DATA_OFFSET + (uint64_t)chunk * IMAGE_CHUNK;
        if (image_chunk_sum(f->base->fd, list, n, chunk, f->buffer, &sum) < 0)
            rc = err_sys(f->err, "cannot read %s", f->base->path);
        else if (image_sum_differs(&sum, &f->base->sums[chunk]))
            rc =
                image_err_damaged(f->err, f->base->path, "checksum of bytes %llu..%llu differs",
                                  (unsigned long long)at, (unsigned long long)at + IMAGE_CHUNK - 1);
    }
    free(list);
    return rc;
}

static int sum_chunks(struct fold *f, struct image_sum *sums, size_t nsums)
{
    size_t n;
    struct image_extent *list = image_extents_by_offset(&f->merged, &n, f->err);
    if (!list)
        return -1;
    int rc = 0;
    for (size_t chunk = 0; chunk < nsums && rc == 0; chunk++) {
        if (!chunk_changes(f, chunk) && chunk < f->base->header.nsums)
            sums[chunk] = f->base->sums[chunk];
        else if (map_mask(&f->now, chunk) &&
                 image_chunk_sum(f->base->fd, list, n, chunk, f->buffer, &sums[chunk]) < 0)
            rc = err_sys(f->err, "cannot read %s", f->base->path);
    }
    free(list);
    return rc;
}

/* ---- writing ---- */

static int sync_base(struct fold *f)
{
    if (f->sync && fdatasync(f->base->fd) < 0)
        return err_sys(f->err, "cannot sync %s", f->base->path);
    return 0;
}

static int write_header(struct fold *f, struct image_header *h)
{
    uint8_t sector[IMAGE_SECTOR];
    image_sector_encode(h, sector);
    if (image_pwrite_all(f->base->fd, sector, sizeof sector, 0) < 0)
        return err_sys(f->err, "cannot write %s", f->base->path);
    return sync_base(f);
}

static int copy_pages(struct fold *f)
{
    for (size_t i = 0; i < f->ntransfers; i++) {
        struct transfer t = f->transfers[i];
        while (t.size) {
            size_t n = t.size < COPY_SIZE ? t.size : COPY_SIZE;
            if (image_pread_all(f->child->fd, f->buffer, n, t.from) < 0)
                return err_sys(f->err, "cannot read %s", f->child->path);
            if (image_pwrite_all(f->base->fd, f->buffer, n, t.to) < 0)
                return err_sys(f->err, "cannot write %s", f->base->path);
            t.from += n;
            t.to += n;
            t.size -= n;
        }
    }
    return 0;
}

static int commit(struct fold *f)
{
    struct image_header h = f->base->header;
    struct image_state state = f->child->state;
    state.kind = f->base->state.kind;
    state.parent = f->base->state.parent;
    h.id = f->child->header.id;
    h.fold_id = (struct image_id){{0}};

    size_t nsums = (map_end(&f->now) + CHUNK_PAGES - 1) / CHUNK_PAGES;
    struct image_sum *sums = calloc(nsums + 1, sizeof *sums);
    struct codec_bytes meta = {0};
    int rc = sums ? sum_chunks(f, sums, nsums) : no_memory(f);
    if (rc == 0 && image_metadata_build(&state, &f->merged, sums, nsums, 0, &h, &meta) < 0)
        rc = no_memory(f);
    if (rc < 0)
        goto out;

    /* The block's size does not depend on its place. */
    uint64_t at =
        IMAGE_DATA_OFFSET + find_pages(f, (meta.len + IMAGE_PAGE - 1) / IMAGE_PAGE) * IMAGE_PAGE;
    meta.len = 0;
    rc = image_metadata_build(&state, &f->merged, sums, nsums, at, &h, &meta);
    if (rc < 0) {
        no_memory(f);
        goto out;
    }
    uint64_t data_end = IMAGE_DATA_OFFSET + map_end(&f->now) * IMAGE_PAGE;
    h.file_size = at + meta.len > data_end ? at + meta.len : data_end;
    rc = image_pwrite_all(f->base->fd, meta.data, meta.len, at);
    if (rc < 0)
        err_sys(f->err, "cannot write %s", f->base->path);
    else if ((rc = sync_base(f)) == 0 && (rc = write_header(f, &h)) == 0 &&
             ftruncate(f->base->fd, (off_t)h.file_size) < 0)
        rc = err_sys(f->err, "cannot truncate %s", f->base->path);
out:
    codec_bytes_release(&meta);
    free(sums);
    return rc;
}

/* ---- the whole ---- */

static int check_pair(struct fold *f)
{
    const struct image_header *a = &f->base->header, *b = &f->child->header;
    const char *slash_a = strrchr(f->base->path, '/'), *slash_b = strrchr(f->child->path, '/');
    size_t dir_a = slash_a ? (size_t)(slash_a - f->base->path) : 0;
    size_t dir_b = slash_b ? (size_t)(slash_b - f->child->path) : 0;
    if (dir_a != dir_b || memcmp(f->base->path, f->child->path, dir_a) != 0)
        return image_err_code(f->err, EINVAL, "cannot fold: %s and %s are not in the same folder",
                              f->base->path, f->child->path);
    if (!image_id_equal(&b->parent_id, &a->id))
        return image_err_code(f->err, ESTALE, "cannot fold: %s is not the parent of %s",
                              f->base->path, f->child->path);
    if (!image_id_is_zero(&a->fold_id) && !image_id_equal(&a->fold_id, &b->id))
        return image_err_code(f->err, ESTALE,
                              "%s: a fold of another image than %s into it has begun",
                              f->base->path, f->child->path);
    return 0;
}

static int fold_pages(struct fold *f)
{
    bool again = !image_id_is_zero(&f->base->header.fold_id);
    f->buffer = malloc(COPY_SIZE);
    if (!f->buffer)
        return no_memory(f);
    if (check_pair(f) < 0 || image_link_verify(f->child, f->err) < 0 || merge(f) < 0)
        return -1;
    if (!again) {
        struct image_header marked = f->base->header;
        marked.fold_id = f->child->header.id;
        if (check_base(f) < 0 || write_header(f, &marked) < 0)
            return -1;
    }
    return copy_pages(f) < 0 ? -1 : commit(f);
}

int image_fold(const char *base, const char *child, bool sync, struct err *err)
{
    struct fold f = {.sync = sync, .err = err};
    int rc = -1;
    f.base = image_link_open(base, LOCK_EX, true, err);
    f.child = f.base ? image_link_open(child, LOCK_EX, false, err) : NULL;
    if (!f.child)
        goto out;
    if (!image_id_equal(&f.base->header.id, &f.child->header.id) && fold_pages(&f) < 0)
        goto out;
    rc = rename(base, child);
    if (rc < 0)
        err_sys(err, "cannot rename %s to %s", base, child);
    else if (sync && (rc = image_sync_folder(child)) < 0)
        err_sys(err, "%s: cannot sync its folder", child);
out:
    image_link_close(f.base);
    image_link_close(f.child);
    free(f.merged.list);
    free(f.transfers);
    free(f.old.masks);
    free(f.now.masks);
    free(f.written.masks);
    free(f.taken.masks);
    free(f.buffer);
    return rc;
}
