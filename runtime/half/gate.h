/*
 * gate.h - the one door between the two halves of a rank
 *
 * A rank is one process that holds two programs:
 *
 *     0 .. GATE_ADDR            upper half: the unmodified application, its ld.so and libraries,
 *     and our
 *                               stub in the place of libmpich.so.12. Saved in checkpoints.
 *     GATE_ADDR                 struct gate, written by the lower half at every start. Never saved.
 *     above                     lower half: a program of ours with its own libc and, in batch and
 *                               refine, the real MPI library. Never saved.
 *
 * This is the only header that both halves share. It holds no code. Whatever belongs to the rank
 * (handles, requests, counters, drained messages, position in the logs) lives in the upper half;
 * the lower half keeps nothing that must survive.
 *
 * A lower function may be called only on the lower half's FS base (its TLS). Functions marked
 * [crossing] are called through stub's gate_cross(), which switches FS; those marked [any FS] use
 * no TLS, no errno and no libc, so either half may call them directly.
 */
#ifndef DBG3_HALF_GATE_H
#define DBG3_HALF_GATE_H

#include <stdint.h>
#include <stddef.h>

#define GATE_ADDR    0x7d0000000000ul /* SPLIT: below is saved, from here on is not */
#define GATE_SIZE    0x10000ul
#define GATE_MAGIC   0x3367626445544147ul /* "GATEdbg3" */
#define GATE_VERSION 12u

/* The lower half's program text, then the arena for its later mappings. */
#define LOWER_TEXT_ADDR  0x7d1000000000ul
#define LOWER_ARENA_ADDR 0x7d2000000000ul
#define LOWER_ARENA_END  0x7e0000000000ul

/*
 * The signal that parks a thread. 32 is glibc's SIGCANCEL: application code can neither block nor
 * handle it, and glibc installs its handler only at the first pthread_cancel (33, SIGSETXID, at the
 * first pthread_create). Ours is recognised by the value it carries; others go to the handler that
 * was there.
 */
#define GATE_SIGNAL       32
#define GATE_SIGNAL_VALUE 0x6462673370617266ul

/* Value of the SIGSYS by which the stub's timer tells that a signal has waited for long enough: no
 * timer of the application. */
#define GATE_LATE_VALUE 0x6574616c33676264ul

enum gate_mode {
    GATE_LIVE,   /* calls are made */
    GATE_RECORD, /* calls are made, outputs are logged */
    GATE_REPLAY, /* calls are answered from the log; there is no MPI */
};

/* Bits of gate.word, which the stub looks at after every call and in every wait loop. */
enum gate_word {
    GATE_WORD_PARK = 1,   /* come to a safe point and park (stub_safe_point) */
    GATE_WORD_INTENT = 2, /* an epoch is being agreed on: report collectives before entering */
    GATE_WORD_FINE = 4,   /* a local fine checkpoint is due */
    GATE_WORD_STORM = 8,  /* tests: the stub counts calls and asks for epochs (storm.c) */
    GATE_WORD_SIGNAL = 16, /* the stub's: signals may be due at the end of a call */
};

enum gate_flag {
    /* the lower half shares the upper's TLS (replay; test harness): no switch */
    GATE_FLAG_SAME_FS = 1,
};

/* What a receive or a completed request says, independent of an MPI library's struct layout. */
struct gate_status {
    int32_t source, tag, error, cancelled;
    int64_t bytes; /* received, in packed bytes */
};

/* One communicator in a report to the coordinator. gid: the same number on all members. */
struct gate_coll {
    uint64_t gid;
    uint64_t entered; /* E: collectives entered on it by this rank */
    uint32_t members; /* 0: those that list it (a member may not have made it, or have freed it) */
    /* threads of this rank in a blocking collective on it now (counted in `entered`) */
    uint32_t inside;
};

/* Which of a set of requests a service shall complete. */
enum gate_complete {
    GATE_COMPLETE_ANY = 0,  /* one */
    GATE_COMPLETE_SOME = 1, /* at least one, and what else is complete */
    GATE_COMPLETE_ALL = 2,  /* as many as are complete; with WAIT: all */
    GATE_COMPLETE_WAIT = 4, /* wait for it; else look once */
    /* beside WAIT: come back with GATE_EAGAIN now and then, whatever the word says */
    GATE_COMPLETE_BRIEF = 8,
};
#define GATE_PENDING (-1) /* gate_status.error of a request that has not completed */

/* A point-to-point operation on its way down, with real handles. `start` is the call id of the
 * non-blocking call (Isend, Issend, Irsend, Ibsend, Irecv, or their _c). */
struct gate_operation {
    void *buf;
    int64_t count;
    int32_t datatype, peer, tag, comm;
    uint32_t start;
    void *real_request; /* where the started request goes */
};

/* Returned by gate.isend: the send was complete at once, there is no request. */
#define GATE_COMPLETED (-2)

/* Why a service returned early. Services return 0 or a negative errno. */
#define GATE_EAGAIN (-11) /* gate.word became non-zero: go to the safe point, then call again */

/* The code of a stop at gate.replay_stop_at, and nothing else's: the rank may go on. */
#define GATE_STOP_EVENT (-1)

enum gate_vdso { GATE_VDSO_CLOCK_GETTIME, GATE_VDSO_GETTIMEOFDAY, GATE_VDSO_TIME, GATE_VDSO_GETCPU,
                 GATE_VDSO_CLOCK_GETRES, GATE_VDSO_COUNT };

/* An instruction whose outcome is the processor's (runtime/half/instructions.h). */
enum gate_instruction_kind { GATE_RDTSC, GATE_RDTSCP, GATE_RDRAND, GATE_RDSEED, GATE_CPUID };

struct gate_instruction {
    uint64_t at;    /* its address */
    uint8_t was[8]; /* its first `length` bytes */
    uint8_t length;
    uint8_t kind;   /* enum gate_instruction_kind */
    uint8_t reg;    /* rdrand, rdseed: number of the register it sets, and how many bits of it */
    uint8_t bits;
    uint8_t prot;   /* PROT_* of its page */
    uint8_t pad[3];
};

/* Functions of the stub (upper half), which the lower half calls on the thread that called
 * MPI_Init, on that thread's upper FS. The pointer to this struct is the image's root pointer. */
/* For a debugger: where the application's communicators are, a list. Offsets are of what has a
 * communicator's address (msgcounter/stub/comm.h). */
struct gate_comms {
    const void *first;
    uint32_t next, gid, rank, size, remote_size, members, remote;
};

struct gate_stub {
    uint32_t version; /* GATE_VERSION */
    uint32_t ncalls;  /* call table size the stub was built with */
    /* MPI thread level the application got, or -1 before MPI_Init / after Finalize */
    uint64_t mpi_level;
    uint64_t finalized;
    /* offset of struct stub_thread (msgcounter/stub/thread.h) from the upper FS base */
    int64_t tls_thread;

    /* Copies E of all live communicators to `out` (at most max). Returns their number. [any thread,
     * reads only; used by the agent while the rank runs] */
    int (*collectives)(struct gate_coll *out, int max);

    /* An object that this version cannot restore, as one line for the user ("an MPI_Win (created by
     * MPI_Win_create)"), or NULL: an epoch may be taken. */
    const char *(*unable)(void);

    /* Point-to-point messages sent so far to each world rank, since MPI_Init. [parked] */
    const uint64_t *(*sent)(int *nranks);

    /* Receives into the upper half what peers have sent: expected[w] messages from world rank w
     * in total since MPI_Init. One bounded step; returns 1 when drained, 0 to be called again,
     * <0 errno. [crosses the gate; must not use the application's malloc: it may run inside it] */
    int (*drain_step)(const uint64_t *expected, int nranks);

    /* After a restart: gives communicators, datatypes, ops, requests to the new MPI. Returns 0 or
     * -errno after printing one line. [crosses the gate] */
    int (*rebuild)(void);

    /* Just before memory is saved and just after the rank goes on (restored != 0: in a new
     * process). */
    void (*before_save)(void);
    void (*after_save)(int restored);

    /* Where the next event of the log will stand: what a fine checkpoint notes. [parked or main
     * thread] */
    void (*position)(uint64_t *segment, uint64_t *offset, uint64_t *event);

    /* Called in the application's threads by record/replay instead of the kernel's vdso, and in
     * batch around it. */
    void *vdso[GATE_VDSO_COUNT], *vdso_live[GATE_VDSO_COUNT];

    /* Code from the first address up to the second, in which no thread parks. */
    uint64_t no_park[2];

    /* The call a rank is in or was in last, for failure reports: index in the call table or -1, the
     * address in the application that called it. [any thread, reads only] */
    void (*where)(int32_t *call, uint64_t *site, uint64_t *event);

    /* A thread of the image, which the application knows by the number `was`, has the number `is`
     * in this process. [any FS] */
    void (*renumber)(int was, int is);

    /* A thread of the image, or of adopt_threads, with this upper FS base, is about to go on in
     * this signal frame (a ucontext_t). [any FS] */
    void (*thread_resumes)(uint64_t upper_fs, void *frame);

    /* Recording: the other threads, if there are any from before MPI_Init, take turns from here on.
     * Whether they do: each is told by thread_resumes then. [parked main thread] */
    int (*adopt_threads)(void);

    /* Replay: whether a signal comes from the log, or (0) what asks for signals. [any FS] */
    int (*signal_logged)(int sig);

    /* Where functions of the lower half return to in gate_cross. Above that word on the stack lie
     * their stack arguments, if any, r15 twice, r14, r13, r12, rbx, rbp of its caller, and the
     * return address. */
    const void *crossing;

    /* Replay: an int3 that a thread comes to with all registers as they are in the application just
     * before the system call or instruction that it stops at (GATE->stop); but for the program
     * counter, which is in stub_thread.before_call. */
    const void *before_call;

    /* Replay: runs once for each event that a thread takes from the log, when its place is behind
     * that event. Executions of its first instruction count events. [any FS] */
    void (*taken)(uint64_t event);

    const struct gate_comms *comms;

    /* For a debugger: code from the first address up to the second, in which rdi and rsi hold the
     * kernel's numbers of the process and the thread, and rax does behind a system call. */
    const void *names_itself[2];

    /* For a debugger: what has GATE_TRAP_CODE in its place, ascending. */
    const struct gate_instruction *instructions;
    uint64_t ninstructions;

    /* For a debugger, in a replay: the event that is taken next, by whatever thread; whether
     * threads take turns (msgcounter/stub/schedule.h); whether it is anybody's turn (a word with
     * GATE_TURN_TAKEN in the two lowest bits), and the kernel's number of the thread that has or
     * had it last, 0: not known. */
    const volatile uint64_t *event;
    const uint8_t *turns;
    const volatile uint64_t *turn;
    long *turn_tid;
};
#define GATE_TURN_TAKEN 1u

/* The first two bytes in the place of such an instruction: reserved opcode 0f 04, which no compiler
 * emits and every processor refuses (SIGILL). */
#define GATE_TRAP_CODE 0x040f

/* How a rank runs; constant from one start to the next. */
struct gate_settings {
    uint64_t fine_every;     /* messages between fine checkpoints; 0: none */
    uint64_t epoch_every;    /* messages between epochs asked by count; 0: none */
    uint64_t storm_seed;     /* of the random number of calls between epochs; tests only */
    uint64_t storm_calls;    /* its mean at first */
    uint32_t oversubscribed; /* ranks on this node outnumber cores: yield early in wait loops */
    uint32_t pad;
};

struct gate {
    uint64_t magic;
    uint32_t version;
    uint32_t size;    /* sizeof (struct gate) */
    uint32_t ncalls;  /* call table size the lower half was built with */
    uint32_t mode;    /* enum gate_mode */
    uint32_t flags;   /* enum gate_flag */
    /* of this process: a stub thread whose cached value differs asks for its FS anew */
    uint32_t generation;
    volatile uint32_t word; /* enum gate_word */
    uint32_t pad0;
    uint64_t storm_seed;     /* of the random number of calls between epochs; tests only */
    uint64_t storm_calls;    /* its mean at first */

    /* --- crossing --- */
    /* offset from the lower FS base of the word where the crossing notes the upper FS */
    int64_t tls_upper_fs;
    uint64_t main_tid;
    /* [any FS] a lower FS base for the calling thread, slow */
    uint64_t (*thread_attach)(void);
    void (*thread_detach)(uint64_t lower_fs);  /* [any FS] gives it back at thread exit */

    /* --- calls --- */
    /* [crossing] by call id: the real function. NULL entries: not in that library */
    void *const *mpi;
    const struct gate_consts *consts; /* constants of the real library that are addresses */

    /* --- services of the lower half --- */
    /* [crossing] Waits until one of n real requests completes (*index, *status set; the request
     * is then freed by MPI as MPI_Test does), or until word has PARK or FINE: GATE_EAGAIN. Backs
     * off. Returns an MPI error code >= 0 otherwise. */
    int (*wait_any)(int n, void *real_requests, int *index, struct gate_status *status);
    /* [crossing] The same for sets (`how`: enum gate_complete): status[i].error is the MPI error
     * code of the requests that have completed and GATE_PENDING for the others. All n are
     * active. Returns how many have completed, or GATE_EAGAIN, when some may have completed too. */
    int (*complete)(uint32_t how, int n, void *real_requests, struct gate_status *status);
    /* [crossing] Starts a send. Returns an MPI error code or GATE_COMPLETED. */
    int (*isend)(const struct gate_operation *op);
    /* [crossing] Blocking send and receive as start + wait loop in one crossing. On GATE_EAGAIN
     * *real_request is the started request and the caller goes on with wait_any. */
    int (*send)(const struct gate_operation *op);
    int (*recv)(const struct gate_operation *op, struct gate_status *status);
    /* [on the lower FS, by the crossing itself] Posts n receives in their order. One that MPI
     * refuses gets MPI_REQUEST_NULL, which completes with MPI_ERR_OTHER. */
    void (*post)(const struct gate_operation *ops, uint32_t n);
    /* [crossing] Probe, or matching probe if real_message is not NULL. With `how`
     * GATE_COMPLETE_WAIT waits like the above. Returns an MPI error code or GATE_EAGAIN; *status
     * is set if *flag is. */
    int (*probe)(uint32_t how, int source, int tag, long comm, void *real_message, int *flag,
                 struct gate_status *status);

    /* [crossing] MPI_Init(_thread) has returned: rank and size of MPI_COMM_WORLD; world: 0, or of
     * spawned processes a number that is the same in all of theirs. Connects to the coordinator,
     * maps counters and logs. Returns the rank in the job (of spawned processes behind the
     * others) or -errno after printing one line. */
    int (*job_started)(int rank, int size, int level, uint64_t world);
    /* [crossing] MPI_Finalize is about to be called: no epoch from here on; may return
     * GATE_EAGAIN */
    int (*job_ending)(void);
    void (*job_ended)(void); /* [crossing] MPI_Finalize has returned */
    void (*job_abort)(int code, uint64_t site); /* [crossing] MPI_Abort is about to be called */
    /* [crossing] exit() was called; flushes what the lower half printed */
    void (*job_exit)(int status);

    /* Handler for fatal signals that the application leaves at SIG_DFL: writes the failure
     * image. The stub installs it (SA_SIGINFO | SA_ONSTACK, all signals blocked) wherever the
     * application asks for SIG_DFL of a signal in fatal_mask. NULL: none (replay, where GDB sees
     * the signal). */
    void (*fatal)(int, void *, void *);
    uint64_t fatal_mask; /* bit signo - 1 */

    /* [crossing] While word has GATE_WORD_INTENT: may this rank enter collective number
     * `entered` on gid (E already incremented and `inside` set, see gate_coll)? Returns 0:
     * enter; GATE_EAGAIN: go to the safe point (stub_safe_point) and ask again. Waits while
     * holding. coll_leave is called when the collective is over and word has GATE_WORD_INTENT,
     * also if it had not when it was entered. */
    int (*coll_enter)(uint64_t gid, uint32_t members, uint64_t entered);
    int (*coll_leave)(uint64_t gid, uint32_t members, uint64_t entered);
    /* [crossing] The same for what is only counted and asks for no leave: E is now `entered`. */
    int (*coll_count)(uint64_t gid, uint32_t members, uint64_t entered);

    /* [crossing] Maps the next log segment of at least min_bytes. Returns 0 or -errno (full
     * disk) after printing one line. *base is above GATE_ADDR; *segment its number. */
    int (*log_segment)(uint64_t min_bytes, uint64_t first_event, void **base, uint64_t *bytes,
                       uint64_t *segment);

    /* [crossing] Writes to the file of the present log segment, `offset` from its start, past its
     * mapping. Returns 0 or -errno: the bytes there are undefined then. */
    int (*log_write)(uint64_t offset, const void *from, uint64_t bytes);

    /* [crossing] The present log segment takes no more records, and is not touched again. */
    void (*log_full)(void);

    /* [crossing] Which pages of memory were written (track_range() in runtime/ckpt/track.h says how
     * it is asked); `out`: struct { uint64_t start, end; } [room]. NULL: nobody can tell. */
    int (*written)(uint64_t start, uint64_t end, uint64_t *from, void *out, uint64_t room);

    /* [any FS] The stub's report of an end that is ours to explain (refused call, divergence,
     * end of recording). Prints the text; in replay stops the rank for GDB; else ends it with
     * `code`. Returns, if at all, whether a thread that answers a system call or an instruction is
     * to go to where the application makes it, and stop there (gate_stub.before_call). */
    int (*stop)(int code, const char *text);
    /* [any FS] Makes sure that GATE_SIGNAL comes to us: called before a thread sends it to
     * itself. */
    void (*park_arm)(void);
    /* struct park_action (runtime/ckpt/park.h): where signals with that number go that are not
     * ours. The stub may put another one there. NULL in a replay, where none is ours. */
    void *passed_on;
    /* [any FS] A handler has ended a system call that the frame shows: has it made again. The
     * second argument is the upper FS base, 0 in the lower half. NULL in a replay. */
    void (*call_again)(void *frame, uint64_t upper_fs);
    /* [any FS] For a test harness: the calling thread is at a safe point. NULL in a lower
     * program: the thread sends itself GATE_SIGNAL. */
    void (*safe_point)(void);
    /* [any FS] count reached gate_settings.epoch_every. */
    void (*want_epoch)(void);
    /* rt_sigreturn(2), jumped to with the stack pointer at the ucontext_t of the frame. NULL: this
     * lower half cannot tell the application's system calls from its own. */
    const void *signal_return;

    /* [crossing] instructions_find() of the lower half; NULL: it has none (replay) */
    int (*instructions)(uint64_t from, uint64_t to, struct gate_instruction *out, int max);

    /* --- data --- */
    /* set by the stub's constructor; by the restorer from the image's root */
    struct gate_stub *stub;
    struct gate_settings settings;
    /* The rank's messages before which no fine checkpoint is due (it moves as checkpoints cost more
     * than they may). */
    uint64_t fine_from;
    /* struct counters_file (runtime/coord/counters.h), mapped after job_started */
    void *counters;
    uint64_t counters_size;
    /* struct { const void *base; uint64_t bytes; } [replay_nsegments], in replay */
    void *replay_segments;
    uint64_t replay_nsegments;
    /* where recording or replay starts */
    uint64_t log_start_segment, log_start_offset, log_start_event;
    /* replay: the main thread goes on inside an MPI call that returns to here; 0: it does not */
    uint64_t replay_returns_to;
    /* replay, written by a debugger: 1 + the event behind which stop(GATE_STOP_EVENT) is called, by
     * each thread that takes it or a later one, until the debugger writes another number; 0: none.
     * That stop returns. */
    volatile uint64_t replay_stop_at;
    /* replay, written by a debugger that has changed the rank: it may print, and map memory, where
     * the recording has nothing of the kind */
    volatile uint64_t replay_diverted;
    /* replay: a bit for each event from replay_shown_from on, set when it has shown its output; all
     * processes that replay this rank in a session share them. NULL: output always shows. */
    uint8_t *replay_shown;
    uint64_t replay_shown_from, replay_shown_events;

    /* --- what chance decides (msgcounter/log/order.h) --- */
    /* struct order_segment, mapped, that outcomes are appended to; NULL: they are not kept. The
     * lower half puts another in its place at an epoch, between before_save and after_save. */
    void *order;
    /* struct order_map [order_nmaps]: outcomes to follow */
    const void *order_maps;
    uint64_t order_nmaps;
    /* [crossing] Makes room for `bytes` more in `order`. Returns 0 or -errno. */
    int (*order_grow)(uint64_t bytes);
    /* [crossing] A wait for a recorded outcome goes on: returns 1 if the whole job has stood still
     * for longer than is likely, else 0. */
    int (*order_stuck)(void);

    void *kernel_vdso[GATE_VDSO_COUNT]; /* the current kernel's functions [any FS] */
    void *volatile vdso[GATE_VDSO_COUNT]; /* what the upper half's little vdso jumps to */

    /* --- start of the application, for the stub's constructor --- */
    const char *user_preload;    /* LD_PRELOAD as the user had it, or NULL: the stub puts it back */
    const char *user_library_path; /* LD_LIBRARY_PATH as the user had it, or NULL */
    const char *exe_path;        /* the application's file */
};

/* Addresses that stand for something in the real MPI library (MPI 4.0 §2.5.4) and that the stub
 * must hand over in place of its own. */
struct gate_consts {
    const void *unweighted, *weights_empty;
};

_Static_assert(sizeof(struct gate) <= 4096, "the gate is one page");
_Static_assert(sizeof(struct gate_status) == 24, "shared by both halves");
_Static_assert(sizeof(struct gate_coll) == 24, "shared by both halves");
_Static_assert(sizeof(struct gate_instruction) == 24, "a field of logs");

#define GATE ((struct gate *)GATE_ADDR)

#endif
