/* Packets into super-packets: consecutive segments of one flow become one write to the TUN.
 *
 * What comes out, taken apart again by super_segment, is what went in, byte for byte, but for the IP id of packets that
 * must not be fragmented anyway. Only packets whose checksums were verified are merged: the kernel trusts the result.
 * The payload is never copied, and what came in is never written on: who reads it again sees what arrived.
 */
#ifndef FLANNEL_COALESCE_H
#define FLANNEL_COALESCE_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "inet.h"

enum { FLOWS = 8, PIECES = 64 };

struct flow {
    uint8_t header[HEADERS_MOST]; /* of the first packet, TTL and checksum as they are to be delivered */
    const uint8_t *first;         /* the first packet as it came */
    size_t headers, ip_header, bytes, size;
    uint32_t next_sequence;
    uint16_t next_id;
    unsigned pieces;
    bool closed;  /* nothing may follow: a short one, or one with PSH */
    bool partial; /* see `coalesce` */
    struct iovec piece[PIECES];
};

struct coalescer {
    struct flow flow[FLOWS];
    unsigned flows;
    bool tcp, udp; /* what the TUN takes super-packets of */
    size_t mtu;    /* of the TUN, bytes */
    /* Takes a finished packet or super-packet: `offload`, then `parts` parts; `packets` and `bytes` on the wire. */
    void (*deliver)(void *to, const struct virtio_net_hdr *offload, const struct iovec *part, unsigned parts,
                    unsigned packets, size_t bytes);
    void *to;
};

/* A checked IPv4 packet whose TTL is above 1. It must stay where it is until coalesce_flush.
 *
 * A checksum that is the sum of the pseudo header alone is not wrong but unfinished: a sender in the kernel leaves it to
 * the network card, and a veth has none. Such a packet, and one longer than the MTU (the card would have segmented it
 * too), is handed on with what the kernel needs to finish it. */
void coalesce(struct coalescer *coalescer, const uint8_t *packet, size_t bytes);
void coalesce_flush(struct coalescer *coalescer);

#endif
