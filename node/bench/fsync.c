/* Preloaded into storescp: what it wrote is synced before it is closed, so before Success is sent. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int fclose(FILE *stream)
{
    int (*close_stream)(FILE *) = (int (*)(FILE *))dlsym(RTLD_NEXT, "fclose");
    int descriptor = fileno(stream);
    struct stat status;
    if (descriptor >= 0 && fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode)
        && (fcntl(descriptor, F_GETFL) & O_ACCMODE) != O_RDONLY) {
        fflush(stream);
        fsync(descriptor);
    }
    return close_stream(stream);
}
