/* COUNT datagrams of nothing in particular to ADDRESS, port 8285, as fast as one call for each can send them.
 *
 *     noise ADDRESS COUNT SEED [bare]      (bare: without UDP checksums)
 */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MOST = 1472, KINDS = 6 };

static uint64_t state;

static uint64_t next(void) /* xorshift64*: fast, and the same for the same seed */
{
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * UINT64_C(0x2545f4914f6cdd1d);
}

/* One datagram of any kind; the header of an IPv4 packet is right but for what the kind says. */
static size_t make(uint8_t *to)
{
    size_t bytes = next() % (MOST + 1), claimed = bytes;
    unsigned kind = next() % KINDS;
    for (size_t i = 0; i < bytes && i < 64; i++)
        to[i] = (uint8_t)(next() >> 32);
    if (kind == 0 || bytes < 20)
        return bytes; /* all of it random */
    to[0] = 0x45;
    if (kind == 1)
        bytes = next() % 20; /* a header cut short */
    else if (kind == 2)
        claimed = next() & 0xffff;
    else if (kind == 3)
        to[0] = (uint8_t)(0x60 | (to[0] & 0x0f));
    else if (kind == 4)
        to[0] = (uint8_t)(0x40 | next() % 16);
    if (kind == 5)
        to[8] = (uint8_t)(next() % 4); /* TTL */
    to[2] = (uint8_t)(claimed >> 8);
    to[3] = (uint8_t)claimed;
    return bytes;
}

int main(int words, char **word)
{
    static uint8_t datagram[MOST];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(8285)};
    if (words < 4 || inet_aton(word[1], &to.sin_addr) == 0)
        return 2;
    long left = atol(word[2]);
    state = strtoull(word[3], NULL, 10) | 1;
    int udp = socket(AF_INET, SOCK_DGRAM, 0), bare = words > 4;
    if (udp < 0 || setsockopt(udp, SOL_SOCKET, SO_NO_CHECK, &bare, sizeof bare) < 0 || connect(udp, (struct sockaddr *)&to, sizeof to) < 0) {
        perror("noise");
        return 1;
    }
    while (left > 0)
        left -= send(udp, datagram, make(datagram), 0) >= 0;
    return 0;
}
