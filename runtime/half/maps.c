/*
 * maps.c - /proc/PID/maps as an array
 */
#include "runtime/half/maps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The whole file. It is read in one go into a buffer that is large enough beforehand, because
 * growing the buffer in between would change what is read. */
static char *read_all(const char *path, struct err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err_sys(err, "cannot open %s", path);
        return NULL;
    }
    size_t cap = 1 << 20;
    for (;;) {
        char *text = malloc(cap);
        size_t len = 0;
        ssize_t n = 0;
        if (!text)
            break;
        lseek(fd, 0, SEEK_SET);
        while (len < cap - 1 && (n = read(fd, text + len, cap - 1 - len)) > 0)
            len += (size_t)n;
        if (n == 0) {
            text[len] = '\0';
            close(fd);
            return text;
        }
        free(text);
        if (n < 0)
            break;
        cap *= 4;
    }
    err_sys(err, "cannot read %s", path);
    close(fd);
    return NULL;
}

static int parse_line(char *line, struct maps_entry *m)
{
    char perms[5] = "";
    int path_at = 0;
    if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %n", &m->start, &m->end, perms, &m->offset,
               &m->dev_major, &m->dev_minor, &m->inode, &path_at) < 7)
        return -1;
    m->prot = (perms[0] == 'r' ? PROT_READ : 0) | (perms[1] == 'w' ? PROT_WRITE : 0) |
              (perms[2] == 'x' ? PROT_EXEC : 0);
    m->shared = perms[3] == 's';
    m->path = path_at ? line + path_at : "";
    return 0;
}

int maps_parse(struct maps *maps, char *text, struct err *err)
{
    size_t cap = 1;
    for (const char *p = text; *p; p++)
        cap += *p == '\n';
    maps->entry = calloc(cap, sizeof *maps->entry);
    if (!maps->entry)
        return err_sys(err, "no memory");
    maps->n = 0;
    maps->text = text;
    for (char *line = text; *line;) {
        char *end = strchr(line, '\n');
        char *next = end ? end + 1 : line + strlen(line);
        if (end)
            *end = '\0';
        if (parse_line(line, &maps->entry[maps->n]) < 0) {
            free(maps->entry);
            return err_set(err, "not a line of /proc/PID/maps: %.60s", line);
        }
        maps->n++;
        line = next;
    }
    return 0;
}

int maps_read(struct maps *maps, struct err *err)
{
    char *text = read_all("/proc/self/maps", err);
    if (!text)
        return -1;
    if (maps_parse(maps, text, err) < 0) {
        free(text);
        return -1;
    }
    return 0;
}

void maps_free(struct maps *maps)
{
    free(maps->entry);
    free(maps->text);
    maps->entry = NULL;
    maps->text = NULL;
}
