/*
 * image_xsave.h - where the components of an XSAVE area are: here, and where GDB looks for them
 *
 * A processor tells (CPUID leaf 13). Core files do not, and GDB before 14 takes them to be where
 * Intel's processors have them; AMD's leave no gap for MPX, which they never had. Newer GDBs guess
 * from the size. So an image has them as Intel's do.
 */
#ifndef DBG3_IMAGE_XSAVE_H
#define DBG3_IMAGE_XSAVE_H

#include <stddef.h>
#include <stdint.h>

#include "runtime/image/image_format.h"

#define IMAGE_XSAVE_LEGACY   512u /* bytes: FXSAVE area, the same everywhere */
#define IMAGE_XSAVE_EXTENDED 576u /* ... and the header: what has no fixed place comes behind */

/* The components that GDB knows. */
#define IMAGE_XSAVE_KNOWN 0x2ffu

/* Offsets of components 0 to 15; 0: there is none. */
typedef unsigned image_xsave_offsets[16];

extern const image_xsave_offsets image_xsave_gdb; /* those that GDB knows */

/* Of this processor; lives as long as the process. */
const unsigned *image_xsave_here(void);

/*
 * Copies those of the components that GDB knows whose bits in `features` are set, from an area of
 * `size` bytes. Returns the end of the last one in `to`.
 */
size_t image_xsave_move(uint8_t *to, const unsigned *to_at, const uint8_t *from, size_t size,
                        const unsigned *from_at, uint64_t features);

/*
 * Adds what follows the FXSAVE area of a processor that has component i at at[i]. `features`: bits
 * of XCR0 of the components that the area has. What GDB does not know (AMX tiles: 8 KiB a thread)
 * is left out where it is in its initial state, or nothing is in its place: GDB warns of an area
 * that is longer.
 */
void image_xsave_add(struct codec_bytes *out, uint64_t features, const uint8_t *area, size_t size,
                     const unsigned *at);

#endif
