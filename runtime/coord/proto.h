/*
 * proto.h - what a rank and the coordinator say to each other
 *
 * One TCP connection a rank, little-endian, frames of
 *
 *     0        4      6        8                                 8 + length
 *     | length | type | zero   | body: the type's fields, in order  |
 *
 * `length` counts the body and is a multiple of 8. A number takes 8 bytes; a string is a number
 * (its length), the bytes, a NUL, zeros up to 8; an array is a number (its count) and its elements,
 * whose fields are 8 bytes each. So everything in a buffer that starts at an 8-byte boundary is
 * aligned, and a decoded message simply points into that buffer: no allocation, on either side.
 *
 * Pure functions on buffers, no I/O, no allocation, plain libc: used by the agent thread in the
 * lower half, by the coordinator, by the tests and by the fuzzer.
 *
 * The talk (DESIGN.md section 6 gives the reasons; runtime/coord/cut.h is the coordinator's half,
 * runtime/coord/cut_rank.h the rank's):
 *
 *     rank                                coordinator
 *     HELLO            ->                                   first frame of a connection
 *                      <-  WELCOME | REFUSED                REFUSED: print the text, go on without
 *                      <-  INTENT                           T = E on every communicator
 *     ACK              ->
 *     ENTER LEAVE HOLD COMM STATE ->                        from ACK to STOP | CANCEL, see below
 *                      <-  ARM
 *     ARMED            ->                                   T = max(own T, ARM's)
 *                      <-  RAISE                            at any time from ARM to STOP | CANCEL
 *                      <-  STOP
 *     STOPPED          ->                                   all application threads are parked
 *                      <-  DRAIN
 *     DRAINED          ->
 *                      <-  WRITE                            only when every rank has drained
 *     WRITTEN | FAILED ->                                   image complete, synced, renamed
 *                      <-  RESUME                           committed = 1: the epoch is valid
 *                      <-  CANCEL                           instead of anything from INTENT on
 *
 *     FINALIZED        ->                                   MPI_Finalize returned
 *     FAILURE          ->                                   last words, after the image
 *                      <-  HEARD                            of one that may wait: go on to the end
 *     BYE              ->                                   an orderly end of the process
 *                      <-  EXAMINE                          the job hangs: write a failure image,
 *                                                           answer FAILURE (HANG), stay as you are
 *                      <-  SHUTDOWN                         the job is over (launcher gone): _exit
 *
 * A connection that ends without FAILURE or BYE is a rank that was killed.
 *
 * CANCEL lifts every hold and unparks. Each message of a cut carries its epoch; one that is not of
 * the present epoch is thrown away, by both sides. The epoch number of a tried and cancelled cut is
 * not used again.
 *
 * Communicators: `gid` is the same number in all members, is never used again in a job, and stays
 * the same across restart. MPI_COMM_WORLD is PROTO_GID_WORLD. Communicators of one member (SELF and
 * the like) are not reported at all. `nmembers` of an intercommunicator counts both sides. What
 * counts as a collective for E is whatever MPI calls collective on the communicator, its
 * duplication, splitting and freeing included; non-blocking ones count when they are started.
 * MPI_Finalize is one too (on MPI_COMM_WORLD), or a cut could catch half of the job in it.
 *
 * A rank lists a communicator from its making until it has freed it, with `nmembers` 0: it must be
 * even among those that list it. That all members have made and freed the same is counted on two
 * more gids for each group of ranks (how many made; how many collectives entered on those freed),
 * which every member lists for good and COMM raises.
 */
#ifndef DBG3_COORD_PROTO_H
#define DBG3_COORD_PROTO_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "runtime/base/err.h"

#define PROTO_MAGIC      0x33676264u /* "dbg3" in HELLO */
#define PROTO_VERSION    5u
#define PROTO_HEADER     8u
#define PROTO_BODY_MAX   ((8u << 20) + 64) /* a STOPPED of a million ranks */
#define PROTO_TEXT_MAX   4096u      /* longest string, NUL not counted */
#define PROTO_TOKEN_LEN  64u        /* 32 random bytes in hex */
#define PROTO_GID_WORLD  0u
#define PROTO_RANKS_MAX  (1u << 20)

/* Environment of a rank: where the coordinator listens ("host:port") and the session's secret. */
#define PROTO_ENV_COORD "DBG3_COORD"
#define PROTO_ENV_TOKEN "DBG3_TOKEN"

/* clang-format off */
#define PROTO_TYPES(X)                                                                             \
    /* rank -> coordinator */                                                                      \
    X(HELLO,      1) X(ACK,       2) X(ENTER,    3) X(LEAVE,    4) X(HOLD,     5) X(ARMED,   6)   \
    X(STATE,      7) X(STOPPED,   8) X(DRAINED,  9) X(WRITTEN, 10) X(FAILED,  11) X(UNABLE, 12)   \
    X(WANT,      13) X(FINE,     14) X(FAILURE, 15) X(FINALIZED,16) X(BYE,    17) X(COMM,   18)   \
    /* coordinator -> rank */                                                                      \
    X(WELCOME,   64) X(REFUSED,  65) X(INTENT,  66) X(ARM,     67) X(RAISE,   68) X(STOP,   69)   \
    X(DRAIN,     70) X(WRITE,    71) X(RESUME,  72) X(CANCEL,  73) X(SHUTDOWN, 74) \
    X(EXAMINE,   75) X(HEARD,   76)
/* clang-format on */

enum proto_type {
#define X(name, number) PROTO_##name = number,
    PROTO_TYPES(X)
#undef X
};

enum proto_phase { PROTO_PHASE_BATCH, PROTO_PHASE_RESTART, PROTO_PHASE_REFINE };

/* What a rank does, as sampled by its agent (PROTO_STATE). */
enum proto_state {
    PROTO_STATE_COMPUTING, /* in the application, or on its way out of a call */
    PROTO_STATE_WAITING,   /* in a receive, wait, probe or rendezvous send that has not matched, or
                            * asking in a loop whether one has */
    PROTO_STATE_INSIDE,    /* in a blocking collective */
};

enum proto_failure {
    PROTO_FAILURE_SIGNAL, /* code: signal number */
    PROTO_FAILURE_ABORT,  /* MPI_Abort, code: its argument */
    PROTO_FAILURE_EXIT,   /* exit or _exit before MPI_Finalize, code: exit status */
    PROTO_FAILURE_HANG,   /* answer to EXAMINE: where the rank was when the job hung */
    PROTO_FAILURE_KILLED, /* the coordinator's word for a connection that ended without any */
    PROTO_FAILURE_ERROR,  /* dbg3 itself cannot go on with this rank, text says why */
    PROTO_FAILURE_RESTORE, /* the rank cannot be continued from its image, text says why */
};

/* A rank that finds another one gone calls MPI_Abort; MPI and the libraries below it abort(3). It
 * waits for HEARD before it ends. */
static inline bool proto_failure_waits(uint64_t kind, uint64_t code)
{
    return kind == PROTO_FAILURE_ABORT || (kind == PROTO_FAILURE_SIGNAL && code == SIGABRT);
}

enum proto_want { PROTO_WANT_MESSAGES = 1 /* own message count passed a multiple of N */ };

/* A communicator in ACK: E[gid] of the sender. In ARM: gid and target only (the others are 0). */
struct proto_comm {
    uint64_t gid;
    uint64_t nmembers;
    uint64_t entered; /* ACK: collectives entered so far; ARM: target T */
    uint64_t inside;  /* ACK: threads inside a blocking collective on it now (counted in entered) */
};

/* A fine checkpoint made by the rank on its own (refine). */
struct proto_fine {
    uint64_t number; /* 1, 2, ... in this recording */
    uint64_t event;  /* number of the next event in the payload log */
    uint64_t bytes;  /* written */
    uint64_t us;     /* pause */
};


/*
 * One message. Set `type` and the member of that name; what is not set must be zero. Strings and
 * arrays are borrowed: by proto_encode() during the call, from proto_decode() as long as the
 * buffer.
 */
struct proto_msg {
    enum proto_type type;
    uint64_t epoch; /* ACK ENTER LEAVE HOLD COMM ARMED STATE STOPPED DRAINED WRITTEN FAILED UNABLE
                       INTENT ARM RAISE STOP DRAIN WRITE RESUME CANCEL; 0 in the others */
    union {
        struct {
            uint64_t magic, version; /* filled by proto_encode() */
            const char *token;
            uint64_t rank, size, pid; /* in its MPI_COMM_WORLD */
            uint64_t world; /* 0: the job's own, else a number of the spawned world's */
            uint64_t phase; /* enum proto_phase */
            const char *host;
            const char *program; /* absolute path of the application's executable */
        } hello;
        struct {
            uint64_t count;
            const struct proto_comm *comm;
        } comms; /* ACK, ARM */
        struct {
            uint64_t gid;
            uint64_t nmembers; /* COMM only; 0: those that list it */
            uint64_t entered;  /* ENTER: with this one; HOLD, COMM: so far; RAISE: target T */
        } coll;                /* ENTER, LEAVE, HOLD, COMM, RAISE */
        struct {
            uint64_t state;    /* enum proto_state */
            uint64_t progress; /* messages and collectives completed */
        } state;
        struct {
            uint64_t count; /* world size */
            const uint64_t *messages;
        /* STOPPED: sent to each world rank; DRAIN: sent to the receiver by each world rank.
         * Counted since the start of the program, as in the rank's own counters */
        } peers;
        struct {
            const char *file; /* name inside the epoch's folder */
            uint64_t bytes;
            uint64_t us_write; /* writing, syncing, renaming */
            uint64_t us_pause; /* from parked to going on */
            uint64_t id;       /* checksum of the image, kept in the catalog */
        } written;
        const char *text; /* FAILED, UNABLE, REFUSED, CANCEL, SHUTDOWN, EXAMINE */
        struct {
            uint64_t reason; /* enum proto_want */
            uint64_t count;  /* messages of the rank so far */
        } want;
        struct {
            uint64_t count;
            const struct proto_fine *fine;
        } fine;
        struct {
            uint64_t kind; /* enum proto_failure */
            uint64_t code;
            const char *text;  /* free, e.g. "MPI_Abort(MPI_COMM_WORLD, 7)"; may be "" */
            const char *call;  /* MPI call in which it happened, or the last one; "" if none */
            uint64_t event;    /* events in the log so far, 0 if there is none */
            const char *image; /* failure image, absolute or in the session folder; "" if none */
            uint64_t pc;       /* application's program counter (call site if in an MPI call) */
            uint64_t address;  /* faulting address of SIGSEGV, SIGBUS; else 0 */
            const char *module;     /* file mapped at pc ("" if none) ... */
            uint64_t module_offset; /* ... and the offset of pc in that file */
        } failure;
        struct {
            uint64_t last_epoch; /* newest valid epoch, 0 if none */
            uint64_t every_n_msgs;
            uint64_t keep;
            uint64_t rank; /* in the job: spawned ones come behind those of its own world */
        } welcome;
        const char *folder; /* WRITE: absolute path of the epoch's folder, which exists */
        uint64_t committed; /* RESUME: 1 if the epoch is valid now */
    } u;
};

/*
 * When to send what during a cut (between ACK and STOP or CANCEL):
 *   ENTER  before a blocking or non-blocking collective, entered = E after counting it.
 *   LEAVE  when a blocking collective is done, and right after a non-blocking one is started.
 *   HOLD   once for each time the rank begins to hold before a collective on gid; entered = E, the
 *          held one not counted.
 *   COMM   a communicator came into being after ACK; before the LEAVE of the call that makes it
 *   STATE  when the sampled state changed, and at most every 20 ms (waiting ranks decide upon a
 *          release; a rank that never says so counts as computing).
 * Reports of one rank arrive in the order in which it did things.
 */

/* Name of a type ("HELLO"), or NULL if there is none of this number. */
const char *proto_type_name(unsigned type);

/* Bytes proto_encode() needs for this message, header included. */
size_t proto_size(const struct proto_msg *msg);

/*
 * Writes one frame. Returns its length, or -1 with err set if cap is too small or a string, an
 * array or the body is longer than allowed.
 */
ssize_t proto_encode(const struct proto_msg *msg, void *buf, size_t cap, struct err *err);

/*
 * Reads the first frame of buf[0..n). buf must be aligned to 8 bytes. Returns the frame's length
 * (and fills *msg, which points into buf), 0 if the frame is not complete yet, -1 with err set if
 * these bytes cannot be the protocol: the connection is then to be closed.
 *
 * A HELLO with wrong magic or version is such an error too. Values of enums and counts of arrays
 * are checked; ranks against sizes are the receiver's business.
 */
ssize_t proto_decode(const void *buf, size_t n, struct proto_msg *msg, struct err *err);

/* True if both secrets are equal; takes the same time wherever they differ. NULL equals nothing. */
bool proto_token_equal(const char *a, const char *b);

/* One line for logs and tests, such as "ENTER epoch 3 gid 0x0 entered 17". Returns buf. */
const char *proto_text(const struct proto_msg *msg, char *buf, size_t cap);

#endif
