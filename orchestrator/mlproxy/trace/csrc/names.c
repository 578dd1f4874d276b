// SPDX-License-Identifier: MIT
/* Calls that take a file's last name away, or its last use. */
#include "recorder.h"

#ifndef RENAME_EXCHANGE
#define RENAME_EXCHANGE (1 << 1)
#endif

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
