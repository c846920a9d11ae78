/* Every way a packet can take through the data path, and the counter that tells of it.
 *
 * One home for the names: C counts by the enumeration, Python shows the texts.
 * Packets are inner packets as they are on the wire: a super-packet counts as its segments. What is read from the TUN
 * is the sum of out_sent and all other out_*, what comes in by UDP is the sum of in_delivered and all other in_*.
 */
#ifndef FLANNEL_VERDICTS_H
#define FLANNEL_VERDICTS_H

#include <stdint.h>

#define OUT_VERDICTS(V)                                                                                             \
    V(OUT_SENT, "out_sent", "sent to the peer")                                                                     \
    V(OUT_TOO_SHORT, "out_too_short", "shorter than an IPv4 header")                                                \
    V(OUT_NOT_IPV4, "out_not_ipv4", "not IPv4")                                                                     \
    V(OUT_BAD_HEADER, "out_bad_header", "header length impossible")                                                 \
    V(OUT_WRONG_LENGTH, "out_wrong_length", "total length is not the packet's")                                     \
    V(OUT_BAD_OFFLOAD, "out_bad_offload", "what the kernel asked us to complete makes no sense")                    \
    V(OUT_NO_ROUTE, "out_no_route", "no peer has that subnet; answered with ICMP where that is allowed")            \
    V(OUT_TTL, "out_ttl", "TTL used up")                                                                            \
    V(OUT_TOO_BIG, "out_too_big", "the path to the peer carries less than the MTU says (EMSGSIZE)")                 \
    V(OUT_REFUSED, "out_refused", "nobody listens at the peer (ECONNREFUSED: a socket of many peers seldom hears)")   \
    V(OUT_NO_BUFFERS, "out_no_buffers", "the kernel had no room (ENOBUFS), or the uplink stood still")              \
    V(OUT_FAILED, "out_failed", "any other error of the socket")

#define IN_VERDICTS(V)                                                                                              \
    V(IN_DELIVERED, "in_delivered", "handed to the kernel by the TUN")                                              \
    V(IN_TOO_SHORT, "in_too_short", "shorter than an IPv4 header")                                                  \
    V(IN_NOT_IPV4, "in_not_ipv4", "not IPv4")                                                                       \
    V(IN_BAD_HEADER, "in_bad_header", "header length impossible")                                                   \
    V(IN_WRONG_LENGTH, "in_wrong_length", "total length is not the datagram's")                                     \
    V(IN_TTL, "in_ttl", "TTL used up")                                                                              \
    V(IN_FOREIGN, "in_foreign", "inner source is not in the sender's subnet (VerifySource)")                        \
    V(IN_CUT, "in_cut", "longer than any packet can be")                                                            \
    V(IN_REFUSED, "in_refused", "the TUN did not take it (down, or no room)")

#define OTHER_COUNTERS(V)                                                                                           \
    V(OUT_BYTES, "out_bytes", "bytes of the packets sent")                                                          \
    V(IN_BYTES, "in_bytes", "bytes of the packets delivered")                                                       \
    V(UNREACHABLES, "unreachables", "ICMP net unreachable answers")                                                 \
    V(STRANGERS, "strangers", "delivered although the inner source is not in the sender's subnet")                  \
    V(READS, "reads", "packets and super-packets read from the TUN")                                                \
    V(SENDS, "sends", "system calls that sent")                                                                     \
    V(RECEIVES, "receives", "system calls that received")                                                           \
    V(WRITES, "writes", "packets and super-packets written to the TUN")                                             \
    V(SEND_WAITS, "send_waits", "times the uplink was waited for")                                                  \
    V(SOCKET_ERRORS, "socket_errors", "errors the socket reported while receiving")                                 \
    V(REPLAYED, "replayed", "packets in flight at the death of the worker before, taken up again")

#define AS_ENUM(symbol, name, meaning) symbol,
enum verdict { OUT_VERDICTS(AS_ENUM) IN_VERDICTS(AS_ENUM) OTHER_COUNTERS(AS_ENUM) COUNTERS };
#undef AS_ENUM

/* Sizes of batches are counted in powers of two: 1, 2-3, 4-7, ... 64 and more. */
enum { BATCH_BUCKETS = 7 };
enum batch { BATCH_SENT, BATCH_RECEIVED, BATCH_WRITTEN, BATCHES };

#endif
