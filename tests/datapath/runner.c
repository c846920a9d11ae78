/* runner.py in C, so that the data path can be built with sanitizers, and can be killed where it hurts.
 *
 * Speaks what runner.py speaks, and one line more: `churn MS` replaces the table every millisecond for so long, and reads
 * every counter between, as a worker may. The environment's DIE=CALL:WHEN:COUNT kills the process at the COUNTth use of a
 * system call, "before" it reaches the kernel or "after" it came back (the linker puts ours in their place: --wrap).
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "path.h"

enum { TABLE = 200, LINE = 64 * 1024 };

static struct {
    char call[16], when[16];
    int count;
} death;
static int tun;

static void die_if(const char *call, const char *when)
{
    if (strcmp(death.call, call) == 0 && strcmp(death.when, when) == 0 && --death.count == 0)
        kill(getpid(), SIGKILL);
}

ssize_t __real_read(int fd, void *to, size_t bytes);
ssize_t __wrap_read(int fd, void *to, size_t bytes)
{
    if (fd != tun)
        return __real_read(fd, to, bytes);
    die_if("read", "before");
    ssize_t got = __real_read(fd, to, bytes);
    if (got >= 0)
        die_if("read", "after");
    return got;
}

ssize_t __real_writev(int fd, const struct iovec *part, int parts);
ssize_t __wrap_writev(int fd, const struct iovec *part, int parts)
{
    die_if("writev", "before");
    ssize_t put = __real_writev(fd, part, parts);
    die_if("writev", "after");
    return put;
}

int __real_sendmmsg(int fd, struct mmsghdr *message, unsigned count, int flags);
int __wrap_sendmmsg(int fd, struct mmsghdr *message, unsigned count, int flags)
{
    die_if("sendmmsg", "before");
    int sent = __real_sendmmsg(fd, message, count, flags);
    die_if("sendmmsg", "after");
    return sent;
}

int __real_recvmmsg(int fd, struct mmsghdr *message, unsigned count, int flags, struct timespec *timeout);
int __wrap_recvmmsg(int fd, struct mmsghdr *message, unsigned count, int flags, struct timespec *timeout)
{
    die_if("recvmmsg", "before");
    int got = __real_recvmmsg(fd, message, count, flags, timeout);
    if (got > 0)
        die_if("recvmmsg", "after");
    return got;
}

static uint32_t address_of(const char *text)
{
    struct in_addr address;
    if (inet_aton(text, &address) == 0)
        exit(2);
    return ntohl(address.s_addr);
}

/* SUBNET/LENGTH=UPLINK... */
static size_t rows_of(char *words, struct peer_row *rows)
{
    size_t count = 0;
    for (char *word = strtok(words, " \n"); word != NULL && count < TABLE; word = strtok(NULL, " \n")) {
        char *length = strchr(word, '/'), *uplink = strchr(word, '=');
        if (length == NULL || uplink == NULL)
            exit(2);
        *length = *uplink = '\0';
        rows[count++] = (struct peer_row){address_of(word), (uint32_t)atoi(length + 1), address_of(uplink + 1)};
    }
    return count;
}

static void print_counters(struct path *path)
{
#define AS_NAME(symbol, name, meaning) name,
    static const char *const names[] = {OUT_VERDICTS(AS_NAME) IN_VERDICTS(AS_NAME) OTHER_COUNTERS(AS_NAME)};
    for (unsigned i = 0; i < COUNTERS; i++)
        printf("%s\"%s\": %llu", i == 0 ? "{" : ", ", names[i], (unsigned long long)value_of(&path->count[i]));
    printf("}\n");
}

/* Half of the tables have a hundred rows more, and a row that is everywhere another one. */
static uint64_t churn(struct path *path, const struct peer_row *rows, size_t count, unsigned ms)
{
    uint64_t seen = 0;
    struct peer_row more[TABLE];
    struct timespec pause = {.tv_nsec = 1000 * 1000};
    for (unsigned round = 0; round < ms; round++) {
        size_t total = count;
        memcpy(more, rows, count * sizeof rows[0]);
        while (round % 2 && total < TABLE) {
            more[total] = (struct peer_row){0x0a4e0000u + ((uint32_t)total << 8), 24, 0xc0a84d00u + round % 7};
            total++;
        }
        if (!path_replace(path, more, total))
            exit(3);
        for (size_t i = 0; i < peers_count(&path->peers); i++)
            seen += value_of(&peers_at(&path->peers, i)->sent);
        for (unsigned i = 0; i < COUNTERS; i++)
            seen += value_of(&path->count[i]);
        nanosleep(&pause, NULL);
    }
    return seen;
}

static void serve(struct path *path)
{
    static char line[LINE];
    struct peer_row rows[TABLE];
    size_t count = 0;
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (strncmp(line, "swap", 4) == 0) {
            count = rows_of(line + 4, rows);
            printf(path_replace(path, rows, count) ? "null\n" : "false\n");
        } else if (strncmp(line, "churn ", 6) == 0) {
            printf("%llu\n", (unsigned long long)churn(path, rows, count, (unsigned)atoi(line + 6)));
        } else if (strcmp(line, "failed\n") == 0) {
            printf("%d\n", atomic_load(&path->failed));
        } else {
            print_counters(path);
        }
        fflush(stdout);
    }
}

int main(int count, char **word)
{
    struct path_options options = {.port = 8285, .offload = true};
    const char *die = getenv("DIE");
    if (count < 5 || (die != NULL && sscanf(die, "%15[a-z]:%15[a-z]:%d", death.call, death.when, &death.count) != 3))
        return 2;
    options.tun = tun = atoi(word[1]);
    options.udp = atoi(word[2]);
    options.flight = atoi(word[3]);
    options.address = address_of(word[4]);
    for (int i = 5; i < count; i++) {
        options.offload &= strcmp(word[i], "plain") != 0;
        options.verify_source |= strcmp(word[i], "verify") == 0;
    }
    struct path *path = path_start(&options);
    if (path == NULL) {
        perror("path_start");
        return 1;
    }
    serve(path);
    path_stop(path);
    return 0;
}
