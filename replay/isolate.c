/*
 * isolate.c - one rank alone: replays it to its end, or opens GDB on it
 *
 *     dbg3 isolate --rank 2 --check        this process runs dbg3-replay and waits
 *     dbg3 isolate --rank 2 under gdb      becomes GDB, which starts
 *       dbg3 isolate --rank 2 --listen -   the stub on GDB's pipe, which runs dbg3-replay under
 *       ptrace
 */
#include "replay/isolate.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "replay/replay_stop.h"
#include "runtime/half/half.h"
#include "runtime/image/image.h"

#define PATH_BYTES 4096
#define GDB_ARGS   256

/* ---- which checkpoint ---- */

/* The fine checkpoints that the rank has. */
static int find_checkpoints(const char *folder, unsigned rank, struct image_window *w,
                            struct err *err)
{
    if (access(folder, F_OK) < 0)
        return err_sys(err, "rank %u has no recording (%s); type: dbg3 refine --every-n-msgs 10",
                       rank, folder);
    if (image_window_read(folder, w, err) == 0)
        return 0;
    return err->code != ENOENT
               ? -1
               : err_set(err,
                         "rank %u has no fine checkpoint in %s; type: dbg3 refine "
                         "--every-n-msgs 10",
                         rank, folder);
}

int isolate_image(const struct isolate_options *o, char *path, size_t cap, struct err *err)
{
    char folder[PATH_BYTES];
    struct image_window w;
    if (o->from) {
        snprintf(path, cap, "%s", o->from);
        return 0;
    }
    snprintf(folder, sizeof folder, "%s/fine/rank-%u", o->session, o->rank);
    if (find_checkpoints(folder, o->rank, &w, err) < 0)
        return -1;
    uint64_t n = o->at ? o->at : o->check ? w.oldest : w.newest;
    if (n < w.oldest || n > w.newest)
        return err_set(err, "rank %u has fine checkpoints %lu to %lu, not %lu", o->rank, w.oldest,
                       w.newest, n);
    return image_window_path(folder, n, path, cap, err);
}

/* ---- check ---- */

/* Runs dbg3-replay with its standard output and error away, and the reason of its end on a pipe. */
static pid_t spawn_check(const struct isolate_options *o, const char *image, int *reason,
                         struct err *err)
{
    char program[PATH_BYTES], logs[PATH_BYTES], fd_text[16];
    int p[2];
    if (pipe2(p, O_CLOEXEC) < 0)
        return err_sys(err, "pipe");
    snprintf(program, sizeof program, "%s/dbg3-replay", o->runtime);
    snprintf(logs, sizeof logs, "%s/logs", o->session);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* nobody else would end it */
        int null = open("/dev/null", O_RDWR);
        fcntl(p[1], F_SETFD, 0);
        snprintf(fd_text, sizeof fd_text, "%d", p[1]);
        setenv(REPLAY_REASON_FD, fd_text, 1);
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        dup2(null, STDERR_FILENO);
        execl(program, program, image, logs, (char *)NULL);
        _exit(127);
    }
    close(p[1]);
    if (pid < 0) {
        close(p[0]);
        return err_sys(err, "fork");
    }
    *reason = p[0];
    return pid;
}

static int check(const struct isolate_options *o, const char *image, struct isolate_result *r,
                 struct err *err)
{
    int reason = -1, status;
    struct {
        uint32_t code, length;
    } head = {0, 0};
    pid_t pid = spawn_check(o, image, &reason, err);
    if (pid < 0)
        return -1;
    ssize_t n = read(reason, &head, sizeof head);
    if (n == (ssize_t)sizeof head) {
        size_t want = head.length < sizeof r->text - 1 ? head.length : sizeof r->text - 1;
        ssize_t got = read(reason, r->text, want);
        r->text[got > 0 ? got : 0] = '\0';
    }
    close(reason);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (n == (ssize_t)sizeof head && head.code == HALF_EXIT)
        return err_set(err, "%s", r->text);
    if (n == (ssize_t)sizeof head) {
        r->reached_end = head.code == REPLAY_STOP_END;
        return 0;
    }
    if (WIFSIGNALED(status)) {
        r->signal = WTERMSIG(status);
        r->reached_end = r->signal == o->expect_signal;
        snprintf(r->text, sizeof r->text, "%s %s", strsignal(r->signal),
                 r->reached_end ? "as recorded" : "which the recording does not have");
    } else if (WEXITSTATUS(status) == 127) {
        return err_set(err, "cannot start %s/dbg3-replay", o->runtime);
    } else {
        r->status = WEXITSTATUS(status);
        r->reached_end = true;
        snprintf(r->text, sizeof r->text, "the program ended with exit status %d", r->status);
    }
    return 0;
}

/* ---- GDB ---- */

/* Quotes for GDB's shell: the part behind '|' is run by /bin/sh. */
static void quote(FILE *f, const char *s)
{
    fputc('\'', f);
    for (; *s; s++)
        if (*s == '\'')
            fputs("'\\''", f);
        else
            fputc(*s, f);
    fputc('\'', f);
}

static char *stub_command(const struct isolate_options *o)
{
    char *text = NULL, self[PATH_BYTES];
    size_t size;
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    FILE *f = open_memstream(&text, &size);
    if (n <= 0 || !f)
        return NULL;
    self[n] = '\0';
    setenv("DBG3_COMMAND", self, 1); /* for dbg3-gdb.py, which isolates senders */
    fputs("target extended-remote | ", f);
    quote(f, self);
    fputs(o->bundle ? " isolate " : " isolate --session ", f);
    quote(f, o->session);
    if (o->bundle && o->any_cpu)
        fputs(" --any-cpu", f);
    if (!o->bundle)
        fprintf(f, " --rank %u", o->rank);
    if (o->at)
        fprintf(f, " --at %lu", o->at);
    if (o->from) {
        fputs(" --image ", f);
        quote(f, o->from);
    }
    fputs(" --listen -", f);
    return fclose(f) == 0 ? text : NULL;
}

/* GDB's arguments; each is malloc'ed or lives as long as the process. */
struct gdb_args {
    const char *argv[GDB_ARGS];
    int n;
};

/* "-iex COMMAND": before GDB reads the program. */
__attribute__((format(printf, 2, 3))) static void first(struct gdb_args *a, const char *fmt, ...)
{
    char *command;
    va_list ap;
    va_start(ap, fmt);
    if (a->n < GDB_ARGS / 2 && vasprintf(&command, fmt, ap) >= 0) {
        a->argv[a->n++] = "-iex";
        a->argv[a->n++] = command;
    }
    va_end(ap);
}

/*
 * GDB finds everything in the bundle. Sources: a rule for each first folder that the bundle has,
 * because one for "/" fits nothing.
 */
static void point_to_bundle(struct gdb_args *a, const struct isolate_options *o)
{
    char path[PATH_BYTES];
    first(a, "set sysroot %s/root", o->session);
    first(a, "set debug-file-directory %s/root/usr/lib/debug", o->session);
    first(a, "set debuginfod enabled off");
    snprintf(path, sizeof path, "%.4000s/source", o->session);
    DIR *d = opendir(path);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.')
            first(a, "set substitute-path /%s %s/%s", e->d_name, path, e->d_name);
    if (d)
        closedir(d);
}

/* Becomes GDB on the application, connected to our stub. */
static int become_gdb(const struct isolate_options *o, const char *program, struct err *err)
{
    struct gdb_args args = {.argv = {"gdb", "-q"}, .n = 2};
    char path[PATH_BYTES];
    char *connect = stub_command(o);
    if (!connect)
        return err_sys(err, "no memory");
    if (o->bundle)
        point_to_bundle(&args, o);
    else
        first(&args, "set sysroot /");
    first(&args, "source %s/dbg3-gdb.py", o->runtime);
    snprintf(path, sizeof path, "%s%s%s", o->bundle ? o->session : "", o->bundle ? "/root" : "",
             program);
    const char **argv = args.argv;
    int n = args.n;
    argv[n++] = "-ex";
    argv[n++] = connect;
    for (char *const *a = o->gdb_args; a && *a && n < GDB_ARGS - 3; a++)
        argv[n++] = *a;
    argv[n++] = path;
    argv[n] = NULL;
    execvp("gdb", (char *const *)argv);
    return err_set(err,
                   "cannot start gdb (%s): install it (apt install gdb), or give --listen ADDR and "
                   "connect another one", strerror(errno));
}

/*
 * So much is hashed in a tenth of a second. More is verified with --check only: GDB is to be there
 * at once, also for a rank of many gigabytes.
 */
#define VERIFY_AT_ONCE (256ul << 20)

static int verify(const struct isolate_options *o, const struct image *image, const char *path,
                  struct err *err)
{
    uint64_t bytes = 0;
    struct stat st;
    for (size_t i = 0; i < image_chain_length(image); i++)
        bytes += fstat(image_chain_fd(image, i), &st) == 0 ? (uint64_t)st.st_size : 0;
    return o->check || bytes <= VERIFY_AT_ONCE ? image_verify(path, err) : 0;
}

void isolate_prepare_replay(const struct isolate_options *o)
{
    char root[PATH_BYTES];
    snprintf(root, sizeof root, "%s/root", o->session);
    if (o->bundle)
        setenv(REPLAY_ROOT, root, 1);
    else
        unsetenv(REPLAY_ROOT);
}

int isolate_run(const struct isolate_options *o, struct isolate_result *result, struct err *err)
{
    char path[PATH_BYTES];
    if (isolate_image(o, path, sizeof path, err) < 0)
        return -1;
    struct image *image = image_open(path, err);
    if (!image || verify(o, image, path, err) < 0) {
        image_close(image);
        return -1;
    }
    uint64_t checkpoint = image_state(image)->meta.checkpoint;
    char *program = strdup(image_state(image)->meta.program);
    int rank = image_state(image)->meta.rank;
    image_close(image);
    if (rank >= 0 && rank != (int)o->rank) {
        free(program);
        return err_set(err, "%s is of rank %d, not of rank %u", path, rank, o->rank);
    }
    if (!o->check)
        return program ? become_gdb(o, program, err) : err_sys(err, "no memory");
    free(program);
    isolate_prepare_replay(o);
    *result = (struct isolate_result){.checkpoint = checkpoint};
    return check(o, path, result, err);
}
