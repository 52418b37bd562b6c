/*
 * test_session.c - session folder and catalog: what is true, to whom, and after what accident
 */
#include <check.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/coord/db.h"
#include "runtime/coord/session.h"
#include "tests/unit/unit.h"

static char *launcher[] = {"mpiexec", "-n", "4", "./app", "a \"b\" c", NULL};
static char *environment[] = {"PATH=/bin", "OMP_NUM_THREADS=2", NULL};
static const struct session_job job = {.program = "/bin/app", .build_id = "abcd", .cwd = "/work",
                                       .launcher = launcher, .environment = environment};

static struct session *create(void)
{
    struct err err;
    struct session *s = session_create(NULL, "app", &job, &err);
    ck_assert_msg(s != NULL, "%s", err.text);
    return s;
}

static void touch(const char *dir, const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fclose(f);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

/* Begins and commits an epoch of two images. */
static uint64_t commit(struct session *s)
{
    struct err err;
    char folder[PATH_MAX];
    struct session_image image[] = {{.rank = 0, .file = "rank-0.img", .bytes = 10, .us_pause = 5},
                                    {.rank = 1, .file = "rank-1.img", .bytes = 20, .us_pause = 9}};
    struct session_epoch epoch = {.phase = 1, .us_total = 100, .nimages = 2, .image = image};
    ck_assert_int_eq(session_epoch_begin(s, &epoch.number, folder, sizeof folder, &err), 0);
    touch(folder, "rank-0.img");
    touch(folder, "rank-1.img");
    ck_assert_msg(session_epoch_commit(s, &epoch, &err) == 0, "%s", err.text);
    return epoch.number;
}

START_TEST(job_is_kept)
{
    session_close(create());
    struct session *s = session_open(NULL, NULL); /* ./latest.dbg3 */
    ck_assert_ptr_nonnull(s);
    const struct session_job *j = session_job(s);
    ck_assert_str_eq(j->program, "/bin/app");
    ck_assert_str_eq(j->build_id, "abcd");
    ck_assert_str_eq(j->cwd, "/work");
    for (int i = 0; i < 5; i++)
        ck_assert_str_eq(j->launcher[i], launcher[i]);
    ck_assert_ptr_null(j->launcher[5]);
    ck_assert_str_eq(j->environment[1], "OMP_NUM_THREADS=2");
    ck_assert_int_eq(session_job_learn(s, "/bin/other", "ef", 7, NULL), 0);
    session_close(s);
    s = session_open("app.dbg3", NULL);
    ck_assert_uint_eq(session_job(s)->size, 7);
    session_close(s);
}
END_TEST

START_TEST(nobody_else_may_look)
{
    struct stat st;
    session_close(create());
    ck_assert_int_eq(stat("app.dbg3", &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0700);
    ck_assert_int_eq(stat("app.dbg3/session.db", &st), 0);
    ck_assert_uint_eq(st.st_mode & 0777, 0600);
}
END_TEST

START_TEST(names)
{
    struct err err;
    char link[64] = "";
    session_close(create());
    session_close(create());
    ck_assert(exists("app-2.dbg3/session.db"));
    ck_assert_int_gt(readlink(SESSION_LATEST, link, sizeof link - 1), 0);
    ck_assert_str_eq(link, "app-2.dbg3");
    ck_assert_ptr_null(session_create("app.dbg3", "app", &job, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "app.dbg3 exists already"));
    struct session *s = session_create("elsewhere", "app", &job, &err);
    ck_assert_ptr_nonnull(s);
    session_close(s);
}
END_TEST

START_TEST(latest_is_never_a_folder_of_the_user)
{
    struct err err;
    ck_assert_int_eq(mkdir(SESSION_LATEST, 0700), 0);
    ck_assert_ptr_null(session_create(NULL, "app", &job, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "not a symbolic link"));
}
END_TEST

START_TEST(what_is_no_session)
{
    struct err err;
    ck_assert_ptr_null(session_open(NULL, &err));
    ck_assert_ptr_nonnull(strstr(err.text, "dbg3 batch -- LAUNCHER"));
    ck_assert_ptr_null(session_open("nothing", &err));
    ck_assert_ptr_nonnull(strstr(err.text, "no session at nothing"));
    ck_assert_ptr_nonnull(strstr(err.text, "name the folder that dbg3 batch made"));
    ck_assert_int_eq(mkdir("folder", 0700), 0);
    ck_assert_ptr_null(session_open("folder", &err));
    ck_assert_ptr_nonnull(strstr(err.text, "has no session.db"));
    touch("folder", "session.db");
    ck_assert_ptr_null(session_open("folder", &err));
    ck_assert_ptr_nonnull(strstr(err.text, "not a catalog of dbg3"));
    session_close(create());
    struct db *db = db_open("app.dbg3/session.db", false, NULL);
    ck_assert_int_eq(db_script(db, "PRAGMA user_version = 99", NULL), 0);
    db_close(db);
    ck_assert_ptr_null(session_open("app.dbg3", &err));
    ck_assert_ptr_nonnull(strstr(err.text, "catalog version 99"));
}
END_TEST

/* fcntl locks are a process's: the second one must be another process. */
START_TEST(one_phase_at_a_time)
{
    struct session *s = create();
    pid_t child = fork();
    if (child == 0) {
        struct err err;
        char pid[32];
        snprintf(pid, sizeof pid, "(pid %d)", (int)getppid());
        struct session *other = session_open("app.dbg3", &err);
        bool seen = other && session_running(other) == getppid();
        bool refused = !session_open_locked("app.dbg3", &err) && strstr(err.text, pid);
        bool taken = !session_create("app.dbg3", "app", &job, &err) && strstr(err.text, pid);
        _exit(!(seen && refused && taken));
    }
    int status;
    waitpid(child, &status, 0);
    ck_assert_int_eq(status, 0);
    session_close(s);
    s = session_open("app.dbg3", NULL);
    ck_assert_int_eq(session_running(s), 0);
    session_close(s);
    s = session_open_locked("app.dbg3", NULL);
    ck_assert_ptr_nonnull(s);
    session_close(s);
}
END_TEST

START_TEST(epochs)
{
    struct session *s = create();
    struct session_epoch epoch, *list;
    struct session_image *image;
    unsigned n;
    struct err err;
    ck_assert_int_eq(session_epoch_find(s, 0, &epoch, &err), -1);
    ck_assert_uint_eq(commit(s), 1);
    ck_assert_uint_eq(commit(s), 2);
    ck_assert_int_eq(session_epoch_find(s, 0, &epoch, &err), 0);
    ck_assert_uint_eq(epoch.number, 2);
    ck_assert_uint_eq(epoch.nimages, 2);
    ck_assert_uint_eq(epoch.bytes, 30);
    ck_assert_uint_eq(epoch.us_pause_max, 9);
    ck_assert_int_eq(session_epoch_find(s, 3, &epoch, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "no complete epoch 3"));
    ck_assert_int_eq(session_images(s, 1, &image, &n, &err), 0);
    ck_assert_uint_eq(n, 2);
    ck_assert_str_eq(image[1].file, "rank-1.img");
    free(image);
    commit(s);
    ck_assert_int_eq(session_epochs_trim(s, 2, &err), 0);
    ck_assert_int_eq(session_epochs(s, &list, &n, &err), 0);
    ck_assert_uint_eq(n, 2);
    ck_assert_uint_eq(list[0].number, 2);
    free(list);
    ck_assert(!exists("app.dbg3/epochs/0001"));
    ck_assert(exists("app.dbg3/epochs/0002"));
    session_close(s);
}
END_TEST

static uint64_t commit_in(struct session *s, uint64_t phase)
{
    char sql[128];
    uint64_t number = commit(s);
    struct db *db = db_open("app.dbg3/session.db", false, NULL);
    snprintf(sql, sizeof sql, "UPDATE epochs SET phase = %d WHERE number = %d", (int)phase,
             (int)number);
    ck_assert_int_eq(db_script(db, sql, NULL), 0);
    db_close(db);
    return number;
}

/* The epoch to go on from follows the line of the last run. */
START_TEST(the_last_epoch_is_of_the_last_line)
{
    struct session *s = create();
    struct session_epoch epoch;
    uint64_t batch, restart, refine, nothing;
    ck_assert_int_eq(session_epoch_last(s, &epoch, NULL), -1);
    session_phase_begin(s, PROTO_PHASE_BATCH, 0, launcher, &batch, NULL);
    ck_assert_int_eq(session_epoch_last(s, &epoch, NULL), -1);
    for (int i = 0; i < 3; i++)
        commit_in(s, batch);
    ck_assert_int_eq(session_epoch_last(s, &epoch, NULL), 0);
    ck_assert_uint_eq(epoch.number, 3);
    session_phase_begin(s, PROTO_PHASE_REFINE, 3, launcher, &refine, NULL);
    session_phase_begin(s, PROTO_PHASE_RESTART, 2, launcher, &restart, NULL);
    ck_assert_int_eq(session_epoch_last(s, &epoch, NULL), 0);
    ck_assert_uint_eq(epoch.number, 2);
    commit_in(s, restart);
    session_phase_begin(s, PROTO_PHASE_RESTART, 1, launcher, &nothing, NULL);
    session_phase_end(s, nothing, SESSION_NO_RANK, 0, NULL);
    ck_assert_int_eq(session_epoch_last(s, &epoch, NULL), 0);
    ck_assert_uint_eq(epoch.number, 4);
    session_close(s);
}
END_TEST

START_TEST(interrupted_epochs_are_cleaned_and_their_numbers_not_used_again)
{
    char folder[PATH_MAX];
    uint64_t number;
    struct session *s = create();
    commit(s);
    ck_assert_int_eq(session_epoch_begin(s, &number, folder, sizeof folder, NULL), 0);
    ck_assert_uint_eq(number, 2);
    touch(folder, "rank-0.img");
    session_close(s); /* as if killed */
    s = session_open("app.dbg3", NULL);
    ck_assert(exists("app.dbg3/epochs/0002")); /* readers touch nothing */
    session_close(s);
    s = session_open_locked("app.dbg3", NULL);
    ck_assert(!exists("app.dbg3/epochs/0002"));
    ck_assert(exists("app.dbg3/epochs/0001/rank-1.img"));
    ck_assert_uint_eq(commit(s), 3);
    session_close(s);
}
END_TEST

/* Killed at any moment: the catalog opens, and every epoch in it is whole. */
START_TEST(survives_kill)
{
    session_close(create());
    for (int round = 0; round < 15; round++) {
        pid_t child = fork();
        if (child == 0) {
            struct session *s = session_open_locked("app.dbg3", NULL);
            for (;;) {
                commit(s);
                session_epochs_trim(s, 3, NULL);
            }
        }
        ck_assert_int_gt(child, 1);
        usleep((useconds_t)(3000 + 2777 * round));
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        struct err err;
        struct session *s = session_open("app.dbg3", &err);
        ck_assert_msg(s != NULL, "%s", err.text);
        struct session_epoch *list;
        unsigned n;
        ck_assert_msg(session_epochs(s, &list, &n, &err) == 0, "%s", err.text);
        for (unsigned i = 0; i < n; i++) {
            char path[PATH_MAX];
            session_epoch_folder(s, list[i].number, path, sizeof path);
            strcat(path, "/rank-1.img");
            ck_assert_uint_eq(list[i].nimages, 2);
            ck_assert_msg(exists(path), "%s", path);
        }
        free(list);
        session_close(s);
    }
}
END_TEST

/* A commit of another process may take a while: who only looks waits for it. */
START_TEST(opens_while_another_commits)
{
    struct err err;
    int said[2];
    char c, path[PATH_MAX];
    struct session *s = create();
    snprintf(path, sizeof path, "%s/session.db", session_dir(s));
    ck_assert_int_eq(pipe(said), 0);
    pid_t child = fork();
    if (child == 0) {
        struct db *db = db_open(path, false, &err);
        bool locked = db && db_script(db, "BEGIN EXCLUSIVE", &err) == 0;
        if (write(said[1], locked ? "y" : "n", 1) == 1)
            usleep(200000);
        db_close(db);
        _exit(0);
    }
    ck_assert(read(said[0], &c, 1) == 1 && c == 'y');
    struct session *other = session_open(session_dir(s), &err);
    ck_assert_msg(other != NULL, "%s", err.text);
    waitpid(child, NULL, 0);
    session_close(other);
    session_close(s);
}
END_TEST

START_TEST(facts_come_back)
{
    struct session *s = create();
    struct session_phase *phase;
    struct session_failure *failure, f = {.rank = 2, .order = 1, .kind = PROTO_FAILURE_SIGNAL,
                                          .code = 11, .event = 42, .pc = UINT64_MAX, .address = 16,
                                          .text = "t", .call = "MPI_Recv", .image = "i",
                                          .module = "m", .source = "s.c:1 in f"};
    struct session_rank *rank;
    struct session_fine *fine;
    unsigned n;
    uint64_t id;
    ck_assert_int_eq(session_phase_begin(s, PROTO_PHASE_REFINE, 3, launcher, &id, NULL), 0);
    f.phase = id;
    struct session_fine many[] = {{id, 1, {1, 10, 100, 7}}, {id, 0, {1, 12, 100, 7}},
                                  {id, 0, {2, 22, 100, 7}}};
    ck_assert_int_eq(session_failure_add(s, &f, NULL), 0);
    ck_assert_int_eq(session_fine_add(s, many, 3, NULL), 0);
    struct session_rank r = {.rank = 2, .pid = 99, .host = "h", .program = "p", .build_id = "b"};
    ck_assert_int_eq(session_rank_seen(s, id, &r, NULL), 0);
    ck_assert_int_eq(session_rank_finalized(s, id, 2, NULL), 0);
    ck_assert_int_eq(session_phase_end(s, id, SESSION_FAILED, 9 << 8, NULL), 0);
    session_close(s);

    s = session_open(NULL, NULL);
    ck_assert_int_eq(session_phases(s, &phase, &n, NULL), 0);
    ck_assert_uint_eq(n, 1);
    ck_assert_int_eq(phase[0].kind, PROTO_PHASE_REFINE);
    ck_assert_int_eq(phase[0].outcome, SESSION_FAILED);
    ck_assert_uint_eq(phase[0].from_epoch, 3);
    ck_assert_int_eq(WEXITSTATUS(phase[0].status), 9);
    free(phase);
    ck_assert_int_eq(session_failures(s, id, &failure, &n, NULL), 0);
    ck_assert_uint_eq(n, 1);
    ck_assert_uint_eq(failure[0].pc, UINT64_MAX);
    ck_assert_str_eq(failure[0].source, "s.c:1 in f");
    free(failure);
    ck_assert_int_eq(session_ranks(s, id, &rank, &n, NULL), 0);
    ck_assert_str_eq(rank[0].host, "h");
    ck_assert(rank[0].finalized);
    free(rank);
    ck_assert_int_eq(session_fines(s, -1, &fine, &n, NULL), 0);
    ck_assert_uint_eq(n, 3);
    ck_assert_uint_eq(fine[0].rank, 0);
    ck_assert_uint_eq(fine[1].fine.event, 22);
    free(fine);
    ck_assert_int_eq(session_fines(s, 1, &fine, &n, NULL), 0);
    ck_assert_uint_eq(n, 1);
    free(fine);
    session_close(s);
}
END_TEST

static void new_recording(struct session *s, const char *name)
{
    struct err err;
    ck_assert_msg(session_recording_begin(s, &err) == 0, "%s", err.text);
    touch("app.dbg3/logs", name);
    touch("app.dbg3/fine", name);
}

START_TEST(recordings_replace_each_other)
{
    struct session *s = create();
    new_recording(s, "first");
    session_recording_started(s);
    new_recording(s, "second");
    ck_assert(exists("app.dbg3/logs.old/first"));
    session_recording_started(s);
    ck_assert(!exists("app.dbg3/logs.old") && !exists("app.dbg3/fine.old"));
    ck_assert(exists("app.dbg3/logs/second") && !exists("app.dbg3/logs/first"));
    new_recording(s, "third");
    session_recording_failed(s); /* no rank came: the second is still the recording */
    ck_assert(exists("app.dbg3/logs/second") && exists("app.dbg3/fine/second"));
    ck_assert(!exists("app.dbg3/logs/third") && !exists("app.dbg3/logs.old"));
    new_recording(s, "fourth");
    session_close(s); /* killed before a rank came */
    s = session_open_locked("app.dbg3", NULL);
    ck_assert(exists("app.dbg3/logs/second") && exists("app.dbg3/fine/second"));
    ck_assert(!exists("app.dbg3/fine/fourth"));
    session_close(s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("session");
    TCase *tcase = tcase_create("session");
    tcase_add_checked_fixture(tcase, scratch_enter, scratch_leave);
    tcase_set_timeout(tcase, 60);
    tcase_add_test(tcase, job_is_kept);
    tcase_add_test(tcase, nobody_else_may_look);
    tcase_add_test(tcase, names);
    tcase_add_test(tcase, latest_is_never_a_folder_of_the_user);
    tcase_add_test(tcase, what_is_no_session);
    tcase_add_test(tcase, one_phase_at_a_time);
    tcase_add_test(tcase, epochs);
    tcase_add_test(tcase, the_last_epoch_is_of_the_last_line);
    tcase_add_test(tcase, interrupted_epochs_are_cleaned_and_their_numbers_not_used_again);
    tcase_add_test(tcase, survives_kill);
    tcase_add_test(tcase, opens_while_another_commits);
    tcase_add_test(tcase, facts_come_back);
    tcase_add_test(tcase, recordings_replace_each_other);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
