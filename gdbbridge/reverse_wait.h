/*
 * reverse_wait.h - waiting for copies of a process, as long as somebody cares
 *
 * Going back may take long: then its caller is asked ten times a second whether to give up. What
 * waits for a copy then hears that the copy is gone, and ends; the copy, which runs on, is killed.
 * A timer's signal (SIGALRM) ends the wait, so that waiting costs no more than waitpid(2).
 */
#ifndef DBG3_GDBBRIDGE_REVERSE_WAIT_H
#define DBG3_GDBBRIDGE_REVERSE_WAIT_H

#include <stdbool.h>
#include <sys/types.h>

/* From now on `give_up` is asked. */
void reverse_wait_begin(bool (*give_up)(void *arg), void *arg);

/* From now on nobody is. Returns whether it was given up. */
bool reverse_wait_end(void);

/* The next stop of this process. Returns its status, or -1: it is gone, or this was given up. */
int reverse_wait(pid_t pid);

/* The same for what must be waited for, and comes soon: -1 if it is gone. */
int reverse_wait_soon(pid_t pid);

/* The next status of any child, as for reverse_wait(). Returns its number, or -1. */
pid_t reverse_wait_any(int *status);

/* A status that reverse_wait_any() has given and that is somebody else's: it is kept until that one
 * asks for it. */
void reverse_wait_keep(pid_t pid, int status);
bool reverse_wait_kept(pid_t pid, int *status);
pid_t reverse_wait_kept_any(int *status);

#endif
