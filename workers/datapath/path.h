/* The user-space data path: one thread between a TUN and a UDP socket. The inside of it, shared by its own files. */
#ifndef FLANNEL_PATH_H
#define FLANNEL_PATH_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/uio.h>

#include "coalesce.h"
#include "flight.h"
#include "peers.h"
#include "verdicts.h"

enum {
    TRAINS = 64,        /* messages of one sendmmsg */
    TRAIN_PACKETS = 64, /* UDP_MAX_SEGMENTS of older kernels */
    TRAIN_BYTES = 65000,
    PARTS = 2048,       /* of all trains together */
    HEADERS = 512,      /* segments whose headers wait to be sent */
};

/* Consecutive datagrams to one peer, all of one size but for a shorter last: one message with UDP_SEGMENT. */
struct train {
    struct peer *peer;
    unsigned part, parts, packets;
    size_t bytes, size;
    bool closed;
};

struct sender {
    struct train train[TRAINS];
    unsigned trains, parts, headers;
    bool stuck; /* the uplink takes nothing */
    struct iovec part[PARTS];
    uint8_t header[HEADERS][HEADERS_MOST];
};

struct path {
    int tun, udp;
    int wake;   /* eventfd: something to look at for the thread */
    int ended;  /* eventfd: readable when the thread has given up */
    uint32_t address; /* of the TUN: source of ICMP answers */
    uint16_t port;
    bool verify_source;
    bool vnet;      /* the TUN puts a virtio_net_hdr before each packet */
    _Atomic bool segment; /* the kernel takes UDP_SEGMENT on the way out */
    bool gro;
    bool resumed;
    struct peers peers;
    const struct table *table; /* the thread's, for one batch */
    counter count[COUNTERS];
    counter batch[BATCHES][BATCH_BUCKETS];
    struct flight *flight;
    struct sender sender;
    struct coalescer coalescer;
    pthread_t thread;
    bool started; /* `thread` is one: pthread_create writes there even when it fails */
    atomic_bool stopping;
    atomic_int failed; /* errno */
};

static inline void tell(struct path *path, enum verdict verdict, uint64_t packets)
{
    add(&path->count[verdict], packets);
}

/* path.c */
void tell_batch(struct path *path, enum batch what, unsigned packets);
void give_up(struct path *path, int error);

/* transmit.c: TUN to UDP. False when there was nothing to read. */
bool transmit(struct path *path);
void transmit_flight(struct path *path); /* what the worker before had read and may not have sent */

/* send.c: the waiting trains. */
void send_packet(struct path *path, struct peer *peer, const struct iovec *part, unsigned parts, size_t bytes);
uint8_t *send_header(struct path *path); /* room for one header, valid until the trains have left */
void send_waiting(struct path *path);

/* receive.c: UDP to TUN. False when there was nothing to receive. */
bool receive(struct path *path);
void receive_flight(struct path *path);
void deliver(void *path, const struct virtio_net_hdr *offload, const struct iovec *part, unsigned parts,
             unsigned packets, size_t bytes);

/* thread.c: the thread. One caller at a time. */
struct path_options {
    int tun, udp, flight; /* flight: memory that outlives the process, -1 for none */
    uint32_t address;
    uint16_t port;
    bool offload, verify_source;
};

/* NULL with errno. Packets flow from the first table on: at once when `options->flight` holds the one of the worker
 * before (`path->resumed`), else from path_replace. */
struct path *path_start(const struct path_options *options);
bool path_replace(struct path *path, const struct peer_row *rows, size_t count);
void path_stop(struct path *path); /* waits for the thread; descriptors stay open */

#endif
