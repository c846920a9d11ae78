#include "coalesce.h"

#include "segment.h"

/* What of a packet decides where it may go. */
struct look {
    const uint8_t *packet, *transport;
    size_t bytes, ip_header, headers, payload;
    bool tcp, merges, partial;
};

static bool same_hosts(const uint8_t *a, const uint8_t *b)
{
    return a[9] == b[9] && memcmp(a + 12, b + 12, 8) == 0;
}

static bool same_flow(const uint8_t *a, const uint8_t *b)
{
    size_t ports_a = ip_header_bytes(a), ports_b = ip_header_bytes(b);
    return same_hosts(a, b) && memcmp(a + ports_a, b + ports_b, 4) == 0;
}

/* Where the checksum stands, from the beginning of the TCP or UDP header. */
static size_t check_offset(bool tcp)
{
    return tcp ? 16 : 6;
}

static bool sums_ok(const struct look *look)
{
    size_t segment = look->bytes - look->ip_header;
    uint64_t pseudo = sum_pseudo(look->packet, look->packet[9], segment);
    bool ok = look->partial || fold(pseudo + sum_bytes(look->transport, segment)) == 0xffff;
    return ok && ip_checksum_ok(look->packet);
}

/* Has the packet ports, and may it begin or continue a super-packet? */
static bool look_at(struct look *look, const struct coalescer *coalescer, const uint8_t *packet, size_t bytes)
{
    *look = (struct look){.packet = packet, .bytes = bytes, .ip_header = ip_header_bytes(packet)};
    look->transport = packet + look->ip_header;
    look->tcp = packet[9] == IP_TCP;
    size_t least = look->ip_header + (look->tcp ? TCP_HEADER : UDP_HEADER);
    if ((!look->tcp && packet[9] != IP_UDP) || ip_is_fragment(packet) || bytes < least)
        return false;
    look->headers = look->ip_header + (look->tcp ? (size_t)(look->transport[12] >> 4) * 4 : UDP_HEADER);
    uint16_t check = get16(look->transport + check_offset(look->tcp));
    bool whole = look->headers >= least && look->headers <= bytes;
    look->partial = whole && check == fold(sum_pseudo(packet, packet[9], bytes - look->ip_header));
    bool plain = whole && look->ip_header == IP_HEADER && look->headers < bytes;
    look->payload = plain ? bytes - look->headers : 0;
    if (look->tcp)
        look->merges = plain && coalescer->tcp && (look->transport[13] & ~TCP_PSH) == TCP_ACK;
    else
        look->merges =
            plain && coalescer->udp && check != 0 && get16(look->transport + 4) == bytes - look->ip_header;
    bool too_big = look->partial && bytes > coalescer->mtu; /* the kernel must cut it to the MTU, so it goes alone */
    look->merges = look->merges && !too_big && sums_ok(look);
    return true;
}

static bool same_tcp_header(const struct flow *flow, const struct look *look)
{
    const uint8_t *ours = flow->header + flow->ip_header, *theirs = look->transport;
    return get32(theirs + 4) == flow->next_sequence && get32(ours + 8) == get32(theirs + 8) && ours[12] == theirs[12] &&
           get16(ours + 14) == get16(theirs + 14) && get16(ours + 18) == get16(theirs + 18) &&
           memcmp(ours + TCP_HEADER, theirs + TCP_HEADER, flow->headers - flow->ip_header - TCP_HEADER) == 0;
}

/* TOS, TTL and flags must be equal; ids must go on, unless the packet says that it is never fragmented (RFC 6864). */
static bool same_ip_header(const struct flow *flow, const struct look *look)
{
    const uint8_t *ours = flow->first, *theirs = look->packet;
    bool id = get16(theirs + 4) == flow->next_id || (get16(theirs + 6) & IP_DF) != 0;
    return ours[1] == theirs[1] && ours[8] == theirs[8] && get16(ours + 6) == get16(theirs + 6) && id;
}

static bool continues(const struct flow *flow, const struct look *look)
{
    if (flow->closed || flow->pieces == PIECES || look->payload > flow->size || look->headers != flow->headers ||
        flow->bytes + look->payload > IP_MOST)
        return false;
    return same_ip_header(flow, look) && (!look->tcp || same_tcp_header(flow, look));
}

static void append(struct flow *flow, const struct look *look)
{
    flow->piece[flow->pieces++] = (struct iovec){(void *)(look->packet + look->headers), look->payload};
    flow->bytes += look->payload;
    flow->next_id = (uint16_t)(get16(look->packet + 4) + 1);
    flow->closed = look->payload < flow->size;
    if (!look->tcp)
        return;
    flow->next_sequence = get32(look->transport + 4) + (uint32_t)look->payload;
    flow->closed = flow->closed || (look->transport[13] & TCP_PSH) != 0;
    flow->header[flow->ip_header + 13] |= look->transport[13] & TCP_PSH;
}

static void begin(struct flow *flow, const struct look *look)
{
    flow->first = look->packet;
    flow->ip_header = look->ip_header;
    flow->headers = flow->bytes = look->headers;
    flow->size = look->payload;
    flow->pieces = 0;
    flow->partial = look->partial;
    memcpy(flow->header, look->packet, look->headers);
    append(flow, look);
}

/* What the kernel has still to do to a packet whose checksum is unfinished. */
static struct virtio_net_hdr unfinished(bool tcp, size_t ip_header, size_t headers, size_t bytes, size_t mtu)
{
    struct virtio_net_hdr offload = {
        .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
        .hdr_len = (uint16_t)headers,
        .csum_start = (uint16_t)ip_header,
        .csum_offset = (uint16_t)check_offset(tcp),
    };
    if (tcp && bytes > mtu && mtu > headers) {
        offload.gso_type = VIRTIO_NET_HDR_GSO_TCPV4;
        offload.gso_size = (uint16_t)(mtu - headers);
    }
    return offload;
}

/* The checksum of a super-packet is the pseudo header's sum: the kernel goes on from there. */
static struct virtio_net_hdr make_super(struct flow *flow)
{
    uint8_t *transport = flow->header + flow->ip_header;
    bool tcp = flow->header[9] == IP_TCP;
    size_t segment = flow->bytes - flow->ip_header;
    put16(flow->header + 2, (uint32_t)flow->bytes);
    if (!tcp)
        put16(transport + 4, (uint32_t)segment);
    put16(transport + check_offset(tcp), fold(sum_pseudo(flow->header, flow->header[9], segment)));
    struct virtio_net_hdr offload = unfinished(tcp, flow->ip_header, flow->headers, 0, 0);
    offload.gso_type = tcp ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_UDP_L4;
    offload.gso_size = (uint16_t)flow->size;
    return offload;
}

static void finish(struct coalescer *coalescer, struct flow *flow)
{
    struct virtio_net_hdr offload = {0};
    struct iovec part[1 + PIECES] = {{flow->header, flow->headers}};
    if (flow->pieces > 1)
        offload = make_super(flow);
    else if (flow->partial)
        offload = unfinished(flow->header[9] == IP_TCP, flow->ip_header, flow->headers, flow->bytes, coalescer->mtu);
    flow->header[8]--;
    ip_set_checksum(flow->header);
    memcpy(part + 1, flow->piece, flow->pieces * sizeof part[0]);
    size_t bytes = flow->bytes + (flow->pieces - 1) * flow->headers;
    coalescer->deliver(coalescer->to, &offload, part, 1 + flow->pieces, flow->pieces, bytes);
}

/* A packet that merges with nothing goes by itself, its header copied so that the TTL can change. `look`: NULL when it
 * has no ports. */
static void pass(struct coalescer *coalescer, const uint8_t *packet, size_t bytes, const struct look *look)
{
    uint8_t header[IP_HEADER_MOST];
    size_t headers = ip_header_bytes(packet);
    struct virtio_net_hdr offload = {0};
    if (look != NULL && look->partial && coalescer->tcp)
        offload = unfinished(look->tcp, headers, look->headers, bytes, coalescer->mtu);
    memcpy(header, packet, headers);
    ip_decrement_ttl(header);
    struct iovec part[2] = {{header, headers}, {(void *)(packet + headers), bytes - headers}};
    coalescer->deliver(coalescer->to, &offload, part, bytes > headers ? 2 : 1, 1, bytes);
}

static void remove_flow(struct coalescer *coalescer, unsigned at)
{
    finish(coalescer, &coalescer->flow[at]);
    if (at != --coalescer->flows)
        coalescer->flow[at] = coalescer->flow[coalescer->flows];
}

/* A fragment may be of any flow between its hosts: later ones have no ports. */
static void remove_flows_between(struct coalescer *coalescer, const uint8_t *packet)
{
    for (unsigned at = coalescer->flows; at-- > 0;)
        if (same_hosts(coalescer->flow[at].first, packet))
            remove_flow(coalescer, at);
}

void coalesce(struct coalescer *coalescer, const uint8_t *packet, size_t bytes)
{
    struct look look;
    if (!look_at(&look, coalescer, packet, bytes)) {
        remove_flows_between(coalescer, packet);
        pass(coalescer, packet, bytes, NULL);
        return;
    }
    unsigned at = 0;
    while (at < coalescer->flows && !same_flow(coalescer->flow[at].first, packet))
        at++;
    if (at < coalescer->flows) {
        if (look.merges && continues(&coalescer->flow[at], &look)) {
            append(&coalescer->flow[at], &look);
            return;
        }
        remove_flow(coalescer, at); /* what came before must not arrive after */
    }
    if (!look.merges) {
        pass(coalescer, packet, bytes, &look);
        return;
    }
    if (coalescer->flows == FLOWS)
        remove_flow(coalescer, 0);
    begin(&coalescer->flow[coalescer->flows++], &look);
}

void coalesce_flush(struct coalescer *coalescer)
{
    for (unsigned at = 0; at < coalescer->flows; at++)
        finish(coalescer, &coalescer->flow[at]);
    coalescer->flows = 0;
}
