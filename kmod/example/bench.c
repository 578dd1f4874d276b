// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a decision costs, beside an empty indirect call in the same loop. The
 * agent chooses what is measured by what it has submitted; the loops take turns
 * in blocks, so that a disturbance hits both alike. Rows: ns per 1,000 calls of
 * an empty call, of a decision.
 */
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/sched.h>
#include "example.h"

#define BLOCKS	100
#define CALLS	1000

typedef void (*decide_fn)(struct mlproxy *p, u32 stream, const s32 *features, u64 unit,
			  s32 default_action, struct mlp_decision *out);

static noinline void empty(struct mlproxy *p, u32 stream, const s32 *features, u64 unit,
			   s32 default_action, struct mlp_decision *out)
{
	barrier();
}

/* Features that differ from call to call, as a tree would see them. */
static u64 block(decide_fn decide, struct mlproxy *p)
{
	s32 features[MLP_MAX_FEATURES];
	struct mlp_decision out;
	u64 state = 1, begin = ktime_get_ns();
	u32 i, j;

	for (i = 0; i < CALLS; i++) {
		for (j = 0; j < MLP_MAX_FEATURES; j++) {
			state = state * 6364136223846793005ULL + 1442695040888963407ULL;
			features[j] = (s32)(state >> 33) % 1000;
		}
		decide(p, 0, features, i, 0, &out);
	}
	return ktime_get_ns() - begin;
}

void mlp_example_bench(struct mlproxy *proxy, struct seq_file *out)
{
	decide_fn turns[2] = { empty, mlproxy_decide };
	u32 i;

	for (i = 0; i < BLOCKS; i++) {
		/* READ_ONCE(): the compiler must not see who is called. */
		u64 without = block(READ_ONCE(turns[0]), proxy);
		u64 with = block(READ_ONCE(turns[1]), proxy);

		seq_printf(out, "%llu %llu\n", without, with);
		cond_resched();
	}
}
