/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Ledger: paired costs of both arms and always-valid bounds of the saving.
 *
 * With x = default - model, S = sum of x and V = sum of x^2, under "no
 * difference between the arms" x is symmetric, and then for any number of
 * looks (de la Pena 1999; Robbins' mixture as in Howard, Ramdas, McAuliffe
 * and Sekhon 2020, "Time-uniform, nonparametric, nonasymptotic confidence
 * sequences")
 *
 *	P(some n: |S| >= sqrt((V + t) * (ln((V + t) / t) + 2 ln(1 / alpha)))) <= alpha
 *
 * whatever the tails are. V is inflated when windows are autocorrelated: by
 * (1 + r) / (1 - r) with r the lag-1 autocorrelation, or to the variance of
 * the sums of batches of 2, 4, ... 128 pairs, whichever is largest.
 *
 * All values are scaled by a shift that keeps them below 2^21, so that no sum
 * can overflow within MLP_LEDGER_PAIRS.
 */
#ifndef MLPROXY_LEDGER_H
#define MLPROXY_LEDGER_H

#include "../uapi/mlproxy.h"

#define MLP_LEVELS	7

/* Sums over batches of 2^(level + 1) pairs. */
struct mlp_level {
	__s64 open;		/* sum of the batch being filled */
	__s64 total;		/* of the complete batches */
	__u64 square;		/* of the complete batches' sums */
};

struct mlp_ledger {
	__s32 shift;		/* scaled = cost / 2^shift; negative: times */
	__u32 started;
	__u64 prior;		/* t */
	__u64 pairs;
	__s64 base;		/* sum of the default's cost over pairs */
	__s64 diff;		/* S */
	__u64 diff_square;	/* V */
	__s64 lag;		/* sum of x[i] * x[i - 1] */
	__s64 previous;		/* x[i - 1] */
	__u64 count[2];		/* single costs, by arm */
	__s64 sum[2];
	__u64 square[2];
	struct mlp_level level[MLP_LEVELS];
};

/* Bounds of the relative saving. */
struct mlp_bounds {
	__s64 saving_ppm;
	__s64 lower_ppm;
	__s64 upper_ppm;
};

#define MLP_PPM_LIMIT	10000000	/* bounds are clipped to +-1000% */

void mlp_ledger_reset(struct mlp_ledger *l);
void mlp_ledger_cost(struct mlp_ledger *l, __u32 arm, __s64 cost);
void mlp_ledger_pair(struct mlp_ledger *l, __s64 cost_default, __s64 cost_model);
/* alpha in ppm, divided by @divisor; batches of up to 2^@levels pairs. */
void mlp_ledger_bounds(const struct mlp_ledger *l, __u32 alpha, __u64 divisor,
		       __u32 levels, struct mlp_bounds *out);
void mlp_ledger_arm(const struct mlp_ledger *l, __u32 arm, struct mlp_arm_stats *out);

#endif /* MLPROXY_LEDGER_H */
