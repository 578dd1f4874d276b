/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The only place that knows whether the core runs in the kernel or in a
 * process: errno, memcpy/memset, 64-bit division, ordered stores.
 */
#ifndef MLPROXY_COMPAT_H
#define MLPROXY_COMPAT_H

#ifdef __KERNEL__
#include <linux/compiler.h>
#include <linux/errno.h>
#include <linux/math64.h>
#include <linux/nospec.h>
#include <linux/string.h>
#include <asm/barrier.h>

/* Barriers: who pairs with whom is said where they are used (ring.c, submit.c). */
#define mlp_load_acquire(ptr)		smp_load_acquire(ptr)
#define mlp_store_release(ptr, val)	smp_store_release(ptr, val)	/* see the uses */
#define mlp_store(ptr, val)		WRITE_ONCE(*(ptr), val)
#define mlp_wmb()			smp_wmb()	/* see the uses */
#define mlp_likely(x)			likely(x)
/* An index that was checked, so that it is in range under speculation too. */
#define mlp_index(i, n)			array_index_nospec(i, n)

static inline __u64 mlp_udiv(__u64 a, __u64 b)
{
	return div64_u64(a, b);
}

static inline __s64 mlp_sdiv(__s64 a, __s64 b)
{
	return div64_s64(a, b);
}
#else
#include <errno.h>
#include <string.h>

#define mlp_load_acquire(ptr)		__atomic_load_n(ptr, __ATOMIC_ACQUIRE)
#define mlp_store_release(ptr, val)	__atomic_store_n(ptr, val, __ATOMIC_RELEASE)
#define mlp_store(ptr, val)		__atomic_store_n(ptr, val, __ATOMIC_RELAXED)
#define mlp_wmb()			__atomic_thread_fence(__ATOMIC_RELEASE)
#define mlp_likely(x)			__builtin_expect(!!(x), 1)

static inline __u32 mlp_index(__u32 i, __u32 n)
{
	(void)n;
	return i;
}

static inline __u64 mlp_udiv(__u64 a, __u64 b)
{
	return a / b;
}

static inline __s64 mlp_sdiv(__s64 a, __s64 b)
{
	return a / b;
}
#endif

/*
 * Have the value at hand here. With both sides of a choice at hand the compiler
 * selects instead of branching: a third of the time on unpredictable trees.
 */
#define mlp_hide(var)	__asm__("" : "+r" (var))

#endif /* MLPROXY_COMPAT_H */
