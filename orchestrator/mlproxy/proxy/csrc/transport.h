/* SPDX-License-Identifier: MIT */
/* What the Python side of /dev/mlproxy needs from C: calls, mapping, ordered loads. */
#ifndef MLPROXY_TRANSPORT_H
#define MLPROXY_TRANSPORT_H

#include "mlproxy_core.h"

/* What ioctl() returned, or -errno. */
int mlpy_ioctl(int fd, __u32 request, void *argument);

/* Map an open file's ring, read-only. Returns 0 or -errno. */
int mlpy_ring_map(int fd, __u64 bytes, void **ring);
/*
 * Put zeros in the ring's place: views stay readable, and the file is let go
 * although they exist. Returns 0 or -errno.
 */
int mlpy_ring_detach(void *ring, __u64 bytes);
void mlpy_ring_unmap(void *ring, __u64 bytes);

/* The counters of a ring that somebody else may be writing to. */
struct mlpy_counters {
	__u64 tail;
	__u64 head;
	__u64 lost;
};

void mlpy_ring_counters(const void *ring, struct mlpy_counters *out);

#endif /* MLPROXY_TRANSPORT_H */
