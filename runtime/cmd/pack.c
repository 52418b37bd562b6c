/*
 * pack.c - dbg3 pack: one recorded rank as a file that is opened elsewhere
 */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "call_id.h"
#include "runtime/base/human.h"
#include "runtime/cmd/cmd.h"
#include "runtime/cmd/preflight.h"
#include "runtime/cmd/recorded.h"
#include "runtime/cmd/unpacked.h"
#include "runtime/half/gate.h"
#include "runtime/pack/bundle.h"

struct pack {
    struct common common;
    long rank;
    const char *out; /* NULL: named after program and rank; "-": standard output */
    bool no_sources;
    char name[PATH_MAX];
};

enum { KEY_NO_SOURCES = 0x100 };

static const struct argp_option options[] = {
    {"rank", 'r', "R", 0, "rank in MPI_COMM_WORLD (required)", 1},
    {"output", 'o', "FILE", 0,
     "file to write; - is standard output (default: PROGRAM-rank-R.dbg3pack)", 1},
    {"no-sources", KEY_NO_SOURCES, NULL, 0, "leave out the program's source files", 1},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *state)
{
    struct pack *p = state->input;
    switch (key) {
    case 'r':
        p->rank = (long)cmd_number(state, "rank", arg);
        return 0;
    case 'o':
        p->out = arg;
        return 0;
    case KEY_NO_SOURCES:
        p->no_sources = true;
        return 0;
    case ARGP_KEY_INIT:
        state->child_inputs[0] = &p->common;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(state, "unexpected word: %s (-o FILE says where to)", arg);
        return 0;
    case ARGP_KEY_END:
        if (p->rank < 0)
            argp_error(state, "which rank? --rank R");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&common_argp, 0, NULL, 0}, {0}};
const struct argp pack_argp = {
    options,
    parse,
    "--rank R [-o FILE]",
    "Pack one recorded rank into a file, to be opened on another machine: its checkpoints and "
    "recording, program, libraries, debug files and sources.\v"
    "There, with neither MPI nor the program's libraries: dbg3 isolate FILE. It needs dbg3 of the "
    "same version, GDB, and a processor with the same features. The file holds the rank's memory "
    "and whatever it has read, and is for its owner only (0600). It is a tar file, compressed by "
    "zstd: tar --zstd -tf FILE lists it.",
    children,
    NULL,
    NULL};

/* ---- the file ---- */

/* The file gets its name when it is whole. */
static int open_out(struct pack *p, char *temporary, size_t cap, struct err *err)
{
    if (!strcmp(p->out, "-")) {
        *temporary = '\0';
        return isatty(STDOUT_FILENO)
                   ? err_set(err, "standard output is a terminal: -o FILE, or into a pipe")
                   : STDOUT_FILENO;
    }
    snprintf(temporary, cap, "%s.XXXXXX", p->out);
    int fd = mkostemp(temporary, O_CLOEXEC); /* 0600 */
    return fd < 0 ? err_sys(err, "cannot write %s", p->out) : fd;
}

static int close_out(const struct pack *p, int fd, const char *temporary, int rc, struct err *err)
{
    if (!*temporary)
        return rc;
    if (rc == 0 && fsync(fd) < 0)
        rc = err_sys(err, "cannot write %s", p->out);
    close(fd);
    if (rc == 0 && rename(temporary, p->out) < 0)
        rc = err_sys(err, "cannot write %s", p->out);
    if (rc < 0)
        unlink(temporary);
    return rc;
}

/* ---- packing ---- */

static int facts_of(struct pack *p, struct session *s, struct bundle_facts *f,
                    char image[PATH_MAX], struct err *err)
{
    struct recorded r;
    if (recorded_rank(s, p->rank, &r, err) < 0 || preflight_unchanged(s, err) < 0)
        return -1;
    *image = '\0';
    if (!r.has_fine && recorded_epoch_image(s, &r, image, err) < 0)
        return -1;
    *f = (struct bundle_facts){
        .dbg3 = DBG3_VERSION, .gate = GATE_VERSION, .calls = CALL_COUNT, .rank = r.rank,
        .size = r.size, .recorded_from = r.from_epoch, .signal = r.signal,
        .image = *image ? image + strlen(session_dir(s)) + 1 : image};
    if (!p->out) {
        const char *slash = strrchr(session_job(s)->program, '/');
        snprintf(p->name, sizeof p->name, "%.200s-rank-%u.dbg3pack",
                 slash ? slash + 1 : session_job(s)->program, r.rank);
        p->out = p->name;
    }
    return 0;
}

static void report(const struct pack *p, const struct bundle_packed *packed)
{
    char content[16], bytes[16];
    FILE *out = strcmp(p->out, "-") ? stdout : stderr;
    if (p->common.json) {
        json_t *o = json_pack("{s:i, s:s, s:I, s:I, s:i, s:i, s:i, s:i}", "rank", (int)p->rank,
                              "file", p->out, "bytes", (json_int_t)packed->bytes, "content",
                              (json_int_t)packed->content, "images", (int)packed->images,
                              "binaries", (int)packed->libraries, "debug_files",
                              (int)packed->debug_files, "sources", (int)packed->sources);
        json_dumpf(o, out, 0);
        fputc('\n', out);
        json_decref(o);
        return;
    }
    fprintf(out,
            "%s: rank %ld, %s of %s; program and libraries: %u, debug files: %u, sources: %u\n",
            p->out, p->rank, human_bytes(packed->bytes, bytes, sizeof bytes),
            human_bytes(packed->content, content, sizeof content), packed->libraries,
            packed->debug_files, packed->sources);
    fprintf(out, "there: dbg3 isolate %s\n", strcmp(p->out, "-") ? p->out : "FILE");
}

static int pack(struct pack *p, struct session *s, struct err *err)
{
    char image[PATH_MAX], temporary[PATH_MAX + 16];
    struct bundle_packed packed;
    struct bundle_pack_options o = {.session = session_dir(s),
                                    .sources = !p->no_sources,
                                    .progress = {unpacked_progress, "packing"}};
    if (facts_of(p, s, &o.facts, image, err) < 0)
        return -1;
    int fd = open_out(p, temporary, sizeof temporary, err);
    if (fd < 0)
        return -1;
    int rc = close_out(p, fd, temporary, bundle_pack(&o, fd, p->out, &packed, err), err);
    progress_clear();
    if (rc == 0)
        report(p, &packed);
    return rc;
}

int cmd_pack(int argc, char **argv)
{
    struct err err = {0};
    struct pack p = {.rank = -1};
    cmd_parse(&pack_argp, argc, argv, 0, &p);
    struct session *s = session_open(p.common.session, &err);
    int rc = s ? pack(&p, s, &err) : -1;
    session_close(s);
    return rc < 0 ? cmd_fail(EXIT_ERROR, &err) : EXIT_DONE;
}
