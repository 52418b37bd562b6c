/*
 * test_proto.c - the wire protocol: every type there and back, every way to be malformed, the
 * corpus
 *
 * `test_proto corpus` writes the fuzzer's seeds anew.
 */
#include <check.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/coord/proto.h"
#include "tests/unit/cut_sim.h"
#include "tests/unit/unit.h"

#define CORPUS "tests/fuzz/corpus/proto"


static const char token[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
static const struct proto_comm comm[] = {{0, 4, 17, 1}, {0x1000, 2, 3, 0}};
static const struct proto_fine fine[] = {{1, 10, 4096, 55}, {2, 20, 8192, 66}, {3, 30, 0, 7}};
static const uint64_t counts[] = {5, 0, UINT64_MAX, 9};

/* One message of each type, with its text. */
static const struct {
    struct proto_msg msg;
    const char *text;
} examples[] = {
    {{.type = PROTO_HELLO,
      .u.hello = {.token = token,
                  .rank = 3,
                  .size = 4,
                  .pid = 99,
                  .world = 5,
                  .phase = PROTO_PHASE_REFINE,
                  .host = "node7",
                  .program = "/bin/app"}},
     "HELLO magic 862413412 version 5 rank 3 size 4 pid 99 world 5 phase 2 host \"node7\" "
     "program \"/bin/app\""},
    {{.type = PROTO_ACK, .epoch = 7, .u.comms = {2, comm}}, "ACK epoch 7 entered[2]"},
    {{.type = PROTO_ENTER, .epoch = 7, .u.coll = {1, 0, 18}}, "ENTER epoch 7 gid 1 entered 18"},
    {{.type = PROTO_LEAVE, .epoch = 7, .u.coll = {1, 0, 18}}, "LEAVE epoch 7 gid 1 entered 18"},
    {{.type = PROTO_HOLD, .epoch = 7, .u.coll = {1, 0, 18}}, "HOLD epoch 7 gid 1 entered 18"},
    {{.type = PROTO_COMM, .epoch = 7, .u.coll = {1, 4, 18}},
     "COMM epoch 7 gid 1 entered 18 nmembers 4"},
    {{.type = PROTO_ARMED, .epoch = 7}, "ARMED epoch 7"},
    {{.type = PROTO_STATE, .epoch = 7, .u.state = {PROTO_STATE_INSIDE, 8}},
     "STATE epoch 7 state 2 progress 8"},
    {{.type = PROTO_STOPPED, .epoch = 7, .u.peers = {4, counts}}, "STOPPED epoch 7 sent[4]"},
    {{.type = PROTO_DRAINED, .epoch = 7}, "DRAINED epoch 7"},
    {{.type = PROTO_WRITTEN, .epoch = 7, .u.written = {"rank-3.img", 1, 2, 3, 4}},
     "WRITTEN epoch 7 file \"rank-3.img\" bytes 1 us_write 2 us_pause 3 id 4"},
    {{.type = PROTO_FAILED, .epoch = 7, .u.text = "disk full"},
     "FAILED epoch 7 text \"disk full\""},
    {{.type = PROTO_UNABLE, .epoch = 7, .u.text = ""}, "UNABLE epoch 7 text \"\""},
    {{.type = PROTO_WANT, .u.want = {PROTO_WANT_MESSAGES, 100}}, "WANT reason 1 count 100"},
    {{.type = PROTO_FINE, .u.fine = {3, fine}}, "FINE fine[3]"},
    {{.type = PROTO_FAILURE,
      .u.failure = {PROTO_FAILURE_SIGNAL, 11, "", "MPI_Recv", 5, "f.img", 0x10, 0x20, "/bin/app",
                    48}},
     "FAILURE kind 0 code 11 text \"\" call \"MPI_Recv\" event 5 image \"f.img\" pc 16 address 32 "
     "module \"/bin/app\" module_offset 48"},
    {{.type = PROTO_FINALIZED}, "FINALIZED"},
    {{.type = PROTO_BYE}, "BYE"},
    {{.type = PROTO_WELCOME, .u.welcome = {1, 2, 3, 4}},
     "WELCOME last_epoch 1 every_n_msgs 2 keep 3 rank 4"},
    {{.type = PROTO_REFUSED, .u.text = "no"}, "REFUSED text \"no\""},
    {{.type = PROTO_INTENT, .epoch = 7}, "INTENT epoch 7"},
    {{.type = PROTO_ARM, .epoch = 7, .u.comms = {2, comm}}, "ARM epoch 7 target[2]"},
    {{.type = PROTO_RAISE, .epoch = 7, .u.coll = {1, 0, 18}}, "RAISE epoch 7 gid 1 target 18"},
    {{.type = PROTO_STOP, .epoch = 7}, "STOP epoch 7"},
    {{.type = PROTO_DRAIN, .epoch = 7, .u.peers = {4, counts}}, "DRAIN epoch 7 expected[4]"},
    {{.type = PROTO_WRITE, .epoch = 7, .u.folder = "/s/epochs/0007"},
     "WRITE epoch 7 folder \"/s/epochs/0007\""},
    {{.type = PROTO_RESUME, .epoch = 7, .u.committed = 1}, "RESUME epoch 7 committed 1"},
    {{.type = PROTO_CANCEL, .epoch = 7, .u.text = "why"}, "CANCEL epoch 7 text \"why\""},
    {{.type = PROTO_SHUTDOWN, .u.text = "over"}, "SHUTDOWN text \"over\""},
    {{.type = PROTO_EXAMINE, .u.text = "hang"}, "EXAMINE text \"hang\""},
    {{.type = PROTO_HEARD}, "HEARD"},
};

#define EXAMPLES ((int)(sizeof examples / sizeof examples[0]))

static uint64_t frame[1024];

static size_t encode(int i)
{
    struct err err;
    ssize_t n = proto_encode(&examples[i].msg, frame, sizeof frame, &err);
    ck_assert_msg(n > 0, "%s", err.text);
    ck_assert_uint_eq((size_t)n, proto_size(&examples[i].msg));
    return (size_t)n;
}

START_TEST(there_and_back)
{
    struct proto_msg msg;
    struct err err;
    char text[512];
    size_t n = encode(_i);
    ck_assert_msg(proto_decode(frame, n, &msg, &err) == (ssize_t)n, "%s", err.text);
    ck_assert_str_eq(proto_text(&msg, text, sizeof text), examples[_i].text);
    uint64_t again[1024];
    ck_assert_int_eq(proto_encode(&msg, again, sizeof again, &err), (ssize_t)n);
    ck_assert_mem_eq(again, frame, n);
}
END_TEST

START_TEST(incomplete_is_zero)
{
    struct proto_msg msg;
    size_t n = encode(_i);
    for (size_t cut = 0; cut < n; cut++)
        ck_assert_int_eq(proto_decode(frame, cut, &msg, NULL), 0);
}
END_TEST

/* A shorter or longer body than the fields need is an error, whatever is missing. */
START_TEST(wrong_length_is_refused)
{
    struct proto_msg msg;
    struct err err;
    size_t n = encode(_i);
    uint32_t length = (uint32_t)(n - PROTO_HEADER);
    for (uint32_t shorter = 0; shorter < length; shorter += 8) {
        memcpy(frame, &shorter, 4);
        ck_assert_int_eq(proto_decode(frame, n, &msg, &err), -1);
        ck_assert_ptr_nonnull(strstr(err.text, "malformed"));
    }
    length += 8;
    memcpy(frame, &length, 4);
    frame[n / 8] = 0;
    ck_assert_int_eq(proto_decode(frame, n + 8, &msg, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "too many"));
}
END_TEST

START_TEST(every_type_has_an_example)
{
    unsigned named = 0;
    for (unsigned type = 0; type < 200; type++)
        named += proto_type_name(type) != NULL;
    ck_assert_uint_eq(named, EXAMPLES);
    ck_assert_ptr_null(proto_type_name(0));
}
END_TEST

START_TEST(bad_headers)
{
    static const struct {
        uint32_t length;
        uint16_t type, zero;
    } bad[] = {{8, 0, 0}, {8, 63, 0}, {8, PROTO_ARMED, 1}, {7, PROTO_ARMED, 0},
               {0xfffffff8u, PROTO_ARMED, 0}, {PROTO_BODY_MAX + 8, PROTO_ARMED, 0}};
    struct proto_msg msg;
    struct err err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memcpy(frame, &bad[i], 8);
        ck_assert_int_eq(proto_decode(frame, sizeof frame, &msg, &err), -1);
        ck_assert_ptr_nonnull(strstr(err.text, "not the dbg3 protocol"));
    }
    encode(0);
    ck_assert_int_eq(proto_decode((char *)frame + 4, sizeof frame - 4, &msg, &err), -1);
}
END_TEST

START_TEST(bad_values)
{
    static const struct {
        int example;
        size_t word; /* of the frame */
        uint64_t value;
        const char *error;
    } bad[] = {
        {0, 1, 1, "protocol version"},                     /* magic */
        {0, 2, PROTO_VERSION + 1, "protocol version 6"},
        {0, 3, PROTO_TEXT_MAX + 1, "bad token"},           /* string length */
        {0, 3, UINT64_MAX, "bad token"},
        {0, 5, 0, "bad token"},                            /* a NUL inside */
        {0, 13, PROTO_RANKS_MAX + 1, "bad rank"},
        {1, 2, 3, "malformed ACK"},                        /* more elements than bytes */
        {1, 2, UINT64_MAX / 16, "malformed ACK"},
        {7, 2, 9, "bad state"},
        {26, 2, 2, "bad committed"},
    };
    struct proto_msg msg;
    struct err err;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        size_t n = encode(bad[i].example);
        frame[bad[i].word] = bad[i].value;
        ck_assert_msg(proto_decode(frame, n, &msg, &err) == -1, "row %zu", i);
        ck_assert_msg(strstr(err.text, bad[i].error) != NULL, "row %zu: %s", i, err.text);
    }
}
END_TEST

START_TEST(encode_refuses_what_decode_would)
{
    struct err err;
    char long_text[PROTO_TEXT_MAX + 2];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    struct proto_msg msg = {.type = PROTO_CANCEL, .u.text = long_text};
    ck_assert_int_eq(proto_encode(&msg, frame, sizeof frame, &err), -1);
    msg.u.text = NULL;
    ck_assert_int_gt(proto_encode(&msg, frame, sizeof frame, &err), 0);
    ck_assert_int_eq(proto_encode(&msg, frame, 8, &err), -1);
    msg = (struct proto_msg){.type = PROTO_RESUME, .u.committed = 2};
    ck_assert_int_eq(proto_encode(&msg, frame, sizeof frame, &err), -1);
    msg = (struct proto_msg){.type = (enum proto_type)77};
    ck_assert_int_eq(proto_encode(&msg, frame, sizeof frame, &err), -1);
}
END_TEST

/* Random damage never reads outside the frame (run with SANITIZE=address) and never misreads. */
START_TEST(random_damage)
{
    uint64_t seed = 1;
    for (int round = 0; round < 20000; round++) {
        struct proto_msg msg;
        size_t n = encode((int)(sim_random(&seed) % (unsigned)EXAMPLES));
        uint64_t *copy = malloc(n);
        memcpy(copy, frame, n);
        for (unsigned k = 1 + sim_random(&seed) % 3; k > 0; k--)
            ((uint8_t *)copy)[sim_random(&seed) % n] ^= (uint8_t)(1u << sim_random(&seed) % 8);
        ssize_t got = proto_decode(copy, n, &msg, NULL);
        ck_assert(got >= -1 && got <= (ssize_t)n); /* a damaged length may be shorter */
        free(copy);
    }
}
END_TEST

START_TEST(tokens)
{
    char other[sizeof token];
    ck_assert(proto_token_equal(token, token));
    for (size_t i = 0; i < PROTO_TOKEN_LEN; i++) {
        strcpy(other, token);
        other[i] ^= 1;
        ck_assert(!proto_token_equal(token, other));
    }
    ck_assert(!proto_token_equal(token, "0123"));
    ck_assert(!proto_token_equal("", ""));
    ck_assert(!proto_token_equal(NULL, token));
    ck_assert(!proto_token_equal(token, NULL));
}
END_TEST

START_TEST(corpus)
{
    unit_corpus("proto", EXAMPLES, LLVMFuzzerTestOneInput);
}
END_TEST

static int write_corpus(void)
{
    for (int i = 0; i < EXAMPLES; i++) {
        char path[PATH_MAX];
        snprintf(path, sizeof path, CORPUS "/%s", proto_type_name(examples[i].msg.type));
        ssize_t size = proto_encode(&examples[i].msg, frame, sizeof frame, NULL);
        size_t n = size > 0 ? (size_t)size : 0;
        FILE *f = fopen(path, "wb");
        if (!n || !f || fwrite(frame, 1, n, f) != n || fclose(f))
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "corpus"))
        return write_corpus();
    Suite *suite = suite_create("proto");
    TCase *tcase = tcase_create("proto");
    tcase_add_loop_test(tcase, there_and_back, 0, EXAMPLES);
    tcase_add_loop_test(tcase, incomplete_is_zero, 0, EXAMPLES);
    tcase_add_loop_test(tcase, wrong_length_is_refused, 0, EXAMPLES);
    tcase_add_test(tcase, every_type_has_an_example);
    tcase_add_test(tcase, bad_headers);
    tcase_add_test(tcase, bad_values);
    tcase_add_test(tcase, encode_refuses_what_decode_would);
    tcase_add_test(tcase, random_damage);
    tcase_add_test(tcase, tokens);
    tcase_add_test(tcase, corpus);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
