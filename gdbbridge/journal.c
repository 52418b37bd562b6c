/*
 * journal.c - what enters a program that is recorded: system calls and signals
 *
 * Sources: ptrace(2), syscall(2) for the registers, getauxval(3) and the System V ABI for the stack
 * of a new process; Linux arch/x86/kernel/signal.c for calls that are made again after a signal.
 */
#include "gdbbridge/journal.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gdbbridge/grow.h"
#include "gdbbridge/procfs.h"
#include "msgcounter/log/system_data.h"

#define LOG_MODULE "journal"
#include "runtime/base/log.h"

#define JOURNAL_MAX (1ul << 30) /* bytes; then it begins anew */
#define PAGE        4096ul

/* Results that the kernel keeps to itself (include/linux/errno.h): the call is made again, unless a
 * handler that does not want that runs before. */
#define RESTART_FIRST 512
#define RESTART_LAST  516

/* What a call wrote, or what a mapping held. */
struct chunk {
    uint64_t addr, size;
    uint8_t bytes[];
};

struct entry {
    bool is_signal;
    bool handed; /* a signal: to the program; GDB may have kept it from it */
    long number; /* of the call, or of the signal */
    long result;
    uint64_t pc;       /* at the call's entry; where the signal was handed over */
    uint64_t back, sp; /* at the call's return */
    siginfo_t info;
    uint8_t *chunks; /* struct chunk, each padded to 8 bytes */
    size_t size;
};

struct place {
    pid_t pid;
    size_t at;
    bool inside;  /* a call */
    bool answers; /* that call is answered, not made */
    bool known;   /* its entry is entry[at] */
    bool changed; /* its arguments are not the program's */
    bool met;     /* entry[at] is a signal that has stopped it */
    bool sent;    /* ... that is on its way to it */
    size_t bound; /* of a copy: the signal that it goes to at most */
    long number, args[6];
    uint64_t pc;
    uint64_t before; /* system_data.h */
};

static struct {
    struct entry *entry;
    size_t n, room;
    uint64_t bytes;
    struct place *place;
    size_t nplaces, places_room;
    pid_t first; /* what the program knows itself by */
    bool shares; /* it writes to memory that it shares, with its copies, too */
} journal;

/* ---- places ---- */

static struct place *find(pid_t pid)
{
    for (size_t i = 0; i < journal.nplaces; i++)
        if (journal.place[i].pid == pid)
            return &journal.place[i];
    return NULL;
}

static void add_place(const struct place *p)
{
    journal.place = grow(journal.place, journal.nplaces, &journal.places_room, sizeof *p);
    journal.place[journal.nplaces++] = *p;
}

static void cut(size_t n)
{
    while (journal.n > n) {
        journal.bytes -= journal.entry[--journal.n].size;
        free(journal.entry[journal.n].chunks);
    }
}

void journal_end(void)
{
    cut(0);
    journal.nplaces = 0;
}

void journal_begin(pid_t pid)
{
    journal_end();
    journal.first = pid;
    add_place(&(struct place){.pid = pid, .bound = JOURNAL_NONE});
}

bool journal_shares(void)
{
    return journal.shares;
}

bool journal_has(pid_t pid)
{
    return find(pid);
}

void journal_copy(pid_t from, pid_t to)
{
    const struct place *p = find(from);
    if (!p)
        return;
    struct place copy = *p;
    copy.pid = to;
    copy.met = copy.sent = false;
    add_place(&copy);
}

void journal_drop(pid_t pid)
{
    struct place *p = find(pid);
    if (p)
        *p = journal.place[--journal.nplaces];
}

void journal_cut(pid_t pid)
{
    const struct place *p = find(pid);
    if (p)
        cut(p->at);
}

bool journal_inside(pid_t pid)
{
    const struct place *p = find(pid);
    return p && p->inside;
}

static struct entry *next_of(const struct place *p)
{
    return p->at < journal.n ? &journal.entry[p->at] : NULL;
}

static struct entry *append(struct place *p)
{
    journal.entry = grow(journal.entry, journal.n, &journal.room, sizeof *journal.entry);
    struct entry *e = &journal.entry[journal.n++];
    *e = (struct entry){0};
    p->at = journal.n;
    return e;
}

/* ---- memory and registers ---- */

/* Also what the process itself may not read; the same for poke(). */
static bool peek(pid_t pid, uint64_t at, void *to, uint64_t bytes)
{
    if (procfs_peek(pid, at, to, bytes) == (ssize_t)bytes)
        return true;
    int fd = procfs_memory(pid);
    bool done = fd >= 0 && pread(fd, to, bytes, (off_t)at) == (ssize_t)bytes;
    if (fd >= 0)
        close(fd);
    return done;
}

static bool peek_of(void *arg, uint64_t at, void *to, uint64_t bytes)
{
    return peek(*(const pid_t *)arg, at, to, bytes);
}

static bool poke(pid_t pid, uint64_t at, const void *from, uint64_t bytes)
{
    int fd = procfs_memory(pid);
    bool done = fd >= 0 && pwrite(fd, from, bytes, (off_t)at) == (ssize_t)bytes;
    if (fd >= 0)
        close(fd);
    return done;
}

static bool get(pid_t pid, struct user_regs_struct *regs)
{
    return !ptrace(PTRACE_GETREGS, pid, NULL, regs);
}

static bool set(pid_t pid, const struct user_regs_struct *regs)
{
    return !ptrace(PTRACE_SETREGS, pid, NULL, regs);
}

/* From a call's entry to its return, or from execve's event to that. */
static bool to_next_stop(pid_t pid)
{
    int status;
    return !ptrace(PTRACE_SYSCALL, pid, NULL, 0) && waitpid(pid, &status, __WALL) == pid &&
           WIFSTOPPED(status);
}

bool journal_at_call(pid_t pid)
{
    struct user_regs_struct regs;
    uint16_t code;
    return get(pid, &regs) && peek(pid, regs.rip, &code, sizeof code) && code == 0x050f;
}

/* ---- what is done with a call ---- */

/* What calls write that other recordings need not know, as they make them again. */
static const struct system_row also[] = {
    [SYS_rt_sigpending] = {.nargs = 2, .out = {{SYSTEM_FIXED, 0, 0, 8}}},
    [SYS_rt_sigtimedwait] = {.nargs = 4, .out = {{SYSTEM_FIXED, 1, 0, 128}}},
    [SYS_getitimer] = {.nargs = 2, .out = {{SYSTEM_FIXED, 1, 0, 32}}},
    [SYS_setitimer] = {.nargs = 3, .out = {{SYSTEM_FIXED, 2, 0, 32}}},
    [SYS_timer_create] = {.nargs = 3, .out = {{SYSTEM_FIXED, 2, 0, 4}}},
    [SYS_timer_settime] = {.nargs = 4, .out = {{SYSTEM_FIXED, 3, 0, 32}}},
    [SYS_timer_gettime] = {.nargs = 2, .out = {{SYSTEM_FIXED, 1, 0, 32}}},
};

static const struct system_row *row_of(long number)
{
    const struct system_row *row = system_row((uint64_t)number);
    bool more = number >= 0 && (size_t)number < sizeof also / sizeof also[0] && also[number].nargs;
    return more ? &also[number] : row;
}

static bool is_memory(long number)
{
    const struct system_row *row = system_row((uint64_t)number);
    return row && row->kind == SYSTEM_MEMORY;
}

/* Does it concern nothing but the process, so that a copy makes it as well? */
static bool is_own(long number)
{
    switch (number) {
    case SYS_rt_sigaction:
    case SYS_rt_sigprocmask:
    case SYS_rt_sigreturn:
    case SYS_sigaltstack:
    case SYS_set_robust_list:
    case SYS_get_robust_list:
    case SYS_set_tid_address:
    case SYS_rseq:
    case SYS_arch_prctl:
    case SYS_prctl:
    case SYS_membarrier:
        return true;
    default:
        return false;
    }
}

static bool is_failed(long result)
{
    return result < 0 && result >= -4095;
}

static bool is_restart(long result)
{
    return result <= -RESTART_FIRST && result >= -RESTART_LAST;
}

/* ---- made: what leads ---- */

struct collector {
    pid_t pid;
    struct entry *entry;
};

static void collect(void *arg, void *at, uint64_t bytes)
{
    struct collector *c = arg;
    struct entry *e = c->entry;
    size_t room = sizeof(struct chunk) + (bytes + 7) / 8 * 8;
    e->chunks = realloc(e->chunks, e->size + room);
    if (!e->chunks)
        abort();
    struct chunk *chunk = (struct chunk *)(e->chunks + e->size);
    *chunk = (struct chunk){(uint64_t)at, bytes};
    if (!peek(c->pid, chunk->addr, chunk->bytes, bytes))
        return; /* it says that it wrote there, and did not */
    e->size += room;
    journal.bytes += room;
}

/* What a file's mapping holds, up to the end of the file. */
static void collect_mapping(struct collector *c, uint64_t at, uint64_t bytes)
{
    uint8_t page[PAGE];
    uint64_t end = at;
    while (end < at + bytes && peek(c->pid, end, page, PAGE))
        end += PAGE;
    if (end > at)
        collect(c, (void *)at, end - at);
}

/* The program knows itself by the pid that it began with. */
static void rename_pid(const struct place *p, struct user_regs_struct *regs)
{
    if (p->pid != journal.first && (long)regs->rax == p->pid &&
        (p->number == SYS_getpid || p->number == SYS_gettid)) {
        regs->rax = (uint64_t)journal.first;
        set(p->pid, regs);
    }
}

static void address_pid(struct place *p, struct user_regs_struct *regs)
{
    bool kills = p->number == SYS_kill || p->number == SYS_tkill || p->number == SYS_tgkill ||
                 p->number == SYS_rt_sigqueueinfo || p->number == SYS_rt_tgsigqueueinfo;
    if (!kills || p->pid == journal.first)
        return;
    if ((pid_t)regs->rdi == journal.first)
        regs->rdi = (uint64_t)p->pid;
    if (p->number != SYS_kill && (pid_t)regs->rsi == journal.first)
        regs->rsi = (uint64_t)p->pid;
    p->changed = set(p->pid, regs);
}

static void made(struct place *p, struct user_regs_struct *regs)
{
    struct system_memory memory = {peek_of, &p->pid};
    const struct system_row *row = row_of(p->number);
    rename_pid(p, regs);
    struct entry *e = append(p);
    e->number = p->number;
    e->result = (long)regs->rax;
    e->pc = p->pc;
    e->back = regs->rip;
    e->sp = regs->rsp;
    if (is_own(p->number))
        return;
    struct collector c = {p->pid, e};
    bool mapped = p->number == SYS_mmap && !is_failed(e->result);
    if (mapped && !(p->args[3] & MAP_ANONYMOUS))
        collect_mapping(&c, (uint64_t)e->result, (uint64_t)p->args[1]);
    bool known = row ? is_memory(p->number) || row->kind == SYSTEM_OUTPUT ||
                           system_data_find(&memory, row, p->args, e->result, p->before,
                                            collect, &c)
                     : is_failed(e->result);
    log_debug("%d: %s(%#lx, %#lx, %#lx) = %ld, %zu bytes%s", (int)p->pid,
              system_name((uint64_t)p->number), p->args[0], p->args[1], p->args[2], e->result,
              e->size, known ? "" : ": not known");
    if (!is_failed(e->result))
        journal.shares |= p->number == SYS_shmat ||
                          (mapped && p->args[3] & MAP_SHARED && p->args[2] & PROT_WRITE);
    if (!known || journal.shares || journal.bytes > JOURNAL_MAX)
        journal_end(); /* what was before cannot be done again */
}

/* ---- answered: what follows ---- */

static void restore_args(struct place *p, struct user_regs_struct *regs)
{
    if (!p->changed)
        return;
    regs->rdi = (uint64_t)p->args[0];
    regs->rsi = (uint64_t)p->args[1];
    regs->rdx = (uint64_t)p->args[2];
    regs->r10 = (uint64_t)p->args[3];
    regs->r8 = (uint64_t)p->args[4];
    regs->r9 = (uint64_t)p->args[5];
    p->changed = !set(p->pid, regs);
}

/* The kernel maps where it did, and no file. */
static void map_again(const struct entry *e, struct user_regs_struct *regs)
{
    regs->rdi = (uint64_t)e->result;
    regs->r10 |= MAP_FIXED;
    if (!(regs->r10 & MAP_ANONYMOUS)) {
        regs->r10 = (regs->r10 & ~(uint64_t)(MAP_SHARED | MAP_SHARED_VALIDATE)) | MAP_PRIVATE |
                    MAP_ANONYMOUS;
        regs->r8 = (uint64_t)-1;
        regs->r9 = 0;
    }
}

static void prepare(struct place *p, const struct entry *e, struct user_regs_struct *regs)
{
    p->answers = !is_own(e->number) && (!is_memory(e->number) || is_failed(e->result));
    if (p->answers) {
        regs->orig_rax = (uint64_t)-1;
    } else if (e->number == SYS_mmap) {
        map_again(e, regs);
    } else if (e->number == SYS_mremap && e->result != p->args[0]) {
        regs->r10 |= MREMAP_MAYMOVE | MREMAP_FIXED;
        regs->r8 = (uint64_t)e->result;
    } else {
        return;
    }
    p->changed = set(p->pid, regs);
}

static bool put_chunks(pid_t pid, const struct entry *e)
{
    for (size_t at = 0; at < e->size;) {
        const struct chunk *c = (const struct chunk *)(e->chunks + at);
        if (!poke(pid, c->addr, c->bytes, c->size))
            return false;
        at += sizeof *c + (c->size + 7) / 8 * 8;
    }
    return true;
}

/* Does an instruction of the program cause it? */
static bool is_fault(const siginfo_t *info)
{
    int n = info->si_signo;
    return info->si_code > 0 && (n == SIGSEGV || n == SIGBUS || n == SIGFPE || n == SIGILL ||
                                 n == SIGTRAP || n == SIGSYS);
}

/* A signal that comes next, and not by itself. */
static int due(const struct place *p)
{
    const struct entry *e = next_of(p);
    return e && e->is_signal && !is_fault(&e->info) ? (int)e->number : 0;
}

/* The kernel would do so before the next instruction. */
static void rewind_call(struct user_regs_struct *regs, long number)
{
    regs->rip -= 2;
    regs->rax = (uint64_t)number;
    regs->orig_rax = (uint64_t)-1;
}

static int answered(struct place *p, struct user_regs_struct *regs)
{
    const struct entry *e = next_of(p);
    p->at++;
    restore_args(p, regs);
    if (is_own(e->number))
        return 0;
    if (!p->answers)
        return (long)regs->rax == e->result && put_chunks(p->pid, e) ? 0 : -1;
    regs->rax = (uint64_t)e->result;
    regs->orig_rax = (uint64_t)e->number; /* a handler's return may make the call again */
    if (is_restart(e->result) && !due(p))
        rewind_call(regs, e->number);
    return put_chunks(p->pid, e) && set(p->pid, regs) ? 0 : -1;
}

/* ---- at a call ---- */

static int at_entry(struct place *p, bool leads)
{
    struct user_regs_struct regs;
    if (!get(p->pid, &regs))
        return -1;
    const struct entry *e = next_of(p);
    p->number = (long)regs.orig_rax;
    memcpy(p->args,
           (const long[]){(long)regs.rdi, (long)regs.rsi, (long)regs.rdx, (long)regs.r10,
                          (long)regs.r8, (long)regs.r9},
           sizeof p->args);
    p->pc = regs.rip;
    p->inside = true;
    p->answers = p->changed = false;
    p->known = e && !e->is_signal && e->number == p->number && e->pc == p->pc;
    if (p->known) {
        prepare(p, e, &regs);
        return 0;
    }
    if (!leads)
        return -1;
    if (e) /* it does something else than it did */
        cut(p->at);
    struct system_memory memory = {peek_of, &p->pid};
    const struct system_row *row = row_of(p->number);
    p->before = row ? system_data_before(&memory, row, p->args) : 0;
    address_pid(p, &regs);
    return 0;
}

static int at_return(struct place *p)
{
    struct user_regs_struct regs;
    p->inside = false;
    if (!get(p->pid, &regs))
        return -1;
    if (p->known && answered(p, &regs) < 0)
        return -1;
    if (p->known) {
        journal_send(p->pid);
        return 0;
    }
    restore_args(p, &regs);
    made(p, &regs);
    return 0;
}

int journal_syscall(pid_t pid, bool leads)
{
    struct place *p = find(pid);
    if (!p)
        return 0;
    struct __ptrace_syscall_info info = {0};
    if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof info, &info) < 0)
        return -1;
    if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
        return at_entry(p, leads);
    return p->inside ? at_return(p) : 0; /* of a call that began before the journal */
}

int journal_stepped(pid_t pid)
{
    struct place *p = find(pid);
    return p && p->inside ? at_return(p) : 0;
}

bool journal_ends(pid_t pid)
{
    const struct place *p = find(pid);
    return p && p->inside && (p->number == SYS_exit_group || p->number == SYS_exit);
}

void journal_put_off(pid_t pid)
{
    struct place *p = find(pid);
    struct user_regs_struct regs;
    if (!p || !p->inside || !get(pid, &regs))
        return;
    regs.orig_rax = (uint64_t)-1;
    if (!set(pid, &regs) || !to_next_stop(pid) || !get(pid, &regs))
        return;
    rewind_call(&regs, p->number);
    p->inside = !set(pid, &regs);
}

void journal_rewind(pid_t pid)
{
    struct user_regs_struct regs;
    if (!journal_has(pid) || !get(pid, &regs) || (long)regs.orig_rax < 0 ||
        !is_restart((long)regs.rax))
        return;
    rewind_call(&regs, (long)regs.orig_rax);
    set(pid, &regs);
}

/* ---- signals ---- */

/* Has it just come back from the call that the last entry tells of? */
static bool returns_here(const struct place *p, const struct user_regs_struct *regs)
{
    const struct entry *last = p->at ? &journal.entry[p->at - 1] : NULL;
    return last && !last->is_signal && regs->rip == last->back && regs->rsp == last->sp;
}

static bool is_next(const struct place *p, int signal)
{
    const struct entry *e = p ? next_of(p) : NULL;
    struct user_regs_struct regs;
    return e && e->is_signal && e->number == signal && get(p->pid, &regs) && regs.rip == e->pc &&
           regs.rsp == e->sp;
}

void journal_signal(pid_t pid, const siginfo_t *info)
{
    struct place *p = find(pid);
    struct user_regs_struct regs;
    if (!p || p->inside || !get(pid, &regs) || !(is_fault(info) || returns_here(p, &regs)))
        return;
    p->met = true;
    p->sent = false;
    if (is_next(p, info->si_signo))
        return;
    size_t at = p->at;
    cut(at);
    *append(p) = (struct entry){.is_signal = true,
                                .number = info->si_signo,
                                .pc = regs.rip,
                                .sp = regs.rsp,
                                .info = *info};
    p->at = at;
}

size_t journal_met(pid_t pid)
{
    const struct place *p = find(pid);
    return p && p->met ? p->at : JOURNAL_NONE;
}

bool journal_resume(pid_t pid, bool handed)
{
    struct place *p = find(pid);
    if (!p || !p->met)
        return false;
    p->met = false;
    journal.entry[p->at++].handed = handed;
    return true;
}

void journal_send(pid_t pid)
{
    struct place *p = find(pid);
    int signal = p && !p->inside && !p->sent ? due(p) : 0;
    if (signal && is_next(p, signal))
        p->sent = !syscall(SYS_tgkill, pid, pid, signal);
}

bool journal_sent(pid_t pid)
{
    const struct place *p = find(pid);
    return p && p->sent;
}

bool journal_signal_next(pid_t pid, int signal)
{
    const struct place *p = find(pid);
    return is_next(p, signal) && !ptrace(PTRACE_SETSIGINFO, pid, NULL, &next_of(p)->info);
}

bool journal_signal_past(pid_t pid, int *signal)
{
    struct place *p = find(pid);
    if (!journal_signal_next(pid, *signal) || p->at == p->bound)
        return false;
    if (!next_of(p)->handed)
        *signal = 0;
    p->at++;
    p->sent = false;
    return true;
}

void journal_bound(pid_t pid, size_t signal)
{
    struct place *p = find(pid);
    if (p)
        p->bound = signal;
}

/* ---- at its start ---- */

void journal_program(pid_t pid)
{
    struct user_regs_struct regs;
    uint64_t word;
    journal.shares = false;
    if (!to_next_stop(pid) || !get(pid, &regs))
        return;
    uint64_t at = regs.rsp + sizeof word; /* behind argc: argv and the environment, 0 at each end */
    for (int ends = 0; ends < 2; at += sizeof word) {
        if (!peek(pid, at, &word, sizeof word))
            return;
        ends += word == 0;
    }
    for (Elf64_auxv_t aux; peek(pid, at, &aux, sizeof aux) && aux.a_type != AT_NULL;
         at += sizeof aux) {
        if (aux.a_type != AT_SYSINFO_EHDR)
            continue;
        aux.a_type = AT_IGNORE;
        poke(pid, at, &aux, sizeof aux);
    }
}
