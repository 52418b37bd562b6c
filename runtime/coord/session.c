/*
 * session.c - the session folder and its catalog
 */
#define LOG_MODULE "session"
#include "runtime/coord/session.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <inttypes.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "runtime/base/fault.h"
#include "runtime/base/log.h"
#include "runtime/coord/db.h"

static const char schema[] =
    "CREATE TABLE job (id INTEGER PRIMARY KEY CHECK (id = 1), program TEXT, build_id TEXT,"
    " cwd TEXT, launcher TEXT, environment TEXT, size INTEGER, created REAL);"
    "CREATE TABLE phases (id INTEGER PRIMARY KEY, kind INTEGER, outcome INTEGER, started REAL,"
    " ended REAL, from_epoch INTEGER, pid INTEGER, status INTEGER, launcher TEXT);"
    "CREATE TABLE ranks (phase INTEGER, rank INTEGER, pid INTEGER, host TEXT, program TEXT,"
    " build_id TEXT, finalized INTEGER, PRIMARY KEY (phase, rank));"
    "CREATE TABLE epochs (number INTEGER PRIMARY KEY, phase INTEGER, committed REAL,"
    " us_total INTEGER);"
    "CREATE TABLE images (epoch INTEGER, rank INTEGER, file TEXT, bytes INTEGER, us_write INTEGER,"
    " us_pause INTEGER, checksum INTEGER, PRIMARY KEY (epoch, rank));"
    "CREATE TABLE failures (phase INTEGER, rank INTEGER, ord INTEGER, kind INTEGER, code INTEGER,"
    " event INTEGER, pc INTEGER, address INTEGER, module_offset INTEGER, at REAL, text TEXT,"
    " call TEXT, image TEXT, module TEXT, source TEXT, PRIMARY KEY (phase, rank));"
    "CREATE TABLE fine (phase INTEGER, rank INTEGER, number INTEGER, event INTEGER, bytes INTEGER,"
    " us INTEGER, PRIMARY KEY (phase, rank, number));";

static const char *const folders[] = {"epochs", "fine", "logs", "counters", "failures"};

struct session {
    char *dir;
    struct db *db;
    int lock_fd; /* -1: opened for reading */
    uint64_t last_number; /* newest epoch number handed out */
    struct session_job job;
    const char *latest_before; /* where ./latest.dbg3 pointed when this was made; NULL: nowhere */
    struct string {
        struct string *next;
        char text[];
    } *strings;
};

static double now_seconds(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

const char *session_outcome_name(enum session_outcome outcome)
{
    static const char *const names[SESSION_NOUTCOMES] = {
        "running", "completed", "failed", "hung", "launcher failed", "no rank", "interrupted"};
    return outcome < SESSION_NOUTCOMES ? names[outcome] : "?";
}

const char *session_phase_name(enum proto_phase kind)
{
    static const char *const names[] = {"batch", "restart", "refine"};
    return kind <= PROTO_PHASE_REFINE ? names[kind] : "?";
}

/* A copy that lives as long as the session. */
static const char *keep(struct session *s, const char *text)
{
    size_t n = strlen(text) + 1;
    struct string *copy = malloc(sizeof *copy + n);
    if (!copy)
        return "";
    memcpy(copy->text, text, n);
    copy->next = s->strings;
    s->strings = copy;
    return copy->text;
}

static void path_in(const struct session *s, const char *name, char *buf, size_t cap)
{
    snprintf(buf, cap, "%s/%s", s->dir, name);
}

/* ---- lists of strings in the catalog are JSON arrays ------------------------------------- */

static char *list_dump(char *const *list)
{
    json_t *array = json_array();
    for (; list && *list; list++)
        json_array_append_new(array, json_string(*list) ?: json_string_nocheck("?"));
    char *text = json_dumps(array, JSON_COMPACT);
    json_decref(array);
    return text;
}

static char **list_load(struct session *s, const char *text)
{
    json_t *array = json_loads(text, 0, NULL);
    size_t n = json_array_size(array);
    char **list = calloc(n + 1, sizeof *list);
    for (size_t i = 0; list && i < n; i++)
        list[i] = (char *)(uintptr_t)keep(s, json_string_value(json_array_get(array, i)) ?: "");
    json_decref(array);
    return list;
}

/* ---- folder ------------------------------------------------------------------------------ */

#define REMOVE_TRIES 100

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

/* Removes a folder inside the session; symbolic links are not followed. A rank that does not know
 * yet that its epoch is given up may begin its image there meanwhile, or remove it. */
static void remove_tree(const struct session *s, const char *name)
{
    char path[PATH_MAX];
    int rc;
    path_in(s, name, path, sizeof path);
    if (access(path, F_OK) < 0)
        return;
    for (int i = 0; i < REMOVE_TRIES; i++)
        if ((rc = nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS)) == 0 || errno != ENOTEMPTY)
            break;
    if (rc < 0)
        log_warn("cannot remove %s: %s", path, strerror(errno));
}

static int sync_path(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_sys(err, "%s", path);
    int rc = fsync(fd) < 0 ? err_sys(err, "cannot sync %s", path) : 0;
    close(fd);
    return rc;
}

static int make_folders(const struct session *s, struct err *err)
{
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        char path[PATH_MAX];
        path_in(s, folders[i], path, sizeof path);
        if (mkdir(path, 0700) < 0 && errno != EEXIST)
            return err_sys(err, "%s", path);
    }
    return 0;
}

/*
 * fcntl locks, not flock: they name their holder and work over NFS. The usual trap (any close of
 * the file drops the lock) does not matter, as the file is opened here only.
 */
static int lock_take(struct session *s, struct err *err)
{
    char path[PATH_MAX];
    path_in(s, "lock", path, sizeof path);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_sys(err, "%s", path);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_SETLK, &lock) == 0) {
        s->lock_fd = fd;
        return 0;
    }
    lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
        lock.l_pid = 0;
    close(fd);
    return err_set(err, "%s: dbg3 (pid %d) is running a phase on this session; wait for it, or end "
                        "it with: kill -INT %d", s->dir, (int)lock.l_pid, (int)lock.l_pid);
}

int session_running(const struct session *s)
{
    char path[PATH_MAX];
    if (s->lock_fd >= 0)
        return getpid();
    path_in(s, "lock", path, sizeof path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    int pid = fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK ? lock.l_pid : 0;
    if (fd >= 0)
        close(fd);
    return pid;
}

/* Points ./latest.dbg3 at a folder, replacing an older link. */
static int link_latest(const char *target, struct err *err)
{
    char temporary[64];
    snprintf(temporary, sizeof temporary, ".latest.%d", (int)getpid());
    if (symlink(target, temporary) == 0 && rename(temporary, SESSION_LATEST) == 0)
        return 0;
    err_sys(err, "./" SESSION_LATEST);
    unlink(temporary);
    return -1;
}

/* The same at the session; never in the place of a real folder. */
static int point_latest(struct session *s, struct err *err)
{
    struct stat st;
    char cwd[PATH_MAX], before[PATH_MAX];
    if (lstat(SESSION_LATEST, &st) == 0 && !S_ISLNK(st.st_mode))
        return err_set(err, "./" SESSION_LATEST " is not a symbolic link; move it away");
    ssize_t length = readlink(SESSION_LATEST, before, sizeof before - 1);
    if (length > 0) {
        before[length] = '\0';
        s->latest_before = keep(s, before);
    }
    const char *target = s->dir;
    if (getcwd(cwd, sizeof cwd)) {
        size_t n = strlen(cwd);
        if (!strncmp(target, cwd, n) && target[n] == '/')
            target += n + 1;
    }
    return link_latest(target, err);
}

void session_latest_back(struct session *s)
{
    struct err err;
    if (s->latest_before && link_latest(s->latest_before, &err) < 0)
        log_warn("%s", err.text);
    s->latest_before = NULL;
}

/* ---- create, open, close ----------------------------------------------------------------- */

static struct session *session_new(void)
{
    struct session *s = calloc(1, sizeof *s);
    if (s)
        s->lock_fd = -1;
    return s;
}

void session_close(struct session *s)
{
    if (!s)
        return;
    int saved = errno;
    db_close(s->db);
    if (s->lock_fd >= 0)
        close(s->lock_fd);
    free(s->job.launcher);
    free(s->job.environment);
    while (s->strings) {
        struct string *next = s->strings->next;
        free(s->strings);
        s->strings = next;
    }
    free(s->dir);
    free(s);
    errno = saved;
}

/* Makes the folder: as named, or the first free of app.dbg3, app-2.dbg3, ... */
static int make_dir(struct session *s, const char *dir, const char *app, struct err *err)
{
    char path[PATH_MAX];
    for (int i = 1; i < 10000; i++) {
        if (dir)
            snprintf(path, sizeof path, "%s", dir);
        else if (i == 1)
            snprintf(path, sizeof path, "%s" SESSION_SUFFIX, app);
        else
            snprintf(path, sizeof path, "%s-%d" SESSION_SUFFIX, app, i);
        if (mkdir(path, 0700) == 0)
            return (s->dir = realpath(path, NULL)) ? 0 : err_sys(err, "%s", path);
        if (errno != EEXIST)
            return err_sys(err, "cannot make the session folder %s", path);
        if (dir) {
            struct session *other = session_open(dir, NULL);
            int pid = other ? session_running(other) : 0;
            session_close(other);
            if (pid)
                return err_set(err, "%s: dbg3 (pid %d) is running a phase on this session; name "
                                    "another folder", dir, pid);
            return err_set(err, "%s exists already; continue it with: dbg3 restart --session %s "
                                "(or name another folder)", dir, dir);
        }
    }
    return err_set(err, "too many sessions named %s; remove some", app);
}

static int create_catalog(struct session *s, const struct session_job *job, struct err *err)
{
    char path[PATH_MAX], version[64];
    path_in(s, "session.db", path, sizeof path);
    char *launcher = list_dump(job->launcher), *environment = list_dump(job->environment);
    int rc = -1;
    mode_t old = umask(077);
    s->db = db_open(path, true, err);
    umask(old);
    snprintf(version, sizeof version, "PRAGMA user_version = %d", SESSION_SCHEMA);
    if (s->db && db_begin(s->db, err) == 0 && db_script(s->db, schema, err) == 0 &&
        db_run(s->db, err, "INSERT INTO job VALUES (1, ?, ?, ?, ?, ?, ?, ?)", "sssssid",
               job->program, job->build_id, job->cwd, launcher, environment, (int)job->size,
               now_seconds()) == 0 &&
        db_script(s->db, version, err) == 0)
        rc = db_commit(s->db, err);
    free(launcher);
    free(environment);
    return rc;
}

static int load_job(struct session *s, struct err *err)
{
    struct db_rows *rows = db_query(
        s->db, err, "SELECT program, build_id, cwd, launcher, environment, size FROM job", "");
    if (!rows)
        return -1;
    int rc = db_next(rows, err);
    if (rc == 1) {
        free(s->job.launcher);
        free(s->job.environment);
        s->job = (struct session_job){
            .program = keep(s, db_text(rows, 0)),
            .build_id = keep(s, db_text(rows, 1)),
            .cwd = keep(s, db_text(rows, 2)),
            .launcher = list_load(s, db_text(rows, 3)),
            .environment = list_load(s, db_text(rows, 4)),
            .size = (unsigned)db_u64(rows, 5),
        };
    } else if (rc == 0) {
        rc = err_set(err, "%s/session.db names no job; start again with: dbg3 batch", s->dir);
    }
    db_rows_close(rows);
    return rc < 0 ? -1 : 0;
}

struct session *session_create(const char *dir, const char *app, const struct session_job *job,
                               struct err *err)
{
    struct session *s = session_new();
    if (!s || make_dir(s, dir, app, err) < 0 || lock_take(s, err) < 0 ||
        make_folders(s, err) < 0 || create_catalog(s, job, err) < 0 || load_job(s, err) < 0 ||
        point_latest(s, err) < 0) {
        session_close(s);
        return NULL;
    }
    return s;
}

static int check_schema(struct session *s, struct err *err)
{
    uint64_t version;
    if (db_number(s->db, "PRAGMA user_version", 0, &version, err) < 0)
        return -1;
    if (version == SESSION_SCHEMA)
        return 0;
    if (version == 0)
        return err_set(err, "%s/session.db is not a catalog of dbg3", s->dir);
    return err_set(err, "%s was made by another dbg3 (catalog version %" PRIu64
                        ", this one reads %d)", s->dir, version, SESSION_SCHEMA);
}

#define NAME_IT "name the folder that dbg3 batch made, PROGRAM.dbg3"

struct session *session_open(const char *dir, struct err *err)
{
    char path[PATH_MAX];
    const char *name = dir ? dir : SESSION_LATEST;
    struct session *s = session_new();
    if (!s || !(s->dir = realpath(name, NULL))) {
        if (dir)
            err_set(err, "no session at %s (%s); " NAME_IT, dir, strerror(errno));
        else
            err_set(err, "no session here (no ./" SESSION_LATEST "); make one with: dbg3 batch -- "
                         "LAUNCHER..., or name one with --session DIR");
        goto fail;
    }
    path_in(s, "session.db", path, sizeof path);
    if (access(path, F_OK) < 0 && errno != ENOENT) {
        err_sys(err, "cannot open %s", path);
        goto fail;
    }
    if (access(path, F_OK) < 0) {
        err_set(err, "%s is not a session of dbg3 (it has no session.db); " NAME_IT, name);
        goto fail;
    }
    if (!(s->db = db_open(path, false, err)) || check_schema(s, err) < 0 || load_job(s, err) < 0)
        goto fail;
    return s;
fail:
    session_close(s);
    return NULL;
}

/* Removes folders of epochs that never became true. */
static int clean_epochs(struct session *s, struct err *err)
{
    char path[PATH_MAX];
    path_in(s, "epochs", path, sizeof path);
    DIR *dir = opendir(path);
    if (!dir)
        return err_sys(err, "%s", path);
    for (struct dirent *e; (e = readdir(dir));) {
        char *end, name[32];
        uint64_t number = strtoull(e->d_name, &end, 10);
        struct session_epoch epoch;
        if (end == e->d_name || *end || session_epoch_find(s, number, &epoch, NULL) == 0)
            continue;
        if (number > s->last_number)
            s->last_number = number;
        snprintf(name, sizeof name, "epochs/%.20s", e->d_name);
        remove_tree(s, name);
        log_info("removed %s/%s, an epoch that was interrupted", s->dir, name);
    }
    closedir(dir);
    return 0;
}

struct session *session_open_locked(const char *dir, struct err *err)
{
    struct session *s = session_open(dir, err);
    if (!s)
        return NULL;
    if (lock_take(s, err) < 0 || make_folders(s, err) < 0 || clean_epochs(s, err) < 0) {
        session_close(s);
        return NULL;
    }
    session_recording_failed(s); /* one whose dbg3 was killed before a rank came */
    return s;
}

const char *session_dir(const struct session *s)
{
    return s->dir;
}

const struct session_job *session_job(const struct session *s)
{
    return &s->job;
}

int session_job_learn(struct session *s, const char *program, const char *build_id, unsigned size,
                      struct err *err)
{
    if (db_run(s->db, err, "UPDATE job SET program = ?, build_id = ?, size = ?", "ssi", program,
               build_id, (int)size) < 0)
        return -1;
    s->job.program = keep(s, program);
    s->job.build_id = keep(s, build_id);
    s->job.size = size;
    return 0;
}

/* ---- phases ------------------------------------------------------------------------------ */

int session_phase_begin(struct session *s, enum proto_phase kind, uint64_t from_epoch,
                        char *const *launcher, uint64_t *id, struct err *err)
{
    /* Of the phase before: they would be taken for those of ranks that have yet to come. */
    remove_tree(s, "counters");
    if (make_folders(s, err) < 0)
        return -1;
    char *text = list_dump(launcher);
    int rc = db_run(s->db, err,
                    "INSERT INTO phases (kind, outcome, started, from_epoch, pid, launcher)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    "iiduis", (int)kind, (int)SESSION_RUNNING, now_seconds(), from_epoch,
                    (int)getpid(), text);
    free(text);
    return rc < 0 ? -1 : db_number(s->db, "SELECT last_insert_rowid()", 0, id, err);
}

int session_phase_end(struct session *s, uint64_t id, enum session_outcome outcome, int status,
                      struct err *err)
{
    return db_run(s->db, err, "UPDATE phases SET outcome = ?, ended = ?, status = ? WHERE id = ?",
                  "idiu", (int)outcome, now_seconds(), status, id);
}

int session_rank_seen(struct session *s, uint64_t phase, const struct session_rank *rank,
                      struct err *err)
{
    return db_run(s->db, err, "INSERT OR REPLACE INTO ranks VALUES (?, ?, ?, ?, ?, ?, ?)",
                  "uiisssi", phase, (int)rank->rank, rank->pid, rank->host, rank->program,
                  rank->build_id, (int)rank->finalized);
}

int session_rank_finalized(struct session *s, uint64_t phase, unsigned rank, struct err *err)
{
    return db_run(s->db, err, "UPDATE ranks SET finalized = 1 WHERE phase = ? AND rank = ?", "ui",
                  phase, (int)rank);
}

/* ---- epochs ------------------------------------------------------------------------------ */

void session_epoch_folder(const struct session *s, uint64_t number, char *buf, size_t cap)
{
    snprintf(buf, cap, "%s/epochs/%04" PRIu64, s->dir, number);
}

int session_epoch_begin(struct session *s, uint64_t *number, char *folder, size_t cap,
                        struct err *err)
{
    uint64_t newest;
    if (db_number(s->db, "SELECT coalesce(max(number), 0) FROM epochs", 0, &newest, err) < 0)
        return -1;
    if (newest > s->last_number)
        s->last_number = newest;
    session_epoch_folder(s, s->last_number + 1, folder, cap);
    if (mkdir(folder, 0700) < 0)
        return err_sys(err, "%s", folder);
    *number = ++s->last_number;
    return 0;
}

int session_epoch_commit(struct session *s, const struct session_epoch *epoch, struct err *err)
{
    char path[PATH_MAX];
    session_epoch_folder(s, epoch->number, path, sizeof path);
    if (sync_path(path, err) < 0)
        return -1;
    path_in(s, "epochs", path, sizeof path);
    if (sync_path(path, err) < 0 || db_begin(s->db, err) < 0)
        return -1;
    int rc = db_run(s->db, err, "INSERT INTO epochs VALUES (?, ?, ?, ?)", "uudu", epoch->number,
                    epoch->phase, now_seconds(), epoch->us_total);
    for (unsigned i = 0; rc == 0 && i < epoch->nimages; i++) {
        const struct session_image *image = &epoch->image[i];
        rc = db_run(s->db, err, "INSERT INTO images VALUES (?, ?, ?, ?, ?, ?, ?)", "uisuuuu",
                    epoch->number, (int)image->rank, image->file, image->bytes, image->us_write,
                    image->us_pause, image->id);
    }
    if (rc == 0) {
        fault_point(FAULT_EPOCH_ROWS);
        rc = db_commit(s->db, err);
    }
    if (rc < 0)
        db_rollback(s->db);
    return rc;
}

void session_epoch_discard(struct session *s, uint64_t number)
{
    char name[64];
    snprintf(name, sizeof name, "epochs/%04" PRIu64, number);
    remove_tree(s, name);
}

int session_epochs_trim(struct session *s, unsigned keep_newest, struct err *err)
{
    struct session_epoch *epochs;
    unsigned n;
    if (session_epochs(s, &epochs, &n, err) < 0)
        return -1;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i + keep_newest < n; i++) {
        if ((rc = db_begin(s->db, err)) == 0) {
            rc = db_run(s->db, err, "DELETE FROM images WHERE epoch = ?", "u", epochs[i].number);
            if (rc == 0)
                rc = db_run(s->db, err, "DELETE FROM epochs WHERE number = ?", "u",
                            epochs[i].number);
            rc = rc == 0 ? db_commit(s->db, err) : -1;
        }
        fault_point(FAULT_EPOCH_TRIMMED);
        if (rc == 0)
            session_epoch_discard(s, epochs[i].number);
        else
            db_rollback(s->db);
    }
    if (rc == 0 && n > keep_newest)
        remove_tree(s, "start");
    free(epochs);
    return rc;
}

/* ---- failures and fine checkpoints ------------------------------------------------------- */

int session_failure_add(struct session *s, const struct session_failure *f, struct err *err)
{
    return db_run(s->db, err,
                  "INSERT OR REPLACE INTO failures VALUES"
                  " (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                  "uiiiuuuuudsssss", f->phase, (int)f->rank, f->order, (int)f->kind, f->code,
                  f->event, f->pc, f->address, f->module_offset, f->when ? f->when : now_seconds(),
                  f->text, f->call, f->image, f->module, f->source);
}

int session_fine_add(struct session *s, const struct session_fine *fine, unsigned n,
                     struct err *err)
{
    if (db_begin(s->db, err) < 0)
        return -1;
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < n; i++)
        rc = db_run(s->db, err, "INSERT OR REPLACE INTO fine VALUES (?, ?, ?, ?, ?, ?)", "uiuuuu",
                    fine[i].phase, (int)fine[i].rank, fine[i].fine.number, fine[i].fine.event,
                    fine[i].fine.bytes, fine[i].fine.us);
    if (rc == 0)
        rc = db_commit(s->db, err);
    if (rc < 0)
        db_rollback(s->db);
    return rc;
}

/* ---- readers ----------------------------------------------------------------------------- */

typedef void fill_fn(struct session *s, struct db_rows *rows, void *element);

/* Reads all rows of a query into an array of elements. Closes the rows. */
static int read_rows(struct session *s, struct db_rows *rows, fill_fn *fill, size_t size,
                     void **out, unsigned *n, struct err *err)
{
    char *array = NULL;
    unsigned count = 0, room = 0;
    int rc = rows ? 0 : -1;
    while (rows && (rc = db_next(rows, err)) == 1) {
        if (count == room) {
            room = room ? 2 * room : 16;
            char *more = reallocarray(array, room, size);
            if (!more) {
                rc = err_sys(err, "%s", s->dir);
                break;
            }
            array = more;
        }
        memset(array + count * size, 0, size);
        fill(s, rows, array + count++ * size);
    }
    db_rows_close(rows);
    if (rc < 0) {
        free(array);
        return -1;
    }
    *out = array;
    *n = count;
    return 0;
}

static void fill_phase(struct session *s, struct db_rows *r, void *element)
{
    *(struct session_phase *)element = (struct session_phase){
        .id = db_u64(r, 0),
        .kind = (enum proto_phase)db_u64(r, 1),
        .outcome = (enum session_outcome)db_u64(r, 2),
        .started = db_double(r, 3),
        .ended = db_double(r, 4),
        .from_epoch = db_u64(r, 5),
        .pid = (int)db_u64(r, 6),
        .status = (int)db_u64(r, 7),
    };
}

int session_phases(struct session *s, struct session_phase **out, unsigned *n, struct err *err)
{
    return read_rows(s, db_query(s->db, err, "SELECT * FROM phases ORDER BY id", ""), fill_phase,
                     sizeof **out, (void **)out, n, err);
}

static void fill_rank(struct session *s, struct db_rows *r, void *element)
{
    *(struct session_rank *)element = (struct session_rank){
        .rank = (unsigned)db_u64(r, 0),
        .pid = (int)db_u64(r, 1),
        .host = keep(s, db_text(r, 2)),
        .program = keep(s, db_text(r, 3)),
        .build_id = keep(s, db_text(r, 4)),
        .finalized = db_u64(r, 5),
    };
}

int session_ranks(struct session *s, uint64_t phase, struct session_rank **out, unsigned *n,
                  struct err *err)
{
    struct db_rows *rows = db_query(
        s->db, err,
        "SELECT rank, pid, host, program, build_id, finalized FROM ranks WHERE phase = ?"
        " ORDER BY rank",
        "u", phase);
    return read_rows(s, rows, fill_rank, sizeof **out, (void **)out, n, err);
}

unsigned session_phase_size(struct session *s, uint64_t phase)
{
    const char *count = "SELECT max(rank) + 1 FROM ranks WHERE phase = ?";
    struct db_rows *rows = db_query(s->db, NULL, count, "u", phase);
    unsigned n = rows && db_next(rows, NULL) == 1 ? (unsigned)db_u64(rows, 0) : 0;
    if (rows)
        db_rows_close(rows);
    return n > s->job.size ? n : s->job.size;
}

static void fill_epoch(struct session *s, struct db_rows *r, void *element)
{
    *(struct session_epoch *)element = (struct session_epoch){
        .number = db_u64(r, 0),
        .phase = db_u64(r, 1),
        .committed = db_double(r, 2),
        .us_total = db_u64(r, 3),
        .nimages = (unsigned)db_u64(r, 4),
        .bytes = db_u64(r, 5),
        .us_pause_max = db_u64(r, 6),
    };
}

#define EPOCH_QUERY(where)                                                                         \
    "SELECT number, phase, committed, us_total, count(rank), sum(bytes), max(us_pause)"            \
    " FROM epochs LEFT JOIN images ON epoch = number " where " GROUP BY number ORDER BY number"

int session_epochs(struct session *s, struct session_epoch **out, unsigned *n, struct err *err)
{
    return read_rows(s, db_query(s->db, err, EPOCH_QUERY(""), ""), fill_epoch, sizeof **out,
                     (void **)out, n, err);
}

static void fill_image(struct session *s, struct db_rows *r, void *element)
{
    struct session_image *image = element;
    image->rank = (unsigned)db_u64(r, 0);
    snprintf(image->file, sizeof image->file, "%s", db_text(r, 1));
    image->bytes = db_u64(r, 2);
    image->us_write = db_u64(r, 3);
    image->us_pause = db_u64(r, 4);
    image->id = db_u64(r, 5);
}

int session_images(struct session *s, uint64_t epoch, struct session_image **out, unsigned *n,
                   struct err *err)
{
    struct db_rows *rows = db_query(s->db, err,
                                    "SELECT rank, file, bytes, us_write, us_pause, checksum"
                                    " FROM images WHERE epoch = ? ORDER BY rank",
                                    "u", epoch);
    return read_rows(s, rows, fill_image, sizeof **out, (void **)out, n, err);
}

static void fill_failure(struct session *s, struct db_rows *r, void *element)
{
    *(struct session_failure *)element = (struct session_failure){
        .phase = db_u64(r, 0),
        .rank = (unsigned)db_u64(r, 1),
        .order = (int)db_u64(r, 2),
        .kind = (enum proto_failure)db_u64(r, 3),
        .code = db_u64(r, 4),
        .event = db_u64(r, 5),
        .pc = db_u64(r, 6),
        .address = db_u64(r, 7),
        .module_offset = db_u64(r, 8),
        .when = db_double(r, 9),
        .text = keep(s, db_text(r, 10)),
        .call = keep(s, db_text(r, 11)),
        .image = keep(s, db_text(r, 12)),
        .module = keep(s, db_text(r, 13)),
        .source = keep(s, db_text(r, 14)),
    };
}

int session_failures(struct session *s, uint64_t phase, struct session_failure **out, unsigned *n,
                     struct err *err)
{
    struct db_rows *rows =
        db_query(s->db, err, "SELECT * FROM failures WHERE phase = ? ORDER BY ord", "u", phase);
    return read_rows(s, rows, fill_failure, sizeof **out, (void **)out, n, err);
}

static void fill_fine(struct session *s, struct db_rows *r, void *element)
{
    *(struct session_fine *)element = (struct session_fine){
        .phase = db_u64(r, 0),
        .rank = (unsigned)db_u64(r, 1),
        .fine = {db_u64(r, 2), db_u64(r, 3), db_u64(r, 4), db_u64(r, 5)},
    };
}

int session_fines(struct session *s, int rank, struct session_fine **out, unsigned *n,
                  struct err *err)
{
    struct db_rows *rows = db_query(s->db, err,
                                    "SELECT * FROM fine WHERE ?1 < 0 OR rank = ?1"
                                    " ORDER BY phase, rank, number",
                                    "i", rank);
    return read_rows(s, rows, fill_fine, sizeof **out, (void **)out, n, err);
}

int session_epoch_find(struct session *s, uint64_t number, struct session_epoch *out,
                       struct err *err)
{
    struct db_rows *rows =
        number ? db_query(s->db, err, EPOCH_QUERY("WHERE number = ?"), "u", number)
               : db_query(s->db, err,
                          EPOCH_QUERY("WHERE number = (SELECT max(number) FROM epochs)"), "");
    if (!rows)
        return -1;
    int rc = db_next(rows, err);
    if (rc == 1)
        fill_epoch(s, rows, out);
    db_rows_close(rows);
    if (rc == 0 && number)
        return err_set(err, "%s has no complete epoch %" PRIu64 "; see: dbg3 list", s->dir, number);
    if (rc == 0)
        return err_set(err, "%s has no complete epoch", s->dir);
    return rc < 0 ? -1 : 0;
}

/* The last phase that made or could make epochs. False if there is none. */
static bool last_line(struct session *s, struct session_phase *line)
{
    struct session_phase *phases;
    unsigned n;
    bool found = false;
    if (session_phases(s, &phases, &n, NULL) < 0)
        return false;
    for (unsigned i = 0; i < n; i++)
        if (phases[i].kind != PROTO_PHASE_REFINE && phases[i].outcome != SESSION_NO_RANK) {
            *line = phases[i];
            found = true;
        }
    free(phases);
    return found;
}

int session_epoch_last(struct session *s, struct session_epoch *out, struct err *err)
{
    struct session_phase line = {0};
    struct session_epoch *epochs;
    unsigned n;
    const struct session_epoch *last = NULL;
    if (!last_line(s, &line))
        return err_set(err, "%s has no complete epoch", s->dir);
    if (session_epochs(s, &epochs, &n, err) < 0)
        return -1;
    for (unsigned i = 0; i < n; i++) /* what it began at is older than what it made */
        if (epochs[i].number == line.from_epoch || epochs[i].phase == line.id)
            last = &epochs[i];
    if (last)
        *out = *last;
    free(epochs);
    return last ? 0 : err_set(err, "%s has no complete epoch", s->dir);
}

/* ---- recordings -------------------------------------------------------------------------- */

/*
 * logs.old/ decides: while it is there the old recording is the one that counts. Each step below is
 * one rename, so a kill between any two leaves one whole recording.
 */
static void recording_move(struct session *s, const char *from, const char *to)
{
    char a[PATH_MAX], b[PATH_MAX];
    path_in(s, from, a, sizeof a);
    path_in(s, to, b, sizeof b);
    if (rename(a, b) < 0 && errno != ENOENT)
        log_warn("cannot rename %s to %s: %s", a, b, strerror(errno));
}

static bool exists(const struct session *s, const char *name)
{
    char path[PATH_MAX];
    path_in(s, name, path, sizeof path);
    return access(path, F_OK) == 0;
}

void session_logs(const struct session *s, char *buf, size_t cap)
{
    path_in(s, "logs", buf, cap);
}

int session_recording(struct session *s, struct session_phase *out, struct err *err)
{
    struct db_rows *rows = db_query(
        s->db, err,
        "SELECT * FROM phases WHERE kind = ? AND"
        " (SELECT count(*) FROM ranks, job WHERE phase = phases.id AND rank < size) >="
        " (SELECT size FROM job) AND"
        " NOT EXISTS (SELECT 1 FROM failures WHERE phase = phases.id AND kind = ?)"
        " ORDER BY id DESC LIMIT 1",
        "ii", (int)PROTO_PHASE_REFINE, (int)PROTO_FAILURE_RESTORE);
    if (!rows)
        return -1;
    int rc = db_next(rows, err);
    if (rc == 1)
        fill_phase(s, rows, out);
    db_rows_close(rows);
    if (rc == 0)
        return err_set(err, "%s has no recording; make one with: dbg3 refine --every-n-msgs 10",
                       s->dir);
    return rc < 0 ? -1 : 0;
}

int session_recording_begin(struct session *s, struct err *err)
{
    recording_move(s, "logs", "logs.old");
    recording_move(s, "fine", "fine.old");
    if (exists(s, "logs.old") && exists(s, "fine.old") && make_folders(s, err) == 0)
        return 0;
    session_recording_failed(s);
    return err_set(err, "%s: cannot set the previous recording aside", s->dir);
}

void session_recording_started(struct session *s)
{
    recording_move(s, "logs.old", "logs.gone");
    remove_tree(s, "fine.old");
    remove_tree(s, "logs.gone");
    db_run(s->db, NULL,
           "DELETE FROM fine WHERE phase < (SELECT max(id) FROM phases WHERE kind = ?)", "i",
           (int)PROTO_PHASE_REFINE);
}

void session_recording_failed(struct session *s)
{
    if (exists(s, "logs.old")) {
        if (exists(s, "fine.old")) {
            remove_tree(s, "fine");
            recording_move(s, "fine.old", "fine");
        }
        remove_tree(s, "logs");
        recording_move(s, "logs.old", "logs");
    } else {
        remove_tree(s, "fine.old");
    }
    remove_tree(s, "logs.gone");
}
