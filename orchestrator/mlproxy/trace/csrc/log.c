// SPDX-License-Identifier: MIT
/* The shared log: mapping it, growing it, one record at a time. */
#include "recorder.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#define LOG_MAGIC 0x4c504c4dU /* "MLPL" */
#define SLOT_MAGIC 0x544f4c53U /* "SLOT" */
#define LOG_VERSION 1U
#define HEADER_BYTES 4096
#define GROW_BYTES (64ULL << 20)

/* Read by rawlog.py: keep in step. */
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

static struct log_header *head;
static char log_path[PATH_MAX];
static _Atomic int state; /* 0 not tried, 1 being tried, 2 on, 3 off */

int real_open(const char *path, int flags, mode_t mode)
{
	REAL(int, "open", const char *, int, ...);
	return real(path, flags, mode);
}

int real_close(int fd)
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

int recording(void)
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

	if (recording())
		streams_start();
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

void record(enum raw_op op, ino_t inode, uint64_t offset, uint64_t length, const char *name,
	    size_t name_bytes)
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

int ours(const struct stat *st)
{
	return S_ISREG(st->st_mode) && st->st_dev == head->device;
}

/* Is fd a regular file on the recorded file system? Then st is filled. */
int watched(int fd, struct stat *st)
{
	return fd >= 0 && recording() && !fstat(fd, st) && ours(st);
}
