/*
 * coord.c - the coordinator of a phase: launcher, ranks, epochs, end
 *
 * How a phase ends. The launcher's exit is the one event that always comes; everything else only
 * hurries it up. Ranks have a moment to say their last words after it (GRACE_MS), then the loop
 * ends. A rank that failed usually makes the launcher end the job; if the launcher does not
 * (FAILED_MS), it gets SIGTERM, then SIGKILL.
 */
#define LOG_MODULE "coord"
#include "runtime/coord/coord.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "runtime/base/fault.h"
#include "runtime/base/human.h"
#include "runtime/base/log.h"
#include "runtime/coord/conn.h"
#include "runtime/coord/control.h"
#include "runtime/coord/counters_view.h"
#include "runtime/coord/program.h"

#define HELLO_FRAME_MAX 32768u /* before a peer has shown the secret */
#define CUT_TICK_MS     20
#define HOUSEKEEPING_MS 200
#define RETRY_MS        10000 /* after a cancelled epoch */
#define GRACE_MS        2000  /* launcher gone: for last words, then as long after SHUTDOWN */
#define FAILED_MS       30000 /* a rank failed and the launcher stays */
#define EXAMINE_MS      30000 /* for failure images after a hang */
#define TERM_MS         5000  /* between SIGTERM and SIGKILL to the launcher */
#define SAME_MOMENT_MS  10    /* what came first may be read last */
#define ABORT_MS        100   /* for which aborts wait for the ends of ranks before them */
#define INTERRUPT_MS    1000  /* Ctrl-C at a terminal reaches the launcher without us */
#define WRONG_SECRETS   5     /* reported one by one */
#define FRAMES_MOST     16    /* failures whose frames are looked at: a tenth of a second each */

struct rank {
    struct conn *conn; /* NULL: never came, or gone */
    bool seen, finalized, bye, failed;
    int pid;
};

/* Processes that the job has spawned (MPI_Comm_spawn). Their ranks in the job come behind those
 * that are there; epochs wait until they have ended. */
struct world {
    struct world *next;
    uint64_t id;
    unsigned first, size; /* ranks in the job */
};

/* A FAILURE that may have been caused by one that is not known yet. */
struct pending {
    struct pending *next; /* came later */
    unsigned rank;
    size_t size;
    unsigned char frame[];
};

struct coord {
    const struct coord_settings *set;
    struct coord_result result;
    struct err err; /* of a catalog that cannot be written */

    uv_loop_t loop;
    uv_tcp_t listener;
    uv_process_t launcher;
    uv_timer_t cut_timer, house_timer, every_timer, end_timer, abort_timer;
    uv_signal_t sigint, sigterm, sighup;
    struct control *control;
    char token[PROTO_TOKEN_LEN + 1];
    unsigned wrong_secrets;

    struct rank *rank;
    unsigned nranks;    /* of them: result.size and the spawned */
    unsigned connected; /* of the job's own */
    unsigned spawned;   /* connected ones of the others */
    struct world *worlds;
    bool told_spawned; /* that there is no epoch while they run */
    char program[PATH_MAX], build_id[PROGRAM_ID_MAX]; /* newest asked for */

    /* the epoch under way */
    struct cut *cut;
    bool epoch_open;
    enum cut_phase epoch_phase; /* as it was seen last */
    uint64_t multiple, multiple_done; /* of every_n_msgs: asked for now, of the last epoch */
    uint64_t epoch_started_ms;
    struct session_image *image;
    struct waiting {
        struct waiting *next;
        struct control_client *client;
    } *waiting; /* for its end */

    /* the end */
    bool launcher_runs, ending, hung, interrupted;
    bool signalled; /* we have ended the launcher ourselves */
    int interrupts, failures;
    int real_failures; /* that are not the launcher's way of ending the job */
    struct pending *pending; /* aborts that wait for HEARD */
    bool waited; /* they have, but for what can be read by now */
    uint64_t vanished_ms;
    int vanished;      /* rank whose connection ended first, without a word; -1 */
    uint64_t term_ms; /* when to send the launcher the next, stronger signal; 0: never */
    int term_signal;
    uint64_t examine_ms;
    struct hang_watch hang;
    bool refused; /* a rank could not be continued from its image */
};

static void epoch_want(struct coord *c, struct control_client *client);
static void epoch_after(struct coord *c);
static void pending_settle(struct coord *c);

static uint64_t now_ms(const struct coord *c)
{
    return uv_now(&c->loop);
}

static void notify(struct coord *c, enum coord_notice kind, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void notify(struct coord *c, enum coord_notice kind, const char *fmt, ...)
{
    char line[ERR_TEXT_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    if (c->set->notify)
        c->set->notify(c->set->notify_arg, kind, line);
}

/* The catalog could not be written: say so; the job goes on without. */
static void catalog(struct coord *c, int rc)
{
    if (rc < 0)
        notify(c, COORD_NOTE, "cannot write the catalog: %s", c->err.text);
}

/* ---- the launcher ------------------------------------------------------------------------ */

static void launcher_signal(struct coord *c, int signum)
{
    if (c->launcher_runs && uv_process_get_pid(&c->launcher) > 1)
        uv_process_kill(&c->launcher, signum);
}

/* From `when` on: SIGTERM, and SIGKILL later. An earlier time wins. */
static void launcher_end_at(struct coord *c, uint64_t when)
{
    if (c->term_ms == 0 || when < c->term_ms) {
        c->term_ms = when;
        c->term_signal = SIGTERM;
    }
}

static void launcher_end_now(struct coord *c)
{
    c->signalled = true;
    launcher_signal(c, c->term_signal);
    c->term_signal = SIGKILL;
    c->term_ms = now_ms(c) + TERM_MS;
}

static bool ranks_gone(const struct coord *c)
{
    return c->connected == 0 && c->spawned == 0;
}

/* Of the world that the launcher has started: those take part in epochs. */
static bool is_own(const struct coord *c, unsigned rank)
{
    return rank < c->result.size;
}

static void finish(struct coord *c)
{
    uv_stop(&c->loop);
}

/* Twice GRACE_MS after the launcher's end: ask the ranks that are left to end, then give up. */
static void on_end_timer(uv_timer_t *timer)
{
    struct coord *c = timer->data;
    if (c->ending || ranks_gone(c)) {
        finish(c);
        return;
    }
    c->ending = true;
    for (unsigned r = 0; r < c->nranks; r++)
        if (c->rank[r].conn)
            conn_send(c->rank[r].conn, &(struct proto_msg){.type = PROTO_SHUTDOWN,
                                                           .u.text = "the launcher has ended"});
    uv_timer_start(timer, on_end_timer, GRACE_MS, 0);
}

static void on_launcher_exit(uv_process_t *process, int64_t status, int signum)
{
    struct coord *c = process->data;
    c->launcher_runs = false;
    c->term_ms = 0;
    c->result.status = signum ? signum : (int)(status & 0xff) << 8;
    log_info("launcher ended, status %d, signal %d", (int)status, signum);
    uv_close((uv_handle_t *)process, NULL);
    if (ranks_gone(c))
        uv_timer_start(&c->end_timer, on_end_timer, 0, 0);
    else
        uv_timer_start(&c->end_timer, on_end_timer, GRACE_MS, 0);
}

/* Restores what libuv and we changed for ourselves; runs nothing between fork and exec. */
static int launcher_start(struct coord *c, unsigned port, struct err *err)
{
    unsigned n = 0;
    char address[64], token[PROTO_TOKEN_LEN + 32];
    while (c->set->environment[n])
        n++;
    char **env = calloc(n + 3, sizeof *env);
    if (!env)
        return err_sys(err, "%s", c->set->launcher[0]);
    memcpy(env, c->set->environment, n * sizeof *env);
    snprintf(address, sizeof address, PROTO_ENV_COORD "=127.0.0.1:%u", port);
    snprintf(token, sizeof token, PROTO_ENV_TOKEN "=%s", c->token);
    env[n] = address;
    env[n + 1] = token;
    uv_stdio_container_t stdio[3] = {{UV_INHERIT_FD, {.fd = 0}},
                                     {UV_INHERIT_FD, {.fd = 1}},
                                     {UV_INHERIT_FD, {.fd = 2}}};
    uv_process_options_t options = {
        .exit_cb = on_launcher_exit,
        .file = c->set->launcher[0],
        .args = (char **)(uintptr_t)c->set->launcher,
        .env = env,
        .cwd = c->set->cwd,
        .stdio = stdio,
        .stdio_count = 3,
    };
    c->launcher.data = c;
    int rc = uv_spawn(&c->loop, &c->launcher, &options);
    free(env);
    if (rc < 0) {
        uv_close((uv_handle_t *)&c->launcher, NULL);
        return err_set(err, "cannot run %s: %s", c->set->launcher[0], uv_strerror(rc));
    }
    c->launcher_runs = true;
    return 0;
}

/* ---- ranks ------------------------------------------------------------------------------- */

static void rank_send(void *arg, unsigned rank, const struct proto_msg *msg)
{
    struct coord *c = arg;
    if (c->rank[rank].conn)
        conn_send(c->rank[rank].conn, msg);
}

static bool all_here(const struct coord *c)
{
    return c->result.size > 0 && c->connected == c->result.size && c->result.finalized == 0;
}

/* The rank's program; "" if it is not known. */
static const char *rank_program(const struct coord *c, unsigned rank)
{
    struct session_rank *row;
    const char *program = "";
    unsigned n;
    if (session_ranks(c->set->session, c->set->phase_id, &row, &n, NULL) < 0)
        return "";
    for (unsigned i = 0; i < n; i++)
        if (row[i].rank == rank)
            program = row[i].program;
    free(row);
    return program;
}

/* Where in the application's source a rank failed: of a signal in a library, such as the SIGABRT of
 * an assertion, the frame that called it. Its image is read for that, so not for all of many. */
static void failure_source(const struct coord *c, unsigned rank, const struct proto_msg *msg,
                           char *source, size_t cap)
{
    const char *program = rank_program(c, rank), *image = msg->u.failure.image;
    bool signal = msg->u.failure.kind == PROTO_FAILURE_SIGNAL;
    *source = '\0';
    if (signal && *image && strcmp(msg->u.failure.module, program) && c->failures < FRAMES_MOST)
        program_frame_source(image, program, source, cap);
    if (!*source)
        program_source(msg->u.failure.module, msg->u.failure.module_offset, !signal, source, cap);
}

/* A failure of a rank becomes a row; the first one is the one that explains the others. */
static void failure_add(struct coord *c, unsigned rank, const struct proto_msg *msg)
{
    char source[256];
    failure_source(c, rank, msg, source, sizeof source);
    struct session_failure f = {
        .phase = c->set->phase_id,
        .rank = rank,
        .order = ++c->failures,
        .kind = (enum proto_failure)msg->u.failure.kind,
        .code = msg->u.failure.code,
        .event = msg->u.failure.event,
        .pc = msg->u.failure.pc,
        .address = msg->u.failure.address,
        .module_offset = msg->u.failure.module_offset,
        .text = msg->u.failure.text,
        .call = msg->u.failure.call,
        .image = msg->u.failure.image,
        .module = msg->u.failure.module,
        .source = source,
    };
    c->rank[rank].failed = true;
    catalog(c, session_failure_add(c->set->session, &f, &c->err));
}

static const struct proto_msg killed = {
    .type = PROTO_FAILURE,
    .u.failure = {.kind = PROTO_FAILURE_KILLED, .text = "", .call = "", .image = "", .module = ""}};

/* Its end is why ranks end, and not the other way round: it was killed, or is done. */
static bool launcher_is_cause(const struct coord *c)
{
    return !c->launcher_runs && (c->result.status == 0 || WIFSIGNALED(c->result.status));
}

/*
 * The connection ended without last words: killed. Only the first one counts, what follows is its
 * consequence. It is not a failure yet: the launcher may be what was killed, and its end not known.
 */
static void rank_vanished(struct coord *c, unsigned rank)
{
    const struct rank *r = &c->rank[rank];
    if (r->finalized || r->bye || r->failed || launcher_is_cause(c) || c->failures || c->hung ||
        c->interrupted || c->vanished >= 0)
        return;
    c->vanished = (int)rank;
    c->vanished_ms = now_ms(c);
    launcher_end_at(c, now_ms(c) + FAILED_MS);
}

/*
 * The vanished rank was the first to fail, before any that had time for last words. Unless one says
 * its last words just now: on a busy machine the end of a rank that was killed in consequence may
 * be read before the words of the cause.
 */
static void vanished_add(struct coord *c, bool other_failed)
{
    if (other_failed && now_ms(c) - c->vanished_ms < SAME_MOMENT_MS)
        c->vanished = -1;
    if (c->vanished >= 0 && !c->rank[c->vanished].failed) {
        c->real_failures++;
        failure_add(c, (unsigned)c->vanished, &killed);
    }
}

static bool pending_of(const struct coord *c, unsigned rank)
{
    const struct pending *p = c->pending;
    while (p && p->rank != rank)
        p = p->next;
    return p;
}

static void on_conn_end(struct conn *conn, const char *why)
{
    struct coord *c = conn_data(conn);
    for (unsigned r = 0; r < c->nranks; r++) {
        if (c->rank[r].conn != conn)
            continue;
        c->rank[r].conn = NULL;
        --*(is_own(c, r) ? &c->connected : &c->spawned);
        if (pending_of(c, r))
            pending_settle(c);
        if (why)
            notify(c, COORD_NOTE, "rank %u broke the protocol (%s): no further epochs", r, why);
        rank_vanished(c, r);
        if (is_own(c, r))
            cut_cancel(c->cut, "rank %u is gone", r);
        epoch_after(c);
        if (!c->launcher_runs && ranks_gone(c))
            uv_timer_start(&c->end_timer, on_end_timer, 0, 0);
        return;
    }
    if (why)
        notify(c, COORD_NOTE, "refused a connection from %s: %s", conn_peer(conn), why);
}

static void refuse(struct coord *c, struct conn *conn, const char *text)
{
    if (c->wrong_secrets++ < WRONG_SECRETS)
        notify(c, COORD_NOTE, "refused a connection from %s: %s", conn_peer(conn), text);
    conn_send(conn, &(struct proto_msg){.type = PROTO_REFUSED, .u.text = text});
    conn_close(conn);
}

/* Counters of what an earlier phase has spawned. */
static void forget_spawned(const struct coord *c)
{
    char path[PATH_MAX];
    unsigned rank = c->result.size;
    do
        snprintf(path, sizeof path, "%.*s/counters/rank-%u.cnt", PATH_MAX - 64,
                 session_dir(c->set->session), rank++);
    while (unlink(path) == 0);
}

/* The first rank says how many there are. */
static int own_world(struct coord *c, const struct proto_msg *hello)
{
    unsigned size = (unsigned)hello->u.hello.size;
    c->rank = calloc(size, sizeof *c->rank);
    c->image = calloc(size, sizeof *c->image);
    c->cut = cut_create(size, c->set->limits, rank_send, c);
    if (!c->rank || !c->image || !c->cut || hang_watch_init(&c->hang, size) < 0)
        return -1;
    c->result.size = c->nranks = size;
    forget_spawned(c);
    if (c->set->phase == PROTO_PHASE_BATCH)
        catalog(c, session_job_learn(c->set->session, hello->u.hello.program, c->build_id, size,
                                     &c->err));
    if (c->set->every_ms)
        uv_timer_again(&c->every_timer);
    return 0;
}

static struct world *world_find(const struct coord *c, uint64_t id)
{
    struct world *w = c->worlds;
    while (w && w->id != id)
        w = w->next;
    return w;
}

static int spawned_world(struct coord *c, const struct proto_msg *hello)
{
    unsigned size = (unsigned)hello->u.hello.size, n = c->nranks + size;
    struct rank *rank = n <= PROTO_RANKS_MAX ? realloc(c->rank, n * sizeof *rank) : NULL;
    c->rank = rank ? rank : c->rank;
    struct world *w = rank ? malloc(sizeof *w) : NULL;
    hang_watch_clear(&c->hang);
    if (!w || hang_watch_init(&c->hang, n) < 0) {
        free(w);
        return -1;
    }
    memset(rank + c->nranks, 0, size * sizeof *rank);
    *w = (struct world){c->worlds, hello->u.hello.world, c->nranks, size};
    c->worlds = w;
    c->nranks = n;
    if (size == 1)
        notify(c, COORD_NOTE, "a process is spawned: rank %u", w->first);
    else
        notify(c, COORD_NOTE, "%u processes are spawned: ranks %u to %u", size, w->first, n - 1);
    return 0;
}

static int world_known(struct coord *c, const struct proto_msg *hello)
{
    if (hello->u.hello.world)
        return world_find(c, hello->u.hello.world) ? 0 : spawned_world(c, hello);
    return c->result.size ? 0 : own_world(c, hello);
}

/* The rank in the job of a rank in its world, which is known. */
static unsigned rank_in_job(const struct coord *c, const struct proto_msg *hello)
{
    const struct world *w = world_find(c, hello->u.hello.world);
    return (w ? w->first : 0) + (unsigned)hello->u.hello.rank;
}

/* Why this HELLO cannot be accepted, or NULL. */
static const char *hello_wrong(struct coord *c, const struct proto_msg *msg, char *buf, size_t cap)
{
    if (!proto_token_equal(msg->u.hello.token, c->token))
        return "wrong secret (" PROTO_ENV_TOKEN " is not that of this session)";
    uint64_t rank = msg->u.hello.rank, size = msg->u.hello.size, world = msg->u.hello.world;
    const struct world *w = world_find(c, world);
    unsigned known = w ? w->size : world ? 0 : c->result.size;
    const char *wrong = NULL;
    if (size == 0 || rank >= size)
        wrong = "it is outside its world";
    else if (world && !c->result.size)
        wrong = "it says that a job has spawned it that has no ranks";
    else if (known && size != known)
        wrong = "the other ranks are of a world of another size";
    else if (known && c->rank[rank_in_job(c, msg)].conn)
        wrong = "that rank is connected already";
    else if (msg->u.hello.phase != (uint64_t)c->set->phase)
        wrong = "it is in another phase";
    if (wrong)
        snprintf(buf, cap, "rank %" PRIu64 " of %" PRIu64 " (pid %" PRIu64 "): %s", rank, size,
                 msg->u.hello.pid, wrong);
    return wrong ? buf : NULL;
}

static void rank_welcome(struct coord *c, struct conn *conn, const struct proto_msg *msg)
{
    struct session_epoch newest = {0};
    unsigned rank = rank_in_job(c, msg);
    struct rank *r = &c->rank[rank];
    c->result.seen += is_own(c, rank) && !r->seen;
    *r = (struct rank){.conn = conn, .seen = true, .pid = (int)msg->u.hello.pid};
    ++*(is_own(c, rank) ? &c->connected : &c->spawned);
    struct session_rank row = {.rank = rank, .pid = r->pid, .host = msg->u.hello.host,
                               .program = msg->u.hello.program, .build_id = c->build_id};
    catalog(c, session_rank_seen(c->set->session, c->set->phase_id, &row, &c->err));
    session_epoch_find(c->set->session, 0, &newest, NULL);
    conn_trust(conn);
    conn_send(conn, &(struct proto_msg){.type = PROTO_WELCOME,
                                        .u.welcome = {newest.number, c->set->every_n_msgs,
                                                      c->set->keep_fine, rank}});
    if (!is_own(c, rank))
        cut_cancel(c->cut, "processes are spawned");
    else if (all_here(c))
        notify(c, COORD_BEGUN, "%u rank%s under control", c->result.size,
               c->result.size == 1 ? "" : "s");
}

static void on_hello(struct coord *c, struct conn *conn, const struct proto_msg *msg)
{
    char text[512];
    const char *wrong = hello_wrong(c, msg, text, sizeof text);
    if (wrong) {
        refuse(c, conn, wrong);
        return;
    }
    if (strcmp(c->program, msg->u.hello.program)) {
        snprintf(c->program, sizeof c->program, "%s", msg->u.hello.program);
        if (program_build_id(c->program, c->build_id, sizeof c->build_id, NULL) < 0)
            c->build_id[0] = '\0';
    }
    if (world_known(c, msg) < 0) {
        refuse(c, conn, "the coordinator is out of memory");
        return;
    }
    rank_welcome(c, conn, msg);
}

/* What a launcher, or a user, does to a job to end it. */
static bool is_termination(const struct proto_msg *msg)
{
    uint64_t code = msg->u.failure.code;
    return msg->u.failure.kind == PROTO_FAILURE_SIGNAL &&
           (code == SIGTERM || code == SIGKILL || code == SIGINT || code == SIGHUP);
}

static void failure_take(struct coord *c, unsigned rank, const struct proto_msg *msg,
                         bool same_moment)
{
    vanished_add(c, same_moment && !is_termination(msg));
    c->real_failures += !is_termination(msg);
    c->refused |= msg->u.failure.kind == PROTO_FAILURE_RESTORE;
    failure_add(c, rank, msg);
    if (msg->u.failure.kind != PROTO_FAILURE_HANG)
        launcher_end_at(c, now_ms(c) + FAILED_MS);
}

/*
 * A rank that aborts because another one is gone may say so before the end of that one's connection
 * is read: the kernel frees the memory of a process first, and closes its files then. So aborts
 * wait for a moment: the ranks that end meanwhile did not end because of them.
 */
static void pending_settle(struct coord *c)
{
    uv_timer_stop(&c->abort_timer);
    for (struct pending *p; (p = c->pending);) {
        struct proto_msg msg;
        struct err err;
        c->pending = p->next;
        if (proto_decode(p->frame, p->size, &msg, &err) > 0)
            failure_take(c, p->rank, &msg, false);
        if (c->rank[p->rank].conn)
            conn_send(c->rank[p->rank].conn, &(struct proto_msg){.type = PROTO_HEARD});
        free(p);
    }
}

/* Returns false if there is no memory. */
static bool pending_add(struct coord *c, unsigned rank, const struct proto_msg *msg)
{
    struct pending **end = &c->pending, *p;
    size_t size = proto_size(msg);
    struct err err;
    if (!(p = malloc(sizeof *p + size)))
        return false;
    *p = (struct pending){.rank = rank, .size = size};
    if (proto_encode(msg, p->frame, size, &err) <= 0) {
        free(p);
        return false;
    }
    while (*end)
        end = &(*end)->next;
    *end = p;
    return true;
}

/* Timers come before what has been received, if the coordinator was busy: one more turn. */
static void on_abort_timer(uv_timer_t *timer)
{
    struct coord *c = timer->data;
    if (c->waited)
        pending_settle(c);
    else
        uv_timer_start(timer, on_abort_timer, 1, 0);
    c->waited = true;
}

static void on_failure(struct coord *c, unsigned rank, const struct proto_msg *msg)
{
    bool first = !c->pending;
    if (proto_failure_waits(msg->u.failure.kind, msg->u.failure.code) &&
        pending_add(c, rank, msg)) {
        if (first) {
            c->waited = false;
            uv_timer_start(&c->abort_timer, on_abort_timer, ABORT_MS, 0);
        }
        return;
    }
    pending_settle(c);
    failure_take(c, rank, msg, true);
}

static void on_finalized(struct coord *c, unsigned rank, const struct proto_msg *msg)
{
    if (c->rank[rank].finalized)
        return;
    c->rank[rank].finalized = true;
    catalog(c, session_rank_finalized(c->set->session, c->set->phase_id, rank, &c->err));
    if (!is_own(c, rank))
        return;
    c->result.finalized++;
    cut_cancel(c->cut, "rank %u has finalized MPI", rank);
}

static void on_fine(struct coord *c, unsigned rank, const struct proto_msg *msg)
{
    unsigned n = (unsigned)msg->u.fine.count;
    struct session_fine *fine = calloc(n + 1, sizeof *fine);
    for (unsigned i = 0; fine && i < n; i++)
        fine[i] = (struct session_fine){c->set->phase_id, rank, msg->u.fine.fine[i]};
    if (fine && n)
        catalog(c, session_fine_add(c->set->session, fine, n, &c->err));
    free(fine);
}

/* A file name from a rank goes into a path: it must be a plain name. */
static bool name_is_plain(const char *name)
{
    return *name && *name != '.' && !strchr(name, '/') &&
           strlen(name) < sizeof((struct session_image *)0)->file;
}

static void on_written(struct coord *c, unsigned rank, const struct proto_msg *msg)
{
    if (!c->epoch_open || msg->epoch != cut_epoch(c->cut) || !is_own(c, rank))
        return;
    if (!name_is_plain(msg->u.written.file)) {
        cut_cancel(c->cut, "rank %u names its image badly", rank);
        return;
    }
    struct session_image *image = &c->image[rank];
    *image = (struct session_image){.rank = rank, .bytes = msg->u.written.bytes,
                                    .us_write = msg->u.written.us_write,
                                    .us_pause = msg->u.written.us_pause,
                                    .id = msg->u.written.id};
    snprintf(image->file, sizeof image->file, "%s", msg->u.written.file);
}

static void on_want(struct coord *c, unsigned rank, const struct proto_msg *msg)
{
    uint64_t n = c->set->every_n_msgs;
    uint64_t multiple = n && msg->u.want.reason == PROTO_WANT_MESSAGES ? msg->u.want.count / n : 0;
    /* The other ranks pass the same multiple soon after: one epoch is for all of them. */
    if (c->epoch_open || (multiple && multiple <= c->multiple_done))
        return;
    c->multiple = multiple;
    epoch_want(c, NULL);
}

static void on_bye(struct coord *c, unsigned rank, const struct proto_msg *msg)
{
    c->rank[rank].bye = true;
}

typedef void rank_message_fn(struct coord *c, unsigned rank, const struct proto_msg *msg);

static rank_message_fn *const handlers[] = {
    [PROTO_FAILURE] = on_failure, [PROTO_FINALIZED] = on_finalized, [PROTO_FINE] = on_fine,
    [PROTO_WRITTEN] = on_written, [PROTO_WANT] = on_want,           [PROTO_BYE] = on_bye,
};

static void on_conn_message(struct conn *conn, const struct proto_msg *msg)
{
    struct coord *c = conn_data(conn);
    unsigned rank = 0;
    while (rank < c->nranks && c->rank[rank].conn != conn)
        rank++;
    if (rank == c->nranks) {
        if (msg->type == PROTO_HELLO)
            on_hello(c, conn, msg);
        else
            refuse(c, conn, "the first message was not HELLO");
        return;
    }
    if (msg->type < sizeof handlers / sizeof handlers[0] && handlers[msg->type])
        handlers[msg->type](c, rank, msg);
    if (is_own(c, rank))
        cut_receive(c->cut, rank, msg, now_ms(c));
    epoch_after(c);
}

static void on_connection(uv_stream_t *listener, int status)
{
    if (status == 0)
        conn_accept(listener, HELLO_FRAME_MAX, on_conn_message, on_conn_end, listener->data);
}

/* ---- epochs ------------------------------------------------------------------------------ */

static json_t *answer_error(const char *text)
{
    return json_pack("{s:b, s:s}", "ok", 0, "error", text);
}

/* Tells everyone who asked for this epoch how it ended. `answer` is stolen. */
static void answer_waiting(struct coord *c, json_t *answer)
{
    while (c->waiting) {
        struct waiting *w = c->waiting;
        c->waiting = w->next;
        control_answer(w->client, json_incref(answer));
        free(w);
    }
    json_decref(answer);
}

/* Why no epoch can be started now, or NULL. */
static const char *epoch_impossible(const struct coord *c)
{
    if (c->set->phase == PROTO_PHASE_REFINE)
        return "refine makes fine checkpoints on its own, no epochs";
    if (c->result.size == 0)
        return "no rank is under control yet";
    if (c->result.finalized)
        return "a rank has finalized MPI already";
    if (c->connected < c->result.size)
        return "not every rank is connected";
    if (c->spawned)
        return "processes that the job has spawned are running";
    return NULL;
}

static void epoch_want(struct coord *c, struct control_client *client)
{
    const char *impossible = epoch_impossible(c);
    char folder[PATH_MAX];
    uint64_t number;
    struct err err = {0};
    if (impossible && c->spawned && !c->told_spawned)
        notify(c, COORD_NOTE, "no epoch: %s", impossible);
    c->told_spawned = c->spawned;
    if (!impossible && !c->epoch_open) {
        int rc = session_epoch_begin(c->set->session, &number, folder, sizeof folder, &err);
        fault_point(FAULT_EPOCH_BEGUN);
        if (rc < 0 || cut_start(c->cut, number, folder, now_ms(c), &err) < 0) {
            notify(c, COORD_NOTE, "no epoch: %s", err.text);
            impossible = err.text;
        } else {
            c->epoch_open = true;
            c->epoch_started_ms = now_ms(c);
            memset(c->image, 0, c->result.size * sizeof *c->image);
            uv_timer_again(&c->cut_timer);
            epoch_after(c);
        }
    }
    if (!client)
        return;
    struct waiting *w = impossible ? NULL : malloc(sizeof *w);
    if (!w) {
        control_answer(client, answer_error(impossible ? impossible : "out of memory"));
        return;
    }
    *w = (struct waiting){c->waiting, client};
    c->waiting = w;
}

/* The images must be what the ranks said before anything is promised. */
static int images_check(struct coord *c, struct err *err)
{
    char folder[PATH_MAX], path[PATH_MAX + 80];
    session_epoch_folder(c->set->session, cut_epoch(c->cut), folder, sizeof folder);
    for (unsigned r = 0; r < c->result.size; r++) {
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", folder, c->image[r].file);
        if (stat(path, &st) < 0)
            return err_sys(err, "image of rank %u: %s", r, path);
        if ((uint64_t)st.st_size != c->image[r].bytes)
            return err_set(err, "image of rank %u has %lld bytes, should have %" PRIu64, r,
                           (long long)st.st_size, c->image[r].bytes);
    }
    return 0;
}

static void epoch_committed(struct coord *c, const struct session_epoch *epoch)
{
    uint64_t bytes = 0, pause = 0;
    for (unsigned r = 0; r < c->result.size; r++) {
        bytes += c->image[r].bytes;
        pause = c->image[r].us_pause > pause ? c->image[r].us_pause : pause;
    }
    c->result.epochs++;
    c->multiple_done = c->multiple > c->multiple_done ? c->multiple : c->multiple_done;
    char size[32], paused[32];
    notify(c, COORD_NOTE, "epoch %" PRIu64 " complete: %u images, %s, ranks paused for %s",
           epoch->number, c->result.size, human_bytes(bytes, size, sizeof size),
           human_seconds((double)pause / 1e6, paused, sizeof paused));
    answer_waiting(c, json_pack("{s:b, s:I, s:i, s:I, s:I, s:I}", "ok", 1, "epoch",
                                (json_int_t)epoch->number, "ranks", (int)c->result.size, "bytes",
                                (json_int_t)bytes, "us_pause", (json_int_t)pause, "us_total",
                                (json_int_t)epoch->us_total));
    if (c->set->keep_epochs)
        catalog(c, session_epochs_trim(c->set->session, c->set->keep_epochs, &c->err));
}

static void epoch_failed(struct coord *c, const char *why)
{
    char text[ERR_TEXT_MAX + 64];
    uint64_t number = cut_epoch(c->cut);
    snprintf(text, sizeof text, "epoch %" PRIu64 " given up: %.900s", number, why);
    c->result.cancelled++;
    session_epoch_discard(c->set->session, number);
    if (c->failures == 0 && c->launcher_runs && !c->result.finalized)
        notify(c, COORD_NOTE, "%s", text);
    answer_waiting(c, answer_error(text));
    if (c->set->every_ms && all_here(c))
        uv_timer_start(&c->every_timer, c->every_timer.timer_cb,
                       c->set->every_ms < RETRY_MS ? c->set->every_ms : RETRY_MS,
                       c->set->every_ms);
}

static void epoch_commit(struct coord *c)
{
    struct err err = {0};
    struct session_epoch epoch = {.number = cut_epoch(c->cut), .phase = c->set->phase_id,
                                  .us_total = (now_ms(c) - c->epoch_started_ms) * 1000,
                                  .nimages = c->result.size, .image = c->image};
    bool good = images_check(c, &err) == 0 &&
                session_epoch_commit(c->set->session, &epoch, &err) == 0;
    if (good)
        fault_point(FAULT_EPOCH_COMMITTED);
    cut_resume(c->cut, good);
    if (good)
        epoch_committed(c, &epoch);
    else
        epoch_failed(c, err.text);
}

/* Looks what the last message, tick or loss has made of the epoch. */
static void epoch_after(struct coord *c)
{
    static const enum fault_point points[] = {
        [CUT_ACKING] = FAULT_EPOCH_ASKING,     [CUT_ARMING] = FAULT_EPOCH_ARMING,
        [CUT_STOPPING] = FAULT_EPOCH_STOPPING, [CUT_DRAINING] = FAULT_EPOCH_DRAINING,
        [CUT_WRITING] = FAULT_EPOCH_WRITING,   [CUT_WRITTEN] = FAULT_EPOCH_WRITTEN,
    };
    if (!c->epoch_open)
        return;
    enum cut_phase phase = cut_phase(c->cut);
    if (phase != c->epoch_phase)
        fault_point(points[phase]);
    c->epoch_phase = phase;
    if (phase != CUT_IDLE && phase != CUT_WRITTEN)
        return;
    c->epoch_open = false;
    uv_timer_stop(&c->cut_timer);
    hang_watch_touch(&c->hang, now_ms(c));
    if (phase == CUT_WRITTEN)
        epoch_commit(c);
    else
        epoch_failed(c, cut_reason(c->cut));
}

static void on_cut_timer(uv_timer_t *timer)
{
    struct coord *c = timer->data;
    char what[256];
    cut_tick(c->cut, now_ms(c));
    if (cut_phase(c->cut) != CUT_IDLE)
        notify(c, COORD_PROGRESS, "epoch %" PRIu64 ": %s", cut_epoch(c->cut),
               cut_describe(c->cut, what, sizeof what));
    epoch_after(c);
}

static void on_every_timer(uv_timer_t *timer)
{
    struct coord *c = timer->data;
    if (!c->epoch_open && all_here(c))
        epoch_want(c, NULL);
}

/* ---- the other terminal ------------------------------------------------------------------ */

static json_t *status_answer(const struct coord *c)
{
    char what[256] = "no rank is under control yet";
    if (c->cut)
        cut_describe(c->cut, what, sizeof what);
    return json_pack("{s:b, s:s, s:i, s:i, s:i, s:i, s:i, s:s}", "ok", 1, "phase",
                     session_phase_name(c->set->phase), "pid", (int)getpid(), "ranks",
                     (int)c->result.size, "connected", (int)c->connected, "epochs",
                     (int)c->result.epochs, "cancelled", (int)c->result.cancelled, "epoch", what);
}

static void on_request(void *arg, struct control_client *client, const char *request)
{
    struct coord *c = arg;
    if (!strcmp(request, "checkpoint"))
        epoch_want(c, client);
    else if (!strcmp(request, "status"))
        control_answer(client, status_answer(c));
    else
        control_answer(client, answer_error("no such request"));
}

/* ---- hangs, signals ---------------------------------------------------------------------- */

static void hang_found(struct coord *c)
{
    notify(c, COORD_NOTE, "no rank has got on for %.1f s: looking where each of them is",
           (double)c->set->hang_after_ms / 1000);
    c->hung = true;
    c->examine_ms = now_ms(c);
    for (unsigned r = 0; r < c->nranks; r++)
        rank_send(c, r, &(struct proto_msg){.type = PROTO_EXAMINE,
                                            .u.text = "the job hangs (--hang-after)"});
}

/* After EXAMINE: end the job when all have answered, or have had the time to. */
static void hang_examined(struct coord *c)
{
    for (unsigned r = 0; r < c->nranks; r++)
        if (c->rank[r].conn && !c->rank[r].failed && now_ms(c) - c->examine_ms < EXAMINE_MS)
            return;
    launcher_end_at(c, now_ms(c));
}

static void hang_look(struct coord *c)
{
    if (c->hung && c->term_ms == 0)
        hang_examined(c);
    else if (!c->hung && c->set->hang_after_ms && !c->epoch_open && all_here(c) &&
             c->failures == 0 &&
             hang_watch_idle(&c->hang, session_dir(c->set->session), now_ms(c)) >=
                 c->set->hang_after_ms)
        hang_found(c);
}

/* Not with the last HELLO: a rank that cannot be continued says so right behind it. */
static void recording_settle(struct coord *c)
{
    if (c->set->phase != PROTO_PHASE_REFINE || c->result.recording || c->refused ||
        c->result.size == 0 || c->result.seen < c->result.size)
        return;
    c->result.recording = true;
    session_recording_started(c->set->session);
}

static void on_house_timer(uv_timer_t *timer)
{
    struct coord *c = timer->data;
    if (!c->launcher_runs)
        return;
    recording_settle(c);
    hang_look(c);
    if (c->term_ms && now_ms(c) >= c->term_ms)
        launcher_end_now(c);
}

/*
 * A terminal sends Ctrl-C to the launcher as well, and launchers take a second one for impatience:
 * so the first is passed on only if the launcher is still there a second later. The next ones go at
 * once.
 */
static void on_signal(uv_signal_t *handle, int signum)
{
    struct coord *c = handle->data;
    bool terminal = signum == SIGINT && tcgetpgrp(STDIN_FILENO) == getpgrp();
    c->interrupted = true;
    if (c->interrupts++ == 0)
        notify(c, COORD_NOTE, "interrupted: ending the job (the session stays valid)");
    if (c->interrupts > 1) {
        c->term_signal = c->interrupts == 2 ? SIGTERM : SIGKILL;
        launcher_end_now(c);
        return;
    }
    if (!terminal)
        launcher_signal(c, signum);
    c->term_ms = 0;
    launcher_end_at(c, now_ms(c) + (terminal ? INTERRUPT_MS : TERM_MS));
}

/* ---- the phase --------------------------------------------------------------------------- */

static int make_token(struct coord *c, struct err *err)
{
    unsigned char bytes[PROTO_TOKEN_LEN / 2];
    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        return err_sys(err, "cannot make a secret");
    for (size_t i = 0; i < sizeof bytes; i++)
        snprintf(c->token + 2 * i, 3, "%02x", bytes[i]);
    return 0;
}

static int start_listening(struct coord *c, unsigned *port, struct err *err)
{
    struct sockaddr_in address;
    int length = sizeof address;
    uv_ip4_addr("127.0.0.1", 0, &address);
    int rc = uv_tcp_bind(&c->listener, (struct sockaddr *)&address, 0);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&c->listener, 1024, on_connection);
    if (rc == 0)
        rc = uv_tcp_getsockname(&c->listener, (struct sockaddr *)&address, &length);
    if (rc < 0)
        return err_set(err, "cannot listen on 127.0.0.1: %s", uv_strerror(rc));
    *port = ntohs(address.sin_port);
    return 0;
}

static void start_handles(struct coord *c)
{
    uv_tcp_init(&c->loop, &c->listener);
    c->listener.data = c;
    uv_timer_t *timers[] = {&c->cut_timer, &c->house_timer, &c->every_timer, &c->end_timer,
                            &c->abort_timer};
    for (size_t i = 0; i < sizeof timers / sizeof timers[0]; i++) {
        uv_timer_init(&c->loop, timers[i]);
        timers[i]->data = c;
    }
    uv_signal_t *signals[] = {&c->sigint, &c->sigterm, &c->sighup};
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < 3; i++) {
        uv_signal_init(&c->loop, signals[i]);
        signals[i]->data = c;
        uv_signal_start(signals[i], on_signal, numbers[i]);
    }
    /* armed, but not running until uv_timer_again() */
    uv_timer_start(&c->cut_timer, on_cut_timer, CUT_TICK_MS, CUT_TICK_MS);
    uv_timer_stop(&c->cut_timer);
    uv_timer_start(&c->every_timer, on_every_timer, c->set->every_ms, c->set->every_ms);
    uv_timer_stop(&c->every_timer);
    uv_timer_start(&c->house_timer, on_house_timer, HOUSEKEEPING_MS, HOUSEKEEPING_MS);
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

/* Connections first, by their own close, so that their memory is freed; then the rest. */
static void stop_handles(struct coord *c)
{
    answer_waiting(c, answer_error("the job has ended"));
    for (unsigned r = 0; r < c->nranks; r++)
        if (c->rank[r].conn)
            conn_close(c->rank[r].conn);
    control_close(c->control);
    uv_handle_t *handles[] = {
        (uv_handle_t *)&c->listener,    (uv_handle_t *)&c->cut_timer,
        (uv_handle_t *)&c->house_timer, (uv_handle_t *)&c->every_timer,
        (uv_handle_t *)&c->end_timer,   (uv_handle_t *)&c->sigint,
        (uv_handle_t *)&c->sigterm,     (uv_handle_t *)&c->sighup,
        (uv_handle_t *)&c->abort_timer,
    };
    for (size_t i = 0; i < sizeof handles / sizeof handles[0]; i++)
        close_handle(handles[i], NULL);
    for (int i = 0; i < 100 && uv_run(&c->loop, UV_RUN_NOWAIT); i++)
        usleep(1000);
    uv_walk(&c->loop, close_handle, NULL); /* peers that do not take what they were sent */
    uv_run(&c->loop, UV_RUN_NOWAIT);
    uv_loop_close(&c->loop);
}

static enum session_outcome outcome_of(const struct coord *c)
{
    if (c->interrupted)
        return SESSION_INTERRUPTED;
    if (c->hung)
        return SESSION_HUNG;
    if (c->real_failures || (c->failures && !WIFSIGNALED(c->result.status)))
        return SESSION_FAILED;
    if (c->result.size == 0)
        return SESSION_NO_RANK;
    return c->result.status ? SESSION_LAUNCHER : SESSION_COMPLETED;
}

static void store_end(struct coord *c)
{
    pending_settle(c);
    if (!WIFSIGNALED(c->result.status) || c->signalled)
        vanished_add(c, false);
    recording_settle(c);
    c->result.outcome = outcome_of(c);
    catalog(c, session_phase_end(c->set->session, c->set->phase_id, c->result.outcome,
                                 c->result.status, &c->err));
}

int coord_run(const struct coord_settings *settings, struct coord_result *result, struct err *err)
{
    unsigned port = 0;
    struct coord *c = calloc(1, sizeof *c);
    if (!c)
        return err_sys(err, "coordinator");
    c->set = settings;
    c->term_signal = SIGTERM;
    c->vanished = -1;
    fault_arm(-1);
    int rc = uv_loop_init(&c->loop);
    if (rc < 0) {
        free(c);
        return err_set(err, "coordinator: %s", uv_strerror(rc));
    }
    signal(SIGPIPE, SIG_IGN);
    start_handles(c);
    c->control = control_open(&c->loop, session_dir(settings->session), on_request, c, err);
    rc = -1;
    if (c->control && make_token(c, err) == 0 && start_listening(c, &port, err) == 0 &&
        launcher_start(c, port, err) == 0) {
        uv_run(&c->loop, UV_RUN_DEFAULT);
        store_end(c);
        *result = c->result;
        rc = 0;
    }
    stop_handles(c);
    cut_destroy(c->cut);
    hang_watch_clear(&c->hang);
    while (c->worlds) {
        struct world *w = c->worlds;
        c->worlds = w->next;
        free(w);
    }
    free(c->image);
    free(c->rank);
    free(c);
    return rc;
}
