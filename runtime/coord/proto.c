/*
 * proto.c - the codec: one table of fields, walked by size, encode, decode and text
 */
#include "runtime/coord/proto.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "decoded messages point into the frame");
_Static_assert(sizeof(struct proto_comm) == 32 && sizeof(struct proto_fine) == 32,
               "array elements are their own wire form");

enum field_kind { FIELD_END, FIELD_NUMBER, FIELD_STRING, FIELD_ARRAY };

struct field {
    enum field_kind kind;
    uint16_t offset;  /* in struct proto_msg; of the count for an array */
    uint16_t pointer; /* array: offset of the pointer to the elements */
    uint16_t element; /* array: bytes of one element */
    uint64_t limit;   /* number: largest allowed, array: most elements; 0 is no limit */
    const char *name;
};

#define FIELDS_MAX 12

struct layout {
    enum proto_type type;
    const char *name;
    struct field field[FIELDS_MAX];
};

/* clang-format off */
#define AT(member)             (uint16_t)offsetof(struct proto_msg, member)
#define NUM(member, label)     {FIELD_NUMBER, AT(member), 0, 0, 0, label}
#define MAX(member, label, m)  {FIELD_NUMBER, AT(member), 0, 0, m, label}
#define STR(member, label)     {FIELD_STRING, AT(member), 0, 0, 0, label}
#define ARR(n, p, bytes, m, l) {FIELD_ARRAY, AT(n), AT(p), bytes, m, l}
#define EPOCH                  NUM(epoch, "epoch")
#define COMMS(label)           ARR(u.comms.count, u.comms.comm, 32, 1u << 18, label)
#define PEERS(label)           ARR(u.peers.count, u.peers.messages, 8, PROTO_RANKS_MAX, label)
#define COLL                   EPOCH, NUM(u.coll.gid, "gid"), NUM(u.coll.entered, "entered")

static const struct layout layouts[] = {
    {PROTO_HELLO, "HELLO", {NUM(u.hello.magic, "magic"), NUM(u.hello.version, "version"),
        STR(u.hello.token, NULL), MAX(u.hello.rank, "rank", PROTO_RANKS_MAX),
        MAX(u.hello.size, "size", PROTO_RANKS_MAX), NUM(u.hello.pid, "pid"),
        NUM(u.hello.world, "world"),
        MAX(u.hello.phase, "phase", PROTO_PHASE_REFINE), STR(u.hello.host, "host"),
        STR(u.hello.program, "program")}},
    {PROTO_ACK, "ACK", {EPOCH, COMMS("entered")}},
    {PROTO_ENTER, "ENTER", {COLL}},
    {PROTO_LEAVE, "LEAVE", {COLL}},
    {PROTO_HOLD, "HOLD", {COLL}},
    {PROTO_COMM, "COMM", {COLL, NUM(u.coll.nmembers, "nmembers")}},
    {PROTO_ARMED, "ARMED", {EPOCH}},
    {PROTO_STATE, "STATE", {EPOCH, MAX(u.state.state, "state", PROTO_STATE_INSIDE),
        NUM(u.state.progress, "progress")}},
    {PROTO_STOPPED, "STOPPED", {EPOCH, PEERS("sent")}},
    {PROTO_DRAINED, "DRAINED", {EPOCH}},
    {PROTO_WRITTEN, "WRITTEN", {EPOCH, STR(u.written.file, "file"), NUM(u.written.bytes, "bytes"),
        NUM(u.written.us_write, "us_write"), NUM(u.written.us_pause, "us_pause"),
        NUM(u.written.id, "id")}},
    {PROTO_FAILED, "FAILED", {EPOCH, STR(u.text, "text")}},
    {PROTO_UNABLE, "UNABLE", {EPOCH, STR(u.text, "text")}},
    {PROTO_WANT, "WANT", {MAX(u.want.reason, "reason", PROTO_WANT_MESSAGES),
        NUM(u.want.count, "count")}},
    {PROTO_FINE, "FINE", {ARR(u.fine.count, u.fine.fine, 32, 4096, "fine")}},
    {PROTO_FAILURE, "FAILURE", {MAX(u.failure.kind, "kind", PROTO_FAILURE_RESTORE),
        NUM(u.failure.code, "code"), STR(u.failure.text, "text"), STR(u.failure.call, "call"),
        NUM(u.failure.event, "event"), STR(u.failure.image, "image"), NUM(u.failure.pc, "pc"),
        NUM(u.failure.address, "address"), STR(u.failure.module, "module"),
        NUM(u.failure.module_offset, "module_offset")}},
    {PROTO_FINALIZED, "FINALIZED", {{0}}},
    {PROTO_BYE, "BYE", {{0}}},
    {PROTO_WELCOME, "WELCOME", {NUM(u.welcome.last_epoch, "last_epoch"),
        NUM(u.welcome.every_n_msgs, "every_n_msgs"), NUM(u.welcome.keep, "keep"),
        MAX(u.welcome.rank, "rank", PROTO_RANKS_MAX)}},
    {PROTO_REFUSED, "REFUSED", {STR(u.text, "text")}},
    {PROTO_HEARD, "HEARD", {{0}}},
    {PROTO_INTENT, "INTENT", {EPOCH}},
    {PROTO_ARM, "ARM", {EPOCH, COMMS("target")}},
    {PROTO_RAISE, "RAISE", {EPOCH, NUM(u.coll.gid, "gid"), NUM(u.coll.entered, "target")}},
    {PROTO_STOP, "STOP", {EPOCH}},
    {PROTO_DRAIN, "DRAIN", {EPOCH, PEERS("expected")}},
    {PROTO_WRITE, "WRITE", {EPOCH, STR(u.folder, "folder")}},
    {PROTO_RESUME, "RESUME", {EPOCH, MAX(u.committed, "committed", 1)}},
    {PROTO_CANCEL, "CANCEL", {EPOCH, STR(u.text, "text")}},
    {PROTO_SHUTDOWN, "SHUTDOWN", {STR(u.text, "text")}},
    {PROTO_EXAMINE, "EXAMINE", {STR(u.text, "text")}},
};
/* clang-format on */

#define LAYOUTS (sizeof layouts / sizeof layouts[0])

#define X(name, number) +1
_Static_assert(LAYOUTS == 0 PROTO_TYPES(X), "every type has a layout");
#undef X

static const struct layout *layout_find(unsigned type)
{
    for (size_t i = 0; i < LAYOUTS; i++)
        if (layouts[i].type == type)
            return &layouts[i];
    return NULL;
}

const char *proto_type_name(unsigned type)
{
    const struct layout *l = layout_find(type);
    return l ? l->name : NULL;
}

static uint64_t *number_at(const struct proto_msg *msg, uint16_t offset)
{
    return (uint64_t *)((char *)(uintptr_t)msg + offset);
}

static const char *string_of(const struct proto_msg *msg, const struct field *f)
{
    const char *s = *(const char *const *)((const char *)msg + f->offset);
    return s ? s : "";
}

static const void *array_of(const struct proto_msg *msg, const struct field *f)
{
    return *(const void *const *)((const char *)msg + f->pointer);
}

/* Length of a string's bytes, NUL and padding. */
static size_t padded(size_t len)
{
    return (len + 8) & ~(size_t)7;
}

static size_t field_size(const struct proto_msg *msg, const struct field *f)
{
    switch (f->kind) {
    case FIELD_STRING:
        return 8 + padded(strlen(string_of(msg, f)));
    case FIELD_ARRAY:
        return 8 + *number_at(msg, f->offset) * f->element;
    default:
        return 8;
    }
}

#define for_each_field(l, f)                                                                       \
    for (const struct field *f = (l)->field;                                                       \
         f < (l)->field + FIELDS_MAX && f->kind != FIELD_END; f++)

size_t proto_size(const struct proto_msg *msg)
{
    const struct layout *l = layout_find(msg->type);
    size_t n = PROTO_HEADER;
    if (!l)
        return 0;
    for_each_field(l, f)
        n += field_size(msg, f);
    return n;
}

static char *put_number(char *p, uint64_t v)
{
    memcpy(p, &v, 8);
    return p + 8;
}

static char *put_field(char *p, const struct proto_msg *msg, const struct field *f)
{
    if (f->kind == FIELD_NUMBER)
        return put_number(p, *number_at(msg, f->offset));
    if (f->kind == FIELD_STRING) {
        const char *s = string_of(msg, f);
        size_t len = strlen(s);
        p = put_number(p, len);
        memset(p + (len & ~(size_t)7), 0, 8);
        memcpy(p, s, len);
        return p + padded(len);
    }
    uint64_t count = *number_at(msg, f->offset);
    p = put_number(p, count);
    if (count)
        memcpy(p, array_of(msg, f), count * f->element);
    return p + count * f->element;
}

/* What proto_decode() of the other side would refuse, refused here, where the mistake is. */
static int check_encodable(const struct layout *l, const struct proto_msg *msg, struct err *err)
{
    for_each_field(l, f) {
        if (f->kind == FIELD_STRING && strlen(string_of(msg, f)) > PROTO_TEXT_MAX)
            return err_set(err, "%s: string %s is longer than %u bytes", l->name,
                           f->name ? f->name : "token", PROTO_TEXT_MAX);
        if (f->kind != FIELD_STRING && f->limit && *number_at(msg, f->offset) > f->limit)
            return err_set(err, "%s: %s %" PRIu64 " is more than %" PRIu64, l->name, f->name,
                           *number_at(msg, f->offset), f->limit);
    }
    return 0;
}

ssize_t proto_encode(const struct proto_msg *msg, void *buf, size_t cap, struct err *err)
{
    struct proto_msg copy = *msg;
    const struct layout *l = layout_find(copy.type);
    if (!l)
        return err_set(err, "protocol message of unknown type %u", (unsigned)copy.type);
    if (copy.type == PROTO_HELLO) {
        copy.u.hello.magic = PROTO_MAGIC;
        copy.u.hello.version = PROTO_VERSION;
    }
    if (check_encodable(l, &copy, err) < 0)
        return -1;
    size_t size = proto_size(&copy);
    if (size - PROTO_HEADER > PROTO_BODY_MAX || size > cap)
        return err_set(err, "%s needs %zu bytes, %zu allowed", l->name, size,
                       size > cap ? cap : PROTO_BODY_MAX);
    char *p = buf;
    uint32_t length = (uint32_t)(size - PROTO_HEADER);
    uint16_t head[2] = {(uint16_t)copy.type, 0};
    memcpy(p, &length, 4);
    memcpy(p + 4, head, 4);
    p += PROTO_HEADER;
    for_each_field(l, f)
        p = put_field(p, &copy, f);
    return (ssize_t)size;
}

/* The unread part of a frame's body. */
struct body {
    const char *p;
    size_t left;
};

static int get_number(struct body *b, uint64_t *v)
{
    if (b->left < 8)
        return -1;
    memcpy(v, b->p, 8);
    b->p += 8;
    b->left -= 8;
    return 0;
}

static int get_string(struct body *b, const char **s)
{
    uint64_t len;
    if (get_number(b, &len) < 0 || len > PROTO_TEXT_MAX || padded(len) > b->left ||
        strnlen(b->p, len + 1) != len)
        return -1;
    *s = b->p;
    b->p += padded(len);
    b->left -= padded(len);
    return 0;
}

static int get_field(struct body *b, struct proto_msg *msg, const struct field *f)
{
    if (f->kind == FIELD_STRING)
        return get_string(b, (const char **)((char *)msg + f->offset));
    uint64_t v;
    if (get_number(b, &v) < 0 || (f->limit && v > f->limit))
        return -1;
    *number_at(msg, f->offset) = v;
    if (f->kind == FIELD_NUMBER)
        return 0;
    if (v * f->element > b->left) /* no overflow: f->limit bounds v */
        return -1;
    *(const void **)((char *)msg + f->pointer) = b->p;
    b->p += v * f->element;
    b->left -= v * f->element;
    return 0;
}

ssize_t proto_decode(const void *buf, size_t n, struct proto_msg *msg, struct err *err)
{
    uint32_t length;
    uint16_t head[2];
    if ((uintptr_t)buf % 8)
        return err_set(err, "protocol buffer is not aligned");
    if (n < PROTO_HEADER)
        return 0;
    memcpy(&length, buf, 4);
    memcpy(head, (const char *)buf + 4, 4);
    const struct layout *l = layout_find(head[0]);
    if (!l || head[1] || length % 8 || length > PROTO_BODY_MAX)
        return err_set(err, "not the dbg3 protocol (type %u, length %u)", head[0], length);
    if (n - PROTO_HEADER < length)
        return 0;
    struct proto_msg out = {.type = l->type};
    struct body b = {(const char *)buf + PROTO_HEADER, length};
    for_each_field(l, f)
        if (get_field(&b, &out, f) < 0)
            return err_set(err, "malformed %s: bad %s", l->name, f->name ? f->name : "token");
    if (b.left)
        return err_set(err, "malformed %s: %zu bytes too many", l->name, b.left);
    if (out.type == PROTO_HELLO &&
        (out.u.hello.magic != PROTO_MAGIC || out.u.hello.version != PROTO_VERSION))
        return err_set(err, "protocol version %" PRIu64 ", this dbg3 speaks %u",
                       out.u.hello.version, PROTO_VERSION);
    *msg = out;
    return (ssize_t)(PROTO_HEADER + length);
}

bool proto_token_equal(const char *a, const char *b)
{
    if (!a || !b || strlen(a) != PROTO_TOKEN_LEN || strlen(b) != PROTO_TOKEN_LEN)
        return false;
    unsigned char difference = 0;
    for (size_t i = 0; i < PROTO_TOKEN_LEN; i++)
        difference |= (unsigned char)(a[i] ^ b[i]);
    return difference == 0;
}

const char *proto_text(const struct proto_msg *msg, char *buf, size_t cap)
{
    const struct layout *l = layout_find(msg->type);
    if (cap == 0)
        return buf;
    if (!l) {
        snprintf(buf, cap, "unknown type %u", (unsigned)msg->type);
        return buf;
    }
    size_t n = (size_t)snprintf(buf, cap, "%s", l->name);
    for_each_field(l, f) {
        if (n >= cap || !f->name)
            continue;
        if (f->kind == FIELD_STRING)
            n += (size_t)snprintf(buf + n, cap - n, " %s \"%s\"", f->name, string_of(msg, f));
        else
            n += (size_t)snprintf(buf + n, cap - n,
                                  f->kind == FIELD_ARRAY ? " %s[%" PRIu64 "]" : " %s %" PRIu64,
                                  f->name, *number_at(msg, f->offset));
    }
    return buf;
}
