/* Small packets and round trips for `make bench-udp`.
 *
 *     flood receive ADDRESS PORT SECONDS   "ready"; then counts for SECONDS: "received PACKETS"
 *     flood send ADDRESS PORT SECONDS      sends as fast as one send(2) for each packet goes: "sent PACKETS FAILED"
 *     flood echo ADDRESS PORT              "ready"; sends everything back, until killed
 *     flood ping ADDRESS PORT SECONDS      one packet at a time: "ping ANSWERED LOST P50 P99", in microseconds
 *
 * All packets are 64 bytes at the IP layer of the overlay: 20 IP, 8 UDP, 36 of payload.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define PAYLOAD 36
#define BATCH 64
#define SOCKET_BUFFER (16 << 20)
#define FIRST_S 5.0    /* the receiver gives up when nothing comes for so long */
#define RAMP_S 0.1     /* of the flood's beginning is not counted: queues fill */
#define ANSWER_S 0.2   /* a ping without an answer for so long is lost */
#define PINGS 1000000L /* more do not fit into the seconds we ask for */

static _Noreturn void fail(const char *what)
{
	perror(what);
	exit(1);
}

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void wait_at_most(int sock, double seconds)
{
	struct timeval wait = {.tv_sec = (time_t)seconds, .tv_usec = (suseconds_t)((seconds - (time_t)seconds) * 1e6)};

	if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0)
		fail("SO_RCVTIMEO");
}

static int open_socket(const char *text, const char *port, int (*join)(int, const struct sockaddr *, socklen_t))
{
	struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
	int sock = socket(AF_INET, SOCK_DGRAM, 0), size = SOCKET_BUFFER;

	if (inet_pton(AF_INET, text, &there.sin_addr) != 1)
		fail(text);
	if (sock < 0 || join(sock, (const struct sockaddr *)&there, sizeof(there)) < 0)
		fail("socket");
	if (setsockopt(sock, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) < 0)
		fail("SO_RCVBUFFORCE");
	return sock;
}

static void say_ready(void)
{
	puts("ready");
	fflush(stdout);
}

/* Packets that wait now, up to BATCH: one recvmmsg for many, for the receiver is not what is measured. */
static long take(int sock)
{
	static char data[BATCH][PAYLOAD];
	struct iovec parts[BATCH];
	struct mmsghdr heads[BATCH];
	int count;

	memset(heads, 0, sizeof(heads));
	for (int i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){data[i], PAYLOAD};
		heads[i].msg_hdr.msg_iov = &parts[i];
		heads[i].msg_hdr.msg_iovlen = 1;
	}
	count = recvmmsg(sock, heads, BATCH, MSG_WAITFORONE, NULL);
	if (count < 0 && errno != EAGAIN && errno != EINTR)
		fail("recvmmsg");
	return count > 0 ? count : 0;
}

static void receive(int sock, double seconds)
{
	double begin_s;
	long count = 0;

	wait_at_most(sock, FIRST_S);
	say_ready();
	if (!take(sock)) {
		fprintf(stderr, "no packet within %.0f s\n", FIRST_S);
		exit(1);
	}
	wait_at_most(sock, RAMP_S);
	begin_s = now_s() + RAMP_S;
	while (now_s() < begin_s)
		take(sock);
	while (now_s() < begin_s + seconds)
		count += take(sock);
	printf("received %ld\n", count);
}

static void send_flood(int sock, double seconds)
{
	char data[PAYLOAD] = {0};
	double end_s = now_s() + seconds;
	long sent = 0, failed = 0;

	/* A look at the clock for every 64 packets only. A full queue (ENOBUFS) is a packet that is not sent. */
	while (now_s() < end_s)
		for (int i = 0; i < BATCH; i++)
			send(sock, data, sizeof(data), 0) == PAYLOAD ? sent++ : failed++;
	printf("sent %ld %ld\n", sent, failed);
}

static _Noreturn void echo(int sock)
{
	char data[PAYLOAD];
	struct sockaddr_in from;

	say_ready();
	for (;;) {
		socklen_t length = sizeof(from);
		ssize_t size = recvfrom(sock, data, sizeof(data), 0, (struct sockaddr *)&from, &length);

		if (size > 0)
			sendto(sock, data, (size_t)size, 0, (struct sockaddr *)&from, length);
	}
}

/* True when the answer to this very ping came; late answers to others are passed over. */
static int answered(int sock, long number)
{
	char data[PAYLOAD] = {0};
	long got;

	memcpy(data, &number, sizeof(number));
	if (send(sock, data, sizeof(data), 0) != PAYLOAD)
		return 0;
	do {
		if (recv(sock, data, sizeof(data), 0) != PAYLOAD)
			return 0;
		memcpy(&got, data, sizeof(got));
	} while (got != number);
	return 1;
}

static int by_size(const void *one, const void *other)
{
	double a = *(const double *)one, b = *(const double *)other;

	return (a > b) - (a < b);
}

static void ping(int sock, double seconds)
{
	double *took_us = malloc(PINGS * sizeof(*took_us)), end_s = now_s() + seconds, sent_s;
	long count = 0, lost = 0;

	if (!took_us)
		fail("malloc");
	wait_at_most(sock, ANSWER_S);
	for (long number = 1; count < PINGS && (sent_s = now_s()) < end_s; number++)
		if (answered(sock, number))
			took_us[count++] = (now_s() - sent_s) * 1e6;
		else
			lost++;
	if (!count) {
		fprintf(stderr, "none of %ld pings was answered\n", lost);
		exit(1);
	}
	qsort(took_us, (size_t)count, sizeof(*took_us), by_size);
	printf("ping %ld %ld %.1f %.1f\n", count, lost, took_us[count / 2], took_us[count * 99 / 100]);
	free(took_us);
}

int main(int argc, char **argv)
{
	double seconds = argc > 4 ? atof(argv[4]) : 0.0;

	if (argc == 4 && !strcmp(argv[1], "echo"))
		echo(open_socket(argv[2], argv[3], bind));
	else if (argc == 5 && !strcmp(argv[1], "receive"))
		receive(open_socket(argv[2], argv[3], bind), seconds);
	else if (argc == 5 && !strcmp(argv[1], "send"))
		send_flood(open_socket(argv[2], argv[3], connect), seconds);
	else if (argc == 5 && !strcmp(argv[1], "ping"))
		ping(open_socket(argv[2], argv[3], connect), seconds);
	else
		return fprintf(stderr, "usage: %s receive|send|echo|ping ADDRESS PORT [SECONDS]\n", argv[0]), 2;
	return 0;
}
