/* The pure packet code behind a pipe: one request, one answer, so that Python can ask it what it makes of anything.
 *
 * A message is a native 32-bit length and as many bytes; the first byte of a request says what is asked. Packets within
 * a message have lengths of their own in front. Every packet is copied into memory of exactly its size: what reads or
 * writes beyond is caught by the sanitizer, which this program is built with.
 */
#include <stdio.h>
#include <stdlib.h>

#include "coalesce.h"
#include "peers.h"
#include "segment.h"
#include "unreachable.h"

enum { SUM = 'c', SEGMENT = 's', COMPLETE = 'f', COALESCE = 'm', UNREACHABLE = 'u', TABLE = 't', FIND = 'l' };
enum { MOST = 64 << 20 };

static uint8_t request[MOST], answer[MOST];
static size_t answered;
static struct peers peers;

static void say(const void *bytes, size_t count)
{
    if (answered + count > MOST)
        abort();
    memcpy(answer + answered, bytes, count);
    answered += count;
}

static void say_number(uint32_t number)
{
    say(&number, sizeof number);
}

static uint32_t number_at(const uint8_t *at)
{
    uint32_t number;
    memcpy(&number, at, sizeof number);
    return number;
}

static uint8_t *copy(const uint8_t *bytes, size_t count)
{
    uint8_t *own = malloc(count > 0 ? count : 1);
    if (own == NULL)
        abort();
    memcpy(own, bytes, count);
    return own;
}

/* What a caller must have made sure of before it hands a packet to the code under test. */
static void demand_packet(const uint8_t *packet, size_t bytes)
{
    if (ip_check(packet, bytes) != IP_OK)
        abort();
}

static void segment(const uint8_t *data, size_t bytes)
{
    struct virtio_net_hdr offload;
    struct super super;
    memcpy(&offload, data, VNET_HEADER);
    uint8_t *packet = copy(data + VNET_HEADER, bytes - VNET_HEADER);
    demand_packet(packet, bytes - VNET_HEADER);
    bool opened = super_open(&super, packet, bytes - VNET_HEADER, &offload);
    say_number(opened);
    for (uint32_t i = 0; opened && i < super.segments; i++) {
        const uint8_t *payload;
        uint8_t *header = malloc(super.headers);
        size_t length = super_segment(&super, i, header, &payload);
        say_number((uint32_t)(super.headers + length));
        say(header, super.headers);
        say(payload, length);
        free(header);
    }
    free(packet);
}

static void complete(const uint8_t *data, size_t bytes)
{
    struct virtio_net_hdr offload;
    memcpy(&offload, data, VNET_HEADER);
    uint8_t *packet = copy(data + VNET_HEADER, bytes - VNET_HEADER);
    demand_packet(packet, bytes - VNET_HEADER);
    say_number(complete_checksum(packet, bytes - VNET_HEADER, &offload));
    say(packet, bytes - VNET_HEADER);
    free(packet);
}

static void delivered(void *to, const struct virtio_net_hdr *offload, const struct iovec *part, unsigned parts,
                      unsigned packets, size_t bytes)
{
    size_t length = 0;
    (void)to;
    for (unsigned i = 0; i < parts; i++)
        length += part[i].iov_len;
    say_number(packets);
    say_number((uint32_t)bytes);
    say(offload, VNET_HEADER);
    say_number((uint32_t)length);
    for (unsigned i = 0; i < parts; i++)
        say(part[i].iov_base, part[i].iov_len);
}

static void merge(const uint8_t *data, size_t bytes)
{
    static struct coalescer coalescer;
    enum { PACKETS = 4096 };
    uint8_t *packet[PACKETS];
    size_t count = 0;
    coalescer = (struct coalescer){.deliver = delivered, .tcp = data[0], .udp = data[1]};
    coalescer.mtu = number_at(data + 2);
    for (size_t at = 6; at < bytes; count++) {
        uint32_t length = number_at(data + at);
        if (count == PACKETS)
            abort();
        packet[count] = copy(data + at + 4, length);
        demand_packet(packet[count], length);
        coalesce(&coalescer, packet[count], length);
        at += 4 + length;
    }
    coalesce_flush(&coalescer);
    while (count > 0)
        free(packet[--count]);
}

static void refuse(const uint8_t *data, size_t bytes)
{
    uint8_t *packet = copy(data + 4, bytes - 4), *icmp = malloc(UNREACHABLE_MOST);
    demand_packet(packet, bytes - 4);
    say(icmp, unreachable(icmp, packet, bytes - 4, number_at(data)));
    free(icmp);
    free(packet);
}

static void sum(const uint8_t *data, size_t bytes)
{
    uint8_t *own = copy(data, bytes);
    say_number(fold(sum_bytes(own, bytes)));
    free(own);
}

static void table(const uint8_t *data, size_t bytes)
{
    struct peer_row *rows = (struct peer_row *)copy(data, bytes);
    say_number(peers_replace(&peers, rows, bytes / sizeof rows[0]));
    say_number((uint32_t)peers_count(&peers));
    free(rows);
}

/* Which peer has the address; each that is found is told of one packet, so that its counter can be followed. */
static void find(uint32_t address)
{
    struct peer *peer = peers_find(peers_newest(&peers), address);
    if (peer == NULL)
        return;
    add(&peer->sent, 1);
    say(&peer->row, sizeof peer->row);
    say_number((uint32_t)value_of(&peer->sent));
}

static void serve(uint8_t what, const uint8_t *data, size_t bytes)
{
    switch (what) {
    case SEGMENT:
        return segment(data, bytes);
    case COMPLETE:
        return complete(data, bytes);
    case COALESCE:
        return merge(data, bytes);
    case UNREACHABLE:
        return refuse(data, bytes);
    case SUM:
        return sum(data, bytes);
    case TABLE:
        return table(data, bytes);
    case FIND:
        return find(number_at(data));
    default:
        abort();
    }
}

int main(void)
{
    uint32_t bytes;
    if (!peers_init(&peers))
        return 1;
    while (fread(&bytes, sizeof bytes, 1, stdin) == 1) {
        if (bytes < 1 || bytes > MOST || fread(request, 1, bytes, stdin) != bytes)
            return 1;
        answered = 0;
        serve(request[0], request + 1, bytes - 1);
        uint32_t length = (uint32_t)answered;
        fwrite(&length, sizeof length, 1, stdout);
        fwrite(answer, 1, answered, stdout);
        fflush(stdout);
    }
    peers_free(&peers);
    return 0;
}
