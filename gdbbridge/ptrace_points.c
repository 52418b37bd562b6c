/*
 * ptrace_points.c - breakpoints in memory, and the debug registers
 *
 * A software breakpoint is an int3 in memory that GDB never sees: reads show the original byte,
 * writes over it change what will be put back. A hardware point takes one to four of the four debug
 * registers; all threads of a process have the same, each gets them before it runs next.
 * Source for DR6 and DR7: Intel SDM, volume 3, 18.2.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gdbbridge/ptrace_private.h"

#define INT3 0xcc

/* ------------------------------------------------------------------ software breakpoints */

static struct breakpoint *find(const struct process *p, uint64_t addr)
{
    for (struct breakpoint *b = p->breakpoints; b; b = b->next)
        if (b->addr == addr)
            return b;
    return NULL;
}

bool point_inserted(const struct process *p, uint64_t addr)
{
    const struct breakpoint *b = find(p, addr);
    return b && b->inserted;
}

bool point_permanent(const struct process *p, uint64_t addr)
{
    const struct breakpoint *b = find(p, addr);
    return b && b->inserted && b->original == INT3;
}

static int put_in(struct process *p, struct breakpoint *b)
{
    uint8_t int3 = INT3;
    if (process_peek(p, b->addr, &b->original, 1) != 1 || process_poke(p, b->addr, &int3, 1))
        return -1;
    b->inserted = true;
    return 0;
}

/* Takes it out, unless the program has put something else there (mapped another file, say). Returns
 * -1 if nothing is there any more. */
static int take_out(struct process *p, struct breakpoint *b)
{
    uint8_t now = 0;
    int r = b->inserted && process_peek(p, b->addr, &now, 1) != 1 ? -1 : 0;
    if (b->inserted && now == INT3)
        process_poke(p, b->addr, &b->original, 1);
    b->inserted = false;
    return r;
}

static int insert_software(struct process *p, uint64_t addr)
{
    struct breakpoint *b = find(p, addr);
    uint8_t now;
    if (b && b->inserted && process_peek(p, addr, &now, 1) == 1 && now != INT3)
        return put_in(p, b); /* a vfork parent's memory is this one's, and it took its own out */
    if (b)
        return 0;
    b = calloc(1, sizeof *b);
    if (!b)
        abort();
    b->addr = addr;
    if (!p->points_suspended && put_in(p, b)) {
        free(b);
        return -1;
    }
    b->next = p->breakpoints;
    p->breakpoints = b;
    return 0;
}

static int remove_software(struct process *p, uint64_t addr)
{
    for (struct breakpoint **at = &p->breakpoints; *at; at = &(*at)->next) {
        struct breakpoint *b = *at;
        if (b->addr != addr)
            continue;
        int r = take_out(p, b);
        *at = b->next;
        free(b);
        return r;
    }
    return 0;
}

void points_hide(const struct process *p, uint64_t addr, uint8_t *data, size_t size)
{
    for (const struct breakpoint *b = p->breakpoints; b; b = b->next)
        if (b->inserted && b->addr - addr < size)
            data[b->addr - addr] = b->original;
}

void points_write(struct process *p, uint64_t addr, uint8_t *data, size_t size)
{
    for (struct breakpoint *b = p->breakpoints; b; b = b->next)
        if (b->inserted && b->addr - addr < size) {
            b->original = data[b->addr - addr];
            data[b->addr - addr] = INT3;
        }
}

void points_copy(struct process *to, const struct process *from)
{
    for (const struct breakpoint *b = from->breakpoints; b; b = b->next) {
        struct breakpoint *copy = malloc(sizeof *copy);
        if (!copy)
            abort();
        *copy = *b;
        copy->next = to->breakpoints;
        to->breakpoints = copy;
    }
}

void points_lift(struct process *p)
{
    p->points_suspended = true;
    for (struct breakpoint *b = p->breakpoints; b; b = b->next)
        take_out(p, b);
}

void points_put_back(struct process *p)
{
    p->points_suspended = false;
    for (struct breakpoint *b = p->breakpoints; b; b = b->next)
        if (!b->inserted)
            put_in(p, b);
}

void points_forget(struct process *p)
{
    while (p->breakpoints) {
        struct breakpoint *b = p->breakpoints;
        p->breakpoints = b->next;
        free(b);
    }
    p->points_suspended = false;
    memset(&p->debug, 0, sizeof p->debug);
    for (struct thread *th = p->threads; th; th = th->next)
        th->debug_generation = 0; /* the kernel has cleared them with the memory */
}

/* ------------------------------------------------------------------ debug registers */

#define DR(n)          offsetof(struct user, u_debugreg[n])
#define DR7_ENABLE(n)  (1ul << 2 * (n))
#define DR7_FIELD(n)   (16 + 4 * (n))
#define DR6_TRIGGERED  0xful

/* Access and length bits of DR7. */
static unsigned long control_bits(enum point kind, unsigned size)
{
    static const unsigned long length[] = {[1] = 0, [2] = 1, [4] = 3, [8] = 2};
    unsigned long access = kind == POINT_HW ? 0 : kind == POINT_WRITE ? 1 : 3;
    return length[size] << 2 | access;
}

static unsigned long control(const struct debug_registers *d)
{
    unsigned long dr7 = 0;
    for (int i = 0; i < DEBUG_REGISTERS; i++)
        if (d->slot[i].size)
            dr7 |= DR7_ENABLE(i) | control_bits(d->slot[i].kind, d->slot[i].size) << DR7_FIELD(i);
    return dr7;
}

/* Returns 0, or -1 if the kernel refuses an address or has no register left. */
static int set_debug(struct thread *th, const struct debug_registers *d)
{
    unsigned long dr7 = control(d);
    ptrace(PTRACE_POKEUSER, th->tid, DR(7), 0); /* Linux wants addresses changed while disabled */
    for (int i = 0; i < DEBUG_REGISTERS; i++)
        if (d->slot[i].size && ptrace(PTRACE_POKEUSER, th->tid, DR(i), d->slot[i].addr))
            return -1;
    return dr7 && ptrace(PTRACE_POKEUSER, th->tid, DR(7), dr7) ? -1 : 0;
}

void debug_apply(struct thread *th)
{
    if (th->debug_generation == th->process->debug.generation)
        return;
    set_debug(th, &th->process->debug);
    th->debug_generation = th->process->debug.generation;
}

void debug_clear(struct thread *th)
{
    static const struct debug_registers none;
    if (!th->debug_generation)
        return;
    set_debug(th, &none);
    th->debug_generation = 0;
}

enum trap debug_why(struct thread *th, uint64_t *addr)
{
    static const enum trap traps[] = {[POINT_HW] = TRAP_HW_BREAK,
                                      [POINT_WRITE] = TRAP_WATCH_WRITE,
                                      [POINT_ACCESS] = TRAP_WATCH_ACCESS};
    const struct debug_registers *d = &th->process->debug;
    errno = 0;
    unsigned long dr6 = (unsigned long)ptrace(PTRACE_PEEKUSER, th->tid, DR(6), NULL);
    if (errno || !(dr6 & DR6_TRIGGERED))
        return TRAP_OTHER;
    /* the processor sets these bits, never clears them */
    ptrace(PTRACE_POKEUSER, th->tid, DR(6), 0);
    for (int i = 0; i < DEBUG_REGISTERS; i++)
        if (dr6 & 1ul << i && d->slot[i].size) {
            *addr = d->slot[i].addr;
            return traps[d->slot[i].kind];
        }
    return TRAP_OTHER;
}

/* Takes over new settings if the kernel accepts them, tried on one thread. */
static int adopt_settings(struct process *p, struct debug_registers *d)
{
    struct thread *th = p->threads;
    while (th && th->state != THREAD_STOPPED)
        th = th->next;
    d->generation++;
    if (th && set_debug(th, d)) {
        set_debug(th, &p->debug);
        th->debug_generation = p->debug.generation;
        return -1;
    }
    if (th)
        th->debug_generation = d->generation;
    p->debug = *d;
    wait_refresh(p);
    return 0;
}

/* The largest aligned piece that starts at addr. */
static unsigned piece(uint64_t addr, size_t size)
{
    unsigned n = 8;
    while (n > size || addr % n)
        n /= 2;
    return n;
}

static int slot_find(const struct debug_registers *d, enum point kind, uint64_t addr, unsigned size)
{
    for (int i = 0; i < DEBUG_REGISTERS; i++)
        if (d->slot[i].size == size &&
            (!size || (d->slot[i].addr == addr && d->slot[i].kind == kind)))
            return i;
    return -1;
}

static int insert_hardware(struct process *p, enum point kind, uint64_t addr, size_t size)
{
    struct debug_registers d = p->debug; /* all pieces or none */
    while (size) {
        unsigned n = piece(addr, size);
        int i = slot_find(&d, kind, addr, n);
        if (i < 0) {
            i = slot_find(&d, kind, addr, 0);
            if (i < 0)
                return -1;
            d.slot[i].addr = addr;
            d.slot[i].size = n;
            d.slot[i].kind = kind;
            d.slot[i].script = NULL;
        }
        d.slot[i].users++;
        addr += n;
        size -= n;
    }
    return adopt_settings(p, &d);
}

static int remove_hardware(struct process *p, enum point kind, uint64_t addr, size_t size)
{
    struct debug_registers d = p->debug;
    while (size) {
        unsigned n = piece(addr, size);
        int i = slot_find(&d, kind, addr, n);
        if (i < 0)
            return -1;
        if (!--d.slot[i].users)
            d.slot[i].size = 0;
        addr += n;
        size -= n;
    }
    return adopt_settings(p, &d);
}

/* ------------------------------------------------------------------ for GDB */

typedef int change_software(struct process *p, uint64_t addr);
typedef int change_hardware(struct process *p, enum point kind, uint64_t addr, size_t size);

/* x86 has no watchpoint for reads alone: GDB then uses one for all accesses. */
static int change(struct target *t, pid_t pid, enum point kind, uint64_t addr, size_t size,
                  change_software *software, change_hardware *hardware)
{
    struct process *p = process_find(ptrace_target_of(t), pid);
    if (kind == POINT_READ)
        return POINT_UNSUPPORTED;
    if (!p)
        return -1;
    if (kind == POINT_SW)
        return software(p, addr);
    return hardware(p, kind, addr, kind == POINT_HW ? 1 : size);
}

int target_insert_point(struct target *t, pid_t pid, enum point kind, uint64_t addr, size_t size)
{
    return change(t, pid, kind, addr, size, insert_software, insert_hardware);
}

int target_remove_point(struct target *t, pid_t pid, enum point kind, uint64_t addr, size_t size)
{
    return change(t, pid, kind, addr, size, remove_software, remove_hardware);
}

/* Where the script of a breakpoint is kept, or NULL: there is no such breakpoint. */
static const struct agent_script **script_of(struct process *p, enum point kind, uint64_t addr)
{
    struct breakpoint *b = kind == POINT_SW ? find(p, addr) : NULL;
    int i = kind == POINT_HW ? slot_find(&p->debug, kind, addr, 1) : -1;
    return b ? &b->script : i >= 0 ? &p->debug.slot[i].script : NULL;
}

const struct agent_script *point_script(const struct process *p, enum point kind, uint64_t addr)
{
    const struct agent_script **s = script_of((struct process *)p, kind, addr);
    return s ? *s : NULL;
}

int target_script_point(struct target *base, pid_t pid, enum point kind, uint64_t addr,
                        const char *text, size_t size)
{
    struct ptrace_target *t = ptrace_target_of(base);
    struct process *p = process_find(t, pid);
    const struct agent_script **s = p ? script_of(p, kind, addr) : NULL;
    if (!s)
        return -1;
    *s = size ? agent_script(&t->scripts, text, size) : NULL;
    return size && !*s ? -1 : 0;
}
