/*
 * pid.h - numbers of the process and its threads that outlive it
 *
 * A restarted or isolated rank is another process with other threads, but what it remembers of
 * itself was made with the old numbers: glibc's locked mutexes hold the owner's, programs seed and
 * name things with getpid(). So the application goes on with the numbers that it began with, and
 * calls that take one are given the kernel's.
 */
#ifndef DBG3_STUB_PID_H
#define DBG3_STUB_PID_H

#include <sys/types.h>

/* Constructor. */
void pid_init(void);

/* [any FS] After a restart: the thread that the application knows as `was` is `is` now. */
void pid_renumber(int was, int is);

/* The number that the kernel knew a thread or process of the application by while recording, or
 * knows it by; and that by which it knows one of such a number now. */
int pid_then(int number);
int pid_now(int then);

/* The number for a new thread that has this one in the kernel: another one if a thread from before
 * a restart has it. */
int pid_of_new_thread(int is);

/* In a new thread that has not got its number from there. */
void pid_thread_started(void);

/* The last thing that a thread does in the application. */
void pid_thread_ended(void);

#endif
