/*
 * fatal.h - last words of a rank
 */
#ifndef DBG3_CKPT_FATAL_H
#define DBG3_CKPT_FATAL_H

/* Fills GATE->fatal and fatal_mask: a fatal signal that the application does not handle leaves a
 * failure image, is reported, and then kills the rank as it would have. */
void fatal_install(void);

/* [agent] The job hangs: writes a failure image of the rank as it is, reports it, goes on. */
void fatal_examine(const char *why);

#endif
