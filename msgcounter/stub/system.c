/*
 * system.c - the application's system calls, recorded and replayed
 *
 *     application       ... syscall ...
 *                             | SIGSYS: the kernel makes no call of code below the split
 *     system_signal()     is it ours? make it. Else, by its row (system_table.h):
 *                           recording: make it, write result and outputs to the log
 *                           replay:    take result and outputs from the log
 *
 * Why syscall user dispatch: it sees every call, whatever library makes it, and its range of code
 * that is left alone is just the lower half. It costs 1.3 us a call, beside which only programs
 * that do little but system calls would notice. Patching the call instructions of libc would cost
 * less, but not all of them have a form that can be patched, and other libraries make calls too.
 *
 * - While the handler runs, the selector lets all calls of the thread pass; so they do where this
 *   thread is inside the stub, whose own calls have no place in the recording.
 * - All signals are blocked in the handler but while a call waits: then the mask is the
 *   application's, so that its handlers run, and a checkpoint may stop the thread there.
 * - The handler is on the alternate stack that every thread has (signal.c): it leaves no trace on
 *   the application's, which a program with an uninitialised variable would read.
 * - Addresses are the same in replay: outputs are put where they were put, and arguments compared.
 * - Descriptors that the rank opens in a replay do not exist; nor do its children.
 */
#include "msgcounter/stub/system.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <ucontext.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "msgcounter/log/system_data.h"
#include "msgcounter/log/system_table.h"
#include "msgcounter/stub/comm.h"
#include "msgcounter/stub/init.h"
#include "msgcounter/stub/pid.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/signal.h"
#include "msgcounter/stub/signal_forward.h"
#include "msgcounter/stub/signal_place.h"
#include "msgcounter/stub/stub.h"
#include "runtime/half/sys.h"

/* linux/prctl.h and linux/syscall_user_dispatch.h, which may be older than the kernel */
#ifndef PR_SET_SYSCALL_USER_DISPATCH
#define PR_SET_SYSCALL_USER_DISPATCH 59
#endif
#define DISPATCH_ON    1
#define DISPATCH_ALLOW 0
#define DISPATCH_BLOCK 1
#ifndef SYS_USER_DISPATCH
#define SYS_USER_DISPATCH 2 /* siginfo's code */
#endif

#define USER_END      0x800000000000ul
#define SYSTEM_AGAIN  (-4096) /* it was left, or not made, for a replay; see system_entry.S */
#define PATH_BYTES    4096
#define CONTENT_MAX   (1ul << 30) /* of a mapped file */
#define HANDLER_SPAN  (8ul << 20) /* bytes of stack that a handler uses at most */
#define CLONE_WORDS   13
#define SYSCALL_BYTES 2
#define SIGPIPE_BIT   (1ul << (SIGPIPE - 1))

extern const char system_made[], system_again[];
void system_return(const void *frame) __attribute__((noreturn));
long system_make(long number, const long args[6]);
long system_wait(long number, const long args[6]);
long system_make_on(long number, const long args[2], long sp);
long system_clone(long number, const long args[6]);
uint64_t system_signal(int sig, siginfo_t *info, ucontext_t *uc);

/* Of this library's code; defined by the linker. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));
extern const char syscall_site[]; /* syscall.S: the one call there that is the application's */

static bool dispatched;       /* the calls of this process are recorded or answered */
static uint32_t shown = 6;    /* bit n: what is written to descriptor n shows in a replay, too */

/* ---- making a call ---- */

static void set_mask(const void *mask)
{
    sys_call(SYS_rt_sigprocmask, SIG_SETMASK, mask, NULL, 8, 0, 0);
}

static uint64_t mask_of(const ucontext_t *uc)
{
    uint64_t mask;
    memcpy(&mask, &uc->uc_sigmask, sizeof mask);
    return mask;
}

/* A signal mask that a call waits with must not have SIGSYS. */
static void clean_mask(const struct system_row *row, long args[6], uint64_t *copy)
{
    if (!row || !row->mask || !args[row->mask - 1])
        return;
    *copy = *(const uint64_t *)args[row->mask - 1] & ~SYSTEM_SIGNAL_BITS;
    args[row->mask - 1] = (long)copy;
}

/* The mask with which a call waits. */
static uint64_t mask_in_call(const ucontext_t *uc, const struct system_row *row, const long *args)
{
    uint64_t mask = mask_of(uc);
    if (row->mask && args[row->mask - 1])
        memcpy(&mask, (const void *)args[row->mask - 1], sizeof mask);
    return mask;
}

static void get_turn(const ucontext_t *uc)
{
    uint64_t mask = mask_of(uc);
    if (schedule_on && !stub_thread.has_turn && !stub_thread.outside)
        schedule_get(&mask);
}

/* Whether a call is made in a replay, too, and not recorded. */
static bool is_passed(const struct system_row *row)
{
    return row->kind == SYSTEM_PASSED || (row->kind == SYSTEM_ALONE && !signal_exact());
}

/* Calls for which SIGPIPE may come, if there is nobody to read. */
static bool sends(const struct system_row *row, long number)
{
    return row->kind == SYSTEM_OUTPUT || number == SYS_sendfile || number == SYS_splice ||
           number == SYS_tee;
}

/* Makes a call for the application. SIGPIPE, which may end the process, waits until the call has
 * been recorded. Returns SYSTEM_AGAIN if the thread goes on in a replay. */
static long make(const ucontext_t *uc, const struct system_row *row, long number, const long *given,
                 bool own)
{
    long args[6], result;
    uint64_t copy, all = ~0ul, mask = mask_of(uc);
    bool ended = !own && stub_thread.ended;
    memcpy(args, given, sizeof args);
    clean_mask(row, args, &copy);
    if (!own)
        stub_thread.ended = 0;
    if (!row || !(row->flags & SYSTEM_WAITS))
        return ended ? -EINTR : system_make(number, args);
    if (own) {
        stub_thread.in_call = 0;
    } else if (signal_exact()) {
        signal_before_wait();
        stub_thread.in_call = 1;
    }
    if (!own && sends(row, number))
        mask |= SIGPIPE_BIT;
    set_mask(&mask);
    do
        result = ended                   ? -EINTR
                 : own || is_passed(row) ? system_make(number, args)
                                         : system_wait(number, args);
    while (result == SYSTEM_AGAIN && (!replaying() || own || is_passed(row)));
    set_mask(&all);
    stub_thread.in_call = 0;
    return result;
}

/* ---- calls that change what the handler returns to ---- */

static long hand_sigprocmask(ucontext_t *uc, const long *a)
{
    uint64_t now = mask_of(uc), set;
    if (a[3] != 8)
        return -EINVAL;
    if (a[1]) {
        memcpy(&set, (const void *)a[1], sizeof set);
        if (a[0] != SIG_BLOCK && a[0] != SIG_UNBLOCK && a[0] != SIG_SETMASK)
            return -EINVAL;
        set = a[0] == SIG_BLOCK ? now | set : a[0] == SIG_UNBLOCK ? now & ~set : set;
        set &= ~SYSTEM_SIGNAL_BITS;
        memcpy(&uc->uc_sigmask, &set, sizeof set);
    }
    if (a[2])
        memcpy((void *)a[2], &now, sizeof now);
    return 0;
}

/* libc's own, in system(), abort(), pthread_cancel(): the application has sigaction(). */
static long hand_sigaction(ucontext_t *uc, const long *a)
{
    struct kernel_action act;
    long args[6];
    memcpy(args, a, sizeof args);
    if (a[0] == SIGSYS)
        return 0;
    if (a[1]) {
        memcpy(&act, (const void *)a[1], sizeof act);
        act.mask &= ~SYSTEM_SIGNAL_BITS;
        args[1] = (long)&act;
    }
    if (a[0] == GATE_SIGNAL && a[1] && !a[2]) {
        stub_signal_cancels(&act);
        return 0;
    }
    return system_make(SYS_rt_sigaction, args);
}

/* The handler is on that stack itself, where it cannot be changed; and its return sets the one that
 * the frame names. */
static long hand_sigaltstack(ucontext_t *uc, const long *a)
{
    long result = system_make_on(SYS_sigaltstack, a, uc->uc_mcontext.gregs[REG_RSP]);
    if (result == 0 && a[0])
        memcpy(&uc->uc_stack, (const void *)a[0], sizeof uc->uc_stack);
    return result;
}

/* ---- new threads and processes ---- */

/* The registers with which a child on a stack of its own goes on; system_entry.S reads them. */
static void fill_child(const ucontext_t *uc, uint64_t stack)
{
    static const uint8_t order[CLONE_WORDS] = {REG_RIP, REG_RBX, REG_RBP, REG_RDI, REG_RSI,
                                               REG_RDX, REG_R8,  REG_R9,  REG_R10, REG_R12,
                                               REG_R13, REG_R14, REG_R15};
    for (int i = 0; i < CLONE_WORDS; i++)
        ((greg_t *)stack)[-1 - i] = uc->uc_mcontext.gregs[order[i]];
}

struct cloning {
    uint64_t flags, stack;
};

static struct cloning cloning_of(long number, const long *a)
{
    if (number == SYS_clone)
        return (struct cloning){(uint64_t)a[0], (uint64_t)a[1]};
    if (number == SYS_vfork)
        return (struct cloning){CLONE_VM | CLONE_VFORK, 0};
    if (number == SYS_clone3) {
        const struct clone_args *c = (const struct clone_args *)a[0];
        return (struct cloning){c->flags, c->stack ? c->stack + c->stack_size : 0};
    }
    return (struct cloning){0, 0};
}

/* Calls are not dispatched in the child, of whatever kind. */
static long make_child(const ucontext_t *uc, long number, const long *args)
{
    struct cloning c = cloning_of(number, args);
    uint64_t mask = mask_of(uc), all = ~0ul;
    long result;
    stub_thread.inside++; /* an image of before the call would make another child in a replay */
    set_mask(&mask);
    if (c.stack) {
        fill_child(uc, c.stack);
        result = system_clone(number, args);
    } else if (c.flags & CLONE_VM) {
        /* Both would return on the same stack, over the frame of this handler. */
        result = sys_call(SYS_fork, 0, 0, 0, 0, 0, 0);
    } else {
        result = system_make(number, args);
    }
    if (result == 0 && !c.stack) {
        stub_thread.inside--;
        stub_active = schedule_on = false; /* it has the rank's memory, but is no rank */
        stub_thread.dispatched = 0;
        return 0;
    }
    set_mask(&all);
    stub_thread.inside--;
    return result;
}

static bool makes_child(long number)
{
    return number == SYS_clone || number == SYS_clone3 || number == SYS_fork ||
           number == SYS_vfork;
}

/* ---- recording ---- */

static bool is_code(const long *args, long result)
{
    return !sys_failed(result) && !(args[3] & MAP_ANONYMOUS) && args[2] & PROT_EXEC;
}

struct sum {
    uint64_t room, digest, bytes;
};

static void add_room(void *arg, void *at, uint64_t bytes)
{
    ((struct sum *)arg)->room += LOG_FIELD_ROOM(8) + LOG_FIELD_ROOM(bytes);
}

static void add_digest(void *arg, void *at, uint64_t bytes)
{
    struct sum *s = arg;
    s->digest = XXH3_64bits_withSeed(at, bytes, s->digest);
    s->bytes += bytes;
}

static void put_chunk(void *arg, void *at, uint64_t bytes)
{
    log_put_u64(&record_writer, LOG_PARAM_NONE, LOG_ROLE_HANDLE, (uint64_t)at);
    log_put(&record_writer, LOG_PARAM_NONE, LOG_ROLE_DATA, at, bytes);
}

/* Arguments, and the name of a file, which a replay compares. */
static void put_arguments(const struct system_row *row, const long *args, size_t path)
{
    log_put(&record_writer, LOG_PARAM_NONE, LOG_ROLE_VALUE, args, row->nargs * sizeof *args);
    if (path)
        log_put(&record_writer, (uint8_t)(row->path - 1), LOG_ROLE_TEXT,
                (const char *)args[row->path - 1], path);
}

static size_t path_bytes(const struct system_row *row, const long *args, long result)
{
    return row->path && args[row->path - 1] && result != -EFAULT
               ? strnlen((const char *)args[row->path - 1], PATH_BYTES)
               : 0;
}

/* Refine is where one can still do something about it. Once for each call. */
static void say_unknown(long number)
{
    static uint64_t said[SYSTEM_CALL / 64];
    char text[256];
    uint64_t bit = 1ul << number % 64;
    if (__atomic_fetch_or(&said[number / 64], bit, __ATOMIC_RELAXED) & bit)
        return;
    int n = snprintf(text, sizeof text,
                     "dbg3: rank %d: event %lu is %s (number %ld), which no replay can answer: "
                     "isolate will end there\n",
                     init_rank_in_job(), (unsigned long)record_event(),
                     system_name((uint64_t)number), number);
    sys_call(SYS_write, STDERR_FILENO, text, n, 0, 0, 0);
}

static void record(const struct system_row *row, long number, const long *args, long result,
                   uint64_t before)
{
    struct sum sum = {0};
    bool output = row->kind == SYSTEM_OUTPUT;
    bool known = system_data_find(NULL, row, args, result, before,
                                  output ? add_digest : add_room, &sum);
    size_t path = path_bytes(row, args, result);
    if (!known)
        say_unknown(number);
    record_system_begin((unsigned)number, known ? 0 : RECORD_UNKNOWN,
                        sum.room + LOG_FIELD_ROOM(sizeof(long[6])) + LOG_FIELD_ROOM(path) +
                            LOG_FIELD_ROOM(sizeof(struct log_digest)));
    put_arguments(row, args, path);
    if (output)
        log_put_digest(&record_writer, LOG_PARAM_NONE, sum.digest, sum.bytes);
    else if (known)
        system_data_find(NULL, row, args, result, before, put_chunk, NULL);
    record_system_end(result);
}

/* A mapping, with what is in the file. */
static void record_mapping(const struct system_row *row, const long *args, long result)
{
    bool file = !sys_failed(result) && !(args[3] & MAP_ANONYMOUS);
    uint64_t bytes = file ? (uint64_t)args[1] : 0;
    bool known = bytes <= CONTENT_MAX;
    bytes = known ? bytes : 0;
    record_system_begin(SYS_mmap, known ? 0 : RECORD_UNKNOWN,
                        LOG_FIELD_ROOM(sizeof(long[6])) + LOG_FIELD_ROOM(bytes));
    put_arguments(row, args, 0);
    if (bytes) {
        void *at = log_reserve(&record_writer, LOG_PARAM_NONE, LOG_ROLE_DATA, bytes);
        long got = sys_call(SYS_pread64, args[4], at, bytes, args[5], 0, 0);
        got = got < 0 ? 0 : got;
        memset((char *)at + got, 0, bytes - (uint64_t)got);
    }
    record_system_end(result);
}

/* ---- replay ---- */

/* A handler may be left by longjmp(3): then the stack pointer is above its frame again. */
static bool in_frame(void **frame, uint64_t sp)
{
    uint64_t at = (uint64_t)*frame;
    if (at && sp < at && at - sp < HANDLER_SPAN)
        return true;
    *frame = NULL;
    return false;
}

/* Threads that take memory from the heap in another order than before get other addresses, which is
 * no fault: the order in which they get a lock is not recorded. */
static bool same_argument(long was, long is)
{
    if (was == is)
        return true;
    bool late = stub_thread.late && in_frame(&stub_thread.late, (uint64_t)is);
    return (stub_threads_made || late) && was >> 32 > 0 && is >> 32 > 0;
}

static void compare_arguments(const struct log_record *rec, const struct system_row *row,
                              const long *args)
{
    const struct log_field *f = replay_field(rec, LOG_PARAM_NONE, LOG_ROLE_VALUE);
    const long *was = log_field_value(f);
    for (unsigned i = 0; i < row->nargs && i < log_field_length(f) / sizeof *was; i++)
        if (!same_argument(was[i], args[i]))
            stub_stop(3, "diverged at event %lu: %s has %#lx as argument %u, recorded %#lx",
                      (unsigned long)rec->event, row->name, (unsigned long)args[i], i + 1,
                      (unsigned long)was[i]);
    const struct log_field *text =
        row->path ? log_field_find(rec, NULL, (uint8_t)(row->path - 1), LOG_ROLE_TEXT) : NULL;
    int length = text ? (int)log_field_length(text) : 0;
    if (text && strncmp((const char *)args[row->path - 1], log_field_value(text),
                        (size_t)length) != 0)
        stub_stop(3, "diverged at event %lu: %s of %.*s, recorded %.*s", (unsigned long)rec->event,
                  row->name, length + 64, (const char *)args[row->path - 1], length,
                  (const char *)log_field_value(text));
}

/* Whether this event is to show its output now: only once, however often a debugger goes back. */
static bool shows(uint64_t event)
{
    uint64_t bit = event - GATE->replay_shown_from;
    if (!GATE->replay_shown)
        return true;
    if (bit >= GATE->replay_shown_events) /* before the beginning, or far behind */
        return event >= GATE->replay_shown_from;
    uint8_t mask = (uint8_t)(1u << bit % 8);
    return !(__atomic_fetch_or(&GATE->replay_shown[bit / 8], mask, __ATOMIC_RELAXED) & mask);
}

static bool is_for_people(long number, const long *args)
{
    return (number == SYS_write || number == SYS_writev) && args[0] >= 0 && args[0] < 3 &&
           shown & 1u << args[0];
}

/* Output that a person sees is made again; its outcome is the recorded one. */
static void compare_output(const struct log_record *rec, const struct system_row *row, long number,
                           const long *args, long result)
{
    struct sum sum = {0};
    if (result > 0)
        system_data_find(NULL, row, args, result, 0, add_digest, &sum);
    replay_check_digest(rec, LOG_PARAM_NONE, sum.digest, sum.bytes);
    if (is_for_people(number, args) && shows(rec->event))
        system_make(number, args);
}

/* The address now of what was at `at`: that of the same argument. */
static void *argument_at(const struct log_record *rec, const long *args, long at)
{
    const struct log_field *f = replay_field(rec, LOG_PARAM_NONE, LOG_ROLE_VALUE);
    const long *was = log_field_value(f);
    for (unsigned i = 0; i < log_field_length(f) / sizeof *was; i++)
        if (was[i] == at)
            return (void *)args[i];
    return (void *)at;
}

static void take_outputs(const struct log_record *rec, const long *args)
{
    void *at = NULL;
    for (const struct log_field *f = NULL; (f = log_field_next(rec, f));) {
        if (f->role == LOG_ROLE_HANDLE)
            at = argument_at(rec, args, log_field_int(f));
        else if (f->role == LOG_ROLE_DATA && at)
            memcpy(at, log_field_value(f), log_field_length(f));
    }
}

static void __attribute__((noreturn)) moved(const struct log_record *rec, const char *name,
                                            long result, long was)
{
    stub_stop(3, "diverged at event %lu: %s gives %#lx, recorded %#lx", (unsigned long)rec->event,
              name, (unsigned long)result, (unsigned long)was);
}

/* At the recorded address; where threads have taken other ones in another order, elsewhere. */
static long replay_mapping(const struct log_record *rec, const long *a, long was)
{
    const struct log_field *content = log_field_find(rec, NULL, LOG_PARAM_NONE, LOG_ROLE_DATA);
    int flags = (int)(a[3] & ~(MAP_TYPE | MAP_HUGETLB)) | MAP_PRIVATE | MAP_ANONYMOUS;
    flags |= a[3] & MAP_FIXED ? 0 : MAP_FIXED_NOREPLACE;
    if (sys_failed(was))
        return was;
    int access = (int)a[2] | (content ? PROT_READ | PROT_WRITE : 0);
    long at = a[3] & MAP_FIXED ? a[0] : was;
    long got = (long)sys_mmap((void *)at, (uint64_t)a[1], access, flags, -1, 0);
    if (got == -EEXIST && stub_threads_made)
        got = (long)sys_mmap(NULL, (uint64_t)a[1], access, flags & ~MAP_FIXED_NOREPLACE, -1, 0);
    if (sys_failed(got) || (got != was && !stub_threads_made))
        moved(rec, "mmap", got, was);
    if (!content)
        return got;
    memcpy((void *)got, log_field_value(content), log_field_length(content));
    sys_call(SYS_mprotect, got, a[1], a[2], 0, 0, 0);
    return got;
}

static long replay_memory_call(const struct log_record *rec, const struct system_row *row,
                               long number, const long *given, long was)
{
    long args[6];
    memcpy(args, given, sizeof args);
    if (number == SYS_mmap) {
        long at = replay_mapping(rec, args, was);
        if (is_code(args, at) && at == was)
            instruction_replay();
        return at;
    }
    if (sys_failed(was))
        return was;
    if (number == SYS_mremap && was != args[0] && !stub_threads_made) {
        args[3] |= MREMAP_MAYMOVE | MREMAP_FIXED;
        args[4] = was;
    }
    long result = system_make(number, args);
    if (number == SYS_madvise)
        return was;
    if (result != was && !stub_threads_made)
        moved(rec, row->name, result, was);
    return result;
}

/* Numbers are those of the recorded process, or of this one where libc has asked the kernel. Of
 * signals that come from the log only those are sent that end the process. */
static void replay_sending(const ucontext_t *uc, long number, const long *given, long was)
{
    long args[6], own = sys_call(SYS_getpid, 0, 0, 0, 0, 0, 0);
    bool thread = number == SYS_tgkill || number == SYS_rt_tgsigqueueinfo;
    memcpy(args, given, sizeof args);
    long sig = args[thread ? 2 : 1];
    bool ends = sig > 0 && sig <= 64 && !(mask_of(uc) >> (sig - 1) & 1) &&
                stub_signal_fatal((int)sig);
    if (was != 0 || (signal_exact() && !ends))
        return;
    if (number == SYS_tkill)
        args[0] = pid_now((int)args[0]);
    else if (args[0] == own || args[0] == pid_then(getpid()))
        args[0] = own;
    else
        return;
    if (thread)
        args[1] = pid_now((int)args[1]);
    if (args[0] > 1 && (!thread || args[1] > 1))
        system_make(number, args);
}

/* The signal of a call that had nobody to read what it sent, if it ends the process. Others come
 * from the log. */
static void replay_broken_pipe(const ucontext_t *uc, long number, const long *args)
{
    bool silent = (number == SYS_sendto && args[3] & MSG_NOSIGNAL) ||
                  (number == SYS_sendmsg && args[2] & MSG_NOSIGNAL);
    if (!silent && !(mask_of(uc) & SIGPIPE_BIT) && stub_signal_fatal(SIGPIPE))
        sys_raise(SIGPIPE);
}

/*
 * A function that a debugger calls, or the program with another value, prints something else, or
 * takes more memory, than the recording says. True: *result is that of the call, which was made.
 */
static bool replay_diverted(const struct system_row *row, long number, const long *args,
                            long *result)
{
    bool of_people = args[0] > 0 && args[0] < 3 && shown & 1u << args[0]; /* isatty() before it */
    if (!GATE->replay_diverted || !row || (row->kind != SYSTEM_MEMORY && !of_people))
        return false;
    const struct log_record *rec = replay_peek();
    bool recorded = rec && rec->call == (SYSTEM_CALL | (uint16_t)number);
    if (recorded && !is_for_people(number, args))
        return false;
    if (recorded)
        replay_system((unsigned)number);
    *result = system_make(number, args);
    return true;
}

/* An operation on the word that it wakes at, which nobody has waited at. */
static void replay_futex(const long *args)
{
    if ((args[1] & FUTEX_CMD_MASK) == FUTEX_WAKE_OP)
        system_make(SYS_futex, args);
}

/* The thread waits for its turn, and turns end. */
static bool ends_turns(const ucontext_t *uc)
{
    get_turn(uc);
    return !schedule_on;
}

/* Its outcome is not in the recording: of a wait (futex(2) lets it end for no reason), or of what
 * may have been made. */
static long left_futex(const long *args)
{
    long command = args[1] & FUTEX_CMD_MASK;
    bool waits = command == FUTEX_WAIT || command == FUTEX_WAIT_BITSET;
    return waits ? 0 : system_make(SYS_futex, args);
}

const struct log_record *system_take(unsigned number, const ucontext_t *uc, uint64_t at)
{
    struct stub_thread *t = &stub_thread;
    t->answering = (void *)uc;
    t->before_call = at;
    const struct log_record *rec = replay_system(number);
    t->answering = NULL;
    return rec;
}

/* The handler of SIGSYS is about to go on in this frame. */
static void leave_for(const ucontext_t *frame)
{
    struct stub_thread *t = &stub_thread;
    signal_forward_mask(mask_of(frame));
    t->dispatch = t->dispatched ? DISPATCH_BLOCK : DISPATCH_ALLOW;
}

void system_go_before_call(void)
{
    ucontext_t *uc = stub_thread.answering;
    stub_thread.answering = NULL;
    uc->uc_mcontext.gregs[REG_RIP] = (greg_t)system_before_call;
    leave_for(uc);
    system_return(uc);
}

/* The same of a system call, which this frame is behind. */
static const struct log_record *take_call(const ucontext_t *uc, long number)
{
    return system_take((unsigned)number, uc,
                       (uint64_t)uc->uc_mcontext.gregs[REG_RIP] - SYSCALL_BYTES);
}

static long replay(const ucontext_t *uc, const struct system_row *row, long number,
                   const long *args)
{
    long result;
    if (replay_diverted(row, number, args, &result))
        return result;
    if (row && row->flags & SYSTEM_WAITS && signal_exact())
        signal_in_call(mask_in_call(uc, row, args), (uint64_t)uc->uc_mcontext.gregs[REG_RIP]);
    if (row && row->kind == SYSTEM_ALONE && schedule_on && ends_turns(uc))
        return number == SYS_futex ? left_futex(args) : make(uc, row, number, args, false);
    const struct log_record *rec = take_call(uc, number);
    long was = log_field_int(replay_field(rec, LOG_PARAM_NONE, LOG_ROLE_RETCODE));
    if (rec->flags & RECORD_UNKNOWN)
        stub_stop(1, "event %lu: what the rank gets from %s (number %ld) cannot be recorded yet",
                  (unsigned long)rec->event, system_name((uint64_t)number), number);
    if (row->kind == SYSTEM_SIGNAL) {
        replay_sending(uc, number, args, was);
        return was;
    }
    compare_arguments(rec, row, args);
    if (row->kind == SYSTEM_OUTPUT)
        compare_output(rec, row, number, args, was);
    else if (row->kind == SYSTEM_MEMORY)
        was = replay_memory_call(rec, row, number, args, was);
    else if (number == SYS_futex)
        replay_futex(args);
    else
        take_outputs(rec, args);
    if (was == -EPIPE && sends(row, number))
        replay_broken_pipe(uc, number, args);
    return was;
}

/* ---- one call of the application ---- */

/* Descriptors 1 and 2 are the job's until the application puts something else there. */
static void note_descriptor(long number, const long *args, long result)
{
    long fd = number == SYS_close                        ? args[0]
              : number == SYS_dup2 || number == SYS_dup3 ? args[1]
                                                         : -1;
    if (result >= 0 && fd >= 0 && fd < 3)
        shown &= ~(1u << fd);
}

static long live(const ucontext_t *uc, const struct system_row *row, long number, const long *args)
{
    uint64_t before = row ? system_data_before(NULL, row, args) : 0;
    long result =
        makes_child(number) ? make_child(uc, number, args) : make(uc, row, number, args, false);
    if (!stub_active) /* this is the child */
        return result;
    get_turn(uc);
    if (replaying()) /* it was saved in the call, or before its turn came */
        return replay(uc, row, number, args);
    if (row && is_passed(row)) /* turns have ended */
        return result;
    if (!row) {
        say_unknown(number);
        record_system_begin((unsigned)number, RECORD_UNKNOWN, 0);
        record_system_end(result);
    } else if (number == SYS_mmap) {
        record_mapping(row, args, result);
        if (is_code(args, result))
            instruction_record((uint64_t)result, (uint64_t)(result + args[1]));
    } else {
        record(row, number, args, result, before);
    }
    return result;
}

static bool makes_thread(long number, const long *args)
{
    return makes_child(number) && cloning_of(number, args).flags & CLONE_THREAD;
}

/* Where a thread's maker is told its number, and a copy of the arguments without that. */
static int *take_told(long number, long args[6], struct clone_args *three)
{
    if (number == SYS_clone) {
        int *told = args[0] & CLONE_PARENT_SETTID ? (int *)args[2] : NULL;
        args[0] &= ~(long)CLONE_PARENT_SETTID;
        return told;
    }
    size_t size = (size_t)args[1] < sizeof *three ? (size_t)args[1] : sizeof *three;
    memcpy(three, (const void *)args[0], size);
    int *told = three->flags & CLONE_PARENT_SETTID ? (int *)three->parent_tid : NULL;
    three->flags &= ~(uint64_t)CLONE_PARENT_SETTID;
    args[0] = (long)three;
    args[1] = (long)size;
    return told;
}

/* A thread is made in a replay, too, where the application knows it by the recorded number. Until
 * its maker gives up its turn it does not look at that. */
static long make_thread_in_turn(const ucontext_t *uc, long number, const long *given)
{
    const struct log_record *rec = replaying() ? take_call(uc, number) : NULL;
    long args[6];
    long name = rec ? log_field_int(replay_field(rec, LOG_PARAM_NONE, LOG_ROLE_RETCODE)) : 0;
    struct clone_args three;
    if (name < 0)
        return name;
    memcpy(args, given, sizeof args);
    int *told = take_told(number, args, &three);
    long is = make_child(uc, number, args);
    if (rec && is < 0)
        stub_stop(1, "event %lu: a thread cannot be made again (error %ld)",
                  (unsigned long)rec->event, -is);
    if (!rec)
        name = is < 0 ? is : pid_of_new_thread((int)is);
    if (told && name > 0)
        *told = (int)name;
    if (name > 0 && name != is)
        pid_renumber((int)name, (int)is);
    if (!rec) {
        record_system_begin((unsigned)number, 0, 0);
        record_system_end(name);
    }
    return name;
}

static long make_thread(const ucontext_t *uc, long number, const long *args)
{
    stub_thread_is_made();
    if (!stub_thread.creating)
        schedule_end("there is one that pthread_create(3) has not made");
    return schedule_on ? make_thread_in_turn(uc, number, args) : make_child(uc, number, args);
}

/* Others may run while the call waits. */
static void give_turn(const struct system_row *row, long number)
{
    if (number == SYS_exit) {
        signal_forward_end();
        schedule_thread_ends();
    } else if (!row || row->flags & SYSTEM_WAITS || number == SYS_sched_yield) {
        schedule_give();
    }
    if (number == SYS_sched_yield)
        schedule_yield();
}

/* libc names the thread that it cancels by the number in struct pthread (pid.h). */
static void name_cancelled(long number, long *args)
{
    if (number == SYS_tgkill && args[2] == GATE_SIGNAL)
        args[1] = pid_then((int)args[1]);
}

static long of_application(ucontext_t *uc, long number, long *args)
{
    const struct system_row *row = system_row((uint64_t)number);
    if (number < 0 || number >= (long)SYSTEM_CALL)
        return -ENOSYS;
    name_cancelled(number, args);
    if (makes_thread(number, args))
        return make_thread(uc, number, args);
    if (schedule_on)
        give_turn(row, number);
    long result;
    if (row && is_passed(row))
        result = make(uc, row, number, args, false);
    else if (replaying())
        result = replay(uc, row, number, args);
    else
        result = live(uc, row, number, args);
    get_turn(uc);
    note_descriptor(number, args, result);
    return result;
}

bool system_is_stub(uint64_t pc)
{
    return (uint64_t)__ehdr_start <= pc && pc < (uint64_t)etext && pc != (uint64_t)syscall_site;
}

/* How often a library's threads that have no turn sleep and wake each other is left to chance. */
static bool waits_outside(long number)
{
    const struct stub_thread *t = &stub_thread;
    return (t->outside || t->region) && (number == SYS_futex || number == SYS_sched_yield);
}

/* Code of the stub, and what it calls, makes calls of its own; so do some handlers. */
bool system_is_own(const ucontext_t *uc)
{
    const greg_t *g = uc->uc_mcontext.gregs;
    return stub_thread.inside || system_is_stub((uint64_t)g[REG_RIP]) ||
           system_in_handler((uint64_t)g[REG_RSP]);
}

static long call(ucontext_t *uc, long number, long *args, bool own)
{
    switch (number) {
    case SYS_rt_sigprocmask:
        return hand_sigprocmask(uc, args);
    case SYS_rt_sigaction:
        return system_is_stub((uint64_t)uc->uc_mcontext.gregs[REG_RIP]) ? system_make(number, args)
                                                                        : hand_sigaction(uc, args);
    case SYS_sigaltstack:
        return hand_sigaltstack(uc, args);
    default:
        break;
    }
    if (own)
        return makes_child(number) ? make_child(uc, number, args)
                                   : make(uc, system_row((uint64_t)number), number, args, true);
    return of_application(uc, number, args);
}

/*
 * Whether the thread is behind a system call of the application that has not been made. The kernel
 * keeps one SIGSYS for a thread: where one that somebody has sent is pending, that of a call is
 * dropped, and the call with it. The instruction has left rcx and r11 as it does; behind a call
 * that was made r11 is 0. Source: Linux kernel/signal.c, legacy_queue().
 */
static bool call_was_dropped(const ucontext_t *uc)
{
    const greg_t *g = uc->uc_mcontext.gregs;
    return (uint64_t)g[REG_RIP] < GATE_ADDR && g[REG_RCX] == g[REG_RIP] &&
           g[REG_R11] == g[REG_EFL] &&
           memcmp((char *)g[REG_RIP] - SYSCALL_BYTES, "\x0f\x05", SYSCALL_BYTES) == 0;
}

/* Called by system_entry(). Returns the frame to go on in. The return of a handler that has
 * interrupted the lower half comes on that half's FS: nothing of this thread is looked at then. */
uint64_t system_signal(int sig, siginfo_t *info, ucontext_t *uc)
{
    greg_t *g = uc->uc_mcontext.gregs;
    if (info->si_code == SYS_USER_DISPATCH && fs_base() >= GATE_ADDR)
        return (uint64_t)g[REG_RSP];
    struct stub_thread *t = &stub_thread;
    if (info->si_code != SYS_USER_DISPATCH && fs_base() < GATE_ADDR &&
        t->dispatch == DISPATCH_BLOCK && call_was_dropped(uc))
        g[REG_RIP] -= SYSCALL_BYTES; /* as if the signal had come before it */
    if (schedule_signal(info, uc))
        return (uint64_t)uc;
    if (info->si_code != SYS_USER_DISPATCH) {
        stub_signal_forward(sig, info, uc);
        return (uint64_t)uc;
    }
    t->dispatch = DISPATCH_ALLOW;
    t->in_call = 0;
    t->call_behind = 0;
    uint64_t frame = (uint64_t)uc;
    if (g[REG_RAX] == SYS_rt_sigreturn) {
        frame = (uint64_t)g[REG_RSP]; /* of the handler that returns */
        if (signal_was_placed((const ucontext_t *)frame))
            signal_place(0);
    } else {
        long args[6] = {g[REG_RDI], g[REG_RSI], g[REG_RDX], g[REG_R10], g[REG_R8], g[REG_R9]};
        bool own = system_is_own(uc) || waits_outside(g[REG_RAX]);
        g[REG_RAX] = call(uc, g[REG_RAX], args, own);
        g[REG_RCX] = g[REG_RIP]; /* as the instruction does */
        g[REG_R11] = 0; /* call_was_dropped() */
        if (!own && stub_active && !t->outside)
            signal_place((uint64_t)g[REG_RIP]);
    }
    leave_for((const ucontext_t *)frame);
    return frame;
}

/* ---- handlers of the application ---- */

struct system_handler system_handler_begun(void *frame, enum signal_run how)
{
    struct stub_thread *t = &stub_thread;
    struct system_handler before = {t->handler, t->late, t->dispatch};
    if (!t->dispatched)
        return before;
    if (how == SIGNAL_RUN_ASIDE && !system_in_handler((uint64_t)frame))
        t->handler = frame;
    if (how == SIGNAL_RUN_LATE && !in_frame(&t->late, (uint64_t)frame))
        t->late = frame;
    t->dispatch = DISPATCH_BLOCK;
    return before;
}

void system_handler_ended(struct system_handler before)
{
    stub_thread.handler = before.frame;
    stub_thread.late = before.late;
    stub_thread.dispatch = before.dispatch;
}

bool system_in_handler(uint64_t sp)
{
    return in_frame(&stub_thread.handler, sp);
}

/* ---- start ---- */

static bool possible(void)
{
    return stub_active && GATE->signal_return && GATE->mode != GATE_LIVE;
}

/* [any FS] */
static long dispatch_on(struct stub_thread *t)
{
    return sys_call(SYS_prctl, PR_SET_SYSCALL_USER_DISPATCH, DISPATCH_ON, GATE_ADDR,
                    USER_END - GATE_ADDR, &t->dispatch, 0);
}

void system_record(void)
{
    if (!possible() || dispatched)
        return;
    dispatched = true;
    if (replaying())
        instruction_replay();
    else
        instruction_record(0, GATE_ADDR);
    stub_signal_system(system_entry);
}

bool system_recorded(void)
{
    return dispatched;
}

void system_thread_started(void)
{
    struct stub_thread *t = &stub_thread;
    uint64_t bits = SYSTEM_SIGNAL_BITS;
    if (!dispatched || !possible() || t->dispatched)
        return;
    sys_call(SYS_rt_sigprocmask, SIG_UNBLOCK, &bits, &t->mask, 8, 0, 0);
    t->dispatch = DISPATCH_ALLOW;
    t->dispatched = dispatch_on(t) == 0;
    t->dispatch = t->dispatched ? DISPATCH_BLOCK : DISPATCH_ALLOW;
}

uint64_t system_mask(uint64_t mask)
{
    struct stub_thread *t = &stub_thread;
    uint64_t before;
    uint8_t dispatch = t->dispatch;
    t->dispatch = DISPATCH_ALLOW;
    mask &= ~SYSTEM_SIGNAL_BITS;
    t->mask = mask;
    sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &before, 8, 0, 0);
    t->dispatch = dispatch;
    return before;
}

/*
 * [any FS] Has a signal that waits for the thread ended the call in which batch has saved it? That
 * has not been recorded yet: the thread is to make it, to be interrupted in it, in refine. The
 * replay, where the signal comes from the log, begins before it, too.
 */
static bool ends_again(ucontext_t *uc, uint64_t upper_fs)
{
    greg_t *pc = &uc->uc_mcontext.gregs[REG_RIP], behind = *pc;
    if (GATE->mode == GATE_RECORD && GATE->call_again)
        GATE->call_again(uc, upper_fs);
    return *pc != behind;
}

/* [any FS] */
void system_thread_resumes(uint64_t upper_fs, void *frame)
{
    struct stub_thread *t = (struct stub_thread *)(upper_fs + (uint64_t)stub_gate.tls_thread);
    ucontext_t *uc = frame;
    greg_t *pc = &uc->uc_mcontext.gregs[REG_RIP];
    if (!dispatched || !GATE->signal_return || GATE->mode == GATE_LIVE)
        return;
    if (schedule_on && !t->named) /* it has just been made: it will begin itself */
        return;
    if (!t->dispatched) { /* an image of batch */
        uint64_t mask = mask_of(uc) & ~SYSTEM_SIGNAL_BITS;
        memcpy(&uc->uc_sigmask, &mask, sizeof mask);
        t->mask = mask;
        t->ended = ends_again(uc, upper_fs);
        t->dispatched = 1;
        t->dispatch = DISPATCH_BLOCK;
        if (call_was_dropped(uc)) /* no: it was made when no call was looked at */
            uc->uc_mcontext.gregs[REG_R11] = 0;
    }
    if (!t->dispatched)
        return;
    schedule_thread_resumes(upper_fs, !system_is_stub((uint64_t)*pc)); /* which makes calls */
    if (dispatch_on(t) < 0)
        return;
    if (GATE->mode != GATE_REPLAY)
        return;
    if ((uint64_t)*pc > (uint64_t)system_make && (uint64_t)*pc < (uint64_t)system_made)
        *pc = (greg_t)(uint64_t)system_again;
    else if ((uint64_t)*pc > (uint64_t)system_wait && (uint64_t)*pc <= (uint64_t)system_make)
        *pc = (greg_t)(uint64_t)system_wait;
}
