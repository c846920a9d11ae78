/* IPv4, TCP and UDP as bytes: reading, writing, checksums (RFC 791, 793, 768, 1071, 1624). No system call here. */
#ifndef FLANNEL_INET_H
#define FLANNEL_INET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    IP_HEADER = 20,        /* without options */
    IP_HEADER_MOST = 60,
    TCP_HEADER = 20,       /* without options */
    UDP_HEADER = 8,
    HEADERS_MOST = 120,    /* IP and TCP, both with all the options there can be */
    IP_MOST = 65535,       /* bytes of a packet */
    IP_TCP = 6,
    IP_UDP = 17,
    IP_ICMP = 1,
};

enum { TCP_FIN = 0x01, TCP_PSH = 0x08, TCP_ACK = 0x10, TCP_CWR = 0x80 };
enum { IP_DF = 0x4000, IP_MF = 0x2000, IP_OFFSET = 0x1fff };

static inline uint16_t get16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static inline uint32_t get32(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static inline void put16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline void put32(uint8_t *at, uint32_t value)
{
    put16(at, value >> 16);
    put16(at + 2, value);
}

static inline size_t ip_header_bytes(const uint8_t *packet)
{
    return (size_t)(packet[0] & 0x0f) * 4;
}

static inline uint32_t ip_source(const uint8_t *packet)
{
    return get32(packet + 12);
}

static inline uint32_t ip_destination(const uint8_t *packet)
{
    return get32(packet + 16);
}

static inline bool ip_is_fragment(const uint8_t *packet)
{
    return (get16(packet + 6) & (IP_MF | IP_OFFSET)) != 0;
}

/* Why `bytes` bytes are no IPv4 packet. */
enum ip_fault { IP_OK, IP_SHORT, IP_VERSION, IP_HEADER_LENGTH, IP_LENGTH };
enum ip_fault ip_check(const uint8_t *packet, size_t bytes);

/* Sum of big-endian 16-bit words, as a value that may be added to others of its kind; only blocks of an even number of
 * bytes may be followed by another. `fold` makes the 16 bits of it that a header holds, not inverted. */
uint64_t sum_bytes(const uint8_t *data, size_t bytes);
uint16_t fold(uint64_t sum);

/* Of the pseudo header: addresses, protocol, length of header and data (RFC 793, 3.1). */
uint64_t sum_pseudo(const uint8_t *packet, uint32_t protocol, size_t bytes);

void ip_set_checksum(uint8_t *packet);
bool ip_checksum_ok(const uint8_t *packet);

/* Decrements the TTL and mends the checksum without reading the rest (RFC 1624). False, and nothing is changed, when
 * none would be left. */
bool ip_decrement_ttl(uint8_t *packet);

#endif
