/* Keeps every byte that an unchanged program reads from one TCP port: LD_PRELOAD=recorder.so.
 *
 * What a program prints about a response is its library's view of it (names in lower case, chunks joined, reason
 * phrases lost). A transparent proxy is judged by the bytes, so they are taken where the program itself takes
 * them, between it and the C library.
 *
 *   RECORDER_DIRECTORY   where the records go: <local port>.in, one file for each connection
 *   RECORDER_PORT        the server's port; everything else passes unseen
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* The next definition of the function that is being replaced. */
#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int port_of(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)address)->sin_port);
    if (address->ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)address)->sin6_port);
    return 0;
}

/* The local port of a connection that is to be recorded, else 0. */
static int recorded(int fd)
{
    const char *wanted = getenv("RECORDER_PORT");
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    int type;
    socklen_t type_length = sizeof type;
    if (!wanted || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_length) || type != SOCK_STREAM)
        return 0;
    if (getpeername(fd, (struct sockaddr *)&address, &length) || port_of(&address) != atoi(wanted))
        return 0;
    length = sizeof address;
    return getsockname(fd, (struct sockaddr *)&address, &length) ? 0 : port_of(&address);
}

static void keep(int fd, const struct iovec *parts, int count, ssize_t got)
{
    int saved = errno;
    int port = got > 0 ? recorded(fd) : 0;
    char name[4096];
    if (port) {
        snprintf(name, sizeof name, "%s/%d.in", getenv("RECORDER_DIRECTORY"), port);
        int file = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
        for (int i = 0; i < count && got > 0; i++) {
            size_t length = parts[i].iov_len < (size_t)got ? parts[i].iov_len : (size_t)got;
            if (write(file, parts[i].iov_base, length) != (ssize_t)length)
                abort(); /* A record with a hole would blame the proxy. */
            got -= length;
        }
        close(file);
    }
    errno = saved;
}

static ssize_t kept(int fd, void *buffer, size_t size, ssize_t got)
{
    struct iovec part = {buffer, size};
    keep(fd, &part, 1, got);
    return got;
}

ssize_t read(int fd, void *buffer, size_t size)
{
    return kept(fd, buffer, size, NEXT(read)(fd, buffer, size));
}

ssize_t recvfrom(int fd, void *buffer, size_t size, int flags, struct sockaddr *from, socklen_t *length)
{
    ssize_t got = NEXT(recvfrom)(fd, buffer, size, flags, from, length);
    return flags & MSG_PEEK ? got : kept(fd, buffer, size, got);
}

ssize_t recv(int fd, void *buffer, size_t size, int flags)
{
    ssize_t got = NEXT(recv)(fd, buffer, size, flags);
    return flags & MSG_PEEK ? got : kept(fd, buffer, size, got);
}

ssize_t readv(int fd, const struct iovec *parts, int count)
{
    ssize_t got = NEXT(readv)(fd, parts, count);
    keep(fd, parts, count, got);
    return got;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t got = NEXT(recvmsg)(fd, message, flags);
    if (!(flags & MSG_PEEK))
        keep(fd, message->msg_iov, (int)message->msg_iovlen, got);
    return got;
}

/* What the fortified headers call where they know the buffer's size. */
ssize_t __read_chk(int fd, void *buffer, size_t size, size_t capacity)
{
    if (size > capacity)
        abort();
    return read(fd, buffer, size);
}

ssize_t __recv_chk(int fd, void *buffer, size_t size, size_t capacity, int flags)
{
    if (size > capacity)
        abort();
    return recv(fd, buffer, size, flags);
}
