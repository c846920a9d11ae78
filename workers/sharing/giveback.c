/* A worker's side: looks at its copies, and drops those that say what the file says. */
#define _GNU_SOURCE
#include "sharing.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { AT_ONCE = 256 /* pages */, LEFT_OUT = 15 /* looks */ };

static const uint64_t PRESENT = UINT64_C(1) << 63, OF_FILE = UINT64_C(1) << 61; /* Documentation/admin-guide/mm/pagemap */

/* 64 words; `counts` has a bit for each that is a lasting object's count. */
static bool same_words(const word *ours, const word *files, word counts)
{
    for (unsigned i = 0; i < 64; i++)
        if (ours[i] != files[i] && !(counts >> i & 1 && (int64_t)ours[i] > STILL_LASTING))
            return false;
    return true;
}

static bool same_page(const word *ours, const word *files, const word *counts)
{
    for (size_t i = 0; i < shared.page / sizeof(word) / 64; i++, ours += 64, files += 64) {
        if (memcmp(ours, files, 64 * sizeof(word)) == 0)
            continue;
        if (counts == NULL || !same_words(ours, files, counts[i]))
            return false;
    }
    return true;
}

static bool is_same(uintptr_t page, uint64_t offset)
{
    const word *counts = shared.counts == NULL ? NULL : shared.counts + offset / sizeof(word) / 64;
    return same_page((const word *)page, (const word *)(shared.base + offset), counts);
}

/* Pages that are given back in one call when they stand in a row. */
struct run {
    uintptr_t start, end;
    long given;
};

static void drop(struct run *run)
{
    if (run->start != run->end && madvise((void *)run->start, run->end - run->start, MADV_DONTNEED) == 0)
        run->given += (long)((run->end - run->start) / shared.page);
}

/* True if the page is a copy that may go. One that differs is mostly one that stays so: it is left out for some time. */
static bool may_go(uintptr_t page, uint64_t offset, uint64_t entry)
{
    unsigned char *rest = &shared.rests[offset / shared.page];
    if ((entry & (PRESENT | OF_FILE)) != PRESENT)
        return false;
    if (*rest > 0) {
        --*rest;
        return false;
    }
    if (is_same(page, offset))
        return true;
    *rest = LEFT_OUT;
    return false;
}

static void look(uintptr_t page, uint64_t offset, uint64_t entry, struct run *run)
{
    if (!may_go(page, offset, entry))
        return;
    if (run->end != page) {
        drop(run);
        run->start = page;
    }
    run->end = page + shared.page;
}

static long give_back_mapping(int pagemap, const struct mapping *mapping)
{
    uint64_t entries[AT_ONCE];
    struct run run = {0};
    for (uintptr_t page = mapping->start; page < mapping->end;) {
        ssize_t got = pread(pagemap, entries, sizeof entries, (off_t)(page / shared.page * sizeof *entries));
        if (got < (ssize_t)sizeof *entries)
            break;
        for (size_t i = 0; i < (size_t)got / sizeof *entries && page < mapping->end; i++, page += shared.page)
            look(page, mapping->offset + (page - mapping->start), entries[i], &run);
    }
    drop(&run);
    return run.given;
}

/* What the kernel says is mapped now: the heap has given back parts of what was moved, and others may stand there. */
static long give_back_mappings(struct maps *maps, int pagemap)
{
    struct mapping mapping;
    long given = 0;
    for (char *line; (line = maps_line(maps)) != NULL;)
        if (maps_parse(line, &mapping) && mapping.inode == shared.inode && mapping.device == shared.device &&
            strcmp(mapping.rights, "rw-p") == 0)
            given += give_back_mapping(pagemap, &mapping);
    return given;
}

long give_back(void)
{
    struct maps maps;
    sigset_t before;
    long given = -1;
    if (shared.base == NULL || !is_alone())
        return 0;
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0)
        return -1;
    hold_signals(&before); /* what a handler writes between a look and a drop would be lost */
    if (maps_open(&maps, "/proc/self/maps")) {
        given = give_back_mappings(&maps, pagemap);
        close(maps.fd);
    }
    madvise(shared.base, shared.bytes, MADV_DONTNEED); /* what was looked at is not in use */
    release_signals(&before);
    close(pagemap);
    return given;
}
