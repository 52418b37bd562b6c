/*
 * agent.c - GDB's agent expressions
 */
#include "gdbbridge/agent.h"

#include <stdlib.h>
#include <string.h>

#include "gdbbridge/agent_print.h"
#include "gdbbridge/bytes.h"

#define STACK_MAX 128
#define STEPS_MAX 10000 /* there are loops only in code that GDB did not make */

/* Values of the byte code; those that are missing are not known here. */
enum op {
    OP_ADD = 0x02, OP_SUB, OP_MUL, OP_DIV_SIGNED, OP_DIV_UNSIGNED, OP_REM_SIGNED, OP_REM_UNSIGNED,
    OP_LSH, OP_RSH_SIGNED, OP_RSH_UNSIGNED,
    OP_LOG_NOT = 0x0e, OP_BIT_AND, OP_BIT_OR, OP_BIT_XOR, OP_BIT_NOT, OP_EQUAL, OP_LESS_SIGNED,
    OP_LESS_UNSIGNED, OP_EXT, OP_REF8, OP_REF16, OP_REF32, OP_REF64,
    OP_IF_GOTO = 0x20, OP_GOTO, OP_CONST8, OP_CONST16, OP_CONST32, OP_CONST64, OP_REG, OP_END,
    OP_DUP, OP_POP, OP_ZERO_EXT, OP_SWAP,
    OP_PICK = 0x32, OP_ROT, OP_PRINTF,
    OP_COUNT
};

/* What each takes from the stack, and how many bytes follow it. */
static const struct shape {
    bool known;
    uint8_t takes, operand;
} shapes[OP_COUNT] = {
    [OP_ADD ... OP_RSH_UNSIGNED] = {true, 2, 0},
    [OP_LOG_NOT] = {true, 1, 0},
    [OP_BIT_AND ... OP_BIT_XOR] = {true, 2, 0},
    [OP_BIT_NOT] = {true, 1, 0},
    [OP_EQUAL ... OP_LESS_UNSIGNED] = {true, 2, 0},
    [OP_EXT] = {true, 1, 1},
    [OP_REF8 ... OP_REF64] = {true, 1, 0},
    [OP_IF_GOTO] = {true, 1, 2},
    [OP_GOTO] = {true, 0, 2},
    [OP_CONST8] = {true, 0, 1},
    [OP_CONST16] = {true, 0, 2},
    [OP_CONST32] = {true, 0, 4},
    [OP_CONST64] = {true, 0, 8},
    [OP_REG] = {true, 0, 2},
    [OP_END] = {true, 0, 0},
    [OP_DUP] = {true, 1, 0},
    [OP_POP] = {true, 1, 0},
    [OP_ZERO_EXT] = {true, 1, 1},
    [OP_SWAP] = {true, 2, 0},
    [OP_PICK] = {true, 0, 1},
    [OP_ROT] = {true, 3, 0},
    [OP_PRINTF] = {true, 2, 3}, /* number of values, size of the format, which follows */
};

struct machine {
    const struct agent_world *world;
    const uint8_t *code;
    size_t size;
    uint64_t stack[STACK_MAX];
    size_t depth;
    size_t pc;
};

static int push(struct machine *m, uint64_t value)
{
    if (m->depth == STACK_MAX)
        return -1;
    m->stack[m->depth++] = value;
    return 0;
}

static uint64_t shift(enum op op, uint64_t a, uint64_t by)
{
    if (by > 63)
        return op == OP_RSH_SIGNED && (int64_t)a < 0 ? ~0ull : 0;
    return op == OP_LSH            ? a << by
           : op == OP_RSH_UNSIGNED ? a >> by
                                   : (uint64_t)((int64_t)a >> by);
}

static int divide(enum op op, uint64_t a, uint64_t b, uint64_t *r)
{
    bool overflows = (int64_t)a == INT64_MIN && (int64_t)b == -1;
    if (!b)
        return -1;
    switch (op) {
    case OP_DIV_SIGNED:
        *r = overflows ? a : (uint64_t)((int64_t)a / (int64_t)b);
        break;
    case OP_REM_SIGNED:
        *r = overflows ? 0 : (uint64_t)((int64_t)a % (int64_t)b);
        break;
    case OP_DIV_UNSIGNED:
        *r = a / b;
        break;
    default:
        *r = a % b;
        break;
    }
    return 0;
}

static int binary(struct machine *m, enum op op)
{
    uint64_t b = m->stack[--m->depth], a = m->stack[--m->depth], r = 0;
    int ok = 0;
    switch (op) {
    case OP_ADD: r = a + b; break;
    case OP_SUB: r = a - b; break;
    case OP_MUL: r = a * b; break;
    case OP_BIT_AND: r = a & b; break;
    case OP_BIT_OR: r = a | b; break;
    case OP_BIT_XOR: r = a ^ b; break;
    case OP_EQUAL: r = a == b; break;
    case OP_LESS_SIGNED: r = (int64_t)a < (int64_t)b; break;
    case OP_LESS_UNSIGNED: r = a < b; break;
    case OP_LSH:
    case OP_RSH_SIGNED:
    case OP_RSH_UNSIGNED: r = shift(op, a, b); break;
    default: ok = divide(op, a, b, &r); break;
    }
    return ok < 0 ? -1 : push(m, r);
}

/* The lowest `bits` of a value, sign- or zero-extended. */
static uint64_t extend(uint64_t value, uint64_t bits, bool sign)
{
    if (!bits || bits > 63)
        return value;
    uint64_t low = value & ((1ull << bits) - 1), top = 1ull << (bits - 1);
    return sign ? (low ^ top) - top : low;
}

static int fetch(struct machine *m, size_t size)
{
    uint64_t value = 0, addr = m->stack[--m->depth];
    return m->world->memory(m->world->arg, addr, &value, size) < 0 ? -1 : push(m, value);
}

static int unary(struct machine *m, enum op op, uint64_t operand)
{
    uint64_t *top = &m->stack[m->depth - 1], a = *top;
    switch (op) {
    case OP_LOG_NOT: *top = !a; return 0;
    case OP_BIT_NOT: *top = ~a; return 0;
    case OP_EXT: *top = extend(a, operand, true); return 0;
    case OP_ZERO_EXT: *top = extend(a, operand, false); return 0;
    case OP_DUP: return push(m, a);
    case OP_POP: m->depth--; return 0;
    default: return fetch(m, (size_t)1 << (op - OP_REF8));
    }
}

/* What neither computes nor takes one value. */
static int other(struct machine *m, enum op op, uint64_t operand)
{
    uint64_t value, *s = &m->stack[m->depth];
    switch (op) {
    case OP_REG:
        return m->world->reg(m->world->arg, (unsigned)operand, &value) < 0 ? -1 : push(m, value);
    case OP_PICK:
        return operand < m->depth ? push(m, s[-1 - (long)operand]) : -1;
    case OP_SWAP:
        value = s[-1];
        s[-1] = s[-2];
        s[-2] = value;
        return 0;
    case OP_ROT: /* the top goes below the next two */
        value = s[-1];
        s[-1] = s[-2];
        s[-2] = s[-3];
        s[-3] = value;
        return 0;
    default:
        return push(m, operand); /* a constant */
    }
}

/* The function and the channel, which GDB gives for printf, too, are on top of the values. */
static int print(struct machine *m, uint64_t operand)
{
    uint64_t values[STACK_MAX];
    size_t n = operand >> 16, size = operand & 0xffff;
    const char *format = (const char *)m->code + m->pc;
    m->depth -= 2;
    if (!m->world->printed || m->depth < n || !size || m->size - m->pc < size || format[size - 1])
        return -1;
    for (size_t i = 0; i < n; i++)
        values[i] = m->stack[--m->depth];
    m->pc += size;
    return agent_print(m->world, format, size - 1, values, n);
}

static int execute(struct machine *m, enum op op, uint64_t operand)
{
    switch (op) {
    case OP_PRINTF:
        return print(m, operand);
    case OP_GOTO:
        m->pc = operand;
        return 0;
    case OP_IF_GOTO:
        m->pc = m->stack[--m->depth] ? operand : m->pc;
        return 0;
    case OP_SWAP:
        return other(m, op, operand);
    default:
        return shapes[op].takes == 2   ? binary(m, op)
               : shapes[op].takes == 1 ? unary(m, op, operand)
                                       : other(m, op, operand);
    }
}

int agent_evaluate(const uint8_t *code, size_t size, const struct agent_world *world,
                   uint64_t *value)
{
    struct machine m = {.world = world, .code = code, .size = size};
    bool printed = false;
    for (int steps = 0; steps < STEPS_MAX && m.pc < size; steps++) {
        uint8_t op = code[m.pc++];
        if (op >= OP_COUNT || !shapes[op].known || m.depth < shapes[op].takes ||
            size - m.pc < shapes[op].operand)
            return -1;
        uint64_t operand = 0;
        for (int i = 0; i < shapes[op].operand; i++)
            operand = operand << 8 | code[m.pc++];
        if (op == OP_END) {
            bool any = m.depth || printed;
            if (any)
                *value = m.depth ? m.stack[m.depth - 1] : 0;
            return any ? 0 : -1;
        }
        printed |= op == OP_PRINTF;
        if (execute(&m, (enum op)op, operand) < 0)
            return -1;
    }
    return -1;
}

/* ---- scripts ---- */

/* The code of a script's conditions, and behind it that of its commands: each piece is a uint32_t,
 * its size, and bytes; END comes after the last. */
#define END UINT32_MAX

struct agent_script {
    struct agent_script *next;
    size_t size, commands; /* of the text; where the commands are in `text` */
    char text[];           /* as it came, for comparison; then the code */
};

/* Appends the code of "LEN,HEX" at *p, which moves behind it. */
static int decode_one(const char **p, const char *end, struct bytes *out)
{
    char *after;
    unsigned long n = strtoul(*p, &after, 16);
    if (after == *p || after >= end || *after != ',' || (size_t)(end - after - 1) / 2 < n)
        return -1;
    uint32_t size = (uint32_t)n;
    uint8_t *code = malloc(n + 1);
    if (!code)
        abort();
    int r = hex_decode(code, n, after + 1, 2 * n) == (long)n ? 0 : -1;
    bytes_add(out, &size, sizeof size);
    bytes_add(out, code, n);
    free(code);
    *p = after + 1 + 2 * n;
    return r;
}

/* Appends the pieces of "XLEN,HEX..." at *p, which moves to what is none. */
static int decode(const char **p, const char *end, struct bytes *out)
{
    const uint32_t last = END;
    while (*p < end && **p == 'X') {
        ++*p;
        if (decode_one(p, end, out) < 0)
            return -1;
    }
    bytes_add(out, &last, sizeof last);
    return 0;
}

/* Appends the code of a script; *commands: where in it that of the commands begins. Whether these
 * are to outlive the connection, which the digit says, they do not: a detach removes them. */
static int compile(const char *text, const char *end, struct bytes *code, size_t *commands)
{
    const char *p = text;
    static const char word[] = "cmds:";
    if (decode(&p, end, code) < 0)
        return -1;
    *commands = code->size;
    if (p < end || p == text) {
        p += p > text && *p == ';';
        if ((size_t)(end - p) <= sizeof word || memcmp(p, word, sizeof word - 1))
            return -1;
        p += sizeof word; /* and the digit */
        if (*p++ != ',')
            return -1;
    }
    return decode(&p, end, code) < 0 || p < end ? -1 : 0;
}

const struct agent_script *agent_script(struct agent_script **all, const char *text, size_t size)
{
    for (struct agent_script *s = *all; s; s = s->next)
        if (s->size == size && !memcmp(s->text, text, size))
            return s;
    struct bytes code = {0};
    struct agent_script *s = NULL;
    size_t commands;
    if (compile(text, text + size, &code, &commands) == 0) {
        s = malloc(sizeof *s + size + code.size);
        if (!s)
            abort();
        *s = (struct agent_script){*all, size, size + commands};
        memcpy(s->text, text, size);
        memcpy(s->text + size, code.data, code.size);
        *all = s;
    }
    bytes_free(&code);
    return s;
}

void agent_scripts_free(struct agent_script **all)
{
    while (*all) {
        struct agent_script *s = *all;
        *all = s->next;
        free(s);
    }
}

/* The piece at *p, which moves behind it; NULL: there is none. */
static const uint8_t *next_piece(const char **p, uint32_t *size)
{
    memcpy(size, *p, sizeof *size);
    const char *code = *p + sizeof *size;
    if (*size == END)
        return NULL;
    *p = code + *size;
    return (const uint8_t *)code;
}

bool agent_meets(const struct agent_script *s, const struct agent_world *world)
{
    const char *p = s->text + s->size;
    const uint8_t *code;
    uint32_t size;
    uint64_t value;
    bool any = false;
    while ((code = next_piece(&p, &size))) {
        if (agent_evaluate(code, size, world, &value) < 0 || value)
            return true;
        any = true;
    }
    return !any;
}

bool agent_has_commands(const struct agent_script *s)
{
    const char *p = s->text + s->commands;
    uint32_t size;
    return next_piece(&p, &size);
}

int agent_execute(const struct agent_script *s, const struct agent_world *world)
{
    const char *p = s->text + s->commands;
    const uint8_t *code;
    uint32_t size;
    uint64_t value;
    while ((code = next_piece(&p, &size)))
        if (agent_evaluate(code, size, world, &value) < 0)
            return -1;
    return 0;
}
