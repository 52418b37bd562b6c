/*
 * test_pack.c - archives and manifests: what was put in comes out, and nothing else does
 *
 * `test_pack corpus` writes the fuzzer's seeds instead.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "runtime/pack/archive.h"
#include "runtime/pack/archive_format.h"
#include "runtime/pack/bundle.h"
#include "tests/unit/unit.h"

static const struct bundle_facts some_facts = {
    .dbg3 = "0.1", .gate = 2, .calls = 641, .rank = 3, .size = 4, .program = "/a/b",
    .build_id = "00ff", .image = "epochs/0001/rank-3.img", .oldest = 5, .newest = 9,
    .recorded_from = 1, .signal = 11, .host = "h", .kernel = "6.1", .cpu = "c",
    .features = "avx avx2", .bytes = 300000};

static char deep[600]; /* a name that needs a header of its own */

static void make_deep(void)
{
    for (size_t i = 0; i < sizeof deep - 1; i++)
        deep[i] = i % 50 == 49 ? '/' : (char)('a' + i % 26);
}

/* Also outside of tests, where Check's assertions cannot be used. */
static void must(bool it)
{
    if (!it)
        abort();
}

/* An archive of five members in a memfd. */
static int make_archive(const char *manifest, uint64_t *size)
{
    struct err err;
    int fd = memfd_create("archive", MFD_CLOEXEC), big = memfd_create("big", MFD_CLOEXEC);
    char path[64];
    make_deep();
    must(ftruncate(big, 300000) == 0 && pwrite(big, "x", 1, 200000) == 1);
    fchmod(big, 0700);
    snprintf(path, sizeof path, "/proc/self/fd/%d", big);
    struct archive_writer *w = archive_writer_create(fd, "archive", &err);
    must(w != NULL);
    must(archive_add_bytes(w, BUNDLE_MANIFEST, manifest, strlen(manifest), &err) == 0);
    must(archive_add_file(w, "root/big", path, &err) == 0);
    must(archive_add_bytes(w, "empty", "", 0, &err) == 0);
    must(archive_add_bytes(w, deep, "deep", 4, &err) == 0);
    must(archive_add_link(w, "other/deep", deep, &err) == 0);
    must(archive_finish(w, size, &err) == 0);
    archive_writer_destroy(w);
    close(big);
    return fd;
}

static int unpack(int fd, char *dir, struct err *err)
{
    char path[64];
    strcpy(dir, "/tmp/test_pack.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    *err = (struct err){0};
    return bundle_unpack(path, dir, NULL, err);
}

static void check_file(const char *dir, const char *name, const char *content, off_t size,
                       mode_t mode)
{
    char path[PATH_MAX], got[16] = "";
    struct stat st;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_int_eq(st.st_size, size);
    ck_assert_uint_eq(st.st_mode & 0777, mode);
    int fd = open(path, O_RDONLY);
    ck_assert_int_ge(read(fd, got, sizeof got - 1), 0);
    ck_assert_str_eq(got, content);
    close(fd);
}

START_TEST(round_trip)
{
    char dir[64], *manifest = bundle_manifest_write(&some_facts), path[PATH_MAX], byte = 0;
    struct err err;
    struct bundle_facts facts;
    uint64_t size;
    int fd = make_archive(manifest, &size);
    ck_assert_int_eq(lseek(fd, 0, SEEK_END), (off_t)size);
    ck_assert_msg(unpack(fd, dir, &err) == 0, "%s", err.text);
    check_file(dir, "empty", "", 0, 0600);
    check_file(dir, "root/big", "", 300000, 0700);
    check_file(dir, deep, "deep", 4, 0600);
    check_file(dir, "other/deep", "deep", 4, 0600);
    snprintf(path, sizeof path, "%s/root/big", dir);
    int big = open(path, O_RDONLY);
    ck_assert_int_eq(pread(big, &byte, 1, 200000), 1);
    ck_assert_int_eq(byte, 'x');
    close(big);
    ck_assert_int_eq(bundle_open(dir, &facts, &err), 0);
    ck_assert_uint_eq(facts.bytes, some_facts.bytes);
    ck_assert_str_eq(facts.image, some_facts.image);
    bundle_facts_clear(&facts);
    bundle_remove(dir);
    ck_assert_int_eq(access(dir, F_OK), -1);
    free(manifest);
    close(fd);
}
END_TEST

/* Cut after each byte: always told, and of whole members only the end may be missing. */
START_TEST(cut_anywhere)
{
    char dir[64], *manifest = bundle_manifest_write(&some_facts);
    struct err err;
    uint64_t size;
    int fd = make_archive(manifest, &size);
    for (uint64_t n = size; n-- > 0;) {
        ck_assert_int_eq(ftruncate(fd, (off_t)n), 0);
        ck_assert_msg(unpack(fd, dir, &err) < 0, "cut after %lu bytes", (unsigned long)n);
        ck_assert_ptr_nonnull(strstr(err.text, "/proc/self/fd/"));
        ck_assert_int_eq(err.code, EBADMSG);
        bundle_remove(dir);
    }
    free(manifest);
    close(fd);
}
END_TEST

START_TEST(each_byte_counts)
{
    char dir[64], *manifest = bundle_manifest_write(&some_facts);
    struct err err;
    uint64_t size;
    int fd = make_archive(manifest, &size);
    unsigned accepted = 0;
    for (uint64_t at = 0; at < size; at++) {
        uint8_t byte, other;
        ck_assert_int_eq(pread(fd, &byte, 1, (off_t)at), 1);
        other = byte ^ (uint8_t)(1 << at % 8);
        ck_assert_int_eq(pwrite(fd, &other, 1, (off_t)at), 1);
        int rc = unpack(fd, dir, &err);
        if (rc == 0) { /* a frame's header says how much memory it needs: that may be more */
            accepted++;
            check_file(dir, "root/big", "", 300000, 0700);
            check_file(dir, "other/deep", "deep", 4, 0600);
        }
        bundle_remove(dir);
        ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
    }
    ck_assert_uint_le(accepted, 2 * 7); /* seven frames */
    free(manifest);
    close(fd);
}
END_TEST

START_TEST(names_that_lead_out)
{
    static const char *const bad[] = {"",     "/etc/passwd", "../x", "a/../../x", "a//b", "a/",
                                      "./a", "..",           "a/.",  "."};
    static const char *const good[] = {"a", "a/b", "...", "a/..b", ".build-id/ab/cd"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        ck_assert_msg(!archive_name_is_safe(bad[i]), "%s", bad[i]);
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        ck_assert_msg(archive_name_is_safe(good[i]), "%s", good[i]);
    struct err err;
    int fd = memfd_create("archive", MFD_CLOEXEC);
    struct archive_writer *w = archive_writer_create(fd, "archive", &err);
    ck_assert_int_eq(archive_add_bytes(w, "../x", "x", 1, &err), -1);
    archive_writer_destroy(w);
    close(fd);
}
END_TEST

/* Tar archives that others could have made: LINK and its target, types, names. */
static int foreign(const char *name, const char *link, char type)
{
    char *manifest = bundle_manifest_write(&some_facts);
    struct {
        struct tar_header manifest;
        char text[2 * TAR_BLOCK];
        struct tar_header h;
    } tar = {.h = {.type = type, .magic = "ustar  ", .mode = "0000600", .size = "00000000000",
                   .mtime = "00000000000"}};
    tar.manifest = tar.h;
    tar.manifest.type = TAR_FILE;
    strcpy(tar.manifest.name, BUNDLE_MANIFEST);
    size_t n = strlen(manifest);
    ck_assert_uint_lt(n, sizeof tar.text);
    memcpy(tar.text, manifest, n);
    free(manifest);
    snprintf(tar.manifest.size, sizeof tar.manifest.size, "%011zo", n);
    snprintf(tar.manifest.sum, sizeof tar.manifest.sum, "%06o", tar_sum(&tar.manifest));
    strcpy(tar.h.name, name);
    strcpy(tar.h.link, link);
    snprintf(tar.h.sum, sizeof tar.h.sum, "%06o", tar_sum(&tar.h));
    size_t used = n > TAR_BLOCK ? sizeof tar : sizeof tar - TAR_BLOCK;
    if (n <= TAR_BLOCK)
        memmove(tar.text + TAR_BLOCK, &tar.h, sizeof tar.h);
    uint8_t frame[8192];
    size_t size = ZSTD_compress(frame, sizeof frame, &tar, used, 1);
    int fd = memfd_create("foreign", MFD_CLOEXEC);
    ck_assert_int_eq(write(fd, frame, size), (ssize_t)size);
    return fd;
}

START_TEST(foreign_members_are_refused)
{
    static const struct {
        const char *name, *link;
        char type;
        const char *why;
    } cases[] = {
        {"../../x", "", TAR_FILE, "leads elsewhere"},
        {"/x", "", TAR_FILE, "leads elsewhere"},
        {"x", "../../etc/passwd", TAR_LINK, "leads elsewhere"},
        {"x", "/etc/passwd", TAR_LINK, "leads elsewhere"},
        {"x", "nowhere", TAR_LINK, "cannot make"},
        {"x", "y", '2', "neither file nor link"},
        {"x", "", '3', "neither file nor link"},
        {"x/", "", '5', "leads elsewhere"},
        {BUNDLE_MANIFEST, "", TAR_FILE, "File exists"},
        {"x", "", TAR_LONG_NAME, "a name of 0 bytes"},
        {TAR_SUMS, "", TAR_FILE, "sums is of other members"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char dir[64];
        struct err err;
        int fd = foreign(cases[i].name, cases[i].link, cases[i].type);
        ck_assert_int_eq(unpack(fd, dir, &err), -1);
        ck_assert_msg(strstr(err.text, cases[i].why), "%zu: %s", i, err.text);
        bundle_remove(dir);
        close(fd);
    }
}
END_TEST

START_TEST(manifests)
{
    static const struct {
        const char *was, *is, *why;
    } cases[] = {
        {"\"version\": 1", "\"version\": 7", "version 7, and this dbg3 reads version 1"},
        {"\"version\": 1", "\"version\": -1", "is a bundle of version -1"},
        {"dbg3 bundle", "other bundle", "is no bundle"},
        {"\"rank\": 3", "\"rank\": -3", "(manifest: rank)"},
        {"\"rank\": 3", "\"rank\": \"3\"", "(manifest: rank)"},
        {"\"/a/b\"", "\"/a/../b\"", "(manifest: program)"},
        {"\"/a/b\"", "\"a/b\"", "(manifest: program)"},
        {"epochs/0001", "../epochs", "(manifest: image)"},
        {"\"signal\": 11", "\"signal\": 65", "(manifest: signal)"},
        {"\"cpu\": \"c\"", "\"cpu\": 7", "(manifest: cpu)"},
        {"{", "[", "(manifest: "},
    };
    char *text = bundle_manifest_write(&some_facts);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char other[4096];
        struct bundle_facts facts;
        struct err err;
        const char *at = strstr(text, cases[i].was);
        ck_assert_ptr_nonnull(at);
        snprintf(other, sizeof other, "%.*s%s%s", (int)(at - text), text, cases[i].is,
                 at + strlen(cases[i].was));
        ck_assert_int_eq(bundle_manifest_read(other, strlen(other), "B", &facts, &err), -1);
        if (!strstr(cases[i].is, "version\": -1"))
            ck_assert_msg(strstr(err.text, cases[i].why), "%zu: %s", i, err.text);
        ck_assert_int_eq(strncmp(err.text, "B is ", 5), 0);
        ck_assert_ptr_null(facts.program);
    }
    free(text);
}
END_TEST

START_TEST(machines)
{
    struct bundle_facts f = some_facts;
    struct err err;
    char *here = features_here(), *none = features_missing(here, here);
    ck_assert_str_eq(none, "");
    char *missing = features_missing("avx fma hyper", "fma avx2");
    ck_assert_str_eq(missing, "avx hyper");
    f.features = here;
    ck_assert_int_eq(bundle_check_machine(&f, 2, 641, false, &err), 0);
    ck_assert_int_eq(bundle_check_machine(&f, 3, 641, false, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "another build of dbg3"));
    f.features = (char *)"hyper";
    ck_assert_int_eq(bundle_check_machine(&f, 2, 641, false, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "lacks hyper, which the rank's had (c)"));
    ck_assert_int_eq(bundle_check_machine(&f, 2, 641, true, &err), 0);
    free(missing);
    free(none);
    free(here);
}
END_TEST

START_TEST(corpus)
{
    unit_corpus("pack", 3, LLVMFuzzerTestOneInput);
}
END_TEST

static void write_seed(const char *name, const void *data, size_t size)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "tests/fuzz/corpus/pack/%s", name);
    FILE *f = fopen(path, "w");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f))
        abort();
}

/* The archive without its compression, and the archive. */
static int make_corpus(void)
{
    static char packed[65536], tar[1 << 20];
    char *manifest = bundle_manifest_write(&some_facts);
    uint64_t size;
    int fd = make_archive(manifest, &size);
    if (pread(fd, packed, sizeof packed, 0) != (ssize_t)size)
        abort();
    ZSTD_DCtx *zstd = ZSTD_createDCtx();
    ZSTD_inBuffer in = {packed, size, 0};
    ZSTD_outBuffer out = {tar, sizeof tar, 0};
    while (in.pos < in.size && !ZSTD_isError(ZSTD_decompressStream(zstd, &out, &in)))
        ;
    ZSTD_freeDCtx(zstd);
    write_seed("bundle", packed, size);
    write_seed("manifest.tar", tar, 4 * TAR_BLOCK);
    /* without the big member, so that the fuzzer gets to the rest */
    size_t big = strlen(manifest) > TAR_BLOCK ? 3 * TAR_BLOCK : 2 * TAR_BLOCK;
    size_t after = big + TAR_BLOCK + 300000 + tar_padding(300000);
    memmove(tar + big, tar + after, out.pos - after);
    write_seed("small.tar", tar, out.pos - (after - big));
    free(manifest);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "corpus"))
        return make_corpus();
    Suite *suite = suite_create("pack");
    TCase *tc = tcase_create("pack");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, round_trip);
    tcase_add_test(tc, cut_anywhere);
    tcase_add_test(tc, each_byte_counts);
    tcase_add_test(tc, names_that_lead_out);
    tcase_add_test(tc, foreign_members_are_refused);
    tcase_add_test(tc, manifests);
    tcase_add_test(tc, machines);
    tcase_add_test(tc, corpus);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
