/* The yardstick of `make bench-udp`: an overlay as simple as one can write it, one packet for each system call.
 *
 * One read from the TUN, one sendto the only peer; one recvfrom, one write. The TTL goes down by one each way, as
 * flannel's own proxy does it. Like that proxy it does not poll as long as one of the two still has something, and
 * leaves the socket's buffers at the kernel's default. That is no detail: with a receive buffer of 4 MiB, which is what
 * BUFFER is for, the same loop carries 1.5 to 3 times as much TCP, for it loses less.
 *
 *     plain DEVICE LOCAL PEER PORT [BUFFER]     makes the TUN, writes "ready", runs until killed; BUFFER in bytes
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define LARGEST 65536

static _Noreturn void fail(const char *what)
{
	perror(what);
	exit(1);
}

static int open_tun(const char *name)
{
	struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
	int tun = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

	if (tun < 0)
		fail("/dev/net/tun");
	if (strlen(name) >= sizeof(request.ifr_name)) {
		errno = ENAMETOOLONG;
		fail(name);
	}
	strcpy(request.ifr_name, name);
	if (ioctl(tun, TUNSETIFF, &request) < 0)
		fail(name);
	return tun;
}

static struct sockaddr_in address(const char *text, const char *port)
{
	struct sockaddr_in found = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

	if (inet_pton(AF_INET, text, &found.sin_addr) != 1) {
		errno = EINVAL;
		fail(text);
	}
	return found;
}

static int open_socket(const struct sockaddr_in *local, int size)
{
	int sock = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	if (sock < 0 || bind(sock, (const struct sockaddr *)local, sizeof(*local)) < 0)
		fail("bind");
	if (size && setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		fail("SO_RCVBUFFORCE");
	return sock;
}

/* True when the packet may go on: IPv4, and its TTL is not used up. */
static int one_hop(unsigned char *packet, ssize_t size)
{
	struct iphdr *ip = (struct iphdr *)packet;
	uint32_t check;

	if (size < (ssize_t)sizeof(*ip) || ip->version != 4 || ip->ttl <= 1)
		return 0;
	ip->ttl--;
	check = (uint32_t)ip->check + htons(0x0100); /* RFC 1624 */
	ip->check = (uint16_t)(check + (check >> 16));
	return 1;
}

/* Both return whether there was a packet. One that cannot be delivered is lost, as on any network. */
static int tun_to_udp(int tun, int sock, unsigned char *packet, const struct sockaddr_in *peer)
{
	ssize_t size = read(tun, packet, LARGEST);

	if (size < 0 && errno != EAGAIN && errno != EINTR)
		fail("read");
	if (size > 0 && one_hop(packet, size))
		sendto(sock, packet, (size_t)size, 0, (const struct sockaddr *)peer, sizeof(*peer));
	return size > 0;
}

static int udp_to_tun(int tun, int sock, unsigned char *packet)
{
	ssize_t size = recvfrom(sock, packet, LARGEST, 0, NULL, NULL);

	if (size > 0 && one_hop(packet, size) && write(tun, packet, (size_t)size) < 0 && errno == EBADFD)
		fail("write");
	return size > 0;
}

int main(int argc, char **argv)
{
	static unsigned char packet[LARGEST] __attribute__((aligned(4)));
	struct sockaddr_in local, peer;
	struct pollfd ready[2] = {{.events = POLLIN}, {.events = POLLIN}};

	if (argc != 5 && argc != 6) {
		fprintf(stderr, "usage: %s DEVICE LOCAL PEER PORT [BUFFER]\n", argv[0]);
		return 2;
	}
	local = address(argv[2], argv[4]);
	peer = address(argv[3], argv[4]);
	ready[0].fd = open_tun(argv[1]);
	ready[1].fd = open_socket(&local, argc == 6 ? atoi(argv[5]) : 0);
	puts("ready");
	fflush(stdout);
	while (poll(ready, 2, -1) > 0 || errno == EINTR)
		while (tun_to_udp(ready[0].fd, ready[1].fd, packet, &peer) | udp_to_tun(ready[0].fd, ready[1].fd, packet))
			;
	fail("poll");
}
