// SPDX-License-Identifier: GPL-2.0-only
/* The decision path: who acts, and what to do. */
#include "internal.h"

__u32 mlp_arm_of(const struct mlp_proxy *p, __u64 unit, __u64 now)
{
	/* One fixed place per unit: a larger share keeps all earlier units. */
	if (p->trial == MLP_TRIAL_SWITCHBACK)
		unit = mlp_udiv(now, p->epoch);
	return mlp_hash_ppm(mlp_hash(unit ^ p->salt)) < p->share ? MLP_ARM_MODEL :
								   MLP_ARM_DEFAULT;
}

static void publish_sample(struct mlp_proxy *p, __u32 stream, const __s32 *features,
			   __u64 unit, __s32 default_action, __u64 now,
			   const struct mlp_decision *d)
{
	__u32 bytes = p->cfg.nr_features * sizeof(*features);
	struct mlp_record rec;

	memset(&rec, 0, sizeof(rec));
	rec.time = now;
	rec.unit = unit;
	rec.model_version = d->model_version;
	rec.type = MLP_RECORD_SAMPLE;
	rec.arm = (__u8)d->arm;
	rec.mode = (__u8)mlp_mode_of(p);
	rec.stream = (__u8)stream;
	rec.default_action = default_action;
	rec.action = d->action;
	rec.nr_features = features ? p->cfg.nr_features : 0;
	if (features)
		memcpy(rec.features, features, bytes);
	mlp_publish(p, &rec);
}

/* Returns 0, or -EINVAL when the walker has nothing that is allowed to say. */
static int walk(const struct mlp_proxy *p, __u32 stream, const __s32 *features,
		__s32 default_action, struct mlp_decision *out)
{
	__u32 confidence = 0;
	__s32 action;

	if (p->walk(p->walk_context, stream, features, default_action, &action, &confidence) ||
	    action < p->cfg.min || action > p->cfg.max || confidence > 1000)
		return -EINVAL;
	out->action = action;
	out->confidence = confidence;
	return 0;
}

__u32 mlp_valid(const struct mlp_proxy *p, __u32 stream, __u64 now)
{
	return stream < p->nr_streams && mlp_acting(p, stream, now);
}

void mlp_decide(struct mlp_proxy *p, __u32 stream, const __s32 *features,
		__u64 unit, __s32 default_action, __u64 now,
		struct mlp_decision *out)
{
	const struct mlp_slot *slot = NULL;
	const void *program;

	out->arm = MLP_ARM_DEFAULT;
	out->action = default_action;
	out->model_version = 0;
	out->confidence = 0;
	if (mlp_arm_of(p, unit, now) == MLP_ARM_MODEL) {
		if (mlp_likely(stream < p->nr_streams)) {
			stream = mlp_index(stream, MLP_MAX_STREAMS);
			slot = mlp_acting(p, stream, now);
		}
		if (slot && p->walk && walk(p, stream, features, default_action, out))
			slot = NULL;
		if (mlp_likely(slot)) {
			out->arm = MLP_ARM_MODEL;
			out->model_version = slot->model_version;
			if (p->walk) {
				/* it has spoken */
			} else if (p->kind == MLP_KIND_PROGRAM) {
				program = mlp_slot_memory(p, stream, slot - p->slot[stream]);
				out->action = mlp_program_eval(program, features,
							       &out->confidence);
			} else {
				out->action = (__s32)slot->value;
				out->confidence = slot->confidence;
			}
		} else {
			p->fallbacks++;
		}
	}
	p->decisions[out->arm]++;
	if (p->sample_every && !--p->sample_left) {
		p->sample_left = p->sample_every;
		publish_sample(p, stream, features, unit, default_action, now, out);
	}
}

__u32 mlp_decide_rank(struct mlp_proxy *p, __u64 unit, __u64 now, __u64 *ids, __u32 max)
{
	const struct mlp_slot *slot;
	__u32 nr;

	if (p->kind != MLP_KIND_RANK || mlp_arm_of(p, unit, now) == MLP_ARM_DEFAULT) {
		p->decisions[MLP_ARM_DEFAULT]++;
		return 0;
	}
	slot = mlp_acting(p, 0, now);
	if (!slot) {
		p->fallbacks++;
		p->decisions[MLP_ARM_DEFAULT]++;
		return 0;
	}
	p->decisions[MLP_ARM_MODEL]++;
	nr = slot->nr < max ? slot->nr : max;
	memcpy(ids, mlp_slot_memory(p, 0, slot - p->slot[0]), nr * sizeof(*ids));
	return nr;
}
