/*
 * session_state.c - threads, registers, memory, break- and watchpoints
 */
#include <stdlib.h>
#include <string.h>

#include "gdbbridge/session_private.h"

/* ------------------------------------------------------------------ threads */

static void select_thread(struct session *s, const struct rsp_param *p, struct ptid *which)
{
    struct ptid thread;
    if (p[0].thread.tid > 0 && session_resolve(s, p[0].thread, &thread)) {
        reply_error(s, 1);
        return;
    }
    *which = p[0].thread.tid > 0 ? thread : p[0].thread;
    reply_ok(s);
}

static void run_select_general(struct session *s, const struct rsp_param *p)
{
    select_thread(s, p, &s->general);
}

static void run_select_resumed(struct session *s, const struct rsp_param *p)
{
    select_thread(s, p, &s->resumed);
}

static void run_thread_alive(struct session *s, const struct rsp_param *p)
{
    struct ptid thread;
    if (session_resolve(s, p[0].thread, &thread))
        reply_error(s, 1);
    else
        reply_ok(s);
}

/* ------------------------------------------------------------------ registers */

/* The general thread's registers, to be freed; NULL after an error answer. */
static uint8_t *read_block(struct session *s, struct ptid *thread, size_t *size)
{
    *size = registers_block_size(s->ops->registers(s->target));
    uint8_t *block = malloc(*size);
    if (!block)
        abort();
    if (!session_general(s, thread) && !s->ops->read_registers(s->target, *thread, block))
        return block;
    free(block);
    reply_error(s, 1);
    return NULL;
}

static void write_block(struct session *s, struct ptid thread, const uint8_t *block)
{
    if (s->ops->write_registers(s->target, thread, block))
        reply_error(s, 1);
    else
        reply_ok(s);
}

static void run_read_all(struct session *s, const struct rsp_param *p)
{
    struct ptid thread;
    size_t size;
    uint8_t *block = read_block(s, &thread, &size);
    if (block)
        bytes_hex(&s->reply, block, size);
    free(block);
}

static void run_write_all(struct session *s, const struct rsp_param *p)
{
    struct ptid thread;
    size_t size;
    uint8_t *block = read_block(s, &thread, &size);
    if (!block)
        return;
    if (hex_decode(block, size, p[0].text, p[0].size) != (long)size)
        reply_error(s, 22);
    else
        write_block(s, thread, block);
    free(block);
}

/* The block, in it `bytes` of one register; NULL: an error has been answered. */
static uint8_t *read_register(struct session *s, uint64_t number, struct ptid *thread,
                              size_t *offset, size_t *bytes)
{
    size_t size;
    *bytes = registers_find(s->ops->registers(s->target), (unsigned)number, offset);
    if (*bytes)
        return read_block(s, thread, &size);
    reply_error(s, 1);
    return NULL;
}

static void run_read_register(struct session *s, const struct rsp_param *p)
{
    struct ptid thread;
    size_t offset, bytes;
    uint8_t *block = read_register(s, p[0].number, &thread, &offset, &bytes);
    if (block)
        bytes_hex(&s->reply, block + offset, bytes);
    free(block);
}

static void run_write_register(struct session *s, const struct rsp_param *p)
{
    struct ptid thread;
    size_t offset, bytes;
    uint8_t *block = read_register(s, p[0].number, &thread, &offset, &bytes);
    if (!block)
        return;
    if (hex_decode(block + offset, bytes, p[1].text, p[1].size) != (long)bytes)
        reply_error(s, 22);
    else
        write_block(s, thread, block);
    free(block);
}

/* ------------------------------------------------------------------ memory */

#define MEMORY_MAX (RSP_PACKET_MAX / 2 - 8) /* bytes that fit into one packet in hex */

static void run_read_memory(struct session *s, const struct rsp_param *p)
{
    pid_t pid;
    size_t size = p[1].number < MEMORY_MAX ? (size_t)p[1].number : MEMORY_MAX;
    uint8_t *data = malloc(size + 1);
    if (!data)
        abort();
    ssize_t n = -1;
    if (!session_process(s, &pid))
        n = s->ops->read_memory(s->target, pid, p[0].number, data, size);
    if (n < 0 || (n == 0 && size))
        reply_error(s, 1);
    else
        bytes_hex(&s->reply, data, (size_t)n);
    free(data);
}

static void write_memory(struct session *s, uint64_t addr, const void *data, size_t size)
{
    pid_t pid;
    if (session_process(s, &pid) ||
        (size && s->ops->write_memory(s->target, pid, addr, data, size)))
        reply_error(s, 1);
    else
        reply_ok(s);
}

static void run_write_memory(struct session *s, const struct rsp_param *p)
{
    uint8_t *data = malloc(p[2].size / 2 + 1);
    if (!data)
        abort();
    long n = hex_decode(data, p[2].size / 2, p[2].text, p[2].size);
    if (n < 0 || (uint64_t)n != p[1].number)
        reply_error(s, 22);
    else
        write_memory(s, p[0].number, data, (size_t)n);
    free(data);
}

static void run_write_binary(struct session *s, const struct rsp_param *p)
{
    if (p[2].size != p[1].number)
        reply_error(s, 22);
    else
        write_memory(s, p[0].number, p[2].text, p[2].size);
}

#define SEARCH_STEP 0x10000

/* qSearch:memory:ADDR;LENGTH;PATTERN */
static void run_search(struct session *s, const struct rsp_param *p)
{
    uint64_t addr = p[0].number, left = p[1].number;
    size_t pattern = p[2].size;
    pid_t pid;
    if (!pattern || session_process(s, &pid)) {
        reply_error(s, 22);
        return;
    }
    uint8_t *data = malloc(SEARCH_STEP + pattern);
    if (!data)
        abort();
    while (left >= pattern) {
        size_t want = left < SEARCH_STEP + pattern - 1 ? (size_t)left : SEARCH_STEP + pattern - 1;
        ssize_t n = s->ops->read_memory(s->target, pid, addr, data, want);
        if (n < (ssize_t)want) {
            reply_error(s, 14);
            goto out;
        }
        const uint8_t *found = memmem(data, want, p[2].text, pattern);
        if (found) {
            bytes_printf(&s->reply, "1,%llx",
                         (unsigned long long)(addr + (uint64_t)(found - data)));
            goto out;
        }
        addr += want - pattern + 1;
        left -= want - pattern + 1;
    }
    bytes_text(&s->reply, "0");
out:
    free(data);
}

/* GDB's CRC32 is the one of its compare-sections command: not reflected, no final complement. */
static uint32_t crc(uint32_t value, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        value ^= (uint32_t)data[i] << 24;
        for (int bit = 0; bit < 8; bit++)
            value = value & 0x80000000u ? value << 1 ^ 0x04c11db7u : value << 1;
    }
    return value;
}

static void run_crc(struct session *s, const struct rsp_param *p)
{
    uint64_t addr = p[0].number, left = p[1].number;
    uint32_t value = 0xffffffffu;
    uint8_t data[4096];
    pid_t pid;
    if (session_process(s, &pid)) {
        reply_error(s, 1);
        return;
    }
    while (left) {
        size_t want = left < sizeof data ? (size_t)left : sizeof data;
        if (s->ops->read_memory(s->target, pid, addr, data, want) < (ssize_t)want) {
            reply_error(s, 14);
            return;
        }
        value = crc(value, data, want);
        addr += want;
        left -= want;
    }
    bytes_printf(&s->reply, "C%x", value);
}

/* ------------------------------------------------------------------ break- and watchpoints */

static int set_script(struct session *s, const struct rsp_param *p, pid_t pid)
{
    bool executed = p[0].number == POINT_SW || p[0].number == POINT_HW;
    if (!s->ops->script_point || !executed)
        return 0;
    return s->ops->script_point(s->target, pid, (enum point)p[0].number, p[1].number, p[3].text,
                                p[3].present ? p[3].size : 0);
}

static void point(struct session *s, const struct rsp_param *p, bool inserts,
                  int (*op)(struct target *, pid_t, enum point, uint64_t, size_t))
{
    pid_t pid;
    if (p[0].number > POINT_ACCESS)
        return; /* unknown kind */
    int r = -1;
    if (!session_process(s, &pid))
        r = op(s->target, pid, (enum point)p[0].number, p[1].number, (size_t)p[2].number);
    if (r == 0 && inserts)
        r = set_script(s, p, pid);
    if (r == 0)
        reply_ok(s);
    else if (r != POINT_UNSUPPORTED)
        reply_error(s, 1);
}

static void run_insert_point(struct session *s, const struct rsp_param *p)
{
    point(s, p, true, s->ops->insert_point);
}

static void run_remove_point(struct session *s, const struct rsp_param *p)
{
    point(s, p, false, s->ops->remove_point);
}

static const struct rsp_command session_state_rows[] = {
    {"Hg", "t", run_select_general, NULL},
    {"Hc", "t", run_select_resumed, NULL},
    {"T", "t", run_thread_alive, NULL},
    {"g", "", run_read_all, NULL},
    {"G", "b", run_write_all, NULL},
    {"p", "x", run_read_register, NULL},
    {"P", "x=b", run_write_register, NULL},
    {"m", "x,x", run_read_memory, NULL},
    {"M", "x,x:b", run_write_memory, NULL},
    {"X", "x,x:b", run_write_binary, NULL},
    {"qSearch:memory:", "x;x;b", run_search, NULL},
    {"qCRC:", "x,x", run_crc, NULL},
    {"Z", "x,x,x|;b", run_insert_point, NULL},
    {"z", "x,x,x|;b", run_remove_point, NULL},
};
COMMAND_TABLE(session_state);
