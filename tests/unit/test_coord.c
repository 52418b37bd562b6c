/*
 * test_coord.c - coordinator, catalog and cut end to end, with ranks that are no MPI (fake_ranks.c)
 */
#include <arpa/inet.h>
#include <check.h>
#include <dirent.h>
#include <jansson.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime/coord/coord.h"
#include "runtime/coord/counters_view.h"
#include "tests/unit/unit.h"

extern char **environ;

static char fake[PATH_MAX];
static struct session *session;
static struct coord_result result;
static uint64_t phase_id;
static char notes[8192];

static void note(void *arg, enum coord_notice kind, const char *line)
{
    size_t n = strlen(notes);
    if (kind == COORD_NOTE)
        snprintf(notes + n, sizeof notes - n, "%s\n", line);
}

static void in_new_folder(void)
{
    scratch_enter();
    notes[0] = '\0';
}

static void remove_folder(void)
{
    session_close(session);
    session = NULL;
    scratch_leave();
}

static void begin(const char *command_line)
{
    static char copy[256];
    char *launcher[32] = {fake};
    struct err err;
    unsigned n = 1;
    snprintf(copy, sizeof copy, "%s", command_line);
    for (char *word = strtok(copy, " "); word && n < 31; word = strtok(NULL, " "))
        launcher[n++] = word;
    struct session_job job = {
        .program = fake, .build_id = "", .cwd = scratch_folder(), .launcher = launcher};
    session = session_create(NULL, "app", &job, &err);
    ck_assert_msg(session != NULL, "%s", err.text);
    ck_assert_int_eq(session_phase_begin(session, PROTO_PHASE_BATCH, 0, launcher, &phase_id, &err),
                     0);
}

static void run_with(struct coord_settings set)
{
    struct err err = {0};
    char folder[PATH_MAX + 32];
    snprintf(folder, sizeof folder, "DBG3_SESSION=%s", session_dir(session));
    putenv(folder);
    set.session = session;
    set.phase_id = phase_id;
    set.launcher = session_job(session)->launcher;
    set.environment = environ;
    set.cwd = scratch_folder();
    set.notify = note;
    int rc = coord_run(&set, &result, &err);
    unsetenv("DBG3_SESSION");
    ck_assert_msg(rc == 0, "%s", err.text);
}

static void run(const char *command_line, struct coord_settings set)
{
    begin(command_line);
    run_with(set);
}

static unsigned count_epochs(void)
{
    struct session_epoch *epoch;
    unsigned n;
    ck_assert_int_eq(session_epochs(session, &epoch, &n, NULL), 0);
    for (unsigned i = 0; i < n; i++)
        ck_assert_uint_eq(epoch[i].nimages, result.size);
    free(epoch);
    return n;
}

/* Folders in epochs/: none may be left of epochs that were given up. */
static unsigned count_folders(void)
{
    char path[PATH_MAX];
    unsigned n = 0;
    snprintf(path, sizeof path, "%s/epochs", session_dir(session));
    DIR *dir = opendir(path);
    for (struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static struct session_failure first_failure(unsigned expected)
{
    struct session_failure *f, first = {0};
    unsigned n;
    ck_assert_int_eq(session_failures(session, phase_id, &f, &n, NULL), 0);
    ck_assert_uint_eq(n, expected);
    if (n)
        first = f[0];
    free(f);
    return first;
}

START_TEST(epochs_by_timer)
{
    run("-n 4 -o 200 -e 3", (struct coord_settings){.every_ms = 50});
    ck_assert_int_eq(result.outcome, SESSION_COMPLETED);
    ck_assert_uint_eq(result.size, 4);
    ck_assert_uint_eq(result.finalized, 4);
    ck_assert_uint_ge(result.epochs, 2);
    ck_assert_uint_eq(count_epochs(), result.epochs);
    ck_assert_uint_eq(count_folders(), result.epochs);
    first_failure(0);
}
END_TEST

START_TEST(many_ranks)
{
    run("-n 48 -o 400 -e 3", (struct coord_settings){.every_ms = 50});
    ck_assert_int_eq(result.outcome, SESSION_COMPLETED);
    ck_assert_uint_eq(result.finalized, 48);
    ck_assert_msg(result.epochs >= 1, "%s", notes);
}
END_TEST

START_TEST(epochs_by_messages_and_trimmed)
{
    run("-n 3 -o 300 -u 1000 -a want",
        (struct coord_settings){.every_n_msgs = 20, .keep_epochs = 2});
    ck_assert_uint_ge(result.epochs, 3);
    ck_assert_uint_eq(count_epochs(), 2);
    ck_assert_uint_eq(count_folders(), 2);
}
END_TEST

/* None is begun in the 300 ms of two spawned processes; those before and behind are of the job's
 * own ranks. */
START_TEST(spawned_processes_put_epochs_off)
{
    run("-n 4 -o 100 -e 12 -u 1000 -a spawn", (struct coord_settings){.every_ms = 30});
    ck_assert_int_eq(result.outcome, SESSION_COMPLETED);
    ck_assert_uint_eq(result.size, 4);
    ck_assert_uint_eq(result.finalized, 4);
    ck_assert_uint_ge(count_epochs(), 2);
    ck_assert_ptr_nonnull(strstr(notes, "2 processes are spawned: ranks 4 to 5"));
    ck_assert_ptr_nonnull(strstr(notes, "processes that the job has spawned are running"));
    ck_assert_uint_eq(session_phase_size(session, phase_id), 6);
    first_failure(0);
}
END_TEST

START_TEST(a_signal_is_a_failure)
{
    run("-n 4 -a die", (struct coord_settings){0});
    ck_assert_int_eq(result.outcome, SESSION_FAILED);
    ck_assert_int_eq(WEXITSTATUS(result.status), 9);
    struct session_failure f = first_failure(1);
    ck_assert_uint_eq(f.rank, 1);
    ck_assert_int_eq(f.kind, PROTO_FAILURE_SIGNAL);
    ck_assert_uint_eq(f.code, SIGSEGV);
    ck_assert_uint_eq(f.event, 42);
    ck_assert_str_eq(f.call, "MPI_Recv");
}
END_TEST

START_TEST(a_kill_is_a_failure)
{
    run("-n 4 -a kill", (struct coord_settings){0});
    ck_assert_int_eq(result.outcome, SESSION_FAILED);
    struct session_failure f = first_failure(1);
    ck_assert_uint_eq(f.rank, 1);
    ck_assert_int_eq(f.kind, PROTO_FAILURE_KILLED);
}
END_TEST

START_TEST(a_killed_launcher_is_no_failure_of_a_rank)
{
    run("-n 4 -a launcher", (struct coord_settings){0});
    ck_assert_int_eq(result.outcome, SESSION_LAUNCHER);
    ck_assert_int_eq(WTERMSIG(result.status), SIGKILL);
    first_failure(0);
}
END_TEST

START_TEST(an_abort_is_a_failure)
{
    run("-n 4 -a abort", (struct coord_settings){0});
    struct session_failure f = first_failure(1);
    ck_assert_int_eq(f.kind, PROTO_FAILURE_ABORT);
    ck_assert_uint_eq(f.code, 7);
}
END_TEST

/* ... but the cause may be one that went before, though aborts are read first. */
static void expect_kill_first(const char *arguments, unsigned failures)
{
    run(arguments, (struct coord_settings){0});
    struct session_failure f = first_failure(failures);
    ck_assert_uint_eq(f.rank, 2);
    ck_assert_int_eq(f.kind, PROTO_FAILURE_KILLED);
}

START_TEST(an_abort_follows_a_kill)
{
    expect_kill_first("-n 4 -a notice", 2);
}
END_TEST

START_TEST(aborts_of_libraries_follow_a_kill)
{
    expect_kill_first("-n 4 -a library", 3);
}
END_TEST

START_TEST(a_hang_is_examined)
{
    run("-n 4 -a hang", (struct coord_settings){.hang_after_ms = 300});
    ck_assert_int_eq(result.outcome, SESSION_HUNG);
    struct session_failure f = first_failure(4);
    ck_assert_int_eq(f.kind, PROTO_FAILURE_HANG);
    ck_assert_str_eq(f.call, "MPI_Recv");
}
END_TEST

START_TEST(an_object_that_cannot_be_saved_skips_the_epoch)
{
    run("-n 4 -a unable -e 1", (struct coord_settings){.every_ms = 20});
    ck_assert_int_eq(result.outcome, SESSION_COMPLETED);
    ck_assert_uint_eq(result.epochs, 0);
    ck_assert_uint_ge(result.cancelled, 1);
    ck_assert_ptr_nonnull(strstr(notes, "rank 1: MPI_Win object alive"));
    ck_assert_uint_eq(count_folders(), 0);
}
END_TEST

START_TEST(a_torn_image_is_no_epoch)
{
    run("-n 4 -a torn -e 1", (struct coord_settings){.every_ms = 20});
    ck_assert_uint_eq(result.epochs, 0);
    ck_assert_ptr_nonnull(strstr(notes, "image of rank 1 has 100 bytes, should have 101"));
    ck_assert_uint_eq(count_folders(), 0);
}
END_TEST

START_TEST(a_rank_lost_while_writing_is_no_epoch)
{
    run("-n 4 -a killwrite -e 1", (struct coord_settings){.every_ms = 20});
    ck_assert_int_eq(result.outcome, SESSION_FAILED);
    ck_assert_uint_eq(result.epochs, 0);
    ck_assert_uint_eq(count_folders(), 0);
    ck_assert_int_eq(first_failure(1).kind, PROTO_FAILURE_KILLED);
}
END_TEST

START_TEST(a_wrong_secret_is_refused)
{
    run("-n 2 -a secret", (struct coord_settings){0});
    ck_assert_int_eq(result.outcome, SESSION_NO_RANK);
    ck_assert_ptr_nonnull(strstr(notes, "wrong secret"));
}
END_TEST

START_TEST(garbage_is_refused)
{
    run("-n 2 -a garbage", (struct coord_settings){0});
    ck_assert_int_eq(result.outcome, SESSION_NO_RANK);
    ck_assert_ptr_nonnull(strstr(notes, "not the dbg3 protocol"));
}
END_TEST

START_TEST(no_rank)
{
    run("-a none -x 3", (struct coord_settings){0});
    ck_assert_int_eq(result.outcome, SESSION_NO_RANK);
    ck_assert_int_eq(WEXITSTATUS(result.status), 3);
}
END_TEST

START_TEST(a_status_without_a_failure)
{
    run("-n 2 -x 3", (struct coord_settings){0});
    ck_assert_int_eq(result.outcome, SESSION_LAUNCHER);
    ck_assert_int_eq(WEXITSTATUS(result.status), 3);
}
END_TEST

START_TEST(a_launcher_that_is_not_there)
{
    struct err err = {0};
    char *launcher[] = {(char *)(uintptr_t) "/no/such/launcher", NULL};
    begin("-n 2");
    struct coord_settings set = {.session = session, .phase_id = phase_id, .launcher = launcher,
                                 .environment = environ, .cwd = scratch_folder()};
    ck_assert_int_eq(coord_run(&set, &result, &err), -1);
    ck_assert_ptr_nonnull(strstr(err.text, "cannot run /no/such/launcher"));
}
END_TEST

/* ---- from another terminal --------------------------------------------------------------- */

static char *answer;

static void *ask(void *arg)
{
    struct err err;
    char dir[PATH_MAX];
    snprintf(dir, sizeof dir, "%s/app.dbg3", scratch_folder());
    for (int i = 0; i < 100; i++) {
        usleep(20000);
        free(answer);
        answer = coord_ask(dir, arg, &err);
        if (answer && strstr(answer, "\"ok\":true"))
            break;
    }
    return NULL;
}

static void run_asking(const char *command_line, const char *request)
{
    pthread_t thread;
    free(answer);
    answer = NULL;
    begin(command_line);
    pthread_create(&thread, NULL, ask, (void *)(uintptr_t)request);
    run_with((struct coord_settings){0});
    pthread_join(thread, NULL);
}

START_TEST(a_checkpoint_on_demand)
{
    run_asking("-n 4 -e 1", "checkpoint");
    json_t *o = json_loads(answer ?: "", 0, NULL);
    ck_assert_msg(json_is_true(json_object_get(o, "ok")), "%s", answer);
    ck_assert_int_eq(json_integer_value(json_object_get(o, "ranks")), 4);
    json_decref(o);
    ck_assert_uint_eq(result.epochs, 1);
    struct stat st;
    ck_assert_int_eq(stat("app.dbg3/control.sock", &st), -1);
}
END_TEST

START_TEST(status_on_demand)
{
    run_asking("-n 4 -o 300 -u 3000", "status");
    ck_assert_ptr_nonnull(answer);
    ck_assert_ptr_nonnull(strstr(answer, "\"phase\":\"batch\""));
}
END_TEST

static void *interrupt(void *arg)
{
    for (int i = 0; i < 1000 && access("app.dbg3/epochs/0002", F_OK) < 0; i++)
        usleep(10000);
    kill(getpid(), SIGINT);
    return NULL;
}

START_TEST(ctrl_c_keeps_the_session)
{
    pthread_t thread;
    begin("-n 4 -o 100 -e 1000");
    pthread_create(&thread, NULL, interrupt, NULL);
    run_with((struct coord_settings){.every_ms = 50});
    pthread_join(thread, NULL);
    ck_assert_int_eq(result.outcome, SESSION_INTERRUPTED);
    ck_assert_uint_ge(result.epochs, 1);
    ck_assert_uint_eq(count_epochs(), result.epochs);
}
END_TEST

int main(int argc, char **argv)
{
    const TTest *const tests[] = {
        epochs_by_timer, many_ranks, epochs_by_messages_and_trimmed,
        spawned_processes_put_epochs_off, a_signal_is_a_failure,
        a_kill_is_a_failure,
        a_killed_launcher_is_no_failure_of_a_rank, an_abort_is_a_failure, an_abort_follows_a_kill,
        aborts_of_libraries_follow_a_kill,
        a_hang_is_examined,
        an_object_that_cannot_be_saved_skips_the_epoch, a_torn_image_is_no_epoch,
        a_rank_lost_while_writing_is_no_epoch, a_wrong_secret_is_refused, garbage_is_refused,
        no_rank, a_status_without_a_failure, a_launcher_that_is_not_there, a_checkpoint_on_demand,
        status_on_demand, ctrl_c_keeps_the_session,
    };
    if (!realpath(argv[0], fake))
        return 2;
    strcpy(strrchr(fake, '/'), "/fake_ranks");
    Suite *suite = suite_create("coord");
    TCase *tcase = tcase_create("coord");
    tcase_add_checked_fixture(tcase, in_new_folder, remove_folder);
    tcase_set_timeout(tcase, 60);
    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        tcase_add_test(tcase, tests[i]);
    suite_add_tcase(suite, tcase);
    return unit_run(suite);
}
