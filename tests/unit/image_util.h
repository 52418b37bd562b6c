/*
 * image_util.h - a model of a process's memory for the tests of images
 *
 * The model is a window of pages at MODEL_BASE. Each page is unmapped, never touched, or has a
 * content made from a seed; a seed of 0 is a page of zeros. Regions are the mapped runs.
 */
#ifndef DBG3_TESTS_IMAGE_UTIL_H
#define DBG3_TESTS_IMAGE_UTIL_H

#include "runtime/image/image.h"

#define MODEL_BASE  UINT64_C(0x200000000000)
#define MODEL_PAGES 512

struct model {
    struct {
        bool mapped, touched, changed;
        uint32_t seed;
        uint32_t prot;
    } page[MODEL_PAGES];
    struct image_region regions[MODEL_PAGES];
    struct image_range changed[MODEL_PAGES];
    struct image_source source;
};

void model_init(struct model *m);
void model_map(struct model *m, unsigned first, unsigned count, uint32_t prot);
void model_unmap(struct model *m, unsigned first, unsigned count);
void model_store(struct model *m, unsigned page, uint32_t seed);
void page_fill(uint8_t *page, uint32_t seed, unsigned index);

/*
 * Writes the model. parent NULL: a full image, else an incremental one of the pages that changed
 * since the last call, with parent's id. Returns the id.
 */
struct image_id model_write(struct model *m, const char *path, const char *parent,
                            const struct image_id *parent_id, struct image_written *written);

/*
 * Appends the pages that changed since the last call to a segment, as checkpoint `number`. Returns
 * the id.
 */
struct model_segment {
    struct image_writer *writer;
    const char *path;
    int fd;
    uint64_t at;
};
struct image_id model_append(struct model *m, struct model_segment *segment, uint64_t number,
                             const char *parent, const struct image_id *parent_id);

/* 0 if the image holds just what the model holds; else 1, and says on standard error where. No
 * ck_assert: may be called in a forked child. */
int model_differs(const struct model *m, struct image *image);

/* Opens the image, compares, verifies if wanted, closes. Fails the test on a difference. */
void model_expect(const struct model *m, const char *path, bool verify);

/* Flips the bits `mask` of the byte at offset. */
void flip_byte(const char *path, long offset, uint8_t mask);

#endif
