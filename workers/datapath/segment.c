#include "segment.h"

#include "inet.h"

static bool open_tcp(struct super *super)
{
    const uint8_t *tcp = super->packet + super->ip_header;
    if (super->packet[9] != IP_TCP || super->bytes < super->ip_header + TCP_HEADER)
        return false;
    size_t header = (size_t)(tcp[12] >> 4) * 4;
    super->headers = super->ip_header + header;
    return header >= TCP_HEADER;
}

static bool open_udp(struct super *super)
{
    super->headers = super->ip_header + UDP_HEADER;
    return super->packet[9] == IP_UDP;
}

bool super_open(struct super *super, const uint8_t *packet, size_t bytes, const struct virtio_net_hdr *offload)
{
    uint8_t kind = offload->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
    *super = (struct super){.packet = packet, .bytes = bytes, .size = offload->gso_size};
    super->ip_header = ip_header_bytes(packet);
    super->tcp = kind == VIRTIO_NET_HDR_GSO_TCPV4;
    if (!super->tcp && kind != VIRTIO_NET_HDR_GSO_UDP_L4)
        return false;
    if (super->size == 0 || ip_is_fragment(packet) || !(super->tcp ? open_tcp(super) : open_udp(super)))
        return false;
    if (bytes <= super->headers)
        return false;
    super->segments = (uint32_t)((bytes - super->headers + super->size - 1) / super->size);
    super->pseudo = sum_pseudo(packet, super->tcp ? IP_TCP : IP_UDP, 0);
    return true;
}

/* Flags that tell of an end belong to the last segment, CWR to the first (RFC 3168, 6.1.2). */
static void tcp_header(const struct super *super, uint32_t index, uint8_t *tcp)
{
    put32(tcp + 4, get32(tcp + 4) + index * (uint32_t)super->size);
    if (index + 1 < super->segments)
        tcp[13] &= (uint8_t)~(TCP_FIN | TCP_PSH);
    if (index > 0)
        tcp[13] &= (uint8_t)~TCP_CWR;
}

size_t super_segment(const struct super *super, uint32_t index, uint8_t *header, const uint8_t **payload)
{
    size_t at = super->headers + index * super->size;
    size_t bytes = super->bytes - at < super->size ? super->bytes - at : super->size;
    size_t transport = super->headers - super->ip_header;
    uint8_t *inner = header + super->ip_header;
    memcpy(header, super->packet, super->headers);
    put16(header + 2, (uint32_t)(super->headers + bytes));
    put16(header + 4, get16(header + 4) + index);
    ip_set_checksum(header);
    size_t check = super->tcp ? 16 : 6;
    if (super->tcp)
        tcp_header(super, index, inner);
    else
        put16(inner + 4, (uint32_t)(UDP_HEADER + bytes));
    put16(inner + check, 0);
    *payload = super->packet + at;
    uint64_t sum = super->pseudo + transport + bytes + sum_bytes(inner, transport) + sum_bytes(*payload, bytes);
    uint16_t value = (uint16_t)~fold(sum);
    put16(inner + check, value == 0 && !super->tcp ? 0xffff : value); /* UDP: 0 would mean none (RFC 768) */
    return bytes;
}

bool complete_checksum(uint8_t *packet, size_t bytes, const struct virtio_net_hdr *offload)
{
    size_t start = offload->csum_start, at = start + offload->csum_offset;
    if (start < ip_header_bytes(packet) || at + 2 > bytes)
        return false;
    uint16_t value = (uint16_t)~fold(sum_bytes(packet + start, bytes - start));
    put16(packet + at, value == 0 ? 0xffff : value); /* right for TCP too: both are zero in one's complement */
    return true;
}
