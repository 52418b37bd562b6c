/*
 * system_table.h - the application's system calls: what recording and replay do with each
 *
 * One row a call (Linux, x86-64). A call without one is made while recording, which says that a
 * replay will end there. Pure data, for the stub and for tools.
 */
#ifndef DBG3_MSGCOUNTER_SYSTEM_TABLE_H
#define DBG3_MSGCOUNTER_SYSTEM_TABLE_H

#include <stdint.h>

/* log_record.call of a system call: this, and its number. */
#define SYSTEM_CALL 0x8000u

/* No calls, but events in their place: a turn went to another thread (the stub's schedule.h); a
 * handler of the application ran for a signal. */
#define SYSTEM_SCHEDULE  0x7ffcu
#define SYSTEM_SIGNALLED 0x7fffu

/* The same: an instruction whose outcome is the processor's; where such instructions are. */
#define SYSTEM_INSTRUCTION 0x7ffeu
#define SYSTEM_CODE        0x7ffdu

/* The value of a SIGSYS that hands turns on among a rank's threads: nothing that the application or
 * its debugger is to see. */
#define SYSTEM_SCHEDULE_SIGNAL 0x6e72757467626433ul

#define SYSTEM_OUTS 4 /* outputs of a row at most */

enum system_kind {
    SYSTEM_UNKNOWN,  /* no row, or only a name */
    SYSTEM_ANSWERED, /* made while recording, answered from the log in replay */
    SYSTEM_OUTPUT,   /* the same; what it sends is compared */
    SYSTEM_MEMORY,   /* made in replay too, with the recorded result */
    SYSTEM_SIGNAL,   /* made in replay too if it concerns this process */
    SYSTEM_ALONE,    /* answered while threads take turns, or there is but one; else passed */
    SYSTEM_PASSED,   /* a matter of threads, signal masks or the end: made in both, not recorded */
};

enum system_flag {
    SYSTEM_WAITS = 1,  /* may wait: handlers of the application may interrupt it */
    SYSTEM_ALWAYS = 2, /* writes its outputs even if it fails */
};

/* How long an output is. */
enum system_length {
    SYSTEM_NONE,
    SYSTEM_FIXED,   /* `unit` bytes */
    SYSTEM_RESULT,  /* the call's result, but at most argument `of`, times `unit` */
    SYSTEM_TIMES,   /* argument `of` times `unit` */
    SYSTEM_BITS,    /* as many bits as argument `of` says, in longs */
    SYSTEM_SOCKLEN, /* as *(socklen_t *)argument `of` said before and says now; that is one, too */
    SYSTEM_VECTOR,  /* struct iovec [argument `of`], filled in order up to the result */
    SYSTEM_MESSAGE, /* struct msghdr, its vector filled up to the result */
    SYSTEM_COMMAND, /* argument `of` is a command that tells (fcntl, ioctl) */
};

struct system_out {
    uint8_t length; /* enum system_length */
    uint8_t arg;    /* which argument points to it */
    uint8_t of;
    uint16_t unit;
};

struct system_row {
    const char *name;
    uint8_t nargs;
    uint8_t kind;  /* enum system_kind */
    uint8_t flags; /* enum system_flag */
    uint8_t path;  /* 1 + argument that is a file's name; 0: none */
    uint8_t mask;  /* 1 + argument that is a signal mask to wait with; 0: none */
    /* SYSTEM_OUTPUT: data[0] is what is sent, by address and length */
    struct system_out out[SYSTEM_OUTS];
};

/* The row of a call, NULL if it has none or only a name. */
const struct system_row *system_row(uint64_t number);

/* The name of a call; "a system call" if it is not known. */
const char *system_name(uint64_t number);

#endif
