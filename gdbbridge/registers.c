/*
 * registers.c - the registers of x86-64 as data
 *
 * Names, order, types and features are those GDB requires (gdb/features/i386/64bit-*.xml); places
 * in the xsave area are those of the Intel SDM, volume 1, chapter 13 (standard format, which ptrace
 * uses whatever format the kernel keeps).
 */
#include "gdbbridge/registers.h"

#include <cpuid.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "gdbbridge/bytes.h"

/* State components of xsave. */
enum component { X87 = 0, SSE = 1, AVX = 2, OPMASK = 5, ZMM_HIGH = 6, ZMM_UPPER = 7, PKRU = 9 };

enum place {
    IN_USER,  /* user_regs_struct */
    IN_XSAVE, /* state component */
    X87_TAG,  /* abridged in xsave, full for GDB */
    X87_WORD, /* 16 bits in xsave, 32 for GDB */
};

/* Registers name0 ... of one kind, `count` of them, `stride` bytes apart. */
struct row {
    const char *name; /* %u: the number, from `first` */
    unsigned first, count;
    unsigned bits; /* as GDB sees it */
    const char *type, *group;
    enum place place;
    enum component component;
    unsigned offset, stride;
};

/* A feature of the target description: its types, then its rows. */
struct feature {
    const char *name;
    uint64_t needs; /* bits of XCR0 */
    const char *types;
    const struct row *rows;
    size_t nrows;
};

#define BIT(n)       (1ull << (n))
#define USER(member) IN_USER, X87, offsetof(struct user_regs_struct, member), 0

static const struct row core_rows[] = {
    {"rax", 0, 1, 64, "int64", NULL, USER(rax)},
    {"rbx", 0, 1, 64, "int64", NULL, USER(rbx)},
    {"rcx", 0, 1, 64, "int64", NULL, USER(rcx)},
    {"rdx", 0, 1, 64, "int64", NULL, USER(rdx)},
    {"rsi", 0, 1, 64, "int64", NULL, USER(rsi)},
    {"rdi", 0, 1, 64, "int64", NULL, USER(rdi)},
    {"rbp", 0, 1, 64, "data_ptr", NULL, USER(rbp)},
    {"rsp", 0, 1, 64, "data_ptr", NULL, USER(rsp)},
    {"r8", 0, 1, 64, "int64", NULL, USER(r8)},
    {"r9", 0, 1, 64, "int64", NULL, USER(r9)},
    {"r10", 0, 1, 64, "int64", NULL, USER(r10)},
    {"r11", 0, 1, 64, "int64", NULL, USER(r11)},
    {"r12", 0, 1, 64, "int64", NULL, USER(r12)},
    {"r13", 0, 1, 64, "int64", NULL, USER(r13)},
    {"r14", 0, 1, 64, "int64", NULL, USER(r14)},
    {"r15", 0, 1, 64, "int64", NULL, USER(r15)},
    {"rip", 0, 1, 64, "code_ptr", NULL, USER(rip)},
    {"eflags", 0, 1, 32, "i386_eflags", NULL, USER(eflags)},
    {"cs", 0, 1, 32, "int32", NULL, USER(cs)},
    {"ss", 0, 1, 32, "int32", NULL, USER(ss)},
    {"ds", 0, 1, 32, "int32", NULL, USER(ds)},
    {"es", 0, 1, 32, "int32", NULL, USER(es)},
    {"fs", 0, 1, 32, "int32", NULL, USER(fs)},
    {"gs", 0, 1, 32, "int32", NULL, USER(gs)},
    {"st%u", 0, 8, 80, "i387_ext", NULL, IN_XSAVE, X87, 32, 16},
    {"fctrl", 0, 1, 32, "int", "float", X87_WORD, X87, 0, 0},
    {"fstat", 0, 1, 32, "int", "float", X87_WORD, X87, 2, 0},
    {"ftag", 0, 1, 32, "int", "float", X87_TAG, X87, 4, 0},
    {"fiseg", 0, 1, 32, "int", "float", X87_WORD, X87, 12, 0},
    {"fioff", 0, 1, 32, "int", "float", IN_XSAVE, X87, 8, 0},
    {"foseg", 0, 1, 32, "int", "float", X87_WORD, X87, 20, 0},
    {"fooff", 0, 1, 32, "int", "float", IN_XSAVE, X87, 16, 0},
    {"fop", 0, 1, 32, "int", "float", X87_WORD, X87, 6, 0},
};

static const struct row sse_rows[] = {
    {"xmm%u", 0, 16, 128, "vec128", NULL, IN_XSAVE, SSE, 160, 16},
    {"mxcsr", 0, 1, 32, "i386_mxcsr", "vector", IN_XSAVE, SSE, 24, 0},
};

static const struct row linux_rows[] = {
    {"orig_rax", 0, 1, 64, "int", "system", USER(orig_rax)},
};

static const struct row segment_rows[] = {
    {"fs_base", 0, 1, 64, "int", NULL, USER(fs_base)},
    {"gs_base", 0, 1, 64, "int", NULL, USER(gs_base)},
};

static const struct row avx_rows[] = {
    {"ymm%uh", 0, 16, 128, "uint128", NULL, IN_XSAVE, AVX, 0, 16},
};

static const struct row avx512_rows[] = {
    {"xmm%u", 16, 16, 128, "vec128", NULL, IN_XSAVE, ZMM_UPPER, 0, 64},
    {"ymm%uh", 16, 16, 128, "uint128", NULL, IN_XSAVE, ZMM_UPPER, 16, 64},
    {"k%u", 0, 8, 64, "uint64", NULL, IN_XSAVE, OPMASK, 0, 8},
    {"zmm%uh", 0, 16, 256, "v2ui128", NULL, IN_XSAVE, ZMM_HIGH, 0, 32},
    {"zmm%uh", 16, 16, 256, "v2ui128", NULL, IN_XSAVE, ZMM_UPPER, 32, 64},
};

static const struct row pkeys_rows[] = {
    {"pkru", 0, 1, 32, "uint32", NULL, IN_XSAVE, PKRU, 0, 0},
};

static const char eflags_type[] =
    "<flags id=\"i386_eflags\" size=\"4\">"
    "<field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"\" start=\"1\" end=\"1\"/>"
    "<field name=\"PF\" start=\"2\" end=\"2\"/><field name=\"AF\" start=\"4\" end=\"4\"/>"
    "<field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/>"
    "<field name=\"TF\" start=\"8\" end=\"8\"/><field name=\"IF\" start=\"9\" end=\"9\"/>"
    "<field name=\"DF\" start=\"10\" end=\"10\"/><field name=\"OF\" start=\"11\" end=\"11\"/>"
    "<field name=\"NT\" start=\"14\" end=\"14\"/><field name=\"RF\" start=\"16\" end=\"16\"/>"
    "<field name=\"VM\" start=\"17\" end=\"17\"/><field name=\"AC\" start=\"18\" end=\"18\"/>"
    "<field name=\"VIF\" start=\"19\" end=\"19\"/><field name=\"VIP\" start=\"20\" end=\"20\"/>"
    "<field name=\"ID\" start=\"21\" end=\"21\"/></flags>\n";

#define VEC128                                                                                     \
    "<vector id=\"v8bf16\" type=\"bfloat16\" count=\"8\"/>"                                        \
    "<vector id=\"v8h\" type=\"ieee_half\" count=\"8\"/>"                                          \
    "<vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"                                        \
    "<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/>"                                        \
    "<vector id=\"v16i8\" type=\"int8\" count=\"16\"/>"                                            \
    "<vector id=\"v8i16\" type=\"int16\" count=\"8\"/>"                                            \
    "<vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"                                            \
    "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"                                            \
    "<union id=\"vec128\"><field name=\"v8_bfloat16\" type=\"v8bf16\"/>"                           \
    "<field name=\"v8_half\" type=\"v8h\"/><field name=\"v4_float\" type=\"v4f\"/>"                \
    "<field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/>"            \
    "<field name=\"v8_int16\" type=\"v8i16\"/><field name=\"v4_int32\" type=\"v4i32\"/>"           \
    "<field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>\n"

static const char sse_types[] = VEC128
    "<flags id=\"i386_mxcsr\" size=\"4\">"
    "<field name=\"IE\" start=\"0\" end=\"0\"/><field name=\"DE\" start=\"1\" end=\"1\"/>"
    "<field name=\"ZE\" start=\"2\" end=\"2\"/><field name=\"OE\" start=\"3\" end=\"3\"/>"
    "<field name=\"UE\" start=\"4\" end=\"4\"/><field name=\"PE\" start=\"5\" end=\"5\"/>"
    "<field name=\"DAZ\" start=\"6\" end=\"6\"/><field name=\"IM\" start=\"7\" end=\"7\"/>"
    "<field name=\"DM\" start=\"8\" end=\"8\"/><field name=\"ZM\" start=\"9\" end=\"9\"/>"
    "<field name=\"OM\" start=\"10\" end=\"10\"/><field name=\"UM\" start=\"11\" end=\"11\"/>"
    "<field name=\"PM\" start=\"12\" end=\"12\"/><field name=\"FZ\" start=\"15\" end=\"15\"/>"
    "</flags>\n";

static const char avx512_types[] = VEC128 "<vector id=\"v2ui128\" type=\"uint128\" count=\"2\"/>\n";

#define ROWS(rows) rows, sizeof rows / sizeof rows[0]

/* In GDB's order: register numbers follow from it. */
static const struct feature features[] = {
    {"org.gnu.gdb.i386.core", 0, eflags_type, ROWS(core_rows)},
    {"org.gnu.gdb.i386.sse", 0, sse_types, ROWS(sse_rows)},
    {"org.gnu.gdb.i386.linux", 0, "", ROWS(linux_rows)},
    {"org.gnu.gdb.i386.segments", 0, "", ROWS(segment_rows)},
    {"org.gnu.gdb.i386.avx", BIT(AVX), "", ROWS(avx_rows)},
    {"org.gnu.gdb.i386.avx512", BIT(OPMASK) | BIT(ZMM_HIGH) | BIT(ZMM_UPPER), avx512_types,
     ROWS(avx512_rows)},
    {"org.gnu.gdb.i386.pkeys", BIT(PKRU), "", ROWS(pkeys_rows)},
};

#define NFEATURES     (sizeof features / sizeof features[0])
#define REGISTERS_MAX 192
#define XSTATE_BV     512 /* offset of the header's word of components in use */

/* One register of this machine. */
struct reg {
    enum place place;
    enum component component;
    unsigned size;  /* bytes in the block */
    unsigned from;  /* offset in user_regs_struct or in the xsave area */
    unsigned block; /* offset in the block */
};

struct registers {
    size_t count, block_size;
    struct reg reg[REGISTERS_MAX];
    struct bytes xml;
};

uint64_t registers_xcr0(const uint8_t *xsave)
{
    uint64_t xcr0; /* Linux arch/x86/include/uapi/asm/ptrace-abi.h: sw_usable_bytes, at 464 */
    memcpy(&xcr0, xsave + 464, sizeof xcr0);
    return xcr0;
}

/* Offset of a state component in the standard format. */
static unsigned component_offset(enum component component)
{
    unsigned size, offset, flags, unused;
    if (component <= SSE)
        return 0; /* their rows count from the start of the area */
    __cpuid_count(0xd, component, size, offset, flags, unused);
    return offset;
}

static void add_row(struct registers *r, const struct row *row)
{
    unsigned base = row->place == IN_USER ? 0 : component_offset(row->component);
    for (unsigned i = 0; i < row->count; i++) {
        struct reg *reg = &r->reg[r->count++];
        *reg = (struct reg){row->place, row->component, row->bits / 8,
                            base + row->offset + i * row->stride, (unsigned)r->block_size};
        r->block_size += reg->size;
        bytes_text(&r->xml, "<reg name=\"");
        const char *number = strstr(row->name, "%u");
        if (number)
            bytes_printf(&r->xml, "%.*s%u%s", (int)(number - row->name), row->name, row->first + i,
                         number + 2);
        else
            bytes_text(&r->xml, row->name);
        bytes_printf(&r->xml, "\" bitsize=\"%u\" type=\"%s\"", row->bits, row->type);
        if (row->group)
            bytes_printf(&r->xml, " group=\"%s\"", row->group);
        bytes_text(&r->xml, "/>\n");
    }
}

struct registers *registers_create(uint64_t xcr0)
{
    struct registers *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    bytes_text(&r->xml, "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n"
                        "<target version=\"1.0\">\n<architecture>i386:x86-64</architecture>\n"
                        "<osabi>GNU/Linux</osabi>\n");
    for (const struct feature *f = features; f < features + NFEATURES; f++) {
        if ((f->needs & xcr0) != f->needs)
            continue;
        bytes_printf(&r->xml, "<feature name=\"%s\">\n%s", f->name, f->types);
        for (size_t i = 0; i < f->nrows; i++)
            add_row(r, &f->rows[i]);
        bytes_text(&r->xml, "</feature>\n");
    }
    bytes_text(&r->xml, "</target>\n");
    return r;
}

void registers_destroy(struct registers *r)
{
    if (!r)
        return;
    bytes_free(&r->xml);
    free(r);
}

size_t registers_block_size(const struct registers *r)
{
    return r->block_size;
}

const char *registers_xml(const struct registers *r)
{
    return r->xml.data;
}

size_t registers_count(const struct registers *r)
{
    return r->count;
}

size_t registers_find(const struct registers *r, unsigned n, size_t *offset)
{
    if (n >= r->count)
        return 0;
    *offset = r->reg[n].block;
    return r->reg[n].size;
}

/* The x87 tag word: two bits a register for GDB (0 valid, 1 zero, 2 special, 3 empty), one bit "not
 * empty" in xsave. `top` is the register that st(0) is. */
static unsigned full_tag(const uint8_t *xsave)
{
    unsigned top = (unsigned)(xsave[3] >> 3) & 7, tags = 0;
    for (unsigned physical = 0; physical < 8; physical++) {
        unsigned tag = 3;
        if (xsave[4] & 1u << physical) {
            uint64_t mantissa;
            uint16_t exponent;
            const uint8_t *st = xsave + 32 + 16 * ((physical + 8 - top) & 7);
            memcpy(&mantissa, st, 8);
            memcpy(&exponent, st + 8, 2);
            exponent &= 0x7fff;
            if (exponent == 0x7fff)
                tag = 2;
            else if (exponent == 0)
                tag = mantissa ? 2 : 1;
            else
                tag = mantissa >> 63 ? 0 : 2;
        }
        tags |= tag << 2 * physical;
    }
    return tags;
}

static uint8_t abridged_tag(unsigned tags)
{
    uint8_t out = 0;
    for (unsigned i = 0; i < 8; i++)
        if ((tags >> 2 * i & 3) != 3)
            out |= (uint8_t)(1u << i);
    return out;
}

void registers_collect(const struct registers *r, const struct user_regs_struct *user,
                       const uint8_t *xsave, uint8_t *block)
{
    for (const struct reg *reg = r->reg; reg < r->reg + r->count; reg++) {
        uint32_t word = 0;
        switch (reg->place) {
        case IN_USER:
            memcpy(block + reg->block, (const uint8_t *)user + reg->from, reg->size);
            break;
        case IN_XSAVE:
            memcpy(block + reg->block, xsave + reg->from, reg->size);
            break;
        case X87_TAG:
            word = full_tag(xsave);
            memcpy(block + reg->block, &word, 4);
            break;
        case X87_WORD:
            memcpy(&word, xsave + reg->from, 2);
            memcpy(block + reg->block, &word, 4);
            break;
        }
    }
}

/* Copies into the xsave area and marks the component if that changes anything. */
static void put(uint8_t *xsave, const struct reg *reg, const void *value, size_t size)
{
    uint64_t in_use;
    if (!memcmp(xsave + reg->from, value, size))
        return;
    memcpy(xsave + reg->from, value, size);
    memcpy(&in_use, xsave + XSTATE_BV, 8);
    in_use |= BIT(reg->component);
    memcpy(xsave + XSTATE_BV, &in_use, 8);
}

void registers_supply(const struct registers *r, const uint8_t *block,
                      struct user_regs_struct *user, uint8_t *xsave)
{
    for (const struct reg *reg = r->reg; reg < r->reg + r->count; reg++) {
        uint32_t word;
        uint8_t tag;
        switch (reg->place) {
        case IN_USER:
            memcpy((uint8_t *)user + reg->from, block + reg->block, reg->size);
            break;
        case IN_XSAVE:
            put(xsave, reg, block + reg->block, reg->size);
            break;
        case X87_TAG:
            memcpy(&word, block + reg->block, 4);
            tag = abridged_tag(word);
            put(xsave, reg, &tag, 1);
            break;
        case X87_WORD:
            put(xsave, reg, block + reg->block, 2);
            break;
        }
    }
}
