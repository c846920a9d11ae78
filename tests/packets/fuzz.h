/* The whole user path on a kernel of our own making: what the fuzzer's bytes decide, and what must hold whatever they
 * decide. fuzz.c: the target. fuzz_kernel.c, fuzz_start.c: the system calls. fuzz_packets.c: packets made and judged.
 */
#ifndef FLANNEL_FUZZ_H
#define FLANNEL_FUZZ_H

#include <errno.h>
#include <setjmp.h>

#include "path.h"

enum { TUN_FD = 10001, UDP_FD, WAKE_FD, FLIGHT_FD, CONTROL_FD };
enum { FUZZ_PORT = 8285, FUZZ_MTU = 1472 };

/* What the fuzzer's input has still to say; zeros when it has nothing more. */
struct script {
    const uint8_t *at;
    size_t left;
};
extern struct script script;
uint8_t next_byte(void);
uint32_t next_below(uint32_t limit);

/* One run of the input: up to a few lives of the path, one after the other killed, the last one stopped. */
struct world {
    struct path *path;
    void *(*thread)(void *);
    struct flight *flight;
    bool vnet, faults, kills; /* faults: system calls may fail; without, nothing may get lost */
    bool damages, damaged;    /* a killed life leaves nonsense in its flight memory */
    unsigned lives, refusals; /* refusals: so many threads more cannot be had in this life */
    jmp_buf killed;
    uint64_t taken_out, taken_in; /* packets that this life read and received */
    uint32_t serials_out, serials_in;
    uint8_t seen_out[1 << 16], seen_in[1 << 16]; /* by serial: 1 expected, 2 sent or delivered */
};
extern struct world world;

void demand(bool truth, const char *what); /* aborts, saying what, when it is no truth */
static inline int fails(int error)
{
    errno = error;
    return -1;
}

void start_life(void);
void maybe_swap(void);
void maybe_kill(void);

/* Fill `to` with a packet from the TUN (and its offload), or with a datagram of several pieces of `piece` bytes. */
size_t make_outbound(uint8_t *to, struct virtio_net_hdr *offload);
size_t make_inbound(uint8_t *to, size_t *piece);

/* How many packets on the wire stand for what the TUN gave. */
uint64_t packets_in(const uint8_t *packet, size_t bytes, const struct virtio_net_hdr *offload);

void judge_sent(const uint8_t *packet, size_t bytes);
void judge_written(const struct virtio_net_hdr *offload, uint8_t *packet, size_t bytes);

#endif
