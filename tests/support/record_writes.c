/* Records what a process does to the files below a folder, in order: `LD_PRELOAD`, see crash_states.py.
 *
 * RECORD_ROOT is the folder, RECORD_TO the file of records. A record is a line "kind offset length path-bytes
 * target-bytes", then path, target and `length` bytes of data. Kinds: C created, T cut to `offset`, W written, S synced,
 * R renamed, U removed.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
static int records = -1;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void put(const void *bytes, size_t length) {
    const char *at = bytes;
    while (length > 0) {
        ssize_t n = REAL(write)(records, at, length);
        if (n < 0) abort();
        at += n;
        length -= (size_t)n;
    }
}

static int is_watched(const char *path) {
    const char *root = getenv("RECORD_ROOT");
    return root != NULL && strncmp(path, root, strlen(root)) == 0;
}

static void record(char kind, const char *path, const char *target, long long offset, const void *data, size_t length) {
    char head[128];
    int saved = errno;
    pthread_mutex_lock(&guard);
    if (records < 0) records = REAL(open)(getenv("RECORD_TO"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int n = snprintf(head, sizeof head, "%c %lld %zu %zu %zu\n", kind, offset, length, strlen(path), strlen(target));
    put(head, (size_t)n);
    put(path, strlen(path));
    put(target, strlen(target));
    put(data, length);
    pthread_mutex_unlock(&guard);
    errno = saved;
}

/* Return whether a descriptor is of a watched file, and its path. */
static int find_path(int descriptor, char *path) {
    char link[64];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t n = readlink(link, path, PATH_MAX - 1);
    errno = saved;
    if (n < 0) return 0;
    path[n] = 0;
    return is_watched(path);
}

static int open_recorded(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    int is_new = (flags & O_CREAT) && is_watched(path) && access(path, F_OK) != 0;
    int descriptor = real(path, flags, mode);
    if (descriptor >= 0 && is_new) record('C', path, "", 0, "", 0);
    if (descriptor >= 0 && (flags & O_TRUNC) && !is_new && is_watched(path)) record('T', path, "", 0, "", 0);
    return descriptor;
}

#define OPEN(name)                                              \
    int name(const char *path, int flags, ...) {                \
        va_list rest;                                           \
        va_start(rest, flags);                                  \
        mode_t mode = (flags & O_CREAT) ? va_arg(rest, int) : 0; \
        va_end(rest);                                           \
        return open_recorded(REAL(name), path, flags, mode);    \
    }
OPEN(open)
OPEN(open64)

ssize_t write(int descriptor, const void *data, size_t length) {
    char path[PATH_MAX];
    int watched = find_path(descriptor, path);
    struct stat found;
    off_t offset = 0;
    if (watched) {
        int appends = fcntl(descriptor, F_GETFL) & O_APPEND;
        offset = appends && fstat(descriptor, &found) == 0 ? found.st_size : lseek(descriptor, 0, SEEK_CUR);
    }
    ssize_t n = REAL(write)(descriptor, data, length);
    if (watched && n > 0) record('W', path, "", offset, data, (size_t)n);
    return n;
}

#define PWRITE(name, offset_type)                                                             \
    ssize_t name(int descriptor, const void *data, size_t length, offset_type offset) {       \
        char path[PATH_MAX];                                                                  \
        ssize_t n = REAL(name)(descriptor, data, length, offset);                             \
        if (n > 0 && find_path(descriptor, path)) record('W', path, "", offset, data, (size_t)n); \
        return n;                                                                             \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define FTRUNCATE(name, offset_type)                                                     \
    int name(int descriptor, offset_type length) {                                       \
        char path[PATH_MAX];                                                             \
        int result = REAL(name)(descriptor, length);                                     \
        if (result == 0 && find_path(descriptor, path)) record('T', path, "", length, "", 0); \
        return result;                                                                   \
    }
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)

#define SYNC(name)                                                                  \
    int name(int descriptor) {                                                      \
        char path[PATH_MAX];                                                        \
        int result = REAL(name)(descriptor);                                        \
        if (result == 0 && find_path(descriptor, path)) record('S', path, "", 0, "", 0); \
        return result;                                                              \
    }
SYNC(fsync)
SYNC(fdatasync)

#define REMOVE(name)                                                        \
    int name(const char *path) {                                            \
        int result = REAL(name)(path);                                      \
        if (result == 0 && is_watched(path)) record('U', path, "", 0, "", 0); \
        return result;                                                      \
    }
REMOVE(unlink)
REMOVE(remove)

int rename(const char *path, const char *target) {
    int result = REAL(rename)(path, target);
    if (result == 0 && is_watched(path)) record('R', path, target, 0, "", 0);
    return result;
}
