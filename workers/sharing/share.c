/* The parent's side: once, with one thread, before the first fork. */
#define _GNU_SOURCE
#include "sharing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U /* Linux 6.3; a host may refuse files without it */
#endif

struct shared shared;

static bool is_zero(const unsigned char *page)
{
    return page[0] == 0 && memcmp(page, page + 1, shared.page - 1) == 0;
}

/* Pages of zeros become holes, which read the same and cost nothing. */
static bool copy(int fd, const struct region *region)
{
    for (uintptr_t at = region->start; at < region->end; at += shared.page) {
        const unsigned char *page = (const unsigned char *)at;
        off_t offset = (off_t)(region->offset + (at - region->start));
        if (!is_zero(page) && pwrite(fd, page, shared.page, offset) != (ssize_t)shared.page)
            return false;
    }
    return true;
}

static bool copy_all(int fd, const struct regions *regions)
{
    for (size_t i = 0; i < regions->count; i++)
        if (!copy(fd, &regions->region[i]))
            return false;
    return true;
}

static void map_all(int fd, const struct regions *regions)
{
    for (size_t i = 0; i < regions->count; i++) {
        const struct region *region = &regions->region[i];
        void *start = (void *)region->start;
        if (mmap(start, region->end - region->start, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd,
                 (off_t)region->offset) == MAP_FAILED)
            abort(); /* out of the kernel's own memory, and the old mapping may be gone: no way on or back */
    }
}

/* From the first region's copy to the last one's mapping this writes on the stack alone: what it wrote elsewhere might
 * be lost. */
static bool replace(int fd, const struct regions *regions)
{
    sigset_t before;
    hold_signals(&before);
    bool done = copy_all(fd, regions);
    if (done)
        map_all(fd, regions);
    release_signals(&before);
    return done;
}

/* Reads each page that is no hole, so that all of them count as this process's, whose they are, and not as that of the
 * one worker that happens to read one. */
static void own(int fd, const unsigned char *base, uint64_t bytes)
{
    off_t start = 0, end = 0;
    while ((start = lseek(fd, end, SEEK_DATA)) >= 0 && (end = lseek(fd, start, SEEK_HOLE)) > start)
        for (off_t at = start; at < end && (uint64_t)at < bytes; at += (off_t)shared.page)
            (void)*(const volatile unsigned char *)(base + at);
}

static word *mark_counts(const struct lasting *lasting, const struct regions *regions)
{
    size_t bytes = regions->bytes / sizeof(word) / 8;
    word *marks = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (marks == MAP_FAILED)
        return NULL;
    for (size_t i = 0; i < lasting->count; i++) {
        uintptr_t address = (uintptr_t)lasting->object[i];
        const struct region *region = regions_of(regions, address);
        if (region == NULL)
            continue;
        uint64_t number = (region->offset + (address - region->start)) / sizeof(word);
        marks[number / 64] |= UINT64_C(1) << number % 64;
    }
    mprotect(marks, bytes, PROT_READ);
    return marks;
}

static int new_file(void)
{
    int fd = memfd_create("flanneld", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL)
        fd = memfd_create("flanneld", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    return fd;
}

/* True if the kernel lets us map the file as we shall; asked while it is not yet too late. */
static bool may_map(int fd)
{
    void *trial = mmap(NULL, shared.page, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    return trial != MAP_FAILED && munmap(trial, shared.page) == 0;
}

static void unmap(void *start, size_t bytes)
{
    if (start != MAP_FAILED)
        munmap(start, bytes);
}

static bool move_regions(int fd, const struct regions *regions)
{
    struct stat file;
    if (fstat(fd, &file) != 0 || ftruncate(fd, (off_t)regions->bytes) != 0)
        return false;
    size_t pages = regions->bytes / shared.page;
    unsigned char *base = mmap(NULL, regions->bytes, PROT_READ, MAP_PRIVATE, fd, 0); /* a shared one forbids the seals */
    unsigned char *rests = mmap(NULL, pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || rests == MAP_FAILED || !replace(fd, regions)) {
        unmap(base, regions->bytes);
        unmap(rests, pages);
        return false;
    }
    own(fd, base, regions->bytes);
    shared.base = base;
    shared.rests = rests;
    shared.bytes = regions->bytes;
    shared.device = file.st_dev;
    shared.inode = file.st_ino;
    return true;
}

static bool move(int fd)
{
    struct lasting lasting;
    struct regions regions;
    lasting_find(&lasting); /* before the regions: it uses the heap, which may grow or shrink */
    bool done = regions_find(&regions) && move_regions(fd, &regions);
    if (done)
        shared.counts = mark_counts(&lasting, &regions);
    lasting_forget(&lasting);
    return done;
}

/* What all workers rest on stays as it is, even for root. Nothing here rests on the seals: a refusal changes nothing. */
static void seal(int fd)
{
    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
}

static bool share_now(void)
{
    if (!is_alone() || !blocks_known()) {
        errno = blocks_known() ? EBUSY : ENOTSUP;
        return false;
    }
    shared.page = (size_t)sysconf(_SC_PAGESIZE);
    int fd = new_file();
    if (fd < 0)
        return false;
    bool done = ftruncate(fd, (off_t)shared.page) == 0 && may_map(fd) && move(fd);
    int error = errno;
    if (done)
        seal(fd);
    close(fd); /* the mappings keep the file, and nobody can write to it any more */
    errno = error;
    return done;
}

bool share(void)
{
    if (shared.base != NULL)
        return true;
    bool done = share_now();
    if (done)
        blocks_as_always();
    return done;
}
