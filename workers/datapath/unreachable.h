/* The answer to a packet that no peer takes: ICMP destination net unreachable, as flannel sends it (spec 7.4). */
#ifndef FLANNEL_UNREACHABLE_H
#define FLANNEL_UNREACHABLE_H

#include <stddef.h>
#include <stdint.h>

#include "inet.h"

enum { UNREACHABLE_MOST = IP_HEADER + 8 + IP_HEADER_MOST + 8 };

/* Writes the answer to a checked IPv4 packet, sent from `source`, to `answer` (room for UNREACHABLE_MOST bytes).
 * Returns its bytes; 0 where none may be sent: to ICMP, to later fragments, and (flannel's limit) to a header of 60
 * bytes. Quotes the header and 8 bytes, but no more than there is. */
size_t unreachable(uint8_t *answer, const uint8_t *packet, size_t bytes, uint32_t source);

#endif
