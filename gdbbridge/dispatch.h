/*
 * dispatch.h - programs that handle their own system calls (syscall user dispatch)
 *
 * An isolated rank answers its system calls itself, in a handler of SIGSYS, and instructions like
 * rdtsc in one of SIGILL (msgcounter/stub/instruction.h): to GDB and to copies of the process this
 * is how the instruction works, and no signal.
 */
#ifndef DBG3_GDBBRIDGE_DISPATCH_H
#define DBG3_GDBBRIDGE_DISPATCH_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Whether a signal that the stopped thread got is such a system call or instruction, or one that
 * hands its turn on to another thread. Returns where the program goes on behind it, 0: it is a
 * signal. */
uint64_t dispatch_behind(pid_t tid, int signal, const siginfo_t *info);

/* The same of the stop that the thread is in. */
uint64_t dispatch_of_stop(pid_t tid, int signal);

/* Whether it is a look at who has the turn (schedule.h): that comes between two instructions, and
 * may come at any moment, or not. */
bool dispatch_is_look(int signal, const siginfo_t *info);
bool dispatch_is_look_of_stop(pid_t tid, int signal);

/* Memory that was read, with such instructions as the program's file has them. */
void dispatch_show(pid_t pid, uint64_t addr, uint8_t *data, size_t size);

/* Whether the stopped thread handles its system calls itself, at any place. */
bool dispatch_active(pid_t tid);

/* Whether it is in that handler, with all signals blocked: a counted breakpoint stops it behind. */
bool dispatch_inside(pid_t tid);

/* Gives a copy what the kernel does not copy. Both are stopped. Returns 0, or -1 if it cannot (it
 * needs Linux 6.4). */
int dispatch_copy(pid_t from, pid_t to);

/* Registers that a copy of a thread is to begin with: where they hold its numbers, which it is
 * about to use, these are the copy's. */
struct user_regs_struct;
struct dispatch_thread {
    pid_t pid, tid;
};
void dispatch_name_anew(struct user_regs_struct *regs, struct dispatch_thread from,
                        struct dispatch_thread to);

/* Threads of a copy have other numbers: one of which the process keeps the number for itself. */
struct crowd;
void dispatch_renumber(const struct crowd *from, const struct crowd *to);

#endif
