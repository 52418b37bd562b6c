/*
 * image_xsave.h - a thread's vector registers, where GDB looks for them
 *
 * The processor says where the components of an XSAVE area are (CPUID leaf 13). Core files do not,
 * and GDB before 14 takes them to be where Intel's processors have them; AMD's leave no gap for
 * MPX, which they never had. Newer GDBs guess from the size.
 */
#ifndef DBG3_IMAGE_XSAVE_H
#define DBG3_IMAGE_XSAVE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/image/image_format.h"

#define IMAGE_XSAVE_LEGACY 512u /* bytes: FXSAVE area, the same everywhere */

/*
 * Adds what follows the FXSAVE area. `features`: XCR0's bits of the components that the area has.
 * Components that GDB does not know (AMX tiles: 8 KiB a thread) are left out where they are in
 * their initial state, or cannot be where Intel has them: GDB warns of an area that is longer.
 */
void image_xsave_add(struct codec_bytes *out, uint64_t features, const uint8_t *area, size_t size);

/* The same for a processor that has component i at offset[i]. */
void image_xsave_add_from(struct codec_bytes *out, uint64_t features, const uint8_t *area,
                          size_t size, const unsigned offset[16]);

#endif
