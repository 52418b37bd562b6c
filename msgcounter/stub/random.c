/*
 * random.c - random numbers of the processor
 *
 * Nothing tells when a program executes `rdrand`. But most that do have it from C++'s
 * std::random_device, whose numbers come from the kernel here while they are recorded, which the
 * log has. They are as random as the others.
 */
#include <stddef.h>
#include <sys/random.h>

#include "msgcounter/stub/stub.h"
#include "msgcounter/stub/thread.h"

#define EXPORT __attribute__((visibility("default")))

/* As libstdc++ 10 and newer have it (src/c++11/random.cc). */
struct random_device {
    void *file;
    unsigned (*instruction)(void *); /* NULL: it reads a file */
    int fd;
};

EXPORT unsigned random_device_value(const struct random_device *device)
    __asm__("_ZNSt13random_device9_M_getvalEv");

unsigned random_device_value(const struct random_device *device)
{
    static void *fn;
    unsigned value;
    if (stub_thread.dispatched && device->instruction &&
        getrandom(&value, sizeof value, 0) == sizeof value)
        return value;
    unsigned (*next)(const struct random_device *) =
        stub_next("_ZNSt13random_device9_M_getvalEv", &fn);
    return next(device);
}
