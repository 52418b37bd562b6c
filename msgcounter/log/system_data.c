/*
 * system_data.c - what a system call has written to memory, or is given to send
 *
 * The call has succeeded when these look at its arguments: the kernel could read them, so can we.
 */
#include "msgcounter/log/system_data.h"

#include <asm/ioctls.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ioctl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#define KERNEL_TERMIOS 36 /* sizeof (struct termios), asm-generic/termbits.h */

typedef void each_chunk(void *arg, void *at, uint64_t bytes);

/* Commands that write to their argument but do not say so in their number. */
static const struct {
    unsigned command;
    uint16_t bytes;
} commands[] = {
    {TCGETS, KERNEL_TERMIOS}, {TIOCGWINSZ, 8}, {TIOCGPGRP, 4}, {TIOCGSID, 4},
    {TIOCOUTQ, 4},            {FIONREAD, 4},   {TIOCMGET, 4},  {TIOCGETD, 4},
    /* and those that write nothing */
    {TCSETS, 0},     {TCSETSW, 0},  {TCSETSF, 0}, {TCSBRK, 0},    {TCXONC, 0},   {TCFLSH, 0},
    {TIOCSWINSZ, 0}, {TIOCSPGRP, 0}, {FIOCLEX, 0}, {FIONCLEX, 0}, {FIONBIO, 0}, {FIOASYNC, 0},
    {TIOCSCTTY, 0},  {TIOCNOTTY, 0}, {TIOCEXCL, 0}, {TIOCNXCL, 0},
};

/* Bytes that ioctl(2) writes; -1: unknown. */
static int64_t ioctl_bytes(unsigned command)
{
    for (unsigned i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (commands[i].command == command)
            return commands[i].bytes;
    if (_IOC_DIR(command) & _IOC_READ)
        return _IOC_SIZE(command);
    return _IOC_DIR(command) == _IOC_WRITE ? 0 : -1;
}

static int64_t fcntl_bytes(unsigned command)
{
    switch (command) {
    case F_GETLK:
    case F_OFD_GETLK:
        return sizeof(struct flock);
    case F_GETOWN_EX:
        return sizeof(struct f_owner_ex);
    default:
        return 0;
    }
}

static int64_t command_bytes(const struct system_row *row, unsigned command)
{
    return row == system_row(SYS_ioctl) ? ioctl_bytes(command) : fcntl_bytes(command);
}

static bool fetch(const struct system_memory *m, long at, void *to, uint64_t bytes)
{
    if (m)
        return m->read(m->arg, (uint64_t)at, to, bytes);
    memcpy(to, (const void *)at, bytes);
    return true;
}

/* The vector's chunks up to `total` bytes. */
static bool each_of_vector(const struct system_memory *m, long at, uint64_t n, uint64_t total,
                           each_chunk *each, void *arg)
{
    struct iovec v;
    for (uint64_t i = 0; i < n && total; i++) {
        if (!fetch(m, at + (long)(i * sizeof v), &v, sizeof v))
            return false;
        uint64_t bytes = v.iov_len < total ? v.iov_len : total;
        if (bytes)
            each(arg, v.iov_base, bytes);
        total -= bytes;
    }
    return true;
}

/* recvmsg(2) writes the struct, too: lengths and flags. `room`: of the name, before. */
static bool each_of_message(const struct system_memory *m, const struct system_row *row, long at,
                            uint64_t total, uint64_t room, each_chunk *each, void *arg)
{
    struct msghdr h;
    if (!fetch(m, at, &h, sizeof h) ||
        !each_of_vector(m, (long)h.msg_iov, h.msg_iovlen, total, each, arg))
        return false;
    if (row->kind == SYSTEM_OUTPUT)
        return true;
    if (h.msg_name && room)
        each(arg, h.msg_name, h.msg_namelen < room ? h.msg_namelen : room);
    if (h.msg_control && h.msg_controllen)
        each(arg, h.msg_control, h.msg_controllen);
    each(arg, (void *)at, sizeof h);
    return true;
}

/* The bytes of a plain output; -1: unknown. */
static int64_t plain_bytes(const struct system_row *row, const struct system_out *out,
                           const long args[6], long result)
{
    switch (out->length) {
    case SYSTEM_FIXED:
        return out->unit;
    case SYSTEM_RESULT:
        return (result < args[out->of] ? result : args[out->of]) * out->unit;
    case SYSTEM_TIMES:
        return args[out->of] * out->unit;
    case SYSTEM_BITS:
        return (args[out->of] + 63) / 64 * 8;
    case SYSTEM_COMMAND:
        return command_bytes(row, (unsigned)args[out->of]);
    default:
        return 0;
    }
}

uint64_t system_data_before(const struct system_memory *m, const struct system_row *row,
                            const long args[6])
{
    for (int i = 0; i < SYSTEM_OUTS; i++) {
        const struct system_out *out = &row->out[i];
        socklen_t length = 0;
        if (out->length == SYSTEM_SOCKLEN && args[out->of])
            return fetch(m, args[out->of], &length, sizeof length) ? length : 0;
        struct msghdr h = {.msg_namelen = 0};
        if (out->length == SYSTEM_MESSAGE && args[out->arg])
            return fetch(m, args[out->arg], &h, sizeof h) ? h.msg_namelen : 0;
    }
    return 0;
}

static bool each_of_address(const struct system_memory *m, const struct system_out *out,
                            const long args[6], uint64_t room, each_chunk *each, void *arg)
{
    socklen_t length;
    if (!args[out->arg] || !args[out->of])
        return true;
    if (!fetch(m, args[out->of], &length, sizeof length))
        return false;
    if (length && room)
        each(arg, (void *)args[out->arg], length < room ? length : room);
    each(arg, (void *)args[out->of], sizeof length);
    return true;
}

static bool each_of_out(const struct system_memory *m, const struct system_row *row,
                        const struct system_out *out, const long args[6], long result,
                        uint64_t before, each_chunk *each, void *arg)
{
    switch (out->length) {
    case SYSTEM_VECTOR:
        return each_of_vector(m, args[out->arg], (uint64_t)args[out->of], (uint64_t)result, each,
                              arg);
    case SYSTEM_MESSAGE:
        return each_of_message(m, row, args[out->arg], (uint64_t)result, before, each, arg);
    case SYSTEM_SOCKLEN:
        return each_of_address(m, out, args, before, each, arg);
    default: {
        int64_t bytes = plain_bytes(row, out, args, result);
        if (bytes > 0 && args[out->arg])
            each(arg, (void *)args[out->arg], (uint64_t)bytes);
        return bytes >= 0;
    }
    }
}

bool system_data_find(const struct system_memory *m, const struct system_row *row,
                      const long args[6], long result, uint64_t before, each_chunk *each,
                      void *arg)
{
    if (result < 0 && !(row->flags & SYSTEM_ALWAYS && result == -EINTR))
        return true;
    for (int i = 0; i < SYSTEM_OUTS && row->out[i].length; i++)
        if (!each_of_out(m, row, &row->out[i], args, result, before, each, arg))
            return false;
    return true;
}
