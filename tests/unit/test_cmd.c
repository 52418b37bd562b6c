/*
 * test_cmd.c - pure parts of the dbg3 command, and what it says of ELF programs
 */
#include <check.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/base/human.h"
#include "runtime/cmd/cmd.h"
#include "runtime/cmd/environment.h"
#include "runtime/cmd/preflight.h"
#include "runtime/cmd/report.h"
#include "runtime/coord/program.h"
#include "tests/unit/unit.h"

START_TEST(durations)
{
    static const struct {
        const char *text;
        uint64_t ms; /* 0: nonsense */
    } rows[] = {
        {"30s", 30000}, {"1h", 3600000}, {"10m", 600000}, {"10min", 600000}, {"500ms", 500},
        {"20", 20000},  {"1.5m", 90000}, {"2d", 172800000}, {".5s", 500},  {"0.001", 1},
        {"", 0},        {"s", 0},        {"-1s", 0},       {"1x", 0},      {"1 s", 0},
        {"0", 0},       {"1e99h", 0},    {"nan", 0},       {"inf", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        uint64_t ms = 0;
        int rc = duration_parse(rows[i].text, &ms);
        ck_assert_msg(rc == (rows[i].ms ? 0 : -1) && ms == rows[i].ms, "'%s': %d, %lu",
                      rows[i].text, rc, (unsigned long)ms);
    }
}
END_TEST

START_TEST(numbers_for_people)
{
    char buf[64];
    ck_assert_str_eq(human_bytes(0, buf, sizeof buf), "0 B");
    ck_assert_str_eq(human_bytes(999, buf, sizeof buf), "999 B");
    ck_assert_str_eq(human_bytes(1000, buf, sizeof buf), "1.0 kB");
    ck_assert_str_eq(human_bytes(999999, buf, sizeof buf), "1.0 MB");
    ck_assert_str_eq(human_bytes(12345678, buf, sizeof buf), "12 MB");
    ck_assert_str_eq(human_bytes(UINT64_MAX, buf, sizeof buf), "18447 PB");
    ck_assert_str_eq(human_seconds(0.0445, buf, sizeof buf), "44 ms");
    ck_assert_str_eq(human_seconds(12.34, buf, sizeof buf), "12.3 s");
    ck_assert_str_eq(human_seconds(59.99, buf, sizeof buf), "1 min 00 s");
    ck_assert_str_eq(human_seconds(3599.9, buf, sizeof buf), "1 h 00 min");
    ck_assert_str_eq(human_seconds(7260, buf, sizeof buf), "2 h 01 min");
}
END_TEST

START_TEST(lists_of_ranks)
{
    static const unsigned ranks[] = {0, 1, 2, 3, 7, 9, 10, 12};
    char buf[64], small[12];
    ck_assert_str_eq(human_ranks(ranks, 0, buf, sizeof buf), "");
    ck_assert_str_eq(human_ranks(ranks, 1, buf, sizeof buf), "0");
    ck_assert_str_eq(human_ranks(ranks, 2, buf, sizeof buf), "0,1");
    ck_assert_str_eq(human_ranks(ranks, 8, buf, sizeof buf), "0-3,7,9,10,12");
    ck_assert_str_eq(human_ranks(ranks, 8, small, sizeof small), "0-3,7,...");
}
END_TEST

START_TEST(environments)
{
    char *list[] = {"A=1", "LD_PRELOAD=/x.so", "A=2", "HOME=/h", "UCX_TLS=tcp", "PATH=/bin", NULL};
    char *recorded[] = {"UCX_TLS=sm", "OMP_NUM_THREADS=4", NULL};
    struct environment env, kept;
    environment_copy(&env, list);
    ck_assert_str_eq(environment_get(&env, "A"), "2");
    ck_assert_uint_eq(env.n, 5);
    ck_assert_ptr_null(environment_get(&env, "LD"));
    environment_prepend(&env, "LD_PRELOAD", "/y.so");
    environment_prepend(&env, "LD_PRELOAD", "/y.so");
    ck_assert_str_eq(environment_get(&env, "LD_PRELOAD"), "/y.so:/x.so");
    environment_prepend(&env, "NEW", "v");
    ck_assert_str_eq(environment_get(&env, "NEW"), "v");
    environment_default(&env, recorded); /* what is set now wins */
    ck_assert_str_eq(environment_get(&env, "UCX_TLS"), "tcp");
    ck_assert_str_eq(environment_get(&env, "OMP_NUM_THREADS"), "4");
    environment_unset(&env, "A");
    environment_unset(&env, "A");
    ck_assert_ptr_null(environment_get(&env, "A"));
    ck_assert_ptr_null(env.entry[env.n]);
    environment_select(&kept, list);
    ck_assert_ptr_null(environment_get(&kept, "HOME"));
    ck_assert_str_eq(environment_get(&kept, "PATH"), "/bin");
    environment_clear(&env);
    environment_clear(&kept);
}
END_TEST

START_TEST(causes)
{
    static const struct {
        struct session_failure f;
        const char *text;
    } rows[] = {
        {{.kind = PROTO_FAILURE_SIGNAL, .code = SIGSEGV, .address = 16}, "SIGSEGV at address 0x10"},
        {{.kind = PROTO_FAILURE_SIGNAL, .code = SIGFPE}, "SIGFPE"},
        {{.kind = PROTO_FAILURE_SIGNAL, .code = 50}, "signal 50"},
        {{.kind = PROTO_FAILURE_ABORT, .code = 7}, "called MPI_Abort with 7"},
        {{.kind = PROTO_FAILURE_EXIT, .code = 1}, "ended with status 1 before MPI_Finalize"},
        {{.kind = PROTO_FAILURE_HANG, .call = "MPI_Recv"}, "waiting"},
        {{.kind = PROTO_FAILURE_HANG, .call = ""}, "computing"},
        {{.kind = PROTO_FAILURE_KILLED}, "killed from outside (SIGKILL)"},
    };
    char buf[128];
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        ck_assert_str_eq(report_cause(&rows[i].f, buf, sizeof buf), rows[i].text);
}
END_TEST

START_TEST(exit_codes_are_documented)
{
    for (int o = SESSION_COMPLETED; o < SESSION_NOUTCOMES; o++) {
        const struct exit_row *row = exit_rows;
        while (row->meaning && row->code != report_exit_code((enum session_outcome)o))
            row++;
        ck_assert_msg(row->meaning != NULL, "%s", session_outcome_name((enum session_outcome)o));
    }
}
END_TEST

/* ---- programs, built here ---------------------------------------------------------------- */

static void compile(const char *command)
{
    FILE *f = fopen("p.c", "w");
    fputs("int f(int x)\n{\n    return x + 1;\n}\n"
          "int main(void)\n{\n    return f(0) != 1;\n}\n", f);
    fclose(f);
    f = fopen("l.c", "w");
    fputs("int l;\n", f);
    fclose(f);
    ck_assert_msg(system(command) == 0, "%s", command);
}

#define LIBRARY(soname) "cc -shared -fPIC -Wl,-soname," soname " -o liblib.so l.c && "
#define LINKED          " -Wl,--no-as-needed -L. -llib"

START_TEST(launcher_lines)
{
    char program[PATH_MAX], full[PATH_MAX];
    struct err err;
    compile(LIBRARY("libmpich.so.12") "cc -o ours p.c" LINKED);
    compile(LIBRARY("libmpi.so.40") "cc -o theirs p.c" LINKED);
    compile("cc -static -o static p.c && cc -o plain p.c && cp ours setuid && chmod 4755 setuid");
    const struct {
        char *line[6];
        const char *program, *error;
    } rows[] = {
        {{"sh", "-n", "4", "./ours", "x"}, "ours", NULL},
        {{"./ours"}, "ours", NULL},
        {{"sh", "ours"}, "ours", NULL},
        {{"sh", "./static", "./ours"}, "ours", NULL}, /* a wrapper may be static */
        {{"sh", "./ours", "./static"}, "ours", NULL}, /* and an argument what it likes */
        {{"./static", "run", "./script"}, "", NULL},
        {{"sh", "./plain"}, "", NULL},
        {{"sh", "-c", "true"}, "", NULL},
        {{"./nothing", "./ours"}, "", "cannot run ./nothing"},
        {{"nothing-of-this-name"}, "", "cannot run nothing-of-this-name"},
        {{"sh", "./static"}, "", "statically linked"},
        {{"sh", "./theirs"}, "", "libmpi.so.40"},
        {{"sh", "./setuid"}, "", "setuid"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        int rc = preflight(rows[i].line, program, &err);
        ck_assert_msg(rc == (rows[i].error ? -1 : 0), "row %zu: %s", i, rc ? err.text : "fine");
        if (rows[i].error)
            ck_assert_msg(strstr(err.text, rows[i].error) != NULL, "row %zu: %s", i, err.text);
        bool named = *rows[i].program;
        snprintf(full, sizeof full, "%s%s%s", named ? scratch_folder() : "", named ? "/" : "",
                 rows[i].program);
        ck_assert_msg(!strcmp(program, full), "row %zu: %s", i, program);
    }
}
END_TEST

START_TEST(doubts)
{
    char text[256];
    compile(LIBRARY("libmpich.so.12") "cc -o ours p.c" LINKED
            " && cc -o plain p.c && cp p.c script && chmod 755 script");
    const struct {
        char *line[6];
        const char *text;
    } rows[] = {
        {{"mpiexec", "-n", "4", "./nothing", "./x"}, "there is no program ./nothing"},
        {{"env", "mpiexec", "-n", "4", "./nothing"}, "there is no program ./nothing"},
        {{"mpiexec", "./p.c"}, "./p.c cannot be run: Permission denied"},
        {{"mpiexec", "./plain", "/new/output"},
         "./plain is no MPI program: it does not load libmpich.so.12"},
        {{"./plain"}, "./plain is no MPI program: it does not load libmpich.so.12"},
        {{"sh", "-c", "./script"}, ""},
        {{"mpiexec", "./ours"}, ""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        preflight_doubt(rows[i].line, text, sizeof text);
        ck_assert_str_eq(text, rows[i].text);
    }
}
END_TEST

START_TEST(session_names)
{
    char name[64];
    char *script[] = {"sh", "-x", "./run.sh", "5", NULL};
    compile("cp p.c run.sh && chmod 755 run.sh");
    preflight_name(script, "/a/b/heat", name, sizeof name);
    ck_assert_str_eq(name, "heat");
    preflight_name(script, "", name, sizeof name);
    ck_assert_str_eq(name, "run.sh");
}
END_TEST

START_TEST(build_ids)
{
    char with[PROGRAM_ID_MAX], without[PROGRAM_ID_MAX], other[PROGRAM_ID_MAX];
    compile("cc -Wl,--build-id=0x00ff1020 -o with p.c && cc -Wl,--build-id=none -o without p.c");
    ck_assert_int_eq(program_build_id("with", with, sizeof with, NULL), 0);
    ck_assert_str_eq(with, "00ff1020");
    ck_assert_int_eq(program_build_id("without", without, sizeof without, NULL), 0);
    ck_assert_int_eq(strncmp(without, "xxh3:", 5), 0);
    compile("cc -O2 -Wl,--build-id=none -o without p.c");
    ck_assert_int_eq(program_build_id("without", other, sizeof other, NULL), 0);
    ck_assert_str_ne(without, other);
    ck_assert_int_eq(program_build_id("nothing", other, sizeof other, NULL), -1);
}
END_TEST

/* The file offset of f() is its address less that of the text segment, which starts the file. */
START_TEST(source_lines)
{
    char text[256];
    unsigned long address;
    compile("cc -g -no-pie -Wl,-Ttext-segment=0x400000 -o p p.c && cp p bare && strip bare");
    FILE *nm = popen("nm p | sed -n 's/ T f$//p'", "r");
    ck_assert_int_eq(fscanf(nm, "%lx", &address), 1);
    pclose(nm);
    program_source("p", address - 0x400000, false, text, sizeof text);
    ck_assert_str_eq(text, "p.c:2 in f");
    program_source("bare", address - 0x400000, false, text, sizeof text);
    ck_assert_str_eq(text, "");
    program_source("p", 1ul << 40, false, text, sizeof text);
    ck_assert_str_eq(text, "");
    program_source("", 0, false, text, sizeof text);
    ck_assert_str_eq(text, "");
    compile("sed 's/f(/__some_MOD_f(/' p.c >m.c && "
            "cc -no-pie -Wl,-Ttext-segment=0x400000 -o m m.c");
    nm = popen("nm m | sed -n 's/ T __some_MOD_f$//p'", "r");
    ck_assert_int_eq(fscanf(nm, "%lx", &address), 1);
    pclose(nm);
    program_source("m", address - 0x400000, false, text, sizeof text);
    ck_assert_str_eq(text, "in some::f");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cmd");
    TCase *pure = tcase_create("pure");
    tcase_add_test(pure, durations);
    tcase_add_test(pure, numbers_for_people);
    tcase_add_test(pure, lists_of_ranks);
    tcase_add_test(pure, environments);
    tcase_add_test(pure, causes);
    tcase_add_test(pure, exit_codes_are_documented);
    suite_add_tcase(suite, pure);
    TCase *programs = tcase_create("programs");
    tcase_add_checked_fixture(programs, scratch_enter, scratch_leave);
    tcase_set_timeout(programs, 60);
    tcase_add_test(programs, launcher_lines);
    tcase_add_test(programs, doubts);
    tcase_add_test(programs, session_names);
    tcase_add_test(programs, build_ids);
    tcase_add_test(programs, source_lines);
    suite_add_tcase(suite, programs);
    return unit_run(suite);
}
