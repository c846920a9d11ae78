/* Packets made from the fuzzer's bytes, and judged when they come out.
 *
 * A packet is trusted or not, and says so by its TOS. Of a trusted one all is known: every byte of its payload follows
 * from where it stands (TCP: in the stream; UDP: in the datagram), its checksums are right, or the kernel's to finish.
 * A promised one has a serial number too, in its IP id, by which it must be seen again.
 */
#define _GNU_SOURCE
#include "fuzz.h"
#include "segment.h"

enum { TRUSTED = 0x08, PROMISED = 0x10, UNTRUSTED = 0xf8, TTL = 64 };
enum { SEGMENTS = 700 }; /* of one super-packet: more than fit any buffer of the sender, few enough for speed */

struct shape {
    bool tcp, df;
    uint8_t flags, third; /* third: of the far address, so which peer */
    size_t ip_options, tcp_options, payload;
    uint32_t sequence, stream;
    uint16_t id;
};

static uint8_t pattern(uint32_t at)
{
    return (uint8_t)(at * 167 + (at >> 8) * 13 + (at >> 16));
}

static size_t headers_of(const struct shape *shape)
{
    return IP_HEADER + shape->ip_options + (shape->tcp ? TCP_HEADER + shape->tcp_options : UDP_HEADER);
}

/* From us to `third` or back: the ports tell the stream, so that packets of one flow can follow each other. */
static void put_transport(uint8_t *at, const struct shape *shape)
{
    put16(at, 1000 + shape->stream);
    put16(at + 2, 2000);
    if (!shape->tcp) {
        put16(at + 4, (uint32_t)(UDP_HEADER + shape->payload));
        put16(at + 6, 0);
        return;
    }
    put32(at + 4, shape->sequence);
    put32(at + 8, 1);
    at[12] = (uint8_t)((TCP_HEADER + shape->tcp_options) / 4 << 4);
    at[13] = shape->flags;
    put16(at + 14, 500);
    put32(at + 16, 0);
    memset(at + TCP_HEADER, 1, shape->tcp_options);
}

static size_t checksum_place(const uint8_t *packet)
{
    return ip_header_bytes(packet) + (packet[9] == IP_TCP ? 16 : 6);
}

static uint16_t transport_sum(const uint8_t *packet, size_t bytes)
{
    size_t header = ip_header_bytes(packet);
    return fold(sum_pseudo(packet, packet[9], bytes - header) + sum_bytes(packet + header, bytes - header));
}

static size_t put_packet(uint8_t *to, const struct shape *shape, bool outbound)
{
    size_t headers = headers_of(shape), bytes = headers + shape->payload;
    memset(to, 0, IP_HEADER);
    to[0] = (uint8_t)(0x40 | (IP_HEADER + shape->ip_options) / 4);
    to[1] = TRUSTED;
    put16(to + 2, (uint32_t)bytes);
    put16(to + 4, shape->id);
    put16(to + 6, shape->df ? IP_DF : 0);
    to[8] = outbound ? TTL : TTL - 1;
    to[9] = shape->tcp ? IP_TCP : IP_UDP;
    put32(to + (outbound ? 16 : 12), 0x0a4d0005u | (uint32_t)shape->third << 8);
    put32(to + (outbound ? 12 : 16), 0x0a4d0105u);
    memset(to + IP_HEADER, 1, shape->ip_options);
    put_transport(to + IP_HEADER + shape->ip_options, shape);
    for (size_t i = 0; i < shape->payload; i++)
        to[headers + i] = pattern(shape->tcp ? shape->sequence + (uint32_t)i : (uint32_t)(i + shape->payload));
    uint16_t sum = (uint16_t)~transport_sum(to, bytes);
    put16(to + checksum_place(to), sum == 0 ? 0xffff : sum);
    ip_set_checksum(to);
    return bytes;
}

static void leave_unfinished(uint8_t *packet, size_t bytes)
{
    size_t header = ip_header_bytes(packet);
    put16(packet + checksum_place(packet), fold(sum_pseudo(packet, packet[9], bytes - header)));
}

static struct shape next_shape(size_t most)
{
    static const size_t options[] = {0, 0, 12, 40};
    uint8_t bits = next_byte(), more = next_byte();
    struct shape shape = {.tcp = bits & 1, .third = (uint8_t)(2 + (bits >> 1 & 3)), .stream = bits >> 3 & 3};
    shape.df = bits & 0x80;
    shape.ip_options = bits & 0x20 ? options[more & 3] : 0;
    shape.tcp_options = bits & 0x40 ? options[more >> 2 & 3] : 0;
    shape.flags = more & 0x10 ? next_byte() : TCP_ACK;
    shape.sequence = next_byte() * 1000u;
    shape.payload = 1 + next_below((uint32_t)(most - headers_of(&shape)));
    return shape;
}

/* Bytes that are nothing in particular, and never trusted. */
static size_t put_anything(uint8_t *to, size_t least, size_t most)
{
    size_t bytes = least + next_below((uint32_t)(most - least));
    for (size_t i = 0; i < bytes; i++)
        to[i] = i < 64 ? next_byte() : (uint8_t)i;
    if (bytes > 1)
        to[1] = UNTRUSTED;
    return bytes;
}

static void spoil(uint8_t *packet, size_t bytes)
{
    uint8_t first = packet[0];
    packet[next_below((uint32_t)(bytes < 80 ? bytes : 80))] ^= (uint8_t)(1 + next_byte());
    packet[1] = UNTRUSTED;
    if (packet[0] == first)
        ip_set_checksum(packet);
}

static void promise(uint8_t *seen, uint32_t *serials, uint8_t *packet)
{
    uint16_t serial = (uint16_t)++*serials;
    demand(serial == *serials, "a story is shorter than 65,536 packets"); /* the fuzzer's -max_len sees to it */
    packet[1] = PROMISED;
    put16(packet + 4, serial);
    ip_set_checksum(packet);
    seen[serial] = 1;
}

static void say_checksum(struct virtio_net_hdr *offload, uint8_t *packet, size_t bytes)
{
    leave_unfinished(packet, bytes);
    offload->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    offload->csum_start = (uint16_t)ip_header_bytes(packet);
    offload->csum_offset = (uint16_t)(checksum_place(packet) - ip_header_bytes(packet));
}

size_t make_outbound(uint8_t *to, struct virtio_net_hdr *offload)
{
    uint8_t kind = next_byte();
    memset(offload, 0, sizeof *offload);
    if ((kind & 7) == 0) {
        if (kind & 8)
            for (size_t i = 0; i < sizeof *offload; i++)
                ((uint8_t *)offload)[i] = next_byte();
        return put_anything(to, 1, kind & 16 ? IP_MOST : 200);
    }
    bool super = world.vnet && kind & 8;
    uint32_t size = super ? 1 + next_below(kind & 32 ? 60 : 1432) : 0;
    size_t most = size < IP_MOST / SEGMENTS ? HEADERS_MOST + size * SEGMENTS : IP_MOST;
    struct shape shape = next_shape(super ? most : FUZZ_MTU);
    size_t bytes = put_packet(to, &shape, true);
    if (world.vnet && (super || kind & 16))
        say_checksum(offload, to, bytes);
    if (super) {
        offload->gso_type = shape.tcp ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_UDP_L4;
        offload->gso_size = (uint16_t)size;
        offload->hdr_len = (uint16_t)headers_of(&shape);
    }
    if (kind & 64)
        spoil(to, bytes);
    else if (!super)
        promise(world.seen_out, &world.serials_out, to);
    return bytes;
}

size_t make_inbound(uint8_t *to, size_t *piece)
{
    uint8_t kind = next_byte();
    if ((kind & 7) == 0) {
        size_t bytes = put_anything(to, 0, kind & 16 ? DATAGRAM : 200);
        *piece = kind & 8 ? 1 + next_below(100) : bytes;
        for (size_t at = 1; at < bytes; at += *piece)
            to[at] = UNTRUSTED;
        return bytes;
    }
    size_t total = 0;
    unsigned pieces = kind & 8 ? 1 + next_byte() % 64 : 1;
    struct shape shape = next_shape(kind & 32 ? 300 : pieces > 1 ? FUZZ_MTU : IP_MOST);
    *piece = headers_of(&shape) + shape.payload;
    for (unsigned i = 0; i < pieces && total + *piece <= DATAGRAM; i++) {
        bool last = i + 1 == pieces;
        if (last && kind & 128)
            shape.payload = 1 + next_below((uint32_t)shape.payload);
        size_t bytes = put_packet(to + total, &shape, false);
        if (last && kind & 16)
            leave_unfinished(to + total, bytes);
        if (last && kind & 64)
            spoil(to + total, bytes);
        else if (!shape.df) /* else its id does not matter, and is not kept */
            promise(world.seen_in, &world.serials_in, to + total);
        shape.sequence += (uint32_t)shape.payload;
        total += bytes;
    }
    return total;
}

uint64_t packets_in(const uint8_t *packet, size_t bytes, const struct virtio_net_hdr *offload)
{
    struct super super;
    if (offload->gso_type == VIRTIO_NET_HDR_GSO_NONE || ip_check(packet, bytes) != IP_OK ||
        !super_open(&super, packet, bytes, offload))
        return 1;
    return super.segments;
}

/* The payload of a trusted packet, byte by byte, and its checksums. */
static void judge(const uint8_t *packet, size_t bytes, uint8_t ttl)
{
    if (world.damaged)
        return;
    bool tcp = packet[9] == IP_TCP;
    const uint8_t *transport = packet + ip_header_bytes(packet);
    size_t headers = ip_header_bytes(packet) + (tcp ? (size_t)(transport[12] >> 4) * 4 : UDP_HEADER);
    uint32_t at = tcp ? get32(transport + 4) : (uint32_t)(bytes - headers);
    demand(ip_checksum_ok(packet), "the IP checksum is right");
    demand(packet[8] == ttl, "the TTL is one less");
    demand(transport_sum(packet, bytes) == 0xffff, "the checksum is right");
    bool same = true;
    for (size_t i = headers; i < bytes; i++)
        same &= packet[i] == pattern(at + (uint32_t)(i - headers));
    demand(same, "the payload is what was sent");
}

void judge_sent(const uint8_t *packet, size_t bytes)
{
    demand(ip_check(packet, bytes) == IP_OK, "only IPv4 packets are sent");
    if (world.damaged)
        return;
    if (packet[1] == PROMISED || (packet[1] == TRUSTED && packet[9] == IP_TCP))
        judge(packet, bytes, TTL - 1);
    else if (packet[1] == TRUSTED) /* of a UDP super-packet, whose payload is cut where its sender's kernel said */
        demand(transport_sum(packet, bytes) == 0xffff, "the checksum is right");
    if (packet[1] == PROMISED)
        world.seen_out[get16(packet + 4)] |= 2;
}

/* A super-packet is judged by what the kernel will make of it. */
static void judge_super(const struct virtio_net_hdr *offload, const uint8_t *packet, size_t bytes)
{
    static uint8_t segment[HEADERS_MOST + IP_MOST];
    struct super super;
    demand(super_open(&super, packet, bytes, offload), "a super-packet can be taken apart");
    demand(offload->hdr_len == super.headers, "hdr_len is the headers");
    for (uint32_t i = 0; i < super.segments; i++) {
        const uint8_t *payload;
        size_t length = super_segment(&super, i, segment, &payload);
        memcpy(segment + super.headers, payload, length);
        if (packet[1] != UNTRUSTED)
            judge(segment, super.headers + length, TTL - 2);
        if (packet[1] == PROMISED)
            world.seen_in[get16(segment + 4)] |= 2;
    }
}

void judge_written(const struct virtio_net_hdr *offload, uint8_t *packet, size_t bytes)
{
    demand(ip_check(packet, bytes) == IP_OK, "only IPv4 packets are written");
    if (packet[1] == 0 && packet[9] == IP_ICMP && packet[ip_header_bytes(packet)] == 3)
        return; /* our own answer; tests/packets/test_unreachable.py looks at those */
    if (offload->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) {
        size_t header = ip_header_bytes(packet), place = checksum_place(packet);
        demand(offload->csum_start == header && offload->csum_start + offload->csum_offset == place && place + 2 <= bytes,
               "the kernel is told of the right place");
        demand(get16(packet + place) == fold(sum_pseudo(packet, packet[9], bytes - header)),
               "an unfinished checksum is the pseudo header's");
    }
    if (offload->gso_type != VIRTIO_NET_HDR_GSO_NONE) {
        demand(offload->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM, "a super-packet has an unfinished checksum");
        judge_super(offload, packet, bytes);
        return;
    }
    if (offload->flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
        demand(complete_checksum(packet, bytes, offload), "the checksum can be completed");
    if (packet[1] != TRUSTED && packet[1] != PROMISED)
        return;
    if (world.path->coalescer.tcp || transport_sum(packet, bytes) == 0xffff) /* without offloads it stays unfinished */
        judge(packet, bytes, TTL - 2);
    if (packet[1] == PROMISED)
        world.seen_in[get16(packet + 4)] |= 2;
}
