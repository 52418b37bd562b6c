/*
 * save.c - writes the upper half of this process into an image
 */
#include "runtime/ckpt/save.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime/ckpt/files.h"
#include "runtime/ckpt/pending.h"
#include "runtime/ckpt/save_kept.h"
#include "runtime/ckpt/timers.h"
#include "runtime/ckpt/vectors.h"
#include "runtime/half/gate.h"
#include "runtime/half/own_fd.h"
#include "runtime/half/sys.h"
#include "runtime/image/image_xsave.h"

#define NAME_BYTES 16 /* TASK_COMM_LEN */

struct save_identity save_identity = {.rank = -1};

/* ---- threads ---- */

static void registers_from(struct user_regs_struct *regs, const struct parked *p)
{
    const greg_t *g = p->frame->uc_mcontext.gregs;
    *regs = (struct user_regs_struct){
        .r15 = (uint64_t)g[REG_R15], .r14 = (uint64_t)g[REG_R14], .r13 = (uint64_t)g[REG_R13],
        .r12 = (uint64_t)g[REG_R12], .rbp = (uint64_t)g[REG_RBP], .rbx = (uint64_t)g[REG_RBX],
        .r11 = (uint64_t)g[REG_R11], .r10 = (uint64_t)g[REG_R10], .r9 = (uint64_t)g[REG_R9],
        .r8 = (uint64_t)g[REG_R8], .rax = (uint64_t)g[REG_RAX], .rcx = (uint64_t)g[REG_RCX],
        .rdx = (uint64_t)g[REG_RDX], .rsi = (uint64_t)g[REG_RSI], .rdi = (uint64_t)g[REG_RDI],
        .orig_rax = UINT64_MAX, .rip = (uint64_t)g[REG_RIP], .eflags = (uint64_t)g[REG_EFL],
        .rsp = (uint64_t)g[REG_RSP], .cs = 0x33, .ss = 0x2b, .fs_base = p->fs_base,
        .gs_base = p->gs_base,
    };
}

/* What pthread_setname_np(3) has set, in `name`. */
static const char *thread_name(pid_t tid, char name[NAME_BYTES])
{
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/comm", tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, name, NAME_BYTES - 1) : 0;
    close(fd);
    name[n > 0 ? n : 0] = '\0';
    name[strcspn(name, "\n")] = '\0';
    return name;
}

static void describe_thread(struct image_thread *t, const struct parked *p, char name[NAME_BYTES])
{
    memset(t, 0, sizeof *t);
    t->tid = p->tid;
    registers_from(&t->regs, p);
    const uint8_t *fp = (const uint8_t *)p->frame->uc_mcontext.fpregs;
    if (fp) {
        struct vectors_software software;
        memcpy(&software, fp + VECTORS_SOFTWARE_AT, sizeof software);
        t->xsave = fp;
        t->xsave_size = software.magic == VECTORS_MAGIC ? software.size : IMAGE_XSAVE_LEGACY;
    }
    memcpy(&t->sigmask, &p->frame->uc_sigmask, sizeof t->sigmask);
    t->resume_sp = (uint64_t)p->frame;
    t->clear_child_tid = p->clear_child_tid;
    uint64_t head = 0, len = 0;
    sys_call(SYS_get_robust_list, p->tid, &head, &len, 0, 0, 0);
    t->robust_list = head;
    t->robust_list_len = len;
    t->altstack_sp = (uint64_t)p->frame->uc_stack.ss_sp;
    t->altstack_size = p->frame->uc_stack.ss_size;
    t->altstack_flags = (uint32_t)p->frame->uc_stack.ss_flags;
    t->name = thread_name(t->tid, name);
}

/* State components that a signal frame holds: less than XCR0 where the kernel gives some on demand
 * (AMX). */
static uint64_t xsave_features(const struct image_thread *t)
{
    uint64_t features = 3; /* x87 and SSE */
    struct vectors_software software;
    if (t->xsave && t->xsave_size > IMAGE_XSAVE_LEGACY) {
        memcpy(&software, t->xsave + VECTORS_SOFTWARE_AT, sizeof software);
        features = software.features;
    }
    return features;
}

/* ---- the whole ---- */

static void fill_meta(struct image_meta *meta, const struct save_request *request, char *host,
                      size_t host_size, char *cwd, size_t cwd_size)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    mode_t mask = umask(0);
    umask(mask);
    gethostname(host, host_size);
    *meta = (struct image_meta){
        .rank = save_identity.rank, .size = save_identity.size, .epoch = save_identity.epoch,
        .checkpoint = request->checkpoint, .position = request->position,
        .time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec,
        .pid = getpid(), .ppid = getppid(), .pgrp = getpgrp(), .sid = getsid(0),
        .uid = getuid(), .gid = getgid(), .umask = mask,
        .brk_start = save_identity.mm.start_brk,
        .brk = (uint64_t)sys_call(SYS_brk, 0, 0, 0, 0, 0, 0),
        .entry = save_identity.entry, .root = (uint64_t)GATE->stub,
        .program = save_identity.program, .build_id_len = save_identity.build_id_len,
        .hostname = host, .cwd = getcwd(cwd, cwd_size) ? cwd : "/",
        .auxv = (const uint8_t *)save_identity.mm.auxv, .auxv_size = save_identity.mm.auxv_size,
    };
    memcpy(meta->build_id, save_identity.build_id, sizeof meta->build_id);
    for (int sig = 1; sig <= IMAGE_NSIG; sig++) {
        struct image_sigaction *a = &meta->sigactions[sig - 1];
        struct {
            uint64_t handler, flags, restorer, mask;
        } k = {park_chained.handler, park_chained.flags, park_chained.restorer, park_chained.mask};
        if (sig != GATE_SIGNAL)
            sys_call(SYS_rt_sigaction, sig, NULL, &k, 8, 0, 0);
        a->handler = k.handler;
        a->flags = k.flags;
        a->restorer = k.restorer;
        a->mask = k.mask;
    }
}

/* argv as it lies on the application's stack. Returns a malloc'ed array into it. */
static const char **app_argv(size_t *argc)
{
    const uint64_t *sp = (const uint64_t *)save_identity.mm.start_stack;
    *argc = sp ? sp[0] : 0;
    return sp ? (const char **)(sp + 1) : NULL;
}

struct save_kept *save_kept_create(struct err *err)
{
    struct save_kept *kept = calloc(1, sizeof *kept);
    if (kept)
        kept->writer = image_writer_create();
    if (!kept || !kept->writer) {
        err_sys(err, "cannot prepare for fine checkpoints");
        return NULL;
    }
    if (save_map_text_open(&kept->maps, err) < 0 || image_source_self(&kept->source, err) < 0)
        return NULL;
    kept->source.mem_fd = own_fd_take(kept->source.mem_fd);
    kept->source.pagemap_fd = own_fd_take(kept->source.pagemap_fd);
    return kept;
}

/* Where it goes: a file of its own, or the end of a segment. */
static int write_it(const struct save_request *request, const struct image_state *state,
                    struct image_source *source, struct image_written *written, struct err *err)
{
    struct image_write_options options = {.sync = request->sync, .changed = request->changed,
                                          .nchanged = request->nchanged};
    options.uncached = request->checkpoint != 0;
    options.mapped = save_mapped_ranges(&options.nmapped);
    /* In an epoch nothing moves. At a fine checkpoint or a failure a peer may be writing into
     * the buffer of a pending receive (shared memory transports do): what is hashed must be a
     * copy. */
    source->moving = request->kind != IMAGE_FULL || request->checkpoint != 0;
    if (request->segment_fd > 0)
        return image_append(request->kept->writer, request->segment_fd, request->path,
                            request->segment_at, state, source, &options, written, err);
    return image_write(request->path, state, source, &options, written, err);
}

/* Of a segment of System V shared memory an image holds a copy, which is all there is to it only if
 * nobody else has it. The inode in /proc/self/maps is its number (ipc/shm.c). */
static int check_alone(const struct save_regions *regions, struct err *err)
{
    for (size_t i = 0; i < regions->n; i++) {
        const struct image_region *r = &regions->region[i];
        struct shmid_ds segment;
        if (r->path && !strncmp(r->path, "/SYSV", 5) &&
            shmctl((int)r->ino, IPC_STAT, &segment) == 0 && segment.shm_nattch > 1)
            return err_set(err, "a System V shared memory segment (%d) that others have attached, "
                                "too: it could not be restored", (int)r->ino);
    }
    return 0;
}

/* The process's first thread may send it what tells of the kernel, or of kill(2), as its sender. */
static long put_process(void *arg)
{
    pending_put(PENDING_PROCESS, 0);
    return 0;
}

/* A child, in words, from its line in proc_pid_stat(5): "4711 (sleep) S 4700 ...". */
static bool describe_child(const char *number, char *text, size_t cap)
{
    char path[64], line[512] = "", state;
    int parent;
    snprintf(path, sizeof path, "/proc/%.20s/stat", number);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, line, sizeof line - 1) : -1;
    close(fd);
    const char *behind = n > 0 ? strrchr(line, ')') : NULL;
    if (!behind || sscanf(behind, ") %c %d", &state, &parent) != 2 || parent != getpid())
        return false;
    snprintf(text, cap, "%.*s)%s", (int)(behind - line), line,
             state == 'Z' ? ", which has ended and is not waited for yet" : "");
    return true;
}

/* The program may wait for a child, whether that has ended or not. */
static int check_childless(struct err *err)
{
    char child[128] = "";
    siginfo_t any;
    if (waitid(P_ALL, 0, &any, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0)
        return 0; /* ECHILD */
    DIR *all = opendir("/proc");
    for (struct dirent *e; all && (e = readdir(all));)
        if (*e->d_name > '0' && *e->d_name <= '9' && describe_child(e->d_name, child, sizeof child))
            break;
    if (all)
        closedir(all);
    return err_set(err, "a child process, %s: it could not be restored", child);
}

int save_image(const struct save_request *request, struct image_written *written, struct err *err)
{
    int result = -1;
    struct save_kept *kept = request->kept;
    struct save_regions read = {0};
    const struct save_regions *regions = kept ? &kept->regions : &read;
    struct image_state state = {.kind = request->kind, .parent = request->parent,
                                .parent_id = request->parent_id, .oldest = request->oldest};
    struct image_source source;
    char host[256] = "", cwd[4096] = "";
    struct save_blob blob = {.version = 1, .generation = GATE->generation,
                             .mpi_level = (int64_t)GATE->stub->mpi_level,
                             .stack_limit = save_identity.stack_limit, .mm = save_identity.mm};
    bool whole = request->kind == IMAGE_FULL && request->checkpoint == 0;
    /* Timers before signals: one that expires now must be in either. So must what one thread has
     * sent to another one that was parked already. */
    size_t npending, ntimers = 0;
    struct image_itimer itimers[IMAGE_NITIMERS];
    struct timer_record *timers = whole ? timers_describe(&ntimers) : NULL;
    itimers_describe(itimers);
    park_take_pending();
    const struct pending_signal *pending = pending_take_process(&npending);
    timers_settle(timers, ntimers, pending, npending);
    itimers_settle(itimers, pending, npending);
    struct image_blob blobs[] = {{SAVE_BLOB, &blob, sizeof blob},
                                 {PENDING_BLOB, pending, npending * sizeof *pending},
                                 {FILES_BLOB, NULL, 0},
                                 {LOCKS_BLOB, NULL, 0},
                                 {TIMERS_BLOB, timers, ntimers * sizeof *timers}};
    struct files files = {0};
    struct image_thread *threads = calloc(request->nthreads + 1, sizeof *threads);
    char(*names)[NAME_BYTES] = calloc(request->nthreads + 1, sizeof *names);
    if (!threads || !names) {
        err_sys(err, "no memory");
        goto out;
    }
    if (!kept && save_regions_read(&read, err) < 0)
        goto out;
    for (size_t i = 0; i < request->nthreads; i++)
        describe_thread(&threads[i], &request->threads[i], names[i]);
    if (request->signo) {
        threads[0].signo = request->signo;
        if (request->siginfo) {
            memcpy(threads[0].siginfo, request->siginfo, sizeof threads[0].siginfo);
            threads[0].siginfo_size = sizeof threads[0].siginfo;
        }
    }
    /* An epoch must be whole. A fine checkpoint or a failure is looked at alone. */
    if (files_describe(&files, whole, err) < 0)
        goto out;
    if (whole && (check_alone(regions, err) < 0 || check_childless(err) < 0))
        goto out;
    blobs[2] = (struct image_blob){FILES_BLOB, files.records, files.bytes};
    blobs[3] = (struct image_blob){LOCKS_BLOB, files.locks.some,
                                   files.locks.n * sizeof *files.locks.some};
    fill_meta(&state.meta, request, host, sizeof host, cwd, sizeof cwd);
    memcpy(state.meta.itimers, itimers, sizeof itimers);
    state.meta.xcr0 = request->nthreads ? xsave_features(&threads[0]) : 0;
    state.meta.argv = app_argv(&state.meta.argc);
    blob.mm.brk = state.meta.brk;
    state.regions = regions->region;
    state.nregions = regions->n;
    state.threads = threads;
    state.nthreads = request->nthreads;
    state.files = files.file;
    state.nfiles = files.n;
    state.blobs = blobs;
    state.nblobs = sizeof blobs / sizeof blobs[0];
    if (!kept && image_source_self(&source, err) < 0)
        goto out;
    result = write_it(request, &state, kept ? &kept->source : &source, written, err);
    if (!kept)
        image_source_close(&source);
out:
    if (npending && whole)
        park_run_on_main(put_process, NULL);
    else
        pending_put(PENDING_PROCESS, 0);
    save_regions_free(&read);
    files_free(&files);
    free(timers);
    free(threads);
    free(names);
    return result;
}
