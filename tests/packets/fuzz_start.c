/* What a path asks for when it starts: answered well, or by a refusal where the fuzzer's bytes say so. */
#define _GNU_SOURCE
#include "fuzz.h"

#include <linux/if.h>
#include <linux/if_tun.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

int __real_close(int fd);
int __real_fcntl(int fd, int what, ...);
int __real_fstat(int fd, struct stat *file);
void *__real_mmap(void *at, size_t bytes, int may, int how, int fd, off_t offset);
int __real_munmap(void *at, size_t bytes);

int __wrap_ioctl(int fd, unsigned long what, ...)
{
    va_list rest;
    va_start(rest, what);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    demand(fd == TUN_FD || fd == CONTROL_FD, "only our own device is asked");
    if (what == TUNGETIFF)
        ((struct ifreq *)argument)->ifr_flags = (short)(IFF_TUN | IFF_NO_PI | (world.vnet ? IFF_VNET_HDR : 0));
    if (what == SIOCGIFMTU)
        ((struct ifreq *)argument)->ifr_mtu = FUZZ_MTU;
    if (what == TUNSETOFFLOAD && argument != NULL && world.faults && next_byte() % 4 == 0)
        return fails(EINVAL);
    return 0;
}

int __wrap_setsockopt(int fd, int level, int what, const void *value, socklen_t bytes)
{
    (void)level, (void)what, (void)value, (void)bytes;
    demand(fd == UDP_FD, "only our own socket is set");
    return world.faults && next_byte() % 4 == 0 ? fails(ENOPROTOOPT) : 0;
}

int __wrap_fcntl(int fd, int what, ...)
{
    va_list rest;
    va_start(rest, what);
    long argument = va_arg(rest, long);
    va_end(rest);
    return fd >= TUN_FD ? 0 : __real_fcntl(fd, what, argument);
}

int __wrap_socket(int domain, int kind, int protocol)
{
    (void)domain, (void)kind, (void)protocol;
    return CONTROL_FD;
}

int __wrap_eventfd(unsigned value, int flags)
{
    (void)value, (void)flags;
    return WAKE_FD;
}

int __wrap_close(int fd)
{
    return fd >= TUN_FD && fd <= CONTROL_FD ? 0 : __real_close(fd);
}

int __wrap_fstat(int fd, struct stat *file)
{
    if (fd != FLIGHT_FD)
        return __real_fstat(fd, file);
    file->st_size = sizeof(struct flight);
    return 0;
}

void *__wrap_mmap(void *at, size_t bytes, int may, int how, int fd, off_t offset)
{
    return fd == FLIGHT_FD ? world.flight : __real_mmap(at, bytes, may, how, fd, offset);
}

int __wrap_munmap(void *at, size_t bytes)
{
    return at == world.flight ? 0 : __real_munmap(at, bytes);
}

enum { THREAD = 1, NO_THREAD };

/* No thread is made: the target runs it, so that everything happens in one order. A refusal leaves something where the
 * thread's name would be, as glibc's does. */
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *how, void *(*run)(void *), void *argument)
{
    (void)how, (void)argument;
    demand(world.thread == NULL, "one path has one thread");
    if (world.refusals > 0) {
        world.refusals--;
        *thread = NO_THREAD;
        return EAGAIN;
    }
    *thread = THREAD;
    world.thread = run;
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **result)
{
    (void)result;
    demand(thread == THREAD && world.thread != NULL, "only a thread that was had is waited for");
    return 0;
}

int __wrap_pthread_setname_np(pthread_t thread, const char *name)
{
    (void)name;
    demand(thread == THREAD, "only a thread that was had gets a name");
    return 0;
}
