/*
 * recording.c - a rank's payload log as events and messages
 */
#include "gdbbridge/recording.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "call_id.h"
#include "gdbbridge/grow.h"
#include "msgcounter/log/log_read.h"
#include "msgcounter/log/system_table.h"

/* Flags of records of callbacks and of memory (the stub's record.h). */
#define FLAGS_NO_CALL 6

#define PROC_NULL (-1) /* MPI_PROC_NULL: its status may say anything */

/* A receive that was begun and is not over, by the number of its request. */
struct posted {
    int64_t request;
    uint64_t event;
    struct log_envelope envelope;
};

struct recording {
    struct log_reader *reader; /* messages point into its mapping */
    uint64_t first;
    struct recorded_event *event;
    size_t nevents, events_room;
    struct message *message;
    size_t nmessages, messages_room;
    struct posted *posted;
    size_t nposted, posted_room;
};

static bool is_collective(uint16_t call)
{
    static const uint16_t calls[] = {
#define X(name) CALL_##name,
        CALL_COLLECTIVES(X)
#undef X
    };
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++)
        if (calls[i] == call)
            return true;
    return false;
}

/* ---- requests */

static void post(struct recording *r, int64_t request, uint64_t event,
                 const struct log_envelope *envelope)
{
    for (size_t i = 0; i < r->nposted; i++)
        if (r->posted[i].request == request) {
            r->posted[i] = (struct posted){request, event, *envelope};
            return;
        }
    r->posted = grow(r->posted, r->nposted, &r->posted_room, sizeof *r->posted);
    r->posted[r->nposted++] = (struct posted){request, event, *envelope};
}

static bool unpost(struct recording *r, int64_t request, struct posted *out)
{
    for (size_t i = 0; i < r->nposted; i++)
        if (r->posted[i].request == request) {
            *out = r->posted[i];
            r->posted[i] = r->posted[--r->nposted];
            return true;
        }
    return false;
}

/* ---- records */

/* What the fields of a record so far say. */
struct scan {
    uint64_t event;
    bool has_envelope, has_request;
    struct log_envelope envelope;
    int64_t request;
    struct message *received; /* whose data may follow */
};

static struct message *add(struct recording *r, struct message m)
{
    r->message = grow(r->message, r->nmessages, &r->messages_room, sizeof *r->message);
    r->message[r->nmessages] = m;
    return &r->message[r->nmessages++];
}

static bool field_get(const struct log_field *f, void *value, size_t size)
{
    if (log_field_length(f) != size)
        return false;
    memcpy(value, log_field_value(f), size);
    return true;
}

static void scan_status(struct recording *r, struct scan *s, const struct log_status *st)
{
    struct posted p = {.event = s->event};
    bool known = s->has_request && unpost(r, s->request, &p);
    s->received = NULL;
    if (!known && s->has_envelope) {
        p.envelope = s->envelope;
        known = true;
    }
    s->has_request = false;
    if (st->source < 0 || st->cancelled || (known && p.envelope.peer == PROC_NULL))
        return;
    s->received = add(r, (struct message){.kind = MESSAGE_RECEIVED,
                                          .event = s->event,
                                          .posted = p.event,
                                          .peer = st->source,
                                          .tag = st->tag,
                                          .comm = known ? p.envelope.comm : 0,
                                          .bytes = (uint64_t)st->count});
}

static void scan_field(struct recording *r, struct scan *s, const struct log_field *f)
{
    struct log_status st;
    struct log_digest digest;
    switch (f->role) {
    case LOG_ROLE_ENVELOPE:
        s->has_envelope = field_get(f, &s->envelope, sizeof s->envelope);
        s->has_request = false;
        break;
    case LOG_ROLE_DIGEST: /* an envelope that a digest follows is a send's */
        if (s->has_envelope && s->envelope.peer >= 0 && field_get(f, &digest, sizeof digest))
            add(r, (struct message){.kind = MESSAGE_SENT,
                                    .event = s->event,
                                    .posted = s->event,
                                    .peer = s->envelope.peer,
                                    .tag = s->envelope.tag,
                                    .comm = s->envelope.comm,
                                    .bytes = digest.bytes,
                                    .digest = digest.digest});
        s->has_envelope = false;
        break;
    case LOG_ROLE_REQUEST:
        s->request = log_field_int(f);
        s->has_request = true;
        break;
    case LOG_ROLE_STATUS:
        if (field_get(f, &st, sizeof st))
            scan_status(r, s, &st);
        break;
    case LOG_ROLE_DATA:
        if (s->received) {
            s->received->data = log_field_value(f);
            s->received->bytes = log_field_length(f);
        }
        s->received = NULL;
        break;
    default:
        break;
    }
}

static const char *name_of(uint16_t call)
{
    return call & SYSTEM_CALL ? system_name(call & ~SYSTEM_CALL) : call_id_name(call);
}

static void scan_record(struct recording *r, const struct log_record *rec)
{
    struct scan s = {.event = rec->event};
    size_t before = r->nmessages;
    bool collective = is_collective(rec->call);
    for (const struct log_field *f = NULL; !collective && (f = log_field_next(rec, f));)
        scan_field(r, &s, f);
    if (collective)
        add(r, (struct message){MESSAGE_COLLECTIVE, rec->event, rec->event, -1, -1, 0, 0, 0, NULL});
    else if (s.has_envelope && s.has_request)
        post(r, s.request, rec->event, &s.envelope);
    r->event = grow(r->event, r->nevents, &r->events_room, sizeof *r->event);
    r->event[r->nevents++] = (struct recorded_event){
        .call = name_of(rec->call) ?: "?",
        .thread = rec->thread,
        .no_call = rec->flags & FLAGS_NO_CALL || rec->call == CALL_MPI_Wtime ||
                   rec->call >= CALL_COUNT, /* a system call */
        .message = before,
        .nmessages = r->nmessages - before,
    };
}

struct recording *recording_open(const char *dir, uint32_t rank, struct err *err)
{
    const struct log_record *rec;
    struct err damage;
    struct recording *r = calloc(1, sizeof *r);
    if (!r)
        abort();
    if (log_reader_open(&r->reader, dir, rank, NULL, err) < 0) {
        free(r);
        return NULL;
    }
    while (log_reader_next(r->reader, &rec, &damage) > 0) {
        if (!r->nevents)
            r->first = rec->event;
        scan_record(r, rec);
    }
    return r;
}

void recording_close(struct recording *r)
{
    if (!r)
        return;
    log_reader_close(r->reader);
    free(r->event);
    free(r->message);
    free(r->posted);
    free(r);
}

uint64_t recording_first(const struct recording *r)
{
    return r->first;
}

uint64_t recording_end(const struct recording *r)
{
    return r->first + r->nevents;
}

const struct recorded_event *recording_event(const struct recording *r, uint64_t number)
{
    return number >= r->first && number - r->first < r->nevents ? &r->event[number - r->first]
                                                                : NULL;
}

const struct message *recording_messages(const struct recording *r, size_t *n)
{
    *n = r->nmessages;
    return r->message;
}

/* ---- which messages */

uint64_t message_digest(const struct message *m)
{
    return m->kind == MESSAGE_RECEIVED && m->data ? XXH3_64bits(m->data, m->bytes) : m->digest;
}

bool message_fits(const struct message *m, const struct message_filter *f)
{
    return (!f->kinds || f->kinds & m->kind) && (!f->has_peer || f->peer == m->peer) &&
           (!f->has_tag || f->tag == m->tag) && (!f->has_comm || f->comm == m->comm);
}

bool recording_fits(const struct recording *r, uint64_t number, const struct message_filter *f)
{
    const struct recorded_event *e = recording_event(r, number);
    for (size_t i = 0; e && i < e->nmessages; i++)
        if (message_fits(&r->message[e->message + i], f))
            return true;
    return false;
}

uint64_t recording_next(const struct recording *r, uint64_t from, const struct message_filter *f)
{
    for (uint64_t n = from < r->first ? r->first : from; n < recording_end(r); n++)
        if (recording_fits(r, n, f))
            return n;
    return UINT64_MAX;
}

uint64_t recording_previous(const struct recording *r, uint64_t before,
                            const struct message_filter *f)
{
    uint64_t end = recording_end(r);
    for (uint64_t n = before < end ? before : end; n > r->first; n--)
        if (recording_fits(r, n - 1, f))
            return n - 1;
    return UINT64_MAX;
}

/* ---- the filter's words */

static const struct {
    const char *name;
    unsigned kind;
    bool number;
    size_t has, value; /* offsets of what a number sets */
} words[] = {
    {"--send", MESSAGE_SENT, false, SIZE_MAX, SIZE_MAX},
    {"--recv", MESSAGE_RECEIVED, false, SIZE_MAX, SIZE_MAX},
    {"--coll", MESSAGE_COLLECTIVE, false, SIZE_MAX, SIZE_MAX},
    {"--from", MESSAGE_RECEIVED, true, offsetof(struct message_filter, has_peer),
     offsetof(struct message_filter, peer)},
    {"--to", MESSAGE_SENT, true, offsetof(struct message_filter, has_peer),
     offsetof(struct message_filter, peer)},
    {"--tag", 0, true, offsetof(struct message_filter, has_tag),
     offsetof(struct message_filter, tag)},
    {"--comm", 0, true, offsetof(struct message_filter, has_comm),
     offsetof(struct message_filter, comm)},
};

static const char *skip_blanks(const char *text)
{
    return text + strspn(text, " \t");
}

/* The number of a word, which is 32 bits wide. */
static int parse_number(const char *name, const char **text, void *out, struct err *err)
{
    char *end;
    const char *begin = skip_blanks(*text);
    long n = strtol(begin, &end, 0);
    if (end == begin || (*end && !strchr(" \t", *end)) || n < 0 || n > INT32_MAX)
        return err_set(err, "%s needs a number", name);
    int32_t value = (int32_t)n;
    memcpy(out, &value, sizeof value);
    *text = end;
    return 0;
}

int message_filter_parse(const char *text, struct message_filter *f, const char **rest,
                         struct err *err)
{
    struct message_filter found = {0};
    const size_t count = sizeof words / sizeof words[0];
    for (text = skip_blanks(text); *text; text = skip_blanks(text)) {
        size_t size = strcspn(text, " \t="), i = 0;
        while (i < count && (strlen(words[i].name) != size || memcmp(words[i].name, text, size)))
            i++;
        if (i == count)
            break;
        if (found.has_peer && words[i].has == offsetof(struct message_filter, has_peer))
            return err_set(err, "one peer only");
        text += size;
        text += words[i].number && *text == '=';
        if (words[i].number &&
            parse_number(words[i].name, &text, (char *)&found + words[i].value, err) < 0)
            return -1;
        if (words[i].number)
            *((bool *)((char *)&found + words[i].has)) = true;
        found.kinds |= words[i].kind;
    }
    if (*text == '-' && !(text[1] >= '0' && text[1] <= '9'))
        return err_set(err, "\"%.*s\" is none of --send --recv --coll --from P --to P --tag T "
                            "--comm C", (int)strcspn(text, " \t"), text);
    *f = found;
    *rest = text;
    return 0;
}

/* ---- the other end of a message */

/* The messages of one stream: same kind, communicator, tag and peer, in order. */
struct link {
    const struct message *message;
    uint64_t digest;
};
struct stream {
    struct link *link;
    size_t n, room;
};

static void stream_of(const struct recording *r, const struct message_filter *f, struct stream *s)
{
    *s = (struct stream){0};
    for (size_t i = 0; i < r->nmessages; i++)
        if (message_fits(&r->message[i], f)) {
            s->link = grow(s->link, s->n, &s->room, sizeof *s->link);
            s->link[s->n++] = (struct link){&r->message[i], message_digest(&r->message[i])};
        }
}

/* MPI matches in the order in which receives are posted, not in which they are completed. */
static int by_posting(const void *a, const void *b)
{
    const struct message *x = ((const struct link *)a)->message;
    const struct message *y = ((const struct link *)b)->message;
    if (x->posted != y->posted)
        return x->posted < y->posted ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* Is what was received from `early` on what was sent from `late` on, as far as both go? */
static bool same(const struct stream *received, size_t early, const struct stream *sent,
                 size_t late)
{
    for (; early < received->n && late < sent->n; early++, late++) {
        const struct link *r = &received->link[early], *s = &sent->link[late];
        if (r->message->bytes != s->message->bytes ||
            (r->message->data && r->digest != s->digest))
            return false;
    }
    return true;
}

/* Which sent message the kth received one is: one of the streams may begin earlier than the other.
 * The least shift with which they agree is right unless all their messages are alike. Negative:
 * sent before the stream begins; from sent->n on: behind its end. */
static int64_t counterpart(const struct stream *received, size_t k, const struct stream *sent)
{
    for (size_t shift = 0; shift < received->n || shift < sent->n; shift++) {
        if (shift < received->n && same(received, shift, sent, 0))
            return (int64_t)k - (int64_t)shift;
        if (shift < sent->n && same(received, 0, sent, shift))
            return (int64_t)(k + shift);
    }
    return -1;
}

int recording_find_sender(const struct recording *receiver, int to, const struct message *m,
                          const struct recording *sender, uint32_t comm,
                          const struct message **sent, struct err *err)
{
    struct message_filter in = {MESSAGE_RECEIVED, true, true, true, m->peer, m->tag, m->comm};
    struct message_filter out = {MESSAGE_SENT, true, true, true, to, m->tag, comm};
    struct stream received, was_sent;
    stream_of(receiver, &in, &received);
    stream_of(sender, &out, &was_sent);
    if (received.n)
        qsort(received.link, received.n, sizeof *received.link, by_posting);
    size_t k = 0;
    while (k < received.n && received.link[k].message != m)
        k++;
    int64_t which = k < received.n && was_sent.n ? counterpart(&received, k, &was_sent) : -1;
    bool behind = which >= (int64_t)was_sent.n, found = which >= 0 && !behind;
    if (found)
        *sent = was_sent.link[which].message;
    free(received.link);
    free(was_sent.link);
    if (behind)
        return err_set(err, "its recording ends in the call that sent it");
    return found ? 0 : err_set(err, "the sender's recording does not have it: it was sent before "
                                    "that begins");
}
