/*
 * shared.c - libshared.so
 */
#include "shared.h"

__thread int shared_tls;

int shared_set(int number)
{
    shared_tls = number;
    return shared_tls;
}

int shared_sum(int a, int b)
{
    int sum = a + b;
    return sum;
}
