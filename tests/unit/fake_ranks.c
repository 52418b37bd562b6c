/*
 * fake_ranks.c - a launcher and its ranks in one process, without MPI: cut_sim.h's ranks, each with
 * a real connection to the coordinator
 *
 *     fake_ranks [-n RANKS] [-o OPS] [-p PERCENT_P2P] [-s SEED] [-u US_PER_STEP] [-x STATUS]
 *                [-e EPOCHS] [-a ACT]
 *
 * The ranks do not finalize before EPOCHS cuts have come to an end, good or bad.
 *
 * ACT makes something go wrong half-way:
 *     die        rank 1 reports SIGSEGV, then every connection ends
 *     abort      rank 1 reports MPI_Abort(7)
 *     notice     the same, because rank 2 is gone, whose connection ends a little later
 *     library    ranks 1 and 0 report SIGABRT instead, for the same reason
 *     kill       rank 1's connection ends without a word, then the others'
 *     hang       nobody moves any more; EXAMINE is answered
 *     unable     rank 1 answers INTENT with UNABLE
 *     torn       rank 1's image has fewer bytes than it says
 *     killwrite  rank 1's connection ends when it is told to write
 *     secret     a wrong secret is shown; ends when refused
 *     garbage    bytes that are not the protocol
 *     launcher   the launcher is killed (here: with all its ranks)
 *     none       no rank at all
 *     want       each rank asks for epochs as it gets on
 *     spawn      SPAWNED processes of another world come when half of the work is done, and go
 *                after 300 ms; they are told their ranks in the job, and nothing of epochs
 *     linger     after the program's end the connections stay until SHUTDOWN
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "runtime/coord/counters.h"
#include "tests/unit/cut_sim.h"

#define RANKS_MAX 64
#define FRAME_MAX (1 << 16)
#define SPAWNED   2
#define WORLD     77 /* theirs */

struct agent {
    int fd; /* -1: ended */
    size_t used;
    uint64_t in[FRAME_MAX / 8];
    char folder[PATH_MAX];
    struct counters_file *counters;
};

static struct agent agents[RANKS_MAX];
static struct sim *sim;
static unsigned nranks = 4, nspawned;
static const char *act = "";
static bool acted;
static int cuts_wanted;

static bool acts(const char *what)
{
    return !strcmp(act, what);
}

static bool acted_out; /* what was spawned has left */

static bool must_stay(void)
{
    return cuts_wanted > 0 || (acts("spawn") && !acted_out);
}

static void hang_up(unsigned rank)
{
    if (agents[rank].fd >= 0)
        close(agents[rank].fd);
    agents[rank].fd = -1;
}

static void transmit(unsigned rank, const struct proto_msg *msg)
{
    static uint64_t frame[FRAME_MAX / 8];
    struct err err;
    ssize_t n = proto_encode(msg, frame, sizeof frame, &err);
    if (n < 0) {
        fprintf(stderr, "fake_ranks: %s\n", err.text);
        exit(99);
    }
    if (agents[rank].fd >= 0 && write(agents[rank].fd, frame, (size_t)n) != n)
        hang_up(rank);
}

static void write_image(unsigned rank, struct proto_msg *msg)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", agents[rank].folder, msg->u.written.file);
    FILE *f = fopen(path, "w");
    uint64_t bytes = msg->u.written.bytes - (acts("torn") && rank == 1);
    for (uint64_t i = 0; f && i < bytes; i++)
        fputc('x', f);
    if (!f || fclose(f))
        perror(path);
}

/* From the simulated rank to its connection. */
static void on_send(void *arg, unsigned rank, const struct proto_msg *msg)
{
    struct proto_msg copy = *msg;
    if (msg->type == PROTO_ACK && acts("unable") && rank == 1)
        copy = (struct proto_msg){.type = PROTO_UNABLE, .epoch = msg->epoch,
                                  .u.text = "MPI_Win object alive"};
    if (msg->type == PROTO_WRITTEN)
        write_image(rank, &copy);
    transmit(rank, &copy);
}

static void examine(unsigned rank)
{
    transmit(rank, &(struct proto_msg){.type = PROTO_FAILURE,
                                       .u.failure = {.kind = PROTO_FAILURE_HANG,
                                                     .call = "MPI_Recv"}});
}

static void on_message_to_spawned(unsigned rank, const struct proto_msg *msg)
{
    if (msg->type == PROTO_WELCOME && msg->u.welcome.rank == rank)
        return;
    fprintf(stderr, "fake_ranks: rank %u, spawned, got %s\n", rank,
            proto_type_name((unsigned)msg->type));
    exit(95);
}

static void on_message(unsigned rank, const struct proto_msg *msg)
{
    if (rank >= nranks) {
        on_message_to_spawned(rank, msg);
        return;
    }
    switch (msg->type) {
    case PROTO_WELCOME:
        break;
    case PROTO_REFUSED:
        fprintf(stderr, "fake_ranks: refused: %s\n", msg->u.text);
        hang_up(rank);
        break;
    case PROTO_EXAMINE:
        examine(rank);
        break;
    case PROTO_SHUTDOWN:
        hang_up(rank);
        break;
    case PROTO_RESUME:
    case PROTO_CANCEL:
        sim_control(sim, rank, msg);
        cuts_wanted -= rank == 0;
        sim_stay(sim, must_stay());
        break;
    case PROTO_WRITE:
        if (acts("killwrite") && rank == 1) {
            hang_up(rank);
            usleep(300000);
            exit(9);
        }
        snprintf(agents[rank].folder, sizeof agents[rank].folder, "%s", msg->u.folder);
        /* fall through */
    default:
        sim_control(sim, rank, msg);
    }
}

static void receive(unsigned rank)
{
    struct agent *a = &agents[rank];
    struct err err;
    ssize_t n = read(a->fd, (char *)a->in + a->used, sizeof a->in - a->used);
    if (n <= 0) {
        hang_up(rank);
        return;
    }
    a->used += (size_t)n;
    size_t done = 0;
    struct proto_msg msg;
    while ((n = proto_decode((char *)a->in + done, a->used - done, &msg, &err)) > 0) {
        on_message(rank, &msg);
        done += (size_t)n;
    }
    if (n < 0) {
        fprintf(stderr, "fake_ranks: %s\n", err.text);
        exit(99);
    }
    memmove(a->in, (char *)a->in + done, a->used - done);
    a->used -= done;
}

static int dial(void)
{
    const char *where = getenv(PROTO_ENV_COORD);
    struct sockaddr_in address = {.sin_family = AF_INET};
    const char *colon = where ? strchr(where, ':') : NULL;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (!colon)
        exit(98);
    address.sin_port = htons((uint16_t)atoi(colon + 1));
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        perror("connect");
        exit(98);
    }
    return fd;
}

static void hello(unsigned rank)
{
    char program[PATH_MAX] = "";
    const char *phase = getenv("DBG3_PHASE") ?: "batch";
    if (readlink("/proc/self/exe", program, sizeof program - 1) < 0)
        perror("/proc/self/exe");
    agents[rank].fd = dial();
    transmit(rank, &(struct proto_msg){
                       .type = PROTO_HELLO,
                       .u.hello = {.token = acts("secret") ? "0123" : getenv(PROTO_ENV_TOKEN),
                                   .rank = rank < nranks ? rank : rank - nranks,
                                   .size = rank < nranks ? nranks : SPAWNED,
                                   .world = rank < nranks ? 0 : WORLD,
                                   .pid = (uint64_t)getpid(),
                                   .phase = !strcmp(phase, "batch")     ? PROTO_PHASE_BATCH
                                            : !strcmp(phase, "restart") ? PROTO_PHASE_RESTART
                                                                        : PROTO_PHASE_REFINE,
                                   .host = "fakehost",
                                   .program = program}});
}

/* The counters file a real rank would map. */
static void counters_make(unsigned rank)
{
    char path[PATH_MAX];
    const char *session = getenv("DBG3_SESSION");
    if (!session)
        return;
    snprintf(path, sizeof path, "%s/counters/rank-%u.cnt", session, rank);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)counters_bytes(nranks)) < 0)
        exit(97);
    struct counters_file *c =
        mmap(NULL, counters_bytes(nranks), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (c == MAP_FAILED)
        exit(97);
    c->version = COUNTERS_VERSION;
    c->rank = rank;
    c->size = nranks;
    c->pid = (uint64_t)getpid();
    c->state = COUNTERS_COMPUTING;
    c->magic = COUNTERS_MAGIC;
    agents[rank].counters = c;
}

static void counters_update(unsigned rank)
{
    struct counters_file *c = agents[rank].counters;
    uint64_t before = c ? counters_get(&c->messages) : 0, now = sim_progress(sim, rank);
    if (!c || now == before)
        return;
    counters_set(&c->messages, now);
    counters_set(&c->collectives, now / 2);
    counters_set(&c->sent_msgs, now / 4);
    counters_set(&c->sent_bytes, now * 100);
    if (acts("want") && now / 20 != before / 20)
        transmit(rank, &(struct proto_msg){.type = PROTO_WANT,
                                           .u.want = {PROTO_WANT_MESSAGES, now}});
}

static void fail_now(void)
{
    struct proto_msg msg = {.type = PROTO_FAILURE,
                            .u.failure = {.kind = PROTO_FAILURE_SIGNAL, .code = SIGSEGV,
                                          .call = "MPI_Recv", .event = 42, .address = 0x10}};
    bool abort = acts("abort") || acts("notice");
    if (abort) {
        msg.u.failure.kind = PROTO_FAILURE_ABORT;
        msg.u.failure.code = 7;
        msg.u.failure.text = "MPI_Abort(MPI_COMM_WORLD, 7)";
    }
    if (acts("library"))
        msg.u.failure.code = SIGABRT;
    if (!acts("kill"))
        transmit(1, &msg);
    if (acts("library"))
        transmit(0, &msg);
    hang_up(acts("notice") || acts("library") ? 2 : 1);
    usleep(300000); /* the order of two ends that are read at once cannot be told */
    exit(abort ? 7 : 9);
}

static uint64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static uint64_t spawned_until_ms;

static void spawn(void)
{
    while (nspawned < SPAWNED)
        hello(nranks + nspawned++);
    spawned_until_ms = now_ms() + 300;
}

static bool spawned_here(void)
{
    return nspawned && agents[nranks].fd >= 0;
}

static void spawned_leave(void)
{
    if (!spawned_here() || now_ms() < spawned_until_ms)
        return;
    for (unsigned r = nranks; r < nranks + nspawned; r++) {
        transmit(r, &(struct proto_msg){.type = PROTO_BYE});
        hang_up(r);
    }
    acted_out = true;
    sim_stay(sim, must_stay());
}

/* The mishap, once half of the work is done. */
static bool act_now(uint64_t total)
{
    if (acted || sim_progress(sim, 1) < total / 2)
        return false;
    acted = true;
    if (acts("die") || acts("kill") || acts("abort") || acts("notice") ||
        acts("library"))
        fail_now();
    if (acts("launcher"))
        raise(SIGKILL);
    if (acts("spawn"))
        spawn();
    return acts("hang");
}

static void serve(int timeout_ms)
{
    struct pollfd fds[RANKS_MAX];
    unsigned n = nranks + nspawned;
    for (unsigned r = 0; r < n; r++)
        fds[r] = (struct pollfd){.fd = agents[r].fd, .events = POLLIN};
    if (poll(fds, n, timeout_ms) <= 0)
        return;
    for (unsigned r = 0; r < n; r++)
        if (fds[r].revents)
            receive(r);
}

static bool any_connected(void)
{
    for (unsigned r = 0; r < nranks; r++)
        if (agents[r].fd >= 0)
            return true;
    return false;
}

static void run(unsigned us, unsigned ops)
{
    bool hanging = false;
    while (any_connected() && (!sim_done(sim) || spawned_here())) {
        bool moved = false;
        for (unsigned r = 0; r < nranks && !hanging; r++) {
            moved |= sim_step(sim, r);
            counters_update(r);
        }
        hanging |= act_now(ops);
        spawned_leave();
        serve(moved ? 0 : 5);
        if (us)
            usleep(us);
    }
    while (acts("linger") && any_connected())
        serve(100);
}

static void garbage(void)
{
    static const char text[] = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    char answer[64];
    int fd = dial();
    if (write(fd, text, sizeof text) < 0 || read(fd, answer, sizeof answer) < 0)
        perror("garbage");
    close(fd);
}

int main(int argc, char **argv)
{
    struct sim_options options = {.nops = 60, .percent_p2p = 30, .seed = 1};
    unsigned us = 200;
    int opt, status = 0;
    signal(SIGPIPE, SIG_IGN);
    while ((opt = getopt(argc, argv, "n:o:p:s:u:x:e:a:")) != -1) {
        switch (opt) {
        case 'n': nranks = (unsigned)atoi(optarg); break;
        case 'o': options.nops = (unsigned)atoi(optarg); break;
        case 'p': options.percent_p2p = (unsigned)atoi(optarg); break;
        case 's': options.seed = (uint64_t)atoll(optarg); break;
        case 'u': us = (unsigned)atoi(optarg); break;
        case 'x': status = atoi(optarg); break;
        case 'e':
            cuts_wanted = atoi(optarg);
            break;
        case 'a': act = optarg; break;
        default: return 2;
        }
    }
    if (acts("none"))
        return status;
    if (acts("garbage")) {
        garbage();
        return status;
    }
    options.nranks = nranks;
    sim = sim_create(&options, on_send, NULL);
    sim_stay(sim, must_stay());
    for (unsigned r = 0; r < nranks; r++) {
        counters_make(r);
        hello(r);
    }
    run(us, options.nops);
    if (sim_violation(sim)) {
        fprintf(stderr, "fake_ranks: %s\n", sim_violation(sim));
        return 96;
    }
    for (unsigned r = 0; r < nranks && sim_done(sim); r++)
        transmit(r, &(struct proto_msg){.type = PROTO_BYE});
    return status;
}
