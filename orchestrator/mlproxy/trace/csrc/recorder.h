/* SPDX-License-Identifier: MIT */
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
#ifndef MLPROXY_RECORDER_H
#define MLPROXY_RECORDER_H

/* The checking variants of the calls are inline functions by the names defined here. */
#undef _FORTIFY_SOURCE
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

/* The next definition of a function after ours: the C library's. */
#define REAL(ret, name, ...)                                                   \
	static ret (*real)(__VA_ARGS__);                                       \
	if (!real)                                                             \
		real = (ret(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

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

/* What is not exported must not get in the way of the program's own names. */
#pragma GCC visibility push(hidden)

/* log.c */
int recording(void);
void record(enum raw_op op, ino_t inode, uint64_t offset, uint64_t length, const char *name,
	    size_t name_bytes);
int ours(const struct stat *st);
int watched(int fd, struct stat *st);
int real_open(const char *path, int flags, mode_t mode);
int real_close(int fd);

/* data.c */
void opened(int fd, int flags);

/* streams.c */
void streams_start(void);
void stream_bypassed(int fd, off_t end);

#pragma GCC visibility pop

#endif
