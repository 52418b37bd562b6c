/*
 * loaded.h - which libraries a saved process has loaded, as its dynamic linker lists them
 */
#ifndef DBG3_PACK_LOADED_H
#define DBG3_PACK_LOADED_H

#include "runtime/image/image.h"

/*
 * Calls `name` with each name of the dynamic linker's list (struct link_map in <link.h>): the path
 * that it was opened by, by which GDB looks for it too, and which may lead over symbolic links. A
 * list that cannot be read ends early.
 */
void loaded_names(struct image *image, void (*name)(void *arg, const char *path), void *arg);

#endif
