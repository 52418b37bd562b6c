/*
 * osdata.c - what `info os` in GDB shows of this machine
 *
 * A table is rows of named columns, all rows with the same ones. Most come from a file of /proc
 * that has a line for each row (`struct lines`), the others from walking through the processes.
 *
 * Sources: proc(5); sysvipc(7); "Operating System Information" in the GDB manual, for the columns.
 */
#include "gdbbridge/osdata.h"

#include <arpa/inet.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gdbbridge/bytes.h"
#include "gdbbridge/procfs.h"

#define WORDS_MAX 24
#define CORES_MAX 1024

/* ------------------------------------------------------------------ columns */

static void put(struct bytes *out, const char *column, const char *value)
{
    bytes_text(out, "<column name=\"");
    bytes_xml(out, column);
    bytes_text(out, "\">");
    bytes_xml(out, value);
    bytes_text(out, "</column>");
}

static void put_number(struct bytes *out, const char *column, long value)
{
    char text[32];
    snprintf(text, sizeof text, "%ld", value);
    put(out, column, text);
}

static void put_id(struct bytes *out, const char *column, const char *name, long id)
{
    if (name)
        put(out, column, name);
    else
        put_number(out, column, id);
}

static void put_user(struct bytes *out, const char *column, long id)
{
    const struct passwd *known = getpwuid((uid_t)id);
    put_id(out, column, known ? known->pw_name : NULL, id);
}

static void put_group(struct bytes *out, const char *column, long id)
{
    const struct group *known = getgrgid((gid_t)id);
    put_id(out, column, known ? known->gr_name : NULL, id);
}

static void put_time(struct bytes *out, const char *column, long seconds)
{
    char text[64] = "";
    time_t when = seconds;
    struct tm local;
    if (when && localtime_r(&when, &local))
        strftime(text, sizeof text, "%a %b %e %H:%M:%S %Y", &local);
    put(out, column, text);
}

/* The name of a process; it may be gone. */
static void put_name(struct bytes *out, const char *column, pid_t pid)
{
    char name[64];
    procfs_task_name(pid, pid, name, sizeof name);
    put(out, column, name);
}

/* ------------------------------------------------------------------ files with a line a row */

enum kind { KIND_TEXT, KIND_PROCESS, KIND_USER, KIND_GROUP, KIND_TIME };

/* The columns are those of the file, from the left. */
struct lines {
    const char *path;
    unsigned heading; /* lines */
    struct {
        const char *name;
        enum kind kind;
    } columns[WORDS_MAX];
};

static const struct lines shm = {
    "/proc/sysvipc/shm",
    1,
    {{"key", KIND_TEXT},
     {"shmid", KIND_TEXT},
     {"permissions", KIND_TEXT},
     {"size", KIND_TEXT},
     {"creator command", KIND_PROCESS},
     {"last op. command", KIND_PROCESS},
     {"num attached", KIND_TEXT},
     {"user", KIND_USER},
     {"group", KIND_GROUP},
     {"creator user", KIND_USER},
     {"creator group", KIND_GROUP},
     {"last shmat() time", KIND_TIME},
     {"last shmdt() time", KIND_TIME},
     {"last shmctl() time", KIND_TIME}},
};

static const struct lines semaphores = {
    "/proc/sysvipc/sem",
    1,
    {{"key", KIND_TEXT},
     {"semid", KIND_TEXT},
     {"permissions", KIND_TEXT},
     {"num semaphores", KIND_TEXT},
     {"user", KIND_USER},
     {"group", KIND_GROUP},
     {"creator user", KIND_USER},
     {"creator group", KIND_GROUP},
     {"last semop() time", KIND_TIME},
     {"last semctl() time", KIND_TIME}},
};

static const struct lines msg = {
    "/proc/sysvipc/msg",
    1,
    {{"key", KIND_TEXT},
     {"msqid", KIND_TEXT},
     {"permissions", KIND_TEXT},
     {"num used bytes", KIND_TEXT},
     {"num messages", KIND_TEXT},
     {"last msgsnd() command", KIND_PROCESS},
     {"last msgrcv() command", KIND_PROCESS},
     {"user", KIND_USER},
     {"group", KIND_GROUP},
     {"creator user", KIND_USER},
     {"creator group", KIND_GROUP},
     {"last msgsnd() time", KIND_TIME},
     {"last msgrcv() time", KIND_TIME},
     {"last msgctl() time", KIND_TIME}},
};

static const struct lines modules = {
    "/proc/modules",
    0,
    {{"name", KIND_TEXT},
     {"size", KIND_TEXT},
     {"num uses", KIND_TEXT},
     {"dependencies", KIND_TEXT},
     {"status", KIND_TEXT},
     {"address", KIND_TEXT}},
};

/* Cuts a line at its blanks. Returns how many words there are, the first WORDS_MAX in `words`. */
static size_t split(char *line, char *words[WORDS_MAX])
{
    size_t n = 0;
    char *rest;
    while (n < WORDS_MAX && (words[n] = strtok_r(n ? NULL : line, " \t", &rest)))
        n++;
    return n;
}

/* Calls `each` for each line of the file behind the heading. A file that is not there has none. */
static void read_lines(const char *path, unsigned heading, void (*each)(char *line, void *arg),
                       void *arg)
{
    struct bytes text = {0};
    char *rest;
    if (procfs_read(path, &text) || !text.size) {
        bytes_free(&text);
        return;
    }
    for (char *line = text.data; *line; line = rest) {
        rest = line + strcspn(line, "\n");
        if (*rest)
            *rest++ = '\0';
        if (heading)
            heading--;
        else
            each(line, arg);
    }
    bytes_free(&text);
}

static void put_word(struct bytes *out, const char *column, enum kind kind, const char *word)
{
    long number = strtol(word, NULL, 10);
    switch (kind) {
    case KIND_TEXT:
        put(out, column, word);
        break;
    case KIND_PROCESS:
        put_name(out, column, (pid_t)number);
        break;
    case KIND_USER:
        put_user(out, column, number);
        break;
    case KIND_GROUP:
        put_group(out, column, number);
        break;
    case KIND_TIME:
        put_time(out, column, number);
        break;
    }
}

struct filling {
    const struct lines *lines;
    struct bytes *out;
    const char *family, *protocol; /* of sockets */
};

static void fill_line(char *line, void *arg)
{
    const struct filling *f = arg;
    char *words[WORDS_MAX];
    size_t n = split(line, words);
    bytes_text(f->out, "<item>");
    for (size_t i = 0; i < n && f->lines->columns[i].name; i++)
        put_word(f->out, f->lines->columns[i].name, f->lines->columns[i].kind, words[i]);
    bytes_text(f->out, "</item>");
}

/* ------------------------------------------------------------------ sockets, processors */

/* "0100007F:1F90": words of the address as this machine has them in memory, and the port. */
static void put_address(struct bytes *out, const char *address_column, const char *port_column,
                        const char *text, bool six)
{
    uint32_t words[4] = {0};
    char shown[INET6_ADDRSTRLEN] = "";
    unsigned port = 0;
    for (unsigned i = 0; i < (six ? 4 : 1); i++, text += 8)
        if (sscanf(text, "%8x", &words[i]) != 1)
            break;
    sscanf(text, ":%x", &port);
    inet_ntop(six ? AF_INET6 : AF_INET, words, shown, sizeof shown);
    put(out, address_column, shown);
    put_number(out, port_column, (long)port);
}

/* sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid ... */
static void fill_socket(char *line, void *arg)
{
    /* include/net/tcp_states.h */
    static const char *const states[] = {
        "",           "ESTABLISHED", "SYN_SENT",  "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT",
        "CLOSE",      "CLOSE_WAIT",  "LAST_ACK",  "LISTEN",   "CLOSING",
    };
    const struct filling *f = arg;
    bool six = !strcmp(f->family, "INET6");
    char *words[WORDS_MAX];
    if (split(line, words) < 8)
        return;
    unsigned long state = strtoul(words[3], NULL, 16);
    bytes_text(f->out, "<item>");
    put_address(f->out, "local address", "local port", words[1], six);
    put_address(f->out, "remote address", "remote port", words[2], six);
    put(f->out, "state", state < sizeof states / sizeof states[0] ? states[state] : "");
    put_user(f->out, "user", strtol(words[7], NULL, 10));
    put(f->out, "family", f->family);
    put(f->out, "protocol", f->protocol);
    bytes_text(f->out, "</item>");
}

static void fill_sockets(struct bytes *out)
{
    struct filling f = {NULL, out, "INET", "STREAM"};
    read_lines("/proc/net/tcp", 1, fill_socket, &f);
    f.protocol = "DGRAM";
    read_lines("/proc/net/udp", 1, fill_socket, &f);
    f.family = "INET6";
    read_lines("/proc/net/udp6", 1, fill_socket, &f);
    f.protocol = "STREAM";
    read_lines("/proc/net/tcp6", 1, fill_socket, &f);
}

/* Lines "NAME : VALUE", and an empty one behind each processor. */
static void fill_cpu(char *line, void *arg)
{
    struct bytes *out = arg;
    char *colon = strchr(line, ':');
    if (!colon)
        return;
    bool first = !strncmp(line, "processor", strlen("processor"));
    if (first)
        bytes_text(out, out->data[out->size - 1] == '\n' ? "<item>" : "</item><item>");
    char *end = colon;
    while (end > line && strchr(" \t", end[-1]))
        end--;
    *end = '\0';
    put(out, line, colon + 1 + strspn(colon + 1, " "));
}

static void fill_cpus(struct bytes *out)
{
    size_t before = out->size;
    read_lines("/proc/cpuinfo", 0, fill_cpu, out);
    if (out->size != before)
        bytes_text(out, "</item>");
}

/* ------------------------------------------------------------------ processes */

/* Those of a folder that are numbers, for free(); how many in *n: none if the folder is gone. */
static int *numbers_in(const char *folder, size_t *n)
{
    ssize_t there = procfs_numbers(folder, NULL, 0);
    size_t room = there > 0 ? (size_t)there : 0;
    int *numbers = calloc(room + 1, sizeof *numbers);
    if (!numbers)
        abort();
    there = procfs_numbers(folder, numbers, room);
    *n = there < 0 ? 0 : (size_t)there < room ? (size_t)there : room;
    return numbers;
}

static int *processes(size_t *n)
{
    return numbers_in("/proc", n);
}

static int *tasks(pid_t pid, size_t *n)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    return numbers_in(path, n);
}

/* With its arguments; a kernel thread has only a name. */
static void put_command(struct bytes *out, const char *column, pid_t pid)
{
    char path[64], name[64];
    struct bytes text = {0};
    snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
    if (procfs_read(path, &text) || !text.size) {
        procfs_task_name(pid, pid, name, sizeof name);
        bytes_printf(&text, "[%s]", name);
    }
    for (size_t i = 0; i + 1 < text.size; i++)
        if (!text.data[i])
            text.data[i] = ' ';
    put(out, column, text.data);
    bytes_free(&text);
}

/* The processors that its threads have run on last. */
static void put_cores(struct bytes *out, pid_t pid)
{
    struct bytes text = {0};
    bool used[CORES_MAX] = {false};
    size_t n;
    int *tids = tasks(pid, &n);
    for (size_t i = 0; i < n; i++) {
        int core = procfs_task_core(pid, tids[i]);
        if (core >= 0 && core < CORES_MAX)
            used[core] = true;
    }
    for (unsigned core = 0; core < CORES_MAX; core++)
        if (used[core])
            bytes_printf(&text, "%s%u", text.size ? "," : "", core);
    put(out, "cores", text.size ? text.data : "");
    bytes_free(&text);
    free(tids);
}

static void fill_processes(struct bytes *out)
{
    size_t n;
    int *pids = processes(&n);
    for (size_t i = 0; i < n; i++) {
        char path[64];
        struct stat st;
        snprintf(path, sizeof path, "/proc/%d", pids[i]);
        if (stat(path, &st))
            continue; /* it has ended */
        bytes_text(out, "<item>");
        put_number(out, "pid", pids[i]);
        put_user(out, "user", (long)st.st_uid);
        put_command(out, "command", pids[i]);
        put_cores(out, pids[i]);
        bytes_text(out, "</item>");
    }
    free(pids);
}

struct member {
    pid_t group, pid;
};

/* By group, its leader first. */
static int compare_members(const void *a, const void *b)
{
    const struct member *one = a, *other = b;
    if (one->group != other->group)
        return one->group < other->group ? -1 : 1;
    if ((one->pid == one->group) != (other->pid == other->group))
        return one->pid == one->group ? -1 : 1;
    return one->pid < other->pid ? -1 : one->pid > other->pid;
}

static void fill_groups(struct bytes *out)
{
    size_t n;
    int *pids = processes(&n);
    struct member *members = calloc(n ? n : 1, sizeof *members);
    if (!members)
        abort();
    for (size_t i = 0; i < n; i++)
        members[i] = (struct member){getpgid(pids[i]), pids[i]};
    free(pids);
    qsort(members, n, sizeof *members, compare_members);
    for (size_t i = 0; i < n; i++) {
        if (members[i].group < 0)
            continue; /* it has ended */
        bytes_text(out, "<item>");
        put_number(out, "pgid", members[i].group);
        put_name(out, "leader command", members[i].group);
        put_number(out, "pid", members[i].pid);
        put_command(out, "command line", members[i].pid);
        bytes_text(out, "</item>");
    }
    free(members);
}

static void fill_threads(struct bytes *out)
{
    size_t n, ntids;
    int *pids = processes(&n);
    for (size_t i = 0; i < n; i++) {
        int *tids = tasks(pids[i], &ntids);
        for (size_t j = 0; j < ntids; j++) {
            bytes_text(out, "<item>");
            put_number(out, "pid", pids[i]);
            put_name(out, "command", pids[i]);
            put_number(out, "tid", tids[j]);
            put_number(out, "core", procfs_task_core(pids[i], tids[j]));
            bytes_text(out, "</item>");
        }
        free(tids);
    }
    free(pids);
}

static void fill_descriptors(struct bytes *out, pid_t pid)
{
    char path[64], name[PATH_MAX];
    size_t n;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    int *fds = numbers_in(path, &n);
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, fds[i]);
        ssize_t size = readlink(path, name, sizeof name - 1);
        if (size < 0)
            continue;
        name[size] = '\0';
        bytes_text(out, "<item>");
        put_number(out, "pid", pid);
        put_name(out, "command", pid);
        put_number(out, "file descriptor", fds[i]);
        put(out, "name", name);
        bytes_text(out, "</item>");
    }
    free(fds);
}

static void fill_files(struct bytes *out)
{
    size_t n;
    int *pids = processes(&n);
    for (size_t i = 0; i < n; i++)
        fill_descriptors(out, pids[i]);
    free(pids);
}

/* ------------------------------------------------------------------ tables */

static void fill_types(struct bytes *out);

static const struct table {
    const char *type, *title, *description;
    const struct lines *lines; /* or */
    void (*fill)(struct bytes *out);
} tables[] = {
    {"types", "Types", "Listing of info os types you can list", NULL, fill_types},
    {"cpus", "CPUs", "Listing of all cpus/cores on the system", NULL, fill_cpus},
    {"files", "File descriptors", "Listing of all file descriptors", NULL, fill_files},
    {"modules", "Kernel modules", "Listing of all loaded kernel modules", &modules, NULL},
    {"msg", "Message queues", "Listing of all message queues", &msg, NULL},
    {"processes", "Processes", "Listing of all processes", NULL, fill_processes},
    {"procgroups", "Process groups", "Listing of all process groups", NULL, fill_groups},
    {"semaphores", "Semaphores", "Listing of all semaphores", &semaphores, NULL},
    {"shm", "Shared-memory regions", "Listing of all shared-memory regions", &shm, NULL},
    {"sockets", "Sockets", "Listing of all internet-domain sockets", NULL, fill_sockets},
    {"threads", "Threads", "Listing of all threads", NULL, fill_threads},
};

static void fill_types(struct bytes *out)
{
    for (size_t i = 1; i < sizeof tables / sizeof tables[0]; i++) {
        bytes_text(out, "<item>");
        put(out, "Type", tables[i].type);
        put(out, "Description", tables[i].description);
        put(out, "Title", tables[i].title);
        bytes_text(out, "</item>");
    }
}

void osdata(const char *type, struct bytes *out)
{
    const struct table *t = NULL;
    if (!*type)
        type = tables[0].type;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        if (!strcmp(tables[i].type, type))
            t = &tables[i];
    if (!t)
        return;
    bytes_printf(out, "<osdata type=\"%s\">\n", t->type);
    if (t->lines)
        read_lines(t->lines->path, t->lines->heading, fill_line,
                   &(struct filling){.lines = t->lines, .out = out});
    else
        t->fill(out);
    bytes_text(out, "</osdata>\n");
}
