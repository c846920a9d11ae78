#include "unreachable.h"

enum { ICMP_HEADER = 8, ICMP_UNREACHABLE = 3, QUOTED = 8, ANSWER_TTL = 8 };

size_t unreachable(uint8_t *answer, const uint8_t *packet, size_t bytes, uint32_t source)
{
    size_t header = ip_header_bytes(packet);
    if (packet[9] == IP_ICMP || (get16(packet + 6) & IP_OFFSET) != 0 || header >= IP_HEADER_MOST)
        return 0;
    size_t quote = bytes < header + QUOTED ? bytes : header + QUOTED;
    uint8_t *icmp = answer + IP_HEADER;
    memset(answer, 0, IP_HEADER + ICMP_HEADER);
    answer[0] = 0x45;
    put16(answer + 2, (uint32_t)(IP_HEADER + ICMP_HEADER + quote));
    answer[8] = ANSWER_TTL;
    answer[9] = IP_ICMP;
    put32(answer + 12, source);
    memcpy(answer + 16, packet + 12, 4);
    ip_set_checksum(answer);
    icmp[0] = ICMP_UNREACHABLE;
    memcpy(icmp + ICMP_HEADER, packet, quote);
    put16(icmp + 2, (uint16_t)~fold(sum_bytes(icmp, ICMP_HEADER + quote)));
    return IP_HEADER + ICMP_HEADER + quote;
}
