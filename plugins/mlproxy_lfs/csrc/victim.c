// SPDX-License-Identifier: MIT
/*
 * Hand-written victim policies. Sources: greedy and cost-benefit from
 * Rosenblum and Ousterhout, "The design and implementation of a log-structured
 * file system", 1992, in the form (1 - u) / 2u * age with age = time since the
 * segment was filled (the strongest of the forms in use, see
 * docs/explanation/lfs-simulator.md); F2FS's from fs/f2fs/gc.c, get_cb_cost().
 */
#include "engine.h"

static double cost_benefit(const struct segment *g, double blocks, double age)
{
	double u = g->valid / blocks;

	return (1.0 - u) * age / (2.0 * u);
}

static uint32_t pick_f2fs(const struct store *s)
{
	uint64_t low = UINT64_MAX, high = 0;
	uint32_t best = NONE32;
	double least = 0;

	for (uint32_t i = 0; i < s->geometry.nr_segments; i++) {
		const struct segment *g = &s->segments[i];

		if (g->state != SEGMENT_FULL)
			continue;
		if (g->mtime < low)
			low = g->mtime;
		if (g->mtime > high)
			high = g->mtime;
	}
	for (uint32_t i = 0; i < s->geometry.nr_segments; i++) {
		const struct segment *g = &s->segments[i];
		double u, age, gain;

		if (g->state != SEGMENT_FULL)
			continue;
		u = 100.0 * g->valid / s->geometry.segment_blocks;
		age = high > low ? 100.0 - 100.0 * (g->mtime - low) / (high - low) : 0;
		gain = 100.0 * (100.0 - u) * age / (100.0 + u);
		/* The oldest age is 0 for the newest: let fewer valid blocks win. */
		gain += (100.0 - u) * 1e-6;
		if (best == NONE32 || gain > least) {
			best = i;
			least = gain;
		}
	}
	return best;
}

static uint32_t pick_greedy(const struct store *s)
{
	uint32_t best = NONE32, least = NONE32;

	for (uint32_t i = 0; i < s->geometry.nr_segments; i++) {
		const struct segment *g = &s->segments[i];

		if (g->state == SEGMENT_FULL && g->valid < least) {
			least = g->valid;
			best = i;
		}
	}
	return best;
}

/*
 * A factor within 2% of 1, for A/A trials: a policy that is as good as the
 * default but does not choose the very same segments.
 */
static double dither(const struct store *s, uint32_t index)
{
	uint64_t draw = mix64(s->dither ^ ((uint64_t)index << 32) ^ s->stats.cleaned);

	return 0.98 + 0.04 * (double)(draw >> 40) / (1 << 24);
}

static uint32_t pick_cost_benefit(const struct lfs_engine *e, const struct store *s,
				  bool by_invalid)
{
	double blocks = s->geometry.segment_blocks, top = -1;
	uint32_t best = NONE32;

	for (uint32_t i = 0; i < s->geometry.nr_segments; i++) {
		const struct segment *g = &s->segments[i];
		double score;
		uint32_t since;

		if (g->state != SEGMENT_FULL)
			continue;
		if (!g->valid)
			return i;
		since = by_invalid ? g->last_invalid : g->closed;
		score = cost_benefit(g, blocks, (uint32_t)e->clock - since + 1.0);
		if (s->dither)
			score *= dither(s, i);
		if (score > top) {
			top = score;
			best = i;
		}
	}
	return best;
}

uint32_t lfs_pick_victim(const struct lfs_engine *e, const struct store *s)
{
	switch (s->victim) {
	case LFS_VICTIM_GREEDY:
		return pick_greedy(s);
	case LFS_VICTIM_LAST_INVALID:
		return pick_cost_benefit(e, s, true);
	case LFS_VICTIM_F2FS_CB:
		return pick_f2fs(s);
	case LFS_VICTIM_F2FS_MIX:
		/*
		 * F2FS cleans in the background by cost-benefit and, when space
		 * is short, in the foreground by greedy. Without idle time every
		 * second cleaning stands for the background's.
		 */
		return (s->stats.cleaned & 1) ? pick_f2fs(s) : pick_greedy(s);
	default:
		return pick_cost_benefit(e, s, false);
	}
}
