/*
 * signals.c - GDB's signal numbers
 *
 * Source: GDB's include/gdb/signals.def. Real-time signals 33 to 63 are 45 to 75, 32 is 77 and 64
 * is 78.
 */
#include "gdbbridge/signals.h"

#include <signal.h>
#include <stddef.h>

static const unsigned char by_signo[32] = {
    [SIGHUP] = 1,   [SIGINT] = 2,   [SIGQUIT] = 3,  [SIGILL] = 4,     [SIGTRAP] = 5,
    [SIGABRT] = 6,  [SIGFPE] = 8,   [SIGKILL] = 9,  [SIGBUS] = 10,    [SIGSEGV] = 11,
    [SIGSYS] = 12,  [SIGPIPE] = 13, [SIGALRM] = 14, [SIGTERM] = 15,   [SIGURG] = 16,
    [SIGSTOP] = 17, [SIGTSTP] = 18, [SIGCONT] = 19, [SIGCHLD] = 20,   [SIGTTIN] = 21,
    [SIGTTOU] = 22, [SIGIO] = 23,   [SIGXCPU] = 24, [SIGXFSZ] = 25,   [SIGVTALRM] = 26,
    [SIGPROF] = 27, [SIGWINCH] = 28, [SIGUSR1] = 30, [SIGUSR2] = 31,  [SIGPWR] = 32,
};

int signal_to_gdb(int signo)
{
    if (signo >= 33 && signo <= 63)
        return signo - 33 + 45;
    if (signo == 32)
        return 77;
    if (signo == 64)
        return 78;
    if (signo == 0)
        return 0;
    int number = signo > 0 && signo < 32 ? by_signo[signo] : 0;
    return number ? number : GDB_SIGNAL_UNKNOWN;
}

int signal_from_gdb(int number)
{
    for (int signo = 0; signo <= 64; signo++)
        if (signal_to_gdb(signo) == number && number != GDB_SIGNAL_UNKNOWN)
            return signo;
    return -1;
}

bool signal_is_of_libc(int signo)
{
    return signo == 32 || signo == 33; /* glibc's SIGCANCEL and SIGSETXID */
}
