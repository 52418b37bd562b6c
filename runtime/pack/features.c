/*
 * features.c - what a processor can do, as a program in user mode can see it
 *
 * A program asks cpuid when it starts and keeps the answer: libc's memcpy is chosen once. Continued
 * on a processor that lacks what was chosen, it ends with SIGILL somewhere. So everything that
 * libraries choose by, or compilers are told to use, must be there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/pack/bundle.h"

/* By their names in /proc/cpuinfo. */
static const char *const names[] = {
    "3dnow", "3dnowext", "3dnowprefetch", "abm", "adx", "aes", "amx_bf16", "amx_fp16", "amx_int8",
    "amx_tile", "avx", "avx2", "avx512_4fmaps", "avx512_4vnniw", "avx512_bf16", "avx512_bitalg",
    "avx512_fp16", "avx512_vbmi2", "avx512_vnni", "avx512_vp2intersect", "avx512_vpopcntdq",
    "avx512bw", "avx512cd", "avx512dq", "avx512er", "avx512f", "avx512ifma", "avx512pf",
    "avx512vbmi", "avx512vl", "avx_ifma", "avx_ne_convert", "avx_vnni", "avx_vnni_int8", "bmi1",
    "bmi2", "cldemote", "clflushopt", "clwb", "clzero", "cmpccxadd", "cx16", "enqcmd", "erms",
    "f16c", "fma", "fma4", "fsgsbase", "fsrm", "gfni", "hle", "lahf_lm", "misalignsse", "movbe",
    "movdir64b", "movdiri", "mwaitx", "pclmulqdq", "pku", "pni", "popcnt", "prefetchi",
    "prefetchwt1", "ptwrite", "rdpid", "rdpru", "rdrand", "rdseed", "rdtscp", "rtm", "serialize",
    "sha_ni", "sse4_1", "sse4_2", "sse4a", "ssse3", "tbm", "tsxldtrk", "vaes", "vpclmulqdq",
    "waitpkg", "xop", "xsave", "xsavec", "xsaveopt"};

static bool has_word(const char *words, const char *word, size_t len)
{
    for (const char *p = words; (p += strspn(p, " ")), *p; p += strcspn(p, " "))
        if (strcspn(p, " ") == len && !memcmp(p, word, len))
            return true;
    return false;
}

/* The first line "NAME : value" of /proc/cpuinfo; malloc'ed value, NULL if there is none. */
static char *cpuinfo(const char *name)
{
    FILE *f = fopen("/proc/cpuinfo", "re");
    char *line = NULL, *value = NULL;
    size_t cap = 0;
    while (f && !value && getline(&line, &cap, f) > 0) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, name, strlen(name)))
            continue;
        colon += 1 + strspn(colon + 1, " ");
        colon[strcspn(colon, "\n")] = '\0';
        value = strdup(colon);
    }
    free(line);
    if (f)
        fclose(f);
    return value;
}

char *features_here(void)
{
    char *flags = cpuinfo("flags"), *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        abort();
    for (size_t i = 0; flags && i < sizeof names / sizeof names[0]; i++)
        if (has_word(flags, names[i], strlen(names[i])))
            fprintf(f, "%s%s", ftell(f) ? " " : "", names[i]);
    fclose(f);
    free(flags);
    return text;
}

char *features_processor(void)
{
    char *name = cpuinfo("model name");
    return name ? name : strdup("unknown");
}

char *features_missing(const char *wanted, const char *present)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        abort();
    for (const char *p = wanted; (p += strspn(p, " ")), *p; p += strcspn(p, " "))
        if (!has_word(present, p, strcspn(p, " ")))
            fprintf(f, "%s%.*s", ftell(f) ? " " : "", (int)strcspn(p, " "), p);
    fclose(f);
    return text;
}
