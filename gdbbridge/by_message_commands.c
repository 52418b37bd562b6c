/*
 * by_message_commands.c - what the user can say: going to messages, breakpoints on them; the table
 * of all monitor commands of by_message
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gdbbridge/by_message_private.h"
#include "gdbbridge/bytes.h"

/* ---- going ---- */

int by_message_parse_number(const char *text, const char *what, uint64_t *number, struct err *err)
{
    char *end;
    unsigned long long n = strtoull(text, &end, 10);
    if (end == text || *text == '-' || *end)
        return err_set(err, "%s", what);
    *number = n;
    return 0;
}

static int parse_event(const char *text, uint64_t *event, struct err *err)
{
    return by_message_parse_number(text, "which event? a number of dbg3 messages", event, err);
}

/* The rank is to go to `event`. */
static int set_goal(struct by_message *b, uint64_t event, struct bytes *out, struct err *err)
{
    struct recording *r = by_message_own(b, err);
    uint64_t next = 0;
    if (!r || by_message_next_event(b, &next, err) < 0)
        return -1;
    const struct recorded_event *e = recording_event(r, event);
    if (!e)
        return err_set(err, "the recording has events %" PRIu64 " to %" PRIu64, recording_first(r),
                       recording_end(r) - 1);
    if (e->no_call)
        return err_set(err, "event %" PRIu64 " is no MPI call of its own (the clock was read, say)",
                       event);
    if (event == by_message_here(b))
        return err_set(err, "the rank is at event %" PRIu64, event);
    b->goal = event;
    b->target_kept = NULL;
    bytes_printf(out, "continue goes %sto ", event < next ? "back " : "");
    by_message_describe(r, event, out);
    bytes_text(out, "\n");
    return 0;
}

static int run_goto(void *arg, const char *args, struct bytes *out, struct err *err)
{
    uint64_t event = 0;
    return parse_event(args, &event, err) < 0 ? -1 : set_goal(arg, event, out, err);
}

static int parse_filter(const char *args, struct message_filter *f, struct err *err)
{
    const char *rest;
    if (message_filter_parse(args, f, &rest, err) < 0)
        return -1;
    return *rest ? err_set(err, "unexpected word: %s", rest) : 0;
}

/* next-msg and prev-msg */
static int go(struct by_message *b, const char *args, bool back, struct bytes *out, struct err *err)
{
    struct message_filter f;
    uint64_t next = 0;
    struct recording *r = by_message_own(b, err);
    if (!r || parse_filter(args, &f, err) < 0 || by_message_next_event(b, &next, err) < 0)
        return -1;
    uint64_t event = !back ? by_message_following(b, r, next, &f)
                            : by_message_previous(b, r, next, &f);
    if (event == NO_EVENT)
        return err_set(err, "no such message %s here in the recording", back ? "before" : "after");
    return set_goal(b, event, out, err);
}

static int run_next(void *arg, const char *args, struct bytes *out, struct err *err)
{
    return go(arg, args, false, out, err);
}

static int run_previous(void *arg, const char *args, struct bytes *out, struct err *err)
{
    return go(arg, args, true, out, err);
}

/* ---- breakpoints on messages ---- */

static void describe_filter(const struct message_filter *f, struct bytes *out)
{
    static const struct {
        unsigned kind;
        const char *name;
    } kinds[] = {{MESSAGE_SENT, " --send"}, {MESSAGE_RECEIVED, " --recv"},
                 {MESSAGE_COLLECTIVE, " --coll"}};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (f->kinds & kinds[i].kind)
            bytes_text(out, kinds[i].name);
    if (f->has_peer)
        bytes_printf(out, " %s %d", f->kinds & MESSAGE_SENT ? "--to" : "--from", f->peer);
    if (f->has_tag)
        bytes_printf(out, " --tag %d", f->tag);
    if (f->has_comm)
        bytes_printf(out, " --comm %" PRIu32, f->comm);
}

static int list_breaks(const struct by_message *b, struct bytes *out)
{
    bool any = false;
    for (size_t i = 0; i < BREAKS_MAX; i++) {
        if (!b->breaks[i].number)
            continue;
        any = true;
        bytes_printf(out, "break-msg %u:", b->breaks[i].number);
        describe_filter(&b->breaks[i].filter, out);
        bytes_text(out, "\n");
    }
    if (!any)
        bytes_text(out, "no breakpoints on messages\n");
    return 0;
}

static struct message_break *find_break(struct by_message *b, unsigned number)
{
    for (size_t i = 0; i < BREAKS_MAX; i++)
        if (b->breaks[i].number == number)
            return &b->breaks[i];
    return NULL;
}

static int run_delete(void *arg, const char *args, struct bytes *out, struct err *err)
{
    struct by_message *b = arg;
    uint64_t number = 0;
    if (!*args) {
        memset(b->breaks, 0, sizeof b->breaks);
        return 0;
    }
    if (parse_event(args, &number, NULL) < 0 || number == 0 || number > b->last_break ||
        !find_break(b, (unsigned)number))
        return err_set(err, "there is no break-msg %s", args);
    find_break(b, (unsigned)number)->number = 0;
    return 0;
}

static int run_break(void *arg, const char *args, struct bytes *out, struct err *err)
{
    struct by_message *b = arg;
    struct message_filter f;
    if (!*args)
        return list_breaks(b, out);
    if (!by_message_own(b, err) || parse_filter(args, &f, err) < 0)
        return -1;
    struct message_break *free_one = find_break(b, 0);
    if (!free_one)
        return err_set(err, "there are %d breakpoints on messages already", BREAKS_MAX);
    *free_one = (struct message_break){++b->last_break, f};
    bytes_printf(out, "break-msg %u:", b->last_break);
    describe_filter(&f, out);
    bytes_text(out, "\n");
    return 0;
}

/* ---- the commands ---- */

static const struct monitor_command commands[] = {
    {"when", "\n    says at which event the rank is, and what it sent or received there",
     by_message_when, NULL},
    {"messages", "[FILTER] [FIRST [LAST]]\n    the messages around here, or of these events",
     by_message_list, NULL},
    {"goto-msg", "N\n    goes to event N: its call has just returned", run_goto, NULL},
    {"next-msg", "[FILTER]\n    goes to the next message", run_next, NULL},
    {"prev-msg", "[FILTER]\n    goes back to the message before", run_previous, NULL},
    {"break-msg", "[FILTER]\n    stops at such messages; without FILTER: list these breakpoints",
     run_break, NULL},
    {"delete-msg", "[N]\n    deletes break-msg N, or all", run_delete, NULL},
    {"what-if",
     "\n    what came of the changes that GDB has made here: the first difference from\n    the "
     "recording, if there is one by now",
     by_message_what_if, NULL},
    {"back", "\n    goes back to where GDB's first change was, without it", by_message_back, NULL},
    {"checkpoint", "\n    keeps this place", by_message_checkpoint, NULL},
    {"checkpoints", "\n    lists the places that are kept", by_message_checkpoints, NULL},
    {"restart", "N\n    goes to the place of checkpoint N", by_message_restart, NULL},
    {"delete-checkpoint", "[N]\n    forgets checkpoint N, or all", by_message_delete, NULL},
    {"who-sent",
     "[FILTER] [N | EXPRESSION]\n    who sent what was received here, at event N, or lies in a "
     "buffer (in\n    monitor: @ADDRESS SIZE); and the command that isolates the sender there",
     by_message_who_sent, NULL},
    {NULL, NULL, NULL, NULL},
};

struct by_message *by_message_create(const struct by_message_options *options)
{
    struct by_message *b = calloc(1, sizeof *b);
    if (!b || !(b->commands = malloc(sizeof commands)))
        abort();
    b->options = *options;
    memcpy(b->commands, commands, sizeof commands);
    for (struct monitor_command *c = b->commands; c->name; c++)
        c->arg = b;
    by_message_restarted(b);
    return b;
}

void by_message_destroy(struct by_message *b)
{
    if (!b)
        return;
    by_message_drop_kept(b);
    for (unsigned i = 0; i < b->nrecordings; i++)
        recording_close(b->recording[i]);
    free(b->recording);
    free(b->commands);
    free(b);
}

const struct monitor_command *by_message_help(void)
{
    return commands;
}

const struct monitor_command *by_message_commands(struct by_message *b)
{
    return b->commands;
}
