/*
 * control.c - the coordinator's door for other terminals
 */
#include "runtime/coord/control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "runtime/coord/coord.h"

#define SOCKET_NAME "control.sock"
#define REQUEST_MAX 64
#define CLIENTS_MAX 64

struct control {
    uv_pipe_t pipe;
    int dir_fd;
    control_request_fn *request;
    void *arg;
    struct control_client *clients;
    unsigned nclients;
};

struct control_client {
    struct control_client *next;
    struct control *control;
    uv_pipe_t pipe;
    uv_write_t write;
    char *answer;
    char line[REQUEST_MAX];
    size_t used;
    bool asked;
    bool owned; /* the coordinator holds a pointer to it: free only after control_answer() */
    bool gone;
};

/*
 * A path for bind and connect. sockaddr_un has room for 107 bytes and a session may lie deep, so
 * the folder is named by a descriptor.
 */
static void socket_path(int dir_fd, char *buf, size_t cap)
{
    snprintf(buf, cap, "/proc/self/fd/%d/" SOCKET_NAME, dir_fd);
}

static void client_unlink(struct control_client *client)
{
    struct control *control = client->control;
    for (struct control_client **p = control ? &control->clients : NULL; p && *p; p = &(*p)->next)
        if (*p == client) {
            *p = client->next;
            control->nclients--;
            break;
        }
    client->control = NULL;
}

static void client_closed(uv_handle_t *handle)
{
    struct control_client *client = handle->data;
    client_unlink(client);
    client->gone = true;
    if (client->owned)
        return;
    free(client->answer);
    free(client);
}

static void client_close(struct control_client *client)
{
    if (!uv_is_closing((uv_handle_t *)&client->pipe))
        uv_close((uv_handle_t *)&client->pipe, client_closed);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
    struct control_client *client = handle->data;
    *buf = uv_buf_init(client->line + client->used,
                       (unsigned)(sizeof client->line - client->used));
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct control_client *client = stream->data;
    if (n < 0 || client->asked) {
        client_close(client);
        return;
    }
    client->used += (size_t)n;
    char *newline = memchr(client->line, '\n', client->used);
    if (newline) {
        *newline = '\0';
        client->asked = client->owned = true;
        client->used = 0;
        client->control->request(client->control->arg, client, client->line);
    } else if (client->used == sizeof client->line) {
        client_close(client);
    }
}

static void on_answered(uv_write_t *write, int status)
{
    client_close(write->data);
}

void control_answer(struct control_client *client, json_t *answer)
{
    client->owned = false;
    client->answer = json_dumps(answer, JSON_COMPACT | JSON_ENSURE_ASCII);
    json_decref(answer);
    if (client->gone) {
        free(client->answer);
        free(client);
        return;
    }
    client->write.data = client;
    static char newline[] = "\n";
    uv_buf_t buf[2] = {uv_buf_init(client->answer, (unsigned)strlen(client->answer)),
                       uv_buf_init(newline, 1)};
    if (uv_is_closing((uv_handle_t *)&client->pipe) ||
        uv_write(&client->write, (uv_stream_t *)&client->pipe, buf, 2, on_answered) < 0)
        client_close(client);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct control *control = listener->data;
    struct control_client *client = status == 0 ? calloc(1, sizeof *client) : NULL;
    if (!client)
        return;
    uv_pipe_init(listener->loop, &client->pipe, 0);
    client->pipe.data = client;
    client->control = control;
    client->next = control->clients;
    control->clients = client;
    control->nclients++;
    if (uv_accept(listener, (uv_stream_t *)&client->pipe) < 0 ||
        control->nclients > CLIENTS_MAX ||
        uv_read_start((uv_stream_t *)&client->pipe, on_alloc, on_read) < 0)
        client_close(client);
}

struct control *control_open(uv_loop_t *loop, const char *session_dir, control_request_fn *request,
                             void *arg, struct err *err)
{
    char path[64];
    struct control *control = calloc(1, sizeof *control);
    int dir_fd = open(session_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!control || dir_fd < 0) {
        err_sys(err, "%s", session_dir);
        free(control);
        if (dir_fd >= 0)
            close(dir_fd);
        return NULL;
    }
    *control = (struct control){.dir_fd = dir_fd, .request = request, .arg = arg};
    socket_path(dir_fd, path, sizeof path);
    unlinkat(dir_fd, SOCKET_NAME, 0); /* of a dbg3 that was killed: we hold the lock */
    uv_pipe_init(loop, &control->pipe, 0);
    control->pipe.data = control;
    mode_t old = umask(0177);
    int rc = uv_pipe_bind(&control->pipe, path);
    umask(old);
    if (rc == 0)
        rc = uv_listen((uv_stream_t *)&control->pipe, 8, on_connection);
    if (rc < 0) {
        err_set(err, "%s/" SOCKET_NAME ": %s", session_dir, uv_strerror(rc));
        control_close(control);
        return NULL;
    }
    return control;
}

static void control_closed(uv_handle_t *handle)
{
    struct control *control = handle->data;
    close(control->dir_fd);
    free(control);
}

void control_close(struct control *control)
{
    if (!control)
        return;
    while (control->clients) {
        struct control_client *client = control->clients;
        client_unlink(client);
        client_close(client);
    }
    unlinkat(control->dir_fd, SOCKET_NAME, 0);
    uv_close((uv_handle_t *)&control->pipe, control_closed);
}

/* ---- the other terminal's side ----------------------------------------------------------- */

static int ask_connect(const char *session_dir, struct err *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int dir_fd = open(session_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (dir_fd >= 0 && fd >= 0) {
        socket_path(dir_fd, address.sun_path, sizeof address.sun_path);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
            close(dir_fd);
            return fd;
        }
    }
    err_set(err, "%s: no phase is running here (%s); see: dbg3 status", session_dir,
            strerror(errno));
    if (fd >= 0)
        close(fd);
    if (dir_fd >= 0)
        close(dir_fd);
    return -1;
}

char *coord_ask(const char *session_dir, const char *request, struct err *err)
{
    char *answer = NULL;
    size_t size = 0;
    int fd = ask_connect(session_dir, err);
    if (fd < 0)
        return NULL;
    /* An epoch takes what it takes; facts are there at once unless that dbg3 is stopped. */
    struct timeval patience = {.tv_sec = strcmp(request, "checkpoint") == 0 ? 0 : 2};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    FILE *stream = fdopen(fd, "r+");
    if (!stream) {
        err_sys(err, "%s", session_dir);
        close(fd);
        return NULL;
    }
    ssize_t n = -1;
    if (fprintf(stream, "%s\n", request) > 0 && fflush(stream) == 0)
        n = getline(&answer, &size, stream);
    fclose(stream);
    if (n > 0 && answer[n - 1] == '\n') {
        answer[n - 1] = '\0';
        return answer;
    }
    free(answer);
    err_set(err, "%s: the job ended before the answer came; see: dbg3 status", session_dir);
    return NULL;
}
