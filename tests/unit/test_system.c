/*
 * test_system.c - system calls: the table, and what a call has written
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "msgcounter/log/system_data.h"
#include "tests/unit/unit.h"

/* Where chunks go: their addresses and lengths, one behind the other. */
struct found {
    size_t n;
    struct {
        void *at;
        uint64_t bytes;
    } chunk[8];
};

static void collect(void *arg, void *at, uint64_t bytes)
{
    struct found *f = arg;
    ck_assert_uint_lt(f->n, 8);
    f->chunk[f->n].at = at;
    f->chunk[f->n++].bytes = bytes;
}

/* Finds what a call has written; `known` is what is expected of the answer. */
static struct found find(long number, const long args[6], long result, uint64_t before, bool known)
{
    struct found f = {0};
    ck_assert_int_eq(
        system_data_find(NULL, system_row((uint64_t)number), args, result, before, collect, &f),
        known);
    return f;
}

static void expect_chunk(const struct found *f, size_t i, void *at, uint64_t bytes)
{
    ck_assert_uint_lt(i, f->n);
    ck_assert_ptr_eq(f->chunk[i].at, at);
    ck_assert_uint_eq(f->chunk[i].bytes, bytes);
}

START_TEST(rows_are_sound)
{
    unsigned known = 0;
    for (uint64_t nr = 0; nr < SYSTEM_CALL; nr++) {
        const struct system_row *row = system_row(nr);
        if (!row)
            continue;
        known++;
        ck_assert_msg(row->kind != SYSTEM_UNKNOWN && row->nargs <= 6, "%s", row->name);
        ck_assert_msg(row->path <= row->nargs && row->mask <= row->nargs, "%s", row->name);
        for (int i = 0; i < SYSTEM_OUTS && row->out[i].length; i++)
            ck_assert_msg(row->out[i].arg < row->nargs && row->out[i].of < 6, "%s: output %d",
                          row->name, i);
        ck_assert_msg(row->kind != SYSTEM_OUTPUT || row->out[0].length, "%s sends nothing",
                      row->name);
    }
    ck_assert_uint_gt(known, 200);
    ck_assert_str_eq(system_name(SYS_getrandom), "getrandom");
    ck_assert_ptr_null(system_row(SYS_io_uring_setup));
    ck_assert_str_eq(system_name(SYS_io_uring_setup), "io_uring_setup");
    ck_assert_str_eq(system_name(SYSTEM_CALL - 5), "a system call");
    ck_assert_str_eq(system_name(SYSTEM_SCHEDULE), "a turn");
    ck_assert_ptr_null(system_row(UINT64_MAX));
}
END_TEST

START_TEST(results_are_bounded)
{
    char text[16];
    long args[6] = {0, (long)text, sizeof text};
    struct found f = find(SYS_read, args, 5, 0, true);
    ck_assert_uint_eq(f.n, 1);
    expect_chunk(&f, 0, text, 5);
    f = find(SYS_recvfrom, args, 1000, 0, true); /* MSG_TRUNC: how long the message was */
    ck_assert_uint_eq(f.n, 1);
    expect_chunk(&f, 0, text, sizeof text);
    ck_assert_uint_eq(find(SYS_read, args, 0, 0, true).n, 0);
    ck_assert_uint_eq(find(SYS_read, args, -EBADF, 0, true).n, 0);
}
END_TEST

START_TEST(interrupted_waits_leave_something)
{
    struct timespec rest;
    long args[6] = {0, (long)&rest};
    struct found f = find(SYS_nanosleep, args, -EINTR, 0, true);
    expect_chunk(&f, 0, &rest, sizeof rest);
    ck_assert_uint_eq(find(SYS_nanosleep, args, -EFAULT, 0, true).n, 0);
    args[1] = 0;
    ck_assert_uint_eq(find(SYS_nanosleep, args, -EINTR, 0, true).n, 0);
}
END_TEST

START_TEST(vectors_are_filled_in_order)
{
    char a[4], b[8], c[2];
    struct iovec v[3] = {{a, sizeof a}, {b, sizeof b}, {c, sizeof c}};
    long args[6] = {0, (long)v, 3};
    struct found f = find(SYS_readv, args, 9, 0, true);
    ck_assert_uint_eq(f.n, 2);
    expect_chunk(&f, 0, a, 4);
    expect_chunk(&f, 1, b, 5);
}
END_TEST

START_TEST(addresses_have_two_lengths)
{
    char name[32];
    socklen_t length = 8;
    long args[6] = {0, (long)name, (long)&length};
    const struct system_row *row = system_row(SYS_accept);
    uint64_t before = system_data_before(NULL, row, args);
    ck_assert_uint_eq(before, 8);
    length = 20; /* it did not fit */
    struct found f = find(SYS_accept, args, 3, before, true);
    ck_assert_uint_eq(f.n, 2);
    expect_chunk(&f, 0, name, 8);
    expect_chunk(&f, 1, &length, sizeof length);
}
END_TEST

START_TEST(messages_have_parts)
{
    char data[16], name[32], control[64];
    struct iovec v = {data, sizeof data};
    struct msghdr m = {.msg_name = name, .msg_namelen = sizeof name, .msg_iov = &v, .msg_iovlen = 1,
                       .msg_control = control, .msg_controllen = sizeof control};
    long args[6] = {0, (long)&m, 0};
    uint64_t before = system_data_before(NULL, system_row(SYS_recvmsg), args);
    m.msg_namelen = 2;
    m.msg_controllen = 16;
    struct found f = find(SYS_recvmsg, args, 7, before, true);
    ck_assert_uint_eq(f.n, 4);
    expect_chunk(&f, 0, data, 7);
    expect_chunk(&f, 1, name, 2);
    expect_chunk(&f, 2, control, 16);
    expect_chunk(&f, 3, &m, sizeof m);
    f = find(SYS_sendmsg, args, 7, before, true);
    ck_assert_uint_eq(f.n, 1);
}
END_TEST

START_TEST(commands_tell_their_length)
{
    char out[64];
    long args[6] = {0, TIOCGWINSZ, (long)out};
    struct found f = find(SYS_ioctl, args, 0, 0, true);
    expect_chunk(&f, 0, out, sizeof(struct winsize));
    args[1] = 0x1234; /* says nothing of itself */
    find(SYS_ioctl, args, 0, 0, false);
    ck_assert_uint_eq(find(SYS_ioctl, args, -ENOTTY, 0, true).n, 0);
    args[1] = F_GETLK;
    f = find(SYS_fcntl, args, 0, 0, true);
    expect_chunk(&f, 0, out, sizeof(struct flock));
    args[1] = F_GETFL;
    ck_assert_uint_eq(find(SYS_fcntl, args, 2, 0, true).n, 0);
}
END_TEST

START_TEST(sets_and_arrays)
{
    fd_set set;
    struct pollfd p[3];
    long args[6] = {65, (long)&set, 0, 0, 0};
    struct found f = find(SYS_select, args, 1, 0, true);
    ck_assert_uint_eq(f.n, 1);
    expect_chunk(&f, 0, &set, 16);
    long poll_args[6] = {(long)p, 3, 10};
    f = find(SYS_poll, poll_args, 1, 0, true);
    expect_chunk(&f, 0, p, sizeof p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("system");
    TCase *c = tcase_create("system");
    tcase_add_test(c, rows_are_sound);
    tcase_add_test(c, results_are_bounded);
    tcase_add_test(c, interrupted_waits_leave_something);
    tcase_add_test(c, vectors_are_filled_in_order);
    tcase_add_test(c, addresses_have_two_lengths);
    tcase_add_test(c, messages_have_parts);
    tcase_add_test(c, commands_tell_their_length);
    tcase_add_test(c, sets_and_arrays);
    suite_add_tcase(suite, c);
    return unit_run(suite);
}
