/* SPDX-License-Identifier: MIT */
/* Native timing of the decision path, for `mlproxy bench core`. */
#ifndef MLPROXY_BENCH_H
#define MLPROXY_BENCH_H

#include "mlproxy_core.h"

/* Nanoseconds per call: the median over the blocks of one repeat. */
struct mlpy_bench {
	double decide_program;
	double ring_publish;
	double clock_read;
	double memcpy64;
};

/*
 * @rounds (at most 1024) blocks of each of the four, interleaved. @features: @rows rows of
 * @stride, walked in turn; @rows is a power of two.
 */
void mlpy_bench(struct mlp_proxy *p, const __s32 *features, __u64 rows, __u64 stride,
		__u64 rounds, struct mlpy_bench *out);

#endif /* MLPROXY_BENCH_H */
