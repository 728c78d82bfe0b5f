/* LD_PRELOAD for peers that can only listen on every address: 0.0.0.0 becomes 127.0.0.1. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <sys/socket.h>

int bind(int fd, const struct sockaddr *address, socklen_t length)
{
    int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "bind");
    if (address->sa_family == AF_INET) {
        struct sockaddr_in narrow = *(const struct sockaddr_in *) address;
        if (narrow.sin_addr.s_addr == INADDR_ANY)
            narrow.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return real(fd, (struct sockaddr *) &narrow, sizeof narrow);
    }
    return real(fd, address, length);
}
