/*
 * adopt.c - serves a child that it has made itself, as `dbg3 isolate` does: PROGRAM stopped in its
 * main, stdin and stdout being GDB
 *
 * usage: adopt PROGRAM EXEC-FILE OFFSET, OFFSET being main's in the program, EXEC-FILE what GDB
 * shall take it for
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <sys/user.h>
#include <unistd.h>

#include "gdbbridge/bytes.h"
#include "gdbbridge/gdbserver.h"
#include "gdbbridge/procfs.h"
#include "gdbbridge/ptrace_target.h"
#include "gdbbridge/registers.h"
#include "tests/flow/gdb/announce.h"

static char **arguments;
static struct bytes auxv;
static int announced;

/* Where the kernel has mapped the program's file. */
static unsigned long load_base(pid_t pid)
{
    char path[64];
    struct bytes maps = {0};
    unsigned long base = 0;
    snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
    if (!procfs_read(path, &maps) && maps.size)
        base = strtoul(maps.data, NULL, 16);
    bytes_free(&maps);
    return base;
}

/* A seized child, stopped at main. */
static int make(void *arg, struct adopted *out, struct err *err)
{
    int status, null = open("/dev/null", O_RDWR);
    char path[64];
    pid_t pid = fork();
    if (pid == 0) {
        dup2(null, 0);
        dup2(2, 1);
        raise(SIGSTOP);
        execl(arguments[1], arguments[1], (char *)NULL);
        _exit(127);
    }
    close(null);
    waitpid(pid, &status, WUNTRACED);
    if (ptrace(PTRACE_SEIZE, pid, NULL, PTRACE_O_TRACEEXEC))
        return err_sys(err, "seize");
    kill(pid, SIGCONT);
    while (waitpid(pid, &status, 0) == pid && status >> 16 != PTRACE_EVENT_EXEC)
        ptrace(PTRACE_CONT, pid, NULL, 0);
    unsigned long at = load_base(pid) + strtoul(arguments[3], NULL, 16);
    long word = ptrace(PTRACE_PEEKTEXT, pid, at, NULL);
    ptrace(PTRACE_POKETEXT, pid, at, (word & ~0xffl) | 0xcc);
    ptrace(PTRACE_CONT, pid, NULL, 0);
    if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP)
        return err_set(err, "the child does not reach main");
    struct user_regs_struct user;
    ptrace(PTRACE_POKETEXT, pid, at, word);
    ptrace(PTRACE_GETREGS, pid, NULL, &user);
    user.rip = at;
    ptrace(PTRACE_SETREGS, pid, NULL, &user);
    snprintf(path, sizeof path, "/proc/%d/auxv", (int)pid);
    bytes_clear(&auxv);
    procfs_read(path, &auxv);
    *out = (struct adopted){.pid = pid,
                            .exec_file = arguments[2],
                            .auxv = auxv.data,
                            .auxv_size = auxv.size,
                            .hide_from = 0x7ff000000000ul};
    return 0;
}

static uint64_t read_register(struct target *t, struct ptid thread, unsigned number)
{
    const struct registers *r = t->ops->registers(t);
    uint8_t *block = malloc(registers_block_size(r));
    uint64_t value = 0;
    size_t offset, size = registers_find(r, number, &offset);
    if (!t->ops->read_registers(t, thread, block) && size == sizeof value)
        memcpy(&value, block + offset, size);
    free(block);
    return value;
}

static enum stop_verdict look(void *arg, struct stop *stop)
{
    enum { RAX = 0, RSI = 4, RDI = 5 };
    if (stop->info.si_signo != SIGTRAP || stop->info.si_code != SI_KERNEL ||
        read_register(stop->target, stop->thread, RAX) != ANNOUNCE)
        return STOP_DEFAULT;
    uint64_t text = read_register(stop->target, stop->thread, RSI);
    announced++;
    /* behind the int3, where GDB would put it when the program is to go on */
    struct target *t = stop->target;
    const struct registers *r = t->ops->registers(t);
    size_t offset;
    uint8_t *block = malloc(registers_block_size(r));
    t->ops->read_registers(t, stop->thread, block);
    registers_find(r, REGISTER_RIP, &offset);
    memcpy(block + offset, &(uint64_t){stop->pc + 1}, 8);
    t->ops->write_registers(t, stop->thread, block);
    free(block);
    switch (read_register(t, stop->thread, RDI)) {
    case ANNOUNCE_TEXT:
        t->ops->read_memory(t, stop->thread.pid, text, stop->text, sizeof stop->text - 1);
        stop->signal = 0;
        return STOP_REPORT;
    case ANNOUNCE_END:
        t->ops->read_memory(t, stop->thread.pid, text, stop->text, sizeof stop->text - 1);
        stop->code = 17;
        return STOP_EXIT;
    default:
        return STOP_RESUME;
    }
}

static int monitor_events(void *arg, const char *args, struct bytes *out, struct err *err)
{
    bytes_printf(out, "announced %d\n", announced);
    return 0;
}

int main(int argc, char **argv)
{
    static const struct monitor_command monitor[] = {
        {"events", "how many were announced", monitor_events, NULL}, {NULL, NULL, NULL, NULL}};
    struct ptrace_options options = {
        .restart = make, .hook = {look, NULL}, .monitor = monitor, .stdio = {-1, 2, 2}};
    struct gdbserver_options server = {.once = true};
    struct transport tr;
    struct adopted first;
    struct event stop;
    struct err err;
    if (argc != 4)
        return 2;
    arguments = argv;
    transport_from_fds(&tr, fcntl(0, F_DUPFD_CLOEXEC, 3), fcntl(1, F_DUPFD_CLOEXEC, 3));
    gdbserver_prepare(true);
    struct target *t = ptrace_target_create(&options);
    int r = make(NULL, &first, &err) || ptrace_target_adopt(t, &first, &stop, &err) ||
            gdbserver_serve(t, &stop, &tr, &server, &err);
    if (r)
        fprintf(stderr, "adopt: %s\n", err.text);
    transport_close(&tr);
    t->ops->destroy(t);
    bytes_free(&auxv);
    return r;
}
