/*
 * test_rsp_fake.h - a target without a process, for tests of the protocol
 *
 * Process 100 has threads 100 and 101, 256 bytes of memory at 0x1000 (byte i is i at first), and
 * registers of which byte i of the block is i + thread. resume() keeps what it was asked; the event
 * that poll() gives is the one queued last.
 */
#ifndef DBG3_TEST_RSP_FAKE_H
#define DBG3_TEST_RSP_FAKE_H

#include "gdbbridge/session.h"
#include "gdbbridge/target.h"

#define FAKE_MEMORY 0x1000
#define FAKE_SIZE   256

struct target *fake_create(bool reverse);
void fake_destroy(struct target *t);

/* What the next poll() reports. */
void fake_queue(struct target *t, const struct event *e);

/* What was done to the target since the last call, as text: "cont 100.101; insert 0 1004 1;
 * ...". */
const char *fake_deeds(struct target *t);

/*
 * What GDB or the target does in a conversation, by one line:
 *     -> vCont;c                      GDB sends a packet
 *     ^C                              or its interrupt
 *     == stopped 11 101 watch 1008    the target has an event: kind, code, thread, trap, address
 *     == reconnect                    another GDB connects
 * Returns false if the line is nothing of the kind.
 */
bool fake_line(struct target *t, struct session *s, const char *line);

void fake_packet(struct session *s, const char *payload, size_t size);

#endif
