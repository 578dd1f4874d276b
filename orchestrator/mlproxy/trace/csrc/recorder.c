// SPDX-License-Identifier: MIT
/*
 * The recorder that `mlproxy trace record` preloads into a program.
 *
 * Every call that changes the content or the life of a regular file on the
 * recorded file system becomes one record in a log that all processes and
 * threads share: a sparse file, mapped by each of them, whose tail is moved by
 * one atomic add. The place in the log is the order. A record is written after
 * the call succeeded, so two threads that race on one file may be logged in the
 * other order; what they left to chance is left to chance here too.
 *
 * Nothing here changes what the program sees: results and errno are passed on,
 * a log that cannot be mapped or grown only switches recording off.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

#define LOG_MAGIC 0x4c504c4dU /* "MLPL" */
#define SLOT_MAGIC 0x544f4c53U /* "SLOT" */
#define LOG_VERSION 1U
#define HEADER_BYTES 4096
#define GROW_BYTES (64ULL << 20)
#define EXPORT __attribute__((visibility("default")))

enum raw_op {
	RAW_OPEN = 1,	/* name = path, offset = size now, length = links */
	RAW_WRITE,	/* offset, length */
	RAW_TRUNCATE,	/* offset = new size */
	RAW_DELETE,	/* last name gone, or last use of a nameless file */
	RAW_REPLACE,	/* deleted by rename; offset = inode that took over */
	RAW_SYNC,	/* offset, length; length 0 = all */
	RAW_MAP,	/* shared writable mapping: later writes are not seen */
	RAW_PUNCH,	/* offset, length */
	RAW_ALLOCATE,	/* offset, length; extends the size, writes nothing */
	RAW_SYNC_ALL,	/* sync(), syncfs() */
	RAW_UNKNOWN,	/* a change that cannot be described (collapse range) */
};

/* Shared with record.py: keep in step. */
struct log_header {
	uint32_t magic;
	uint32_t version;
	uint64_t device;		/* only files with this st_dev */
	uint64_t limit;			/* bytes of the log file */
	uint64_t start_ns;		/* CLOCK_MONOTONIC at the start */
	_Atomic uint64_t tail;		/* next free byte */
	_Atomic uint64_t allocated;	/* bytes backed by real space */
	_Atomic uint64_t lost;		/* records that found no room */
	_Atomic uint64_t processes;	/* programs that mapped the log */
};

struct slot {
	_Atomic uint32_t magic;	/* stored last: the record is complete */
	uint8_t op;
	uint8_t slots;		/* 64-byte slots of this record */
	uint16_t name_bytes;
	uint64_t time_ns;
	uint64_t inode;
	uint64_t offset;
	uint64_t length;
	char name[24];
};

_Static_assert(sizeof(struct slot) == 64, "slots are 64 bytes");

/* The library's own output, which is flushed behind our back. */
#define STREAMS 256
struct stream {
	FILE *file;
	off_t size; /* how much of it has been logged */
};

static struct stream streams[STREAMS];
static _Atomic int streams_busy;
static void stream_opened(FILE *file, const char *mode, const char *from);

static struct log_header *head;
static char log_path[PATH_MAX];
static _Atomic int state; /* 0 not tried, 1 being tried, 2 on, 3 off */

#define REAL(ret, name, ...)                                                   \
	static ret (*real)(__VA_ARGS__);                                       \
	if (!real)                                                             \
		real = (ret(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static int real_open(const char *path, int flags, mode_t mode)
{
	REAL(int, "open", const char *, int, ...);
	return real(path, flags, mode);
}

static int real_close(int fd)
{
	REAL(int, "close", int);
	return real(fd);
}

static void map_log(void)
{
	const char *path = getenv("MLPROXY_TRACE_LOG");
	struct log_header *map;
	struct stat st;
	int fd;

	if (!path || !*path || strlen(path) >= sizeof(log_path))
		return;
	fd = real_open(path, O_RDWR | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	if (fstat(fd, &st) || st.st_size < HEADER_BYTES) {
		real_close(fd);
		return;
	}
	map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE,
		   MAP_SHARED | MAP_NORESERVE, fd, 0);
	real_close(fd);
	if (map == MAP_FAILED)
		return;
	if (map->magic != LOG_MAGIC || map->version != LOG_VERSION ||
	    map->limit > (uint64_t)st.st_size) {
		munmap(map, (size_t)st.st_size);
		return;
	}
	memcpy(log_path, path, strlen(path) + 1);
	atomic_fetch_add(&map->processes, 1);
	head = map;
}

static int recording(void)
{
	int now = atomic_load_explicit(&state, memory_order_acquire);
	int expected = 0;

	if (now == 2)
		return 1;
	if (now)
		return 0;
	if (!atomic_compare_exchange_strong(&state, &expected, 1))
		return 0;
	map_log();
	atomic_store_explicit(&state, head ? 2 : 3, memory_order_release);
	return head != NULL;
}

__attribute__((constructor)) static void start(void)
{
	int saved = errno;

	if (recording()) {
		/* What the shell redirected into a file: the first two streams. */
		stream_opened(stdout, "a", NULL);
		stream_opened(stderr, "a", NULL);
	}
	errno = saved;
}

/* Back the log with real space before it is touched: no SIGBUS on a full disk. */
static int grow(uint64_t end)
{
	uint64_t have = atomic_load(&head->allocated);

	while (have < end) {
		uint64_t want = end + GROW_BYTES < head->limit ? end + GROW_BYTES : head->limit;
		int fd = real_open(log_path, O_RDWR | O_CLOEXEC, 0);
		int failed;

		if (fd < 0)
			return -1;
		failed = fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)have, (off_t)(want - have));
		real_close(fd);
		if (failed)
			return -1;
		while (have < want &&
		       !atomic_compare_exchange_weak(&head->allocated, &have, want))
			;
	}
	return 0;
}

static void record(enum raw_op op, ino_t inode, uint64_t offset, uint64_t length,
		   const char *name, size_t name_bytes)
{
	uint64_t bytes = sizeof(struct slot);
	struct timespec now;
	struct slot *slot;
	uint64_t at;

	if (name_bytes > sizeof(slot->name))
		bytes += (name_bytes - sizeof(slot->name) + 63) / 64 * 64;
	at = atomic_fetch_add(&head->tail, bytes);
	if (at + bytes > head->limit ||
	    (at + bytes > atomic_load(&head->allocated) && grow(at + bytes))) {
		atomic_fetch_add(&head->lost, 1);
		return;
	}
	clock_gettime(CLOCK_MONOTONIC, &now);
	slot = (struct slot *)((char *)head + at);
	slot->op = (uint8_t)op;
	slot->slots = (uint8_t)(bytes / 64);
	slot->name_bytes = (uint16_t)name_bytes;
	slot->time_ns = (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
	slot->inode = inode;
	slot->offset = offset;
	slot->length = length;
	if (name_bytes)
		memcpy(slot->name, name, name_bytes);
	atomic_store_explicit(&slot->magic, SLOT_MAGIC, memory_order_release);
}

static int ours(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_dev == head->device;
}

/* Is fd a regular file on the recorded file system? Then st is filled. */
static int watched(int fd, struct stat *st)
{
	return fd >= 0 && recording() && !fstat(fd, st) && ours(st);
}

static void opened(int fd, int flags)
{
	char link[40], path[PATH_MAX];
	int saved = errno;
	struct stat st;
	ssize_t n;

	if ((flags & O_ACCMODE) != O_RDONLY && !(flags & O_PATH) && watched(fd, &st)) {
		snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
		n = readlink(link, path, sizeof(path));
		if (n < 0)
			n = 0;
		record(RAW_OPEN, st.st_ino, (uint64_t)st.st_size, st.st_nlink, path, (size_t)n);
		if (flags & O_TRUNC)
			record(RAW_TRUNCATE, st.st_ino, 0, 0, NULL, 0);
	}
	errno = saved;
}

static void wrote_at(int fd, off_t offset, ssize_t n)
{
	int saved = errno;
	struct stat st;

	if (n > 0 && watched(fd, &st))
		record(RAW_WRITE, st.st_ino, (uint64_t)offset, (uint64_t)n, NULL, 0);
	errno = saved;
}

/* A program that writes to its output itself has that logged already. */
static void stream_bypassed(int fd, off_t end)
{
	FILE *file = fd == STDOUT_FILENO ? stdout : stderr;
	int i;

	for (i = 0; i < STREAMS; i++)
		if (streams[i].file == file && streams[i].size < end)
			streams[i].size = end;
}

/* A write at the file position: where that now stands tells where it began. */
static void wrote(int fd, ssize_t n)
{
	int saved = errno;
	struct stat st;
	off_t end;

	if (n > 0 && watched(fd, &st)) {
		end = lseek(fd, 0, SEEK_CUR);
		if (end >= n)
			record(RAW_WRITE, st.st_ino, (uint64_t)(end - n), (uint64_t)n, NULL, 0);
		if (fd == STDOUT_FILENO || fd == STDERR_FILENO)
			stream_bypassed(fd, end);
	}
	errno = saved;
}

static void noted(int fd, enum raw_op op, off_t offset, off_t length)
{
	int saved = errno;
	struct stat st;

	if (watched(fd, &st))
		record(op, st.st_ino, (uint64_t)offset, (uint64_t)length, NULL, 0);
	errno = saved;
}

/* ---- open ------------------------------------------------------------- */

#define MODE(flags)                                                            \
	mode_t mode = 0;                                                       \
	if ((flags) & (O_CREAT | __O_TMPFILE)) {                               \
		va_list ap;                                                    \
		va_start(ap, flags);                                           \
		mode = (mode_t)va_arg(ap, int);                                \
		va_end(ap);                                                    \
	}

#define OPEN(name)                                                             \
	EXPORT int name(const char *path, int flags, ...)                      \
	{                                                                      \
		REAL(int, #name, const char *, int, ...);                      \
		MODE(flags)                                                    \
		int fd = real(path, flags, mode);                              \
		opened(fd, flags);                                             \
		return fd;                                                     \
	}

#define OPENAT(name)                                                           \
	EXPORT int name(int dir, const char *path, int flags, ...)             \
	{                                                                      \
		REAL(int, #name, int, const char *, int, ...);                 \
		MODE(flags)                                                    \
		int fd = real(dir, path, flags, mode);                         \
		opened(fd, flags);                                             \
		return fd;                                                     \
	}

OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

/* What _FORTIFY_SOURCE makes of an open without a mode. */
#define OPEN_2(name)                                                           \
	EXPORT int name(const char *path, int flags);                          \
	EXPORT int name(const char *path, int flags)                           \
	{                                                                      \
		REAL(int, #name, const char *, int);                           \
		int fd = real(path, flags);                                    \
		opened(fd, flags);                                             \
		return fd;                                                     \
	}
#define OPENAT_2(name)                                                         \
	EXPORT int name(int dir, const char *path, int flags);                 \
	EXPORT int name(int dir, const char *path, int flags)                  \
	{                                                                      \
		REAL(int, #name, int, const char *, int);                      \
		int fd = real(dir, path, flags);                               \
		opened(fd, flags);                                             \
		return fd;                                                     \
	}
OPEN_2(__open_2)
OPEN_2(__open64_2)
OPENAT_2(__openat_2)
OPENAT_2(__openat64_2)

#define CREAT(name)                                                            \
	EXPORT int name(const char *path, mode_t mode)                         \
	{                                                                      \
		REAL(int, #name, const char *, mode_t);                        \
		int fd = real(path, mode);                                     \
		opened(fd, O_WRONLY | O_CREAT | O_TRUNC);                      \
		return fd;                                                     \
	}
CREAT(creat)
CREAT(creat64)

#define MKSTEMP(name)                                                          \
	EXPORT int name(char *template)                                        \
	{                                                                      \
		REAL(int, #name, char *);                                      \
		int fd = real(template);                                       \
		opened(fd, O_RDWR | O_CREAT);                                  \
		return fd;                                                     \
	}
#define MKSTEMP_INT(name)                                                      \
	EXPORT int name(char *template, int value)                             \
	{                                                                      \
		REAL(int, #name, char *, int);                                 \
		int fd = real(template, value);                                \
		opened(fd, O_RDWR | O_CREAT);                                  \
		return fd;                                                     \
	}
#define MKOSTEMPS(name)                                                        \
	EXPORT int name(char *template, int suffix, int flags)                 \
	{                                                                      \
		REAL(int, #name, char *, int, int);                            \
		int fd = real(template, suffix, flags);                        \
		opened(fd, O_RDWR | O_CREAT);                                  \
		return fd;                                                     \
	}
MKSTEMP(mkstemp)
MKSTEMP(mkstemp64)
MKSTEMP_INT(mkostemp)
MKSTEMP_INT(mkostemp64)
MKSTEMP_INT(mkstemps)
MKSTEMP_INT(mkstemps64)
MKOSTEMPS(mkostemps)
MKOSTEMPS(mkostemps64)

/* ---- write ------------------------------------------------------------ */

EXPORT ssize_t write(int fd, const void *data, size_t bytes)
{
	REAL(ssize_t, "write", int, const void *, size_t);
	ssize_t n = real(fd, data, bytes);

	wrote(fd, n);
	return n;
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int nr)
{
	REAL(ssize_t, "writev", int, const struct iovec *, int);
	ssize_t n = real(fd, iov, nr);

	wrote(fd, n);
	return n;
}

#define PWRITE(name, type)                                                     \
	EXPORT ssize_t name(int fd, const void *data, size_t bytes, type at)   \
	{                                                                      \
		REAL(ssize_t, #name, int, const void *, size_t, type);         \
		ssize_t n = real(fd, data, bytes, at);                         \
		wrote_at(fd, at, n);                                           \
		return n;                                                      \
	}
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define PWRITEV(name, type)                                                    \
	EXPORT ssize_t name(int fd, const struct iovec *iov, int nr, type at)  \
	{                                                                      \
		REAL(ssize_t, #name, int, const struct iovec *, int, type);    \
		ssize_t n = real(fd, iov, nr, at);                             \
		wrote_at(fd, at, n);                                           \
		return n;                                                      \
	}
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

#define PWRITEV2(name, type)                                                   \
	EXPORT ssize_t name(int fd, const struct iovec *iov, int nr, type at,  \
			    int flags)                                         \
	{                                                                      \
		REAL(ssize_t, #name, int, const struct iovec *, int, type, int); \
		ssize_t n = real(fd, iov, nr, at, flags);                      \
		if (at == -1)                                                  \
			wrote(fd, n);                                          \
		else                                                           \
			wrote_at(fd, at, n);                                   \
		return n;                                                      \
	}
PWRITEV2(pwritev2, off_t)
PWRITEV2(pwritev64v2, off64_t)

#define SENDFILE(name, type)                                                   \
	EXPORT ssize_t name(int out, int in, type *at, size_t bytes)           \
	{                                                                      \
		REAL(ssize_t, #name, int, int, type *, size_t);                \
		ssize_t n = real(out, in, at, bytes);                          \
		wrote(out, n);                                                 \
		return n;                                                      \
	}
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

#define COPY(name)                                                             \
	EXPORT ssize_t name(int in, off64_t *in_at, int out, off64_t *out_at,  \
			    size_t bytes, unsigned int flags)                  \
	{                                                                      \
		REAL(ssize_t, #name, int, off64_t *, int, off64_t *, size_t,   \
		     unsigned int);                                            \
		off64_t at = out_at ? *out_at : 0;                             \
		ssize_t n = real(in, in_at, out, out_at, bytes, flags);        \
		if (out_at)                                                    \
			wrote_at(out, at, n);                                  \
		else                                                           \
			wrote(out, n);                                         \
		return n;                                                      \
	}
COPY(copy_file_range)
COPY(splice)

/* ---- size and space ---------------------------------------------------- */

#define FTRUNCATE(name, type)                                                  \
	EXPORT int name(int fd, type size)                                     \
	{                                                                      \
		REAL(int, #name, int, type);                                   \
		int failed = real(fd, size);                                   \
		if (!failed)                                                   \
			noted(fd, RAW_TRUNCATE, size, 0);                      \
		return failed;                                                 \
	}
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)

static void truncated(const char *path, off_t size)
{
	char full[PATH_MAX];
	int saved = errno;
	struct stat st;

	if (recording() && !stat(path, &st) && ours(&st)) {
		/* The file may never have been opened: give it its name. */
		if (realpath(path, full))
			record(RAW_OPEN, st.st_ino, (uint64_t)st.st_size, st.st_nlink, full,
			       strlen(full));
		record(RAW_TRUNCATE, st.st_ino, (uint64_t)size, 0, NULL, 0);
	}
	errno = saved;
}

#define TRUNCATE(name, type)                                                   \
	EXPORT int name(const char *path, type size)                           \
	{                                                                      \
		REAL(int, #name, const char *, type);                          \
		int failed = real(path, size);                                 \
		if (!failed)                                                   \
			truncated(path, size);                                 \
		return failed;                                                 \
	}
TRUNCATE(truncate, off_t)
TRUNCATE(truncate64, off64_t)

static void allocated(int fd, int mode, off_t at, off_t bytes)
{
	if (mode & FALLOC_FL_PUNCH_HOLE)
		noted(fd, RAW_PUNCH, at, bytes);
	else if (mode & (FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE))
		noted(fd, RAW_UNKNOWN, at, bytes);
	else if (!(mode & FALLOC_FL_KEEP_SIZE))
		noted(fd, RAW_ALLOCATE, at, bytes);
}

#define FALLOCATE(name, type)                                                  \
	EXPORT int name(int fd, int mode, type at, type bytes)                 \
	{                                                                      \
		REAL(int, #name, int, int, type, type);                        \
		int failed = real(fd, mode, at, bytes);                        \
		if (!failed)                                                   \
			allocated(fd, mode, at, bytes);                        \
		return failed;                                                 \
	}
FALLOCATE(fallocate, off_t)
FALLOCATE(fallocate64, off64_t)

#define POSIX_FALLOCATE(name, type)                                            \
	EXPORT int name(int fd, type at, type bytes)                           \
	{                                                                      \
		REAL(int, #name, int, type, type);                             \
		int failed = real(fd, at, bytes);                              \
		if (!failed)                                                   \
			allocated(fd, 0, at, bytes);                           \
		return failed;                                                 \
	}
POSIX_FALLOCATE(posix_fallocate, off_t)
POSIX_FALLOCATE(posix_fallocate64, off64_t)

/* ---- names ------------------------------------------------------------- */

/* The inode that goes when its last name goes: 0 if none of ours does. */
static ino_t doomed(int dir, const char *path)
{
	int saved = errno;
	struct stat st;
	ino_t inode = 0;

	if (recording() && !fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) && ours(&st) &&
	    st.st_nlink == 1)
		inode = st.st_ino;
	errno = saved;
	return inode;
}

static void gone(ino_t inode)
{
	int saved = errno;

	if (inode)
		record(RAW_DELETE, inode, 0, 0, NULL, 0);
	errno = saved;
}

EXPORT int unlink(const char *path)
{
	REAL(int, "unlink", const char *);
	ino_t inode = doomed(AT_FDCWD, path);
	int failed = real(path);

	if (!failed)
		gone(inode);
	return failed;
}

EXPORT int unlinkat(int dir, const char *path, int flags)
{
	REAL(int, "unlinkat", int, const char *, int);
	ino_t inode = flags & AT_REMOVEDIR ? 0 : doomed(dir, path);
	int failed = real(dir, path, flags);

	if (!failed)
		gone(inode);
	return failed;
}

EXPORT int remove(const char *path)
{
	REAL(int, "remove", const char *);
	ino_t inode = doomed(AT_FDCWD, path);
	int failed = real(path);

	if (!failed)
		gone(inode);
	return failed;
}

static ino_t inode_of(int dir, const char *path)
{
	int saved = errno;
	struct stat st;
	ino_t inode = 0;

	if (recording() && !fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) && ours(&st))
		inode = st.st_ino;
	errno = saved;
	return inode;
}

static void replaced(ino_t old, ino_t new)
{
	int saved = errno;

	/* Renaming one link of a file onto another of it does nothing. */
	if (old && old != new)
		record(RAW_REPLACE, old, new, 0, NULL, 0);
	errno = saved;
}

EXPORT int rename(const char *from, const char *to)
{
	REAL(int, "rename", const char *, const char *);
	ino_t new = inode_of(AT_FDCWD, from), old = doomed(AT_FDCWD, to);
	int failed = real(from, to);

	if (!failed)
		replaced(old, new);
	return failed;
}

EXPORT int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
	REAL(int, "renameat", int, const char *, int, const char *);
	ino_t new = inode_of(from_dir, from), old = doomed(to_dir, to);
	int failed = real(from_dir, from, to_dir, to);

	if (!failed)
		replaced(old, new);
	return failed;
}

EXPORT int renameat2(int from_dir, const char *from, int to_dir, const char *to,
		     unsigned int flags)
{
	REAL(int, "renameat2", int, const char *, int, const char *, unsigned int);
	ino_t new = inode_of(from_dir, from), old = doomed(to_dir, to);
	int failed = real(from_dir, from, to_dir, to, flags);

	if (!failed && !(flags & RENAME_EXCHANGE))
		replaced(old, new);
	return failed;
}

/* ---- durability --------------------------------------------------------- */

#define SYNC(name)                                                             \
	EXPORT int name(int fd)                                                \
	{                                                                      \
		REAL(int, #name, int);                                         \
		int failed = real(fd);                                         \
		if (!failed)                                                   \
			noted(fd, RAW_SYNC, 0, 0);                             \
		return failed;                                                 \
	}
SYNC(fsync)
SYNC(fdatasync)

EXPORT int sync_file_range(int fd, off64_t at, off64_t bytes, unsigned int flags)
{
	REAL(int, "sync_file_range", int, off64_t, off64_t, unsigned int);
	int failed = real(fd, at, bytes, flags);

	if (!failed && flags & SYNC_FILE_RANGE_WRITE)
		noted(fd, RAW_SYNC, at, bytes);
	return failed;
}

static void synced_all(void)
{
	int saved = errno;

	if (recording())
		record(RAW_SYNC_ALL, 0, 0, 0, NULL, 0);
	errno = saved;
}

EXPORT void sync(void)
{
	REAL(void, "sync", void);

	real();
	synced_all();
}

EXPORT int syncfs(int fd)
{
	REAL(int, "syncfs", int);
	int failed = real(fd);

	if (!failed)
		synced_all();
	return failed;
}

/* ---- what is not seen, and says so -------------------------------------- */

#define MMAP(name, type)                                                       \
	EXPORT void *name(void *hint, size_t bytes, int prot, int flags, int fd, \
			  type at)                                             \
	{                                                                      \
		REAL(void *, #name, void *, size_t, int, int, int, type);      \
		void *map = real(hint, bytes, prot, flags, fd, at);            \
		if (map != MAP_FAILED && fd >= 0 && flags & MAP_SHARED &&      \
		    prot & PROT_WRITE)                                         \
			noted(fd, RAW_MAP, at, (off_t)bytes);                  \
		return map;                                                    \
	}
MMAP(mmap, off_t)
MMAP(mmap64, off64_t)

/* A file without a name dies with its last descriptor. */
EXPORT int close(int fd)
{
	int saved = errno, failed;
	struct stat st;
	ino_t inode = 0;

	if (watched(fd, &st) && !st.st_nlink)
		inode = st.st_ino;
	errno = saved;
	failed = real_close(fd);
	if (!failed)
		gone(inode);
	return failed;
}

/* ---- stdio --------------------------------------------------------------
 * The library writes through internal calls that cannot be interposed. What a
 * stream appended is found from the size of its file whenever it is flushed or
 * closed, or the program ends; rewriting in place through stdio stays unseen.
 */

static void streams_lock(void)
{
	while (atomic_exchange_explicit(&streams_busy, 1, memory_order_acquire))
		;
}

static void streams_unlock(void)
{
	atomic_store_explicit(&streams_busy, 0, memory_order_release);
}

static void stream_opened(FILE *file, const char *mode, const char *from)
{
	int saved = errno, flags = 0, i;
	struct stat st;

	if (!file || !recording())
		return;
	if (*mode == 'r' && !strchr(mode, '+'))
		return;
	if (from && *mode == 'w')
		flags = O_TRUNC;
	if (from)
		opened(fileno(file), O_RDWR | flags);
	if (watched(fileno(file), &st)) {
		streams_lock();
		for (i = 0; i < STREAMS && streams[i].file; i++)
			;
		if (i < STREAMS)
			streams[i] = (struct stream){ .file = file, .size = st.st_size };
		streams_unlock();
	}
	errno = saved;
}

static void stream_forget(const FILE *file)
{
	int i;

	streams_lock();
	for (i = 0; i < STREAMS; i++)
		if (streams[i].file == file)
			streams[i].file = NULL;
	streams_unlock();
}

static int stream_known(const FILE *file)
{
	int i;

	streams_lock();
	for (i = 0; i < STREAMS && streams[i].file != file; i++)
		;
	streams_unlock();
	return file && i < STREAMS;
}

static void stream_grown(FILE *file, int forget)
{
	int saved = errno, i;
	struct stat st;

	if (!file || !recording())
		return;
	streams_lock();
	for (i = 0; i < STREAMS && streams[i].file != file; i++)
		;
	if (i < STREAMS) {
		if (watched(fileno(file), &st)) {
			if (st.st_size > streams[i].size)
				record(RAW_WRITE, st.st_ino, (uint64_t)streams[i].size,
				       (uint64_t)(st.st_size - streams[i].size), NULL, 0);
			streams[i].size = st.st_size;
		}
		if (forget)
			streams[i].file = NULL;
	}
	streams_unlock();
	errno = saved;
}

#define FOPEN(name)                                                            \
	EXPORT FILE *name(const char *path, const char *mode)                  \
	{                                                                      \
		REAL(FILE *, #name, const char *, const char *);               \
		FILE *file = real(path, mode);                                 \
		stream_opened(file, mode, path);                               \
		return file;                                                   \
	}
FOPEN(fopen)
FOPEN(fopen64)

EXPORT FILE *fdopen(int fd, const char *mode)
{
	REAL(FILE *, "fdopen", int, const char *);
	FILE *file = real(fd, mode);

	stream_opened(file, mode, NULL);
	return file;
}

#define FREOPEN(name)                                                          \
	EXPORT FILE *name(const char *path, const char *mode, FILE *old)       \
	{                                                                      \
		REAL(FILE *, #name, const char *, const char *, FILE *);       \
		if (stream_known(old))                                         \
			fflush(old);                                           \
		stream_grown(old, 1);                                          \
		FILE *file = real(path, mode, old);                            \
		stream_opened(file, mode, path);                               \
		return file;                                                   \
	}
FREOPEN(freopen)
FREOPEN(freopen64)

/* A program that puts a file in the place of its output writes there from now on. */
static void output_moved(int fd)
{
	FILE *file = fd == STDOUT_FILENO ? stdout : fd == STDERR_FILENO ? stderr : NULL;

	if (file && recording()) {
		stream_forget(file);
		stream_opened(file, "a", NULL);
	}
}

EXPORT int dup2(int from, int to)
{
	REAL(int, "dup2", int, int);
	int fd = real(from, to);

	output_moved(fd);
	return fd;
}

EXPORT int dup3(int from, int to, int flags)
{
	REAL(int, "dup3", int, int, int);
	int fd = real(from, to, flags);

	output_moved(fd);
	return fd;
}

EXPORT int fflush(FILE *file)
{
	REAL(int, "fflush", FILE *);
	int failed = real(file), i;

	if (file)
		stream_grown(file, 0);
	else
		for (i = 0; i < STREAMS; i++)
			stream_grown(streams[i].file, 0);
	return failed;
}

EXPORT int fclose(FILE *file)
{
	REAL(int, "fclose", FILE *);

	/* Flushed first: afterwards there is no descriptor to ask. */
	if (stream_known(file))
		fflush(file);
	stream_grown(file, 1);
	return real(file);
}

__attribute__((destructor)) static void finish(void)
{
	int i;

	if (!recording())
		return;
	for (i = 0; i < STREAMS; i++)
		if (streams[i].file)
			fflush(streams[i].file);
}
