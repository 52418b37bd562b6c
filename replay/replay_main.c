/*
 * replay_main.c - the lower program without MPI (dbg3-replay)
 *
 *     dbg3-replay IMAGE LOGS
 *
 * Continues one rank from a fine checkpoint: maps IMAGE, answers its calls from the payload log in
 * LOGS/rank-R. No MPI library, no peer, no second TLS, no thread of its own: once the rank runs,
 * only functions that need neither libc nor TLS are called here, so that a debugger sees the
 * application's threads and thread-local variables wherever the rank stops.
 *
 * A traced rank stops itself (SIGSTOP) on this side of the border, just before its first
 * instruction; the tracer steps it over.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "call_id.h"
#include "msgcounter/log/log_file.h"
#include "replay/replay_stop.h"
#include "runtime/ckpt/restart.h"
#include "runtime/ckpt/save.h"
#include "runtime/coord/counters.h"
#include "runtime/half/gate.h"
#include "runtime/half/half.h"
#include "runtime/half/own_fd.h"
#include "runtime/half/sys.h"

#define REASON_FD 900

static int reason_fd = -1;

static size_t length(const char *text)
{
    size_t n = 0;
    while (text[n])
        n++;
    return n;
}

static void say(const char *text)
{
    sys_call(SYS_write, STDERR_FILENO, "dbg3: ", 6, 0, 0, 0);
    sys_call(SYS_write, STDERR_FILENO, text, length(text), 0, 0, 0);
    sys_call(SYS_write, STDERR_FILENO, "\n", 1, 0, 0, 0);
}

/* [any FS] GATE->stop of a rank that is not traced. */
static int stop(int code, const char *text)
{
    size_t n = length(text);
    if (reason_fd >= 0) {
        uint32_t head[2] = {(uint32_t)code, (uint32_t)n};
        sys_call(SYS_write, reason_fd, head, sizeof head, 0, 0, 0);
        sys_call(SYS_write, reason_fd, text, n, 0, 0, 0);
    } else {
        say(text);
    }
    sys_call(SYS_exit_group, code, 0, 0, 0, 0, 0);
    return 0;
}

/* [any FS] GATE->stop of one that whoever likes attaches to: SIGTRAP ends it where nobody has. */
static int stop_attached(int code, const char *text)
{
    (void)code;
    say(text);
    __asm__ volatile("int3");
    return 0;
}

/* GATE->stop of a traced one: its arguments are in their registers, the caller is on top of the
 * stack. The tracer may change what it returns. */
int replay_stop_traced(int code, const char *text);
__asm__(".text\n.globl replay_stop_traced\n.hidden replay_stop_traced\n"
        "replay_stop_traced:\n\tint3\n\tret\n");

/* Every segment of the rank's log, from the one in which the checkpoint stands. */
static int map_log(const char *dir, uint32_t rank, const struct image_position *from,
                   struct err *err)
{
    uint32_t *numbers = NULL;
    size_t n = 0, kept = 0;
    if (log_file_list(dir, rank, &numbers, &n, err) < 0)
        return -1;
    struct log_map *maps = calloc(n + 1, sizeof *maps);
    if (!maps)
        return err_sys(err, "no memory");
    for (size_t i = 0; i < n; i++) {
        if (numbers[i] < from->segment)
            continue;
        int r = log_file_map(dir, rank, numbers[i], false, &maps[kept]);
        if (r < 0)
            return err_set(err, "cannot map segment %u of the log in %s: %s", numbers[i], dir,
                           strerror(-r));
        kept++;
    }
    free(numbers);
    GATE->replay_segments = maps;
    GATE->replay_nsegments = kept;
    GATE->log_start_segment = from->segment;
    GATE->log_start_offset = from->offset;
    GATE->log_start_event = from->event;
    return 0;
}

/* Counters nobody else sees: the stub counts as ever. */
static int private_counters(int size, struct err *err)
{
    size_t bytes = counters_bytes((uint64_t)size);
    struct counters_file *c = calloc(1, bytes);
    if (!c)
        return err_sys(err, "no memory");
    GATE->counters = c;
    GATE->counters_size = bytes;
    return 0;
}

/* Where the main thread's MPI call returns to the application, if it goes on inside the stub. */
static uint64_t call_site;

static int ask_call_site(void)
{
    int32_t call;
    uint64_t event;
    GATE->stub->where(&call, &call_site, &event);
    return 0;
}

static uint64_t returns_to(const struct image_state *state)
{
    uint64_t stub = (uint64_t)GATE->stub->where, pc = state->threads[0].regs.rip;
    for (size_t i = 0; i < state->nregions; i++) {
        const struct image_region *r = &state->regions[i];
        if (r->start <= stub && stub < r->end && r->start <= pc && pc < r->end) {
            restart_on_upper_fs(state, ask_call_site);
            return call_site;
        }
    }
    return 0;
}

/* What has been shown already; without it everything shows. */
static void map_shown(int fd)
{
    struct replay_shown head;
    if (pread(fd, &head, sizeof head, 0) == (ssize_t)sizeof head) {
        size_t size = sizeof head + head.events / 8;
        struct replay_shown *shown =
            mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
        if (shown != MAP_FAILED) {
            GATE->replay_shown = shown->bit;
            GATE->replay_shown_from = head.from;
            GATE->replay_shown_events = head.events;
        }
    }
    close(fd);
}

/* Numbers `first` to `last` of /proc/self/stat (proc_pid_stat(5)), which are behind the name. */
static int read_stat(int first, int last, unsigned long *out)
{
    char text[4096];
    FILE *f = fopen("/proc/self/stat", "re");
    size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
    if (f)
        fclose(f);
    text[n] = '\0';
    char *save, *at = strrchr(text, ')');
    int number = 3;
    for (char *word = at ? strtok_r(at + 1, " ", &save) : NULL; word && number <= last;
         word = strtok_r(NULL, " ", &save), number++)
        if (number >= first)
            out[number - first] = strtoul(word, NULL, 10);
    return number > last ? 0 : -1;
}

/*
 * A debugger that attaches learns from /proc/PID/auxv where the program is: it is to find the
 * application. Failing that it finds no symbols. May be traced by any process of the user.
 */
static void show_application(const struct image_meta *meta)
{
    unsigned long code[3], data[7];
    prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
    if (read_stat(26, 28, code) < 0 || read_stat(45, 51, data) < 0)
        return;
    struct prctl_mm_map map = {.start_code = code[0],
                               .end_code = code[1],
                               .start_stack = code[2],
                               .start_data = data[0],
                               .end_data = data[1],
                               .start_brk = data[2],
                               .brk = (uint64_t)sys_call(SYS_brk, 0, 0, 0, 0, 0, 0),
                               .arg_start = data[3],
                               .arg_end = data[4],
                               .env_start = data[5],
                               .env_end = data[6],
                               .auxv = (void *)meta->auxv,
                               .auxv_size = (uint32_t)meta->auxv_size,
                               .exe_fd = (uint32_t)-1};
    prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0);
}

static int start(const char *path, const char *logs, const char *traced, struct image **image,
                 struct err *err)
{
    if (half_prepare(GATE_REPLAY, CALL_COUNT, err) < 0)
        return -1;
    GATE->flags = GATE_FLAG_SAME_FS;
    bool waits = traced && !strcmp(traced, REPLAY_WAITS);
    GATE->stop = waits ? stop_attached : traced ? replay_stop_traced : stop;
    if (getenv(REPLAY_SHOWN_FD))
        map_shown(atoi(getenv(REPLAY_SHOWN_FD)));
    own_fd_reserve();
    *image = image_open(path, err);
    own_fd_unreserve();
    if (!*image)
        return -1;
    image_set_root(*image, getenv(REPLAY_ROOT));
    const struct image_state *state = image_state(*image);
    if (map_log(logs, (uint32_t)state->meta.rank, &state->meta.position, err) < 0 ||
        private_counters(state->meta.size, err) < 0)
        return -1;
    if (restart_memory(*image, err) < 0)
        return -1;
    if (GATE->stub->version != GATE_VERSION || GATE->stub->ncalls != CALL_COUNT)
        return err_set(err, "%s was recorded by another build of dbg3; record again with this one",
                       path);
    half_vdso_of_stub();
    if (waits)
        show_application(&state->meta);
    GATE->replay_returns_to = returns_to(state);
    restart_after_save(state);
    return restart_threads(state, err);
}

int main(int argc, char **argv)
{
    struct err err;
    struct image *image;
    if (argc != 3) {
        err_set(&err, "this program is started by dbg3 isolate, not by hand");
        half_die(&err);
    }
    const char *traced = getenv(REPLAY_TRACED);
    if (getenv(REPLAY_REASON_FD)) /* out of the way of the application's descriptors */
        reason_fd = fcntl(atoi(getenv(REPLAY_REASON_FD)), F_DUPFD_CLOEXEC, REASON_FD);
    if (start(argv[1], argv[2], traced, &image, &err) < 0) {
        if (reason_fd >= 0)
            stop(HALF_EXIT, err.text);
        half_die(&err);
    }
    const struct image_state *state = image_state(image);
    if (traced)
        raise(SIGSTOP);
    restart_go(state);
}
