// SPDX-License-Identifier: GPL-2.0-only
/*
 * Plays the operations that the example module plays (kmod/example/example.h)
 * on a proxy of this process, through the core's functions, and hashes the
 * decisions as it does.
 */
#include <string.h>
#include "mlproxy.h"

struct op {
	__u64 now;
	__u64 unit;
	__s64 cost;
	__s64 cost2;
	__u32 what;
	__u32 stream;
	__s32 arg;
	__u32 reserved;
	__s32 features[MLP_MAX_FEATURES];
};

struct core {
	void (*decide)(void *p, __u32 stream, const __s32 *features, __u64 unit,
		       __s32 default_action, __u64 now, struct mlp_decision *out);
	void (*report)(void *p, __u32 arm, __u64 unit, __s64 cost, __u64 now);
	void (*report_twin)(void *p, __s64 cost_default, __s64 cost_model, __u64 now);
	void (*publish)(void *p, const struct mlp_record *record);
	void (*critical)(void *p, int on, __u64 now);
	void (*tick)(void *p, __u64 now);
};

static __u64 mix(__u64 digest, __u64 word)
{
	return (digest ^ word) * 1099511628211ULL;
}

__u64 replay(const struct core *core, void *p, const struct op *ops, __u64 nr, __u64 digest)
{
	struct mlp_decision d;
	struct mlp_record record;
	__u64 i;

	for (i = 0; i < nr; i++) {
		const struct op *op = &ops[i];

		switch (op->what) {
		case 0:
			core->decide(p, op->stream, op->features, op->unit, op->arg, op->now, &d);
			digest = mix(digest, (__u64)d.arm << 32 | (__u32)d.action);
			digest = mix(digest, (__u64)d.model_version << 32 | d.confidence);
			break;
		case 1:
			core->report(p, op->stream, op->unit, op->cost, op->now);
			break;
		case 2:
			core->report_twin(p, op->cost, op->cost2, op->now);
			break;
		case 3:
			memset(&record, 0, sizeof(record));
			record.type = MLP_RECORD_LABEL;
			record.time = op->now;
			record.unit = op->unit;
			record.cost = op->cost;
			core->publish(p, &record);
			break;
		case 4:
			core->critical(p, op->arg, op->now);
			break;
		case 5:
			core->tick(p, op->now);
			break;
		}
	}
	return digest;
}
