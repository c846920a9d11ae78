/* The thread, its start and its end, and what it asks the kernel for. */
#define _GNU_SOURCE
#include "path.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <netinet/udp.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

enum { STACK_BYTES = 256 * 1024 };

static bool goes_on(struct path *path)
{
    return !atomic_load(&path->stopping) && atomic_load(&path->failed) == 0;
}

static void wait_for_packets(struct path *path)
{
    uint64_t times;
    struct pollfd each[] = {{path->tun, POLLIN, 0}, {path->udp, POLLIN, 0}, {path->wake, POLLIN, 0}};
    if (poll(each, 3, -1) < 0 && errno != EINTR)
        give_up(path, errno);
    if ((each[2].revents & POLLIN) && read(path->wake, &times, sizeof times) < 0)
        return; /* woken for nothing */
}

static void *run(void *argument)
{
    struct path *path = argument;
    path->table = peers_newest(&path->peers);
    receive_flight(path);
    transmit_flight(path);
    while (goes_on(path)) {
        path->table = peers_newest(&path->peers);
        bool sent = transmit(path);
        bool received = receive(path);
        if (!sent && !received && goes_on(path))
            wait_for_packets(path);
    }
    atomic_store(&path->peers.adopted, UINT64_MAX); /* nobody looks at any table any more */
    return NULL;
}

/* What the TUN takes and gives: all of it, or without UDP super-packets (before Linux 6.2), or none. */
static bool set_offload(struct path *path, bool wanted)
{
    unsigned tcp = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN, all = tcp | TUN_F_USO4 | TUN_F_USO6;
    path->coalescer.tcp = path->coalescer.udp = false;
    if (!path->vnet)
        return true;
    if (wanted && ioctl(path->tun, TUNSETOFFLOAD, all) == 0)
        path->coalescer.tcp = path->coalescer.udp = true;
    else if (wanted && ioctl(path->tun, TUNSETOFFLOAD, tcp) == 0)
        path->coalescer.tcp = true;
    else
        return ioctl(path->tun, TUNSETOFFLOAD, 0) == 0 || wanted;
    return true;
}

static bool ask_tun(struct path *path, bool offload)
{
    struct ifreq request = {0};
    int header = VNET_HEADER;
    if (ioctl(path->tun, TUNGETIFF, &request) < 0)
        return false;
    path->vnet = (request.ifr_flags & IFF_VNET_HDR) != 0;
    if (path->vnet && ioctl(path->tun, TUNSETVNETHDRSZ, &header) < 0)
        return false;
    int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    request.ifr_mtu = 0;
    if (control >= 0 && ioctl(control, SIOCGIFMTU, &request) == 0)
        path->coalescer.mtu = (size_t)request.ifr_mtu;
    if (control >= 0)
        close(control);
    return set_offload(path, offload);
}

static void ask_socket(struct path *path, bool offload)
{
    int gro = offload, none = 0;
    path->gro = setsockopt(path->udp, IPPROTO_UDP, UDP_GRO, &gro, sizeof gro) == 0 && offload;
    path->segment = offload && setsockopt(path->udp, IPPROTO_UDP, UDP_SEGMENT, &none, sizeof none) == 0;
}

static bool not_blocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

static int start_thread(struct path *path)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the thread that started us */
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    int error = pthread_create(&path->thread, &attributes, run, path);
    path->started = error == 0;
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error == 0)
        pthread_setname_np(path->thread, "datapath");
    return error;
}

static void path_free(struct path *path)
{
    int error = errno;
    if (path->flight != NULL)
        munmap(path->flight, sizeof *path->flight);
    if (path->wake >= 0)
        close(path->wake);
    if (path->ended >= 0)
        close(path->ended);
    peers_free(&path->peers);
    free(path);
    errno = error;
}

static void wake(struct path *path)
{
    uint64_t one = 1;
    if (write(path->wake, &one, sizeof one) < 0)
        return; /* full: it will wake */
}

/* The thread starts with a table, so that no packet is told that there is no route. */
bool path_replace(struct path *path, const struct peer_row *rows, size_t count)
{
    if (!peers_replace(&path->peers, rows, count))
        return false;
    flight_remember(path->flight, rows, count);
    if (path->started) {
        wake(path);
        return true;
    }
    int error = start_thread(path);
    if (error != 0)
        errno = error;
    return error == 0;
}

/* A table that cannot be taken up is as good as none: the first one given starts the thread then. */
static void resume(struct path *path)
{
    const struct bank *kept = flight_recall(path->flight);
    path->resumed = kept != NULL && path_replace(path, kept->row, kept->count);
}

static bool open_path(struct path *path, const struct path_options *options)
{
    path->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    path->ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    path->flight = flight_map(options->flight);
    if (path->wake < 0 || path->ended < 0 || path->flight == NULL || !peers_init(&path->peers))
        return false;
    if (!not_blocking(path->tun) || !not_blocking(path->udp) || !ask_tun(path, options->offload))
        return false;
    ask_socket(path, options->offload);
    resume(path);
    return true;
}

struct path *path_start(const struct path_options *options)
{
    struct path *path = calloc(1, sizeof *path);
    if (path == NULL)
        return NULL;
    path->tun = options->tun;
    path->udp = options->udp;
    path->address = options->address;
    path->port = options->port;
    path->verify_source = options->verify_source;
    path->coalescer.deliver = deliver;
    path->coalescer.to = path;
    if (open_path(path, options))
        return path;
    path_free(path);
    return NULL;
}

void path_stop(struct path *path)
{
    atomic_store(&path->stopping, true);
    if (path->started) {
        wake(path);
        pthread_join(path->thread, NULL);
    }
    path_free(path);
}
