/*
 * by_message_say.c - when, messages, who-sent: what the recordings say, as text
 */
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gdbbridge/by_message_private.h"
#include "gdbbridge/bytes.h"
#include "runtime/image/image.h"

#define COMMS_MAX    64 /* of a sender in another world, with messages of one tag for one rank */
#define WORLD        1 /* global id of MPI_COMM_WORLD, of which nothing is said */
#define LIST_BEFORE  10
#define LIST_AFTER   5
#define WHEN_MAX     16
#define SENDERS_MAX  16
#define BUFFER_MAX   (64u << 20)

/* ---- one message, one event ---- */

static void describe_comm(uint32_t comm, struct bytes *out)
{
    if (comm != WORLD && comm)
        bytes_printf(out, ", communicator %" PRIx32, comm);
}

void by_message_describe_one(const struct message *m, struct bytes *out)
{
    if (m->kind == MESSAGE_COLLECTIVE) {
        bytes_text(out, "collective");
        return;
    }
    bytes_printf(out, "%s %" PRIu64 " byte%s %s %d, tag %d",
                 m->kind == MESSAGE_SENT ? "sent" : "received", m->bytes, m->bytes == 1 ? "" : "s",
                 m->kind == MESSAGE_SENT ? "to" : "from", m->peer, m->tag);
    describe_comm(m->comm, out);
}

void by_message_describe(const struct recording *r, uint64_t event, struct bytes *out)
{
    const struct recorded_event *e = recording_event(r, event);
    size_t n;
    const struct message *m = recording_messages(r, &n);
    bytes_printf(out, "event %" PRIu64 ": %s", event, e ? e->call : "?");
    if (e && e->nmessages == 1) {
        bytes_text(out, ", ");
        by_message_describe_one(&m[e->message], out);
    } else if (e && e->nmessages) {
        bytes_printf(out, ", %zu messages", e->nmessages);
    }
}

/* ---- when ---- */

static int place(struct by_message *b, struct recording **r, uint64_t *next, struct err *err)
{
    *r = by_message_recording(b, b->options.rank, err);
    return *r && by_message_next_event(b, next, err) == 0 ? 0 : -1;
}

int by_message_when(void *arg, const char *args, struct bytes *out, struct err *err)
{
    struct by_message *b = arg;
    struct recording *r;
    uint64_t next = 0;
    size_t n;
    if (place(b, &r, &next, err) < 0)
        return -1;
    uint64_t here = by_message_here(b), event = here != NO_EVENT ? here : next - 1;
    const struct recorded_event *e = next ? recording_event(r, event) : NULL;
    if (here != NO_EVENT)
        bytes_text(out, "at ");
    else if (next < recording_end(r))
        bytes_printf(out, "%s event %" PRIu64 "; last was ",
                     next ? "before" : "at the start, before", next);
    else
        bytes_text(out, "behind the last event of the recording, ");
    if (!e) {
        bytes_text(out, "none\n");
        return 0;
    }
    by_message_describe(r, event, out);
    if (here != NO_EVENT || next < recording_end(r))
        bytes_printf(out, " (the recording ends with event %" PRIu64 ")", recording_end(r) - 1);
    bytes_text(out, "\n");
    const struct message *m = recording_messages(r, &n);
    for (size_t i = 0; e->nmessages > 1 && i < e->nmessages; i++) {
        if (i == WHEN_MAX) {
            bytes_printf(out, "    and %zu more: monitor messages %" PRIu64 "\n", e->nmessages - i,
                         event);
            break;
        }
        bytes_text(out, "    ");
        by_message_describe_one(&m[e->message + i], out);
        bytes_text(out, "\n");
    }
    return 0;
}

/* ---- messages ---- */

static void list_one(const struct recording *r, const struct message *m, uint64_t here,
                     struct bytes *out)
{
    const struct recorded_event *e = recording_event(r, m->event);
    bytes_printf(out, "%s%9" PRIu64 " %-19s ", m->event == here ? "=>" : "  ", m->event,
                 e->call + (strncmp(e->call, "MPI_", 4) ? 0 : 4));
    if (m->kind != MESSAGE_COLLECTIVE)
        by_message_describe_one(m, out);
    bytes_text(out, "\n");
}

static const char *parse_number(const char *text, uint64_t *number)
{
    char *end;
    text += strspn(text, " \t");
    unsigned long long n = strtoull(text, &end, 0);
    if (end == text || *text == '-' || (*end && !strchr(" \t", *end)))
        return NULL;
    *number = n;
    return end + strspn(end, " \t");
}

/* The events that LIST_BEFORE and LIST_AFTER mean for this filter. */
static void around(const struct recording *r, const struct message_filter *f, uint64_t next,
                   uint64_t *first, uint64_t *last)
{
    *first = *last = next;
    for (int i = 0; i < LIST_BEFORE; i++) {
        uint64_t n = recording_previous(r, *first, f);
        if (n == NO_EVENT)
            break;
        *first = n;
    }
    uint64_t at = next;
    for (int i = 0; i < LIST_AFTER; i++) {
        uint64_t n = recording_next(r, at, f);
        if (n == NO_EVENT)
            break;
        *last = n;
        at = n + 1;
    }
}

int by_message_list(void *arg, const char *args, struct bytes *out, struct err *err)
{
    struct by_message *b = arg;
    struct message_filter f;
    struct recording *r;
    uint64_t next, first = 0, last;
    size_t n;
    if (message_filter_parse(args, &f, &args, err) < 0 || place(b, &r, &next, err) < 0)
        return -1;
    if (*args) {
        if (!(args = parse_number(args, &first)))
            return err_set(err, "FIRST and LAST are numbers of events");
        last = first;
        if (*args && (!(args = parse_number(args, &last)) || *args))
            return err_set(err, "FIRST and LAST are numbers of events");
    } else {
        around(r, &f, next, &first, &last);
    }
    uint64_t here = by_message_here(b);
    here = here != NO_EVENT ? here : next - 1;
    const struct message *m = recording_messages(r, &n);
    bool any = false;
    for (size_t i = 0; i < n; i++)
        if (m[i].event >= first && m[i].event <= last && message_fits(&m[i], &f)) {
            list_one(r, &m[i], here, out);
            any = true;
        }
    if (!any)
        bytes_text(out, "no such message\n");
    return 0;
}

/* ---- who-sent ---- */

/* The newest fine checkpoint of a rank that is not behind an event; 0: none. */
static uint64_t checkpoint_before(const char *session, unsigned rank, uint64_t event)
{
    char folder[PATH_MAX], path[PATH_MAX];
    struct image_window w;
    snprintf(folder, sizeof folder, "%s/fine/rank-%u", session, rank);
    if (image_window_read(folder, &w, NULL) < 0)
        return 0;
    for (uint64_t n = w.newest; n >= w.oldest && n; n--) {
        struct image *image =
            image_window_path(folder, n, path, sizeof path, NULL) == 0 ? image_open(path, NULL)
                                                                       : NULL;
        bool before = image && image_state(image)->meta.position.event <= event;
        image_close(image);
        if (before)
            return n;
    }
    return 0;
}

/* The option that names the session, unless it is the one that dbg3 takes in this folder. */
static void say_session(const struct by_message *b, struct bytes *out)
{
    char usual[PATH_MAX], real[PATH_MAX];
    if (realpath("latest.dbg3", usual) && realpath(b->options.session, real) &&
        !strcmp(usual, real))
        return;
    bytes_printf(out, " --session %s", b->options.session);
}

static void say_command(struct by_message *b, unsigned rank, uint64_t event, struct bytes *out)
{
    uint64_t at = checkpoint_before(b->options.session, rank, event);
    if (!at && !b->options.epoch) {
        bytes_text(out, "    older than the sender's fine checkpoints: dbg3 refine --keep N keeps "
                        "more\n");
        return;
    }
    bytes_text(out, "    dbg3 isolate");
    say_session(b, out);
    if (at)
        bytes_printf(out, " --rank %u --at %" PRIu64, rank, at);
    else
        bytes_printf(out, " --rank %u --from-epoch %" PRIu64, rank, b->options.epoch);
    bytes_printf(out, " under gdb -ex 'dbg3 goto-msg %" PRIu64 "'\n", event);
}

static void say_sent(struct by_message *b, int rank, const struct recording *r,
                     const struct message *sent, struct bytes *out)
{
    bytes_printf(out, "    sent by rank %d at its event %" PRIu64 ", %s\n", rank, sent->event,
                 recording_event(r, sent->event)->call);
    say_command(b, (unsigned)rank, sent->event, out);
}

/* A rank of another MPI_COMM_WORLD that has sent the message, by what its recording says: which of
 * its communicators is that of the receiver is not known. */
static bool find_by_stream(const struct recording *own, int self, const struct message *m,
                           const struct recording *r, const struct message **sent)
{
    size_t n;
    const struct message *s = recording_messages(r, &n);
    struct message_filter to_us = {MESSAGE_SENT, true, true, false, self, m->tag, 0};
    uint32_t comm[COMMS_MAX];
    size_t ncomms = 0, k;
    for (size_t i = 0; i < n && ncomms < COMMS_MAX; i++) {
        if (!message_fits(&s[i], &to_us))
            continue;
        for (k = 0; k < ncomms && comm[k] != s[i].comm;)
            k++;
        if (k < ncomms)
            continue;
        comm[ncomms++] = s[i].comm;
        if (recording_find_sender(own, self, m, r, s[i].comm, sent, NULL) == 0)
            return true;
    }
    return false;
}

/* Those whose messages are alike cannot be told apart. */
static void say_foreign(struct by_message *b, struct recording *own, const struct message *m,
                        const struct peer *p, struct bytes *out)
{
    struct {
        int rank;
        const struct recording *recording;
        const struct message *sent;
    } found[SENDERS_MAX];
    int n = 0;
    const struct message *sent;
    struct recording *r;
    for (int rank = 0;; rank++) {
        if (rank == p->world_first)
            rank += p->world_size;
        if (!(r = by_message_recording(b, (unsigned)rank, NULL)))
            break;
        if (n < SENDERS_MAX && find_by_stream(own, p->self, m, r, &sent)) {
            found[n].rank = rank;
            found[n].recording = r;
            found[n++].sent = sent;
        }
    }
    if (n != 1)
        bytes_text(out, n ? "    from another world, by one of these, whose messages are alike:\n"
                          : "    from another world: no recording here has it\n");
    for (int i = 0; i < n; i++)
        say_sent(b, found[i].rank, found[i].recording, found[i].sent, out);
}

static void say_sender(struct by_message *b, struct recording *own, const struct message *m,
                       struct bytes *out)
{
    const struct message *sent;
    struct recording *r;
    struct peer p;
    struct err err;
    by_message_describe_one(m, out);
    bytes_printf(out, " (event %" PRIu64 ")\n", m->event);
    if (!m->comm) {
        bytes_text(out, "    sender unknown: begun before the recording\n");
        return;
    }
    if (by_message_peer(b, m->comm, m->peer, &p, &err) < 0) {
        bytes_printf(out, "    sender unknown: %s\n", err.text);
        return;
    }
    if (b->options.bundle && p.rank >= 0 && p.rank != (int)b->options.rank) {
        bytes_printf(out, "    sent by rank %d, whose recording is not in this bundle: dbg3 pack "
                          "--rank %d, where it was made\n", p.rank, p.rank);
        return;
    }
    if (p.rank < 0)
        say_foreign(b, own, m, &p, out);
    else if (!(r = by_message_recording(b, (unsigned)p.rank, &err)) ||
             recording_find_sender(own, p.self, m, r, m->comm, &sent, &err) < 0)
        bytes_printf(out, "    sent by rank %d: %s\n", p.rank, err.text);
    else
        say_sent(b, p.rank, r, sent, out);
}

/* What is asked about: bytes in memory, and which messages are meant. */
struct buffer {
    uint64_t addr;
    size_t size;
    uint8_t *bytes;
    const struct message_filter *filter;
};

/* Does the message bring the first `size` bytes of the buffer, at a multiple of `stride`? */
static bool brings(const struct message *m, const struct buffer *q, size_t size, size_t stride)
{
    const uint8_t *data = m->data;
    if (m->kind != MESSAGE_RECEIVED || !message_fits(m, q->filter))
        return false;
    for (uint64_t at = 0; data && at + size <= m->bytes; at += stride)
        if (!memcmp(data + at, q->bytes, size))
            return true;
    return false;
}

/* The last message before `next` with the bytes that lie there: alone or in an array, or else as a
 * piece of a derived datatype, which may lie anywhere in the message. */
static int say_by_bytes(struct by_message *b, struct recording *r, const struct buffer *q,
                        uint64_t next, struct bytes *out, struct err *err)
{
    size_t all;
    const struct message *m = recording_messages(r, &all);
    for (size_t stride = q->size; stride; stride = stride > 1) {
        size_t n = all;
        while (n && (m[n - 1].event >= next || !brings(&m[n - 1], q, q->size, stride)))
            n--;
        if (!n)
            continue;
        bytes_text(out, "the last message with these bytes:\n");
        say_sender(b, r, &m[n - 1], out);
        return 0;
    }
    return err_set(err, "no message received so far brought what is there now");
}

/* The largest aligned piece that a watchpoint takes, from the beginning of the buffer. */
static unsigned first_piece(const struct buffer *q)
{
    unsigned n = 8;
    while (n > q->size || q->addr % n)
        n /= 2;
    return n;
}

/* The event's message that was just arriving, if it brings the bytes. */
static bool say_arriving(struct by_message *b, struct recording *r, const struct recorded_event *e,
                         unsigned arriving, const struct buffer *q, unsigned piece,
                         struct bytes *out)
{
    size_t n;
    const struct message *m = recording_messages(r, &n) + e->message;
    for (size_t i = 0; i < e->nmessages && arriving; i++)
        if (m[i].kind == MESSAGE_RECEIVED && m[i].data && --arriving == 0 &&
            brings(&m[i], q, piece, 1)) {
            say_sender(b, r, &m[i], out);
            return true;
        }
    return false;
}

/* The event's messages that bring what is in the buffer: one of them has. */
static void say_event(struct by_message *b, struct recording *r, const struct last_write *w,
                      const struct buffer *q, unsigned piece, struct bytes *out)
{
    const struct recorded_event *e = recording_event(r, w->next - 1);
    size_t n, fit = 0, said = 0;
    const struct message *m = recording_messages(r, &n) + (e ? e->message : 0);
    if (e && say_arriving(b, r, e, w->arriving, q, piece, out))
        return;
    for (size_t i = 0; e && i < e->nmessages; i++)
        fit += brings(&m[i], q, piece, 1);
    if (fit > 1)
        bytes_printf(out, "by one of its %zu messages with these bytes:\n", fit);
    for (size_t i = 0; e && i < e->nmessages; i++)
        if (brings(&m[i], q, piece, 1) && said++ < SENDERS_MAX)
            say_sender(b, r, &m[i], out);
}

/* By going back to the last write. Returns 1 if that tells which message it was; 0 if the program
 * wrote itself, or nothing is known, which is said. */
static int say_by_write(struct by_message *b, struct recording *r, const struct buffer *q,
                        struct bytes *out)
{
    struct last_write w;
    struct err why;
    unsigned piece = first_piece(q);
    int found = ptrace_target_last_write(b->target, q->addr, piece, &w, &why);
    const char *which = piece < q->size ? "its first bytes were " : "";
    if (found < 0)
        bytes_printf(out, "by its contents, as %s:\n", why.text);
    else if (!found)
        bytes_printf(out, "%snot written since: %s\n", which, why.text);
    if (found <= 0)
        return 0;
    if (!w.in_call) {
        bytes_printf(out, "%swritten by the program itself, at 0x%" PRIx64 ", before event %" PRIu64
                          "\n", which, w.pc, w.next);
        return 0;
    }
    bytes_printf(out, "%swritten by ", which);
    by_message_describe(r, w.next - 1, out);
    bytes_text(out, "\n");
    say_event(b, r, &w, q, piece, out);
    return 1;
}

/* "@ADDRESS SIZE" */
static int who_sent_buffer(struct by_message *b, struct recording *r, const char *args,
                           const struct message_filter *f, uint64_t next, struct bytes *out,
                           struct err *err)
{
    struct buffer q = {.filter = f};
    struct ptid thread;
    if (!(args = parse_number(args, &q.addr)) || !(args = parse_number(args, &q.size)) || *args ||
        !q.size || q.size > BUFFER_MAX)
        return err_set(err, "which buffer? @ADDRESS SIZE, SIZE in bytes");
    q.bytes = malloc(q.size);
    if (!q.bytes || by_message_thread(b, &thread, err) < 0 ||
        b->target->ops->read_memory(b->target, thread.pid, q.addr, q.bytes, q.size) !=
            (ssize_t)q.size) {
        free(q.bytes);
        return err_set(err, "there is no memory of %zu bytes at 0x%" PRIx64, q.size, q.addr);
    }
    int rc = 0;
    if (ptrace_target_diverted(b->target) || !say_by_write(b, r, &q, out))
        rc = say_by_bytes(b, r, &q, next, out, err);
    if (rc < 0 && out->size) { /* what is known of the write is something, too */
        bytes_printf(out, "%s\n", err->text);
        rc = 0;
    }
    free(q.bytes);
    return rc;
}

int by_message_who_sent(void *arg, const char *args, struct bytes *out, struct err *err)
{
    struct by_message *b = arg;
    struct message_filter f;
    struct recording *r;
    uint64_t next = 0;
    size_t n, said = 0;
    if (message_filter_parse(args, &f, &args, err) < 0 || place(b, &r, &next, err) < 0)
        return -1;
    if (*args == '@')
        return who_sent_buffer(b, r, args + 1, &f, next, out, err);
    uint64_t here = by_message_here(b), event = here != NO_EVENT ? here : next - 1;
    if (*args && (!(args = parse_number(args, &event)) || *args))
        return err_set(err, "which event? a number of dbg3 messages");
    const struct recorded_event *e = recording_event(r, event);
    const struct message *m = recording_messages(r, &n);
    for (size_t i = 0; e && i < e->nmessages; i++) {
        const struct message *one = &m[e->message + i];
        if (one->kind == MESSAGE_RECEIVED && message_fits(one, &f) && said++ < SENDERS_MAX)
            say_sender(b, r, one, out);
    }
    if (said > SENDERS_MAX)
        bytes_printf(out, "and %zu more; --from P --tag T choose\n", said - SENDERS_MAX);
    if (said)
        return 0;
    if (e && e->nmessages && m[e->message].kind == MESSAGE_COLLECTIVE)
        return err_set(err, "event %" PRIu64 " is %s, of all ranks: it has no one sender", event,
                       e->call);
    return err_set(err, "no such message was received at event %" PRIu64 "; see: messages --recv",
                   event);
}
