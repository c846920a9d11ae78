/* What all parts of the path tell of themselves. */
#define _GNU_SOURCE
#include "path.h"

#include <unistd.h>

void tell_batch(struct path *path, enum batch what, unsigned packets)
{
    unsigned bucket = 0;
    while (bucket + 1 < BATCH_BUCKETS && packets >> (bucket + 1) != 0)
        bucket++;
    add(&path->batch[what][bucket], 1);
}

void give_up(struct path *path, int error)
{
    uint64_t one = 1;
    int none = 0;
    if (atomic_compare_exchange_strong(&path->failed, &none, error) && write(path->ended, &one, sizeof one) < 0)
        return; /* an eventfd that holds 0 takes a 1 */
}
