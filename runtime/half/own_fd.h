/*
 * own_fd.h - descriptors that are not the application's
 *
 * Ours live at high numbers, out of the application's way; those that were open when the rank
 * started (standard streams, the launcher's pipes) belong to the job. Neither is saved in an image.
 */
#ifndef DBG3_HALF_OWN_FD_H
#define DBG3_HALF_OWN_FD_H

#include <stdbool.h>

/* Notes what is open now. Once, before anything else is opened. */
void own_fd_start(void);

/* Moves a descriptor of ours to a high number, close-on-exec. Returns it; fd itself if it cannot
 * move, or -1 if fd is -1. */
int own_fd_take(int fd);
void own_fd_close(int fd);

/* Notes a descriptor that the lower half's libraries have made; -1 is fine. */
void own_fd_note(int fd);
void own_fd_forget(int fd);

/* Takes all numbers below OWN_FD_HIGH that are free, so that what is opened next is out of the
 * application's way, and gives them back. */
#define OWN_FD_HIGH 600
void own_fd_reserve(void);
void own_fd_unreserve(void);

/* The standard stream (0, 1, 2) that the descriptor is another one of; -1: none. */
int own_fd_stream(int fd);

/* True if the descriptor was open at the start and is the same file still, or is ours. */
bool own_fd_is(int fd);

/*
 * Gives the calling thread of the lower half descriptors of its own, of which only standard error
 * is open. What it opens from then on is not taken for the application's, and does not change the
 * numbers that the application gets.
 */
void own_fd_unshare(void);

#endif
