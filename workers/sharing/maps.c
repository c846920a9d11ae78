/* Reads /proc/self/maps and smaps. No stdio: it would use the very memory that is looked at. */
#define _GNU_SOURCE
#include "sharing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <unistd.h>

bool maps_open(struct maps *maps, const char *path)
{
    maps->at = maps->end = 0;
    maps->fd = open(path, O_RDONLY | O_CLOEXEC);
    return maps->fd >= 0;
}

char *maps_line(struct maps *maps)
{
    for (;;) {
        char *line = maps->buffer + maps->at;
        char *newline = memchr(line, '\n', maps->end - maps->at);
        if (newline != NULL) {
            *newline = '\0';
            maps->at = (size_t)(newline - maps->buffer) + 1;
            return line;
        }
        memmove(maps->buffer, line, maps->end - maps->at);
        maps->end -= maps->at;
        maps->at = 0;
        size_t room = sizeof maps->buffer - maps->end; /* a path has 4,096 bytes at most: never none for a whole line */
        ssize_t got;
        do
            got = read(maps->fd, maps->buffer + maps->end, room);
        while (got < 0 && errno == EINTR);
        if (got <= 0)
            return NULL;
        maps->end += (size_t)got;
    }
}

/* 559f18536000-559f18537000 rw-p 00001000 fe:01 1234   /a/path */
bool maps_parse(const char *line, struct mapping *mapping)
{
    char *at;
    mapping->start = strtoul(line, &at, 16);
    if (*at++ != '-')
        return false;
    mapping->end = strtoul(at, &at, 16);
    if (*at++ != ' ' || strnlen(at, 5) < 5)
        return false;
    memcpy(mapping->rights, at, 4);
    mapping->rights[4] = '\0';
    mapping->offset = strtoull(at + 5, &at, 16);
    unsigned long major = strtoul(at, &at, 16);
    if (*at++ != ':')
        return false;
    mapping->device = makedev(major, strtoul(at, &at, 16));
    mapping->inode = strtoul(at, &at, 10);
    at += strspn(at, " ");
    size_t length = strnlen(at, sizeof mapping->name - 1);
    memcpy(mapping->name, at, length);
    mapping->name[length] = '\0';
    return true;
}
