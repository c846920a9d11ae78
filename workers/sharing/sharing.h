/* Memory that forks can share again.
 *
 * A worker starts as a copy of its parent and shares each page of it until one of them writes there. Much of what a
 * worker writes it takes back: a count of references goes up, and down again. Its page is then what it was, and still
 * a copy of its own, since anonymous memory is never shared again. Memory of a file is: drop the private copy, and the
 * next read finds the file's page. So before the first fork the parent's data moves into a file that has no name, is
 * mapped privately where it was, and a worker that is at rest drops each page that says what the file says.
 *
 * Two things must hold. What is dropped must say the same as what replaces it; counts of references may differ, for
 * which lasting.c says why. And nothing may write between the look and the drop: the process must have one thread, and
 * signals wait.
 */
#ifndef SHARING_H
#define SHARING_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

typedef uint64_t __attribute__((may_alias)) word; /* memory of any kind, seen as 64-bit numbers */

/* A line of /proc/self/maps or smaps. */
struct mapping {
    uintptr_t start, end;
    uint64_t offset;
    dev_t device;
    ino_t inode;
    char rights[5];
    char name[16]; /* its beginning */
};

struct maps {
    int fd;
    size_t at, end;
    char buffer[8192];
};

bool maps_open(struct maps *maps, const char *path);
char *maps_line(struct maps *maps); /* without its newline; NULL at the end */
bool maps_parse(const char *line, struct mapping *mapping);

bool is_alone(void); /* this process has one thread; false where /proc does not tell */
void hold_signals(sigset_t *before);
void release_signals(const sigset_t *before);

/* Memory that may move into the file, and where in the file it comes to stand. In the order of addresses. */
struct region {
    uintptr_t start, end;
    uint64_t offset;
};

enum { REGIONS = 256 };

struct regions {
    size_t count;
    uint64_t bytes;
    struct region region[REGIONS];
};

/* malloc's large blocks: whether they come from the heap alone, and where those are that do not. */
void blocks_from_heap(void);
void blocks_as_always(void);
bool blocks_known(void);                         /* this C library's are */
size_t block_at(uintptr_t start, uintptr_t end); /* bytes of one that starts with this page; 0: none does */

bool regions_find(struct regions *regions);
const struct region *regions_of(const struct regions *regions, uintptr_t address); /* NULL: none */

/* The objects that live as long as the process: PyObject, in no order. */
struct lasting {
    void **object; /* NULL: none */
    size_t count, room;
};

void lasting_find(struct lasting *lasting); /* and makes them last */
void lasting_forget(struct lasting *lasting);

bool may_stop_warmup(void); /* this is an interpreter that we know */
void stop_warmup(void *code);

/* The file, for all processes alike. */
struct shared {
    unsigned char *base; /* all of it, read-only; NULL as long as there is none */
    word *counts;        /* a bit for each word of it: a lasting object's count of references; NULL: not told */
    unsigned char *rests; /* for each page of it: how many looks leave it out; each process's own */
    uint64_t bytes;
    dev_t device;
    ino_t inode;
    size_t page; /* bytes of one */
};

extern struct shared shared;

bool share(void);     /* false with errno: refused, and nothing has changed */
long give_back(void); /* how many pages; -1 with errno: /proc does not tell */

/* A count that is above this belongs to a lasting object. Nobody holds 2^40 references, or loses 2^39. */
#define LASTING (INT64_C(1) << 40)
#define STILL_LASTING (LASTING / 2)

#endif
