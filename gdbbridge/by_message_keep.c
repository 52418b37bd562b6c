/*
 * by_message_keep.c - places of an isolated rank that are kept: what-if, checkpoints
 *
 * When GDB is about to change the rank for the first time, a copy of it is kept: `home`. What runs
 * from then on is thrown away by `back`, which puts a copy of home in its place. Until then the
 * rank may print, and map memory for functions that GDB calls, beside its recording
 * (gate.replay_diverted); what it sends is compared as ever, and the first difference ends the
 * what-if.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "gdbbridge/by_message_private.h"
#include "gdbbridge/bytes.h"
#include "runtime/half/gate.h"

/* The process as it stands, or the event that it is at. 0, or -1 with *err. */
static int keep(struct by_message *b, struct kept *k, struct err *err)
{
    uint64_t here = by_message_here(b);
    struct kept_process *process = ptrace_target_keep(b->target, err);
    if (!process && here == NO_EVENT)
        return -1;
    *k = (struct kept){.process = process, .pc = kept_process_pc(process), .here = here};
    by_message_next_event(b, &k->next, NULL);
    return 0;
}

static void drop(struct kept *k)
{
    kept_process_free(k->process);
    *k = (struct kept){.number = 0};
}

static void describe(struct by_message *b, const struct kept *k, struct bytes *out)
{
    struct recording *r = by_message_recording(b, b->options.rank, NULL);
    if (r && k->here != NO_EVENT)
        by_message_describe(r, k->here, out);
    else
        bytes_printf(out, "before event %" PRIu64, k->next);
}

/* ---- what-if ---- */

void by_message_diverts(struct by_message *b, struct ptid thread)
{
    uint64_t next = 0;
    by_message_not_diverted(b);
    if (keep(b, &b->home, NULL) < 0 && by_message_next_event(b, &next, NULL) == 0)
        b->home = (struct kept){.here = by_message_last_call(b, next), .next = next};
    by_message_write_gate(b, thread.pid, offsetof(struct gate, replay_diverted), 1);
}

void by_message_not_diverted(struct by_message *b)
{
    drop(&b->home);
    b->target_kept = NULL;
    b->difference[0] = '\0';
}

static int check_diverted(struct by_message *b, struct err *err)
{
    if (ptrace_target_diverted(b->target))
        return 0;
    by_message_not_diverted(b);
    return err_set(err, "nothing has been changed here: set var NAME = VALUE, then dbg3 what-if");
}

int by_message_what_if(void *arg, const char *args, struct bytes *out, struct err *err)
{
    struct by_message *b = arg;
    struct recording *r = by_message_recording(b, b->options.rank, err);
    struct ptid thread;
    uint64_t next = 0;
    if (!r || check_diverted(b, err) < 0)
        return -1;
    bytes_text(out, "what-if, changed ");
    describe(b, &b->home, out);
    bytes_text(out, "\n");
    if (b->difference[0]) {
        bytes_printf(out, "the first difference: %s\n", b->difference);
    } else if (by_message_thread(b, &thread, err) < 0 ||
               by_message_next_event(b, &next, err) < 0) {
        return -1;
    } else if (next >= recording_end(r)) {
        bytes_text(out, "no difference: all that it sent, to the end of the recording, is as "
                        "recorded\n");
    } else {
        bytes_printf(out, "no difference so far: what it sent before event %" PRIu64
                          " is as recorded\n", next);
    }
    return 0;
}

int by_message_back(void *arg, const char *args, struct bytes *out, struct err *err)
{
    struct by_message *b = arg;
    if (check_diverted(b, err) < 0)
        return -1;
    b->target_kept = &b->home;
    bytes_text(out, "continue goes back to the recorded run, ");
    describe(b, &b->home, out);
    bytes_text(out, "\n");
    return 0;
}

/* ---- going to what is kept ---- */

bool by_message_to_kept(struct by_message *b, struct target *t, struct event *stop)
{
    const struct kept *k = b->target_kept;
    struct err err;
    if (!k)
        return false;
    b->target_kept = NULL;
    b->goal = NO_EVENT;
    if (!k->process) {
        b->goal = k->here;
        b->anew = true;
        return false;
    }
    int returned = ptrace_target_return(t, k->process, &err);
    *stop = (struct event){.kind = EVENT_STOPPED, .thread = ptrace_target_thread(t)};
    if (returned < 0) {
        snprintf(stop->console, sizeof stop->console, "dbg3: %.400s\n", err.text);
        return true;
    }
    b->here = k->here;
    b->armed = false;
    by_message_tell(b, k == &b->home ? "the recorded run again, " : "", stop->console,
                    sizeof stop->console);
    by_message_not_diverted(b);
    return true;
}

void by_message_drop_kept(struct by_message *b)
{
    by_message_not_diverted(b);
    for (size_t i = 0; i < CHECKPOINTS_MAX; i++)
        drop(&b->checkpoint[i]);
}

/* ---- checkpoints ---- */

static struct kept *find(struct by_message *b, uint64_t number)
{
    for (size_t i = 0; i < CHECKPOINTS_MAX; i++)
        if (b->checkpoint[i].number == number)
            return &b->checkpoint[i];
    return NULL;
}

int by_message_checkpoint(void *arg, const char *args, struct bytes *out, struct err *err)
{
    struct by_message *b = arg;
    struct kept *k = find(b, 0), made;
    struct ptid thread;
    struct err why;
    if (!k)
        return err_set(err, "there are %d checkpoints already: delete-checkpoint N",
                       CHECKPOINTS_MAX);
    if (ptrace_target_diverted(b->target))
        return err_set(err, "this is a what-if, which is thrown away: go back first");
    if (by_message_thread(b, &thread, err) < 0)
        return -1;
    if (keep(b, &made, &why) < 0)
        return err_set(err, "%.300s; an event can be kept: dbg3 prev-msg, then dbg3 checkpoint",
                       why.text);
    *k = made;
    k->number = ++b->last_checkpoint;
    bytes_printf(out, "checkpoint %u: ", k->number);
    describe(b, k, out);
    bytes_text(out, "\n");
    return 0;
}

int by_message_checkpoints(void *arg, const char *args, struct bytes *out, struct err *err)
{
    struct by_message *b = arg;
    bool any = false;
    for (unsigned n = 1; n <= b->last_checkpoint; n++) {
        const struct kept *k = find(b, n);
        if (!k)
            continue;
        any = true;
        bytes_printf(out, "checkpoint %u: ", n);
        describe(b, k, out);
        if (k->pc)
            bytes_printf(out, ", at 0x%" PRIx64, k->pc);
        bytes_text(out, "\n");
    }
    if (!any)
        bytes_text(out, "no checkpoints\n");
    return 0;
}

static struct kept *parse(struct by_message *b, const char *args, struct err *err)
{
    uint64_t number = 0;
    struct kept *k = NULL;
    if (by_message_parse_number(args, "which checkpoint? a number of dbg3 checkpoints", &number,
                                err) < 0)
        return NULL;
    if (number && !(k = find(b, number)))
        err_set(err, "there is no checkpoint %s", args);
    if (!number)
        err_set(err, "checkpoints are numbered from 1");
    return k;
}

int by_message_restart(void *arg, const char *args, struct bytes *out, struct err *err)
{
    struct by_message *b = arg;
    const struct kept *k = parse(b, args, err);
    if (!k)
        return -1;
    b->target_kept = k;
    bytes_printf(out, "continue goes to checkpoint %u, ", k->number);
    describe(b, k, out);
    bytes_text(out, "\n");
    return 0;
}

int by_message_delete(void *arg, const char *args, struct bytes *out, struct err *err)
{
    struct by_message *b = arg;
    if (*args) {
        struct kept *k = parse(b, args, err);
        if (!k)
            return -1;
        if (b->target_kept == k)
            b->target_kept = NULL;
        drop(k);
        return 0;
    }
    if (b->target_kept != &b->home)
        b->target_kept = NULL;
    for (size_t i = 0; i < CHECKPOINTS_MAX; i++)
        drop(&b->checkpoint[i]);
    return 0;
}
