/*
 * human.c - sizes and durations as people read them
 */
#include "runtime/base/human.h"

#include <stdio.h>

const char *human_bytes(uint64_t bytes, char *buf, size_t cap)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    double value = (double)bytes;
    size_t u = 0;
    while (value >= 999.5 && u + 1 < sizeof units / sizeof units[0]) {
        value /= 1000;
        u++;
    }
    snprintf(buf, cap, u && value < 9.95 ? "%.1f %s" : "%.0f %s", value, units[u]);
    return buf;
}

const char *human_seconds(double s, char *buf, size_t cap)
{
    if (s < 0.9995)
        snprintf(buf, cap, "%.0f ms", s * 1000);
    else if (s < 59.95)
        snprintf(buf, cap, "%.1f s", s);
    else if (s < 3599.5)
        snprintf(buf, cap, "%d min %02d s", (int)(s + 0.5) / 60, (int)(s + 0.5) % 60);
    else
        snprintf(buf, cap, "%d h %02d min", (int)(s / 60 + 0.5) / 60, (int)(s / 60 + 0.5) % 60);
    return buf;
}
