/*
 * test_image.c - images: round trips, chains, segments, merges, mapping, and every kind of damage
 */
#include <check.h>
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/image/image_format.h"
#include "runtime/image/image_xsave.h"
#include "tests/unit/image_util.h"
#include "tests/unit/unit.h"

#define RW (PROT_READ | PROT_WRITE)


static struct model model;
static struct err err;

/* Runs f in a child; its exit status. */
static int in_child(int (*f)(void *arg), void *arg)
{
    int status;
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        _exit(f(arg));
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static struct image *must_open(const char *path)
{
    struct image *image = image_open(path, &err);
    ck_assert_msg(image != NULL, "%s", err.text);
    return image;
}

static off_t file_size(const char *path)
{
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    return st.st_size;
}

static unsigned files_here(void)
{
    DIR *dir = opendir(".");
    unsigned n = 0;
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

/* Maps 100 pages, touches most of them: 10 of zeros, 60 others, and one beyond a hole. */
static void model_sample(void)
{
    model_init(&model);
    model_map(&model, 10, 100, RW);
    model_map(&model, 200, 4, PROT_READ);
    for (unsigned i = 10; i < 20; i++)
        model_store(&model, i, 0);
    for (unsigned i = 20; i < 80; i++)
        model_store(&model, i, i);
    model_store(&model, 109, 1);
    model_store(&model, 203, 2);
}

/* ------------------------------------------------------------------ round trips */

START_TEST(full_round_trip)
{
    struct image_written w;
    model_sample();
    model_write(&model, "a.img", NULL, NULL, &w);
    model_expect(&model, "a.img", true);
    ck_assert_uint_eq(w.pages, 62); /* neither zero nor untouched pages */
    ck_assert_uint_eq(w.file_bytes, (uint64_t)file_size("a.img"));
    struct stat st;
    ck_assert_int_eq(stat("a.img", &st), 0);
    ck_assert_int_eq(st.st_mode & 0777, 0600);
    ck_assert_uint_eq(files_here(), 1); /* no temporary left */
}
END_TEST

START_TEST(increment_holds_changed_pages_only)
{
    struct image_written w;
    model_sample();
    struct image_id a = model_write(&model, "a.img", NULL, NULL, NULL);
    model_store(&model, 30, 1000);
    model_store(&model, 31, 0);
    model_store(&model, 105, 1001);
    model_unmap(&model, 200, 2);
    model_map(&model, 300, 3, RW);
    struct image_id b = model_write(&model, "b.img", "a.img", &a, &w);
    ck_assert_uint_eq(w.pages, 2);
    model_expect(&model, "b.img", true);

    model_unmap(&model, 300, 3);
    model_map(&model, 40, 1, RW); /* mapped anew: what the parent holds there is gone */
    model_write(&model, "c.img", "b.img", &b, NULL);
    model_expect(&model, "c.img", true);
    struct image *image = must_open("c.img");
    ck_assert_uint_eq(image_chain_length(image), 3);
    ck_assert_str_eq(image_chain_path(image, 1), "b.img");
    ck_assert_int_eq(image_read(image, MODEL_BASE + 300 * IMAGE_PAGE, &(char){0}, 1, &err), -1);
    ck_assert_int_eq(err.code, EFAULT);
    image_close(image);
}
END_TEST

START_TEST(parent_in_another_folder)
{
    model_sample();
    ck_assert_int_eq(mkdir("epoch", 0700) | mkdir("fine", 0700), 0);
    struct image_id a = model_write(&model, "epoch/a.img", NULL, NULL, NULL);
    model_store(&model, 50, 77);
    model_write(&model, "fine/b.img", "../epoch/a.img", &a, NULL);
    model_expect(&model, "fine/b.img", true);
}
END_TEST

/* Every field of the state with a value of its own. */
static void fill_state(struct image_state *s, struct image_thread *threads, uint8_t *xsave,
                       size_t xsave_size)
{
    static const char *const argv[] = {"./app", "in.nml", "", "caf\xc3\xa9"};
    static const uint64_t auxv[] = {AT_PAGESZ, 4096, AT_ENTRY, 0x401000, AT_NULL, 0};
    static const struct image_region regions[] = {
        {.start = 0x400000,
         .end = 0x403000,
         .prot = PROT_READ | PROT_EXEC,
         .flags = IMAGE_REGION_FILE,
         .fill = IMAGE_FILL_FILE,
         .path = "/usr/bin/app",
         .offset = 0x1000,
         .dev = 64769,
         .ino = 4242,
         .build_id = {0xab, 0xcd, 0xef, 0x01},
         .build_id_len = 4},
        {.start = 0x500000,
         .end = 0x504000,
         .prot = RW,
         .flags = IMAGE_REGION_HEAP | IMAGE_REGION_NORESERVE,
         .fill = IMAGE_FILL_READ,
         .path = "[heap]"},
        {.start = 0x600000, .end = 0x602000, .prot = PROT_NONE, .flags = IMAGE_REGION_STACK},
    };
    static const struct image_file files[] = {
        {.fd = 1, .kind = IMAGE_FILE_PIPE, .flags = 1, .path = "pipe:[17]"},
        {.fd = 5,
         .kind = IMAGE_FILE_PATH,
         .flags = 02,
         .cloexec = true,
         .offset = 100,
         .size = 2000,
         .dev = 3,
         .ino = 9,
         .path = "/data/out"},
    };
    static const struct image_blob blobs[] = {{"handles", "\1\2\3", 3}, {"empty", NULL, 0}};
    for (size_t i = 0; i < xsave_size; i++)
        xsave[i] = (uint8_t)(i * 7);
    memset(threads, 0, 2 * sizeof *threads);
    threads[0] = (struct image_thread){.tid = 100,
                                       .signo = 11,
                                       .xsave = xsave,
                                       .xsave_size = (uint32_t)xsave_size,
                                       .xsave_for_gdb = true, /* of no processor */
                                       .siginfo_size = 128,
                                       .siginfo = {11, 0, 0, 0, 0, 0, 0, 0, 1},
                                       .sigmask = 0x8000,
                                       .pending = 0x400,
                                       .resume_sp = 0x601000,
                                       .clear_child_tid = 0x500010,
                                       .robust_list = 0x500020,
                                       .robust_list_len = 24,
                                       .altstack_sp = 0x501000,
                                       .altstack_size = 0x2000,
                                       .altstack_flags = 1,
                                       .name = "main"};
    threads[0].regs.rip = 0x401234;
    threads[0].regs.rsp = 0x601f00;
    threads[0].regs.fs_base = 0x500740;
    threads[1] = (struct image_thread){.tid = 101};
    threads[1].regs.rax = 7;
    *s = (struct image_state){.kind = IMAGE_FAILURE,
                              .id = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}},
                              .meta = {.rank = 2,
                                       .size = 4,
                                       .epoch = 3,
                                       .checkpoint = 9,
                                       .position = {1, 65536, 48213},
                                       .time_ns = UINT64_C(1700000000123456789),
                                       .pid = 100,
                                       .ppid = 99,
                                       .pgrp = 98,
                                       .sid = 97,
                                       .uid = 1000,
                                       .gid = 1001,
                                       .umask = 022,
                                       .brk_start = 0x500000,
                                       .brk = 0x503800,
                                       .entry = 0x401000,
                                       .root = 0x500100,
                                       .xcr0 = 0xe7,
                                       .program = "/usr/bin/app",
                                       .build_id = {0xab, 0xcd, 0xef, 0x01},
                                       .build_id_len = 4,
                                       .hostname = "node7",
                                       .cwd = "/home/user",
                                       .argv = argv,
                                       .argc = 4,
                                       .auxv = (const uint8_t *)auxv,
                                       .auxv_size = sizeof auxv,
                                       .itimers = {[1] = {1000, 500}}},
                              .regions = regions,
                              .nregions = 3,
                              .threads = threads,
                              .nthreads = 2,
                              .files = files,
                              .nfiles = 2,
                              .blobs = blobs,
                              .nblobs = 2};
    s->meta.sigactions[SIGTERM - 1] =
        (struct image_sigaction){0x402000, 0x14000004, 0x402100, 0x200};
    s->meta.sigactions[SIGPIPE - 1] = (struct image_sigaction){.handler = 1};
}

/* The pages of the state above: the first of each region has content. */
static int state_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
    page_fill(buf, (uint32_t)(addr >> 12), 0);
    memset((uint8_t *)buf + IMAGE_PAGE, 0, len - IMAGE_PAGE);
    return 0;
}

static ssize_t state_populated(void *ctx, uint64_t start, uint64_t end, bool private_only,
                               struct image_range *out, size_t max, uint64_t *walked)
{
    *walked = end;
    *out = (struct image_range){start, start + IMAGE_PAGE};
    return !private_only;
}

static void write_state(const char *path, struct image_state *s, struct image_thread *threads,
                        uint8_t *xsave, size_t xsave_size)
{
    struct image_source source = {.read = state_read, .populated = state_populated};
    fill_state(s, threads, xsave, xsave_size);
    if (image_write(path, s, &source, NULL, NULL, &err) < 0)
        ck_abort_msg("%s", err.text);
}

static void expect_thread(const struct image_thread *a, const struct image_thread *b)
{
    ck_assert_int_eq(a->tid, b->tid);
    ck_assert_int_eq(a->signo, b->signo);
    ck_assert_mem_eq(&a->regs, &b->regs, sizeof a->regs);
    ck_assert_uint_eq(a->xsave_size, b->xsave_size);
    ck_assert_uint_eq(a->siginfo_size, b->siginfo_size);
    ck_assert_mem_eq(a->siginfo, b->siginfo, sizeof a->siginfo);
    ck_assert_uint_eq(a->sigmask, b->sigmask);
    ck_assert_uint_eq(a->pending, b->pending);
    ck_assert_uint_eq(a->resume_sp, b->resume_sp);
    ck_assert_uint_eq(a->clear_child_tid, b->clear_child_tid);
    ck_assert_uint_eq(a->robust_list, b->robust_list);
    ck_assert_uint_eq(a->robust_list_len, b->robust_list_len);
    ck_assert_uint_eq(a->altstack_sp, b->altstack_sp);
    ck_assert_uint_eq(a->altstack_size, b->altstack_size);
    ck_assert_uint_eq(a->altstack_flags, b->altstack_flags);
    ck_assert_pstr_eq(a->name, b->name);
}

/* The scalars of image_meta up to its first pointer; struct holes are zero on both sides. */
static void expect_meta(const struct image_meta *a, const struct image_meta *b)
{
    ck_assert_mem_eq(a, b, offsetof(struct image_meta, program));
    ck_assert_str_eq(a->program, b->program);
    ck_assert_uint_eq(a->build_id_len, b->build_id_len);
    ck_assert_mem_eq(a->build_id, b->build_id, a->build_id_len);
    ck_assert_str_eq(a->hostname, b->hostname);
    ck_assert_str_eq(a->cwd, b->cwd);
    ck_assert_uint_eq(a->argc, b->argc);
    for (size_t i = 0; i < a->argc; i++)
        ck_assert_str_eq(a->argv[i], b->argv[i]);
    ck_assert_uint_eq(a->auxv_size, b->auxv_size);
    ck_assert_mem_eq(a->auxv, b->auxv, a->auxv_size);
    ck_assert_mem_eq(a->sigactions, b->sigactions, sizeof a->sigactions);
    ck_assert_mem_eq(a->itimers, b->itimers, sizeof a->itimers);
}

START_TEST(state_round_trip)
{
    struct image_state s;
    struct image_thread threads[2];
    uint8_t xsave[2440];
    write_state("s.img", &s, threads, xsave, sizeof xsave);
    struct image *image = must_open("s.img");
    const struct image_state *t = image_state(image);
    ck_assert_int_eq(t->kind, s.kind);
    ck_assert_mem_eq(&t->id, &s.id, sizeof s.id);
    ck_assert_ptr_null(t->parent);
    expect_meta(&t->meta, &s.meta);
    ck_assert_uint_eq(t->nthreads, 2);
    for (size_t i = 0; i < 2; i++)
        expect_thread(&t->threads[i], &s.threads[i]);
    /* XCR0 takes the place of the software bytes; all others are as they were. */
    const uint8_t *x = t->threads[0].xsave;
    ck_assert_mem_eq(x, xsave, 464);
    ck_assert_mem_eq(x + 464, "\xe7\0\0\0\0\0\0\0\0", 9);
    ck_assert_mem_eq(x + 512, xsave + 512, sizeof xsave - 512);

    ck_assert_uint_eq(t->nregions, 3);
    for (size_t i = 0; i < 3; i++) {
        const struct image_region *a = &t->regions[i], *b = &s.regions[i];
        ck_assert_uint_eq(a->start, b->start);
        ck_assert_uint_eq(a->end, b->end);
        ck_assert_uint_eq(a->prot, b->prot);
        ck_assert_uint_eq(a->flags, b->flags);
        ck_assert_int_eq(a->fill, b->fill == IMAGE_FILL_FILE ? IMAGE_FILL_FILE : IMAGE_FILL_ZERO);
        ck_assert_pstr_eq(a->path, b->path);
        ck_assert_uint_eq(a->offset, b->offset);
        ck_assert_uint_eq(a->dev, b->dev);
        ck_assert_uint_eq(a->ino, b->ino);
        ck_assert_uint_eq(a->build_id_len, b->build_id_len);
        ck_assert_mem_eq(a->build_id, b->build_id, sizeof a->build_id);
    }
    ck_assert_uint_eq(t->nfiles, 2);
    for (size_t i = 0; i < 2; i++) {
        const struct image_file *a = &t->files[i], *b = &s.files[i];
        ck_assert_mem_eq(a, b, offsetof(struct image_file, path));
        ck_assert_str_eq(a->path, b->path);
    }
    size_t size;
    ck_assert_mem_eq(image_blob_find(t, "handles", &size), "\1\2\3", 3);
    ck_assert_uint_eq(size, 3);
    ck_assert_uint_eq(t->nblobs, 2);
    ck_assert_ptr_null(image_blob_find(t, "other", NULL));
    image_close(image);
}
END_TEST

/* 3200 pages with content, then every second one of as many. */
static int half_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
    for (size_t at = 0; at < len; at += IMAGE_PAGE) {
        uint64_t i = (addr + at - MODEL_BASE) / IMAGE_PAGE;
        page_fill((uint8_t *)buf + at, i < 3200 || i % 2, 0);
    }
    return 0;
}

/* AMD's processors have no gap for bounds registers, which GDB 13 expects. */
START_TEST(vector_registers_are_where_gdb_looks)
{
    static const unsigned amd[16] = {[2] = 576, [5] = 832, [6] = 896, [7] = 1408, [9] = 2432};
    uint8_t area[2696];
    for (size_t i = 0; i < sizeof area; i++)
        area[i] = (uint8_t)(i * 7 + i / 251);
    memset(area + 512, 0, 8); /* XSTATE_BV: no more than GDB knows */
    for (size_t pkru = 0; pkru < 2; pkru++) {
        uint64_t features = 0xe7 | pkru << 9;
        struct codec_bytes out = {0};
        image_xsave_add(&out, features, area, pkru ? 2440 : 2432, amd);
        ck_assert_uint_eq(out.len, (pkru ? 2696 : 2688) - 512);
        ck_assert_mem_eq(out.data, area + 512, 64 + 256);
        ck_assert_mem_eq(out.data + 1088 - 512, area + 832, 64);
        ck_assert_mem_eq(out.data + 1152 - 512, area + 896, 512);
        ck_assert_mem_eq(out.data + 1664 - 512, area + 1408, 1024);
        if (pkru)
            ck_assert_mem_eq(out.data + 2688 - 512, area + 2432, 8);
        codec_bytes_release(&out);

        image_xsave_add(&out, features, area, 2696, image_xsave_gdb);
        ck_assert_uint_eq(out.len, 2696 - 512);
        ck_assert_mem_eq(out.data, area + 512, out.len);
        codec_bytes_release(&out);
    }
}
END_TEST

START_TEST(holes_are_not_filled_by_restoring)
{
    struct image_region region = {
        .start = MODEL_BASE, .end = MODEL_BASE + 6400 * 4096ull, .prot = RW};
    struct image_source source = {.read = half_read};
    struct image_state s = {.kind = IMAGE_FULL, .regions = &region, .nregions = 1};
    ck_assert_int_eq(image_write("h.img", &s, &source, NULL, NULL, &err), 0);
    struct image *image = must_open("h.img");
    size_t n, maps = 0;
    uint64_t cleared = 0;
    const struct image_piece *steps = image_steps(image, &n);
    for (size_t i = 0; i < n; i++) {
        maps += !steps[i].patch;
        if (steps[i].patch && steps[i].kind == IMAGE_PIECE_ZERO)
            cleared += steps[i].end - steps[i].start;
    }
    ck_assert_uint_le(maps, 4);
    ck_assert_uint_le(cleared, 4800 * 4096 / 16);
    image_close(image);
}
END_TEST

/* Every second page of 160000: more program headers than e_phnum can tell. */
static int sparse_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
    for (size_t at = 0; at < len; at += IMAGE_PAGE)
        page_fill((uint8_t *)buf + at, (uint32_t)((addr + at - MODEL_BASE) / IMAGE_PAGE % 2), 0);
    return 0;
}

START_TEST(sparse_memory_stays_small)
{
    struct image_region region = {
        .start = MODEL_BASE, .end = MODEL_BASE + 160000 * 4096ull, .prot = RW};
    struct image_source source = {.read = sparse_read};
    struct image_state s = {.kind = IMAGE_FULL, .regions = &region, .nregions = 1};
    struct image_written w;
    ck_assert_int_eq(image_write("x.img", &s, &source, NULL, &w, &err), 0);
    ck_assert_uint_gt(w.segments, PN_XNUM);
    ck_assert_uint_le(w.pages, 80000 * 102 / 100);
    struct image *image = must_open("x.img");
    uint8_t page[IMAGE_PAGE], want[IMAGE_PAGE];
    for (uint64_t i = 0; i < 160000; i += 777) {
        page_fill(want, i % 2, 0);
        ck_assert_int_eq(image_read(image, MODEL_BASE + i * 4096, page, sizeof page, &err), 0);
        ck_assert_mem_eq(page, want, sizeof page);
    }
    /* One mapping of zeros and reads into it, not 160000 mappings. */
    size_t n, maps = 0;
    const struct image_piece *steps = image_steps(image, &n);
    for (size_t i = 0; i < n; i++)
        maps += !steps[i].patch;
    ck_assert_uint_le(maps, 4);
    image_close(image);
    FILE *f = popen("readelf -lW x.img | grep -c '^  LOAD'", "r");
    unsigned long loads = 0;
    ck_assert_int_eq(fscanf(f, "%lu", &loads), 1);
    pclose(f);
    ck_assert_uint_eq(loads, w.segments - 1);
}
END_TEST

/* ------------------------------------------------------------------ fine checkpoints */

#define SEGMENT_MAX 5 /* increments */
#define KEPT        5

/* A rank's folder of fine checkpoints, and what the last of them hold. */
struct history {
    struct model_segment segment;
    char path[32]; /* of the segment */
    unsigned first, newest; /* in the segment; of all */
    char parent[48];
    struct image_id id;
    struct model kept[KEPT]; /* [number % KEPT] */
};

static struct history history;

static void segment_name(char name[32], unsigned first)
{
    snprintf(name, 32, "%08u.inc", first);
}

static void history_start(struct history *h)
{
    memset(h, 0, sizeof *h);
    h->segment = (struct model_segment){.writer = image_writer_create(), .fd = -1};
    ck_assert_ptr_nonnull(h->segment.writer);
    strcpy(h->parent, "00000001.img");
    h->id = model_write(&model, h->parent, NULL, NULL, NULL);
    h->newest = 1;
    h->kept[1] = model;
}

static void history_end(struct history *h)
{
    if (h->segment.fd >= 0)
        close(h->segment.fd);
    image_writer_destroy(h->segment.writer);
}

static void next_segment(struct history *h)
{
    if (h->segment.fd >= 0)
        close(h->segment.fd);
    h->first = h->newest + 1;
    segment_name(h->path, h->first);
    rename("spare", h->path);
    h->segment.path = h->path;
    h->segment.fd = open(h->path, O_RDWR | O_CREAT, 0600);
    h->segment.at = 0;
    ck_assert_int_ge(h->segment.fd, 0);
}

static void next_fine(struct history *h)
{
    if (h->segment.fd < 0 || h->newest - h->first + 1 == SEGMENT_MAX)
        next_segment(h);
    h->newest++;
    h->id = model_append(&model, &h->segment, h->newest, h->parent, &h->id);
    snprintf(h->parent, sizeof h->parent, "%s@%u", h->path, h->newest);
    h->kept[h->newest % KEPT] = model;
}

static void name_of(unsigned number, char name[32])
{
    ck_assert_msg(image_window_path(".", number, name, 32, &err) == 0, "%s", err.text);
}

/* The newest, and an older one that is kept. */
static void expect_history(struct history *h, bool verify)
{
    char name[32];
    struct image_window w;
    ck_assert_msg(image_window_read(".", &w, &err) == 0, "%s", err.text);
    ck_assert_uint_eq(w.newest, h->newest);
    name_of(h->newest, name);
    model_expect(&h->kept[h->newest % KEPT], name, verify);
    unsigned back = (unsigned)random() % KEPT, older = h->newest - back;
    if (back >= h->newest || older < w.oldest)
        return;
    name_of(older, name);
    model_expect(&h->kept[older % KEPT], name, verify);
}

/* The file without the number of an increment. */
static void file_of(const struct image *image, size_t k, char file[64])
{
    snprintf(file, 64, "%s", image_chain_path(image, k));
    file[strcspn(file, "@")] = '\0';
}

/* Merges the newest image of the segments before `first` with some of the images below them. */
static int merge_before(unsigned first, bool whole)
{
    char name[32], out[32], file[64];
    name_of(first - 1, name);
    snprintf(out, sizeof out, "./%08u.img", first - 1);
    if (!strcmp(name, out))
        return 0;
    struct image *image = image_open(name, &err);
    if (!image)
        return -1;
    size_t last = 0, n = image_chain_length(image);
    while (last + 1 < n && (whole || strstr(image_chain_path(image, last + 1), ".inc")))
        last++;
    if (image_merge(image, last, out, NULL, &err) < 0)
        return -1;
    for (size_t k = 0; k <= last; k++) {
        file_of(image, k, file);
        if (strstr(file, ".inc") && access("spare", F_OK) < 0)
            rename(file, "spare"); /* its increments are rubbish for who uses it next */
        else
            unlink(file);
    }
    image_close(image);
    return 0;
}

static void mutate(void)
{
    unsigned what = (unsigned)random() % 10, first = (unsigned)random() % MODEL_PAGES;
    unsigned count = 1 + (unsigned)random() % 40;
    if (what == 0)
        model_unmap(&model, first, count);
    else if (what <= 2)
        model_map(&model, first, count, random() % 4 ? RW : PROT_READ);
    for (unsigned i = 0; i < 30; i++) {
        unsigned page = (unsigned)random() % MODEL_PAGES;
        if (model.page[page].mapped)
            model_store(&model, page, random() % 8 ? (uint32_t)random() : 0);
    }
}

static int map_and_compare(void *arg)
{
    struct image *image = image_open(arg, &err);
    uint8_t want[IMAGE_PAGE];
    if (!image || image_map(image, &err) < 0) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    for (unsigned i = 0; i < MODEL_PAGES; i++) {
        uint8_t *at = (uint8_t *)(uintptr_t)(MODEL_BASE + i * 4096ull);
        if (!model.page[i].mapped)
            continue;
        page_fill(want, model.page[i].touched ? model.page[i].seed : 0, i);
        for (size_t k = 0; k < IMAGE_PAGE; k++) {
            if (at[k] != want[k]) {
                fprintf(stderr, "page %u differs in memory\n", i);
                return 1;
            }
        }
        if (model.page[i].prot & PROT_WRITE)
            at[0]++;
    }
    image_close(image);
    return 0;
}

START_TEST(window_of_fine_checkpoints)
{
    char name[32];
    srandom((unsigned)_i);
    model_init(&model);
    model_map(&model, 0, 200, RW);
    mutate();
    history_start(&history);
    for (unsigned step = 0; step < 80; step++) {
        mutate();
        next_fine(&history);
        if (history.newest - history.first == SEGMENT_MAX - 1 && history.first > 2 &&
            random() % 3 == 0)
            ck_assert_msg(merge_before(history.first, random() % 2) == 0, "%s", err.text);
        expect_history(&history, true);
        name_of(history.newest, name);
        if (step % 20 == 19)
            ck_assert_int_eq(in_child(map_and_compare, name), 0);
    }
    history_end(&history);
}
END_TEST

START_TEST(core_flattens_a_chain)
{
    model_sample();
    struct image_id id = model_write(&model, "a.img", NULL, NULL, NULL);
    for (unsigned i = 0; i < 5; i++) {
        mutate();
        char name[] = "b0.img", parent[] = "b0.img";
        name[1] = (char)('0' + i);
        parent[1] = (char)('0' + i - 1);
        id = model_write(&model, name, i ? parent : "a.img", &id, NULL);
    }
    struct image *image = must_open("b4.img");
    ck_assert_int_eq(image_core(image, "core.img", false, NULL, &err), 0);
    image_close(image);
    model_expect(&model, "core.img", true);
    image = must_open("core.img");
    ck_assert_uint_eq(image_chain_length(image), 1);
    ck_assert_int_eq(image_state(image)->kind, IMAGE_FULL);
    image_close(image);
}
END_TEST

/* Memory that went and came again: the oldest image's content must not show through, merged or not.
 */
START_TEST(forgotten_memory_stays_forgotten)
{
    model_sample();
    history_start(&history);
    model_unmap(&model, 30, 20);
    next_fine(&history);
    model_map(&model, 30, 10, RW);
    for (unsigned i = 30; i < 40; i++)
        model.page[i].changed = false; /* as by a caller that forgets to say so */
    next_fine(&history);
    model_expect(&model, "00000002.inc", true);
    struct image *image = must_open("00000002.inc@3");
    ck_assert_uint_eq(image_chain_length(image), 3);
    ck_assert_int_eq(image_merge(image, 1, "00000003.img", NULL, &err), 0);
    image_close(image);
    unlink("00000002.inc");
    model_expect(&model, "00000003.img", true);
    history_end(&history);
}
END_TEST

/* Whatever an interrupted writer leaves behind the last whole increment, the others are there. */
START_TEST(segment_ends_at_the_last_whole_increment)
{
    uint64_t end = 0;
    model_sample();
    history_start(&history);
    for (unsigned i = 0; i < 3; i++) {
        model_store(&model, 40 + i, 7 + i);
        end = history.segment.at;
        next_fine(&history);
    }
    for (off_t size = file_size("00000002.inc"); size >= (off_t)end; size -= 512) {
        ck_assert_int_eq(truncate("00000002.inc", size), 0);
        bool whole_sector = size >= (off_t)end + IMAGE_SECTOR;
        struct image *image = image_open("00000002.inc", &err);
        if (whole_sector && !image) /* its writer was not killed: the file was cut afterwards */
            ck_assert_int_eq(err.code, EBADMSG);
        image_close(image);
        model_expect(&history.kept[3], "00000002.inc@3", true);
    }
    struct image_window w;
    ck_assert_int_eq(image_window_read(".", &w, &err), 0);
    ck_assert_uint_eq(w.newest, 3);
    ck_assert_ptr_null(image_open("00000002.inc@4", &err));
    ck_assert_int_eq(err.code, ENOENT);
    /* Rubbish of an earlier use, with a valid sector: not the next one. */
    ck_assert_int_eq(truncate("00000002.inc", 0), 0);
    ck_assert_int_eq(image_window_read(".", &w, &err), 0);
    ck_assert_uint_eq(w.newest, 1);
    history_end(&history);
}
END_TEST

static void fail_appends(int fd, const char *path)
{
    struct image_written w;
    struct image_source source = model.source;
    struct image_state s = {.kind = IMAGE_FULL};
    ck_assert_int_eq(image_append(history.segment.writer, fd, path, 0, &s, &source, NULL, &w, &err),
                     -1);
    ck_assert_int_eq(err.code, EINVAL);
}

/* A segment that is used again holds valid increments of its earlier life. */
START_TEST(used_again_segment_is_no_other)
{
    model_sample();
    history_start(&history);
    for (unsigned i = 0; i < SEGMENT_MAX; i++) {
        model_store(&model, 40 + i, 7 + i);
        next_fine(&history);
    }
    ck_assert_int_eq(system("cp 00000002.inc spare"), 0);
    next_segment(&history); /* takes the spare; nothing is written to it yet */
    struct image_window w;
    ck_assert_int_eq(image_window_read(".", &w, &err), 0);
    ck_assert_uint_eq(w.newest, history.newest);
    mutate();
    next_fine(&history);
    expect_history(&history, true);
    ck_assert_int_eq(image_window_read(".", &w, &err), 0);
    ck_assert_uint_eq(w.newest, history.newest);
    fail_appends(history.segment.fd, history.path);
    history_end(&history);
}
END_TEST

/* ------------------------------------------------------------------ past the page cache */

#define LARGE_PAGES 8000

/* The third part of LARGE_PAGES is zero, the rest differs by the number in ctx. */
static int large_read(void *ctx, uint64_t addr, void *buf, size_t len)
{
    const uint32_t *seed = ctx;
    for (size_t at = 0; at < len; at += IMAGE_PAGE) {
        uint32_t page = (uint32_t)((addr + at - MODEL_BASE) / IMAGE_PAGE);
        page_fill((uint8_t *)buf + at, page / 10 % 3 ? *seed + page : 0, page);
    }
    return 0;
}

/* Share of the file's pages that are in the page cache, in percent; 0 where every file is there. */
static unsigned cached_percent(const char *path)
{
    static unsigned char resident[4 * LARGE_PAGES];
    size_t size = (size_t)file_size(path), pages = size / IMAGE_PAGE, n = 0;
    int direct = open(path, O_RDONLY | O_DIRECT), fd = open(path, O_RDONLY);
    ck_assert_uint_lt(pages, sizeof resident);
    void *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(map, MAP_FAILED);
    ck_assert_int_eq(mincore(map, size, resident), 0);
    for (size_t i = 0; i < pages; i++)
        n += resident[i] & 1;
    munmap(map, size);
    close(fd);
    if (direct < 0)
        return 0;
    close(direct);
    return (unsigned)(100 * n / pages);
}

static void expect_large(const char *path, uint32_t seed, uint32_t changed_to)
{
    uint8_t page[IMAGE_PAGE], want[IMAGE_PAGE];
    struct image *image = must_open(path);
    for (uint32_t i = 0; i < LARGE_PAGES; i++) {
        uint32_t now = i < LARGE_PAGES / 2 ? changed_to : seed;
        uint64_t at = MODEL_BASE + i * (uint64_t)IMAGE_PAGE;
        large_read(&now, at, want, sizeof want);
        ck_assert_int_eq(image_read(image, at, page, sizeof page, &err), 0);
        ck_assert_mem_eq(page, want, sizeof page);
    }
    image_close(image);
    ck_assert_msg(image_verify(path, &err) == 0, "%s", err.text);
}

/* A whole image, a large increment in a segment that was in use before, and both of them merged. */
START_TEST(large_images_leave_the_page_cache_alone)
{
    struct image_region region = {
        .start = MODEL_BASE, .end = MODEL_BASE + LARGE_PAGES * 4096ull, .prot = RW};
    struct image_range half = {region.start, MODEL_BASE + LARGE_PAGES / 2 * 4096ull};
    struct image_write_options options = {.uncached = true};
    struct image_written w;
    uint32_t seed = 1000, changed = 50000;
    struct image_source source = {.read = large_read, .ctx = &seed};
    struct image_state s = {.kind = IMAGE_FULL, .regions = &region, .nregions = 1, .oldest = 1};
    s.meta.checkpoint = 1;
    ck_assert_int_eq(image_write("00000001.img", &s, &source, &options, &w, &err), 0);
    ck_assert_uint_lt(cached_percent("00000001.img"), 10);
    expect_large("00000001.img", seed, seed);

    int fd = open("00000002.inc", O_RDWR | O_CREAT, 0600);
    ck_assert_int_eq(pwrite(fd, &model, sizeof model, 0), sizeof model);
    struct image_writer *writer = image_writer_create();
    s.kind = IMAGE_INCREMENTAL;
    s.parent = "00000001.img";
    s.parent_id = w.id;
    s.meta.checkpoint = 2;
    options.changed = &half;
    options.nchanged = 1;
    source.ctx = &changed;
    ck_assert_msg(image_append(writer, fd, "00000002.inc", 0, &s, &source, &options, &w, &err) == 0,
                  "%s", err.text);
    close(fd);
    ck_assert_uint_lt(cached_percent("00000002.inc"), 10);
    expect_large("00000002.inc", seed, changed);

    /* Alone in its segment it is an image: another name is all that it takes. */
    ck_assert_int_eq(rename("00000002.inc", "00000002.img"), 0);
    expect_large("00000002.img", seed, changed);
    struct image_id alone = w.id;
    char path[64];
    fd = open("00000003.inc", O_RDWR | O_CREAT, 0600);
    s.parent = "00000002.inc@2";
    s.parent_id = alone;
    s.meta.checkpoint = 3;
    options.nchanged = 0;
    ck_assert_int_eq(image_append(writer, fd, "00000003.inc", 0, &s, &source, &options, &w, &err),
                     0);
    image_writer_destroy(writer);
    close(fd);
    expect_large("00000003.inc@3", seed, changed);
    ck_assert_int_eq(image_window_path(".", 2, path, sizeof path, &err), 0);
    ck_assert_str_eq(path, "./00000002.img");
    ck_assert_int_eq(rename("00000002.img", "00000002.inc"), 0);
    ck_assert_int_eq(unlink("00000003.inc"), 0);

    struct image *image = must_open("00000002.inc");
    ck_assert_int_eq(image_merge(image, 0, "00000002.img", NULL, &err), 0);
    image_close(image);
    ck_assert_uint_lt(cached_percent("00000002.img"), 10);
    expect_large("00000002.img", seed, changed);

    image = must_open("00000002.inc");
    ck_assert_int_eq(image_merge(image, 1, "whole.img", NULL, &err), 0);
    image_close(image);
    ck_assert_uint_lt(cached_percent("whole.img"), 10);
    ck_assert_int_eq(unlink("00000001.img"), 0);
    expect_large("whole.img", seed, changed);
}
END_TEST

/* ------------------------------------------------------------------ merges that are killed */

static int merge_traced(void)
{
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    raise(SIGSTOP);
    return merge_before(history.first, true) < 0;
}

static bool changes_files(long number)
{
    return number == SYS_pwrite64 || number == SYS_pwritev || number == SYS_rename ||
           number == SYS_unlink || number == SYS_openat;
}

/* Runs a merge and kills it before its n-th change of a file. True if it was killed. */
static bool merge_killed(unsigned n)
{
    int status;
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0)
        _exit(merge_traced());
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    bool entry = true;
    while (!WIFEXITED(status)) {
        struct user_regs_struct regs;
        ck_assert_int_eq(ptrace(PTRACE_SYSCALL, pid, NULL, NULL), 0);
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        if (!WIFSTOPPED(status))
            break;
        ck_assert_int_eq(ptrace(PTRACE_GETREGS, pid, NULL, &regs), 0);
        if (entry && changes_files((long)regs.orig_rax) && n-- == 0) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return true;
        }
        entry = !entry;
    }
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return false;
}

START_TEST(killed_merge_loses_nothing)
{
    unsigned kills = 0;
    for (bool killed = true; killed; kills++) {
        srandom(7);
        model_init(&model);
        model_map(&model, 0, 300, RW);
        for (unsigned i = 0; i < 100; i++)
            model_store(&model, i * 3, i);
        history_start(&history);
        for (unsigned i = 0; i < 2 * SEGMENT_MAX; i++) {
            mutate();
            next_fine(&history);
        }
        killed = merge_killed(kills);
        expect_history(&history, true);
        ck_assert_msg(merge_before(history.first, true) == 0, "%s", err.text);
        expect_history(&history, true);
        history_end(&history);
        ck_assert_int_eq(system("rm -f *.img *.inc *.part spare"), 0);
    }
    ck_assert_uint_ge(kills, 6); /* open, pages, metadata, header, rename, unlink */
}
END_TEST

/* ------------------------------------------------------------------ real memory */

#define HEAP       ((uint8_t *)0x210000000000)
#define DATA       ((uint8_t *)0x210100000000)
#define GUARD      ((uint8_t *)0x210200000000)
#define HEAP_PAGES 20000
#define DATA_PAGES 256

static struct image_region real_regions[] = {
    {.prot = RW, .flags = IMAGE_REGION_HEAP, .path = "[heap]"},
    {.prot = RW, .flags = IMAGE_REGION_FILE, .fill = IMAGE_FILL_FILE, .path = "data.bin"},
    {.prot = PROT_NONE},
};

static void *map_fixed(uint8_t *at, size_t pages, int prot, int flags, int fd)
{
    void *p = mmap(at, pages * IMAGE_PAGE, prot, MAP_PRIVATE | MAP_FIXED | flags, fd, 0);
    ck_assert_ptr_eq(p, at);
    return p;
}

static void set_region(struct image_region *r, const uint8_t *at, size_t pages)
{
    r->start = (uintptr_t)at;
    r->end = r->start + pages * IMAGE_PAGE;
}

/* A sparse heap, a file mapping with three changed pages, and memory that cannot be read. */
static void real_memory(void)
{
    int fd = open("data.bin", O_RDWR | O_CREAT, 0600);
    for (unsigned i = 0; i < DATA_PAGES; i++) {
        uint8_t page[IMAGE_PAGE];
        page_fill(page, i + 1, 0);
        ck_assert_int_eq(write(fd, page, sizeof page), sizeof page);
    }
    map_fixed(HEAP, HEAP_PAGES, RW, MAP_ANONYMOUS | MAP_NORESERVE, -1);
    map_fixed(DATA, DATA_PAGES, RW, 0, fd);
    map_fixed(GUARD, 4, RW, MAP_ANONYMOUS, -1);
    close(fd);
    for (unsigned i = 0; i < 3000; i++)
        page_fill(HEAP + i * IMAGE_PAGE, i + 5, 1);
    page_fill(HEAP + (HEAP_PAGES - 1) * IMAGE_PAGE, 4, 1);
    for (unsigned i = 0; i < DATA_PAGES; i++) /* present, but not changed */
        ck_assert_uint_ne(*(volatile uint64_t *)(DATA + i * IMAGE_PAGE), 0);
    for (unsigned i = 10; i < 13; i++)
        page_fill(DATA + i * IMAGE_PAGE, i == 11 ? 0 : 99 + i, 1);
    page_fill(GUARD + IMAGE_PAGE, 3, 1);
    mprotect(GUARD, 4 * IMAGE_PAGE, PROT_NONE);
    set_region(&real_regions[0], HEAP, HEAP_PAGES);
    set_region(&real_regions[1], DATA, DATA_PAGES);
    set_region(&real_regions[2], GUARD, 4);
}

static void write_real(const char *path, bool scan, const struct image_write_options *options,
                       struct image_written *w)
{
    struct image_source source;
    struct image_state s = {.kind = IMAGE_FULL, .regions = real_regions, .nregions = 3};
    ck_assert_int_eq(image_source_self(&source, &err), 0);
    source.no_scan = !scan;
    int rc = image_write(path, &s, &source, options, w, &err);
    image_source_close(&source);
    ck_assert_msg(rc == 0, "%s", err.text);
}

static uint64_t sum_memory(const uint8_t *at, size_t pages)
{
    struct image_sum sum = image_sum(at, pages * IMAGE_PAGE);
    uint64_t v;
    memcpy(&v, &sum, sizeof v);
    return v;
}

struct real_sums {
    uint64_t heap, data, guard;
};

static struct real_sums sum_real(void)
{
    mprotect(GUARD, 4 * IMAGE_PAGE, PROT_READ);
    return (struct real_sums){sum_memory(HEAP, HEAP_PAGES), sum_memory(DATA, DATA_PAGES),
                              sum_memory(GUARD, 4)};
}

static void forget_real(void)
{
    munmap(HEAP, HEAP_PAGES * IMAGE_PAGE);
    munmap(DATA, DATA_PAGES * IMAGE_PAGE);
    munmap(GUARD, 4 * IMAGE_PAGE);
}

START_TEST(own_memory_and_second_generation)
{
    struct image_written w;
    real_memory();
    write_real("one.img", _i, NULL, &w);
    ck_assert_uint_ge(w.pages, 3001 + 2 + 1);
    ck_assert_uint_le(w.pages, (3001 + 2 + 1) * 102 / 100);
    ck_assert_int_eq(image_verify("one.img", &err), 0);
    struct real_sums before = sum_real();

    forget_real();
    struct image *image = must_open("one.img");
    ck_assert_msg(image_map(image, &err) == 0, "%s", err.text);
    ck_assert_int_eq(mprotect(GUARD, 1, PROT_NONE), 0);
    page_fill(HEAP + 77 * IMAGE_PAGE, 12345, 0);
    page_fill(HEAP + 10000 * IMAGE_PAGE, 12346, 0);
    page_fill(DATA + 20 * IMAGE_PAGE, 12347, 0);

    /* Most pages are now mapped from the first image, untouched: neither zero nor data.bin's. */
    struct image_write_options options = {0};
    options.mapped = image_mapped(image, &options.nmapped);
    write_real("two.img", _i, &options, &w);
    ck_assert_uint_le(w.pages, (3001 + 3 + 1 + 2) * 102 / 100);
    struct real_sums changed = sum_real();
    ck_assert_uint_ne(before.heap, changed.heap);
    ck_assert_uint_ne(before.data, changed.data);
    ck_assert_uint_eq(before.guard, changed.guard);
    image_close(image);
    ck_assert_int_eq(unlink("one.img"), 0);

    forget_real();
    image = must_open("two.img");
    ck_assert_msg(image_map(image, &err) == 0, "%s", err.text);
    struct real_sums after = sum_real();
    ck_assert_mem_eq(&after, &changed, sizeof after);
    image_close(image);
}
END_TEST

/* Maps shared.img, lets a child of its own write, and looks for what it wrote. */
static int map_shared(void *arg)
{
    struct image *image = image_open("shared.img", &err);
    if (!image || image_map(image, &err) < 0)
        return fprintf(stderr, "%s\n", err.text), 1;
    uint8_t want[IMAGE_PAGE];
    page_fill(want, 8, 0);
    if (memcmp(HEAP + 2 * IMAGE_PAGE, want, sizeof want) != 0 || HEAP[5] != 0)
        return fprintf(stderr, "the content differs\n"), 1;
    pid_t pid = fork();
    if (pid == 0) {
        HEAP[5] = 1;
        _exit(0);
    }
    waitpid(pid, NULL, 0);
    image_close(image);
    return HEAP[5] != 1;
}

START_TEST(shared_memory_stays_shared)
{
    void *p = mmap(HEAP, 40 * IMAGE_PAGE, RW, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    ck_assert_ptr_eq(p, HEAP);
    page_fill(HEAP + 2 * IMAGE_PAGE, 8, 0);
    page_fill(HEAP + 30 * IMAGE_PAGE, 9, 0);
    struct image_region region = {
        .prot = RW, .flags = IMAGE_REGION_SHARED, .fill = IMAGE_FILL_READ};
    set_region(&region, HEAP, 40);
    struct image_source source;
    struct image_state s = {.kind = IMAGE_FULL, .regions = &region, .nregions = 1};
    struct image_written w;
    ck_assert_int_eq(image_source_self(&source, &err), 0);
    ck_assert_int_eq(image_write("shared.img", &s, &source, NULL, &w, &err), 0);
    image_source_close(&source);
    ck_assert_uint_eq(w.pages, 2);
    munmap(HEAP, 40 * IMAGE_PAGE);
    ck_assert_int_eq(in_child(map_shared, NULL), 0);
}
END_TEST

START_TEST(mapped_file_changed_since)
{
    real_memory();
    write_real("one.img", true, NULL, NULL);
    struct image *image = must_open("one.img");
    ck_assert_int_eq(image_core(image, "all.img", true, NULL, &err), 0);
    ck_assert_int_eq(truncate("data.bin", 5 * IMAGE_PAGE), 0);
    ck_assert_int_eq(image_map(image, &err), -1);
    ck_assert_int_eq(err.code, ESTALE);
    ck_assert_ptr_nonnull(strstr(err.text, "data.bin"));
    ck_assert_int_eq(unlink("data.bin"), 0);
    ck_assert_int_eq(image_map(image, &err), -1);
    ck_assert_int_eq(err.code, ENOENT);
    image_close(image);
    image = must_open("all.img"); /* carries the pages of the file */
    uint8_t page[IMAGE_PAGE], want[IMAGE_PAGE];
    page_fill(want, 50, 0);
    ck_assert_int_eq(image_read(image, (uintptr_t)DATA + 49 * IMAGE_PAGE, page, sizeof page, &err),
                     0);
    ck_assert_mem_eq(page, want, sizeof page);
    image_close(image);
}
END_TEST

START_TEST(build_id_decides)
{
    uint8_t id[IMAGE_BUILD_ID_MAX];
    size_t len = image_build_id("/proc/self/exe", id);
    ck_assert_uint_eq(len, 20);
    ck_assert_uint_eq(image_build_id("/etc/passwd", id), 0);
    ck_assert_uint_eq(image_build_id("/nonexistent", id), 0);
    real_memory();
    real_regions[1].path = "/proc/self/exe";
    real_regions[1].build_id_len = 20;
    memset(real_regions[1].build_id, 0x5a, 20);
    write_real("one.img", true, NULL, NULL);
    struct image *image = must_open("one.img");
    ck_assert_int_eq(image_map(image, &err), -1);
    ck_assert_int_eq(err.code, ESTALE);
    ck_assert_ptr_nonnull(strstr(err.text, "build-id"));
    image_close(image);
    real_regions[1].path = "data.bin";
    real_regions[1].build_id_len = 0;
}
END_TEST

/* ------------------------------------------------------------------ damage */

START_TEST(truncated_anywhere)
{
    model_sample();
    model_write(&model, "a.img", NULL, NULL, NULL);
    off_t size = file_size("a.img");
    for (off_t cut = size; cut > 0;) {
        cut -= cut == size ? 1 : 997;
        ck_assert_int_eq(truncate("a.img", cut > 0 ? cut : 0), 0);
        ck_assert_ptr_null(image_open("a.img", &err));
        ck_assert_int_eq(err.code, EBADMSG);
        ck_assert_ptr_nonnull(strstr(err.text, "truncated"));
        ck_assert_ptr_nonnull(strstr(err.text, "a.img"));
    }
}
END_TEST

START_TEST(flipped_bit_is_found)
{
    model_sample();
    model_write(&model, "a.img", NULL, NULL, NULL);
    off_t size = file_size("a.img");
    uint64_t data_end = IMAGE_DATA_OFFSET + 62 * IMAGE_PAGE;
    for (off_t at = 0; at < size; at += at < (off_t)IMAGE_SECTOR ? 1 : 1009) {
        if (at >= (off_t)IMAGE_SECTOR && at < (off_t)IMAGE_DATA_OFFSET)
            continue; /* nothing is there */
        flip_byte("a.img", at, 0x10);
        struct image *image = image_open("a.img", &err);
        bool data = at >= (off_t)IMAGE_DATA_OFFSET && at < (off_t)data_end;
        ck_assert_msg((image != NULL) == data, "byte %ld", (long)at);
        image_close(image);
        ck_assert_int_eq(image_verify("a.img", &err), -1);
        ck_assert_int_eq(err.code, EBADMSG);
        if (data) {
            char range[64];
            uint64_t begin =
                (at - IMAGE_DATA_OFFSET) / IMAGE_CHUNK * IMAGE_CHUNK + IMAGE_DATA_OFFSET;
            snprintf(range, sizeof range, "bytes %llu..", (unsigned long long)begin);
            ck_assert_msg(strstr(err.text, range) != NULL, "%s", err.text);
        }
        flip_byte("a.img", at, 0x10);
    }
    model_expect(&model, "a.img", true);
}
END_TEST

START_TEST(parents_are_checked)
{
    model_sample();
    struct image_id a = model_write(&model, "a.img", NULL, NULL, NULL);
    model_store(&model, 60, 1);
    model_write(&model, "b.img", "a.img", &a, NULL);
    flip_byte("a.img", IMAGE_DATA_OFFSET + 100, 1);
    ck_assert_int_eq(image_verify("b.img", &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "a.img"));
    model_write(&model, "a.img", NULL, NULL, NULL);
    ck_assert_ptr_null(image_open("b.img", &err));
    ck_assert_int_eq(err.code, ESTALE);
    ck_assert_int_eq(unlink("a.img"), 0);
    ck_assert_ptr_null(image_open("b.img", &err));
    ck_assert_int_eq(err.code, ENOENT);
}
END_TEST

START_TEST(foreign_files)
{
    static const char *const files[] = {"/bin/true", "/dev/zero", "/", "/etc/passwd", "none.img"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        err.text[0] = '\0';
        ck_assert_ptr_null(image_open(files[i], &err));
        ck_assert_ptr_nonnull(strstr(err.text, files[i]));
    }
}
END_TEST

START_TEST(states_that_are_no_states)
{
    struct image_region bad[] = {{.start = 8192, .end = 4096}};
    struct image_source source = {.read = sparse_read};
    struct image_state s = {.kind = IMAGE_INCREMENTAL};
    ck_assert_int_eq(image_write("a.img", &s, &source, NULL, NULL, &err), -1);
    ck_assert_int_eq(err.code, EINVAL);
    s = (struct image_state){.kind = IMAGE_FULL, .regions = bad, .nregions = 1};
    ck_assert_int_eq(image_write("a.img", &s, &source, NULL, NULL, &err), -1);
    ck_assert_int_eq(err.code, EINVAL);
    ck_assert_uint_eq(files_here(), 0);
}
END_TEST

/* ------------------------------------------------------------------ disks that are full */

static int write_limited(void *arg)
{
    struct image_source *source = &model.source;
    struct image_region region = {
        .start = MODEL_BASE, .end = MODEL_BASE + 400 * IMAGE_PAGE, .prot = RW};
    struct image_state s = {.kind = IMAGE_FULL, .regions = &region, .nregions = 1};
    const char *path = arg;
    int rc = image_write(path, &s, source, NULL, NULL, &err);
    if (rc == 0 || !strstr(err.text, path) || !strstr(err.text, "1.2 MiB needed"))
        return fprintf(stderr, "%d: %s\n", rc, rc ? err.text : "written"), 1;
    char partial[64];
    snprintf(partial, sizeof partial, "%s.part", path);
    if (access(partial, F_OK) == 0 || access(path, F_OK) == 0)
        return fprintf(stderr, "a file is left\n"), 1;
    return err.code == EFBIG ? 10 : err.code == ENOSPC ? 11 : 1;
}

static int write_with_rlimit(void *arg)
{
    struct rlimit limit = {600000, 600000};
    setrlimit(RLIMIT_FSIZE, &limit);
    return write_limited(arg);
}

static int write_on_tmpfs(void *arg)
{
    if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mkdir("small", 0700) < 0 || mount("none", "small", "tmpfs", 0, "size=800k") < 0)
        return 77;
    return write_limited(arg);
}

static void model_fill(void)
{
    model_init(&model);
    model_map(&model, 0, 400, RW);
    for (unsigned i = 0; i < 310; i++)
        model_store(&model, i, i + 1);
}

START_TEST(file_size_limit)
{
    model_fill();
    ck_assert_int_eq(in_child(write_with_rlimit, "a.img"), 10);
}
END_TEST

START_TEST(full_disk)
{
    model_fill();
    int status = in_child(write_on_tmpfs, "small/a.img");
    if (status == 77)
        return; /* mounting is for root */
    ck_assert_int_eq(status, 11);
}
END_TEST

/* ------------------------------------------------------------------ dump, corpus */

START_TEST(dump_is_golden)
{
    struct image_state s;
    struct image_thread threads[2];
    uint8_t xsave[1024];
    write_state("s.img", &s, threads, xsave, sizeof xsave);
    struct image *image = must_open("s.img");
    for (int json = 0; json < 2; json++) {
        char *text;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        ck_assert_int_eq(image_dump(image, out, json, &err), 0);
        fclose(out);
        unit_golden(json ? "image.json" : "image.txt", text);
        free(text);
    }
    image_close(image);
}
END_TEST

START_TEST(corpus_is_harmless)
{
    unit_corpus("image", 3, LLVMFuzzerTestOneInput);
}
END_TEST

/* Writes the corpus's seeds: `test_image corpus`. */
#define CORPUS "tests/fuzz/corpus/image/"
static int make_corpus(void)
{
    struct image_state s;
    struct image_thread threads[2];
    uint8_t xsave[576];
    const char *path = CORPUS "segment.inc";
    write_state(CORPUS "state.img", &s, threads, xsave, sizeof xsave);
    model_init(&model);
    model_map(&model, 0, 30, RW);
    model_store(&model, 3, 5);
    struct image_id id = model_write(&model, CORPUS "pages.img", NULL, NULL, NULL);
    model_store(&model, 4, 6);
    model_write(&model, CORPUS "increment.img", "pages.img", &id, NULL);
    struct model_segment segment = {.writer = image_writer_create(), .path = path,
                                    .fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600)};
    for (unsigned i = 1; i <= 2; i++) {
        model_store(&model, i, i);
        id = model_append(&model, &segment, i, i == 1 ? "pages.img" : "segment.inc@1", &id);
    }
    close(segment.fd);
    image_writer_destroy(segment.writer);
    return 0;
}

static void add_damage_tests(Suite *suite)
{
    TCase *tc = tcase_create("damage");
    tcase_add_checked_fixture(tc, scratch_enter, scratch_leave);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, truncated_anywhere);
    tcase_add_test(tc, flipped_bit_is_found);
    tcase_add_test(tc, parents_are_checked);
    tcase_add_test(tc, foreign_files);
    tcase_add_test(tc, states_that_are_no_states);
    tcase_add_test(tc, file_size_limit);
    tcase_add_test(tc, full_disk);
    suite_add_tcase(suite, tc);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "corpus") == 0)
        return make_corpus();
    Suite *suite = suite_create("image");
    TCase *tc = tcase_create("image");
    tcase_add_checked_fixture(tc, scratch_enter, scratch_leave);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, full_round_trip);
    tcase_add_test(tc, increment_holds_changed_pages_only);
    tcase_add_test(tc, parent_in_another_folder);
    tcase_add_test(tc, state_round_trip);
    tcase_add_test(tc, vector_registers_are_where_gdb_looks);
    tcase_add_test(tc, sparse_memory_stays_small);
    tcase_add_test(tc, holes_are_not_filled_by_restoring);
    tcase_add_loop_test(tc, window_of_fine_checkpoints, 0, 8);
    tcase_add_test(tc, forgotten_memory_stays_forgotten);
    tcase_add_test(tc, core_flattens_a_chain);
    tcase_add_test(tc, segment_ends_at_the_last_whole_increment);
    tcase_add_test(tc, used_again_segment_is_no_other);
    tcase_add_test(tc, large_images_leave_the_page_cache_alone);
    tcase_add_test(tc, killed_merge_loses_nothing);
    tcase_add_loop_test(tc, own_memory_and_second_generation, 0, 2);
    tcase_add_test(tc, shared_memory_stays_shared);
    tcase_add_test(tc, mapped_file_changed_since);
    tcase_add_test(tc, build_id_decides);
    tcase_add_test(tc, dump_is_golden);
    tcase_add_test(tc, corpus_is_harmless);
    suite_add_tcase(suite, tc);
    add_damage_tests(suite);
    return unit_run(suite);
}
