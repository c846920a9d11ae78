/* What the programs and the worker share: maps, their keys and values, verdicts. Python has the same sizes in
 * flannel_worker/datapath/bpflayout.py and compares them with the maps' when it loads the object.
 *
 * Addresses and ports are in network order, as they are in packets.
 */
#ifndef FLANNEL_BPF_LAYOUT_H
#define FLANNEL_BPF_LAYOUT_H

#include <linux/types.h>

/* Goes up when the meaning of a value changes though its size does not: maps of another version are not taken over. */
#define LAYOUT_VERSION 1

#define MAX_PEERS 65536 /* subnets a network can be cut into: far above what one network holds (spec: 10,000 leases) */
#define MAX_PORTS 1024  /* networks on one uplink */

struct config {
	__u32 version;
	__u32 local; /* our address on the uplink */
	__u32 tun;   /* interface indexes */
	__u32 uplink;
	__u32 merger;      /* the veth end by which opened TCP packets go through GRO; 0: none, straight to the TUN */
	__u32 made_clsact; /* for the worker alone: the uplink had no clsact before it */
	__u16 port;        /* one port for all hosts, source and destination */
	__u8 verify_source;
	__u8 mac; /* bytes of MAC header before a packet that leaves: a TUN's has none, the self-test's has */
};

/* The key of an LPM trie: how many bits of the address count, then the address (linux/bpf.h: bpf_lpm_trie_key). */
struct peer_key {
	__u32 length;
	__u32 base;
};

struct peer {
	__u32 address;
	__u32 fast; /* it runs this path too; packets to any other go through user space, whole and with checksums */
	struct peer_key subnet;
};

/* Per peer, of inner packets as they are on the wire. */
struct traffic {
	__u64 sent_packets, sent_bytes;
	__u64 received_packets, received_bytes;
};

struct tally {
	__u64 packets, bytes;
};

/* Whose datagrams the XDP program opens. One program serves every network of the uplink, since a device has one. */
struct endpoint {
	__u32 address;
	__u16 port;
	__u16 zero;
};

/* What the XDP program writes before a packet that it has opened; the kernel's GRO merges only packets whose marks are
 * equal, so one merged packet never has two senders. */
struct mark {
	__u32 magic;
	__u32 source; /* outer source address */
	struct endpoint to;
};
#define MARK_MAGIC 0x666c6e31 /* "fln1" */

#endif
