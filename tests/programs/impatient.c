/*
 * A kernel that gives a connection up after seconds rather than a quarter of an hour, for a program that runs with this
 * library in LD_PRELOAD: TCP_USER_TIMEOUT is a thousandth of what the program asks for, at least a second, and keep-alive
 * probes go out each second.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

int setsockopt(int socket, int level, int name, const void *value, socklen_t length)
{
    int (*next)(int, int, int, const void *, socklen_t) = dlsym(RTLD_NEXT, "setsockopt");
    int short_time = 0;
    if (level == IPPROTO_TCP && length == sizeof(short_time)) {
        if (name == TCP_USER_TIMEOUT)
            short_time = *(const int *)value / 1000 > 1000 ? *(const int *)value / 1000 : 1000;
        if (name == TCP_KEEPIDLE || name == TCP_KEEPINTVL)
            short_time = 1;
    }
    return next(socket, level, name, short_time ? &short_time : value, length);
}
