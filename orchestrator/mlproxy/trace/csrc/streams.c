// SPDX-License-Identifier: MIT
/*
 * The library writes through internal calls that cannot be interposed. What a
 * stream appended is found from the size of its file whenever it is flushed or
 * closed, or the program ends; rewriting in place through stdio stays unseen.
 */
#include "recorder.h"

#include <pthread.h>
#include <sched.h>

#define STREAMS 256

struct stream {
	FILE *file;
	off_t size; /* how much of it has been logged */
};

static struct stream streams[STREAMS];
static _Atomic int streams_busy;

/*
 * Held for a few instructions, but a signal handler or a child of fork() may find
 * it taken by somebody who cannot go on. Then a stream is missed (and its file's
 * size tells so afterwards); the program must not hang.
 */
static int streams_lock(void)
{
	int tries;

	for (tries = 0; tries < 10000; tries++) {
		if (!atomic_exchange_explicit(&streams_busy, 1, memory_order_acquire))
			return 1;
		sched_yield();
	}
	return 0;
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
	if (watched(fileno(file), &st) && streams_lock()) {
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

	if (!streams_lock())
		return;
	for (i = 0; i < STREAMS; i++)
		if (streams[i].file == file)
			streams[i].file = NULL;
	streams_unlock();
}

static int stream_known(const FILE *file)
{
	int i;

	if (!file || !streams_lock())
		return 0;
	for (i = 0; i < STREAMS && streams[i].file != file; i++)
		;
	streams_unlock();
	return i < STREAMS;
}

static void stream_grown(FILE *file, int forget)
{
	int saved = errno, i;
	struct stat st;

	if (!file || !recording() || !streams_lock())
		return;
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

/* In the child of a fork only the thread that forked goes on. */
static void forked(void)
{
	atomic_store(&streams_busy, 0);
}

void streams_start(void)
{
	/* What the shell redirected into a file: the first two streams. */
	stream_opened(stdout, "a", NULL);
	stream_opened(stderr, "a", NULL);
	pthread_atfork(NULL, NULL, forked);
}

/* A program that writes to its output itself has that logged already. */
void stream_bypassed(int fd, off_t end)
{
	FILE *file = fd == STDOUT_FILENO ? stdout : stderr;
	int i;

	for (i = 0; i < STREAMS; i++)
		if (streams[i].file == file && streams[i].size < end)
			streams[i].size = end;
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
