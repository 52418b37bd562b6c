/*
 * unit.c - main, goldens, corpus and folder of the unit tests
 */
#include "tests/unit/unit.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char root[PATH_MAX], scratch[] = "/tmp/dbg3-unit.XXXXXX";

__attribute__((constructor)) static void remember_root(void)
{
    if (!getcwd(root, sizeof root))
        abort();
}

int unit_run(Suite *suite)
{
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}

/* ---- files of the source tree ------------------------------------------------------------ */

const char *unit_source(const char *path)
{
    static char paths[4][2 * PATH_MAX];
    static unsigned last;
    char *full = paths[++last % 4];
    snprintf(full, sizeof paths[0], "%s/%s", root, path);
    return full;
}

char *unit_read(const char *path, size_t *size)
{
    char *text = NULL;
    size_t cap = 0, n = 0;
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s", path);
    do {
        cap += 1 << 16;
        text = realloc(text, cap + 1);
        ck_assert_ptr_nonnull(text);
        n += fread(text + n, 1, cap - n, f);
    } while (n == cap);
    ck_assert(!ferror(f));
    fclose(f);
    text[n] = '\0';
    *size = n;
    return text;
}

void unit_golden(const char *name, const char *text)
{
    char path[PATH_MAX];
    size_t size;
    snprintf(path, sizeof path, "tests/golden/%s", name);
    if (getenv("GOLDEN_UPDATE")) {
        FILE *f = fopen(unit_source(path), "w");
        ck_assert(f && fputs(text, f) >= 0 && fclose(f) == 0);
    }
    char *want = unit_read(unit_source(path), &size);
    ck_assert_str_eq(text, want);
    free(want);
}

void unit_corpus(const char *thing, unsigned least, int (*fuzzer)(const uint8_t *, size_t))
{
    char path[PATH_MAX];
    unsigned n = 0;
    snprintf(path, sizeof path, "tests/fuzz/corpus/%s", thing);
    DIR *dir = opendir(unit_source(path));
    ck_assert_msg(dir != NULL, "%s", path);
    for (struct dirent *e; (e = readdir(dir));) {
        size_t size;
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "tests/fuzz/corpus/%s/%s", thing, e->d_name);
        char *text = unit_read(unit_source(path), &size);
        /* A copy of its very size, so that a sanitizer sees each byte read behind it. */
        uint8_t *data = malloc(size ? size : 1);
        ck_assert_ptr_nonnull(data);
        memcpy(data, text, size);
        ck_assert_msg(fuzzer(data, size) == 0, "%s", path);
        free(data);
        free(text);
        n++;
    }
    closedir(dir);
    ck_assert_uint_ge(n, least);
}

/* ---- a folder to work in ----------------------------------------------------------------- */

void scratch_enter(void)
{
    strcpy(strchr(scratch, '.'), ".XXXXXX");
    if (!mkdtemp(scratch) || chdir(scratch) < 0)
        abort();
}

void scratch_leave(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", scratch);
    if (chdir(root) < 0 || system(command) != 0)
        abort();
}

const char *scratch_folder(void)
{
    return scratch;
}

/* ---- time -------------------------------------------------------------------------------- */

double unit_cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
