/*
 * rsp.c - GDB remote serial protocol, packet layer
 */
#include "gdbbridge/rsp.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "gdbbridge/bytes.h"

enum state { OUTSIDE, PAYLOAD, ESCAPED, CHECKSUM_HIGH, CHECKSUM_LOW };

struct rsp {
    void (*output)(void *arg, const void *data, size_t size);
    void *arg;
    enum state state;
    bool acks;
    bool too_long; /* the packet being read */
    uint8_t sum;
    int sum_high; /* first digit of the checksum as sent, or -1 */
    size_t size;
    struct bytes last; /* whole packet last sent, kept for a '-' */
    char payload[RSP_PACKET_MAX + 1];
};

struct rsp *rsp_create(void (*output)(void *, const void *, size_t), void *arg)
{
    struct rsp *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    r->output = output;
    r->arg = arg;
    r->acks = true;
    return r;
}

void rsp_destroy(struct rsp *r)
{
    if (!r)
        return;
    bytes_free(&r->last);
    free(r);
}

void rsp_no_ack(struct rsp *r)
{
    r->acks = false;
}

const char *rsp_payload(const struct rsp *r, size_t *size)
{
    *size = r->size;
    return r->payload;
}

static void begin(struct rsp *r)
{
    r->state = PAYLOAD;
    r->too_long = false;
    r->sum = 0;
    r->size = 0;
}

static void append(struct rsp *r, char c)
{
    if (r->size < RSP_PACKET_MAX)
        r->payload[r->size++] = c;
    else
        r->too_long = true;
}

static enum rsp_input outside(struct rsp *r, uint8_t byte)
{
    switch (byte) {
    case '$':
        begin(r);
        break;
    case 0x03:
        return RSP_INTERRUPT;
    case '-':
        if (r->acks && r->last.size)
            r->output(r->arg, r->last.data, r->last.size);
        break;
    default: /* '+', or noise between packets */
        break;
    }
    return RSP_NOTHING;
}

static void inside(struct rsp *r, uint8_t byte)
{
    if (byte == '$') { /* never part of a payload: the end of the last packet was lost */
        begin(r);
        return;
    }
    if (byte == '#') {
        r->state = CHECKSUM_HIGH;
        return;
    }
    r->sum += byte;
    if (r->state == ESCAPED) {
        append(r, (char)(byte ^ 0x20));
        r->state = PAYLOAD;
    } else if (byte == '}') {
        r->state = ESCAPED;
    } else {
        append(r, (char)byte);
    }
}

static enum rsp_input finish(struct rsp *r, uint8_t byte)
{
    int low = hex_digit((char)byte);
    bool good = r->sum_high >= 0 && low >= 0 && (r->sum_high << 4 | low) == r->sum;
    r->state = OUTSIDE;
    if (r->acks)
        r->output(r->arg, good ? "+" : "-", 1);
    if (!good && r->acks)
        return RSP_NOTHING;
    if (r->too_long)
        r->size = 0; /* as an unknown packet: GDB was told the limit */
    r->payload[r->size] = '\0';
    return RSP_PACKET;
}

enum rsp_input rsp_feed(struct rsp *r, uint8_t byte)
{
    switch (r->state) {
    case OUTSIDE:
        return outside(r, byte);
    case PAYLOAD:
    case ESCAPED:
        inside(r, byte);
        return RSP_NOTHING;
    case CHECKSUM_HIGH:
        r->sum_high = hex_digit((char)byte);
        r->state = CHECKSUM_LOW;
        return RSP_NOTHING;
    case CHECKSUM_LOW:
        return finish(r, byte);
    }
    abort();
}

#define RUN_LEAST 4  /* characters, with the first; fewer are not shorter in code */
#define RUN_MOST  98 /* so that the count, 29 more than the repeats, is printable */

/* A character and how often it is repeated: C, or C*N. N must not be a character that means
 * something between packets: the run is then made shorter. Returns how many it took. */
static size_t add_run(struct bytes *out, const char *p, size_t left)
{
    size_t n = 1;
    while (n < left && n < RUN_MOST && p[n] == p[0])
        n++;
    char code[3] = {p[0], '*', (char)(n - 1 + 29)};
    while (strchr("#$+-", code[2])) {
        n--;
        code[2]--;
    }
    if (n < RUN_LEAST)
        n = 1;
    bytes_add(out, code, n == 1 ? 1 : 3);
    return n;
}

/* The packet or notification (`start`) with its checksum, in `out`. */
static void frame(struct bytes *out, const char *start, const char *p, size_t size)
{
    uint8_t sum = 0;
    bytes_clear(out);
    bytes_add(out, start, 1);
    for (size_t i = 0; i < size;)
        i += add_run(out, p + i, size - i);
    for (size_t i = 1; i < out->size; i++)
        sum += (uint8_t)out->data[i];
    bytes_printf(out, "#%02x", sum);
}

void rsp_send(struct rsp *r, const void *payload, size_t size)
{
    frame(&r->last, "$", payload, size);
    r->output(r->arg, r->last.data, r->last.size);
}

void rsp_notify(struct rsp *r, const void *payload, size_t size)
{
    struct bytes packet = {0};
    frame(&packet, "%", payload, size);
    r->output(r->arg, packet.data, packet.size);
    bytes_free(&packet);
}
