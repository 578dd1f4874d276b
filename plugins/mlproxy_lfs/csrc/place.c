// SPDX-License-Identifier: MIT
/* Which log a block goes to. */
#include "engine.h"

/* mlp_decide()'s result, as the core lays it out (struct mlp_decision). */
struct decision {
	int32_t arm;
	int32_t action;
	uint32_t model_version;
	uint32_t confidence;
};

static uint32_t model_log(uint32_t stream, int32_t action)
{
	/* GC action 5 is log 2: SepBIT relocates what came from log 0 there. */
	return (stream * LFS_GC_LOG + (uint32_t)action) % LFS_MODEL_LOGS;
}

/*
 * The arms share the pool but not a segment: otherwise the few blocks of a
 * hold-out would spoil the other arm's segments, and the comparison with them.
 */
static uint32_t default_log(uint32_t stream)
{
	return LFS_DEFAULT_LOG + stream;
}

/*
 * SepBIT: Wang et al., "Separating Data via Block Invalidation Time Inference
 * for Write Amplification Reduction in Log-Structured Storage", FAST 2022.
 */
static uint32_t place_sepbit(const struct store *s, const struct placing *p)
{
	uint32_t life = s->sepbit_life;

	if (p->stream == LFS_STREAM_USER)
		return p->life < life ? 0 : 1;
	if (p->origin == 0)
		return 2;
	if (p->age < 4ull * life)
		return 3;
	return p->age < 16ull * life ? 4 : 5;
}

static uint32_t place_clairvoyant(const struct lfs_engine *e, const struct placing *p)
{
	uint64_t left = p->death == NONE32 ? NONE32 : p->death - e->clock;
	uint32_t log = 0;

	while (log < e->nr_cuts && left > e->cuts[log])
		log++;
	return log;
}

uint32_t lfs_place(struct lfs_engine *e, struct store *s, struct placing *p,
		   uint32_t *arm, int *action)
{
	struct decision d;
	uint32_t confidence;

	*arm = 1;
	*action = 0;
	switch (s->placement) {
	case LFS_PLACE_SEPBIT:
		return place_sepbit(s, p);
	case LFS_PLACE_CLAIRVOYANT:
		return place_clairvoyant(e, p);
	case LFS_PLACE_ONE_LOG:
		return 0;
	case LFS_PLACE_PROGRAM:
		if (s->program[p->stream]) {
			program_eval_fn eval = (program_eval_fn)e->core.program_eval;

			*action = eval(s->program[p->stream], p->features, &confidence);
		}
		return model_log(p->stream, *action);
	case LFS_PLACE_PROXY:
		((decide_fn)e->core.decide)(e->core.proxy, p->stream, p->features,
					    mix64(p->block >> 6), 0, e->clock, &d);
		*arm = (uint32_t)d.arm;
		*action = d.action;
		return d.arm ? model_log(p->stream, d.action) : default_log(p->stream);
	default:
		*arm = 0;
		return default_log(p->stream);
	}
}
