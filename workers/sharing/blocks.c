/* malloc's large blocks, which are mappings of their own, stay what they are.
 *
 * realloc grows such a block by mremap. Of anonymous memory that makes more of it. Of a file's it makes what stands
 * behind in the file: another region's bytes, and after the file's end SIGBUS. So from the import of this extension on
 * malloc takes all blocks from the heap, which grows by anonymous memory in any case, and those that are there already
 * are none of the regions. Once the regions have moved a new block may be a mapping again, and then goes back to the
 * system when it is freed.
 *
 * Other C libraries do as glibc and cannot be told, or asked what they did: there nothing moves.
 */
#define _GNU_SOURCE
#include "sharing.h"

#include <string.h>

#ifdef __GLIBC__
#include <malloc.h>

enum { MOST_MAPPINGS = 65536 /* glibc's own default */, IS_MAPPED = 2, FLAGS = 7, HUGE_PAGES = 1 };

void blocks_from_heap(void)
{
    mallopt(M_MMAP_MAX, 0);
}

void blocks_as_always(void)
{
    mallopt(M_MMAP_MAX, MOST_MAPPINGS);
}

bool blocks_known(void)
{
    return true;
}

/* Such a block begins a page, with two words: nought (since 2.43 also HUGE_PAGES), and a flag with the size, which is a
 * whole number of pages (since 2.43 less these words). What only looks like one costs some sharing and nothing else.
 * One that was aligned on request begins elsewhere, but nobody grows it: Python has no such call. */
size_t block_at(uintptr_t start, uintptr_t end)
{
    size_t head[2];
    memcpy(head, (const void *)start, sizeof head);
    size_t size = head[1] & ~(size_t)FLAGS;
    if (head[0] > HUGE_PAGES || (head[1] & FLAGS) != IS_MAPPED || size > end - start)
        return 0;
    size_t bytes = (size + shared.page - 1) / shared.page * shared.page;
    return bytes - size <= sizeof head ? bytes : 0;
}

#else

void blocks_from_heap(void)
{
}

void blocks_as_always(void)
{
}

bool blocks_known(void)
{
    return false;
}

size_t block_at(uintptr_t start, uintptr_t end)
{
    (void)start;
    (void)end;
    return 0;
}

#endif
