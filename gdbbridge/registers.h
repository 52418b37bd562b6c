/*
 * registers.h - the registers of x86-64 as data: names, sizes, places, GDB's target description
 *
 * One table of rows describes them all. From it come target.xml, the order and layout of the blocks
 * that packets g, G, p and P carry, and the copying between such a block and what ptrace gives:
 *
 *     struct user_regs_struct    PTRACE_GETREGS: rax ... gs, orig_rax, fs_base, gs_base
 *     xsave area                 PTRACE_GETREGSET NT_X86_XSTATE: x87, xmm, ymm high, k, zmm, pkru
 *
 * Which registers there are depends on XCR0, the state components the kernel enabled.
 */
#ifndef DBG3_GDBBRIDGE_REGISTERS_H
#define DBG3_GDBBRIDGE_REGISTERS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/user.h>

#define XSAVE_MAX 16384 /* bytes; AMX makes it 11 KiB */

struct registers;

/* xcr0: as in the software-reserved bytes of an xsave area (registers_xcr0). */
struct registers *registers_create(uint64_t xcr0);
void registers_destroy(struct registers *r);

/* XCR0 as the kernel tells it in an xsave area. */
uint64_t registers_xcr0(const uint8_t *xsave);

size_t registers_block_size(const struct registers *r); /* bytes */
const char *registers_xml(const struct registers *r);   /* target.xml */
size_t registers_count(const struct registers *r);

/* Place of register number n in the block: returns its size in bytes, 0 if there is none. */
size_t registers_find(const struct registers *r, unsigned n, size_t *offset);

/* Numbers, fixed by GDB's core feature, of those that a stop reply carries. */
enum { REGISTER_RBP = 6, REGISTER_RSP = 7, REGISTER_RIP = 16 };

void registers_collect(const struct registers *r, const struct user_regs_struct *user,
                       const uint8_t *xsave, uint8_t *block);

/* Writes the block back. State components that changed are marked as in use in the xsave header. */
void registers_supply(const struct registers *r, const uint8_t *block,
                      struct user_regs_struct *user, uint8_t *xsave);

#endif
