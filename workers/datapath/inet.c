#include "inet.h"

enum ip_fault ip_check(const uint8_t *packet, size_t bytes)
{
    if (bytes < IP_HEADER)
        return IP_SHORT;
    if (packet[0] >> 4 != 4)
        return IP_VERSION;
    if (ip_header_bytes(packet) < IP_HEADER || ip_header_bytes(packet) > bytes)
        return IP_HEADER_LENGTH;
    return get16(packet + 2) == bytes ? IP_OK : IP_LENGTH;
}

/* Two sums of 32-bit halves: no carry to look after, so that the compiler makes vector code of the loop. Words are
 * added in the machine's order, which commutes with the sum (RFC 1071, 2B); the result is turned at the end. */
uint64_t sum_bytes(const uint8_t *data, size_t bytes)
{
    uint64_t low = 0, high = 0, word;
    size_t whole = bytes & ~(size_t)7;
    for (size_t at = 0; at < whole; at += 8) {
        memcpy(&word, data + at, 8);
        low += word & 0xffffffff;
        high += word >> 32;
    }
    if (whole < bytes) {
        word = 0;
        memcpy(&word, data + whole, bytes - whole);
        low += word & 0xffffffff;
        high += word >> 32;
    }
    uint16_t folded = fold(low + high);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    folded = (uint16_t)(folded << 8 | folded >> 8);
#endif
    return folded;
}

uint16_t fold(uint64_t sum)
{
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

uint64_t sum_pseudo(const uint8_t *packet, uint32_t protocol, size_t bytes)
{
    return sum_bytes(packet + 12, 8) + protocol + bytes;
}

void ip_set_checksum(uint8_t *packet)
{
    put16(packet + 10, 0);
    put16(packet + 10, (uint16_t)~fold(sum_bytes(packet, ip_header_bytes(packet))));
}

bool ip_checksum_ok(const uint8_t *packet)
{
    return fold(sum_bytes(packet, ip_header_bytes(packet))) == 0xffff;
}

bool ip_decrement_ttl(uint8_t *packet)
{
    if (packet[8] <= 1)
        return false;
    packet[8]--;
    uint32_t check = get16(packet + 10) + 0x0100u;
    put16(packet + 10, check + (check >> 16));
    return true;
}
