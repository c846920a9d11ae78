/* Which memory may move: this process's own plain data, and nothing that the kernel or another thread writes. */
#define _GNU_SOURCE
#include "sharing.h"

#include <string.h>
#include <unistd.h>

/* The kernel writes near the thread pointer at any time (restartable sequences: the number of the CPU). */
enum { NEAR_THREAD = 16 * 1024 };

/* Readable, writable, may be made so or executable, counted, touched lately. Any other flag is a promise that a file's
 * mapping would break: locked, not copied or wiped at a fork, dropped at will (getrandom's state), growing, watched. */
static const char PLAIN[] = " rd wr mr mw me ac sd ";

static bool plain(const char *flags)
{
    for (flags += strspn(flags, " "); *flags != '\0'; flags += strspn(flags, " ")) {
        size_t length = strcspn(flags, " ");
        char flag[] = {' ', flags[0], flags[1], ' ', '\0'};
        if (length != 2 || strstr(PLAIN, flag) == NULL)
            return false;
        flags += length;
    }
    return true;
}

static void add(struct regions *regions, uintptr_t start, uintptr_t end)
{
    if (start >= end || regions->count == REGIONS)
        return;
    regions->region[regions->count++] = (struct region){start, end, regions->bytes};
    regions->bytes += end - start;
}

static void add_but_thread(struct regions *regions, uintptr_t start, uintptr_t end)
{
    uintptr_t page = -(uintptr_t)sysconf(_SC_PAGESIZE), thread = (uintptr_t)__builtin_thread_pointer();
    uintptr_t from = (thread - NEAR_THREAD) & page, to = (thread + NEAR_THREAD) & page;
    if (to <= start || from >= end) {
        add(regions, start, end);
    } else {
        add(regions, start, from);
        add(regions, to, end);
    }
}

/* All but malloc's large blocks, see blocks.c. Each page is asked: a false block must not hide a true one. */
static void add_but_blocks(struct regions *regions, uintptr_t start, uintptr_t end)
{
    for (uintptr_t at = start; at < end; at += shared.page) {
        size_t bytes = block_at(at, end);
        if (bytes == 0)
            continue;
        add_but_thread(regions, start, at);
        if (start < at + bytes)
            start = at + bytes;
    }
    add_but_thread(regions, start, end);
}

/* Private and writable: data of programs and libraries, the heap, or without a name; not the stack. */
static bool data(const struct mapping *mapping)
{
    return strcmp(mapping->rights, "rw-p") == 0 &&
           (mapping->inode != 0 || mapping->name[0] == '\0' || strcmp(mapping->name, "[heap]") == 0);
}

static void add_all(struct regions *regions, const struct mapping *mapping)
{
    if (mapping->name[0] == '\0')
        add_but_blocks(regions, mapping->start, mapping->end);
    else
        add_but_thread(regions, mapping->start, mapping->end);
}

bool regions_find(struct regions *regions)
{
    struct maps maps;
    struct mapping mapping = {0}, read;
    bool wanted = false;
    regions->count = 0;
    regions->bytes = 0;
    if (!maps_open(&maps, "/proc/self/smaps"))
        return false;
    for (char *line; (line = maps_line(&maps)) != NULL;) {
        if (maps_parse(line, &read)) {
            mapping = read;
            wanted = data(&mapping);
        } else if (wanted && strncmp(line, "VmFlags:", 8) == 0 && plain(line + 8)) {
            add_all(regions, &mapping);
        }
    }
    close(maps.fd);
    return true;
}

const struct region *regions_of(const struct regions *regions, uintptr_t address)
{
    size_t low = 0, high = regions->count;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (regions->region[middle].end <= address)
            low = middle + 1;
        else
            high = middle;
    }
    return low < regions->count && regions->region[low].start <= address ? &regions->region[low] : NULL;
}
