/*
 * rsp.h - GDB remote serial protocol, packet layer
 *
 * A byte-fed state machine: it knows no socket, no target and no command.
 *
 *     GDB -> stub    + - ^C $payload#cs
 *     stub -> GDB    + - $payload#cs
 *
 * Until rsp_no_ack() each packet is acknowledged: a good one with '+', one with a wrong checksum
 * with '-'; a '-' from GDB sends the last packet again. Payloads handed out are unescaped (} xor
 * 0x20). What is sent is run-length encoded, because GDB takes packets character by character and
 * most of a register block is zeros; GDB itself never encodes.
 * Source: GDB manual, appendix E.1 Overview and E.5 Packet Acknowledgment.
 */
#ifndef DBG3_GDBBRIDGE_RSP_H
#define DBG3_GDBBRIDGE_RSP_H

#include <stddef.h>
#include <stdint.h>

/* Largest payload in both directions, as told to GDB with PacketSize. */
#define RSP_PACKET_MAX 0x10000

enum rsp_input {
    RSP_NOTHING,   /* more bytes are needed */
    RSP_PACKET,    /* rsp_payload() has a packet */
    RSP_INTERRUPT, /* GDB's Ctrl-C */
};

struct rsp;

/* `output` gets every byte for GDB, in whole packets and single acknowledgements. */
struct rsp *rsp_create(void (*output)(void *arg, const void *data, size_t size), void *arg);
void rsp_destroy(struct rsp *r);

/* Takes the next byte from GDB. */
enum rsp_input rsp_feed(struct rsp *r, uint8_t byte);

/* The packet just received, unescaped and followed by a NUL. Valid until the next rsp_feed(). */
const char *rsp_payload(const struct rsp *r, size_t *size);

/* Sends a packet. The payload must already be escaped where it is binary (bytes_binary). */
void rsp_send(struct rsp *r, const void *payload, size_t size);

/* Sends a notification, which is not acknowledged. */
void rsp_notify(struct rsp *r, const void *payload, size_t size);

/* From now on neither side acknowledges (QStartNoAckMode). */
void rsp_no_ack(struct rsp *r);

#endif
