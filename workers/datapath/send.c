/* The sender: datagrams become trains, trains leave with one sendmmsg, and no error of the socket ends anything. */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>

#include "path.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif

enum { SINGLE_PACKETS = 4096 }; /* to a peer that takes no train, before the next train is tried */
enum { UPLINK_WAIT_MS = 100 }; /* a queue that takes nothing for so long is not full but broken */

typedef union {
    char bytes[CMSG_SPACE(sizeof(uint16_t))];
    struct cmsghdr aligned;
} segment_control;

static enum verdict fault_of(int error)
{
    switch (error) {
    case EMSGSIZE:
        return OUT_TOO_BIG;
    case ECONNREFUSED:
        return OUT_REFUSED;
    case ENOBUFS:
    case ENOMEM:
    case EAGAIN:
        return OUT_NO_BUFFERS;
    default:
        return OUT_FAILED;
    }
}

uint8_t *send_header(struct path *path)
{
    if (path->sender.headers == HEADERS)
        send_waiting(path);
    return path->sender.header[path->sender.headers++];
}

static bool fits(const struct train *train, struct peer *peer, size_t bytes)
{
    return train->peer == peer && !train->closed && train->packets < TRAIN_PACKETS && bytes <= train->size &&
           train->bytes + bytes <= TRAIN_BYTES;
}

static struct train *train_for(struct path *path, struct peer *peer, size_t bytes)
{
    struct sender *sender = &path->sender;
    struct train *last = sender->trains > 0 ? &sender->train[sender->trains - 1] : NULL;
    if (last != NULL && fits(last, peer, bytes))
        return last;
    struct train *train = &sender->train[sender->trains++];
    *train = (struct train){.peer = peer, .part = sender->parts, .size = bytes};
    return train;
}

/* A header that the caller got for this packet is kept: only complete trains leave before it is in one. */
void send_packet(struct path *path, struct peer *peer, const struct iovec *part, unsigned parts, size_t bytes)
{
    struct sender *sender = &path->sender;
    struct train *train = train_for(path, peer, bytes);
    for (unsigned i = 0; i < parts; i++)
        sender->part[sender->parts++] = part[i];
    train->parts += parts;
    train->packets++;
    train->bytes += bytes;
    train->closed = bytes < train->size || peer->single > 0 ||
                    !atomic_load_explicit(&path->segment, memory_order_relaxed);
    if (peer->single > 0)
        peer->single--;
    if (sender->trains == TRAINS || sender->parts + 2 > PARTS)
        send_waiting(path);
}

static void sent(struct path *path, const struct train *train, unsigned packets, size_t bytes)
{
    path->sender.stuck = false;
    tell(path, OUT_SENT, packets);
    tell(path, OUT_BYTES, bytes);
    add(&train->peer->sent, packets);
    add(&train->peer->sent_bytes, bytes);
}

static struct sockaddr_in address_of(const struct path *path, const struct train *train)
{
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons(path->port),
        .sin_addr.s_addr = htonl(train->peer->row.address),
    };
}

/* Once waited for in vain it is not waited for again until it has taken something: what comes in has to go on. */
static bool wait_for_uplink(struct path *path)
{
    struct pollfd uplink = {.fd = path->udp, .events = POLLOUT};
    if (path->sender.stuck)
        return false;
    tell(path, SEND_WAITS, 1);
    path->sender.stuck = poll(&uplink, 1, UPLINK_WAIT_MS) <= 0 || !(uplink.revents & POLLOUT);
    return !path->sender.stuck;
}

/* One datagram. Returns 0 or an errno. */
static int send_one(struct path *path, struct sockaddr_in *to, struct iovec *part, unsigned parts)
{
    struct msghdr message = {.msg_name = to, .msg_namelen = sizeof *to, .msg_iov = part, .msg_iovlen = parts};
    for (;;) {
        if (sendmsg(path->udp, &message, MSG_DONTWAIT) >= 0)
            return 0;
        if (errno == EINTR || (errno == EAGAIN && wait_for_uplink(path)))
            continue;
        return errno;
    }
}

/* A train that the kernel does not take whole, packet by packet. Returns how many left. */
static unsigned send_singly(struct path *path, const struct train *train)
{
    struct iovec *part = path->sender.part + train->part;
    unsigned each = train->parts / train->packets, left = 0;
    bool mixed = each * train->packets != train->parts; /* segments in two parts and whole packets in one train */
    struct sockaddr_in to = address_of(path, train);
    size_t rest = train->bytes;
    while (rest > 0) {
        size_t bytes = 0, want = rest < train->size ? rest : train->size;
        unsigned parts = 0;
        while (mixed ? bytes < want : parts < each)
            bytes += part[parts++].iov_len;
        int error = send_one(path, &to, part, parts);
        if (error == 0) {
            sent(path, train, 1, bytes);
            left++;
        } else {
            tell(path, fault_of(error), 1);
        }
        tell(path, SENDS, 1);
        part += parts;
        rest -= bytes;
    }
    return left;
}

/* What to do about the first waiting train that the kernel did not take. True: it is done with. */
static bool settle(struct path *path, const struct train *train, int error)
{
    if (error == EINTR || (error == EAGAIN && wait_for_uplink(path)))
        return false;
    bool never = error == EIO || error == EOPNOTSUPP || error == ENOPROTOOPT;
    if (train->packets > 1 && (never || error == EINVAL || error == EMSGSIZE)) {
        unsigned passed = send_singly(path, train);
        if (never && passed > 0)
            atomic_store(&path->segment, false);
        else if (passed > 0)
            train->peer->single = SINGLE_PACKETS; /* its path carries less: the kernel fragments, but no train */
        return true;
    }
    tell(path, fault_of(error), train->packets);
    return true;
}

static void address_train(struct path *path, const struct train *train, struct msghdr *message, struct sockaddr_in *to,
                          segment_control *control)
{
    *to = address_of(path, train);
    *message = (struct msghdr){
        .msg_name = to,
        .msg_namelen = sizeof *to,
        .msg_iov = path->sender.part + train->part,
        .msg_iovlen = train->parts,
    };
    if (train->packets == 1)
        return;
    uint16_t size = (uint16_t)train->size;
    message->msg_control = control->bytes;
    message->msg_controllen = sizeof control->bytes;
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    header->cmsg_level = IPPROTO_UDP;
    header->cmsg_type = UDP_SEGMENT;
    header->cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(header), &size, sizeof size);
}

void send_waiting(struct path *path)
{
    struct sender *sender = &path->sender;
    struct mmsghdr message[TRAINS];
    struct sockaddr_in to[TRAINS];
    segment_control control[TRAINS];
    for (unsigned i = 0; i < sender->trains; i++)
        address_train(path, &sender->train[i], &message[i].msg_hdr, &to[i], &control[i]);
    unsigned at = 0;
    while (at < sender->trains) {
        int count = sendmmsg(path->udp, message + at, sender->trains - at, MSG_DONTWAIT);
        tell(path, SENDS, 1);
        if (count <= 0) {
            at += settle(path, &sender->train[at], errno);
            continue;
        }
        for (; count > 0; count--, at++) {
            sent(path, &sender->train[at], sender->train[at].packets, sender->train[at].bytes);
            tell_batch(path, BATCH_SENT, sender->train[at].packets);
        }
    }
    sender->trains = sender->parts = sender->headers = 0;
}
