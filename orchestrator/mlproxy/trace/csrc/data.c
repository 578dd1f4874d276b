// SPDX-License-Identifier: MIT
/* Calls that change what is in a file, and those that make it durable. */
#include "recorder.h"

#include <stdarg.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>

void opened(int fd, int flags)
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
