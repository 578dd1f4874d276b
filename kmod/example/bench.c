// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a decision costs, beside an empty indirect call in the same loop. The
 * agent chooses what is measured by what it has submitted; the loops take turns
 * in blocks, so that a disturbance hits all alike. Rows: ns per CALLS turns of
 * the bare loop, of the loop with an empty call, of the loop with a decision.
 */
#include <linux/ktime.h>
#include <linux/module.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include "example.h"

#define BLOCKS	100
#define CALLS	1000
#define ROWS	256	/* few enough for the first cache */

typedef s32 row_t[MLP_MAX_FEATURES];
typedef void (*decide_fn)(struct mlproxy *p, u32 stream, const s32 *features, u64 unit,
			  s32 default_action, struct mlp_decision *out);

static noinline void empty(struct mlproxy *p, u32 stream, const s32 *features, u64 unit,
			   s32 default_action, struct mlp_decision *out)
{
	barrier();
}

/* Made beforehand: in the loop they would cost more than the call that counts. */
static void fill(row_t *rows)
{
	u64 state = 1;
	u32 i, j;

	for (i = 0; i < ROWS; i++) {
		for (j = 0; j < MLP_MAX_FEATURES; j++) {
			state = state * 6364136223846793005ULL + 1442695040888963407ULL;
			rows[i][j] = (s32)(state >> 33) % 1000;
		}
	}
}

static u64 block(decide_fn decide, struct mlproxy *p, const row_t *rows)
{
	struct mlp_decision out;
	u64 begin = ktime_get_ns();
	u32 i;

	for (i = 0; i < CALLS; i++)
		decide(p, 0, rows[i % ROWS], i, 0, &out);
	return ktime_get_ns() - begin;
}

static u64 bare_block(const row_t *rows)
{
	u64 begin = ktime_get_ns();
	u32 i;

	for (i = 0; i < CALLS; i++)
		barrier_data(rows[i % ROWS]);	/* as if it were handed on */
	return ktime_get_ns() - begin;
}

int mlp_example_bench(struct mlproxy *proxy, struct seq_file *out)
{
	decide_fn turns[2] = { empty, mlproxy_decide };
	row_t *rows = kmalloc_array(ROWS, sizeof(*rows), GFP_KERNEL);
	u32 i;

	if (!rows)
		return -ENOMEM;
	fill(rows);
	for (i = 0; i < BLOCKS; i++) {
		u64 bare = bare_block(rows);
		/* READ_ONCE(): the compiler must not see who is called. */
		u64 without = block(READ_ONCE(turns[0]), proxy, rows);
		u64 with = block(READ_ONCE(turns[1]), proxy, rows);

		seq_printf(out, "%llu %llu %llu\n", bare, without, with);
		cond_resched();
	}
	kfree(rows);
	return 0;
}
