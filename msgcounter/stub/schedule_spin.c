/*
 * schedule_spin.c - threads that spin for others
 *
 * One that has the turn and waits in a loop of its own would wait for ever. It is looked at now and
 * then, by a signal. Two things tell such a loop, if they hold for some looks in a row: it has the
 * instruction `pause`; or the thread comes by the same instruction with the same values in all
 * registers, and so gets on with nothing.
 *
 * In a loop with `pause` it makes no difference when the thread gives up its turn, but for what
 * counts the rounds: so a replay takes any moment in that loop. The other kind may lock and unlock
 * a mutex: a replay takes the same instruction. More than one look is needed there, too: the first
 * one may have come just before the loop.
 *
 * A look that follows another so soon that the thread has not run meanwhile tells nothing: on a
 * busy machine, and under a debugger, the next one is pending when the handler of one returns.
 */
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "msgcounter/log/system_table.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/schedule_private.h"
#include "msgcounter/stub/stub.h"
#include "runtime/half/sys.h"

#define NEAR       64 /* bytes of code to both sides in which such a loop lies */
#define CODE_PAGE  4096ul
#define LOOKS      3   /* in a row, that tell a loop */
#define STATES     8   /* of registers, that are remembered */
#define LOST_LOOKS 500 /* replay: it waits for what does not come */
#define LOST_PLACES 20000 /* the same, at one instruction */
#define RUN_NS     100000 /* of CPU time, that count between two looks */
#define ENTRY_NS   5000   /* of it, that the kernel takes from the end of one to the next at most */

/* What looks at the present turn have shown. */
static struct {
    uint64_t given; /* which turn */
    uint64_t pc;    /* of the first look in this loop */
    unsigned loop;  /* looks in a row that were in it */
    unsigned same;  /* looks in a row that found registers as they had been */
    uint64_t states[STATES];
    unsigned nstates;
    uint64_t left_ns; /* CPU time of the thread when the last look ended */
    uint64_t run_ns;  /* of it, in the thread's own code since the last look that counts */
} seen;

void schedule_look(void)
{
    long tid = schedule.tid;
    if (schedule_taken_by_any() && tid > 1)
        sys_signal_thread(tid, SIGSYS, SYSTEM_SCHEDULE_SIGNAL);
}

/* In the same page, which there is. */
static bool has_pause(uint64_t pc)
{
    static const uint8_t pause[] = {0xf3, 0x90};
    uint64_t from = pc - NEAR, page = pc & ~(CODE_PAGE - 1);
    for (uint64_t at = from < page ? page : from;
         at < pc + NEAR && at < page + CODE_PAGE - sizeof pause; at++)
        if (memcmp((const void *)at, pause, sizeof pause) == 0)
            return true;
    return false;
}

static bool is_near(uint64_t pc, uint64_t other)
{
    return pc - other + NEAR <= 2 * NEAR;
}

static bool state_is_known(const ucontext_t *uc)
{
    static const uint8_t order[] = {REG_RIP, REG_RAX, REG_RBX, REG_RCX, REG_RDX, REG_RSI,
                                    REG_RDI, REG_RBP, REG_RSP, REG_R8,  REG_R9,  REG_R10,
                                    REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
    greg_t values[sizeof order];
    for (unsigned i = 0; i < sizeof order; i++)
        values[i] = uc->uc_mcontext.gregs[order[i]];
    uint64_t state = XXH3_64bits(values, sizeof values);
    for (unsigned i = 0; i < STATES; i++)
        if (seen.states[i] == state)
            return true;
    seen.states[seen.nstates++ % STATES] = state;
    return false;
}

/* Whether a look tells something. The first one of a turn does. */
static bool look_counts(void)
{
    uint64_t given = schedule_given();
    if (seen.given != given) {
        memset(&seen, 0, sizeof seen);
        seen.given = given;
    }
    uint64_t ns = sys_thread_cpu_ns() - seen.left_ns;
    if (seen.left_ns)
        seen.run_ns += ns > ENTRY_NS ? ns - ENTRY_NS : 0;
    if (seen.left_ns && seen.run_ns < RUN_NS)
        return false;
    seen.run_ns = 0;
    return true;
}

static void look(const ucontext_t *uc)
{
    uint64_t pc = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
    if (!has_pause(pc)) {
        seen.loop = 0;
    } else if (seen.loop++ == 0 || !is_near(pc, seen.pc)) {
        seen.pc = pc;
        seen.loop = 1;
    }
    seen.same = state_is_known(uc) ? seen.same + 1 : 0;
}

bool schedule_spins(const ucontext_t *uc)
{
    bool counts = look_counts();
    if (counts)
        look(uc);
    seen.left_ns = sys_thread_cpu_ns();
    return counts && (seen.loop >= LOOKS || seen.same >= LOOKS);
}

/* Of a loop without `pause`: it is at this instruction, and was there with the same values. */
static bool comes_again(const ucontext_t *uc, uint64_t pc)
{
    bool counts = look_counts(), there = (uint64_t)uc->uc_mcontext.gregs[REG_RIP] == pc;
    seen.same += counts;
    bool again = counts && there && state_is_known(uc);
    seen.left_ns = sys_thread_cpu_ns();
    return again;
}

bool schedule_spins_as(const ucontext_t *uc, const struct schedule_change *was)
{
    uint64_t pc = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
    bool exactly = was && !has_pause(was->pc);
    bool spins = exactly ? comes_again(uc, was->pc) : schedule_spins(uc);
    if (spins && was && (uint64_t)uc->uc_mcontext.gregs[REG_RSP] == was->sp &&
        is_near(pc, was->pc))
        return true;
    unsigned lost = exactly ? LOST_PLACES : LOST_LOOKS;
    if (seen.loop > lost || seen.same > lost)
        stub_stop(3, "diverged at event %lu: thread %u waits for what another thread does not do",
                  (unsigned long)record_event(), schedule.holder);
    return false;
}
