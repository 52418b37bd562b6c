/*
 * load.h - loads the application into the upper half as execve(2) would
 */
#ifndef DBG3_HALF_LOAD_H
#define DBG3_HALF_LOAD_H

#include <stdint.h>

#include "runtime/base/err.h"

/* What the kernel's struct mm is told about the application (PR_SET_MM_MAP), kept for /proc and for
 * images. */
struct load_mm {
    uint64_t start_code, end_code, start_data, end_data, start_brk, brk, start_stack;
    uint64_t arg_start, arg_end, env_start, env_end;
    uint64_t auxv, auxv_size;
};

struct load {
    uint64_t entry; /* where to jump: the interpreter's entry */
    uint64_t stack; /* initial stack pointer, at argc */
    uint64_t app_entry, app_base, vdso;
    struct load_mm mm;
};

/* Maps `exe` and its interpreter below GATE_ADDR, builds a stack of `stack_size` bytes with
 * argv, envp and the auxiliary vector. Nothing is executed. The mappings stay until the process
 * ends, also on error. Returns 0, or -1 with *err: not an x86-64 ELF program, static, setuid,
 * unreadable. */
int load_app(struct load *load, const char *exe, char **argv, char **envp, uint64_t stack_size,
             struct err *err);

/* Tells the kernel that the application is what this process runs: brk,
 * /proc/PID/{cmdline,environ,auxv}. Needs no privilege. */
int load_tell_kernel(const struct load_mm *mm, struct err *err);

/* Maps the small vdso that jumps through the gate (upper_vdso.S). Returns its address, 0 on
 * failure. */
uint64_t load_vdso(void);

/* Address of a function in the kernel's vdso, NULL if it has none. */
void *load_kernel_vdso(const char *name);

#endif
