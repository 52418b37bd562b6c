/*
 * fuzz_session.c - conversations: packets, events, interrupts and new connections in any order
 *
 * The input is text, a line a deed (tests/unit/test_rsp_fake.h); other lines are bytes from GDB as
 * they are. Whatever comes, what the stub sends must be packets, notifications and acknowledgements
 * with right checksums.
 */
#include <stdlib.h>
#include <string.h>

#include "gdbbridge/bytes.h"
#include "gdbbridge/rsp.h"
#include "gdbbridge/session.h"
#include "tests/unit/test_rsp_fake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* One whole packet, or one acknowledgement. */
static void check(void *arg, const void *data, size_t size)
{
    const char *p = data;
    uint8_t sum = 0, said;
    if (size == 1 && (*p == '+' || *p == '-'))
        return;
    if (size < 4 || (*p != '$' && *p != '%') || p[size - 3] != '#' ||
        hex_decode(&said, 1, p + size - 2, 2) != 1)
        abort();
    for (size_t i = 1; i < size - 3; i++)
        sum += (uint8_t)p[i];
    if (sum != said || size > RSP_PACKET_MAX + 4)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct target *t = fake_create(size % 2);
    struct event stop = {.kind = EVENT_STOPPED, .code = SIGTRAP, .thread = {100, 100}};
    struct session *s =
        rsp_session_create(t, &(struct session_options){.output = check, .stop = &stop});
    session_connect(s);
    for (size_t at = 0, n; at < size; at += n + 1) {
        char line[4096];
        const uint8_t *end = memchr(data + at, '\n', size - at);
        n = end ? (size_t)(end - data) - at : size - at;
        size_t kept = n < sizeof line - 1 ? n : sizeof line - 1;
        memcpy(line, data + at, kept);
        line[kept] = '\0';
        if (!fake_line(t, s, line))
            session_input(s, line, kept);
    }
    rsp_session_destroy(s);
    fake_destroy(t);
    return 0;
}
