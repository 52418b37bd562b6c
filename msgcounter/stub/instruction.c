/*
 * instruction.c - rdtsc, rdtscp, rdrand, rdseed and cpuid, recorded and replayed
 */
#include "msgcounter/stub/instruction.h"

#include <cpuid.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <x86intrin.h>

#include "msgcounter/log/system_table.h"
#include "msgcounter/stub/alloc.h"
#include "msgcounter/stub/record.h"
#include "msgcounter/stub/signal.h"
#include "msgcounter/stub/stub.h"
#include "msgcounter/stub/system.h"
#include "runtime/half/sys.h"

#define SITES_MAX 4096
#define PAGE      4096ul
#define CARRY     1u     /* of the flags */
#define FLAGS     0x8d5u /* that rdrand sets: overflow, sign, zero, auxiliary, parity, carry */

/* What an instruction gave: the registers that it sets, in this order, or one and the carry. */
struct outcome {
    uint32_t n;
    uint64_t value[4];
};

uint64_t instruction_signal(int sig, siginfo_t *info, ucontext_t *uc);
void instruction_entry(void); /* system_entry.S */

static struct gate_instruction *sites; /* ascending */
static int nsites;
void *instruction_otherwise __attribute__((visibility("hidden"))); /* handler; SIG_DFL: none */

/* ---- replacing ---- */

static bool replace(const struct gate_instruction *g)
{
    const uint16_t trap = GATE_TRAP_CODE;
    const long open = PROT_READ | PROT_WRITE | PROT_EXEC;
    uint64_t page = g->at & ~(PAGE - 1), bytes = g->at + g->length - page;
    if (memcmp((const void *)g->at, g->was, g->length) != 0)
        return false; /* the application has changed its code */
    if (sys_failed(sys_call(SYS_mprotect, page, bytes, open, 0, 0, 0)))
        return false;
    memcpy((void *)g->at, &trap, sizeof trap); /* the rest is never reached */
    sys_call(SYS_mprotect, page, bytes, g->prot, 0, 0, 0);
    return true;
}

/* The first at or behind an address. */
static int first_from(uint64_t addr)
{
    int low = 0, high = nsites;
    while (low < high) {
        int mid = low + (high - low) / 2;
        if (sites[mid].at < addr)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* Replaces n, and notes those that it could. Code may lie where other code has been. */
static void add(const struct gate_instruction *found, int n)
{
    sites = stub_realloc(sites, (size_t)(nsites + n) * sizeof *sites);
    for (int i = 0; i < n; i++) {
        if (system_is_stub(found[i].at) || !replace(&found[i]))
            continue;
        int at = first_from(found[i].at);
        if (at == nsites || sites[at].at != found[i].at)
            memmove(sites + at + 1, sites + at, (size_t)(nsites++ - at) * sizeof *sites);
        sites[at] = found[i];
    }
    stub_gate.instructions = sites;
    stub_gate.ninstructions = (uint64_t)nsites;
}

void instruction_record(uint64_t from, uint64_t to)
{
    size_t room = SITES_MAX * sizeof(struct gate_instruction);
    if (!GATE->instructions)
        return;
    struct gate_instruction *found = stub_alloc(room);
    int n = (int)cross(GATE->instructions, from, to, (uint64_t)found, SITES_MAX);
    if (n > 0) {
        record_system_begin(SYSTEM_CODE, 0, LOG_FIELD_ROOM(room));
        log_put(&record_writer, LOG_PARAM_NONE, LOG_ROLE_DATA, found, (size_t)n * sizeof *found);
        record_system_end(0);
        add(found, n);
    }
    stub_free(found);
}

void instruction_replay(void)
{
    const struct log_record *rec = replay_peek();
    if (!rec || rec->call != (SYSTEM_CALL | SYSTEM_CODE))
        return;
    const struct log_field *f =
        replay_field(replay_system(SYSTEM_CODE), LOG_PARAM_NONE, LOG_ROLE_DATA);
    add(log_field_value(f), (int)(log_field_length(f) / sizeof(struct gate_instruction)));
}

/* ---- one instruction ---- */

static const struct gate_instruction *site_at(uint64_t pc)
{
    int i = first_from(pc);
    return i < nsites && sites[i].at == pc ? &sites[i] : NULL;
}

/* Makes the instruction. */
static struct outcome make(const struct gate_instruction *g, const greg_t *regs)
{
    struct outcome o = {0};
    unsigned a, b, c, d;
    unsigned long long number;
    uint8_t carry;
    switch (g->kind) {
    case GATE_RDTSC:
        o.value[0] = __rdtsc();
        o.n = 1;
        break;
    case GATE_RDTSCP:
        o.value[0] = __rdtscp(&c);
        o.value[1] = c;
        o.n = 2;
        break;
    case GATE_CPUID:
        __cpuid_count((unsigned)regs[REG_RAX], (unsigned)regs[REG_RCX], a, b, c, d);
        o = (struct outcome){4, {a, b, c, d}};
        break;
    case GATE_RDRAND:
    default:
        if (g->kind == GATE_RDRAND)
            __asm__ volatile("rdrand %0; setc %1" : "=r"(number), "=q"(carry) : : "cc");
        else
            __asm__ volatile("rdseed %0; setc %1" : "=r"(number), "=q"(carry) : : "cc");
        o = (struct outcome){2, {number, carry}};
    }
    return o;
}

/* Gives the application what the instruction gave. */
static void set(const struct gate_instruction *g, const struct outcome *o, greg_t *regs)
{
    static const uint8_t order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                      REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                      REG_R12, REG_R13, REG_R14, REG_R15};
    greg_t *reg = &regs[order[g->reg & 15]];
    uint64_t kept = g->bits == 16 ? ~0xfffful : 0; /* a write to 32 bits clears the others */
    uint64_t written = g->bits == 64 ? ~0ul : (1ul << g->bits) - 1;
    switch (g->kind) {
    case GATE_RDTSCP:
        regs[REG_RCX] = (greg_t)o->value[1];
        /* fall through */
    case GATE_RDTSC:
        regs[REG_RAX] = (greg_t)(uint32_t)o->value[0];
        regs[REG_RDX] = (greg_t)(o->value[0] >> 32);
        break;
    case GATE_CPUID:
        regs[REG_RAX] = (greg_t)o->value[0];
        regs[REG_RBX] = (greg_t)o->value[1];
        regs[REG_RCX] = (greg_t)o->value[2];
        regs[REG_RDX] = (greg_t)o->value[3];
        break;
    case GATE_RDRAND:
    default:
        *reg = (greg_t)(((uint64_t)*reg & kept) | (o->value[0] & written));
        regs[REG_EFL] = (regs[REG_EFL] & ~(greg_t)FLAGS) | (greg_t)(o->value[1] ? CARRY : 0);
    }
}

/* From the log, unless a debugger runs what the recording has nothing of. */
static struct outcome take(const struct gate_instruction *g, const ucontext_t *uc)
{
    struct outcome o = {0};
    const struct log_record *rec = GATE->replay_diverted ? replay_peek() : NULL;
    if (GATE->replay_diverted && (!rec || rec->call != (SYSTEM_CALL | SYSTEM_INSTRUCTION)))
        return make(g, uc->uc_mcontext.gregs);
    rec = system_take(SYSTEM_INSTRUCTION, uc, g->at);
    uint64_t at = (uint64_t)log_field_int(replay_field(rec, LOG_PARAM_NONE, LOG_ROLE_RETCODE));
    if (at != g->at)
        stub_stop(3, "diverged at event %lu: the instruction at %#lx, recorded that at %#lx",
                  (unsigned long)rec->event, (unsigned long)g->at, (unsigned long)at);
    const struct log_field *f = replay_field(rec, LOG_PARAM_NONE, LOG_ROLE_DATA);
    uint64_t bytes = log_field_length(f);
    o.n = (uint32_t)((bytes < sizeof o.value ? bytes : sizeof o.value) / sizeof o.value[0]);
    memcpy(o.value, log_field_value(f), o.n * sizeof o.value[0]);
    return o;
}

static void answer(const struct gate_instruction *g, ucontext_t *uc, bool recorded)
{
    greg_t *regs = uc->uc_mcontext.gregs;
    struct outcome o = recorded && replaying() ? take(g, uc) : make(g, regs);
    if (recorded && recording()) {
        record_system_begin(SYSTEM_INSTRUCTION, 0, LOG_FIELD_ROOM(sizeof o.value));
        log_put(&record_writer, LOG_PARAM_NONE, LOG_ROLE_DATA, o.value, o.n * sizeof o.value[0]);
        record_system_end((long)g->at);
    }
    set(g, &o, regs);
    regs[REG_RIP] += g->length;
}

/* Not one of ours: what would have been done with it. Returns the frame to go on in, 0: where
 * instruction_otherwise is to run. */
static uint64_t refuse(const siginfo_t *info, const ucontext_t *uc)
{
    struct {
        void *handler;
        uint64_t flags, restorer, mask;
    } dfl = {0};
    bool sent = info->si_code <= 0;
    if (instruction_otherwise > (void *)SIG_IGN)
        return 0;
    if (sent && instruction_otherwise == (void *)SIG_IGN)
        return (uint64_t)uc;
    sys_call(SYS_rt_sigaction, SIGILL, &dfl, NULL, 8, 0, 0); /* then it comes again, and ends us */
    if (sent)
        sys_raise(SIGILL);
    return (uint64_t)uc;
}

/* Called by instruction_entry(). */
uint64_t instruction_signal(int sig, siginfo_t *info, ucontext_t *uc)
{
    greg_t *regs = uc->uc_mcontext.gregs;
    const struct gate_instruction *g =
        fs_base() < GATE_ADDR && info->si_code > 0 ? site_at((uint64_t)regs[REG_RIP]) : NULL;
    if (!g)
        return refuse(info, uc);
    struct stub_thread *t = &stub_thread;
    uint8_t dispatch = t->dispatch;
    bool recorded = stub_active && !system_is_own(uc) && GATE->mode != GATE_LIVE;
    t->dispatch = 0;
    answer(g, uc, recorded);
    if (recorded)
        signal_place((uint64_t)regs[REG_RIP]);
    t->dispatch = dispatch;
    return (uint64_t)uc;
}

void *instruction_handler(void *handler)
{
    if (!sites)
        return NULL;
    instruction_otherwise = handler;
    return (void *)instruction_entry;
}

void *instruction_handler_for(void *handler)
{
    return handler == (void *)instruction_entry ? instruction_otherwise : handler;
}
