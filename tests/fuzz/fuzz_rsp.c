/*
 * fuzz_rsp.c - any bytes from GDB are answered or ignored without harm
 */
#include <stdlib.h>

#include "gdbbridge/session.h"
#include "tests/unit/test_rsp_fake.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ignore(void *arg, const void *data, size_t size)
{
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct target *t = fake_create(size % 2);
    struct session *s = rsp_session_create(t, &(struct session_options){.output = ignore});
    session_connect(s);
    session_input(s, "$QStartNoAckMode#b0", 19); /* from here on checksums do not count */
    session_input(s, data, size);
    fake_queue(t, &(struct event){.kind = EVENT_STOPPED, .code = SIGTRAP, .thread = {100, 101}});
    session_poll(s);
    rsp_session_destroy(s);
    fake_destroy(t);
    return 0;
}
