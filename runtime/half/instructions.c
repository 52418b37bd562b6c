/*
 * instructions.c - where the application asks the processor for something no one else knows
 *
 * Sources: Intel SDM vol. 2 (opcodes); Linux Standard Base, "Exception Frames" (.eh_frame,
 * .eh_frame_hdr).
 */
#include "runtime/half/instructions.h"

#include <Zydis/Zydis.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/half/maps.h"

/* How .eh_frame_hdr is written by all linkers in use: DW_EH_PE_sdata4, relative to itself. */
#define TABLE_ENCODING 0x3b
#define POINTER_PCREL4 0x1b
#define COUNT_UDATA4   0x03
#define TABLE_HEAD     12

struct elf_file {
    const uint8_t *data;
    uint64_t size;
    const uint8_t *table; /* pairs of int32: function, its description; relative to hdr_address */
    uint64_t functions;
    uint64_t hdr_address;
};

struct function {
    uint64_t address, size; /* as the file says */
    const uint8_t *code;
};

struct search {
    struct gate_instruction *out;
    int n, max;
    ZydisDecoder decoder;
};

/* ---- the file ---- */

static const Elf64_Phdr *segments(const struct elf_file *f, unsigned *n)
{
    const Elf64_Ehdr *e = (const Elf64_Ehdr *)f->data;
    *n = 0;
    if (f->size < sizeof *e || memcmp(e->e_ident, ELFMAG, SELFMAG) != 0 ||
        e->e_ident[EI_CLASS] != ELFCLASS64 || e->e_phentsize != sizeof(Elf64_Phdr) ||
        e->e_phoff > f->size || f->size - e->e_phoff < e->e_phnum * sizeof(Elf64_Phdr))
        return NULL;
    *n = e->e_phnum;
    return (const Elf64_Phdr *)(f->data + e->e_phoff);
}

/* What the file has for [address, address + size) of the program, NULL if it has not all of it. */
static const uint8_t *at_address(const struct elf_file *f, uint64_t address, uint64_t size)
{
    unsigned n;
    const Elf64_Phdr *p = segments(f, &n);
    for (; n > 0; n--, p++) {
        uint64_t in = address - p->p_vaddr;
        if (p->p_type == PT_LOAD && in < p->p_filesz && size <= p->p_filesz - in &&
            p->p_offset <= f->size && p->p_filesz <= f->size - p->p_offset)
            return f->data + p->p_offset + in;
    }
    return NULL;
}

static int32_t word_at(const uint8_t *p)
{
    int32_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

/* Finds the table of functions. */
static bool find_table(struct elf_file *f)
{
    unsigned n;
    const Elf64_Phdr *p = segments(f, &n);
    while (n > 0 && p->p_type != PT_GNU_EH_FRAME)
        n--, p++;
    const uint8_t *hdr = n > 0 ? at_address(f, p->p_vaddr, TABLE_HEAD) : NULL;
    if (!hdr || hdr[0] != 1 || hdr[1] != POINTER_PCREL4 || hdr[2] != COUNT_UDATA4 ||
        hdr[3] != TABLE_ENCODING)
        return false;
    f->functions = (uint32_t)word_at(hdr + 8);
    f->hdr_address = p->p_vaddr;
    f->table = at_address(f, p->p_vaddr + TABLE_HEAD, f->functions * 8);
    return f->table != NULL;
}

static uint64_t start_of(const struct elf_file *f, uint64_t i)
{
    return f->hdr_address + (uint64_t)(int64_t)word_at(f->table + 8 * i);
}

/* The function that an address is in. */
static bool find_function(const struct elf_file *f, uint64_t address, struct function *fn)
{
    uint64_t low = 0, high = f->functions;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        if (start_of(f, mid) <= address)
            low = mid + 1;
        else
            high = mid;
    }
    if (low == 0)
        return false;
    uint64_t at = f->hdr_address + (uint64_t)(int64_t)word_at(f->table + 8 * (low - 1) + 4);
    const uint8_t *fde = at_address(f, at, 16);
    fn->address = start_of(f, low - 1);
    /* length, which CIE, first address and size: as long as this is how the address is written */
    if (!fde || at + 8 + (uint64_t)(int64_t)word_at(fde + 8) != fn->address)
        return false;
    fn->size = (uint32_t)word_at(fde + 12);
    fn->code = at_address(f, fn->address, fn->size);
    return fn->code && address - fn->address < fn->size;
}

/* ---- instructions ---- */

/* Whether an instruction of interest may begin here, or behind one or two prefixes. */
static bool looks_like_one(const uint8_t *p, uint64_t left)
{
    if (left < 2 || p[0] != 0x0f)
        return false;
    return p[1] == 0x31 || p[1] == 0xa2 || (left > 2 && p[1] == 0x01 && p[2] == 0xf9) ||
           (left > 2 && p[1] == 0xc7 && p[2] >= 0xf0);
}

static bool describe(const ZydisDecodedInstruction *in, const ZydisDecodedOperand *operands,
                     struct gate_instruction *out)
{
    *out = (struct gate_instruction){.length = in->length};
    if (in->length > sizeof out->was)
        return false; /* prefixes without a use */
    switch (in->mnemonic) {
    case ZYDIS_MNEMONIC_RDTSC:
        out->kind = GATE_RDTSC;
        return true;
    case ZYDIS_MNEMONIC_RDTSCP:
        out->kind = GATE_RDTSCP;
        return true;
    case ZYDIS_MNEMONIC_CPUID:
        out->kind = GATE_CPUID;
        return true;
    case ZYDIS_MNEMONIC_RDRAND:
    case ZYDIS_MNEMONIC_RDSEED:
        out->kind = in->mnemonic == ZYDIS_MNEMONIC_RDRAND ? GATE_RDRAND : GATE_RDSEED;
        out->reg = (uint8_t)ZydisRegisterGetId(operands[0].reg.value);
        out->bits = (uint8_t)operands[0].size;
        return true;
    default:
        return false;
    }
}

/* Adds those of a function, whose code is at `runs_at`. */
static void search_function(struct search *s, const struct function *fn, uint64_t runs_at, int prot)
{
    ZydisDecodedInstruction in;
    ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
    int before = s->n;
    for (uint64_t at = 0; at < fn->size; at += in.length) {
        struct gate_instruction found;
        if (!ZYAN_SUCCESS(ZydisDecoderDecodeFull(&s->decoder, fn->code + at, fn->size - at, &in,
                                                 operands))) {
            s->n = before; /* there is something else in it than instructions */
            return;
        }
        if (s->n < s->max && describe(&in, operands, &found)) {
            found.at = runs_at + at;
            memcpy(found.was, fn->code + at, in.length);
            found.prot = (uint8_t)prot;
            s->out[s->n++] = found;
        }
    }
}

/* Those of a mapping. */
static void search_mapping(struct search *s, const struct elf_file *f, const struct maps_entry *e)
{
    uint64_t end = e->end - e->start, done = 0;
    end = e->offset > f->size ? 0 : end < f->size - e->offset ? end : f->size - e->offset;
    const uint8_t *code = f->data + e->offset;
    for (uint64_t at = 0; at < end; at++) {
        const uint8_t *next = memchr(code + at, 0x0f, end - at);
        if (!next)
            return;
        at = (uint64_t)(next - code);
        unsigned n;
        const Elf64_Phdr *p = segments(f, &n);
        struct function fn;
        if (at < done || !looks_like_one(next, end - at))
            continue;
        for (; n > 0; n--, p++) {
            uint64_t address = e->offset + at - p->p_offset + p->p_vaddr;
            if (p->p_type == PT_LOAD && e->offset + at - p->p_offset < p->p_filesz &&
                find_function(f, address, &fn)) {
                uint64_t runs_at = e->start + at - (address - fn.address);
                search_function(s, &fn, runs_at, e->prot);
                done = runs_at + fn.size - e->start;
            }
        }
    }
}

static bool is_c_library(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return strncmp(name, "libc.so.", 8) == 0 || strncmp(name, "ld-linux", 8) == 0;
}

static void search_file(struct search *s, const struct maps_entry *e)
{
    struct stat st;
    int fd = open(e->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) /* deleted since, or code that was made at run time */
        return;
    if (fstat(fd, &st) == 0 && st.st_ino == e->inode && st.st_size > 0) {
        struct elf_file f = {.size = (uint64_t)st.st_size};
        f.data = mmap(NULL, f.size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (f.data != MAP_FAILED) {
            if (find_table(&f))
                search_mapping(s, &f, e);
            munmap((void *)f.data, f.size);
        }
    }
    close(fd);
}

int instructions_find(uint64_t from, uint64_t to, struct gate_instruction *out, int max)
{
    struct search s = {.out = out, .max = max};
    struct maps maps;
    struct err err;
    if (maps_read(&maps, &err) < 0) {
        fprintf(stderr, "dbg3: %s\n", err.text);
        return -EIO;
    }
    ZydisDecoderInit(&s.decoder, ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64);
    for (size_t i = 0; i < maps.n; i++) {
        const struct maps_entry *e = &maps.entry[i];
        if (e->start >= from && e->end <= to && e->prot & PROT_EXEC && e->path[0] == '/' &&
            !is_c_library(e->path))
            search_file(&s, e);
    }
    maps_free(&maps);
    return s.n;
}
