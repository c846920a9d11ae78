/* The overlay in the kernel: what leaves by the TUN is wrapped and sent by the uplink, what arrives for our address and
 * port is opened and handed to the TUN, TCP by way of a device that merges it. All are tc programs (clsact, direct
 * action), a set for each network.
 *
 * Two hosts that run this speak it to each other, and mark it by an outer UDP checksum of 0. All else goes through user
 * space, both ways, since
 * - an inner checksum that the sender's kernel left to its network card is completed by nobody on a veth or between two
 *   virtual machines, and a super-packet crosses there whole: a peer that reads datagrams gets rubbish;
 * - a receiver that reads datagrams merges those with a checksum (UDP_GRO), and is faster for them than we are;
 * - of one TCP flow no packet may overtake another, so it keeps to one path.
 *
 * Foreign packets get TC_ACT_UNSPEC: TC_ACT_OK would end the chain, and the next network's program never ran.
 */
#include "packet.h"
#include "verdicts.h"

enum verdict { OUT_VERDICTS(AS_ENUM) IN_VERDICTS(AS_ENUM) VERDICTS };
const char verdict_names[] SEC(".rodata.names") = OUT_VERDICTS(AS_TEXT) IN_VERDICTS(AS_TEXT);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct config);
} config SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_PEERS);
	__type(key, struct peer_key);
	__type(value, struct peer);
} peers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_PEERS);
	__type(key, struct peer_key);
	__type(value, struct traffic);
} traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICTS);
	__type(key, __u32);
	__type(value, struct tally);
} verdicts SEC(".maps");

/* A packet being judged: how many packets and bytes it is on the wire. */
struct load {
	__u64 packets, bytes;
};

static __always_inline int decided(const struct load *load, __u32 verdict, int action)
{
	struct tally *tally = bpf_map_lookup_elem(&verdicts, &verdict);
	if (tally) {
		tally->packets += load->packets;
		tally->bytes += load->bytes;
	}
	return action;
}

static __always_inline const struct config *configured(void)
{
	__u32 only = 0;
	return bpf_map_lookup_elem(&config, &only);
}

static __always_inline struct peer *peer_of(__u32 address)
{
	struct peer_key key = {.length = 32, .base = address};
	return bpf_map_lookup_elem(&peers, &key);
}

static __always_inline struct load load_of(const struct __sk_buff *skb)
{
	return (struct load){.packets = skb->gso_segs ? skb->gso_segs : 1, .bytes = skb->len};
}

struct outer {
	__u16 aligns; /* so that there is no gap between the headers */
	struct ethhdr eth; /* its addresses are filled in by bpf_redirect_neigh */
	struct wrapped wrapped;
};
#define OUTER_LENGTH (sizeof(struct outer) - offsetof(struct outer, eth))

static __always_inline void wrap(struct outer *o, const struct iphdr *inner, const struct config *cfg, __u32 to)
{
	__u16 length = bpf_ntohs(inner->tot_len);
	struct wrapped *w = &o->wrapped;

	o->eth.h_proto = bpf_htons(ETH_P_IP);
	w->ip.version = 4;
	w->ip.ihl = NO_OPTIONS;
	w->ip.tot_len = bpf_htons(length + OVERHEAD);
	w->ip.frag_off = bpf_htons(IP_DF); /* as for a socket; but nobody learns here what the path carries */
	w->ip.ttl = IPDEFTTL;
	w->ip.protocol = IPPROTO_UDP;
	w->ip.saddr = cfg->local;
	w->ip.daddr = to;
	w->ip.check = ip_checksum(&w->ip);
	w->udp.source = w->udp.dest = cfg->port;
	w->udp.len = bpf_htons(length + sizeof(struct udphdr));
	w->inner = *inner;
	decrement_ttl(&w->inner);
}

/* The kernel keeps a super-packet whole and cuts it where it leaves, knowing that a tunnel's headers are before it; the
 * mark also tells network cards which checksum is the one to complete. Both take it off at the wire. */
#define ENCAP (BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 | BPF_F_ADJ_ROOM_ENCAP_L4_UDP)

SEC("tc")
int tun_egress(struct __sk_buff *skb)
{
	struct load load = load_of(skb);
	const struct config *cfg = configured();
	struct outer outer = {};
	struct iphdr inner;

	if (!cfg || skb->protocol != bpf_htons(ETH_P_IP))
		return decided(&load, OUT_NOT_IPV4, TC_ACT_UNSPEC);
	if (bpf_skb_load_bytes_relative(skb, 0, &inner, sizeof(inner), BPF_HDR_START_NET) < 0 || !is_ipv4(&inner))
		return decided(&load, OUT_ODD, TC_ACT_UNSPEC);
	__u32 length = bpf_ntohs(inner.tot_len);
	if (skb->len != cfg->mac + length || length + OVERHEAD > MAX_LENGTH)
		return decided(&load, OUT_ODD, TC_ACT_UNSPEC);

	struct peer *peer = peer_of(inner.daddr);
	if (!peer)
		return decided(&load, OUT_NO_PEER, TC_ACT_UNSPEC);
	if (!peer->fast)
		return decided(&load, OUT_PLAIN_PEER, TC_ACT_UNSPEC);
	/* The kernel accepts UDP super-packets here, and loses them later (sender or receiver, by the uplink's kind). */
	if (skb->gso_size && inner.protocol != IPPROTO_TCP)
		return decided(&load, OUT_NOT_TCP_GSO, TC_ACT_UNSPEC);
	if (inner.ttl <= 1)
		return decided(&load, OUT_TTL, TC_ACT_SHOT);

	if (bpf_skb_adjust_room(skb, OVERHEAD, BPF_ADJ_ROOM_MAC, ENCAP) < 0)
		return decided(&load, OUT_NESTED, TC_ACT_UNSPEC);
	wrap(&outer, &inner, cfg, peer->address);
	/* bpf_redirect_neigh drops what has no MAC header. */
	if ((!cfg->mac && bpf_skb_change_head(skb, ETH_HLEN, 0) < 0) ||
	    bpf_skb_store_bytes(skb, 0, &outer.eth, OUTER_LENGTH, 0) < 0)
		return decided(&load, OUT_NO_MEMORY, TC_ACT_SHOT);

	struct traffic *sum = bpf_map_lookup_elem(&traffic, &peer->subnet);
	if (sum) {
		sum->sent_packets += load.packets;
		sum->sent_bytes += load.bytes;
	}
	skb->mark = 0; /* the inner packet's; a socket's datagram has none, and rules of routing may look at it */
	return decided(&load, OUT_SENT, bpf_redirect_neigh(cfg->uplink, NULL, 0, 0));
}

/* Hands an opened packet, whose IPv4 header is `inner` behind the MAC header, to the TUN. */
static __always_inline int deliver(struct __sk_buff *skb, struct load *load, const struct config *cfg,
				   struct iphdr *inner, __u32 sender)
{
	load->bytes = bpf_ntohs(inner->tot_len);
	if (inner->ttl <= 1)
		return decided(load, IN_TTL, TC_ACT_SHOT);
	struct peer *peer = peer_of(inner->saddr);
	if (peer && peer->address == sender) {
		struct traffic *sum = bpf_map_lookup_elem(&traffic, &peer->subnet);
		if (sum) {
			sum->received_packets += load->packets;
			sum->received_bytes += load->bytes;
		}
	} else if (cfg->verify_source) {
		return decided(load, IN_STRANGER, TC_ACT_SHOT);
	}
	decrement_ttl(inner);
	if (bpf_skb_store_bytes(skb, ETH_HLEN, inner, sizeof(*inner), 0) < 0)
		return decided(load, IN_NO_MEMORY, TC_ACT_SHOT);
	/* A super-packet needs no merging, and would be cut on the way there. */
	if (cfg->merger && inner->protocol == IPPROTO_TCP && !skb->gso_size)
		return decided(load, IN_RECEIVED, bpf_redirect(cfg->merger, 0));
	return decided(load, IN_RECEIVED, bpf_redirect(cfg->tun, BPF_F_INGRESS));
}

static __always_inline const struct mark *mark_on(struct __sk_buff *skb)
{
	const struct mark *mark = (void *)(long)skb->data_meta;
	if ((void *)(mark + 1) > (void *)(long)skb->data)
		return NULL;
	return mark->magic == MARK_MAGIC ? mark : NULL;
}

/* A packet that the XDP program has opened, and that the kernel's GRO may have merged with its neighbours. */
static __always_inline int marked(struct __sk_buff *skb, struct load *load, const struct config *cfg, __u32 sender)
{
	struct iphdr inner;
	/* XDP runs before the kernel looks at the MAC address; it must not go up the stack opened, from this device. */
	if (skb->pkt_type != PACKET_HOST)
		return decided(load, IN_OTHER_HOST, TC_ACT_SHOT);
	if (bpf_skb_load_bytes(skb, ETH_HLEN, &inner, sizeof(inner)) < 0)
		return decided(load, IN_NO_MEMORY, TC_ACT_SHOT);
	return deliver(skb, load, cfg, &inner, sender);
}

SEC("tc")
int uplink_ingress(struct __sk_buff *skb)
{
	struct load load = load_of(skb);
	const struct config *cfg = configured();
	struct wrapped w;

	if (!cfg)
		return decided(&load, IN_FOREIGN, TC_ACT_UNSPEC);
	const struct mark *mark = mark_on(skb);
	/* Another network's, opened: what a peer of that one put inside must not be taken for a datagram to this one. */
	if (mark && (mark->to.address != cfg->local || mark->to.port != cfg->port))
		return decided(&load, IN_FOREIGN, TC_ACT_UNSPEC);
	if (mark)
		return marked(skb, &load, cfg, mark->source);

	/* A tagged packet is for a VLAN device on top of this one. */
	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present || skb->pkt_type != PACKET_HOST ||
	    bpf_skb_load_bytes(skb, ETH_HLEN, &w, sizeof(w)) < 0)
		return decided(&load, IN_FOREIGN, TC_ACT_UNSPEC);
	if (w.ip.protocol != IPPROTO_UDP || w.ip.daddr != cfg->local || w.ip.version != 4 || w.ip.ihl != NO_OPTIONS)
		return decided(&load, IN_FOREIGN, TC_ACT_UNSPEC);
	if (w.ip.frag_off & bpf_htons(IP_MF | IP_OFFSET))
		return decided(&load, IN_FRAGMENT, TC_ACT_UNSPEC);
	if (w.udp.dest != cfg->port)
		return decided(&load, IN_FOREIGN, TC_ACT_UNSPEC);
	if (w.udp.check)
		return decided(&load, IN_CHECKSUMMED, TC_ACT_UNSPEC);
	if (!lengths_agree(&w) || !is_ipv4(&w.inner) || skb->len < ETH_HLEN + bpf_ntohs(w.ip.tot_len))
		return decided(&load, IN_ODD, TC_ACT_UNSPEC);
	if (bpf_skb_adjust_room(skb, -(int)OVERHEAD, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO) < 0)
		return decided(&load, IN_NESTED, TC_ACT_UNSPEC);
	return deliver(skb, &load, cfg, &w.inner, w.ip.saddr);
}

/* On the far end of the pair that the merger is the near end of: what came through it, merged, is the TUN's. */
SEC("tc")
int merged_ingress(struct __sk_buff *skb)
{
	struct load load = load_of(skb);
	const struct config *cfg = configured();

	if (!cfg)
		return decided(&load, IN_NOT_MERGED, TC_ACT_SHOT);
	bpf_skb_change_type(skb, PACKET_HOST); /* its MAC header is the uplink's, so it seems to be for another host */
	return decided(&load, IN_MERGED, bpf_redirect(cfg->tun, BPF_F_INGRESS));
}

/* No helper in use asks for the GPL. */
char _license[] SEC("license") = "Apache-2.0";
