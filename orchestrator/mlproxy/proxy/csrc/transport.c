// SPDX-License-Identifier: MIT
#define _GNU_SOURCE
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "transport.h"

int mlpy_ioctl(int fd, __u32 request, void *argument)
{
	int result = ioctl(fd, request, argument);

	return result < 0 ? -errno : result;
}

int mlpy_ring_map(int fd, __u64 bytes, void **ring)
{
	void *memory = mmap(0, bytes, PROT_READ, MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		return -errno;
	*ring = memory;
	return 0;
}

int mlpy_ring_detach(void *ring, __u64 bytes)
{
	void *memory = mmap(ring, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);

	return memory == MAP_FAILED ? -errno : 0;
}

void mlpy_ring_unmap(void *ring, __u64 bytes)
{
	munmap(ring, bytes);
}

void mlpy_ring_counters(const void *ring, struct mlpy_counters *out)
{
	const struct mlp_ring_meta *meta = ring;

	/*
	 * The fence keeps what the caller has read from the ring before the load
	 * of tail: the producer raises tail before it touches the oldest record
	 * (ring.c), so whoever has read any of the new body sees the new tail.
	 */
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	/* tail before head: the other way round tail could be ahead of head. */
	out->tail = __atomic_load_n(&meta->tail, __ATOMIC_ACQUIRE);
	/* Pairs with the release of head: what lies below it is whole. */
	out->head = __atomic_load_n(&meta->head, __ATOMIC_ACQUIRE);
	out->lost = __atomic_load_n(&meta->lost, __ATOMIC_RELAXED);
}
