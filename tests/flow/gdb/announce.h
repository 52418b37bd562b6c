/*
 * announce.h - how replayed.c announces events to adopt.c
 */
#ifndef ANNOUNCE_H
#define ANNOUNCE_H

#define ANNOUNCE 0x33676264l

enum { ANNOUNCE_NOTHING, ANNOUNCE_TEXT, ANNOUNCE_END };

#endif
