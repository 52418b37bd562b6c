/*
 * by_message_comm.c - whose ranks the ranks of a communicator are, from the rank's own memory
 *
 * The recording names a communicator by its global id and a peer by its rank there; the stub in the
 * isolated rank knows the members of all communicators that exist at this moment.
 */
#include <inttypes.h>
#include <string.h>

#include "gdbbridge/by_message_private.h"
#include "runtime/half/gate.h"

#define COMMS_MAX 1000000 /* a list that is longer goes in a circle */

static int peek(struct by_message *b, pid_t pid, uint64_t addr, void *to, size_t size)
{
    return b->target->ops->read_memory(b->target, pid, addr, to, size) == (ssize_t)size ? 0 : -1;
}

static int find_offsets(struct by_message *b, pid_t pid, struct gate_comms *comms)
{
    uint64_t stub, at;
    return peek(b, pid, GATE_ADDR + offsetof(struct gate, stub), &stub, sizeof stub) ||
                   peek(b, pid, stub + offsetof(struct gate_stub, comms), &at, sizeof at) ||
                   peek(b, pid, at, comms, sizeof *comms)
               ? -1
               : 0;
}

/* The address of the communicator; 0: there is none with this id now. */
static uint64_t find_comm(struct by_message *b, pid_t pid, const struct gate_comms *comms,
                          uint32_t gid)
{
    uint64_t at = (uint64_t)(uintptr_t)comms->first, number;
    for (size_t i = 0; at && i < COMMS_MAX; i++) {
        if (peek(b, pid, at + comms->gid, &number, sizeof number) < 0)
            return 0;
        if ((uint32_t)number == gid)
            return at;
        if (peek(b, pid, at + comms->next, &at, sizeof at) < 0)
            return 0;
    }
    return 0;
}

/* The first of the ranks in the job that MPI_COMM_WORLD is here: not 0 for spawned processes. */
static int find_world(struct by_message *b, pid_t pid, const struct gate_comms *comms,
                      struct peer *p)
{
    uint64_t world = (uint64_t)(uintptr_t)comms->first;
    int rank;
    if (peek(b, pid, world + comms->rank, &rank, sizeof rank) ||
        peek(b, pid, world + comms->size, &p->world_size, sizeof p->world_size))
        return -1;
    p->world_first = (int)b->options.rank - rank;
    return 0;
}

int by_message_peer(struct by_message *b, uint32_t gid, int peer, struct peer *p, struct err *err)
{
    struct gate_comms comms;
    struct ptid thread;
    int size, remote_size, member = peer;
    uint64_t list;
    if (by_message_thread(b, &thread, err) < 0)
        return -1;
    uint64_t at =
        find_offsets(b, thread.pid, &comms) == 0 ? find_comm(b, thread.pid, &comms, gid) : 0;
    if (!at || find_world(b, thread.pid, &comms, p) < 0 ||
        peek(b, thread.pid, at + comms.rank, &p->self, sizeof p->self) ||
        peek(b, thread.pid, at + comms.size, &size, sizeof size) ||
        peek(b, thread.pid, at + comms.remote_size, &remote_size, sizeof remote_size))
        return err_set(err, "its communicator does not exist at this place: go to its event first, "
                            "with dbg3 goto-msg");
    if (peek(b, thread.pid, at + (remote_size ? comms.remote : comms.members), &list,
             sizeof list) ||
        peer < 0 || peer >= (remote_size ? remote_size : size) ||
        (list && peek(b, thread.pid, list + (uint64_t)peer * sizeof member, &member,
                      sizeof member)))
        return err_set(err, "its communicator cannot be read");
    p->rank = member < 0 ? -1 : p->world_first + member;
    return 0;
}
