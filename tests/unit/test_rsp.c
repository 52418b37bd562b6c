/*
 * test_rsp.c - GDB remote protocol: packets, commands, and whole conversations with a fake target
 *
 * A conversation is a golden file (tests/golden/rsp-*.txt): "-> packet" lines are sent, "== event"
 * lines
 * queue an event of the target, and what the stub answers ("<- packet") and does to the target ("
 * deeds")
 * must be what the file says. GOLDEN_UPDATE=1 writes it anew.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gdbbridge/bytes.h"
#include "gdbbridge/rsp.h"
#include "gdbbridge/rsp_command.h"
#include "gdbbridge/session.h"
#include "gdbbridge/signals.h"
#include "tests/unit/test_rsp_fake.h"
#include "tests/unit/unit.h"


static void collect(void *arg, const void *data, size_t size)
{
    bytes_add(arg, data, size);
}

/* ------------------------------------------------------------------ packets */

/* What is fed, what comes out of the layer, and what it sends back. */
static const struct {
    const char *input, *packets, *output;
} packet_cases[] = {
    {"$g#67", "[g]", "+"},
    {"+$g#67", "[g]", "+"},
    {"$g#68", "", "-"},
    {"$g#zz", "", "-"},
    {"$#00", "[]", "+"},
    {"\003$?#3f\003", "<int>[?]<int>", "+"},
    {"noise+-+$?#3f", "[?]", "+"},
    {"$m1,$g#67", "[g]", "+"},          /* the end of the first was lost */
    {"$X1,1:}\003#a0", "[X1,1:#]", "+"}, /* escaped # */
    {"$X1,1:}]#fa", "[X1,1:}]", "+"},
    {"$a#61$b#62", "[a][b]", "++"},
    {"$a#6", "", ""},
};

START_TEST(packets)
{
    const char *input = packet_cases[_i].input;
    struct bytes out = {0}, got = {0};
    struct rsp *r = rsp_create(collect, &out);
    bytes_text(&got, "");
    bytes_text(&out, "");
    for (const char *p = input; *p; p++) {
        size_t size;
        switch (rsp_feed(r, (uint8_t)*p)) {
        case RSP_PACKET:
            bytes_printf(&got, "[%s]", rsp_payload(r, &size));
            break;
        case RSP_INTERRUPT:
            bytes_text(&got, "<int>");
            break;
        case RSP_NOTHING:
            break;
        }
    }
    ck_assert_str_eq(got.data, packet_cases[_i].packets);
    ck_assert_str_eq(out.data, packet_cases[_i].output);
    rsp_destroy(r);
    bytes_free(&out);
    bytes_free(&got);
}
END_TEST

static int feed(struct rsp *r, const char *text)
{
    int whole = 0;
    for (; *text; text++)
        whole += rsp_feed(r, (uint8_t)*text) == RSP_PACKET;
    return whole;
}

START_TEST(nack_sends_again)
{
    struct bytes out = {0};
    struct rsp *r = rsp_create(collect, &out);
    feed(r, "-");
    ck_assert_uint_eq(out.size, 0);
    rsp_send(r, "OK", 2);
    ck_assert_str_eq(out.data, "$OK#9a");
    feed(r, "-");
    ck_assert_str_eq(out.data, "$OK#9a$OK#9a");
    feed(r, "+");
    ck_assert_str_eq(out.data, "$OK#9a$OK#9a");
    rsp_destroy(r);
    bytes_free(&out);
}
END_TEST

START_TEST(runs)
{
    static const struct {
        int zeros;
        const char *sent;
    } cases[] = {
        {1, "$0#30"},      {3, "$000#90"},      {4, "$0* #7a"},     {6, "$0*\"#7c"},
        {7, "$0*\"0#ac"},  {8, "$0*\"00#dc"},   {9, "$0*%#7f"},     {15, "$0**0#b4"},
        {98, "$0*~#d8"},   {99, "$0*~0#08"},    {102, "$0*~0* #52"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bytes out = {0};
        char zeros[128];
        struct rsp *r = rsp_create(collect, &out);
        memset(zeros, '0', sizeof zeros);
        rsp_send(r, zeros, (size_t)cases[i].zeros);
        ck_assert_str_eq(out.data, cases[i].sent);
        rsp_destroy(r);
        bytes_free(&out);
    }
}
END_TEST

START_TEST(without_acks)
{
    struct bytes out = {0};
    struct rsp *r = rsp_create(collect, &out);
    rsp_no_ack(r);
    ck_assert_int_eq(feed(r, "$g#67"), 1);
    ck_assert_int_eq(feed(r, "$g#00"), 1); /* the stream is reliable */
    ck_assert_uint_eq(out.size, 0);
    rsp_send(r, "OK", 2);
    feed(r, "-");
    ck_assert_str_eq(out.data, "$OK#9a");
    rsp_destroy(r);
    bytes_free(&out);
}
END_TEST

START_TEST(too_long_is_unknown)
{
    struct bytes out = {0};
    size_t size;
    struct rsp *r = rsp_create(collect, &out);
    rsp_no_ack(r);
    rsp_feed(r, '$');
    for (int i = 0; i < RSP_PACKET_MAX; i++)
        rsp_feed(r, 'm');
    ck_assert_int_eq(feed(r, "#00"), 1);
    rsp_payload(r, &size);
    ck_assert_uint_eq(size, RSP_PACKET_MAX);
    rsp_feed(r, '$');
    for (int i = 0; i <= RSP_PACKET_MAX; i++)
        rsp_feed(r, 'm');
    ck_assert_int_eq(feed(r, "#00"), 1);
    ck_assert_str_eq(rsp_payload(r, &size), "");
    rsp_destroy(r);
    bytes_free(&out);
}
END_TEST

START_TEST(coding)
{
    static const char data[] = "a#b$c}d*";
    struct bytes b = {0};
    uint8_t out[4];
    ck_assert_uint_eq(bytes_binary(&b, data, 8, 100), 8);
    ck_assert_str_eq(b.data, "a}\003b}\004c}]d}\n");
    bytes_clear(&b);
    ck_assert_uint_eq(bytes_binary(&b, data, 8, 2), 1); /* the # needs two more */
    bytes_clear(&b);
    bytes_hex(&b, "\x01\xfe", 2);
    ck_assert_str_eq(b.data, "01fe");
    ck_assert_int_eq(hex_decode(out, sizeof out, "01Fe", 4), 2);
    ck_assert_mem_eq(out, "\x01\xfe", 2);
    ck_assert_int_eq(hex_decode(out, sizeof out, "01f", 3), -1);
    ck_assert_int_eq(hex_decode(out, sizeof out, "0g", 2), -1);
    ck_assert_int_eq(hex_decode(out, 1, "0102", 4), -1);
    bytes_free(&b);
}
END_TEST

/* ------------------------------------------------------------------ commands */

static bool never(const struct session *s)
{
    return false;
}

static const struct rsp_command table[] = {
    {"m", "x,x", NULL, NULL},
    {"M", "x,x:b", NULL, NULL},
    {"Hg", "t", NULL, NULL},
    {"D", "|;x", NULL, NULL},
    {"qC", "", NULL, NULL},
    {"qCRC:", "x,x", NULL, NULL},
    {"vCont?", "", NULL, NULL},
    {"vCont;", "b", NULL, NULL},
    {"qXfer:", "w:read:w:x,x", NULL, NULL},
    {"bs", "", NULL, never},
};

static const struct {
    const char *packet;
    enum rsp_parse result;
    const char *name;
} command_cases[] = {
    {"m1000,4", RSP_PARSED, "m"},
    {"m1000", RSP_MALFORMED, "m"},
    {"m1000,4x", RSP_MALFORMED, "m"},
    {"m,4", RSP_MALFORMED, "m"},
    {"m11112222333344445,4", RSP_MALFORMED, "m"},
    {"M1000,2:abcd", RSP_PARSED, "M"},
    {"Hgp1.-1", RSP_PARSED, "Hg"},
    {"Hg0", RSP_PARSED, "Hg"},
    {"Hgx", RSP_MALFORMED, "Hg"},
    {"Hgp1.", RSP_MALFORMED, "Hg"},
    {"D", RSP_PARSED, "D"},
    {"D;1f", RSP_PARSED, "D"},
    {"D1f", RSP_MALFORMED, "D"},
    {"qC", RSP_PARSED, "qC"},
    {"qCRC:1,2", RSP_PARSED, "qCRC:"},
    {"qCatch", RSP_UNKNOWN, NULL},
    {"vCont?", RSP_PARSED, "vCont?"},
    {"vCont;c", RSP_PARSED, "vCont;"},
    {"vContinue", RSP_UNKNOWN, NULL},
    {"vMustReplyEmpty", RSP_UNKNOWN, NULL},
    {"qXfer:auxv:read::0,1000", RSP_PARSED, "qXfer:"},
    {"qXfer:auxv:write::0,1000", RSP_MALFORMED, "qXfer:"},
    {"bs", RSP_UNKNOWN, NULL},
    {"", RSP_UNKNOWN, NULL},
};

START_TEST(commands)
{
    struct rsp_param p[RSP_PARAMS_MAX];
    const struct rsp_command *c = NULL;
    const char *packet = command_cases[_i].packet;
    enum rsp_parse r = rsp_command_parse(table, sizeof table / sizeof table[0], NULL, packet,
                                         strlen(packet), &c, p);
    ck_assert_msg(r == command_cases[_i].result, "%s: %d", packet, r);
    if (command_cases[_i].name)
        ck_assert_str_eq(c->name, command_cases[_i].name);
}
END_TEST

START_TEST(parameters)
{
    struct rsp_param p[RSP_PARAMS_MAX];
    const struct rsp_command *c;
    const size_t n = sizeof table / sizeof table[0];
    ck_assert_int_eq(rsp_command_parse(table, n, NULL, "M10,2:a:,", 9, &c, p), RSP_PARSED);
    ck_assert_uint_eq(p[0].number, 0x10);
    ck_assert_uint_eq(p[1].number, 2);
    ck_assert_uint_eq(p[2].size, 3);
    ck_assert_mem_eq(p[2].text, "a:,", 3);
    ck_assert_int_eq(rsp_command_parse(table, n, NULL, "Hgp1f.-1", 8, &c, p), RSP_PARSED);
    ck_assert_int_eq(p[0].thread.pid, 0x1f);
    ck_assert_int_eq(p[0].thread.tid, -1);
    ck_assert_int_eq(rsp_command_parse(table, n, NULL, "Hg20", 4, &c, p), RSP_PARSED);
    ck_assert_int_eq(p[0].thread.pid, 0);
    ck_assert_int_eq(p[0].thread.tid, 0x20);
    ck_assert_int_eq(rsp_command_parse(table, n, NULL, "D", 1, &c, p), RSP_PARSED);
    ck_assert(!p[0].present);
    ck_assert_int_eq(rsp_command_parse(table, n, NULL, "qXfer:a:read:b c:1,2", 20, &c, p),
                     RSP_PARSED);
    ck_assert_uint_eq(p[0].size, 1);
    ck_assert_uint_eq(p[1].size, 3);
    ck_assert_uint_eq(p[3].number, 2);
}
END_TEST

START_TEST(signal_numbers)
{
    for (int signo = 0; signo <= 64; signo++) {
        int number = signal_to_gdb(signo);
        if (signo == SIGSTKFLT)
            ck_assert_int_eq(number, GDB_SIGNAL_UNKNOWN);
        else
            ck_assert_int_eq(signal_from_gdb(number), signo);
    }
    ck_assert_int_eq(signal_to_gdb(SIGSEGV), 11);
    ck_assert_int_eq(signal_to_gdb(SIGUSR1), 30);
    ck_assert_int_eq(signal_to_gdb(SIGBUS), 10);
    ck_assert_int_eq(signal_to_gdb(34), 46);
    ck_assert_int_eq(signal_from_gdb(7), -1); /* SIGEMT */
    ck_assert_int_eq(signal_from_gdb(GDB_SIGNAL_UNKNOWN), -1);
}
END_TEST

/* ------------------------------------------------------------------ conversations */

static void add_printable(struct bytes *out, char c)
{
    bytes_printf(out, c >= ' ' && c < 127 ? "%c" : "\\%02x", (unsigned char)c);
}

/* The packets in what was sent, one a line, runs expanded, unprintable bytes as \xx;
 * acknowledgements left out. */
static void add_answers(struct bytes *transcript, struct bytes *sent)
{
    const char *p = sent->data, *end = sent->data + sent->size;
    while (p && p < end) {
        const char *start = p;
        while (start < end && *start != '$' && *start != '%')
            start++;
        const char *stop = memchr(start, '#', (size_t)(end - start));
        if (!stop)
            break;
        bytes_text(transcript, *start == '$' ? "<- " : "<- % ");
        for (const char *c = start + 1; c < stop; c++) {
            if (*c != '*') {
                add_printable(transcript, *c);
                continue;
            }
            for (int n = *++c - 29; n > 0; n--)
                add_printable(transcript, c[-2]);
        }
        bytes_text(transcript, "\n");
        p = stop + 3;
    }
    bytes_clear(sent);
}

/* Holds the conversation whose side of GDB is in `script`. */
static void converse(const char *script, bool reverse, struct bytes *transcript)
{
    struct bytes sent = {0};
    struct target *t = fake_create(reverse);
    struct event stop = {.kind = EVENT_STOPPED, .code = SIGTRAP, .thread = {100, 100}};
    struct session *s = rsp_session_create(
        t, &(struct session_options){.output = collect, .arg = &sent, .stop = &stop});
    session_connect(s);
    while (*script) {
        size_t size = strcspn(script, "\n");
        char line[4096];
        snprintf(line, sizeof line, "%.*s", (int)size, script);
        script += size + (script[size] == '\n');
        bool deed = fake_line(t, s, line);
        if (!deed && line[0] != '#' && line[0])
            continue; /* the stub's side */
        bytes_printf(transcript, "%s\n", line);
        add_answers(transcript, &sent);
        const char *deeds = fake_deeds(t);
        if (deed && *deeds)
            bytes_printf(transcript, "   %.*s\n", (int)strlen(deeds) - 2, deeds);
    }
    bytes_printf(transcript, "# done: %s\n", session_done(s) ? "yes" : "no");
    rsp_session_destroy(s);
    fake_destroy(t);
    bytes_free(&sent);
}

static const char *const conversations[] = {"state", "run", "query", "old", "reverse", "non-stop"};

START_TEST(conversation)
{
    char name[64], path[128];
    struct bytes transcript = {0};
    size_t size;
    snprintf(name, sizeof name, "rsp-%s.txt", conversations[_i]);
    snprintf(path, sizeof path, "tests/golden/%s", name);
    char *golden = unit_read(path, &size);
    char *tail = strstr(golden, "# done: ");
    struct bytes script = {0};
    bytes_add(&script, golden, tail ? (size_t)(tail - golden) : size);
    converse(script.data, !strcmp(conversations[_i], "reverse"), &transcript);
    unit_golden(name, transcript.data);
    bytes_free(&transcript);
    bytes_free(&script);
    free(golden);
}
END_TEST

/* A GDB that vanished while the program ran: the next one is told of the stop when it asks. */
START_TEST(next_connection)
{
    struct bytes sent = {0}, said = {0};
    struct target *t = fake_create(false);
    struct event stop = {.kind = EVENT_STOPPED, .code = SIGTRAP, .thread = {100, 100}};
    struct session *s = rsp_session_create(
        t, &(struct session_options){.output = collect, .arg = &sent, .stop = &stop});
    session_connect(s);
    fake_packet(s, "vCont;c", 7);
    session_connect(s);
    ck_assert_ptr_nonnull(strstr(fake_deeds(t), "interrupt; "));
    bytes_clear(&sent);
    fake_queue(t, &(struct event){.kind = EVENT_STOPPED, .code = SIGINT, .thread = {100, 101}});
    session_poll(s);
    ck_assert_uint_eq(sent.size, 0); /* nobody has asked */
    fake_packet(s, "?", 1);
    add_answers(&said, &sent);
    ck_assert_ptr_nonnull(strstr(said.data, "<- T02"));
    ck_assert_ptr_nonnull(strstr(said.data, "thread:65;"));
    rsp_session_destroy(s);
    fake_destroy(t);
    bytes_free(&sent);
    bytes_free(&said);
}
END_TEST

START_TEST(corpus)
{
    unit_corpus("rsp", 3, LLVMFuzzerTestOneInput);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("rsp");
    TCase *tc = tcase_create("packets");
    tcase_add_loop_test(tc, packets, 0, sizeof packet_cases / sizeof packet_cases[0]);
    tcase_add_test(tc, nack_sends_again);
    tcase_add_test(tc, runs);
    tcase_add_test(tc, without_acks);
    tcase_add_test(tc, too_long_is_unknown);
    tcase_add_test(tc, coding);
    suite_add_tcase(s, tc);

    tc = tcase_create("commands");
    tcase_add_loop_test(tc, commands, 0, sizeof command_cases / sizeof command_cases[0]);
    tcase_add_test(tc, parameters);
    tcase_add_test(tc, signal_numbers);
    suite_add_tcase(s, tc);

    tc = tcase_create("conversations");
    tcase_add_loop_test(tc, conversation, 0, sizeof conversations / sizeof conversations[0]);
    tcase_add_test(tc, next_connection);
    tcase_add_test(tc, corpus);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
