/* SPDX-License-Identifier: GPL-2.0-only */
/* The operations that the example plays; tests write them as they lie here. */
#ifndef _MLPROXY_EXAMPLE_H
#define _MLPROXY_EXAMPLE_H

#include <linux/atomic.h>
#include <linux/seq_file.h>
#include "../include/mlproxy_kapi.h"

enum mlp_example_what {
	MLP_EXAMPLE_DECIDE	= 0,	/* stream, unit, arg: default action, features */
	MLP_EXAMPLE_REPORT	= 1,	/* stream: the arm, unit, cost */
	MLP_EXAMPLE_TWIN	= 2,	/* cost: the default's, cost2: the model's */
	MLP_EXAMPLE_LABEL	= 3,	/* unit, cost */
	MLP_EXAMPLE_CRITICAL	= 4,	/* arg: on or off */
	MLP_EXAMPLE_TICK	= 5,
};

struct mlp_example_op {
	u64 now;
	u64 unit;
	s64 cost;
	s64 cost2;
	u32 what;
	u32 stream;
	s32 arg;
	u32 reserved;
	s32 features[MLP_MAX_FEATURES];
};

#define MLP_EXAMPLE_DEFAULT	-1	/* the default's action when hammered */
#define MLP_EXAMPLE_THREADS	64

int mlp_example_hammer(struct mlproxy *proxy, atomic64_t *clock, u32 threads, u32 calls);
void mlp_example_hammered(struct seq_file *out);
int mlp_example_bench(struct mlproxy *proxy, struct seq_file *out);

#endif /* _MLPROXY_EXAMPLE_H */
