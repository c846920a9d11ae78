/* The packets that are in this process's hands, and the peers it knows, in memory that outlives it.
 *
 * A worker that is killed has read packets which it has not sent yet. Kept in memory that the supervisor holds open,
 * they are found by the next worker, and sent or delivered again: better twice than not at all. Packets stay as they
 * were read until they are out of our hands; what changes in place says so beside it. The table of peers is there so
 * that the next worker needs no older one from a disk for them.
 */
#ifndef FLANNEL_FLIGHT_H
#define FLANNEL_FLIGHT_H

#include <netinet/in.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "inet.h"
#include "peers.h"
#include "segment.h"

enum {
    BATCH = 64,                    /* packets read from the TUN before they are sent */
    SLOT = VNET_HEADER + IP_MOST,  /* the most that one read can bring */
    ARENA = 256 * 1024,            /* bytes read before they are sent: stays in a core's own cache */
    DATAGRAMS = 32,                /* received with one call */
    DATAGRAM = 65536,              /* bytes of one, merged by the kernel (UDP_GRO) */
    UNREAD = 0xee,                 /* marks a slot that no read has filled */
    ROWS = 131072,                 /* a table with more peers is not remembered */
};

struct outbound {
    uint32_t count; /* packets read and not sent yet */
    struct {
        uint32_t at, bytes; /* each begins at a multiple of 64 behind the one before */
        bool prepared; /* TTL and checksum are as they are to be sent */
    } packet[BATCH];
    uint8_t arena[ARENA + SLOT];
};

struct inbound {
    struct mmsghdr message[DATAGRAMS]; /* msg_len is the kernel's; the pointers are made anew by each process */
    struct iovec part[DATAGRAMS];
    struct sockaddr_in from[DATAGRAMS];
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr aligned;
    } control[DATAGRAMS];
    uint8_t data[DATAGRAMS][DATAGRAM];
};

/* Written whole beside the one that counts, which then is the other: a kill leaves one of the two. */
struct remembered {
    _Atomic uint32_t current; /* 1 or 2: which bank holds; 0: none */
    struct bank {
        uint32_t count;
        struct peer_row row[ROWS];
    } bank[2];
};

struct flight {
    uint64_t layout; /* FLIGHT_LAYOUT, else nothing here is of this program */
    struct outbound out;
    struct inbound in;
    struct remembered peers;
};

#define FLIGHT_LAYOUT (UINT64_C(0x666c616e6e656c02) ^ sizeof(struct flight))

/* Maps `fd`, or memory of this process alone for -1. NULL with errno when that fails; anything in it that another
 * program left is forgotten. */
struct flight *flight_map(int fd);

/* Keeps the table for the next worker, or none when it has too many rows for that. */
void flight_remember(struct flight *flight, const struct peer_row *rows, size_t count);
/* The table that was kept; NULL when there is none. */
const struct bank *flight_recall(const struct flight *flight);

#endif
