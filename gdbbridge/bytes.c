/*
 * bytes.c - growable byte string
 */
#include "gdbbridge/bytes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bytes_free(struct bytes *b)
{
    free(b->data);
    *b = (struct bytes){0};
}

void bytes_clear(struct bytes *b)
{
    b->size = 0;
    if (b->data)
        b->data[0] = '\0';
}

/* Makes room for `more` bytes and the NUL. Returns where they go. */
static char *reserve(struct bytes *b, size_t more)
{
    if (b->size + more + 1 > b->room) {
        size_t room = (b->size + more + 1) * 2;
        char *data = realloc(b->data, room);
        if (!data)
            abort();
        b->data = data;
        b->room = room;
    }
    return b->data + b->size;
}

void bytes_add(struct bytes *b, const void *data, size_t size)
{
    char *to = reserve(b, size);
    if (size)
        memcpy(to, data, size);
    to[size] = '\0';
    b->size += size;
}

void bytes_text(struct bytes *b, const char *text)
{
    bytes_add(b, text, strlen(text));
}

void bytes_printf(struct bytes *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0)
        abort();
    char *to = reserve(b, (size_t)n);
    va_start(ap, fmt);
    vsnprintf(to, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->size += (size_t)n;
}

void bytes_xml(struct bytes *b, const char *text)
{
    static const char special[] = "<>&\"'";
    static const char *const coded[] = {"&lt;", "&gt;", "&amp;", "&quot;", "&apos;"};
    for (; *text; text++) {
        const char *found = strchr(special, *text);
        if (found)
            bytes_text(b, coded[found - special]);
        else if ((unsigned char)*text >= ' ')
            bytes_add(b, text, 1);
    }
}

void bytes_hex(struct bytes *b, const void *data, size_t size)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *from = data;
    char *to = reserve(b, 2 * size);
    for (size_t i = 0; i < size; i++) {
        *to++ = digits[from[i] >> 4];
        *to++ = digits[from[i] & 15];
    }
    *to = '\0';
    b->size += 2 * size;
}

size_t bytes_binary(struct bytes *b, const void *data, size_t size, size_t room)
{
    const uint8_t *from = data;
    size_t i;
    for (i = 0; i < size; i++) {
        bool escape = from[i] == '#' || from[i] == '$' || from[i] == '}' || from[i] == '*';
        size_t need = escape ? 2 : 1;
        if (need > room)
            break;
        room -= need;
        char out[2] = {'}', (char)(from[i] ^ 0x20)};
        bytes_add(b, escape ? (const void *)out : &from[i], need);
    }
    return i;
}

int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

long hex_decode(void *out, size_t room, const char *hex, size_t digits)
{
    uint8_t *to = out;
    if (digits % 2 || digits / 2 > room)
        return -1;
    for (size_t i = 0; i < digits; i += 2) {
        int high = hex_digit(hex[i]), low = hex_digit(hex[i + 1]);
        if (high < 0 || low < 0)
            return -1;
        *to++ = (uint8_t)(high << 4 | low);
    }
    return (long)(digits / 2);
}
