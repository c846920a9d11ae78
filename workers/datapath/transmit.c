/* TUN to UDP: read a batch, find each packet's peer, take super-packets apart, hand all to the sender. */
#define _GNU_SOURCE
#include <errno.h>
#include <unistd.h>

#include "path.h"
#include "unreachable.h"

static enum verdict fault_out(const uint8_t *packet, size_t bytes)
{
    static const enum verdict fault[] = {OUT_SENT, OUT_TOO_SHORT, OUT_NOT_IPV4, OUT_BAD_HEADER, OUT_WRONG_LENGTH};
    return fault[ip_check(packet, bytes)];
}

static void answer_unreachable(struct path *path, const uint8_t *packet, size_t bytes)
{
    static const struct virtio_net_hdr plain;
    uint8_t answer[UNREACHABLE_MOST];
    size_t length = unreachable(answer, packet, bytes, path->address);
    if (length == 0)
        return;
    struct iovec part[2] = {{(void *)&plain, VNET_HEADER}, {answer, length}};
    if (writev(path->tun, path->vnet ? part : part + 1, path->vnet ? 2 : 1) >= 0)
        tell(path, UNREACHABLES, 1);
}

static void send_super(struct path *path, struct peer *peer, const struct super *super)
{
    for (uint32_t i = 0; i < super->segments; i++) {
        const uint8_t *payload;
        uint8_t *header = send_header(path);
        size_t bytes = super_segment(super, i, header, &payload);
        struct iovec part[2] = {{header, super->headers}, {(void *)payload, bytes}};
        send_packet(path, peer, part, 2, super->headers + bytes);
    }
}

/* One packet or super-packet as the TUN gave it. `prepared`: it has been here before, in the worker before us. */
static void forward(struct path *path, uint8_t *packet, size_t bytes, const struct virtio_net_hdr *offload,
                    bool *prepared)
{
    struct super super;
    bool whole = offload->gso_type == VIRTIO_NET_HDR_GSO_NONE;
    enum verdict fault = fault_out(packet, bytes);
    if (fault != OUT_SENT) {
        tell(path, fault, 1);
        return;
    }
    if (!whole && !super_open(&super, packet, bytes, offload)) {
        tell(path, OUT_BAD_OFFLOAD, 1);
        return;
    }
    uint64_t packets = whole ? 1 : super.segments;
    struct peer *peer = peers_find(path->table, ip_destination(packet));
    if (peer == NULL) {
        tell(path, OUT_NO_ROUTE, packets);
        answer_unreachable(path, packet, bytes);
        return;
    }
    if (!*prepared) {
        if (whole && (offload->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) && !complete_checksum(packet, bytes, offload)) {
            tell(path, OUT_BAD_OFFLOAD, 1);
            return;
        }
        if (!ip_decrement_ttl(packet)) {
            tell(path, OUT_TTL, packets);
            return;
        }
        *prepared = true;
    }
    if (whole)
        send_packet(path, peer, &(struct iovec){packet, bytes}, 1, bytes);
    else
        send_super(path, peer, &super);
}

/* Where the next packet goes. */
static uint32_t next_place(const struct outbound *out)
{
    if (out->count == 0)
        return 0;
    return (out->packet[out->count - 1].at + out->packet[out->count - 1].bytes + 63) & ~63u;
}

/* A batch is out of our hands with the count alone: a kill at any point leaves all of it or nothing. */
static void forget(struct outbound *out)
{
    out->arena[0] = UNREAD;
    atomic_signal_fence(memory_order_seq_cst);
    out->count = 0;
}

static void forward_batch(struct path *path)
{
    struct outbound *out = &path->flight->out;
    size_t header = path->vnet ? VNET_HEADER : 0;
    for (unsigned i = 0; i < out->count; i++) {
        struct virtio_net_hdr offload = {0};
        uint8_t *packet = out->arena + out->packet[i].at;
        memcpy(&offload, packet, header);
        if (out->packet[i].bytes < header)
            tell(path, OUT_TOO_SHORT, 1);
        else
            forward(path, packet + header, out->packet[i].bytes - header, &offload, &out->packet[i].prepared);
    }
    send_waiting(path);
    forget(out);
}

static void took(struct outbound *out, size_t bytes)
{
    uint32_t at = next_place(out);
    out->packet[out->count].at = at;
    out->packet[out->count].bytes = (uint32_t)bytes;
    out->packet[out->count].prepared = false;
    out->arena[(at + bytes + 63) & ~(size_t)63] = UNREAD;
    atomic_signal_fence(memory_order_seq_cst); /* the packet counts when all that tells of it stands */
    out->count++;
}

bool transmit(struct path *path)
{
    struct outbound *out = &path->flight->out;
    while (out->count < BATCH && next_place(out) < ARENA) {
        ssize_t bytes = read(path->tun, out->arena + next_place(out), SLOT);
        if (bytes < 0 && errno == EINTR)
            continue;
        if (bytes < 0 && errno == EINVAL) { /* a super-packet of a kind that has no name here: the kernel dropped it */
            tell(path, OUT_BAD_OFFLOAD, 1);
            continue;
        }
        if (bytes < 0 && errno != EAGAIN)
            give_up(path, errno);
        if (bytes <= 0)
            break;
        took(out, (size_t)bytes);
    }
    if (out->count == 0)
        return false;
    tell(path, READS, out->count);
    forward_batch(path);
    return true;
}

/* A packet whose read came back only after the kill: its own header says how long it is. */
static void find_unfinished_read(struct path *path)
{
    struct outbound *out = &path->flight->out;
    size_t header = path->vnet ? VNET_HEADER : 0;
    uint32_t at = next_place(out);
    if (at >= ARENA || out->count >= BATCH || out->arena[at] == UNREAD)
        return;
    const uint8_t *packet = out->arena + at + header;
    if (packet[0] >> 4 == 4 && get16(packet + 2) >= IP_HEADER)
        took(out, header + get16(packet + 2));
}

/* The memory is only as trustworthy as the process that died: every place in it is checked. */
static bool flight_is_sane(const struct outbound *out)
{
    for (unsigned i = 0; i < out->count && i < BATCH; i++)
        if (out->packet[i].at >= ARENA || out->packet[i].at % 64 != 0 || out->packet[i].bytes > SLOT)
            return false;
    return out->count <= BATCH;
}

void transmit_flight(struct path *path)
{
    struct outbound *out = &path->flight->out;
    if (!flight_is_sane(out)) {
        forget(out);
        return;
    }
    find_unfinished_read(path);
    if (out->count > 0) {
        tell(path, REPLAYED, out->count);
        forward_batch(path);
    }
    forget(out);
}
