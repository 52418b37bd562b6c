/*
 * session_xfer.c - qXfer: documents that GDB reads in parts
 *
 * A document is made when GDB asks for its start and kept while it reads on, so that the parts fit
 * together.
 */
#include <limits.h>
#include <string.h>

#include "gdbbridge/session_private.h"

struct document {
    const char *name;
    /* Puts the document into `out`. Returns 0 or -1. */
    int (*make)(struct session *s, const char *annex, struct bytes *out);
};

static int make_features(struct session *s, const char *annex, struct bytes *out)
{
    if (strcmp(annex, "target.xml"))
        return -1;
    /* Without a process nothing is known, so that GDB can be told of an architecture. */
    bytes_text(out, session_has_process(s) ? registers_xml(s->ops->registers(s->target))
                                           : "<target></target>");
    return 0;
}

static int make_auxv(struct session *s, const char *annex, struct bytes *out)
{
    struct ptid thread;
    return session_general(s, &thread) ? -1 : s->ops->auxv(s->target, thread.pid, out);
}

static int make_exec_file(struct session *s, const char *annex, struct bytes *out)
{
    char path[PATH_MAX];
    const char *text = annex, *end = annex + strlen(annex);
    uint64_t pid = 0;
    struct ptid thread;
    if (*annex && (rsp_parse_number(&text, end, &pid) || text != end || pid > INT_MAX))
        return -1;
    if (session_resolve(s, pid ? (struct ptid){(pid_t)pid, -1} : s->general, &thread) ||
        s->ops->exec_file(s->target, thread.pid, path, sizeof path))
        return -1;
    bytes_text(out, path);
    return 0;
}

static void add_thread(struct session *s, struct ptid thread, struct bytes *out)
{
    struct thread_info info;
    if (s->ops->thread_info(s->target, thread, &info))
        return;
    bytes_clear(&s->reply);
    reply_thread(s, thread);
    bytes_printf(out, "<thread id=\"%s\"", s->reply.data);
    if (info.core >= 0)
        bytes_printf(out, " core=\"%d\"", info.core);
    if (info.name[0]) {
        bytes_text(out, " name=\"");
        bytes_xml(out, info.name);
        bytes_text(out, "\"");
    }
    if (info.handle) {
        bytes_text(out, " handle=\"");
        bytes_hex(out, &info.handle, sizeof info.handle);
        bytes_text(out, "\"");
    }
    bytes_text(out, "/>\n");
}

static int make_threads(struct session *s, const char *annex, struct bytes *out)
{
    size_t n = session_threads(s);
    bytes_text(out, "<threads>\n");
    for (size_t i = 0; i < n; i++)
        add_thread(s, s->threads[i], out);
    bytes_clear(&s->reply);
    bytes_text(out, "</threads>\n");
    return 0;
}

static int make_siginfo(struct session *s, const char *annex, struct bytes *out)
{
    struct ptid thread;
    siginfo_t info;
    if (session_general(s, &thread) || s->ops->siginfo(s->target, thread, &info))
        return -1;
    bytes_add(out, &info, sizeof info);
    return 0;
}

static int make_osdata(struct session *s, const char *annex, struct bytes *out)
{
    if (!s->ops->osdata)
        return -1;
    s->ops->osdata(annex, out);
    return 0;
}

static const struct document documents[] = {
    {"features", make_features}, {"auxv", make_auxv},       {"exec-file", make_exec_file},
    {"threads", make_threads},   {"siginfo", make_siginfo}, {"osdata", make_osdata},
};

/* Part of s->xfer from offset: 'm' and the part if more follows, 'l' if it is the last. */
static void reply_part(struct session *s, uint64_t offset, uint64_t length)
{
    size_t size = s->xfer.size, start = offset < size ? (size_t)offset : size;
    size_t want = length < size - start ? (size_t)length : size - start;
    bytes_text(&s->reply, "m");
    size_t taken = bytes_binary(&s->reply, s->xfer.data ? s->xfer.data + start : NULL, want,
                                RSP_PACKET_MAX - 1);
    if (start + taken == size)
        s->reply.data[0] = 'l';
}

/* qXfer:OBJECT:read:ANNEX:OFFSET,LENGTH */
static void run_read(struct session *s, const struct rsp_param *p)
{
    char name[sizeof s->xfer_name], annex[sizeof s->xfer_name];
    const struct document *d = NULL;
    for (size_t i = 0; i < sizeof documents / sizeof documents[0]; i++)
        if (strlen(documents[i].name) == p[0].size &&
            !memcmp(documents[i].name, p[0].text, p[0].size))
            d = &documents[i];
    if (!d)
        return;
    if (p[0].size + 1 + p[1].size >= sizeof name) {
        reply_error(s, 0);
        return;
    }
    memcpy(annex, p[1].text, p[1].size);
    annex[p[1].size] = '\0';
    strcpy(name, d->name);
    strcat(strcat(name, ":"), annex);
    if (p[2].number == 0 || strcmp(name, s->xfer_name)) {
        bytes_clear(&s->xfer);
        strcpy(s->xfer_name, name);
        if (d->make(s, annex, &s->xfer)) {
            s->xfer_name[0] = '\0';
            reply_error(s, 0);
            return;
        }
    }
    reply_part(s, p[2].number, p[3].number);
}

/* qXfer:siginfo:write::OFFSET:DATA */
static void run_write_siginfo(struct session *s, const struct rsp_param *p)
{
    struct ptid thread;
    siginfo_t info;
    if (p[0].number > sizeof info || p[1].size > sizeof info - p[0].number ||
        session_general(s, &thread) || s->ops->siginfo(s->target, thread, &info)) {
        reply_error(s, 1);
        return;
    }
    memcpy((char *)&info + p[0].number, p[1].text, p[1].size);
    if (s->ops->set_siginfo(s->target, thread, &info))
        reply_error(s, 1);
    else
        bytes_printf(&s->reply, "%zx", p[1].size);
}

static const struct rsp_command session_xfer_rows[] = {
    {"qXfer:", "w:read:w:x,x", run_read, NULL},
    {"qXfer:siginfo:write:", ":x:b", run_write_siginfo, NULL},
};
COMMAND_TABLE(session_xfer);
