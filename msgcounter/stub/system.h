/*
 * system.h - the application's system calls, recorded and replayed
 *
 * While recording, and in replay, the kernel does not make the system calls of the upper half but
 * sends SIGSYS (syscall user dispatch, Linux 5.11: Documentation/admin-guide/
 * syscall-user-dispatch.rst), whose handler here makes and records them, or answers them from the
 * log, as system_table.h says. Batch has none of this.
 */
#ifndef DBG3_STUB_SYSTEM_H
#define DBG3_STUB_SYSTEM_H

#include <stdbool.h>
#include <stdint.h>

#include "msgcounter/stub/instruction.h"
#include "msgcounter/stub/signal_place.h"

/* SIGSYS and SIGILL (instruction.h) in a kernel's signal mask: never blocked while system calls are
 * dispatched, because the kernel ends a process which it cannot tell of a call. */
#define SYSTEM_SIGNAL_BITS (1ul << 30 | INSTRUCTION_SIGNAL_BIT)

/* From now on the calls of this process's threads are recorded, or answered: each begins when it
 * calls system_thread_started(), or goes on from an image. */
void system_record(void);

/* Whether they are. */
bool system_recorded(void);

/* The calling thread, which is new or the one that starts MPI. */
void system_thread_started(void);

/* Sets the signal mask of the calling thread, as the application's. Returns the one before. */
uint64_t system_mask(uint64_t mask);

/* gate_stub.thread_resumes */
void system_thread_resumes(uint64_t upper_fs, void *frame);

/* Around a handler of the application, which runs like this (signal_place.h). Returns what
 * system_handler_ended() needs. */
struct system_handler {
    void *frame, *late;
    uint8_t dispatch;
};
struct system_handler system_handler_begun(void *frame, enum signal_run how);
void system_handler_ended(struct system_handler before);

/* Whether the calling thread, whose stack pointer is `sp`, is in a handler whose calls are not
 * recorded. */
bool system_in_handler(uint64_t sp);

/* Code of the stub, and what it calls, makes calls of its own; so do some handlers. */
bool system_is_own(const ucontext_t *uc);

/* Whether this is code of the stub, but for its syscall(3), which is the application's. */
bool system_is_stub(uint64_t pc);

/* Replay: replay_system() for what the application does at `at`: the handler that answers it will
 * go on in this frame. */
struct log_record;
const struct log_record *system_take(unsigned number, const ucontext_t *uc, uint64_t at);

/* Leaves that handler, as if the application had not come there yet, for gate_stub.before_call. */
void system_go_before_call(void) __attribute__((noreturn));
extern const char system_before_call[];

/* Handler of SIGSYS for the kernel (system_entry.S). */
void system_entry(void);

#endif
