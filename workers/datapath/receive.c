/* UDP to TUN: receive a batch, take merged datagrams apart, judge each inner packet, merge what belongs together. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/udp.h>
#include <unistd.h>

#include "path.h"

#ifndef UDP_GRO
#define UDP_GRO 104
#endif

void deliver(void *to, const struct virtio_net_hdr *offload, const struct iovec *part, unsigned parts,
             unsigned packets, size_t bytes)
{
    struct path *path = to;
    struct iovec whole[2 + PIECES] = {{(void *)offload, VNET_HEADER}};
    memcpy(whole + 1, part, parts * sizeof part[0]);
    ssize_t written = writev(path->tun, path->vnet ? whole : whole + 1, (int)parts + path->vnet);
    tell(path, WRITES, 1);
    if (written < 0) {
        if (errno == EBADFD)
            give_up(path, errno);
        tell(path, IN_REFUSED, packets);
        return;
    }
    tell(path, IN_DELIVERED, packets);
    tell(path, IN_BYTES, bytes);
    tell_batch(path, BATCH_WRITTEN, packets);
}

static enum verdict judge(struct path *path, const uint8_t *packet, size_t bytes, uint32_t sender)
{
    static const enum verdict fault[] = {IN_DELIVERED, IN_TOO_SHORT, IN_NOT_IPV4, IN_BAD_HEADER, IN_WRONG_LENGTH};
    enum ip_fault found = ip_check(packet, bytes);
    if (found != IP_OK)
        return fault[found];
    if (packet[8] <= 1)
        return IN_TTL;
    struct peer *peer = peers_find(path->table, ip_source(packet));
    if (peer != NULL && peer->row.address == sender) {
        add(&peer->received, 1);
        add(&peer->received_bytes, bytes);
        return IN_DELIVERED;
    }
    if (path->verify_source)
        return IN_FOREIGN;
    tell(path, STRANGERS, 1);
    return IN_DELIVERED;
}

/* How long each of the merged datagrams is, but for a shorter last. */
static size_t piece_bytes(struct msghdr *message, size_t bytes)
{
    for (struct cmsghdr *header = CMSG_FIRSTHDR(message); header != NULL; header = CMSG_NXTHDR(message, header)) {
        if (header->cmsg_level == IPPROTO_UDP && header->cmsg_type == UDP_GRO) {
            int size;
            memcpy(&size, CMSG_DATA(header), sizeof size);
            return size > 0 ? (size_t)size : bytes;
        }
    }
    return bytes;
}

static void take(struct path *path, const uint8_t *packet, size_t bytes, uint32_t sender)
{
    enum verdict verdict = judge(path, packet, bytes, sender);
    if (verdict == IN_DELIVERED)
        coalesce(&path->coalescer, packet, bytes);
    else
        tell(path, verdict, 1);
}

static void open_datagram(struct path *path, unsigned i)
{
    struct inbound *in = &path->flight->in;
    struct msghdr *message = &in->message[i].msg_hdr;
    size_t bytes = in->message[i].msg_len, piece = piece_bytes(message, bytes);
    uint32_t sender = ntohl(in->from[i].sin_addr.s_addr);
    unsigned packets = 0;
    if (message->msg_flags & MSG_TRUNC) {
        tell(path, IN_CUT, 1);
        return;
    }
    if (bytes == 0)
        tell(path, IN_TOO_SHORT, 1);
    for (size_t at = 0; at < bytes; at += piece, packets++)
        take(path, in->data[i] + at, bytes - at < piece ? bytes - at : piece, sender);
    tell_batch(path, BATCH_RECEIVED, packets);
}

/* All of it is out of our hands: whoever comes next has nothing to deliver again. */
static void forget(struct inbound *in)
{
    for (unsigned i = 0; i < DATAGRAMS; i++)
        in->message[i].msg_len = 0;
}

bool receive(struct path *path)
{
    struct inbound *in = &path->flight->in;
    for (unsigned i = 0; i < DATAGRAMS; i++) {
        in->message[i].msg_hdr.msg_namelen = sizeof in->from[i];
        in->message[i].msg_hdr.msg_controllen = sizeof in->control[i].bytes;
    }
    int count = recvmmsg(path->udp, in->message, DATAGRAMS, MSG_DONTWAIT, NULL);
    if (count < 0) {
        if (errno == EBADF || errno == ENOTSOCK)
            give_up(path, errno);
        if (errno != EAGAIN)
            tell(path, SOCKET_ERRORS, 1);
        return false;
    }
    tell(path, RECEIVES, 1);
    for (int i = 0; i < count; i++)
        open_datagram(path, (unsigned)i);
    coalesce_flush(&path->coalescer);
    forget(in);
    return count > 0;
}

void receive_flight(struct path *path)
{
    struct inbound *in = &path->flight->in;
    for (unsigned i = 0; i < DATAGRAMS; i++) {
        size_t bytes = in->message[i].msg_len, control = in->message[i].msg_hdr.msg_controllen;
        if (bytes == 0 || bytes > DATAGRAM || control > sizeof in->control[i])
            continue;
        tell(path, REPLAYED, 1);
        open_datagram(path, i);
    }
    coalesce_flush(&path->coalescer);
    forget(in);
}
