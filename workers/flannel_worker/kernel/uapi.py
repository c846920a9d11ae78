"""Numbers of the kernel's headers (include/uapi/linux: netlink, rtnetlink, if_link, neighbour, nexthop, if_tun).

They are fixed for good by the kernel's promise to user space. Only those in use stand here.
"""

from __future__ import annotations

from typing import Final

# netlink.h
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLM_F_REQUEST: Final = 0x1
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_DUMP: Final = 0x300
NLM_F_CREATE: Final = 0x400
NLM_F_CAPPED: Final = 0x100  # in an error reply: the request is not quoted
NLM_F_ACK_TLVS: Final = 0x200  # in an error reply: attributes follow
NLMSGERR_ATTR_MSG: Final = 1
NLA_TYPE_MASK: Final = 0x3FFF

SOL_NETLINK: Final = 270
NETLINK_ADD_MEMBERSHIP: Final = 1
NETLINK_CAP_ACK: Final = 10
NETLINK_EXT_ACK: Final = 11
NETLINK_GET_STRICT_CHK: Final = 12
SO_SNDBUFFORCE: Final = 32
SO_MEMINFO: Final = 55
SK_MEMINFO_DROPS: Final = 8  # sock_diag.h: the ninth of nine numbers of 32 bits
SO_RCVBUFFORCE: Final = 33
SO_ATTACH_FILTER: Final = 26

# rtnetlink.h: messages and groups
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26
RTM_NEWNEIGH: Final = 28
RTM_DELNEIGH: Final = 29
RTM_GETNEIGH: Final = 30
RTM_NEWNEXTHOP: Final = 104
RTM_DELNEXTHOP: Final = 105
RTM_GETNEXTHOP: Final = 106

RTNLGRP_LINK: Final = 1
RTNLGRP_NEIGH: Final = 3
RTNLGRP_IPV4_IFADDR: Final = 5
RTNLGRP_IPV4_ROUTE: Final = 7
RTNLGRP_NEXTHOP: Final = 32

AF_INET: Final = 2
AF_BRIDGE: Final = 7
AF_INET6: Final = 10

# routes
RT_TABLE_MAIN: Final = 254
RT_SCOPE_UNIVERSE: Final = 0
RT_SCOPE_NOWHERE: Final = 255
RTN_UNICAST: Final = 1
RTN_BLACKHOLE: Final = 6
RTN_UNREACHABLE: Final = 7
RTN_PROHIBIT: Final = 8
RTN_THROW: Final = 9
RTPROT_KERNEL: Final = 2
RTPROT_BOOT: Final = 3
RTNH_F_ONLINK: Final = 4
RTM_F_CLONED: Final = 0x200
RTA_DST: Final = 1
RTA_OIF: Final = 4
RTA_GATEWAY: Final = 5
RTA_PRIORITY: Final = 6
RTA_PREFSRC: Final = 7
RTA_TABLE: Final = 15
RTA_VIA: Final = 18
RTA_NH_ID: Final = 30

# nexthop.h
NHA_ID: Final = 1
NHA_OIF: Final = 5
NHA_GATEWAY: Final = 6

# neighbour.h
NDA_DST: Final = 1
NDA_LLADDR: Final = 2
NDA_CACHEINFO: Final = 3
NDA_PROBES: Final = 4
NDA_PORT: Final = 6
NDA_VNI: Final = 7
NDA_IFINDEX: Final = 8
NDA_SRC_VNI: Final = 11
NDA_NH_ID: Final = 13
NTF_SELF: Final = 2
NUD_NOARP: Final = 0x40
NUD_PERMANENT: Final = 0x80

# if_addr.h
IFA_ADDRESS: Final = 1
IFA_LOCAL: Final = 2
IFA_LABEL: Final = 3
IFA_F_DEPRECATED: Final = 0x20

# if.h, if_link.h
IFF_UP: Final = 1
IFLA_ADDRESS: Final = 1
IFLA_IFNAME: Final = 3
IFLA_MTU: Final = 4
IFLA_TXQLEN: Final = 13
IFLA_LINKINFO: Final = 18
IFLA_IFALIAS: Final = 20
IFLA_AF_SPEC: Final = 26
IFLA_EXT_MASK: Final = 29
RTEXT_FILTER_SKIP_STATS: Final = 8
IFLA_INET6_ADDR_GEN_MODE: Final = 8
IN6_ADDR_GEN_MODE_NONE: Final = 1
IFLA_INFO_KIND: Final = 1
IFLA_INFO_DATA: Final = 2
IFLA_VXLAN_ID: Final = 1
IFLA_VXLAN_GROUP: Final = 2
IFLA_VXLAN_LINK: Final = 3  # 2 is GROUP: mistaken for this one, it silently makes a default entry
IFLA_VXLAN_LOCAL: Final = 4
IFLA_VXLAN_LEARNING: Final = 7
IFLA_VXLAN_L2MISS: Final = 13
IFLA_VXLAN_PORT: Final = 15
IFLA_VXLAN_GROUP6: Final = 16
IFLA_VXLAN_LOCAL6: Final = 17
IFLA_VXLAN_GBP: Final = 23
IFLA_VXLAN_COLLECT_METADATA: Final = 25

# if_tun.h
TUNSETIFF: Final = 0x400454CA
TUNSETPERSIST: Final = 0x400454CB
TUNGETIFF: Final = 0x800454D2
IFF_TUN: Final = 0x1
IFF_MULTI_QUEUE: Final = 0x100
IFF_NO_PI: Final = 0x1000
IFF_VNET_HDR: Final = 0x4000
IFF_TUN_EXCL: Final = 0x8000  # make a device, never attach to one
