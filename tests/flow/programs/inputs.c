/*
 * inputs: what a rank gets from elsewhere than MPI, mixed into a number that goes round the ring.
 *
 * Usage: inputs [ROUNDS [CASE]]: default 20. Random numbers, files, standard input, the clock,
 * children, directories, sockets, pipes, the kernel's figures. Each message depends on all that
 * came before it: a replay that gets anything else than the recorded run sends something else.
 */
#define _GNU_SOURCE
#include "check.h"
#include <cpuid.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/times.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <x86intrin.h>

static uint64_t state = 1;

static void mix(const void *bytes, size_t n)
{
    const unsigned char *p = bytes;

    for (size_t i = 0; i < n; i++)
        state = (state ^ p[i]) * 0x100000001b3u;
}

#define MIX(value) mix(&(value), sizeof(value))

/* The number goes on to the next rank, which mixes it with its own. */
static void exchange(void)
{
    uint64_t coming;

    MPI_Sendrecv(&state, 1, MPI_UINT64_T, neighbour(1), 1, &coming, 1, MPI_UINT64_T, neighbour(-1),
                 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    MIX(coming);
}

/* std::random_device of libstdc++: the processor's numbers, and those of a file. */
struct string { /* std::string, as it is in memory */
    const char *text;
    size_t length;
    char local[16];
};
#define DEVICE_INIT                                                                                \
    "_ZNSt13random_device7_M_initERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
extern void device_init(void *device, const struct string *token) __asm__(DEVICE_INIT);
extern void device_fini(void *device) __asm__("_ZNSt13random_device7_M_finiEv");
extern unsigned device_value(void *device) __asm__("_ZNSt13random_device9_M_getvalEv");

static void random_devices(void)
{
    static const char *const tokens[] = {"default", "/dev/urandom"};

    for (int i = 0; i < 2; i++) {
        static uint64_t device[1024]; /* sizeof(std::mt19937) is 5000 */
        struct string token = {tokens[i], strlen(tokens[i]), ""};
        device_init(device, &token);
        for (int j = 0; j < 3; j++) {
            unsigned value = device_value(device);
            MIX(value);
        }
        device_fini(device);
    }
}

static void random_numbers(int round)
{
    uint64_t seed, more[16];
    int fd = open("/dev/urandom", O_RDONLY);

    CHECK(fd >= 0 && read(fd, &seed, sizeof(seed)) == sizeof(seed) && close(fd) == 0);
    CHECK(getrandom(more, sizeof(more), 0) == sizeof(more));
    srand((unsigned)seed);
    int number = rand();
    MIX(number);
    MIX(more);
    random_devices();
}

/* What only the processor knows; a library that comes late has such instructions, too. */
static void processor(int round)
{
    uint64_t words[8] = {0};
    unsigned a, b, c, d, core;

    words[0] = __rdtsc();
    words[1] = __rdtscp(&core);
    __cpuid_count(1, 0, a, b, c, d);
    words[2] = (uint64_t)b << 32 | core; /* which core it runs on is in both */
    if (c & bit_RDRND) {
        __asm__("rdrand %%r13; mov %%r13, %0" : "=r"(words[3]) : : "r13", "cc");
        __asm__("mov $-1, %%rsi; rdrand %%si; mov %%rsi, %0" : "=r"(words[4]) : : "rsi", "cc");
        __asm__("mov $-1, %%rbx; rdrand %%ebx; mov %%rbx, %0" : "=r"(words[5]) : : "rbx", "cc");
        CHECK(words[4] >> 16 == (uint64_t)-1 >> 16 && words[5] >> 32 == 0);
    }
    MIX(words);
}

/* Without a child, which would not outlive an epoch. */
static void copy_file(const char *from, const char *to)
{
    struct stat st;
    int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0700);

    CHECK(in >= 0 && out >= 0 && fstat(in, &st) == 0);
    for (off_t left = st.st_size; left > 0;) {
        ssize_t n = sendfile(out, in, NULL, (size_t)left);
        CHECK(n > 0);
        left -= n;
    }
    CHECK(close(in) == 0 && close(out) == 0);
}

/* Loads a copy of the C++ library, and takes random numbers from that. */
static void code(int round)
{
    static uint64_t device[1024];
    char name[64];
    struct string token = {"default", 7, ""};
    Dl_info info;

    CHECK(dladdr((void *)device_value, &info));
    snprintf(name, sizeof(name), "./copy.%d.so", rank);
    if (access(name, R_OK) != 0) /* it stays: an epoch may have it mapped */
        copy_file(info.dli_fname, name);
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    CHECK(library);
    void (*init)(void *, const struct string *) =
        dlsym(library, DEVICE_INIT);
    unsigned (*value)(void *) = dlsym(library, "_ZNSt13random_device9_M_getvalEv");
    CHECK(init && value);
    init(device, &token);
    for (int i = 0; i < 3; i++) {
        unsigned v = value(device);
        MIX(v);
    }
    CHECK(dlclose(library) == 0);
}

/* A file that another process (any rank) changes all the time. */
static void input_file(int round)
{
    char line[256], name[64];
    struct stat st;
    snprintf(name, sizeof(name), "inputs.%d", rank);
    FILE *f = fopen(name, "a+");

    CHECK(f && fprintf(f, "%d %ld\n", round, (long)state) > 0 && fflush(f) == 0);
    rewind(f);
    while (fgets(line, sizeof(line), f))
        mix(line, strlen(line));
    CHECK(fstat(fileno(f), &st) == 0 && st.st_size == ftell(f));
    MIX(st.st_mtim);
    char *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fileno(f), 0);
    CHECK(map != MAP_FAILED);
    mix(map, (size_t)st.st_size);
    CHECK(munmap(map, (size_t)st.st_size) == 0 && fclose(f) == 0);
    if (round % 8 == 7)
        CHECK(remove(name) == 0);
}

/* Only rank 0 has the launcher's. */
static void standard_input(int round)
{
    char line[64];

    if (rank == 0 && fgets(line, sizeof(line), stdin))
        mix(line, strlen(line));
}

static void processes(int round)
{
    pid_t pid = getpid(), parent = getppid(), group = getpgrp();
    char line[64];
    int status;
    FILE *f = popen("echo $$; date +%N", "r");

    MIX(pid);
    MIX(parent);
    MIX(group);
    while (f && fgets(line, sizeof(line), f))
        mix(line, strlen(line));
    CHECK(f && pclose(f) == 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        exit((int)getpid() & 63);
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
    MIX(child);
    MIX(status);
}

static void clocks(int round)
{
    struct timespec now, nap = {0, 100000};
    struct timeval t;
    struct tms cpu;
    struct rusage used;

    for (int i = 0; i < 10; i++) {
        gettimeofday(&t, NULL);
        MIX(t);
    }
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    MIX(now);
    CHECK(nanosleep(&nap, NULL) == 0);
    clock_t ticks = times(&cpu);
    MIX(ticks);
    getrusage(RUSAGE_SELF, &used);
    MIX(used);
}

static void kernel_figures(int round)
{
    struct utsname name;
    struct sysinfo info;
    struct winsize window;
    char text[4096];
    int fd = open("/proc/self/stat", O_RDONLY);
    ssize_t n = read(fd, text, sizeof(text));

    CHECK(fd >= 0 && n > 0 && close(fd) == 0);
    mix(text, (size_t)n);
    CHECK(uname(&name) == 0 && sysinfo(&info) == 0);
    MIX(name);
    MIX(info);
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) == 0)
        MIX(window);
    CHECK(getcwd(text, sizeof(text)));
    mix(text, strlen(text));
}

/* The program's own file, by every name that it has. */
static void own_file(int round)
{
    char link[4096] = "", linkat[4096] = "", real[4096], proc[32];
    uint64_t head[4][4];
    FILE *f = fopen("/proc/self/exe", "r");
    int fd = open("/proc/self/exe", O_RDONLY);

    snprintf(proc, sizeof(proc), "/proc/%d/exe", (int)getpid());
    CHECK(readlink("/proc/self/exe", link, sizeof(link) - 1) > 0);
    CHECK(readlinkat(AT_FDCWD, proc, linkat, sizeof(linkat) - 1) > 0 && !strcmp(linkat, link));
    CHECK(realpath(proc, real) && !strcmp(real, link));
    CHECK(*link == '/' && !strcmp(strrchr(link, '/'), "/inputs"));
    int by_name = open(link, O_RDONLY), at = openat(AT_FDCWD, proc, O_RDONLY);
    CHECK(read(by_name, head[0], sizeof(*head)) == sizeof(*head));
    CHECK(read(fd, head[1], sizeof(*head)) == sizeof(*head));
    CHECK(read(at, head[2], sizeof(*head)) == sizeof(*head));
    CHECK(f && fread(head[3], sizeof(*head), 1, f) == 1);
    for (int i = 1; i < 4; i++)
        CHECK(!memcmp(head[0], head[i], sizeof(*head)));
    mix(link, strlen(link));
    mix(head, sizeof(head));
    CHECK(close(by_name) == 0 && close(fd) == 0 && close(at) == 0 && fclose(f) == 0);
}

static void directories(int round)
{
    DIR *d = opendir("/proc");
    struct dirent *e;
    struct stat st;

    CHECK(d);
    while ((e = readdir(d)))
        mix(e->d_name, strlen(e->d_name));
    CHECK(closedir(d) == 0);
    CHECK(stat("/proc", &st) == 0 && stat("/no such file", &st) < 0 && errno == ENOENT);
    MIX(st.st_mtim);
}

static void sockets(int round)
{
    char name[64];
    int pair[2], ends[2], events = epoll_create1(EPOLL_CLOEXEC);
    struct iovec out[2] = {{&round, sizeof(round)}, {&state, sizeof(state)}}, in[1];
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = 7}, got;
    struct pollfd p;
    fd_set set;

    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(ends) == 0 && events >= 0);
    CHECK(epoll_ctl(events, EPOLL_CTL_ADD, pair[1], &e) == 0);
    CHECK(writev(pair[0], out, 2) == sizeof(round) + sizeof(state));
    CHECK(epoll_wait(events, &got, 1, 1000) == 1 && got.data.u64 == 7);
    in[0] = (struct iovec){name, sizeof(name)};
    struct msghdr m = {.msg_iov = in, .msg_iovlen = 1};
    CHECK(recvmsg(pair[1], &m, 0) == sizeof(round) + sizeof(state));
    mix(name, sizeof(round) + sizeof(state));
    CHECK(write(ends[1], "pipe", 4) == 4);
    p = (struct pollfd){.fd = ends[0], .events = POLLIN};
    CHECK(poll(&p, 1, 1000) == 1 && p.revents == POLLIN);
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    CHECK(select(ends[0] + 1, &set, NULL, NULL, NULL) == 1 && FD_ISSET(ends[0], &set));
    CHECK(read(ends[0], name, sizeof(name)) == 4);
    CHECK(close(pair[0]) + close(pair[1]) + close(ends[0]) + close(ends[1]) + close(events) == 0);
}

/* Memory comes from the kernel, too. */
static void memory(int round)
{
    size_t size = 1u << 20;
    char *big = malloc(size), *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(big && map != MAP_FAILED);
    MIX(big);
    MIX(map);
    memset(big, round, size);
    map[0] = 1;
    map = mremap(map, size, 4 * size, MREMAP_MAYMOVE);
    CHECK(map != MAP_FAILED && map[0] == 1);
    MIX(map);
    free(big);
    CHECK(munmap(map, 4 * size) == 0);
}

static const struct check_case bare[] = {
    {"random_numbers", random_numbers}, {"input_file", input_file},
    {"standard_input", standard_input}, {"processes", processes},
    {"clocks", clocks},                 {"kernel_figures", kernel_figures},
    {"directories", directories},       {"sockets", sockets},
    {"memory", memory},                 {"processor", processor},
    {"code", code},                     {"own_file", own_file},
    {NULL, NULL},
};

#define CASES (sizeof(bare) / sizeof(bare[0]) - 1)

static void exchange_after(int round)
{
    exchange();
}

int main(int argc, char **argv)
{
    struct check_case cases[2 * CASES + 1] = {{NULL, NULL}};

    for (size_t i = 0; i < CASES; i++) {
        cases[2 * i] = bare[i];
        cases[2 * i + 1] = (struct check_case){bare[i].name, exchange_after};
    }
    return check_main(argc, argv, "inputs", cases, 20);
}
