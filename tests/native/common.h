/* SPDX-License-Identifier: GPL-2.0-only */
/* What the native drivers share: a proxy with memory, random numbers, checks. */
#ifndef TESTS_NATIVE_COMMON_H
#define TESTS_NATIVE_COMMON_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../kmod/core/mlproxy_core.h"

#define CHECK(condition) do {						\
	if (!(condition)) {						\
		fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
		exit(1);						\
	}								\
} while (0)

struct rig {
	struct mlp_proxy *p;
	void *slots, *ring;
	struct mlp_config cfg;
};

static inline __u64 draw(__u64 *state)
{
	__u64 v = *state += 0x9e3779b97f4a7c15ULL;

	v = (v ^ (v >> 30)) * 0xbf58476d1ce4e5b9ULL;
	v = (v ^ (v >> 27)) * 0x94d049bb133111ebULL;
	return v ^ (v >> 31);
}

static inline double uniform(__u64 *state)
{
	return (double)((draw(state) >> 11) + 1) / 9007199254740993.0;
}

static inline double normal(__u64 *state)
{
	double r = sqrt(-2 * log(uniform(state)));

	return r * cos(6.283185307179586 * uniform(state));
}

static inline struct mlp_config config_of(__u32 kind)
{
	struct mlp_config cfg;

	memset(&cfg, 0, sizeof(cfg));
	strcpy(cfg.name, "test");
	cfg.seed = 1;
	cfg.kind = kind;
	cfg.nr_features = kind == MLP_KIND_PROGRAM ? 4 : 0;
	cfg.nr_streams = 1;
	cfg.max_nodes = kind == MLP_KIND_PROGRAM ? MLP_MAX_NODES : 0;
	cfg.noise_levels = 7;
	cfg.max = 7;
	cfg.share_learning = 50000;
	cfg.share_collaboration = 500000;
	cfg.share_trusted = 950000;
	cfg.epoch = 100;
	cfg.epoch_settle = 250000;
	cfg.alpha = 50000;
	cfg.alpha_demote = 200000;
	cfg.min_effect = 10000;
	cfg.min_count = 16;
	cfg.max_expiry = 1000;
	cfg.reject_limit = 16;
	cfg.trip_limit = 5;
	cfg.spike = 250000;
	cfg.spike_count = 3;
	return cfg;
}

/* Exactly as much memory as asked for, so that a sanitiser sees each byte over. */
static inline void rig_up(struct rig *rig, const struct mlp_config *cfg, __u32 capacity)
{
	__u64 slots = mlp_slots_size(cfg);

	rig->cfg = *cfg;
	rig->p = malloc(mlp_proxy_size());
	rig->slots = slots ? malloc(slots) : NULL;
	rig->ring = capacity ? malloc(mlp_ring_size(capacity)) : NULL;
	CHECK(!mlp_init(rig->p, cfg, rig->slots, rig->ring, capacity, 0));
}

static inline void rig_down(struct rig *rig)
{
	free(rig->p);
	free(rig->slots);
	free(rig->ring);
}

static inline struct mlp_snapshot look(const struct rig *rig, __u64 now)
{
	struct mlp_snapshot s;

	mlp_snapshot(rig->p, &s, now);
	return s;
}

#endif /* TESTS_NATIVE_COMMON_H */
