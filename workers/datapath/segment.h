/* Super-packets into packets: what a network card would do for the kernel (TCP and UDP segmentation offload).
 *
 * The kernel hands one IPv4 packet of up to 64 KiB over the TUN, with a virtio_net_hdr that says how long the payload
 * of each packet on the wire is (linux/virtio_net.h; Documentation/networking/segmentation-offloads.rst).
 */
#ifndef FLANNEL_SEGMENT_H
#define FLANNEL_SEGMENT_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5 /* Linux 6.2 */
#endif

enum { VNET_HEADER = sizeof(struct virtio_net_hdr) };

struct super {
    const uint8_t *packet;
    size_t bytes;
    size_t ip_header, headers; /* bytes of the IP header, and of it and the TCP or UDP header */
    size_t size;               /* payload bytes of each packet but the last */
    uint32_t segments;
    bool tcp;
    uint64_t pseudo;           /* sum of the pseudo header without the length */
};

/* A checked IPv4 packet (ip_check) as a super-packet. False when it cannot be one. */
bool super_open(struct super *super, const uint8_t *packet, size_t bytes, const struct virtio_net_hdr *offload);

/* Writes the complete headers of segment `index` to `header`, which has room for HEADERS_MOST bytes, and points
 * `payload` into the super-packet, which stays as it is. Returns the payload's bytes. */
size_t super_segment(const struct super *super, uint32_t index, uint8_t *header, const uint8_t **payload);

/* Fills in the checksum of a single packet that the kernel left to us (VIRTIO_NET_HDR_F_NEEDS_CSUM). False when the
 * places it names lie outside the packet's payload. */
bool complete_checksum(uint8_t *packet, size_t bytes, const struct virtio_net_hdr *offload);

#endif
