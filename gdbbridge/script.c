/*
 * script.c - what a breakpoint does by itself, of a stopped thread
 */
#include "gdbbridge/script.h"

#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>

#include "gdbbridge/bytes.h"
#include "gdbbridge/procfs.h"

struct stopped {
    pid_t tid;
    bool has_regs;
    struct user_regs_struct regs;
};

static int read_memory(void *arg, uint64_t addr, void *to, size_t size)
{
    struct stopped *s = arg;
    return procfs_peek(s->tid, addr, to, size) == (ssize_t)size ? 0 : -1;
}

#define AT(name) offsetof(struct user_regs_struct, name)

/* Those of the core feature, in its order (registers.c); nothing about integers asks for more. */
static const size_t places[] = {
    AT(rax), AT(rbx), AT(rcx), AT(rdx), AT(rsi), AT(rdi), AT(rbp), AT(rsp), AT(r8),
    AT(r9),  AT(r10), AT(r11), AT(r12), AT(r13), AT(r14), AT(r15), AT(rip), AT(eflags),
};

static int read_register(void *arg, unsigned number, uint64_t *value)
{
    struct stopped *s = arg;
    if (number >= sizeof places / sizeof places[0])
        return -1;
    if (!s->has_regs && ptrace(PTRACE_GETREGS, s->tid, NULL, &s->regs))
        return -1;
    s->has_regs = true;
    memcpy(value, (const char *)&s->regs + places[number], sizeof *value);
    return 0;
}

bool script_stops(const struct agent_script *s, pid_t tid)
{
    struct stopped at = {.tid = tid};
    struct agent_world world = {read_memory, read_register, &at, NULL};
    return !s || (!agent_has_commands(s) && agent_meets(s, &world));
}

void script_execute(const struct agent_script *s, pid_t tid, struct bytes *printed)
{
    struct stopped at = {.tid = tid};
    struct agent_world world = {read_memory, read_register, &at, printed};
    if (s && agent_has_commands(s) && agent_meets(s, &world) && agent_execute(s, &world))
        bytes_text(printed, "[dbg3: this agent-printf cannot be executed]\n");
}
