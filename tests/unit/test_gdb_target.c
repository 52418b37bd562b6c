/*
 * test_gdb_target.c - register blocks, thread-local variables, memory maps: what the ptrace target
 * is made of and needs no ptrace
 */
#include <asm/prctl.h>
#include <check.h>
#include <fcntl.h>
#include <link.h>
#include <netinet/in.h>
#include <pthread.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "gdbbridge/bytes.h"
#include "gdbbridge/osdata.h"
#include "gdbbridge/procfs.h"
#include "gdbbridge/registers.h"
#include "gdbbridge/tls.h"
#include "tests/unit/unit.h"

/* ------------------------------------------------------------------ registers */

#define XCR0_SSE    0x3u
#define XCR0_AVX    0x7u
#define XCR0_AVX512 0xe7u
#define XCR0_PKRU   0x200u

static const struct {
    uint64_t xcr0;
    size_t count, size; /* registers, bytes of a block */
    const char *feature; /* the last one described */
} sets[] = {
    {XCR0_SSE, 60, 560, "segments"},
    {XCR0_AVX, 76, 816, "avx"},
    {XCR0_AVX512, 148, 2416, "avx512"},
    {XCR0_AVX512 | XCR0_PKRU, 149, 2420, "pkeys"},
};

START_TEST(register_sets)
{
    char feature[64];
    size_t offset, end = 0, size;
    struct registers *r = registers_create(sets[_i].xcr0);
    ck_assert_uint_eq(registers_count(r), sets[_i].count);
    ck_assert_uint_eq(registers_block_size(r), sets[_i].size);
    for (unsigned n = 0; n < registers_count(r); n++) { /* one behind the other, without gaps */
        size = registers_find(r, n, &offset);
        ck_assert_uint_gt(size, 0);
        ck_assert_uint_eq(offset, end);
        end += size;
    }
    ck_assert_uint_eq(end, registers_block_size(r));
    ck_assert_uint_eq(registers_find(r, (unsigned)registers_count(r), &offset), 0);
    snprintf(feature, sizeof feature, "org.gnu.gdb.i386.%s\"", sets[_i].feature);
    const char *found = strstr(registers_xml(r), feature);
    ck_assert_ptr_nonnull(found);
    ck_assert_ptr_null(strstr(found, "<feature")); /* it is the last */
    registers_destroy(r);
}
END_TEST

static uint64_t value_of(const struct registers *r, const uint8_t *block, unsigned n)
{
    size_t offset, size = registers_find(r, n, &offset);
    uint64_t value = 0;
    memcpy(&value, block + offset, size < 8 ? size : 8);
    return value;
}

START_TEST(collect_and_supply)
{
    struct registers *r = registers_create(XCR0_AVX);
    struct user_regs_struct user = {.rax = 1, .rip = 0x1234, .eflags = 0x246, .fs_base = 0x7000},
                            back = {0};
    uint8_t xsave[XSAVE_MAX] = {0}, xsave_back[XSAVE_MAX], block[4096];
    uint64_t in_use;
    xsave[0] = 0x7f; /* control word 0x037f */
    xsave[1] = 0x03;
    xsave[160] = 0x5a; /* xmm0 */
    registers_collect(r, &user, xsave, block);
    ck_assert_uint_eq(value_of(r, block, 0), 1);
    ck_assert_uint_eq(value_of(r, block, REGISTER_RIP), 0x1234);
    ck_assert_uint_eq(value_of(r, block, 17), 0x246);
    ck_assert_uint_eq(value_of(r, block, 32), 0x37f);
    ck_assert_uint_eq(value_of(r, block, 34), 0xffff); /* empty stack */
    ck_assert_uint_eq(value_of(r, block, 40), 0x5a);
    ck_assert_uint_eq(value_of(r, block, 58), 0x7000);

    memcpy(xsave_back, xsave, sizeof xsave);
    registers_supply(r, block, &back, xsave_back);
    ck_assert_mem_eq(xsave, xsave_back, sizeof xsave); /* nothing changed, nothing in use */
    ck_assert_uint_eq(back.rip, 0x1234);

    size_t offset;
    registers_find(r, 60, &offset); /* ymm0h */
    block[offset] = 0xa5;
    registers_supply(r, block, &back, xsave_back);
    memcpy(&in_use, xsave_back + 512, 8);
    ck_assert_uint_eq(in_use, 4); /* AVX */
    registers_destroy(r);
}
END_TEST

START_TEST(x87_tags)
{
    static const struct {
        uint16_t exponent;
        uint64_t mantissa;
        unsigned tag;
    } values[] = {{0x3fff, 1ull << 63, 0}, {0, 0, 1}, {0x7fff, 1ull << 63, 2}, {0, 5, 2}};
    struct registers *r = registers_create(XCR0_SSE);
    struct user_regs_struct user = {0};
    uint8_t xsave[XSAVE_MAX] = {0}, block[4096];
    xsave[3] = 6 << 3; /* st(0) is physical register 6 */
    for (unsigned i = 0; i < 4; i++) {
        memcpy(xsave + 32 + 16 * i, &values[i].mantissa, 8);
        memcpy(xsave + 32 + 16 * i + 8, &values[i].exponent, 2);
        xsave[4] |= (uint8_t)(1u << ((6 + i) % 8));
    }
    registers_collect(r, &user, xsave, block);
    unsigned tags = (unsigned)value_of(r, block, 34);
    for (unsigned i = 0; i < 4; i++)
        ck_assert_uint_eq(tags >> 2 * ((6 + i) % 8) & 3, values[i].tag);
    ck_assert_uint_eq(tags >> 2 * 3 & 3, 3);
    uint8_t before = xsave[4];
    xsave[4] = 0;
    registers_supply(r, block, &user, xsave);
    ck_assert_uint_eq(xsave[4], before);
    registers_destroy(r);
}
END_TEST

/* ------------------------------------------------------------------ thread-local variables */

static __thread int variable = 7;

/* Of this process; -1 where nothing is mapped. */
static int read_own(void *arg, uint64_t addr, void *to, size_t size)
{
    struct iovec local = {to, size}, remote = {(void *)addr, size};
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)size ? 0 : -1;
}

struct module {
    const char *name; /* part of it; "": the program */
    uint64_t block;   /* of the calling thread */
};

static int find_block(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct module *m = arg;
    if (m->name[0] ? !strstr(info->dlpi_name, m->name) : info->dlpi_name[0] != '\0')
        return 0;
    m->block = (uint64_t)info->dlpi_tls_data;
    return 1;
}

static uint64_t find_map(const char *name)
{
    for (struct link_map *m = _r_debug.r_map; m; m = m->l_next)
        if (name[0] ? strstr(m->l_name, name) != NULL : m->l_name[0] == '\0')
            return (uint64_t)m;
    return 0;
}

static uint64_t own_fs_base(void)
{
    uint64_t base;
    ck_assert_int_eq(syscall(SYS_arch_prctl, ARCH_GET_FS, &base), 0);
    return base;
}

/* The block of this thread, as the dynamic linker says and as tls_address() finds. */
static void compare(const char *name)
{
    struct module m = {name, 0};
    struct tls_memory memory = {read_own, NULL};
    uint64_t found;
    struct err err = {0};
    ck_assert_int_eq(dl_iterate_phdr(find_block, &m), 1);
    ck_assert_msg(!tls_address(&memory, own_fs_base(), find_map(name), 16, &found, &err), "%s",
                  err.text);
    ck_assert_uint_eq(found, m.block + 16);
}

static void *compare_in_thread(void *arg)
{
    variable = 8;
    compare("");
    compare("libc.so");
    return NULL;
}

START_TEST(tls_of_threads)
{
    pthread_t t;
    compare("");
    compare("libc.so");
    ck_assert_int_eq(pthread_create(&t, NULL, compare_in_thread, NULL), 0);
    pthread_join(t, NULL);
    ck_assert_int_eq(variable, 7);
}
END_TEST

START_TEST(tls_refused)
{
    struct tls_memory memory = {read_own, NULL};
    uint64_t found;
    struct err err;
    ck_assert_int_eq(tls_address(&memory, 0, find_map(""), 0, &found, &err), -1);
    ck_assert_int_eq(tls_address(&memory, own_fs_base(), 0x1000, 0, &found, &err), -1);
    ck_assert_int_eq(tls_address(&memory, own_fs_base(), find_map("ld-linux"), 0, &found, &err),
                     -1);
}
END_TEST

/* ------------------------------------------------------------------ memory maps */

START_TEST(hidden_maps)
{
    static const char maps[] = "00400000-00401000 r-xp 00000000 08:01 1 /app\n"
                               "7d0000000000-7d0000010000 rw-p 00000000 00:00 0 \n"
                               "7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0 [stack]\n";
    static const char smaps[] = "00400000-00401000 r-xp 00000000 08:01 1 /app\n"
                                "Size:                  4 kB\n"
                                "7d0000000000-7d0000010000 rw-p 00000000 00:00 0 \n"
                                "Size:                 64 kB\n";
    struct bytes out = {0};
    procfs_hide_maps(maps, sizeof maps - 1, 0x7d0000000000, &out);
    ck_assert_str_eq(out.data, "00400000-00401000 r-xp 00000000 08:01 1 /app\n");
    bytes_clear(&out);
    procfs_hide_maps(maps, sizeof maps - 1, UINT64_MAX, &out);
    ck_assert_str_eq(out.data, maps);
    bytes_clear(&out);
    procfs_hide_maps(smaps, sizeof smaps - 1, 0x7d0000000000, &out);
    ck_assert_str_eq(out.data, "00400000-00401000 r-xp 00000000 08:01 1 /app\n"
                               "Size:                  4 kB\n");
    bytes_free(&out);
}
END_TEST

START_TEST(paths_of_maps)
{
    ck_assert_int_eq(procfs_maps_pid("/proc/12/maps"), 12);
    ck_assert_int_eq(procfs_maps_pid("/proc/12/smaps"), 12);
    ck_assert_int_eq(procfs_maps_pid("/proc/12/task/13/maps"), 12);
    ck_assert_int_eq(procfs_maps_pid("/proc/12/mapsx"), -1);
    ck_assert_int_eq(procfs_maps_pid("/proc/12/cmdline"), -1);
    ck_assert_int_eq(procfs_maps_pid("/proc/self/maps"), -1);
    ck_assert_int_eq(procfs_maps_pid("/etc/maps"), -1);
}
END_TEST

START_TEST(own_process)
{
    char name[32], path[4096];
    pid_t tids[16];
    ck_assert_int_eq(procfs_tasks(getpid(), tids, 16), 1);
    ck_assert_int_eq(tids[0], getpid());
    procfs_task_name(getpid(), getpid(), name, sizeof name);
    ck_assert_str_eq(name, "test_gdb_target");
    ck_assert_int_ge(procfs_task_core(getpid(), getpid()), 0);
    ck_assert_int_eq(procfs_exe(getpid(), path, sizeof path), 0);
    ck_assert_ptr_nonnull(strstr(path, "/test_gdb_target"));
    ck_assert_int_eq(procfs_task_core(getpid(), 1), -1);
}
END_TEST

/* ------------------------------------------------------------------ info os */

/* A table has "NAME=VALUE|NAME=VALUE ...": columns that follow each other; the last may go on. */
static void has_row(const char *type, const char *fmt, ...)
{
    struct bytes table = {0}, row = {0};
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    char *rest;
    for (char *cell = strtok_r(text, "|", &rest); cell; cell = strtok_r(NULL, "|", &rest)) {
        char *value = strchr(cell, '=');
        bytes_printf(&row, "%s<column name=\"%.*s\">%s", row.size ? "</column>" : "",
                     (int)(value - cell), cell, value + 1);
    }
    osdata(type, &table);
    ck_assert_msg(strstr(table.data, row.data), "%s has no %s:\n%.2000s", type, row.data,
                  table.data);
    ck_assert_ptr_eq(strstr(table.data, "</osdata>\n") + 10, table.data + table.size);
    bytes_free(&table);
    bytes_free(&row);
}

START_TEST(os_processes)
{
    int pid = getpid();
    has_row("processes", "pid=%d|user=%s|command=", pid, getpwuid(getuid())->pw_name);
    has_row("procgroups", "pid=%d|command line=", pid);
    has_row("threads", "pid=%d|command=test_gdb_target|tid=%d|core=", pid, pid);
    int fd = open("/dev/null", O_RDONLY);
    has_row("files", "pid=%d|command=test_gdb_target|file descriptor=%d|name=/dev/null", pid, fd);
    close(fd);
}
END_TEST

START_TEST(os_sockets)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof at;
    int s = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_eq(bind(s, (struct sockaddr *)&at, sizeof at), 0);
    ck_assert_int_eq(listen(s, 1), 0);
    ck_assert_int_eq(getsockname(s, (struct sockaddr *)&at, &size), 0);
    has_row("sockets",
            "local address=127.0.0.1|local port=%d|remote address=0.0.0.0|remote port=0|"
            "state=LISTEN|user=%s|family=INET|protocol=STREAM",
            ntohs(at.sin_port), getpwuid(getuid())->pw_name);
    close(s);
}
END_TEST

START_TEST(os_ipc)
{
    int memory = shmget(IPC_PRIVATE, 4096, 0600), set = semget(IPC_PRIVATE, 2, 0600);
    int queue = msgget(IPC_PRIVATE, 0600);
    has_row("shm", "shmid=%d|permissions=600|size=4096|creator command=test_gdb_target", memory);
    has_row("semaphores", "semid=%d|permissions=600|num semaphores=2", set);
    has_row("msg", "msqid=%d|permissions=600|num used bytes=0|num messages=0", queue);
    shmctl(memory, IPC_RMID, NULL);
    semctl(set, 0, IPC_RMID);
    msgctl(queue, IPC_RMID, NULL);
}
END_TEST

START_TEST(os_types)
{
    struct bytes none = {0};
    has_row("", "Type=shm|Description=Listing of all shared-memory regions");
    has_row("cpus", "processor=0");
    osdata("unknown", &none);
    ck_assert_uint_eq(none.size, 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("gdb_target");
    TCase *tc = tcase_create("registers");
    tcase_add_loop_test(tc, register_sets, 0, sizeof sets / sizeof sets[0]);
    tcase_add_test(tc, collect_and_supply);
    tcase_add_test(tc, x87_tags);
    suite_add_tcase(s, tc);

    tc = tcase_create("tls");
    tcase_add_test(tc, tls_of_threads);
    tcase_add_test(tc, tls_refused);
    suite_add_tcase(s, tc);

    tc = tcase_create("procfs");
    tcase_add_test(tc, hidden_maps);
    tcase_add_test(tc, paths_of_maps);
    tcase_add_test(tc, own_process);
    suite_add_tcase(s, tc);

    tc = tcase_create("osdata");
    tcase_add_test(tc, os_processes);
    tcase_add_test(tc, os_sockets);
    tcase_add_test(tc, os_ipc);
    tcase_add_test(tc, os_types);
    suite_add_tcase(s, tc);
    return s;
}

int main(void)
{
    return unit_run(suite());
}
