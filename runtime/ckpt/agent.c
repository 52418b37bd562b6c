/*
 * agent.c - the rank's end of the session: coordinator, counters, logs
 *
 * One lock (agent.lock) guards the rank's half of the cut and the socket's sending side; it is
 * taken by the agent thread and, during a cut, by application threads that have crossed. No message
 * of a cut is handled while threads wait for it: holders sleep on agent.moved.
 */
#define LOG_MODULE "agent"
#include "runtime/ckpt/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "call_id.h"
#include "runtime/base/fault.h"
#include "runtime/base/log.h"
#include "runtime/ckpt/fatal.h"
#include "runtime/ckpt/fine.h"
#include "runtime/ckpt/order_job.h"
#include "runtime/ckpt/park.h"
#include "runtime/ckpt/payload.h"
#include "runtime/ckpt/save.h"
#include "runtime/coord/counters.h"
#include "runtime/coord/cut_rank.h"
#include "runtime/coord/proto.h"
#include "runtime/half/gate.h"
#include "runtime/half/own_fd.h"
#include "runtime/half/sys.h"
#include "runtime/half/threads.h"

#define PARK_TIMEOUT_MS   20000
#define CONNECT_TIMEOUT_S 20
#define STATE_EVERY_MS    20
#define TELL_TIMEOUT_MS   5000
#define RX_BYTES          (PROTO_BODY_MAX + PROTO_HEADER)
#define COMMS_MAX         65536
#define FINE_BATCH        256
#define HEARD_S           1
#define STAYS_US          100000

enum agent_stage { STAGE_IDLE, STAGE_ASKED, STAGE_PARKED, STAGE_SAVED };

static struct {
    const struct half_env *env;
    pthread_mutex_t lock;
    pthread_cond_t moved; /* a hold may have ended, or an abort has been heard */
    int sock;             /* -1: no coordinator */
    uint64_t world;       /* of spawned processes; 0: the job's own */
    uint8_t *rx;          /* 8-aligned */
    size_t rx_n;
    struct cut_rank cut;
    enum agent_stage stage;
    uint64_t epoch;
    uint64_t last_state, last_progress, last_calls; /* told by, and seen at, the last report */
    uint64_t same_since_us;                         /* neither calls nor progress have moved */
    uint64_t parked_at_us;
    bool running; /* the rank may be parked and saved: between MPI_Init and MPI_Finalize */
    bool started; /* running, or has been */
    uint64_t postponed; /* epoch that was asked for before; 0: none */
    bool finalized, heard;
    /* Requests of application threads to the agent thread. */
    volatile uint32_t want_epoch;
    struct proto_fine fine[FINE_BATCH];
    uint32_t nfine;
    struct gate_coll comms[COMMS_MAX];
    struct proto_comm report[COMMS_MAX];
} agent = {.lock = PTHREAD_MUTEX_INITIALIZER, .moved = PTHREAD_COND_INITIALIZER, .sock = -1};

static uint64_t now_us(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

/* One line for the user. */
static void say(const char *text)
{
    fprintf(stderr, "dbg3: rank %d: %s\n", save_identity.rank, text);
}

static struct counters_file *counters(void)
{
    return GATE->counters;
}

const char *agent_session(void)
{
    return agent.env->session;
}

const char *agent_failure_folder(void)
{
    static char folder[4096];
    if (!agent.env->session)
        return "";
    snprintf(folder, sizeof folder, "%s/failures", agent.env->session);
    return folder;
}

/* ---- sending ---- */

/* A coordinator that does not take it is gone: who reads from the socket will see that. */
static void send_to(int sock, const struct proto_msg *msg)
{
    size_t size = proto_size(msg);
    uint64_t small[64];
    void *buf = size <= sizeof small ? small : malloc(size);
    struct err err;
    ssize_t n = buf ? proto_encode(msg, buf, size, &err) : -1;
    for (ssize_t done = 0; done < n;) {
        ssize_t r = send(sock, (char *)buf + done, (size_t)(n - done), MSG_NOSIGNAL);
        if (r < 0 && errno != EINTR)
            break;
        done += r > 0 ? r : 0;
    }
    if (buf != small)
        free(buf);
}

/* With the lock. */
static void send_locked(const struct proto_msg *msg)
{
    if (agent.sock >= 0)
        send_to(agent.sock, msg);
}

static void send_msg(const struct proto_msg *msg)
{
    pthread_mutex_lock(&agent.lock);
    send_locked(msg);
    pthread_mutex_unlock(&agent.lock);
}

static void send_simple(enum proto_type type)
{
    send_msg(&(struct proto_msg){.type = type, .epoch = agent.epoch});
}

static void send_text(enum proto_type type, const char *text)
{
    send_msg(&(struct proto_msg){.type = type, .epoch = agent.epoch, .u.text = text});
}

/* ---- the cut: what the coordinator asks ---- */

static void wake_holders(void)
{
    pthread_cond_broadcast(&agent.moved);
}

/* With the lock. Brings the table up to date with the communicators that live; reports new ones. */
static void refresh_comms(bool report)
{
    int n = GATE->stub->collectives(agent.comms, COMMS_MAX);
    for (int i = 0; i < n; i++) {
        const struct gate_coll *c = &agent.comms[i];
        bool known = false;
        for (unsigned k = 0; k < agent.cut.ncomm && !known; k++)
            known = agent.cut.comm[k].gid == c->gid;
        if (known)
            continue;
        cut_rank_comm_add(&agent.cut, c->gid, c->members);
        struct proto_comm *mine = &agent.cut.comm[agent.cut.ncomm - 1];
        /* One that came into being during a cut: what is entered on it is all reported. */
        mine->entered = report ? 0 : c->entered;
        mine->inside = report ? 0 : c->inside;
        if (report)
            send_locked(&(struct proto_msg){.type = PROTO_COMM, .epoch = agent.epoch,
                                            .u.coll = {.gid = c->gid, .nmembers = c->members}});
    }
}

static void on_intent(uint64_t epoch)
{
    if (!__atomic_load_n(&agent.started, __ATOMIC_SEQ_CST)) {
        agent.postponed = epoch;
        return;
    }
    agent.epoch = epoch;
    fault_point(FAULT_ASKED);
    const char *unable = GATE->stub ? GATE->stub->unable() : NULL;
    pthread_mutex_lock(&agent.lock);
    if (!agent.running || !GATE->stub || GATE->stub->finalized)
        unable = "the program is ending";
    if (unable) {
        pthread_mutex_unlock(&agent.lock);
        send_text(PROTO_UNABLE, unable);
        return;
    }
    agent.stage = STAGE_ASKED;
    agent.last_state = UINT64_MAX;
    /* The rank stores E, then reads the word; we store the word, then read E. */
    __atomic_or_fetch(&GATE->word, GATE_WORD_INTENT, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    cut_rank_clear(&agent.cut);
    memset(&agent.cut, 0, sizeof agent.cut);
    refresh_comms(false);
    struct proto_msg ack;
    cut_rank_intent(&agent.cut, epoch, &ack);
    send_locked(&ack);
    pthread_mutex_unlock(&agent.lock);
    fault_point(FAULT_ANSWERED);
}

static void after_cut(void)
{
    pthread_mutex_lock(&agent.lock);
    __atomic_and_fetch(&GATE->word, (uint32_t)~GATE_WORD_INTENT, __ATOMIC_SEQ_CST);
    cut_rank_reset(&agent.cut);
    agent.stage = STAGE_IDLE;
    wake_holders();
    pthread_mutex_unlock(&agent.lock);
}

static void set_state(uint64_t state)
{
    if (counters())
        counters_set(&counters()->state, state);
}

static long run_before_save(void *arg)
{
    GATE->stub->before_save();
    return 0;
}

static long run_after_save(void *arg)
{
    GATE->stub->after_save(0);
    return 0;
}

static void unpark(void)
{
    if (agent.stage == STAGE_SAVED)
        park_run_on_main(run_after_save, NULL);
    bool parked = agent.stage >= STAGE_PARKED;
    after_cut();
    if (parked) {
        set_state(COUNTERS_COMPUTING);
        park_resume();
    }
}

static void on_stop(void)
{
    struct err err;
    agent.parked_at_us = now_us();
    __atomic_or_fetch(&GATE->word, GATE_WORD_PARK, __ATOMIC_SEQ_CST);
    pthread_mutex_lock(&agent.lock);
    wake_holders();
    pthread_mutex_unlock(&agent.lock);
    if (park_all(0, PARK_TIMEOUT_MS, &err) < 0) {
        park_resume();
        send_text(PROTO_FAILED, err.text);
        return;
    }
    agent.stage = STAGE_PARKED;
    set_state(COUNTERS_PARKED);
    fault_point(FAULT_PARKED);
    /* What cannot be restored may have been made since the rank was asked. */
    const char *unable = GATE->stub->unable();
    if (unable) {
        send_text(PROTO_UNABLE, unable);
        return;
    }
    int n = 0;
    const uint64_t *sent = GATE->stub->sent(&n);
    send_msg(&(struct proto_msg){.type = PROTO_STOPPED, .epoch = agent.epoch,
                                 .u.peers = {(uint64_t)n, sent}});
}

struct drain {
    const uint64_t *expected;
    int n;
};

static long run_drain(void *arg)
{
    const struct drain *d = arg;
    return GATE->stub->drain_step(d->expected, d->n);
}

/* True if something from the coordinator is waiting: a CANCEL, while draining. */
static bool input_waiting(void)
{
    struct pollfd p = {.fd = agent.sock, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

/* Drains until there is nothing left to do, or with `go_on` until the coordinator has something to
 * say. Returns what the last step did. */
static long drain(struct drain *d, bool go_on)
{
    useconds_t pause = 10;
    long r;
    while ((r = park_run_on_main(run_drain, d)) >= 0 && (r == 0 || go_on) && !input_waiting()) {
        usleep(pause);
        pause = pause < 1000 ? pause * 2 : 1000;
    }
    return r;
}

static void on_drain(const struct proto_msg *msg)
{
    /* The message lives in the receive buffer, which is not read while we are here. */
    struct drain d = {msg->u.peers.messages, (int)msg->u.peers.count};
    long r = drain(&d, false);
    if (r > 0) {
        fault_point(FAULT_DRAINED);
        send_simple(PROTO_DRAINED);
        /* A peer's synchronous send is done when it has our answer, which leaves with our next
         * call if there was no room for it. More than was expected may come now, from a peer that
         * has been told before us that the epoch is given up. */
        d.expected = NULL;
        r = drain(&d, true);
    }
    if (r < 0) {
        char text[128];
        snprintf(text, sizeof text, "cannot receive the messages in flight: %s", strerror((int)-r));
        send_text(PROTO_FAILED, text);
    }
}

static void on_write(const struct proto_msg *msg)
{
    char name[64], path[4096 + 128];
    struct err err;
    struct image_written written;
    struct save_request request = {.path = path, .kind = IMAGE_FULL, .sync = true};
    uint64_t start = now_us();
    snprintf(name, sizeof name, "rank-%d.img", save_identity.rank);
    snprintf(path, sizeof path, "%s/%s", msg->u.folder, name);
    park_run_on_main(run_before_save, NULL);
    agent.stage = STAGE_SAVED;
    request.threads = park_threads(&request.nthreads);
    uint64_t before = save_identity.epoch;
    save_identity.epoch = agent.epoch;
    if (save_image(&request, &written, &err) < 0) {
        save_identity.epoch = before;
        send_text(PROTO_FAILED, err.text);
        return;
    }
    if (counters())
        counters_set(&counters()->epoch, agent.epoch);
    uint64_t id;
    memcpy(&id, written.id.bytes, sizeof id);
    send_msg(&(struct proto_msg){.type = PROTO_WRITTEN,
                                 .epoch = agent.epoch,
                                 .u.written = {.file = name,
                                               .bytes = written.file_bytes,
                                               .us_write = now_us() - start,
                                               .us_pause = now_us() - agent.parked_at_us,
                                               .id = id}});
    fault_point(FAULT_WRITTEN);
}

static void coordinator_lost(const char *why)
{
    own_fd_close(agent.sock);
    agent.sock = -1;
    agent.rx_n = 0;
    agent.postponed = 0;
    if (agent.finalized)
        return;
    if (agent.stage != STAGE_IDLE)
        unpark();
    if (save_identity.rank == 0 && !agent.heard)
        say(why);
}

static void on_message(const struct proto_msg *msg)
{
    char text[256];
    log_debug("rank %d <- %s", save_identity.rank, proto_text(msg, text, sizeof text));
    bool ours = msg->epoch == agent.epoch && agent.stage != STAGE_IDLE;
    switch (msg->type) {
    case PROTO_INTENT:
        on_intent(msg->epoch);
        break;
    case PROTO_ARM:
        if (!ours)
            break;
        pthread_mutex_lock(&agent.lock);
        cut_rank_arm(&agent.cut, msg);
        wake_holders();
        pthread_mutex_unlock(&agent.lock);
        send_simple(PROTO_ARMED);
        fault_point(FAULT_ARMED);
        break;
    case PROTO_RAISE:
        if (!ours)
            break;
        pthread_mutex_lock(&agent.lock);
        cut_rank_raise(&agent.cut, msg);
        wake_holders();
        pthread_mutex_unlock(&agent.lock);
        break;
    case PROTO_STOP:
        if (ours)
            on_stop();
        break;
    case PROTO_DRAIN:
        if (ours && agent.stage == STAGE_PARKED)
            on_drain(msg);
        break;
    case PROTO_WRITE:
        if (ours && agent.stage == STAGE_PARKED)
            on_write(msg);
        break;
    case PROTO_RESUME:
        if (ours)
            fault_point(FAULT_RESUMING);
        if (ours && agent.stage == STAGE_SAVED && msg->u.committed)
            order_job_epoch(agent.epoch);
        /* fall through */
    case PROTO_CANCEL:
        if (msg->epoch == agent.postponed)
            agent.postponed = 0;
        if (ours)
            unpark();
        break;
    case PROTO_HEARD:
        pthread_mutex_lock(&agent.lock);
        agent.heard = true;
        pthread_cond_broadcast(&agent.moved);
        pthread_mutex_unlock(&agent.lock);
        break;
    case PROTO_EXAMINE:
        fatal_examine(msg->u.text);
        break;
    case PROTO_SHUTDOWN:
        say(msg->u.text && *msg->u.text ? msg->u.text : "the job is over");
        _exit(HALF_EXIT);
    default:
        break;
    }
}

/* ---- the thread ---- */

static void receive(void)
{
    struct err err;
    ssize_t n = recv(agent.sock, agent.rx + agent.rx_n, RX_BYTES - agent.rx_n, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        coordinator_lost(
            "the coordinator (dbg3) is gone; the job goes on without further checkpoints");
        return;
    }
    agent.rx_n += n > 0 ? (size_t)n : 0;
    while (agent.sock >= 0) {
        struct proto_msg msg;
        ssize_t used = proto_decode(agent.rx, agent.rx_n, &msg, &err);
        if (used == 0)
            return;
        if (used < 0) {
            coordinator_lost(err.text);
            return;
        }
        on_message(&msg);
        if (agent.sock < 0)
            return;
        agent.rx_n -= (size_t)used;
        memmove(agent.rx, agent.rx + used, agent.rx_n);
    }
}

/* What the rank does, for the coordinator's decision about releases. */
static void report_state(void)
{
    const struct counters_file *c = counters();
    if (!c || agent.stage != STAGE_ASKED)
        return;
    uint64_t state = counters_get(&c->state), progress = counters_get(&c->messages);
    uint64_t calls = counters_get(&c->calls);
    if (state == COUNTERS_HOLDING)
        return; /* HOLD has told it */
    /* Calls that complete nothing are tests, probes and the like: it asks in a loop. One that takes
     * long waits for others, too: for a lock or the end of an epoch of a window. */
    bool moved = progress != agent.last_progress, same = calls == agent.last_calls && !moved;
    bool asks = calls != agent.last_calls && !moved;
    if (!same)
        agent.same_since_us = now_us();
    bool stays = state == COUNTERS_IN_CALL && now_us() - agent.same_since_us > STAYS_US;
    agent.last_calls = calls;
    uint64_t told = state == COUNTERS_WAITING      ? PROTO_STATE_WAITING
                    : state == COUNTERS_COLLECTIVE ? PROTO_STATE_INSIDE
                    : asks || stays                ? PROTO_STATE_WAITING
                                                   : PROTO_STATE_COMPUTING;
    if (told == agent.last_state && progress == agent.last_progress)
        return;
    agent.last_state = told;
    agent.last_progress = progress;
    send_msg(&(struct proto_msg){.type = PROTO_STATE, .epoch = agent.epoch,
                                 .u.state = {told, progress}});
}

static void serve_requests(void)
{
    threads_serve();
    if (agent.postponed && __atomic_load_n(&agent.started, __ATOMIC_SEQ_CST)) {
        uint64_t epoch = agent.postponed;
        agent.postponed = 0;
        on_intent(epoch);
    }
    if (__atomic_exchange_n(&agent.want_epoch, 0, __ATOMIC_SEQ_CST))
        send_msg(&(struct proto_msg){
            .type = PROTO_WANT,
            .u.want = {PROTO_WANT_MESSAGES, counters() ? counters_get(&counters()->messages) : 0}});
}

void agent_run(void)
{
    pthread_setname_np(pthread_self(), "dbg3-agent");
    for (;;) {
        struct pollfd p[2] = {{.fd = threads_wake_fd(), .events = POLLIN},
                              {.fd = agent.sock, .events = POLLIN}};
        poll(p, 2, agent.stage == STAGE_ASKED ? STATE_EVERY_MS : -1);
        uint64_t wakes;
        if (p[0].revents && read(threads_wake_fd(), &wakes, sizeof wakes) > 0)
            serve_requests();
        if (agent.sock >= 0 && (p[1].revents || agent.rx_n > 0))
            receive();
        report_state();
    }
}

/* ---- connection ---- */

static int dial(const char *address, struct err *err)
{
    char host[256];
    const char *colon = strrchr(address, ':');
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list;
    if (!colon || (size_t)(colon - address) >= sizeof host)
        return err_set(err, "%s is no address (host:port)", address);
    memcpy(host, address, (size_t)(colon - address));
    host[colon - address] = '\0';
    int rc = getaddrinfo(host, colon + 1, &hints, &list);
    if (rc != 0)
        return err_set(err, "coordinator %s: %s", address, gai_strerror(rc));
    int fd = -1;
    for (struct addrinfo *a = list; a && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) < 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    if (fd < 0)
        return err_sys(err, "cannot reach the coordinator at %s", address);
    int one = 1;
    fd = own_fd_take(fd);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

/*
 * Says HELLO and waits for the answer, which tells a spawned process its rank in the job. The agent
 * does not know the socket yet. What the coordinator may have sent behind its answer stays in
 * agent.rx.
 */
static int hello(int fd, struct err *err)
{
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    const char *phase = agent.env->phase ? agent.env->phase : "";
    uint64_t kind = strcmp(phase, "refine") == 0    ? PROTO_PHASE_REFINE
                    : strcmp(phase, "restart") == 0 ? PROTO_PHASE_RESTART
                                                    : PROTO_PHASE_BATCH;
    struct proto_msg msg = {.type = PROTO_HELLO,
                            .u.hello = {.token = agent.env->token,
                                        .rank = (uint64_t)save_identity.rank,
                                        .size = (uint64_t)save_identity.size,
                                        .pid = (uint64_t)getpid(),
                                        .world = agent.world,
                                        .phase = kind,
                                        .host = host,
                                        .program = save_identity.program}};
    send_to(fd, &msg);
    for (;;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n = -1, used;
        if (poll(&p, 1, CONNECT_TIMEOUT_S * 1000) > 0)
            n = recv(fd, agent.rx + agent.rx_n, RX_BYTES - agent.rx_n, 0);
        if (n <= 0)
            return err_set(err, "the coordinator does not answer");
        agent.rx_n += (size_t)n;
        used = proto_decode(agent.rx, agent.rx_n, &msg, err);
        if (used < 0)
            return -1;
        if (used == 0)
            continue;
        int r = 0;
        if (msg.type == PROTO_WELCOME)
            save_identity.rank = (int)msg.u.welcome.rank;
        else
            r = err_set(err, "the coordinator refuses this rank: %s",
                        msg.type == PROTO_REFUSED ? msg.u.text : "unexpected answer");
        agent.rx_n -= (size_t)used;
        memmove(agent.rx, agent.rx + used, agent.rx_n);
        return r;
    }
}

/* Without a coordinator the job runs on, only without checkpoints. */
static void connect_coordinator(void)
{
    struct err err;
    if (!agent.env->coord)
        return;
    int fd = -1;
    agent.rx = agent.rx ? agent.rx : aligned_alloc(8, RX_BYTES);
    pthread_mutex_lock(&agent.lock);
    if (agent.rx && (fd = dial(agent.env->coord, &err)) >= 0 && hello(fd, &err) == 0) {
        agent.sock = fd;
        pthread_mutex_unlock(&agent.lock);
        threads_wake_agent();
        return;
    }
    own_fd_close(fd);
    agent.sock = -1;
    pthread_mutex_unlock(&agent.lock);
    say(err.text);
    if (save_identity.rank == 0)
        say("the job goes on without checkpoints");
}

/* ---- counters and log ---- */

static int map_counters(struct err *err)
{
    char path[4096];
    if (!agent.env->session)
        return 0;
    snprintf(path, sizeof path, "%s/counters/rank-%d.cnt", agent.env->session, save_identity.rank);
    size_t size = counters_bytes((uint64_t)save_identity.size);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, "cannot make %s", path);
    int rc = posix_fallocate(fd, 0, (off_t)size);
    struct counters_file *c =
        rc == 0 ? mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
    close(fd);
    if (c == MAP_FAILED) {
        errno = rc ? rc : errno;
        return err_sys(err, "cannot map %s", path);
    }
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    c->version = COUNTERS_VERSION;
    c->rank = (uint64_t)save_identity.rank;
    c->size = (uint64_t)save_identity.size;
    c->pid = (uint64_t)getpid();
    c->start_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    c->epoch = save_identity.epoch;
    __atomic_store_n(&c->magic, COUNTERS_MAGIC, __ATOMIC_RELEASE);
    GATE->counters_size = size;
    GATE->counters = c;
    return 0;
}

/* ---- services behind the gate ---- */

/* Tests: the ranks ask for epochs of their own accord (msgcounter/stub/storm.h). */
static void start_storm(void)
{
    unsigned long long calls, seed;
    if (GATE->mode != GATE_LIVE || agent.sock < 0 || !agent.env->storm ||
        sscanf(agent.env->storm, "%llu:%llu", &calls, &seed) != 2 || calls == 0)
        return;
    GATE->settings.storm_calls = calls * (uint64_t)save_identity.size;
    GATE->settings.storm_seed = seed + (uint64_t)save_identity.rank;
    __atomic_or_fetch(&GATE->word, GATE_WORD_STORM, __ATOMIC_SEQ_CST);
}

/* A spawned process that the coordinator does not know has no files of its own: it just runs. */
static int start_alone(void)
{
    half_vdso_of_stub();
    return GATE->mode == GATE_RECORD ? -EIO : save_identity.rank;
}

static int job_started(int rank, int size, int level, uint64_t world)
{
    struct err err;
    save_identity.rank = rank;
    save_identity.size = size;
    agent.world = world;
    fault_arm(rank);
    GATE->settings.oversubscribed = size > sysconf(_SC_NPROCESSORS_ONLN);
    connect_coordinator();
    if (world && agent.sock < 0)
        return start_alone();
    if (map_counters(&err) < 0) {
        say(err.text);
        return -EIO;
    }
    order_job_start(agent.env, 0);
    half_vdso_of_stub();
    if (GATE->mode == GATE_RECORD && fine_start(&err) < 0) {
        say(err.text);
        return -EIO;
    }
    start_storm();
    agent_running();
    return save_identity.rank;
}

int agent_restarted(const struct image_state *state, struct err *err)
{
    save_identity.rank = state->meta.rank;
    save_identity.size = state->meta.size;
    fault_arm(save_identity.rank);
    GATE->settings.oversubscribed = save_identity.size > sysconf(_SC_NPROCESSORS_ONLN);
    if (map_counters(err) < 0)
        return -1;
    connect_coordinator();
    fault_point(FAULT_RESTARTED);
    order_job_start(agent.env, save_identity.epoch);
    half_vdso_of_stub();
    start_storm();
    return GATE->mode == GATE_RECORD ? fine_start(err) : 0;
}

void agent_running(void)
{
    __atomic_store_n(&agent.running, true, __ATOMIC_SEQ_CST);
    __atomic_store_n(&agent.started, true, __ATOMIC_SEQ_CST);
    threads_wake_agent();
}

/* An epoch that is under way comes first: inside MPI_Finalize the rank would not stop for it. */
static int job_ending(void)
{
    pthread_mutex_lock(&agent.lock);
    bool under_way = agent.stage != STAGE_IDLE;
    if (!under_way)
        __atomic_store_n(&agent.running, false, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&agent.lock);
    __atomic_and_fetch(&GATE->word, (uint32_t)~GATE_WORD_STORM, __ATOMIC_SEQ_CST);
    if (under_way)
        set_state(COUNTERS_WAITING);
    return under_way ? GATE_EAGAIN : 0;
}

/* Tells of the fine checkpoints that have not been told of. */
static void flush_fine(void)
{
    if (agent.nfine > 0)
        send_msg(&(struct proto_msg){.type = PROTO_FINE, .u.fine = {agent.nfine, agent.fine}});
    agent.nfine = 0;
}

static void job_ended(void)
{
    flush_fine();
    set_state(COUNTERS_FINALIZED);
    agent.finalized = true;
    send_simple(PROTO_FINALIZED);
}

static void job_abort(int code, uint64_t site)
{
    char text[64];
    snprintf(text, sizeof text, "MPI_Abort with code %d", code);
    agent_failure(&(struct agent_failure){
        .kind = PROTO_FAILURE_ABORT, .code = (uint64_t)(int64_t)code, .text = text, .pc = site});
}

static void job_exit(int status)
{
    fflush(NULL);
    if (save_identity.rank < 0)
        return;
    if (!agent.finalized)
        agent_failure(&(struct agent_failure){.kind = PROTO_FAILURE_EXIT,
                                              .code = (uint64_t)status & 0xff,
                                              .text = "exit before MPI_Finalize"});
    else
        send_simple(PROTO_BYE);
}

static void want_epoch(void)
{
    __atomic_store_n(&agent.want_epoch, 1, __ATOMIC_SEQ_CST);
    threads_wake_agent();
}

static int coll_enter(uint64_t gid, uint32_t members, uint64_t entered)
{
    bool held = false;
    int result = 0;
    pthread_mutex_lock(&agent.lock);
    if (agent.stage != STAGE_IDLE)
        refresh_comms(true);
    while (agent.stage != STAGE_IDLE) {
        /* Counted already when this rank answered the intent: the others reckon with it. */
        if (entered <= cut_rank_entered(&agent.cut, gid))
            break;
        if (cut_rank_may_enter(&agent.cut)) {
            struct proto_msg msg = {
                .type = PROTO_ENTER, .epoch = agent.epoch, .u.coll = {.gid = gid}};
            msg.u.coll.entered = cut_rank_count(&agent.cut, gid);
            send_locked(&msg);
            break;
        }
        if (GATE->word & GATE_WORD_PARK) {
            result = GATE_EAGAIN;
            break;
        }
        if (!held) {
            set_state(COUNTERS_HOLDING);
            send_locked(&(struct proto_msg){
                .type = PROTO_HOLD, .epoch = agent.epoch,
                .u.coll = {.gid = gid, .entered = cut_rank_entered(&agent.cut, gid)}});
            held = true;
        }
        pthread_cond_wait(&agent.moved, &agent.lock);
    }
    pthread_mutex_unlock(&agent.lock);
    set_state(COUNTERS_COLLECTIVE);
    return result;
}

static int coll_leave(uint64_t gid, uint32_t members, uint64_t entered)
{
    pthread_mutex_lock(&agent.lock);
    if (agent.stage != STAGE_IDLE) {
        refresh_comms(true);
        if (cut_rank_done(&agent.cut, gid))
            send_locked(&(struct proto_msg){.type = PROTO_LEAVE, .epoch = agent.epoch,
                                            .u.coll = {.gid = gid, .entered = entered}});
    }
    pthread_mutex_unlock(&agent.lock);
    return 0;
}

static int coll_count(uint64_t gid, uint32_t members, uint64_t entered)
{
    pthread_mutex_lock(&agent.lock);
    if (agent.stage != STAGE_IDLE) {
        refresh_comms(true);
        struct proto_msg msg = {.type = PROTO_COMM, .epoch = agent.epoch,
                                .u.coll = {.gid = gid, .nmembers = members}};
        msg.u.coll.entered = cut_rank_set(&agent.cut, gid, entered);
        send_locked(&msg);
    }
    pthread_mutex_unlock(&agent.lock);
    return 0;
}

/* ---- ends ---- */

/* The file mapped at an address, and the offset in it. */
static void locate(uint64_t pc, char *module, size_t cap, uint64_t *offset)
{
    struct save_regions regions = {0};
    struct err err;
    module[0] = '\0';
    *offset = 0;
    if (!pc || save_regions_read(&regions, &err) < 0)
        return;
    for (size_t i = 0; i < regions.n; i++) {
        const struct image_region *r = &regions.region[i];
        if (r->start <= pc && pc < r->end && r->path) {
            snprintf(module, cap, "%s", r->path);
            *offset = pc - r->start + r->offset;
        }
    }
    save_regions_free(&regions);
}

/* An abort ends all ranks: first the coordinator sees which of them had gone before. */
static void wait_until_heard(void)
{
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += HEARD_S;
    pthread_mutex_lock(&agent.lock);
    while (agent.sock >= 0 && !agent.heard &&
           pthread_cond_timedwait(&agent.moved, &agent.lock, &limit) == 0)
        ;
    pthread_mutex_unlock(&agent.lock);
}

void agent_failure(const struct agent_failure *f)
{
    int32_t call = -1;
    uint64_t site = 0, event = 0;
    char module[4096];
    if (GATE->stub && GATE->stub->where)
        GATE->stub->where(&call, &site, &event);
    if (counters() && counters_get(&counters()->call) == 0)
        call = -1; /* it has returned from that one */
    const char *name = call < 0 ? NULL : call_id_name((unsigned long)call);
    struct proto_msg msg = {
        .type = PROTO_FAILURE,
        .u.failure = {.kind = (uint64_t)f->kind, .code = f->code, .text = f->text ? f->text : "",
                      .call = name ? name : "", .event = event, .image = f->image ? f->image : "",
                      .pc = f->pc ? f->pc : site, .address = f->address},
    };
    flush_fine();
    locate(msg.u.failure.pc, module, sizeof module, &msg.u.failure.module_offset);
    msg.u.failure.module = module;
    set_state(COUNTERS_DEAD);
    send_msg(&msg);
    if (proto_failure_waits((uint64_t)f->kind, f->code))
        wait_until_heard();
    /* what is sent must have left before the launcher kills us */
    if (agent.sock >= 0 && f->kind != PROTO_FAILURE_HANG)
        shutdown(agent.sock, SHUT_WR);
}

void agent_refuse(int rank, int size, const struct err *why)
{
    if (size > 0 && agent.sock < 0) {
        save_identity.rank = rank;
        save_identity.size = size;
        connect_coordinator();
    }
    if (agent.sock < 0)
        half_die(why);
    agent_failure(&(struct agent_failure){
        .kind = PROTO_FAILURE_RESTORE, .code = HALF_EXIT, .text = why->text});
    fflush(NULL);
    _exit(HALF_EXIT);
}

void agent_fine(uint64_t number, uint64_t event, uint64_t bytes, uint64_t us)
{
    if (counters())
        counters_set(&counters()->fine, number);
    agent.fine[agent.nfine++] = (struct proto_fine){number, event, bytes, us};
    if (agent.nfine == FINE_BATCH)
        flush_fine();
}

/* [any FS] An end that the stub explains. Lower code is needed for the message: switch. */
static int stop(int code, const char *text)
{
    uint64_t fs = fs_base();
    set_fs_base(fs >= GATE_ADDR ? fs : GATE->thread_attach());
    say(text);
    agent_failure(&(struct agent_failure){.kind = PROTO_FAILURE_ERROR, .code = (uint64_t)code,
                                          .text = text});
    _exit(code);
}

void agent_app_loaded(const struct load *load)
{
    save_identity.mm = load->mm;
    save_identity.entry = load->app_entry;
    save_identity.stack_limit = agent.env->stack_limit;
    snprintf(save_identity.program, sizeof save_identity.program, "%s", agent.env->exe);
    save_identity.build_id_len = (uint8_t)image_build_id(agent.env->exe, save_identity.build_id);
}

void agent_init(const struct half_env *env)
{
    agent.env = env;
    snprintf(save_identity.program, sizeof save_identity.program, "%s", env->exe);
    fine_init(env->keep, env->overhead);
    payload_init();
    GATE->settings.fine_every = GATE->mode == GATE_RECORD ? env->every_n_msgs : 0;
    GATE->settings.epoch_every = GATE->mode == GATE_RECORD ? 0 : env->every_n_msgs;
    GATE->job_started = job_started;
    GATE->job_ending = job_ending;
    GATE->job_ended = job_ended;
    GATE->job_abort = job_abort;
    GATE->job_exit = job_exit;
    GATE->want_epoch = want_epoch;
    GATE->coll_enter = coll_enter;
    GATE->coll_leave = coll_leave;
    GATE->coll_count = coll_count;
    GATE->stop = stop;
}
