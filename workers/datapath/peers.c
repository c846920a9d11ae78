#include "peers.h"

#include <stdlib.h>

/* A hash over (base, length), open addressing; one probe for each prefix length in use, longest first. A network gives
 * all its leases one length, so that is one probe; more only while a network's SubnetLen changes. */
struct table {
    uint64_t serial;
    struct table *older;   /* the chain of retired ones */
    struct peer **dropped; /* peers that the next table does not have: freed with this one */
    size_t dropped_count;
    size_t count, slots;   /* slots: a power of two, at least twice the count */
    uint8_t lengths[33];
    unsigned length_count;
    struct peer **slot;
    struct peer *all[];
};

static uint32_t mask_of(uint32_t length)
{
    return length == 0 ? 0 : ~(uint32_t)0 << (32 - length);
}

/* Subnets differ in their upper bits: the multiplication carries them down (Knuth's golden ratio). */
static size_t hash(uint32_t base, uint32_t length)
{
    uint64_t key = (uint64_t)base << 6 | length;
    return (size_t)(key * UINT64_C(0x9e3779b97f4a7c15) >> 32);
}

static struct peer **place_of(const struct table *table, uint32_t base, uint32_t length)
{
    size_t at = hash(base, length) & (table->slots - 1);
    while (table->slot[at] != NULL && (table->slot[at]->row.base != base || table->slot[at]->row.length != length))
        at = (at + 1) & (table->slots - 1);
    return &table->slot[at];
}

struct peer *peers_find(const struct table *table, uint32_t address)
{
    for (unsigned i = 0; i < table->length_count; i++) {
        uint32_t length = table->lengths[i];
        struct peer *found = *place_of(table, address & mask_of(length), length);
        if (found != NULL)
            return found;
    }
    return NULL;
}

static void table_free(struct table *table)
{
    for (size_t i = 0; i < table->dropped_count; i++)
        free(table->dropped[i]);
    free(table->dropped);
    free(table->slot);
    free(table);
}

static struct table *table_new(size_t count)
{
    struct table *table = calloc(1, sizeof *table + count * sizeof table->all[0]);
    if (table == NULL)
        return NULL;
    table->slots = 4;
    while (table->slots < 2 * count)
        table->slots *= 2;
    table->slot = calloc(table->slots, sizeof table->slot[0]);
    if (table->slot == NULL) {
        free(table);
        return NULL;
    }
    return table;
}

/* The peer for `row`: the one of the table before, unless it lives elsewhere now. */
static struct peer *peer_for(const struct table *before, const struct peer_row *row)
{
    struct peer *known = before == NULL ? NULL : *place_of(before, row->base, row->length);
    if (known != NULL && known->row.address == row->address) {
        known->kept = true;
        return known;
    }
    struct peer *fresh = calloc(1, sizeof *fresh);
    if (fresh != NULL)
        fresh->row = *row;
    return fresh;
}

static bool fill(struct table *table, const struct table *before, const struct peer_row *rows, size_t count)
{
    bool used[33] = {false};
    for (size_t i = 0; i < count; i++) {
        if (rows[i].length > 32)
            return false;
        struct peer_row row = rows[i];
        row.base &= mask_of(row.length);
        struct peer **place = place_of(table, row.base, row.length);
        if (*place != NULL && (*place)->row.address == row.address)
            continue;
        struct peer *peer = peer_for(before, &row);
        if (peer == NULL)
            return false;
        if (*place == NULL) {
            table->all[table->count++] = peer;
        } else { /* a second row for one subnet: rare, so the search may be slow */
            size_t at = 0;
            while (table->all[at] != *place)
                at++;
            if ((*place)->kept)
                (*place)->kept = false; /* it goes with the table before */
            else
                free(*place);
            table->all[at] = peer;
        }
        *place = peer;
        used[row.length] = true;
    }
    for (int length = 32; length >= 0; length--)
        if (used[length])
            table->lengths[table->length_count++] = (uint8_t)length;
    return true;
}

/* What `before` has and its successor has not is freed when nobody uses `before` any more. */
static bool note_dropped(struct table *before)
{
    before->dropped = malloc((before->count + 1) * sizeof before->dropped[0]);
    if (before->dropped == NULL)
        return false;
    for (size_t i = 0; i < before->count; i++)
        if (!before->all[i]->kept)
            before->dropped[before->dropped_count++] = before->all[i];
    return true;
}

static void undo(struct table *table, struct table *before)
{
    for (size_t i = 0; i < table->count; i++)
        if (!table->all[i]->kept)
            free(table->all[i]);
    if (before != NULL)
        for (size_t i = 0; i < before->count; i++)
            before->all[i]->kept = false;
    table_free(table);
}

static void free_retired(struct peers *peers, uint64_t adopted)
{
    struct table **link = &peers->retired;
    while (*link != NULL) {
        struct table *table = *link;
        if (table->serial < adopted) {
            *link = table->older;
            table_free(table);
        } else {
            link = &table->older;
        }
    }
}

bool peers_replace(struct peers *peers, const struct peer_row *rows, size_t count)
{
    struct table *before = atomic_load(&peers->newest);
    struct table *table = table_new(count);
    if (table == NULL)
        return false;
    if (!fill(table, before, rows, count) || (before != NULL && !note_dropped(before))) {
        undo(table, before);
        return false;
    }
    for (size_t i = 0; i < table->count; i++)
        table->all[i]->kept = false;
    table->serial = before == NULL ? 1 : before->serial + 1;
    atomic_store_explicit(&peers->newest, table, memory_order_release);
    if (before != NULL) {
        before->older = peers->retired;
        peers->retired = before;
    }
    free_retired(peers, atomic_load_explicit(&peers->adopted, memory_order_acquire));
    return true;
}

bool peers_init(struct peers *peers)
{
    peers->retired = NULL;
    atomic_init(&peers->newest, NULL);
    atomic_init(&peers->adopted, 0);
    return peers_replace(peers, NULL, 0);
}

void peers_free(struct peers *peers)
{
    struct table *last = atomic_load(&peers->newest);
    if (last == NULL)
        return;
    for (size_t i = 0; i < last->count; i++)
        free(last->all[i]);
    free_retired(peers, UINT64_MAX);
    table_free(last);
    atomic_store(&peers->newest, NULL);
}

const struct table *peers_newest(struct peers *peers)
{
    struct table *table = atomic_load_explicit(&peers->newest, memory_order_acquire);
    atomic_store_explicit(&peers->adopted, table->serial, memory_order_release);
    return table;
}

size_t peers_count(const struct peers *peers)
{
    return atomic_load(&((struct peers *)peers)->newest)->count;
}

struct peer *peers_at(const struct peers *peers, size_t index)
{
    return atomic_load(&((struct peers *)peers)->newest)->all[index];
}
