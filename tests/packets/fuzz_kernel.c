/* The system calls of the path, answered from the fuzzer's bytes. The linker puts them in place of the real ones
 * (--wrap); descriptors that are not ours go to the real ones: the fuzzer itself reads and writes too. What is asked
 * for once, when a path starts, is in fuzz_start.c. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sanitizer/asan_interface.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

ssize_t __real_read(int fd, void *to, size_t bytes);
ssize_t __real_write(int fd, const void *from, size_t bytes);

static uint8_t gathered[IP_MOST + 4096];

/* 0: goes well. Else what went wrong. */
static int next_fault(const int *kinds, size_t count)
{
    if (!world.faults || script.left == 0)
        return 0;
    uint8_t byte = next_byte();
    return byte < count ? kinds[byte] : 0;
}

static size_t gather(const struct iovec *part, size_t parts)
{
    size_t bytes = 0;
    for (size_t i = 0; i < parts; i++) {
        demand(bytes + part[i].iov_len <= sizeof gathered, "no message is longer than a packet can be");
        memcpy(gathered + bytes, part[i].iov_base, part[i].iov_len);
        bytes += part[i].iov_len;
    }
    return bytes;
}

/* Only what was read may be looked at: packet, then the mark of the next place. */
static void fence_read(uint8_t *to, size_t room, size_t bytes)
{
    size_t mark = (bytes + 63) & ~(size_t)63;
    ASAN_POISON_MEMORY_REGION(to + bytes, room - bytes);
    if (mark < room + 64)
        ASAN_UNPOISON_MEMORY_REGION(to + mark, 1);
}

ssize_t __wrap_read(int fd, void *to, size_t room)
{
    static const int faults[] = {0, EINTR, EBADFD, EAGAIN, EINVAL};
    static uint8_t packet[IP_MOST];
    struct virtio_net_hdr offload;
    if (fd == WAKE_FD)
        return 8;
    if (fd != TUN_FD)
        return __real_read(fd, to, room);
    maybe_swap();
    maybe_kill();
    if (script.left == 0 || next_byte() % 4 == 0)
        return fails(EAGAIN);
    int error = next_fault(faults, 5);
    world.taken_out += error == EINVAL; /* the kernel has dropped one whose offload has no name here */
    if (error != 0)
        return fails(error);
    size_t bytes = make_outbound(packet, &offload), header = world.vnet ? VNET_HEADER : 0;
    ASAN_UNPOISON_MEMORY_REGION(to, room);
    memcpy(to, &offload, header);
    memcpy((uint8_t *)to + header, packet, bytes);
    fence_read(to, room, header + bytes);
    bool found_again = bytes >= IP_HEADER && packet[0] >> 4 == 4 && get16(packet + 2) == bytes;
    if (found_again)
        maybe_kill(); /* read, but nobody was told */
    world.taken_out += packets_in(packet, bytes, &offload);
    return (ssize_t)(header + bytes);
}

ssize_t __wrap_write(int fd, const void *from, size_t bytes)
{
    return fd == WAKE_FD ? 8 : __real_write(fd, from, bytes);
}

ssize_t __wrap_writev(int fd, const struct iovec *part, int parts)
{
    static const int faults[] = {0, EIO, EINVAL, EAGAIN, EBADFD};
    struct virtio_net_hdr offload = {0};
    size_t bytes = gather(part, (size_t)parts), header = world.vnet ? VNET_HEADER : 0;
    demand(fd == TUN_FD && bytes >= header, "packets are written to the TUN");
    memcpy(&offload, gathered, header);
    maybe_kill();
    int error = next_fault(faults, 5);
    if (error != 0)
        return fails(error);
    judge_written(&offload, gathered + header, bytes - header);
    maybe_swap();
    return (ssize_t)bytes;
}

static void put_gro(struct msghdr *message, size_t piece)
{
    int size = (int)piece;
    struct cmsghdr *header = CMSG_FIRSTHDR(message);
    header->cmsg_level = IPPROTO_UDP;
    header->cmsg_type = UDP_GRO;
    header->cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(header), &size, sizeof size);
    message->msg_controllen = CMSG_SPACE(sizeof size);
}

static void receive_one(struct mmsghdr *message)
{
    static uint8_t data[DATAGRAM];
    size_t piece = 0, bytes = make_inbound(data, &piece);
    struct iovec *part = message->msg_hdr.msg_iov;
    struct sockaddr_in *from = message->msg_hdr.msg_name;
    *from = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc0a84d00u + next_byte() % 4)};
    ASAN_UNPOISON_MEMORY_REGION(part->iov_base, part->iov_len);
    memcpy(part->iov_base, data, bytes);
    ASAN_POISON_MEMORY_REGION((uint8_t *)part->iov_base + bytes, part->iov_len - bytes);
    message->msg_len = (unsigned)bytes;
    message->msg_hdr.msg_flags = 0;
    if (piece < bytes)
        put_gro(&message->msg_hdr, piece);
    else
        message->msg_hdr.msg_controllen = 0;
    if (world.faults && next_byte() == 3)
        message->msg_hdr.msg_flags = MSG_TRUNC;
    bool one = bytes == 0 || message->msg_hdr.msg_flags != 0;
    world.taken_in += one ? 1 : (bytes + piece - 1) / piece;
}

int __wrap_recvmmsg(int fd, struct mmsghdr *message, unsigned count, int flags, struct timespec *timeout)
{
    static const int faults[] = {0, EINTR, ECONNREFUSED, ENOMEM, EBADF};
    demand(fd == UDP_FD && (flags & MSG_DONTWAIT) && timeout == NULL, "receiving never waits");
    maybe_swap();
    maybe_kill();
    unsigned got = 0;
    int error = next_fault(faults, 5);
    if (error != 0)
        return fails(error);
    while (got < count && script.left > 0 && next_byte() % 4 != 0)
        receive_one(&message[got++]);
    maybe_kill();
    return got > 0 ? (int)got : fails(EAGAIN);
}

/* One message, that goes out whole: every datagram in it is judged. */
static void send_all(const struct msghdr *message)
{
    const struct sockaddr_in *to = message->msg_name;
    size_t bytes = gather(message->msg_iov, message->msg_iovlen), piece = bytes;
    if (message->msg_controllen > 0) {
        uint16_t size;
        struct cmsghdr *header = CMSG_FIRSTHDR(message);
        demand(header->cmsg_type == UDP_SEGMENT && header->cmsg_len == CMSG_LEN(sizeof size), "only UDP_SEGMENT is used");
        memcpy(&size, CMSG_DATA(header), sizeof size);
        piece = size;
        demand(piece > 0 && bytes > piece && bytes <= piece * 64 && bytes <= 65507, "a train is what the kernel takes");
    }
    demand(to->sin_family == AF_INET && to->sin_port == htons(FUZZ_PORT), "peers are at our port");
    for (size_t at = 0; at < bytes; at += piece)
        judge_sent(gathered + at, bytes - at < piece ? bytes - at : piece);
}

static int send_fault(void)
{
    static const int faults[] = {0, EMSGSIZE, EINVAL, EIO, ENOBUFS, EAGAIN, ECONNREFUSED, EINTR, ENETUNREACH, EPERM};
    return next_fault(faults, 10);
}

int __wrap_sendmmsg(int fd, struct mmsghdr *message, unsigned count, int flags)
{
    demand(fd == UDP_FD && (flags & MSG_DONTWAIT) && count > 0, "sending never waits");
    unsigned sent = 0;
    for (; sent < count; sent++) {
        maybe_kill();
        int error = send_fault();
        if (error != 0 && sent == 0)
            return fails(error);
        if (error != 0)
            break;
        send_all(&message[sent].msg_hdr);
    }
    maybe_swap();
    return (int)sent;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *message, int flags)
{
    demand(fd == UDP_FD && (flags & MSG_DONTWAIT), "sending never waits");
    maybe_kill();
    int error = send_fault();
    if (error != 0)
        return fails(error);
    send_all(message);
    return 1;
}

int __wrap_poll(struct pollfd *each, nfds_t count, int timeout)
{
    maybe_swap();
    maybe_kill();
    for (nfds_t i = 0; i < count; i++)
        each[i].revents = each[i].events;
    if (timeout >= 0)
        return world.faults && next_byte() % 4 == 0 ? 0 : (int)count;
    if (script.left == 0)
        atomic_store(&world.path->stopping, true);
    return (int)count;
}
