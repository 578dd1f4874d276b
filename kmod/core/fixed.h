/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Fixed-point and saturating arithmetic, hash and PRNG. 64 bits only: the
 * kernel has no 128-bit integers on 32-bit machines.
 */
#ifndef MLPROXY_FIXED_H
#define MLPROXY_FIXED_H

#include "../uapi/mlproxy.h"
#include "compat.h"

#define MLP_PPM		1000000
#define MLP_S64_MAX	0x7fffffffffffffffLL
#define MLP_U64_MAX	0xffffffffffffffffULL

static inline __s64 mlp_sadd(__s64 a, __s64 b)
{
	__s64 sum;

	if (__builtin_add_overflow(a, b, &sum))
		return a < 0 ? -MLP_S64_MAX : MLP_S64_MAX;
	return sum;
}

static inline __u64 mlp_uadd(__u64 a, __u64 b)
{
	return a + b < a ? MLP_U64_MAX : a + b;
}

static inline __u64 mlp_usub(__u64 a, __u64 b)
{
	return a > b ? a - b : 0;
}

static inline __u64 mlp_umul(__u64 a, __u64 b)
{
	__u64 product;

	if (__builtin_mul_overflow(a, b, &product))
		return MLP_U64_MAX;
	return product;
}

static inline __u64 mlp_abs(__s64 v)
{
	return v < 0 ? 0 - (__u64)v : (__u64)v;
}

static inline __s64 mlp_clamp(__s64 v, __s64 lo, __s64 hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

/* splitmix64's finaliser: a bijection in which every bit avalanches. */
static inline __u64 mlp_hash(__u64 v)
{
	v += 0x9e3779b97f4a7c15ULL;
	v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9ULL;
	v = (v ^ (v >> 27)) * 0x94d049bb133111ebULL;
	return v ^ (v >> 31);
}

/* Where a hash lies in [0, 1000000): below the share means inside the share. */
static inline __u32 mlp_hash_ppm(__u64 hash)
{
	return (__u32)(((hash >> 32) * MLP_PPM) >> 32);
}

__u32 mlp_isqrt(__u64 v);
__u64 mlp_sqrt_q8(__u64 v);		/* sqrt(v) * 256 */
__u32 mlp_log2_q16(__u64 v);		/* log2(v) * 65536; v >= 1 */
__u64 mlp_share(__u64 v, __u32 ppm);	/* v * ppm / 10^6, saturating */
__s64 mlp_ratio_ppm(__s64 part, __s64 whole, __s64 limit);

#endif /* MLPROXY_FIXED_H */
