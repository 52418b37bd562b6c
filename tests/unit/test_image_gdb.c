/*
 * test_image_gdb.c - GDB opens an image as it opens a core file
 *
 * The victim is stopped at its fatal signal by ptrace, its state read from outside and written as a
 * failure image; GDB must then show threads, registers, backtraces, libraries, TLS, memory and
 * signal.
 */
#include <check.h>
#include <dirent.h>
#include <elf.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/image_util.h"
#include "tests/unit/unit.h"

#define THREADS_MAX 8
#define XSAVE_MAX   16384
#define REGIONS_MAX 256

static struct err err;
static char victim[PATH_MAX]; /* beside this program */

struct stopped {
    pid_t pid;
    struct image_state state;
    struct image_thread threads[THREADS_MAX];
    uint8_t xsave[THREADS_MAX][XSAVE_MAX];
    struct image_region regions[REGIONS_MAX];
    char paths[REGIONS_MAX][256];
    uint8_t auxv[1024];
    const char *argv[1];
};

/* Starts the victim and stops it at its SIGSEGV. */
static void run_to_fault(struct stopped *s)
{
    int status;
    s->pid = fork();
    ck_assert_int_ge(s->pid, 0);
    if (s->pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        execl(victim, victim, (char *)NULL);
        _exit(127);
    }
    ck_assert_int_eq(waitpid(s->pid, &status, 0), s->pid);
    ck_assert(WIFSTOPPED(status));
    ck_assert_int_eq(ptrace(PTRACE_SETOPTIONS, s->pid, NULL, PTRACE_O_EXITKILL), 0);
    for (int signo = 0; signo != SIGSEGV;) {
        ck_assert_int_eq(ptrace(PTRACE_CONT, s->pid, NULL, signo), 0);
        ck_assert_int_eq(waitpid(s->pid, &status, 0), s->pid);
        ck_assert(WIFSTOPPED(status));
        signo = WSTOPSIG(status);
    }
}

static void read_thread(struct stopped *s, pid_t tid)
{
    struct image_thread *t = &s->threads[s->state.nthreads];
    uint8_t *xsave = s->xsave[s->state.nthreads++];
    struct iovec regs = {&t->regs, sizeof t->regs}, xstate = {xsave, XSAVE_MAX};
    if (tid != s->pid) {
        ck_assert_int_eq(ptrace(PTRACE_SEIZE, tid, NULL, NULL), 0);
        ck_assert_int_eq(ptrace(PTRACE_INTERRUPT, tid, NULL, NULL), 0);
        ck_assert_int_eq(waitpid(tid, NULL, __WALL), tid);
    }
    t->tid = tid;
    ck_assert_int_eq(ptrace(PTRACE_GETREGSET, tid, (void *)NT_PRSTATUS, &regs), 0);
    ck_assert_int_eq(ptrace(PTRACE_GETREGSET, tid, (void *)NT_X86_XSTATE, &xstate), 0);
    t->xsave = xsave;
    t->xsave_size = (uint32_t)xstate.iov_len;
    memcpy(&s->state.meta.xcr0, xsave + 464, sizeof s->state.meta.xcr0);
    if (tid == s->pid) {
        t->signo = SIGSEGV;
        t->siginfo_size = sizeof(siginfo_t);
        ck_assert_int_eq(ptrace(PTRACE_GETSIGINFO, tid, NULL, t->siginfo), 0);
    }
}

static void read_threads(struct stopped *s)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", s->pid);
    read_thread(s, s->pid);
    DIR *dir = opendir(path);
    ck_assert_ptr_nonnull(dir);
    for (struct dirent *e; (e = readdir(dir));) {
        pid_t tid = atoi(e->d_name);
        if (tid > 0 && tid != s->pid)
            read_thread(s, tid);
    }
    closedir(dir);
    s->state.threads = s->threads;
}

static void read_regions(struct stopped *s)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/maps", s->pid);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f)) {
        unsigned long start, end, offset, ino;
        char prot[5], *name = s->paths[s->state.nregions];
        name[0] = '\0';
        ck_assert_int_ge(
            sscanf(line, "%lx-%lx %4s %lx %*s %lu %255s", &start, &end, prot, &offset, &ino, name),
            5);
        if (strcmp(name, "[vvar]") == 0 || strcmp(name, "[vsyscall]") == 0 ||
            strncmp(name, "[vvar_", 6) == 0)
            continue;
        struct image_region *r = &s->regions[s->state.nregions++];
        *r = (struct image_region){
            .start = start, .end = end, .ino = ino, .path = name, .offset = offset};
        r->prot = (prot[0] == 'r' ? PROT_READ : 0) | (prot[1] == 'w' ? PROT_WRITE : 0) |
                  (prot[2] == 'x' ? PROT_EXEC : 0);
        if (name[0] == '/') {
            r->flags = IMAGE_REGION_FILE;
            r->fill = IMAGE_FILL_FILE;
            r->build_id_len = (uint8_t)image_build_id(name, r->build_id);
        } else if (strcmp(name, "[vdso]") == 0) {
            r->fill = IMAGE_FILL_READ; /* the kernel's pages are there, touched or not */
        }
    }
    fclose(f);
    s->state.regions = s->regions;
}

static void read_process(struct stopped *s)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/auxv", s->pid);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    s->argv[0] = victim;
    struct image_meta *m = &s->state.meta;
    m->auxv = s->auxv;
    m->auxv_size = fread(s->auxv, 1, sizeof s->auxv, f);
    m->pid = s->pid;
    m->program = victim;
    m->argv = s->argv;
    m->argc = 1;
    fclose(f);
}

/* The victim's image as `path`; the victim is ended. */
static void make_image(const char *path, struct image_written *written)
{
    static struct stopped s;
    struct image_source source;
    memset(&s, 0, sizeof s);
    s.state.kind = IMAGE_FAILURE;
    run_to_fault(&s);
    read_threads(&s);
    read_regions(&s);
    read_process(&s);
    ck_assert_msg(image_source_pid(&source, s.pid, &err) == 0, "%s", err.text);
    int rc = image_write(path, &s.state, &source, NULL, written, &err);
    image_source_close(&source);
    kill(s.pid, SIGKILL);
    while (waitpid(-1, NULL, __WALL) > 0) /* its other threads are children of the tracer, too */
        ;
    ck_assert_msg(rc == 0, "%s", err.text);
}

static char output[1 << 16];

/* What GDB prints for the image; kept in `output`. */
static void run_gdb(const char *image, const char *commands)
{
    char command[2 * PATH_MAX + 1024];
    snprintf(command, sizeof command,
             "gdb -nx -batch -iex 'set debuginfod enabled off' %s '%s' %s 2>&1", commands, victim,
             image);
    FILE *f = popen(command, "r");
    size_t n = fread(output, 1, sizeof output - 1, f);
    output[n] = '\0';
    pclose(f);
}

static void expect(const char *text)
{
    ck_assert_msg(strstr(output, text) != NULL, "GDB does not say \"%s\" but:\n%s", text, output);
}

static void expect_not(const char *text)
{
    ck_assert_msg(strstr(output, text) == NULL, "GDB says \"%s\":\n%s", text, output);
}

START_TEST(gdb_opens_image)
{
    struct image_written written;
    if (system("gdb -nx -batch >/dev/null 2>&1") != 0)
        return;
    make_image("victim.img", &written);
    ck_assert_uint_le(written.file_bytes, 1 << 20);
    run_gdb("victim.img", "-ex bt -ex 'info threads' -ex 'info sharedlibrary' -ex 'info auxv'");
    expect("Program terminated with signal SIGSEGV");
    expect("store_far (cell=0x");
    expect("value=42)");
    expect("in main () at ");
    expect("libc.so.6");
    expect("AT_ENTRY");
    expect("* 1    Thread");
    expect("3    Thread");
    expect_not("warning");

    run_gdb("victim.img",
            "-ex 'thread apply all bt' -ex 'print global_number' -ex 'print *cell' "
            "-ex 'print cell->field[0]' -ex 'print $_siginfo.si_signo' "
            "-ex 'print $_siginfo._sifields._sigfault.si_addr' -ex 'x/i $pc' "
            "-ex 'print $xmm0.v2_double[0]' -ex 'thread apply all print local_number'");
    expect("wait_for_left (number=100)");
    expect("wait_for_right (number=200)");
    expect("= 4712");
    expect("index = 17");
    expect("= 2.5");
    expect("= 11");
    expect("(void *) 0x0");
    expect("=> 0x");
    expect("= 100");
    expect("= 200");
    expect_not("Cannot access memory");
    if (__builtin_cpu_supports("avx2")) {
        run_gdb("victim.img", "-ex 'print $ymm5.v4_int64'");
        expect("{78187493520, 78187493520, 78187493520, 78187493520}");
    }
    if (__builtin_cpu_supports("avx512f")) {
        run_gdb("victim.img", "-ex 'print $zmm5.v8_int64[7]' -ex 'print $zmm17.v8_int64[0]'");
        expect("$1 = 78187493520");
        expect("$2 = 78187493520");
    }
}
END_TEST

/* A flattened copy with the files' pages in it reads the same. */
START_TEST(gdb_opens_flattened_image)
{
    if (system("gdb -nx -batch >/dev/null 2>&1") != 0)
        return;
    make_image("victim.img", NULL);
    struct image *image = image_open("victim.img", &err);
    ck_assert_msg(image != NULL, "%s", err.text);
    ck_assert_msg(image_core(image, "core.img", true, NULL, &err) == 0, "%s", err.text);
    image_close(image);
    run_gdb("core.img", "-ex bt -ex 'thread apply all bt' -ex 'x/2i main'");
    expect("Program terminated with signal SIGSEGV");
    expect("store_far (cell=0x");
    expect("wait_for_right (number=200)");
    expect_not("Cannot access memory");
}
END_TEST

int main(int argc, char **argv)
{
    char self[PATH_MAX] = "";
    if (readlink("/proc/self/exe", self, sizeof self - 1) < 0)
        return 2;
    *strrchr(self, '/') = '\0';
    if (snprintf(victim, sizeof victim, "%s/image_victim", self) >= (int)sizeof victim)
        return 2;
    Suite *suite = suite_create("image_gdb");
    TCase *tc = tcase_create("gdb");
    tcase_add_checked_fixture(tc, scratch_enter, scratch_leave);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, gdb_opens_image);
    tcase_add_test(tc, gdb_opens_flattened_image);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
