/*
 * control.h - the coordinator's door for other terminals
 *
 * <session>/control.sock, 0600: a line with one word comes in, a line of JSON goes out, possibly
 * much later ("checkpoint" answers when the epoch is complete).
 */
#ifndef DBG3_COORD_CONTROL_H
#define DBG3_COORD_CONTROL_H

#include <jansson.h>
#include <uv.h>

#include "runtime/base/err.h"

struct control;
struct control_client;

/* A request; answer it with control_answer() once, now or later. */
typedef void control_request_fn(void *arg, struct control_client *client, const char *request);

struct control *control_open(uv_loop_t *loop, const char *session_dir, control_request_fn *request,
                             void *arg, struct err *err);
/* Removes the socket and hangs up on all clients. */
void control_close(struct control *control);

/* Sends the answer (reference stolen) and hangs up. A client that has gone away is fine. */
void control_answer(struct control_client *client, json_t *answer);

#endif
