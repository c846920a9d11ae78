/* Headers and arithmetic that the tc and XDP programs share. */
#ifndef FLANNEL_BPF_PACKET_H
#define FLANNEL_BPF_PACKET_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "layout.h"

#define IP_DF 0x4000
#define IP_MF 0x2000
#define IP_OFFSET 0x1fff
#define NO_OPTIONS 5 /* header length in words */

/* What stands between the MAC header and the inner payload. */
struct wrapped {
	struct iphdr ip;
	struct udphdr udp;
	struct iphdr inner;
};
#define OVERHEAD (sizeof(struct iphdr) + sizeof(struct udphdr))
#define MAX_LENGTH 65535 /* of an IPv4 packet */

static __always_inline __u16 ip_checksum(const struct iphdr *ip)
{
	const __u16 *word = (const __u16 *)ip;
	__u32 sum = 0;
#pragma unroll
	for (unsigned i = 0; i < sizeof(*ip) / 2; i++)
		sum += word[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return ~(sum + (sum >> 16));
}

/* TTL one less, checksum adjusted to it (RFC 1624). */
static __always_inline void decrement_ttl(struct iphdr *ip)
{
	__u32 sum = ip->check + (__u32)bpf_htons(0x0100);
	ip->ttl--;
	ip->check = sum + (sum >> 16);
}

/* One whole inner packet, nothing before or after it. */
static __always_inline bool lengths_agree(const struct wrapped *w)
{
	__u32 inner = bpf_ntohs(w->inner.tot_len);
	return inner >= sizeof(struct iphdr) && bpf_ntohs(w->udp.len) == inner + sizeof(struct udphdr) &&
	       bpf_ntohs(w->ip.tot_len) == inner + OVERHEAD;
}

static __always_inline bool is_ipv4(const struct iphdr *ip)
{
	return ip->version == 4 && ip->ihl >= NO_OPTIONS && ip->ihl * 4u <= bpf_ntohs(ip->tot_len);
}

#endif
