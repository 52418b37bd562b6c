/*
 * payload.h - where a rank's payload log goes
 */
#ifndef DBG3_CKPT_PAYLOAD_H
#define DBG3_CKPT_PAYLOAD_H

#include <stdint.h>

/* Fills the gate's services of the log: the stub writes it, the lower half has its files. Once. */
void payload_init(void);

/* Microseconds of processor time that writing payload took so far: of large records, and of the
 * thread that frees full segments. */
uint64_t payload_spent_us(void);

#endif
