/*
 * image_notes.c - the notes of an image, written and read
 *
 * Order, as GDB wants it: NT_PRSTATUS of the first thread, the notes of the process, the other
 * notes of the first thread; then each further thread: NT_PRSTATUS, NT_FPREGSET, NT_X86_XSTATE,
 * NT_SIGINFO, ours. After them our notes of the process.
 *
 * NT_PRPSINFO, NT_FPREGSET and NT_FILE say again, for GDB, what other notes say; they are not read
 * back.
 */
#include <errno.h>
#include <string.h>
#include <sys/procfs.h>

#include "runtime/image/image_format.h"
#include "runtime/image/image_xsave.h"

#define XSAVE_SW       464u /* software bytes: XCR0 in the first eight */
#define XSAVE_SW_SIZE  48u
#define XSAVE_SIZE_MAX (64u << 10)
#define SIGINFO_SIZE   128u
#define PRPSINFO_STATE 'R'

_Static_assert(sizeof(struct elf_prstatus) == 336, "the kernel's layout (linux/elfcore.h)");
_Static_assert(sizeof(struct elf_prpsinfo) == 136, "the kernel's layout (linux/elfcore.h)");
_Static_assert(sizeof(struct user_regs_struct) == sizeof(elf_gregset_t), "the same registers");

/* ---- fields: one function a structure, for both directions ---- */

static void code_build_id(struct codec *c, uint8_t *id, uint8_t *len)
{
    code_u8(c, len);
    if (*len > IMAGE_BUILD_ID_MAX) {
        c->failed = true;
        *len = 0;
    }
    code_raw(c, id, *len);
}

static void code_argument(struct codec *c, void *e)
{
    code_string(c, e);
    if (!*(const char **)e)
        c->failed = true;
}

static void code_meta(struct codec *c, struct image_meta *m)
{
    code_i32(c, &m->rank);
    code_i32(c, &m->size);
    code_u64(c, &m->epoch);
    code_u64(c, &m->checkpoint);
    code_u32(c, &m->position.segment);
    code_u64(c, &m->position.offset);
    code_u64(c, &m->position.event);
    code_u64(c, &m->time_ns);
    code_i32(c, &m->pid);
    code_i32(c, &m->ppid);
    code_i32(c, &m->pgrp);
    code_i32(c, &m->sid);
    code_u32(c, &m->uid);
    code_u32(c, &m->gid);
    code_u32(c, &m->umask);
    code_u64(c, &m->brk_start);
    code_u64(c, &m->brk);
    code_u64(c, &m->entry);
    code_u64(c, &m->root);
    code_u64(c, &m->xcr0);
    code_string(c, &m->program);
    code_build_id(c, m->build_id, &m->build_id_len);
    code_string(c, &m->hostname);
    code_string(c, &m->cwd);
    code_array(c, (void **)&m->argv, &m->argc, sizeof(char *), code_argument);
    for (size_t i = 0; i < IMAGE_NSIG; i++) {
        code_u64(c, &m->sigactions[i].handler);
        code_u64(c, &m->sigactions[i].flags);
        code_u64(c, &m->sigactions[i].restorer);
        code_u64(c, &m->sigactions[i].mask);
    }
    for (size_t i = 0; i < IMAGE_NITIMERS; i++) {
        code_u64(c, &m->itimers[i].interval_us);
        code_u64(c, &m->itimers[i].value_us);
    }
}

static void code_region(struct codec *c, void *e)
{
    struct image_region *r = e;
    uint8_t fill = r->fill == IMAGE_FILL_FILE ? IMAGE_FILL_FILE : IMAGE_FILL_ZERO;
    code_u64(c, &r->start);
    code_u64(c, &r->end);
    code_u32(c, &r->prot);
    code_u32(c, &r->flags);
    code_u8(c, &fill);
    code_string(c, &r->path);
    code_u64(c, &r->offset);
    code_u64(c, &r->dev);
    code_u64(c, &r->ino);
    code_build_id(c, r->build_id, &r->build_id_len);
    if (!c->out) {
        r->fill = fill;
        if (fill > IMAGE_FILL_FILE)
            c->failed = true;
    }
}

/* What NT_PRSTATUS does not say, or says of the process. */
static void code_thread(struct codec *c, struct image_thread *t)
{
    code_i32(c, &t->signo);
    code_u64(c, &t->resume_sp);
    code_u64(c, &t->clear_child_tid);
    code_u64(c, &t->robust_list);
    code_u64(c, &t->robust_list_len);
    code_u64(c, &t->altstack_sp);
    code_u64(c, &t->altstack_size);
    code_u32(c, &t->altstack_flags);
    code_string(c, &t->name);
}

static void code_file(struct codec *c, void *e)
{
    struct image_file *f = e;
    uint32_t kind = f->kind;
    code_i32(c, &f->fd);
    code_u32(c, &kind);
    code_u32(c, &f->flags);
    code_bool(c, &f->cloexec);
    code_u64(c, &f->offset);
    code_u64(c, &f->size);
    code_u64(c, &f->dev);
    code_u64(c, &f->ino);
    code_string(c, &f->path);
    if (!c->out) {
        f->kind = kind;
        if (kind > IMAGE_FILE_OTHER)
            c->failed = true;
    }
}

/* ---- the notes of Linux core files, from the same facts ---- */

static size_t note_begin(struct codec_bytes *out, const char *owner, uint32_t type)
{
    size_t at = out->len;
    Elf64_Nhdr nhdr = {.n_namesz = (uint32_t)strlen(owner) + 1, .n_type = type};
    codec_bytes_add(out, &nhdr, sizeof nhdr);
    codec_bytes_add(out, owner, nhdr.n_namesz);
    codec_bytes_pad(out, 4);
    return at;
}

static void note_end(struct codec_bytes *out, size_t at, const char *owner)
{
    size_t body = at + sizeof(Elf64_Nhdr) + ((strlen(owner) + 4) & ~(size_t)3);
    if (out->failed)
        return;
    uint32_t size = (uint32_t)(out->len - body);
    memcpy(out->data + at + offsetof(Elf64_Nhdr, n_descsz), &size, sizeof size);
    codec_bytes_pad(out, 4);
}

static void note_add(struct codec_bytes *out, const char *owner, uint32_t type, const void *data,
                     size_t size)
{
    size_t at = note_begin(out, owner, type);
    codec_bytes_add(out, data, size);
    note_end(out, at, owner);
}

/* pr_cursig is the process's fatal signal in each thread's, as the kernel writes it: BFD believes
 * the last. */
static void add_prstatus(struct codec_bytes *out, const struct image_state *state,
                         const struct image_thread *t)
{
    const struct image_meta *m = &state->meta;
    struct elf_prstatus st = {
        .pr_cursig = (short)state->threads[0].signo,
        .pr_sigpend = t->pending,
        .pr_sighold = t->sigmask,
        .pr_pid = t->tid,
        .pr_ppid = m->ppid,
        .pr_pgrp = m->pgrp,
        .pr_sid = m->sid,
        .pr_fpvalid = t->xsave != NULL,
    };
    st.pr_info.si_signo = st.pr_cursig;
    memcpy(st.pr_reg, &t->regs, sizeof st.pr_reg);
    note_add(out, "CORE", NT_PRSTATUS, &st, sizeof st);
}

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void add_prpsinfo(struct codec_bytes *out, const struct image_meta *m)
{
    struct elf_prpsinfo ps = {
        .pr_sname = PRPSINFO_STATE,
        .pr_uid = m->uid,
        .pr_gid = m->gid,
        .pr_pid = m->pid,
        .pr_ppid = m->ppid,
        .pr_pgrp = m->pgrp,
        .pr_sid = m->sid,
    };
    if (m->program)
        strncpy(ps.pr_fname, file_name(m->program), sizeof ps.pr_fname - 1);
    size_t at = 0;
    for (size_t i = 0; i < m->argc && at + 1 < sizeof ps.pr_psargs; i++) {
        if (i)
            ps.pr_psargs[at++] = ' ';
        size_t n = strnlen(m->argv[i], sizeof ps.pr_psargs - 1 - at);
        memcpy(ps.pr_psargs + at, m->argv[i], n);
        at += n;
    }
    note_add(out, "CORE", NT_PRPSINFO, &ps, sizeof ps);
}

/* count, page size, {start, end, page of the file} x count, names (fs/binfmt_elf.c,
 * fill_files_note). */
static void add_nt_file(struct codec_bytes *out, const struct image_state *state)
{
    size_t at = note_begin(out, "CORE", NT_FILE);
    size_t count_at = out->len;
    uint64_t head[2] = {0, IMAGE_PAGE};
    codec_bytes_add(out, head, sizeof head);
    for (size_t i = 0; i < state->nregions; i++) {
        const struct image_region *r = &state->regions[i];
        if (!(r->flags & IMAGE_REGION_FILE) || !r->path)
            continue;
        uint64_t entry[3] = {r->start, r->end, r->offset / IMAGE_PAGE};
        codec_bytes_add(out, entry, sizeof entry);
        head[0]++;
    }
    for (size_t i = 0; i < state->nregions; i++) {
        const struct image_region *r = &state->regions[i];
        if ((r->flags & IMAGE_REGION_FILE) && r->path)
            codec_bytes_add(out, r->path, strlen(r->path) + 1);
    }
    if (!out->failed)
        memcpy(out->data + count_at, head, sizeof head);
    note_end(out, at, "CORE");
}

/* A signal frame keeps sizes and a magic number where ptrace and core files keep XCR0. */
static void add_xsave(struct codec_bytes *out, const struct image_meta *m,
                      const struct image_thread *t)
{
    uint8_t legacy[IMAGE_XSAVE_LEGACY];
    memcpy(legacy, t->xsave, sizeof legacy);
    memset(legacy + XSAVE_SW, 0, XSAVE_SW_SIZE);
    memcpy(legacy + XSAVE_SW, &m->xcr0, sizeof m->xcr0);
    note_add(out, "CORE", NT_FPREGSET, legacy, sizeof legacy);
    size_t at = note_begin(out, "LINUX", NT_X86_XSTATE);
    codec_bytes_add(out, legacy, sizeof legacy);
    if (t->xsave_for_gdb) /* from another image */
        codec_bytes_add(out, t->xsave + IMAGE_XSAVE_LEGACY, t->xsave_size - IMAGE_XSAVE_LEGACY);
    else
        image_xsave_add(out, m->xcr0, t->xsave, t->xsave_size, image_xsave_here());
    note_end(out, at, "LINUX");
}

/* ---- writing ---- */

static struct codec own_note(struct codec_bytes *out, enum image_note type, size_t *at)
{
    *at = note_begin(out, IMAGE_OWNER, type);
    return (struct codec){.out = out};
}

static void add_thread(struct codec_bytes *out, const struct image_state *state,
                       const struct image_thread *t, bool first)
{
    add_prstatus(out, state, t);
    if (first) {
        add_prpsinfo(out, &state->meta);
        note_add(out, "CORE", NT_AUXV, state->meta.auxv, state->meta.auxv_size);
        add_nt_file(out, state);
    }
    if (t->siginfo_size)
        note_add(out, "CORE", NT_SIGINFO, t->siginfo, t->siginfo_size);
    if (t->xsave)
        add_xsave(out, &state->meta, t);
    size_t at;
    struct codec c = own_note(out, IMAGE_NOTE_THREAD, &at);
    struct image_thread copy = *t;
    code_thread(&c, &copy);
    note_end(out, at, IMAGE_OWNER);
}

void image_notes_encode(const struct image_state *state, struct codec_bytes *out)
{
    struct image_state s = *state;
    size_t at;
    for (size_t i = 0; i < s.nthreads; i++)
        add_thread(out, state, &s.threads[i], i == 0);

    struct codec c = own_note(out, IMAGE_NOTE_META, &at);
    code_string(&c, &s.parent);
    code_meta(&c, &s.meta);
    note_end(out, at, IMAGE_OWNER);

    c = own_note(out, IMAGE_NOTE_REGIONS, &at);
    code_array(&c, (void **)&s.regions, &s.nregions, sizeof *s.regions, code_region);
    note_end(out, at, IMAGE_OWNER);

    c = own_note(out, IMAGE_NOTE_FILES, &at);
    code_array(&c, (void **)&s.files, &s.nfiles, sizeof *s.files, code_file);
    note_end(out, at, IMAGE_OWNER);

    for (size_t i = 0; i < s.nblobs; i++) {
        struct image_blob blob = s.blobs[i];
        c = own_note(out, IMAGE_NOTE_BLOB, &at);
        code_string(&c, &blob.name);
        code_blob(&c, (const uint8_t **)&blob.data, &blob.size);
        note_end(out, at, IMAGE_OWNER);
    }
}

/* ---- reading ---- */

struct note {
    const char *owner;
    uint32_t type;
    const uint8_t *data;
    size_t size;
};

/* Next note of [*p, *p + *left). 1, 0 at the end, -1 when the sizes do not fit. */
static int note_next(const uint8_t **p, size_t *left, struct note *note)
{
    Elf64_Nhdr nhdr;
    if (*left == 0)
        return 0;
    if (*left < sizeof nhdr)
        return -1;
    memcpy(&nhdr, *p, sizeof nhdr);
    uint64_t name = ((uint64_t)nhdr.n_namesz + 3) & ~(uint64_t)3;
    uint64_t desc = ((uint64_t)nhdr.n_descsz + 3) & ~(uint64_t)3;
    if (name + desc > *left - sizeof nhdr || nhdr.n_namesz == 0)
        return -1;
    const uint8_t *at = *p + sizeof nhdr;
    if (at[nhdr.n_namesz - 1] != '\0')
        return -1;
    *note = (struct note){(const char *)at, nhdr.n_type, at + name, nhdr.n_descsz};
    *p = at + name + desc;
    *left -= sizeof nhdr + name + desc;
    return 1;
}

struct reader {
    const char *path;
    struct codec_arena *arena;
    struct image_state *state;
    struct image_thread *threads;
    size_t nthreads; /* met so far */
    struct image_blob *blobs;
    size_t nblobs;
    bool meta;
    struct err *err;
};

static int read_prstatus(struct reader *r, const struct note *note)
{
    struct elf_prstatus st;
    if (note->size != sizeof st)
        return image_err_damaged(r->err, r->path, "NT_PRSTATUS of %zu bytes", note->size);
    memcpy(&st, note->data, sizeof st);
    struct image_thread *t = &r->threads[r->nthreads++];
    t->tid = st.pr_pid;
    t->pending = st.pr_sigpend;
    t->sigmask = st.pr_sighold;
    memcpy(&t->regs, st.pr_reg, sizeof t->regs);
    return 0;
}

static int read_thread_note(struct reader *r, const struct note *note)
{
    if (r->nthreads == 0)
        return image_err_damaged(r->err, r->path, "a note of a thread before any thread");
    struct image_thread *t = &r->threads[r->nthreads - 1];
    if (note->type == NT_X86_XSTATE) {
        if (note->size < IMAGE_XSAVE_LEGACY || note->size > XSAVE_SIZE_MAX)
            return image_err_damaged(r->err, r->path, "NT_X86_XSTATE of %zu bytes", note->size);
        t->xsave = note->data;
        t->xsave_size = (uint32_t)note->size;
        t->xsave_for_gdb = true;
        return 0;
    }
    if (note->size > sizeof t->siginfo)
        return image_err_damaged(r->err, r->path, "NT_SIGINFO of %zu bytes", note->size);
    memcpy(t->siginfo, note->data, note->size);
    t->siginfo_size = (uint32_t)note->size;
    return 0;
}

static int read_own_note(struct reader *r, const struct note *note)
{
    struct codec c = {.in = note->data, .left = note->size, .arena = r->arena};
    struct image_state *s = r->state;
    switch (note->type) {
    case IMAGE_NOTE_META:
        code_string(&c, &s->parent);
        code_meta(&c, &s->meta);
        r->meta = true;
        break;
    case IMAGE_NOTE_REGIONS:
        code_array(&c, (void **)&s->regions, &s->nregions, sizeof *s->regions, code_region);
        break;
    case IMAGE_NOTE_THREAD:
        if (r->nthreads == 0)
            return image_err_damaged(r->err, r->path, "a note of a thread before any thread");
        code_thread(&c, &r->threads[r->nthreads - 1]);
        break;
    case IMAGE_NOTE_FILES:
        code_array(&c, (void **)&s->files, &s->nfiles, sizeof *s->files, code_file);
        break;
    case IMAGE_NOTE_BLOB:
        code_string(&c, &r->blobs[r->nblobs].name);
        code_blob(&c, (const uint8_t **)&r->blobs[r->nblobs].data, &r->blobs[r->nblobs].size);
        if (!r->blobs[r->nblobs].name)
            c.failed = true;
        r->nblobs++;
        break;
    default:
        return image_err_damaged(r->err, r->path, "unknown note %u", note->type);
    }
    if (c.failed || c.left)
        return image_err_damaged(r->err, r->path, "note %u does not decode", note->type);
    return 0;
}

static int read_note(struct reader *r, const struct note *note)
{
    if (strcmp(note->owner, IMAGE_OWNER) == 0)
        return read_own_note(r, note);
    if (strcmp(note->owner, "CORE") == 0 && note->type == NT_PRSTATUS)
        return read_prstatus(r, note);
    if (strcmp(note->owner, "CORE") == 0 && note->type == NT_AUXV) {
        r->state->meta.auxv = note->size ? note->data : NULL;
        r->state->meta.auxv_size = note->size;
    } else if (strcmp(note->owner, "CORE") == 0 && note->type == NT_SIGINFO) {
        return read_thread_note(r, note);
    } else if (strcmp(note->owner, "LINUX") == 0 && note->type == NT_X86_XSTATE) {
        return read_thread_note(r, note);
    }
    return 0;
}

/* Counts threads and blobs, so that their arrays are allocated once. */
static int count_notes(struct reader *r, const uint8_t *notes, size_t size)
{
    size_t nthreads = 0, nblobs = 0;
    struct note note;
    int more;
    while ((more = note_next(&notes, &size, &note)) > 0) {
        nthreads += strcmp(note.owner, "CORE") == 0 && note.type == NT_PRSTATUS;
        nblobs += strcmp(note.owner, IMAGE_OWNER) == 0 && note.type == IMAGE_NOTE_BLOB;
    }
    if (more < 0)
        return image_err_damaged(r->err, r->path, "the notes' sizes do not fit");
    r->threads = codec_alloc(r->arena, nthreads, sizeof *r->threads);
    r->blobs = codec_alloc(r->arena, nblobs, sizeof *r->blobs);
    if (!r->threads || !r->blobs)
        return image_err_code(r->err, ENOMEM, "%s: out of memory", r->path);
    return 0;
}

int image_notes_decode(const uint8_t *notes, size_t size, const char *path,
                       struct codec_arena *arena, struct image_state *state, struct err *err)
{
    struct reader r = {.path = path, .arena = arena, .state = state, .err = err};
    if (count_notes(&r, notes, size) < 0)
        return -1;
    struct note note;
    while (note_next(&notes, &size, &note) > 0) {
        if (read_note(&r, &note) < 0)
            return -1;
    }
    if (!r.meta)
        return image_err_damaged(err, path, "no note tells what it is");
    const char *fault = image_regions_fault(state->regions, state->nregions);
    if (fault)
        return image_err_damaged(err, path, "%s", fault);
    state->threads = r.threads;
    state->nthreads = r.nthreads;
    state->blobs = r.blobs;
    state->nblobs = r.nblobs;
    return 0;
}

const char *image_regions_fault(const struct image_region *regions, size_t n)
{
    uint64_t end = 0;
    for (size_t i = 0; i < n; i++) {
        const struct image_region *r = &regions[i];
        if (r->start % IMAGE_PAGE || r->end % IMAGE_PAGE || r->start >= r->end)
            return "a region has no valid bounds";
        if (r->start < end)
            return "the regions overlap or are not sorted";
        if (r->fill == IMAGE_FILL_FILE &&
            (!(r->flags & IMAGE_REGION_FILE) || !r->path || r->offset % IMAGE_PAGE ||
             r->offset > INT64_MAX - (r->end - r->start)))
            return "a region is filled from a file that it does not map";
        end = r->end;
    }
    return NULL;
}

const void *image_blob_find(const struct image_state *state, const char *name, size_t *size)
{
    for (size_t i = 0; i < state->nblobs; i++) {
        if (strcmp(state->blobs[i].name, name) == 0) {
            if (size)
                *size = state->blobs[i].size;
            return state->blobs[i].data;
        }
    }
    return NULL;
}
