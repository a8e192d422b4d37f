/* A disk that fails to sync once, for a process that is started with this preloaded.
 *
 * The FAIL_SYNC-th fsync or fdatasync of the process answers EIO, and every other one works: the way a real disk
 * fails, where the error is told once and the next sync finds clean pages.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

static int fails_now(void) {
    static atomic_int syncs;
    const char *nth = getenv("FAIL_SYNC");
    return nth && atomic_fetch_add(&syncs, 1) + 1 == atoi(nth);
}

static int sync_with(const char *name, int fd) {
    if (fails_now()) {
        static const char told[] = "[a sync failed]\n";
        if (write(2, told, sizeof told - 1) < 0) abort();
        errno = EIO;
        return -1;
    }
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    return real(fd);
}

int fsync(int fd) { return sync_with("fsync", fd); }
int fdatasync(int fd) { return sync_with("fdatasync", fd); }
