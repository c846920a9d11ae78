/* The fuzzer's target: one input is a whole story of the user path, told by fuzz.h's parts.
 *
 * The first byte says what may happen. Packets come and go, tables are swapped, system calls fail, a thread cannot be
 * had, the process is killed at any system call and begins anew with what it had in flight. Held to:
 *   - what went in is the sum of all verdicts, whenever a life ends by itself;
 *   - only IPv4 packets go out, right in every byte if they were right when they came in (fuzz_packets.c);
 *   - without faults every packet that was read or received comes out, killed or not.
 */
#define _GNU_SOURCE
#include "fuzz.h"

#include <sanitizer/asan_interface.h>
#include <stdio.h>
#include <stdlib.h>

enum { LIVES = 4 };

struct script script;
struct world world;

void demand(bool truth, const char *what)
{
    if (truth)
        return;
    fprintf(stderr, "does not hold: %s\n", what);
    abort();
}

uint8_t next_byte(void)
{
    if (script.left == 0)
        return 0;
    script.left--;
    return *script.at++;
}

uint32_t next_below(uint32_t limit)
{
    uint32_t number = (uint32_t)next_byte() << 8;
    return limit == 0 ? 0 : (number | next_byte()) % limit;
}

static const struct peer_row usual[] = {
    {0x0a4d0200, 24, 0xc0a84d02}, {0x0a4d0300, 24, 0xc0a84d03}, {0x0a4d0000, 16, 0xc0a84d01}, {0, 0, 0xc0a84d00}};

/* A new table, as the worker gives it at any time. Without faults every packet keeps its route. */
static void swap(uint8_t what)
{
    struct peer_row rows[8];
    if (!world.faults || what % 4 == 0) {
        path_replace(world.path, usual + what % 2, 4 - what % 2);
        return;
    }
    size_t count = what / 4 % 8;
    for (size_t i = 0; i < count; i++)
        rows[i] = (struct peer_row){0x0a4d0000u | (uint32_t)next_byte() << 8, next_byte() % 34, 0xc0a84d00u + next_byte() % 4};
    path_replace(world.path, rows, count);
}

void maybe_swap(void)
{
    if (script.left > 0 && next_byte() == 1)
        swap(next_byte());
}

void maybe_kill(void)
{
    if (world.kills && script.left > 0 && world.lives < LIVES && next_byte() == 2)
        longjmp(world.killed, 1);
}

/* As a worker gives it, until it is taken: only a table that starts the thread is. */
static void give_first_table(void)
{
    demand(world.path->resumed == (world.thread != NULL), "an old table is taken up by a thread, or not at all");
    while (world.thread == NULL && world.refusals > 0)
        demand(!path_replace(world.path, usual, 4) && errno == EAGAIN, "a thread that cannot be had is told of");
    demand(path_replace(world.path, usual, 4), "the first table is taken");
    demand(world.thread != NULL, "the first table that is taken starts the thread");
}

void start_life(void)
{
    static const struct path_options plain = {TUN_FD, UDP_FD, FLIGHT_FD, 0x0a4d0100, FUZZ_PORT, false, false};
    struct path_options options = plain;
    uint8_t bits = next_byte();
    options.offload = !(bits & 1);
    options.verify_source = world.faults && bits & 2;
    world.path = NULL;
    world.thread = NULL;
    world.refusals = world.faults ? bits >> 2 & 3 : 0;
    bool hopeless = world.refusals == 3;
    world.taken_out = world.taken_in = 0;
    world.lives++;
    world.path = path_start(&options);
    demand(world.path != NULL, "the path starts");
    if (hopeless) { /* the worker does not try again with this one */
        path_stop(world.path);
        world.path = path_start(&options);
        demand(world.path != NULL, "the path starts after one that never ran");
    }
    give_first_table();
}

static uint64_t sum_of(unsigned first, unsigned last)
{
    uint64_t sum = 0;
    for (unsigned i = first; i <= last; i++)
        sum += value_of(&world.path->count[i]);
    return sum;
}

static void judge_life(void)
{
    uint64_t out = sum_of(OUT_SENT, OUT_FAILED), in = sum_of(IN_DELIVERED, IN_REFUSED);
    if (value_of(&world.path->count[REPLAYED]) == 0) {
        demand(out == world.taken_out, "what the TUN gave is the sum of the verdicts");
        demand(in == world.taken_in, "what the socket gave is the sum of the verdicts");
    }
    demand(out >= world.taken_out && in >= world.taken_in, "every packet has a verdict");
    demand(world.flight->out.count == 0, "an end in order leaves no packet of the TUN in hand");
    for (unsigned i = 0; i < DATAGRAMS; i++)
        demand(world.flight->in.message[i].msg_len == 0, "an end in order leaves no datagram in hand");
}

static void judge_story(void)
{
    if (world.faults)
        return;
    for (uint32_t i = 1; i <= world.serials_out; i++)
        demand(world.seen_out[i] != 1, "what the TUN gave is sent");
    for (uint32_t i = 1; i <= world.serials_in; i++)
        demand(world.seen_in[i] != 1, "what the socket gave is delivered");
}

/* What a process can do to memory that it shared with nobody until it died. */
static void damage(struct flight *flight)
{
    for (unsigned times = world.damages ? next_byte() % 8 : 0; times > 0; times--) {
        uint8_t what = next_byte();
        struct bank *bank = &flight->peers.bank[what / 8 % 2];
        uint32_t value = next_byte() & 1 ? next_below(1 << 16) * 5 : UINT32_MAX - next_byte();
        world.damaged = true;
        if (what == 0)
            flight->peers.current = value;
        else if (what < 8)
            bank->count = value;
        else if (what < 16)
            bank->row[what % 4].length = value % 64;
        else if (what % 8 == 0)
            flight->out.count = value % 80;
        else if (what % 8 == 1)
            flight->out.packet[what / 8].at = value;
        else if (what % 8 == 2)
            flight->out.packet[what / 8].bytes = value;
        else if (what % 8 == 3)
            flight->in.message[what / 8].msg_len = value;
        else if (what % 8 == 4)
            flight->in.message[what / 8].msg_hdr.msg_controllen = value % 100;
        else if (what % 8 == 5)
            flight->in.control[what / 8].bytes[value % sizeof flight->in.control[0]] = (char)next_byte();
        else
            flight->out.arena[value % sizeof flight->out.arena] = next_byte();
    }
}

static void unfence(struct flight *flight)
{
    ASAN_UNPOISON_MEMORY_REGION(&flight->out, sizeof flight->out);
    ASAN_UNPOISON_MEMORY_REGION(&flight->in, sizeof flight->in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct flight flight;
    script = (struct script){data, size};
    unfence(&flight);
    flight.layout = 0;
    uint8_t bits = next_byte();
    memset(world.seen_out, 0, world.serials_out + 1);
    memset(world.seen_in, 0, world.serials_in + 1);
    world.flight = &flight;
    world.vnet = !(bits & 1);
    world.faults = bits & 2;
    world.kills = bits & 4;
    world.lives = world.serials_out = world.serials_in = 0;
    world.path = NULL;
    world.damages = world.faults && bits & 8;
    world.damaged = false;
    if (setjmp(world.killed) != 0) {
        path_stop(world.path); /* the counters die with it, the flight does not */
        unfence(&flight);
        damage(&flight);
    }
    start_life();
    world.thread(world.path);
    judge_life();
    path_stop(world.path);
    judge_story();
    return 0;
}
