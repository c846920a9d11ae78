/* Which peer has an inner address: an exact table, replaced whole while packets flow.
 *
 * One thread forwards, others only replace and read. The forwarding thread takes up the newest table between batches
 * (`peers_newest`); what it has let go of is freed by the side that replaces. No lock, no copy: a peer that is in the
 * old table and in the new one is the same object, with its counters.
 */
#ifndef FLANNEL_PEERS_H
#define FLANNEL_PEERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef _Atomic uint64_t counter; /* one thread writes, any reads */

static inline void add(counter *to, uint64_t n)
{
    atomic_store_explicit(to, atomic_load_explicit(to, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline uint64_t value_of(counter *of)
{
    return atomic_load_explicit(of, memory_order_relaxed);
}

/* A row as the caller gives it: base/length lies behind the host at `address`. All in host order. */
struct peer_row {
    uint32_t base, length, address;
};

struct peer {
    struct peer_row row;
    counter sent, sent_bytes, received, received_bytes;
    unsigned single; /* packets that go each by itself: the forwarding thread's */
    bool kept;       /* in the table that is being made too */
};

struct table;

struct peers {
    _Atomic(struct table *) newest;
    _Atomic(uint64_t) adopted; /* serial of the table that the forwarding thread uses */
    struct table *retired;     /* oldest last */
};

/* False without memory; there is an empty table then, or the old one. Rows of impossible length are the caller's fault
 * and refused the same way. Of rows with the same base and length the last counts. */
bool peers_init(struct peers *peers);
bool peers_replace(struct peers *peers, const struct peer_row *rows, size_t count);
void peers_free(struct peers *peers); /* after the forwarding thread has ended */

/* The forwarding thread's side: tables stay valid until it asks for the newest again. */
const struct table *peers_newest(struct peers *peers);
struct peer *peers_find(const struct table *table, uint32_t address); /* NULL: no route */

/* The replacing side's view of the table that it gave last. */
size_t peers_count(const struct peers *peers);
struct peer *peers_at(const struct peers *peers, size_t index);

#endif
