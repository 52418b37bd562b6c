/*
 * shared.h - a library with a thread-local variable
 */
#ifndef SHARED_H
#define SHARED_H

int shared_set(int number);
int shared_sum(int a, int b);

#endif
