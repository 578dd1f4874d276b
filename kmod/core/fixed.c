// SPDX-License-Identifier: GPL-2.0-only
/* Integer square root, logarithm and ratios. */
#include "fixed.h"

__u32 mlp_isqrt(__u64 v)
{
	__u64 root = 0, bit = 1ULL << 62;

	while (bit > v)
		bit >>= 2;
	for (; bit; bit >>= 2) {
		if (v >= root + bit) {
			v -= root + bit;
			root = (root >> 1) + bit;
		} else {
			root >>= 1;
		}
	}
	return (__u32)root;
}

__u64 mlp_sqrt_q8(__u64 v)
{
	/* Large values lose low bits that are far below the result's last. */
	if (v < 1ULL << 48)
		return mlp_isqrt(v << 16);
	return (__u64)mlp_isqrt(v) << 8;
}

__u32 mlp_log2_q16(__u64 v)
{
	__u32 whole, result, i;

	if (v <= 1)
		return 0;
	whole = 63 - (__u32)__builtin_clzll(v);
	/* Mantissa in [1, 2) as Q31; squaring it yields one bit at a time. */
	v = whole > 31 ? v >> (whole - 31) : v << (31 - whole);
	result = whole;
	for (i = 0; i < 16; i++) {
		v = (v * v) >> 31;
		result <<= 1;
		if (v >> 32) {
			v >>= 1;
			result |= 1;
		}
	}
	return result;
}

__u64 mlp_share(__u64 v, __u32 ppm)
{
	__u64 whole = mlp_udiv(v, MLP_PPM);

	return mlp_uadd(mlp_umul(whole, ppm),
			mlp_udiv((v - whole * MLP_PPM) * ppm, MLP_PPM));
}

__s64 mlp_ratio_ppm(__s64 part, __s64 whole, __s64 limit)
{
	__u64 top = mlp_abs(part), bottom = mlp_abs(whole), ratio;

	while (top >> 43) {	/* 10^6 needs 20 bits more */
		top >>= 1;
		bottom >>= 1;
	}
	ratio = bottom ? mlp_udiv(top * MLP_PPM, bottom) : top ? (__u64)limit : 0;
	if (ratio > (__u64)limit)
		ratio = (__u64)limit;
	return part < 0 ? -(__s64)ratio : (__s64)ratio;
}
