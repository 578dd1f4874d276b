// SPDX-License-Identifier: GPL-2.0-only
/* Paired comparison of the arms; see ledger.h for the method. */
#include "internal.h"

#define SCALED_BITS	21
#define START_BITS	16
#define PRIOR		(1ULL << 24)	/* t: 39 pairs of 2% of the first cost */
#define MIN_BATCHES	8
#define MAX_CORRELATION	58982		/* 0.9 in Q16 */
#define LN2_Q16		45426

void mlp_ledger_reset(struct mlp_ledger *l)
{
	memset(l, 0, sizeof(*l));
}

static __s32 bits(__u64 v)
{
	return v ? 64 - __builtin_clzll(v) : 0;
}

static __s64 scaled(const struct mlp_ledger *l, __s64 cost)
{
	return l->shift >= 0 ? cost >> l->shift : cost * (1LL << -l->shift);
}

/* Make room for a value of this size: everything summed so far shrinks. */
static void fit(struct mlp_ledger *l, __u64 size)
{
	__s32 by = bits(size) - l->shift - SCALED_BITS;
	__u32 i;

	if (!l->started) {
		l->started = 1;
		l->shift = bits(size) - START_BITS;
		l->prior = PRIOR;
		return;
	}
	if (by <= 0)
		return;
	l->shift += by;
	if (by > 31)
		by = 31;
	l->prior = (l->prior >> 2 * by) + 1;
	l->base >>= by;
	l->diff >>= by;
	l->diff_square >>= 2 * by;
	l->lag >>= 2 * by;
	l->previous >>= by;
	for (i = 0; i < 2; i++) {
		l->sum[i] >>= by;
		l->square[i] >>= 2 * by;
	}
	for (i = 0; i < MLP_LEVELS; i++) {
		l->level[i].open >>= by;
		l->level[i].total >>= by;
		l->level[i].square >>= 2 * by;
	}
}

void mlp_ledger_cost(struct mlp_ledger *l, __u32 arm, __s64 cost)
{
	__u64 size = mlp_abs(cost);
	__s64 v;

	l->count[arm]++;
	if (!size)
		return;
	fit(l, size);
	v = scaled(l, cost);
	l->sum[arm] = mlp_sadd(l->sum[arm], v);
	l->square[arm] = mlp_uadd(l->square[arm], (__u64)(v * v));
}

static void add_batches(struct mlp_ledger *l, __s64 x)
{
	__u32 i;

	for (i = 0; i < MLP_LEVELS; i++) {
		struct mlp_level *level = &l->level[i];
		__u64 sum;

		level->open += x;
		if (l->pairs & ((2ULL << i) - 1))
			continue;
		sum = mlp_abs(level->open);
		level->square = mlp_uadd(level->square, mlp_umul(sum, sum));
		level->total += level->open;
		level->open = 0;
	}
}

void mlp_ledger_pair(struct mlp_ledger *l, __s64 cost_default, __s64 cost_model)
{
	__u64 size = mlp_abs(cost_default), other = mlp_abs(cost_model);
	__s64 base, x;

	if (other > size)
		size = other;
	if (size)
		fit(l, size);
	base = scaled(l, cost_default);
	x = base - scaled(l, cost_model);
	l->pairs++;
	l->base += base;
	l->diff += x;
	l->diff_square = mlp_uadd(l->diff_square, (__u64)(x * x));
	l->lag = mlp_sadd(l->lag, x * l->previous);
	l->previous = x;
	add_batches(l, x);
}

/* V as if the pairs were this much alike: V * (1 + r) / (1 - r). */
static __u64 inflated(const struct mlp_ledger *l)
{
	__s64 mean = mlp_sdiv(l->diff, (__s64)l->pairs);
	__s64 mean_part = mean * l->diff;
	__s64 own = (__s64)(l->diff_square >> 1) - mean_part / 2;
	__s64 lag = l->lag / 2 - mean_part / 2;
	__u64 r = 0;

	if (own > 0 && lag > 0) {
		while (lag >> 46) {
			lag >>= 1;
			own >>= 1;
		}
		r = own ? mlp_udiv((__u64)lag << 16, (__u64)own) : MAX_CORRELATION;
	}
	/* The estimate is low by about (1 + 4r) / n. */
	r += mlp_udiv(65536 + 4 * r, l->pairs);
	if (r > MAX_CORRELATION)
		r = MAX_CORRELATION;
	if (l->diff_square < 1ULL << 46)
		return mlp_udiv(l->diff_square * (65536 + r), 65536 - r);
	return mlp_umul(mlp_udiv(l->diff_square, 65536 - r), 65536 + r);
}

static __u64 variance(const struct mlp_ledger *l, __u32 levels)
{
	__u64 v = inflated(l);
	__u32 i;

	for (i = 0; i < levels; i++) {
		const struct mlp_level *level = &l->level[i];
		__u64 batches = l->pairs >> (i + 1), mean_part, own;

		if (batches < MIN_BATCHES)
			break;
		mean_part = mlp_umul(mlp_udiv(mlp_abs(level->total), batches),
				     mlp_abs(level->total));
		own = mlp_usub(level->square, mean_part);
		own = mlp_uadd(own, mlp_udiv(own, batches - 1));
		if (own > v)
			v = own;
	}
	return v;
}

void mlp_ledger_bounds(const struct mlp_ledger *l, __u32 alpha, __u64 divisor,
		       __u32 levels, struct mlp_bounds *out)
{
	__u64 v, log_q16, radius;
	__s64 base = l->base > 0 ? l->base : l->base < 0 ? -l->base : 1;
	__s64 radius_ppm;

	if (!l->pairs || !l->started) {
		out->saving_ppm = 0;
		out->lower_ppm = -MLP_PPM_LIMIT;
		out->upper_ppm = MLP_PPM_LIMIT;
		return;
	}
	v = mlp_uadd(variance(l, levels), l->prior);
	log_q16 = mlp_log2_q16(v) - mlp_log2_q16(l->prior);
	log_q16 += 2ULL * (mlp_log2_q16(MLP_PPM) - mlp_log2_q16(alpha) +
			   (__u64)mlp_log2_q16(divisor));
	log_q16 = (log_q16 * LN2_Q16) >> 16;
	/* Q8 * (Q8 of a Q16) = Q8 * Q16 */
	radius = mlp_umul(mlp_sqrt_q8(v), mlp_sqrt_q8(log_q16)) >> 24;
	radius_ppm = mlp_ratio_ppm((__s64)radius, base, 4LL * MLP_PPM_LIMIT);
	out->saving_ppm = mlp_ratio_ppm(l->diff, base, MLP_PPM_LIMIT);
	out->lower_ppm = mlp_clamp(out->saving_ppm - radius_ppm, -MLP_PPM_LIMIT, MLP_PPM_LIMIT);
	out->upper_ppm = mlp_clamp(out->saving_ppm + radius_ppm, -MLP_PPM_LIMIT, MLP_PPM_LIMIT);
}

void mlp_ledger_arm(const struct mlp_ledger *l, __u32 arm, struct mlp_arm_stats *out)
{
	__s64 n = (__s64)l->count[arm], mean;
	__u64 spread;

	memset(out, 0, sizeof(*out));
	out->count = l->count[arm];
	if (!n)
		return;
	/* 8 bits below the scaled unit, so that small means keep their digits. */
	mean = mlp_sdiv(mlp_clamp(l->sum[arm], -(1LL << 54), 1LL << 54) * 256, n);
	spread = mlp_usub(mlp_udiv(l->square[arm], l->count[arm]),
			  (mlp_abs(mean) >> 8) * (mlp_abs(mean) >> 8));
	spread = mlp_sqrt_q8(spread);
	if (l->shift >= 8) {
		out->mean = mean * (1LL << (l->shift - 8));
		out->deviation = (__s64)(spread << (l->shift - 8));
	} else {
		out->mean = mean >> (8 - l->shift);
		out->deviation = (__s64)(spread >> (8 - l->shift));
	}
}
