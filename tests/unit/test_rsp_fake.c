/*
 * test_rsp_fake.c - a target without a process
 */
#include "tests/unit/test_rsp_fake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gdbbridge/bytes.h"
#include "gdbbridge/registers.h"

#define PID 100

struct fake {
    struct target base;
    struct target_ops ops;
    bool alive;
    uint8_t memory[FAKE_SIZE];
    struct registers *registers;
    uint8_t block[2][4096];
    siginfo_t info;
    struct event event;
    bool has_event;
    struct bytes deeds, told;
};

static struct fake *of(struct target *t)
{
    return (struct fake *)t;
}

void fake_queue(struct target *t, const struct event *e)
{
    of(t)->event = *e;
    of(t)->has_event = true;
}

const char *fake_deeds(struct target *t)
{
    struct fake *f = of(t);
    bytes_clear(&f->told);
    bytes_add(&f->told, f->deeds.data ? f->deeds.data : "", f->deeds.size);
    bytes_clear(&f->deeds);
    return f->told.data;
}

static int run(struct target *t, const struct run *how, struct event *stop, struct err *err)
{
    bytes_text(&of(t)->deeds, "run");
    for (char **a = how->argv; a && *a; a++)
        bytes_printf(&of(t)->deeds, " '%s'", *a);
    if (how->directory)
        bytes_printf(&of(t)->deeds, " in %s", how->directory);
    for (char **e = how->env; *e; e++)
        if (!strncmp(*e, "FAKE", 4))
            bytes_printf(&of(t)->deeds, " with %s", *e);
    bytes_printf(&of(t)->deeds, "%s; ", how->randomize ? " randomized" : "");
    if (how->argv && !strcmp(how->argv[0], "missing"))
        return err_set(err, "cannot run missing");
    of(t)->alive = true;
    *stop = (struct event){.kind = EVENT_STOPPED, .thread = {PID, PID}, .code = SIGTRAP};
    return 0;
}

static int attach(struct target *t, pid_t pid, struct event *stop, struct err *err)
{
    return err_set(err, "cannot attach to process %d", (int)pid);
}

static int end(struct target *t, const char *how, pid_t pid)
{
    if (pid != PID || !of(t)->alive)
        return -1;
    of(t)->alive = false;
    bytes_printf(&of(t)->deeds, "%s %d; ", how, (int)pid);
    return 0;
}

static int kill_process(struct target *t, pid_t pid)
{
    return end(t, "kill", pid);
}

static int detach(struct target *t, pid_t pid)
{
    return end(t, "detach", pid);
}

static bool attached(struct target *t, pid_t pid)
{
    return false;
}

static size_t threads(struct target *t, struct ptid *out, size_t max)
{
    for (size_t i = 0; of(t)->alive && i < 2 && i < max; i++)
        out[i] = (struct ptid){PID, PID + (int)i};
    return of(t)->alive ? 2 : 0;
}

static int thread_info(struct target *t, struct ptid thread, struct thread_info *info)
{
    *info = (struct thread_info){.name = "<fake>", .core = thread.tid - PID, .handle = 0x7f00};
    return 0;
}

static const struct registers *registers(struct target *t)
{
    return of(t)->registers;
}

static int read_registers(struct target *t, struct ptid thread, uint8_t *block)
{
    memcpy(block, of(t)->block[thread.tid - PID], registers_block_size(of(t)->registers));
    return 0;
}

static int write_registers(struct target *t, struct ptid thread, const uint8_t *block)
{
    memcpy(of(t)->block[thread.tid - PID], block, registers_block_size(of(t)->registers));
    return 0;
}

static ssize_t read_memory(struct target *t, pid_t pid, uint64_t addr, void *to, size_t size)
{
    uint64_t at = addr - FAKE_MEMORY;
    if (at >= FAKE_SIZE)
        return -1;
    if (size > FAKE_SIZE - at)
        size = FAKE_SIZE - at;
    memcpy(to, of(t)->memory + at, size);
    return (ssize_t)size;
}

static int write_memory(struct target *t, pid_t pid, uint64_t addr, const void *from, size_t size)
{
    uint64_t at = addr - FAKE_MEMORY;
    if (at >= FAKE_SIZE || size > FAKE_SIZE - at)
        return -1;
    memcpy(of(t)->memory + at, from, size);
    return 0;
}

static int get_siginfo(struct target *t, struct ptid thread, siginfo_t *info)
{
    *info = of(t)->info;
    return 0;
}

static int set_siginfo(struct target *t, struct ptid thread, const siginfo_t *info)
{
    of(t)->info = *info;
    return 0;
}

static int auxv(struct target *t, pid_t pid, struct bytes *out)
{
    static const uint64_t pairs[] = {6, 4096, 0, 0};
    bytes_add(out, pairs, sizeof pairs);
    return 0;
}

static int exec_file(struct target *t, pid_t pid, char *path, size_t size)
{
    strcpy(path, "/opt/fake");
    return 0;
}

static int tls(struct target *t, struct ptid thread, uint64_t link_map, uint64_t offset,
               uint64_t *addr, struct err *err)
{
    if (!link_map)
        return err_set(err, "no such module");
    *addr = 0x1000u * (uint64_t)thread.tid + offset;
    return 0;
}

static int point(struct target *t, const char *what, enum point kind, uint64_t addr, size_t size)
{
    if (kind == POINT_READ)
        return POINT_UNSUPPORTED;
    bytes_printf(&of(t)->deeds, "%s %d %llx %zu; ", what, kind, (unsigned long long)addr, size);
    return addr - FAKE_MEMORY < FAKE_SIZE ? 0 : -1;
}

static int insert_point(struct target *t, pid_t pid, enum point kind, uint64_t addr, size_t size)
{
    return point(t, "insert", kind, addr, size);
}

static int remove_point(struct target *t, pid_t pid, enum point kind, uint64_t addr, size_t size)
{
    return point(t, "remove", kind, addr, size);
}

static int resume(struct target *t, const struct resume *actions, size_t n)
{
    static const char *const how[] = {"leave", "cont", "step"};
    for (size_t i = 0; i < n; i++) {
        bytes_printf(&of(t)->deeds, "%s %d.%d", how[actions[i].how], (int)actions[i].thread.pid,
                     (int)actions[i].thread.tid);
        if (actions[i].signal)
            bytes_printf(&of(t)->deeds, " signal %d", actions[i].signal);
        if (actions[i].high)
            bytes_printf(&of(t)->deeds, " in %llx-%llx", (unsigned long long)actions[i].low,
                         (unsigned long long)actions[i].high);
        bytes_text(&of(t)->deeds, "; ");
    }
    return of(t)->alive ? 0 : -1;
}

static void interrupt(struct target *t)
{
    bytes_text(&of(t)->deeds, "interrupt; ");
}

static int poll_event(struct target *t, struct event *event)
{
    struct fake *f = of(t);
    if (!f->has_event)
        return 0;
    f->has_event = false;
    *event = f->event;
    if (event->kind == EVENT_EXITED || event->kind == EVENT_KILLED)
        f->alive = false;
    return 1;
}

static void want(struct target *t, const struct wanted *wanted)
{
    for (int signo = 1; signo < 65; signo++)
        if (sigismember(&wanted->pass, signo) == 1)
            bytes_printf(&of(t)->deeds, "pass %d; ", signo);
}

static int catch_syscalls(struct target *t, pid_t pid, const int *numbers, int n, struct err *err)
{
    bytes_printf(&of(t)->deeds, "catch %d", n);
    for (int i = 0; i < n; i++)
        bytes_printf(&of(t)->deeds, " #%d", numbers[i]);
    bytes_text(&of(t)->deeds, "; ");
    return 0;
}

static void set_non_stop(struct target *t, bool on)
{
    bytes_text(&of(t)->deeds, on ? "non-stop; " : "all-stop; ");
}

static int reverse_step(struct target *t, struct ptid thread)
{
    bytes_printf(&of(t)->deeds, "back %d; ", (int)thread.tid);
    return 0;
}

static int reverse_continue(struct target *t)
{
    bytes_text(&of(t)->deeds, "back; ");
    return 0;
}

static int monitor_hello(void *arg, const char *args, struct bytes *out, struct err *err)
{
    if (!*args)
        return err_set(err, "hello to whom?");
    bytes_printf(out, "hello %s\n", args);
    return 0;
}

static const struct monitor_command monitor[] = {{"hello", "say hello", monitor_hello, NULL},
                                                 {NULL, NULL, NULL, NULL}};

static const struct target_ops fake_ops = {
    .destroy = fake_destroy,
    .run = run,
    .attach = attach,
    .kill = kill_process,
    .detach = detach,
    .attached = attached,
    .threads = threads,
    .thread_info = thread_info,
    .registers = registers,
    .read_registers = read_registers,
    .write_registers = write_registers,
    .read_memory = read_memory,
    .write_memory = write_memory,
    .siginfo = get_siginfo,
    .set_siginfo = set_siginfo,
    .auxv = auxv,
    .exec_file = exec_file,
    .tls_address = tls,
    .insert_point = insert_point,
    .remove_point = remove_point,
    .resume = resume,
    .interrupt = interrupt,
    .poll = poll_event,
    .want = want,
    .catch_syscalls = catch_syscalls,
    .set_non_stop = set_non_stop,
    .monitor = monitor,
};

struct target *fake_create(bool reverse)
{
    struct fake *f = calloc(1, sizeof *f);
    if (!f || !(f->registers = registers_create(0)))
        abort();
    f->ops = fake_ops;
    f->base.ops = &f->ops;
    if (reverse) {
        f->ops.set_non_stop = NULL;
        f->ops.reverse_step = reverse_step;
        f->ops.reverse_continue = reverse_continue;
    }
    f->alive = true;
    for (int i = 0; i < FAKE_SIZE; i++)
        f->memory[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof f->block[0]; i++) {
        f->block[0][i] = (uint8_t)(i + PID);
        f->block[1][i] = (uint8_t)(i + PID + 1);
    }
    f->info.si_signo = SIGSEGV;
    return &f->base;
}

void fake_destroy(struct target *t)
{
    if (!t)
        return;
    registers_destroy(of(t)->registers);
    bytes_free(&of(t)->deeds);
    bytes_free(&of(t)->told);
    free(t);
}

/* ---- conversations ---- */

static void queue_line(struct target *t, const char *line)
{
    static const char *const kinds[] = {
        "stopped", "exited",        "killed",         "fork",    "vfork",  "vforkdone",
        "exec",    "syscall_entry", "syscall_return", "created", "ended",  "none"};
    static const char *const traps[] = {"other", "step", "swbreak", "hwbreak", "watch", "rwatch",
                                        "awatch"};
    char kind[32] = "", trap[32] = "other";
    struct event e = {.path = "/bin/fake", .thread = {PID, PID}, .child = {200, 200}};
    unsigned long long addr = 0;
    sscanf(line, "%31s %d %d %31s %llx", kind, &e.code, &e.thread.tid, trap, &addr);
    e.thread.tid = e.thread.tid == PID + 1 ? PID + 1 : PID;
    e.addr = addr;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (!strcmp(kind, kinds[i]))
            e.kind = (enum event_kind)i;
    for (size_t i = 0; i < sizeof traps / sizeof traps[0]; i++)
        if (!strcmp(trap, traps[i]))
            e.trap = (enum trap)i;
    if (!strcmp(trap, "begin"))
        e.history = HISTORY_BEGIN;
    if (!strcmp(trap, "console"))
        strcpy(e.console, "end of recording\n");
    fake_queue(t, &e);
}

void fake_packet(struct session *s, const char *payload, size_t size)
{
    uint8_t sum = 0;
    char tail[4];
    for (size_t i = 0; i < size; i++)
        sum += (uint8_t)payload[i];
    snprintf(tail, sizeof tail, "#%02x", sum);
    session_input(s, "$", 1);
    session_input(s, payload, size);
    session_input(s, tail, 3);
}

bool fake_line(struct target *t, struct session *s, const char *line)
{
    if (!strncmp(line, "-> ", 3)) {
        fake_packet(s, line + 3, strlen(line + 3));
    } else if (!strncmp(line, "^C", 2)) {
        session_input(s, "\003", 1);
    } else if (!strcmp(line, "== reconnect")) {
        session_connect(s);
    } else if (!strncmp(line, "== ", 3)) {
        queue_line(t, line + 3);
        session_poll(s);
    } else {
        return false;
    }
    return true;
}
