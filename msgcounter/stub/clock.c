/*
 * clock.c - time, recorded and replayed
 *
 * While recording, each reading of a clock through the upper half's vdso (time(), gettimeofday(),
 * clock_gettime(), and with them MPI_Wtime) is an event: the row of MPI_Wtime, with what the
 * function wrote. Its flags say which function it was. In replay the reading comes from the log.
 *
 * A signal handler that interrupts the stub gets the present time and no event: nothing tells at
 * which instruction a replay would have to interrupt it.
 */
#include "msgcounter/stub/clock.h"

#include <string.h>
#include <sys/time.h>
#include <time.h>

#include "msgcounter/stub/count.h"
#include "msgcounter/stub/no_park.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/signal.h"
#include "msgcounter/stub/system.h"
#include "runtime/half/sys.h"

#define OUT_MAX 16 /* bytes that a function writes at most */

/* Whether the reading is part of the recorded execution: after MPI_Init, outside the stub. */
static bool recorded(void)
{
    return stub_active && stub_thread.inside == 0 && count.nranks && GATE->mode != GATE_LIVE &&
           !(stub_thread.handler && system_in_handler((uint64_t)__builtin_frame_address(0)));
}

/* Records or replays one reading. `live` makes it, into out[0..size). Returns the function's
 * result. */
static int64_t reading(enum gate_vdso which, int64_t (*live)(const uint64_t *args, void *out),
                       const uint64_t *args, void *out, uint64_t size)
{
    int64_t result;
    if (!recorded())
        return live(args, out);
    stub_enter();
    if (replaying()) {
        const struct log_record *rec = replay_next(CALL_MPI_Wtime);
        const struct log_field *f = replay_field(rec, (uint8_t)which, LOG_ROLE_TIME);
        if (log_field_length(f) < size)
            stub_stop(1, "diverged at event %lu: another clock is read than was recorded",
                      (unsigned long)rec->event);
        __builtin_memcpy(out, log_field_value(f), size);
        result = log_field_int(replay_field(rec, (uint8_t)which, LOG_ROLE_VALUE));
    } else {
        result = live(args, out);
        record_begin(CALL_MPI_Wtime, LOG_FIELD_ROOM(OUT_MAX) + LOG_FIELD_ROOM(8));
        log_put(&record_writer, (uint8_t)which, LOG_ROLE_TIME, out, size);
        log_put_u64(&record_writer, (uint8_t)which, LOG_ROLE_VALUE, (uint64_t)result);
        record_end(0);
    }
    stub_leave();
    stack_wipe();
    return result;
}

static void *kernel(enum gate_vdso which)
{
    return GATE->kernel_vdso[which];
}

static int64_t live_gettime(const uint64_t *args, void *out)
{
    return ((int (*)(clockid_t, void *))kernel(GATE_VDSO_CLOCK_GETTIME))((clockid_t)args[0], out);
}

static int64_t live_getres(const uint64_t *args, void *out)
{
    return ((int (*)(clockid_t, void *))kernel(GATE_VDSO_CLOCK_GETRES))((clockid_t)args[0], out);
}

static int64_t live_gettimeofday(const uint64_t *args, void *out)
{
    return ((int (*)(void *, void *))kernel(GATE_VDSO_GETTIMEOFDAY))(out, (void *)args[0]);
}

static int64_t live_time(const uint64_t *args, void *out)
{
    return ((time_t(*)(void *))kernel(GATE_VDSO_TIME))(out);
}

static int64_t live_getcpu(const uint64_t *args, void *out)
{
    unsigned *cpu = out;
    return ((int (*)(unsigned *, unsigned *, void *))kernel(GATE_VDSO_GETCPU))(&cpu[0], &cpu[1],
                                                                               NULL);
}

static int clock_gettime_hook(clockid_t id, struct timespec *t)
{
    uint64_t args[] = {(uint64_t)id};
    return (int)reading(GATE_VDSO_CLOCK_GETTIME, live_gettime, args, t, sizeof *t);
}

static int clock_getres_hook(clockid_t id, struct timespec *t)
{
    struct timespec ignored;
    uint64_t args[] = {(uint64_t)id};
    return (int)reading(GATE_VDSO_CLOCK_GETRES, live_getres, args, t ? t : &ignored, sizeof *t);
}

static int gettimeofday_hook(struct timeval *t, void *zone)
{
    struct timeval ignored;
    uint64_t args[] = {(uint64_t)zone};
    return (int)reading(GATE_VDSO_GETTIMEOFDAY, live_gettimeofday, args, t ? t : &ignored,
                        sizeof *t);
}

static time_t time_hook(time_t *t)
{
    time_t ignored;
    return reading(GATE_VDSO_TIME, live_time, NULL, t ? t : &ignored, sizeof *t);
}

static int getcpu_hook(unsigned *cpu, unsigned *node, void *unused)
{
    unsigned both[2] = {0, 0};
    int rc = (int)reading(GATE_VDSO_GETCPU, live_getcpu, NULL, both, sizeof both);
    (void)unused;
    if (cpu)
        *cpu = both[0];
    if (node)
        *node = both[1];
    return rc;
}

void *const clock_hooks[GATE_VDSO_COUNT] = {
    [GATE_VDSO_CLOCK_GETTIME] = clock_gettime_hook, [GATE_VDSO_GETTIMEOFDAY] = gettimeofday_hook,
    [GATE_VDSO_TIME] = time_hook,                   [GATE_VDSO_GETCPU] = getcpu_hook,
    [GATE_VDSO_CLOCK_GETRES] = clock_getres_hook,
};

/* ---- batch: the kernel's vdso, with clock_live.S around it ---- */

extern const char clock_read[], clock_signal[];

/* clock_live's stack: right below it stands where the vdso returns to. */
__thread uint64_t *clock_stack __attribute__((tls_model("initial-exec")));

void clock_live_clock_gettime(void);
void clock_live_gettimeofday(void);
void clock_live_time(void);
void clock_live_getcpu(void);
void clock_live_clock_getres(void);
void clock_signals_come(void);

void *const clock_live_hooks[GATE_VDSO_COUNT] = {
    [GATE_VDSO_CLOCK_GETTIME] = clock_live_clock_gettime,
    [GATE_VDSO_GETTIMEOFDAY] = clock_live_gettimeofday,
    [GATE_VDSO_TIME] = clock_live_time,
    [GATE_VDSO_GETCPU] = clock_live_getcpu,
    [GATE_VDSO_CLOCK_GETRES] = clock_live_clock_getres,
};

/* Is the thread in the vdso, for clock_live? */
NO_PARK static bool in_vdso(const ucontext_t *uc)
{
    uint64_t *back = clock_stack - 1;
    return (uint64_t)uc->uc_mcontext.gregs[REG_RIP] >= GATE_ADDR && !stub_thread.inside &&
           clock_stack && (uint64_t)back >= (uint64_t)uc->uc_mcontext.gregs[REG_RSP] &&
           (*back == (uint64_t)clock_read || *back == (uint64_t)clock_signal);
}

NO_PARK bool clock_signal_later(const siginfo_t *info, ucontext_t *uc)
{
    uint64_t *back = clock_stack - 1, mask;
    if (!in_vdso(uc) || signal_self(info->si_signo, info) < 0)
        return false;
    memcpy(&mask, &uc->uc_sigmask, sizeof mask);
    if (*back == (uint64_t)clock_read)
        stub_thread.clock_mask = mask;
    *back = (uint64_t)clock_signal;
    mask |= 1ul << (info->si_signo - 1);
    memcpy(&uc->uc_sigmask, &mask, sizeof mask);
    return true;
}

/* Called by clock_signal: the clock has been read. */
void clock_signals_come(void)
{
    uint64_t mask = stub_thread.clock_mask; /* handlers may read clocks */
    sys_call(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, 8, 0, 0);
}
