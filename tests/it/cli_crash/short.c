/* Loaded before a program: cuts its reads and writes of files short, or interrupts them, as a
 * kernel may do at any time. SHORT_SEED decides which; SHORT_COUNT is a file that gets the number
 * of calls that were cut short. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long long state;
static unsigned long count;

__attribute__((constructor)) static void begin(void) {
    const char *seed = getenv("SHORT_SEED");
    state = 88172645463325252ULL + (seed ? strtoull(seed, NULL, 10) : 0);
}

__attribute__((destructor)) static void finish(void) {
    const char *path = getenv("SHORT_COUNT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (file) {
        fprintf(file, "%lu\n", count);
        fclose(file);
    }
}

/* How much of `len` is taken; nothing is an interruption. */
static size_t cut(size_t len) {
    pthread_mutex_lock(&lock);
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    size_t taken = len;
    if (len > 1 && state % 3 == 0) {
        taken = 1 + (state >> 8) % (len - 1);
    } else if (len > 0 && state % 11 == 1) {
        taken = 0;
    }
    count += taken != len;
    pthread_mutex_unlock(&lock);
    return taken;
}

#define CUT(len)                   \
    size_t taken = cut(len);       \
    if (taken == 0 && (len) > 0) { \
        errno = EINTR;             \
        return -1;                 \
    }

ssize_t read(int file, void *bytes, size_t len) {
    CUT(len)
    return syscall(SYS_read, file, bytes, taken);
}

ssize_t write(int file, const void *bytes, size_t len) {
    CUT(len)
    return syscall(SYS_write, file, bytes, taken);
}

ssize_t pread64(int file, void *bytes, size_t len, off64_t offset) {
    CUT(len)
    return syscall(SYS_pread64, file, bytes, taken, offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t len, off64_t offset) {
    CUT(len)
    return syscall(SYS_pwrite64, file, bytes, taken, offset);
}

ssize_t pread(int file, void *bytes, size_t len, off_t offset) {
    return pread64(file, bytes, len, offset);
}

ssize_t pwrite(int file, const void *bytes, size_t len, off_t offset) {
    return pwrite64(file, bytes, len, offset);
}
