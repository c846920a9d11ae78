/* Every way a packet can take through the kernel programs. One home for the names: the object carries the texts in its
 * read-only data, where Python reads them. "user path": left as it is, for the TUN's reader or the socket.
 *
 * Packets are inner packets as they are on the wire: a super-packet counts as its segments.
 */
#ifndef FLANNEL_BPF_VERDICTS_H
#define FLANNEL_BPF_VERDICTS_H

#define OUT_VERDICTS(V)                                                                                             \
	V(OUT_SENT, "bpf_out_sent", "sent to the peer")                                                             \
	V(OUT_NOT_IPV4, "bpf_out_not_ipv4", "not IPv4: user path")                                                  \
	V(OUT_ODD, "bpf_out_odd", "lengths that do not agree, or too long to be wrapped whole: user path")          \
	V(OUT_NO_PEER, "bpf_out_no_peer", "no peer has that subnet: user path, which answers with ICMP")            \
	V(OUT_PLAIN_PEER, "bpf_out_plain_peer", "the peer does not run this path: user path")                       \
	V(OUT_NOT_TCP_GSO, "bpf_out_not_tcp_gso", "a super-packet that is not TCP: user path")                      \
	V(OUT_NESTED, "bpf_out_nested", "a tunnel's packet already, or no room for a header: user path")            \
	V(OUT_TTL, "bpf_out_ttl", "TTL used up: dropped")                                                           \
	V(OUT_NO_MEMORY, "bpf_out_no_memory", "no memory for the headers: dropped")

#define IN_VERDICTS(V)                                                                                              \
	V(IN_RECEIVED, "bpf_in_received", "opened, and handed to the TUN or to the device that merges")             \
	V(IN_MERGED, "bpf_in_merged", "of those: merged, then handed to the TUN")                                   \
	V(IN_NOT_MERGED, "bpf_in_not_merged", "came out of the merging device without a place to go: dropped")      \
	V(IN_FOREIGN, "bpf_in_foreign", "not a packet for this network, or none at all: left alone")                \
	V(IN_FRAGMENT, "bpf_in_fragment", "a fragment of a datagram: user path")                                    \
	V(IN_CHECKSUMMED, "bpf_in_checksummed", "has a UDP checksum, so a peer's user path sent it: user path")     \
	V(IN_ODD, "bpf_in_odd", "several packets, wrong lengths, or not IPv4 inside: user path")                    \
	V(IN_NESTED, "bpf_in_nested", "the kernel does not take the headers off: user path")                        \
	V(IN_TTL, "bpf_in_ttl", "TTL used up: dropped")                                                             \
	V(IN_STRANGER, "bpf_in_stranger", "inner source not in the sender's subnet (VerifySource): dropped")        \
	V(IN_OTHER_HOST, "bpf_in_other_host", "opened by XDP, but not sent to this host's MAC: dropped")            \
	V(IN_NO_MEMORY, "bpf_in_no_memory", "no memory for the headers: dropped")

#define XDP_VERDICTS(V)                                                                                             \
	V(XDP_OPENED, "xdp_opened", "headers taken off, marked")                                                    \
	V(XDP_FOREIGN, "xdp_foreign", "not for any network of ours: left alone")                                    \
	V(XDP_LEFT, "xdp_left", "for a network of ours, but not as the peers' programs send: left to what follows") \
	V(XDP_NO_MARK, "xdp_no_mark", "the driver has no room for a mark: left to what follows")                    \
	V(XDP_BROKEN, "xdp_broken", "the driver did not let us take the headers off: dropped")

#define AS_ENUM(symbol, name, meaning) symbol,
#define AS_TEXT(symbol, name, meaning) name "\0"
#endif
