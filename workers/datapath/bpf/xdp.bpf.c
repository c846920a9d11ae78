/* Opens the datagrams of our peers before the kernel has made packets of them: so its GRO merges what is inside, which
 * it does not do for datagrams without a checksum. What is opened bears a mark, by which the network's tc program
 * takes it to the TUN. Checks are the same as there; what does not pass them is left to it.
 *
 * A device has one XDP program, so this one serves every network of its uplink: `endpoints` says which.
 */
#include "packet.h"
#include "verdicts.h"

enum verdict { XDP_VERDICTS(AS_ENUM) VERDICTS };
const char verdict_names[] SEC(".rodata.names") = XDP_VERDICTS(AS_TEXT);

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_PORTS);
	__type(key, struct endpoint);
	__type(value, __u32); /* layout version of the network's tc program */
} endpoints SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VERDICTS);
	__type(key, __u32);
	__type(value, struct tally);
} verdicts SEC(".maps");

static __always_inline int decided(__u64 bytes, __u32 verdict, int action)
{
	struct tally *tally = bpf_map_lookup_elem(&verdicts, &verdict);
	if (tally) {
		tally->packets++;
		tally->bytes += bytes;
	}
	return action;
}

SEC("xdp")
int uplink_xdp(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 bytes = end - data;
	struct ethhdr *eth = data, mac;
	struct wrapped *w = (void *)(eth + 1);

	if ((void *)(w + 1) > end || eth->h_proto != bpf_htons(ETH_P_IP) || w->ip.protocol != IPPROTO_UDP ||
	    w->ip.version != 4 || w->ip.ihl != NO_OPTIONS || w->ip.frag_off & bpf_htons(IP_MF | IP_OFFSET))
		return decided(bytes, XDP_FOREIGN, XDP_PASS);
	struct endpoint to = {.address = w->ip.daddr, .port = w->udp.dest};
	__u32 *version = bpf_map_lookup_elem(&endpoints, &to);
	if (!version)
		return decided(bytes, XDP_FOREIGN, XDP_PASS);
	if (*version != LAYOUT_VERSION || w->udp.check || !lengths_agree(w) || !is_ipv4(&w->inner) ||
	    bytes < ETH_HLEN + bpf_ntohs(w->ip.tot_len))
		return decided(bytes, XDP_LEFT, XDP_PASS);

	struct mark mark = {.magic = MARK_MAGIC, .source = w->ip.saddr, .to = to};
	mac = *eth;
	if (bpf_xdp_adjust_head(ctx, OVERHEAD) < 0)
		return decided(bytes, XDP_NO_MARK, XDP_PASS);
	if (bpf_xdp_adjust_meta(ctx, -(int)sizeof(mark)) < 0) {
		/* Nothing was written yet: back as it was. */
		int back = bpf_xdp_adjust_head(ctx, -(int)OVERHEAD);
		return back < 0 ? decided(bytes, XDP_BROKEN, XDP_DROP) : decided(bytes, XDP_NO_MARK, XDP_PASS);
	}
	data = (void *)(long)ctx->data, end = (void *)(long)ctx->data_end;
	struct mark *room = (void *)(long)ctx->data_meta;
	eth = data;
	if ((void *)(eth + 1) > end || (void *)(room + 1) > data)
		return decided(bytes, XDP_BROKEN, XDP_DROP);
	*eth = mac;
	*room = mark;
	return decided(bytes, XDP_OPENED, XDP_PASS);
}

char _license[] SEC("license") = "Apache-2.0";
